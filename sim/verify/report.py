# SPDX-License-Identifier: Apache-2.0
"""What a verification came to: ``report.json``, and ``report.html``, one file that needs nothing else."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from sim import verilator
from sim.verify.campaign import Result
from sim.verify.checker import write_checker
from sim.verify.grade import GRADE_VERSION
from sim.verify.judge import Judgement
from sim.verify.mutants import Mutant
from sim.verify.waves import Wave, draw

__all__ = ["SCHEMA", "as_dict", "write_report"]

SCHEMA = 1
SHOWN_WAVES, SHOWN_SIGNALS = 40, 14


def as_dict(result: Result, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The report as plain values; the same for the same run, but for ``seconds``.

    Parameters
    ----------
    asked : what the command was asked for, and what the proposers spent.
    """
    subject, grade = result.subject, result.grade
    return {
        "schema": SCHEMA,
        "grade_version": GRADE_VERSION,
        "design": {
            "top": subject.top, "files": [p.name for p in subject.files], "digest": _digest(result),
            "clock": subject.clock, "reset": subject.reset.name if subject.reset else None,
            "cells": subject.cells, "streams": [[s.valid, s.ready, list(s.payload)] for s in result.streams],
        },
        "tools": {"verilator": verilator.version(), "yosys": importlib.metadata.version("pyosys")},
        "asked": dict(asked),
        "grade": {
            "points": grade.points, "available": grade.available, "percent": grade.percent,
            "label": grade.label, "failed": grade.failed,
            "terms": [
                {"name": t.name, "most": t.most,
                 "points": None if t.points is None else round(t.points, 3), **t.counts}
                for t in grade.terms
            ],
        },
        "status": result.status,
        "rounds": [vars(r) for r in result.rounds],
        "properties": [_property(j) for j in result.judgements],
        "redundant": sorted(p.text for p in result.needless),
        "mutants": [_mutant(m, result) for m in result.mutants],
        "functional": result.functional,
        "uncovered": [
            {"kind": p.kind, "file": p.file, "line": p.line, "what": p.what}
            for p in (result.coverage.missed() if result.coverage else [])
        ],
        "notes": list(result.notes),
        "seconds": round(result.seconds, 1),
    }  # fmt: skip


def _digest(result: Result) -> str:
    state = hashlib.sha256()
    for path in result.subject.files:
        state.update(path.read_bytes())
    return state.hexdigest()


def _property(j: Judgement) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": j.name, "text": j.text, "kind": j.kind, "source": j.source, "status": j.status,
        "engine": j.engine, "depth": j.depth, "hits": j.hits, "reason": j.reason,
    }  # fmt: skip
    if j.item is not None and j.item.why:
        found["why"] = j.item.why
    if j.wave is not None:
        found["counterexample"] = {n: list(v) for n, v in j.wave.values.items()}
    return found


def _fate(number: int, result: Result) -> tuple[str, list[str]]:
    """What became of a mutant, and the names of the properties that see it."""
    if number >= len(result.kills):
        return "not played", []
    kill = result.kills[number]
    by = [result.checked[k].name for k in sorted(kill.violated) if k < len(result.checked)]
    if kill.difference is not None or by:
        return "killed", by
    difference = result.differences.get(number)
    return ("equivalent" if difference and difference.verdict == "equivalent" else "survived"), []


def _mutant(mutant: Mutant, result: Result) -> dict[str, Any]:
    fate, by = _fate(mutant.number, result)
    found: dict[str, Any] = {
        "number": mutant.number, "kind": mutant.kind, "place": mutant.place, "fate": fate,
        "diff": mutant.diff, "by_properties": by,
    }  # fmt: skip
    kill = result.kills[mutant.number] if mutant.number < len(result.kills) else None
    if kill and kill.difference is not None:
        found["outputs_differ_in_cycle"] = kill.difference
    if fate == "survived":
        found["killed_by"] = _remedy(mutant.number, result)
    return found


def _remedy(number: int, result: Result) -> str:
    """What would kill a survivor."""
    difference = result.differences.get(number)
    if difference is None or difference.verdict == "unknown":
        return "neither a proof that it is equivalent nor inputs that tell it were found in the time given"
    wave = difference.wave
    if wave is None:
        return ""
    steps = [
        ", ".join(f"{p.name}={wave.values[p.name][t]:#x}" for p in result.subject.inputs)
        for t in range(wave.cycles)
    ]
    return f"the inputs, cycle by cycle after power-up: {'; '.join(steps[:12])}"


def write_report(result: Result, asked: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write ``report.json``, ``report.html`` and ``checker.v`` into a folder; returns the report."""
    report = as_dict(result, asked)
    text = json.dumps(report, indent=1, sort_keys=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.html").write_text(_page(report, result), encoding="utf-8")
    (folder / "checker.v").write_text(write_checker(result.checked, result.subject.edge).text)
    return report


def _page(report: Mapping[str, Any], result: Result) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    survivors = [m for m in report["mutants"] if m["fate"] in ("survived", "not played")]
    fates = _counts(m["fate"] for m in report["mutants"])
    kinds = {k: _counts(m["fate"] for m in report["mutants"] if m["kind"] == k)
             for k in sorted({m["kind"] for m in report["mutants"]})}  # fmt: skip
    return environment.get_template("report.html.j2").render(
        report=report, survivors=survivors, fates=fates, kinds=kinds, waves=list(_waves(result)),
        terms=report["grade"]["terms"], uncovered=report["uncovered"][:200],
    )  # fmt: skip


def _counts(words: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return dict(sorted(found.items()))


def _waves(result: Result) -> Iterable[tuple[str, str]]:
    """Captions and pictures of counterexamples, then of survivors."""
    shown = 0
    for j in result.judgements:
        if j.wave is not None and shown < SHOWN_WAVES:
            shown += 1
            yield f"{j.name}: {j.text}", draw(_few(j.wave), j.wave.cycles - 1)
    ports = [p.name for p in result.subject.ports]
    for m in result.mutants:
        difference = result.differences.get(m.number)
        if (
            difference
            and difference.wave
            and shown < SHOWN_WAVES
            and _fate(m.number, result)[0] == "survived"
        ):
            shown += 1
            names = [n for p in ports for n in (p, f"g_{p}", f"m_{p}")]
            wave = difference.wave.only(names)
            caption = (
                f"mutant {m.number}: {m.diff.splitlines()[-1]} (g_: the design, m_: the mutant)"
            )
            yield caption, draw(_few(wave), wave.cycles - 1)


def _few(wave: Wave) -> Wave:
    return wave.only(list(wave.values)[:SHOWN_SIGNALS])
