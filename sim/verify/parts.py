# SPDX-License-Identifier: Apache-2.0
"""A whole build, graded module by module, each against its golden model where there is one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jinja2

from designs.errors import DesignError
from designs.progress import Progress, SilentProgress
from sim.errors import ToolError
from sim.verify.campaign import Result, Settings, run_campaign
from sim.verify.references import find_reference
from sim.verify.report import write_report
from sim.verify.subject import elaborate

__all__ = ["LARGEST", "LEAST_SECONDS", "Part", "grade_parts", "write_parts"]

LARGEST = 4000
"""Cells of a module, with all that it instantiates, that is still graded."""
LEAST_SECONDS = 10.0
"""With less time than this, no other module is begun."""
SCHEMA = 1


@dataclass(frozen=True)
class Part:
    """A module of a build and its grade.

    Parameters
    ----------
    count : instances in the build.
    cells : with all that it instantiates; 0 if it was not read.
    reason : why it has no grade; empty if it has one.
    golden, mutants, standing : what was compared, killed and proven, in words.
    violates : whether it disagrees with its golden model.
    """

    name: str
    count: int
    cells: int = 0
    reason: str = ""
    percent: float = 0.0
    label: str = ""
    golden: str = ""
    mutants: str = ""
    standing: int = 0
    violates: bool = False
    seconds: float = 0.0


def grade_parts(
    rtl: Path, modules: Sequence[Mapping[str, Any]], settings: Settings, folder: Path, out: Path,
    progress: Progress, asked: Mapping[str, Any],
) -> list[Part]:  # fmt: skip
    """Verify each module of a build, the small ones first; the reports go below ``out``.

    Parameters
    ----------
    rtl : where the files are.
    modules : as the build's manifest lists them: ``name``, ``file``, ``count``.
    settings : of each; its ``seconds`` are for all together, and what one leaves the others get.
    """
    files = {str(m["name"]): rtl / str(m["file"]) for m in modules}
    texts = {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    below = {name: _below(name, texts) for name in texts}
    order = sorted(modules, key=lambda m: (sum(len(texts[n]) for n in below[m["name"]]), m["name"]))
    started = time.monotonic()
    parts = []
    for k, module in enumerate(order):
        left = settings.seconds - (time.monotonic() - started)
        name, count = str(module["name"]), int(module["count"])
        share = left / (len(order) - k)
        with progress.step(f"{k + 1} of {len(order)}", name) as step:
            if left < LEAST_SECONDS:
                part = Part(name, count, reason="the time was over")
            else:
                own = replace(settings, seconds=max(share, LEAST_SECONDS))
                chosen = [files[n] for n in sorted(below[name])]
                part = _grade(name, count, chosen, own, folder / f"part{k}", out, asked)
            step.detail = f"{name}: {part.reason or f'{part.percent} {part.label}'}"
        parts.append(part)
    return parts


def _below(name: str, texts: Mapping[str, str]) -> set[str]:
    """A module and all that it instantiates."""
    found, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += set(re.findall(r"\w+", texts[module])) & texts.keys()
    return found


def _grade(
    name: str, count: int, files: Sequence[Path], settings: Settings, folder: Path, out: Path,
    asked: Mapping[str, Any],
) -> Part:  # fmt: skip
    began, cells = time.monotonic(), 0
    try:
        subject = elaborate(files, folder / "netlist", top=name)
        cells = subject.cells
        if cells > LARGEST:
            raise DesignError(f"{cells:,} cells are more than {LARGEST:,}")
        result = run_campaign(
            subject, settings, folder, SilentProgress(),
            reference=find_reference(files[0].parent, name), own_mutants=True,
        )  # fmt: skip
    except (DesignError, ToolError) as error:
        return Part(name, count, cells, reason=str(error).removeprefix(f"{name} "))
    where = out / "parts" / name
    where.mkdir(parents=True)
    write_report(result, asked, where)
    return _part(name, count, result, time.monotonic() - began)


def _part(name: str, count: int, result: Result, seconds: float) -> Part:
    terms = {t.name: t.counts for t in result.grade.terms}
    golden, mutants = terms["golden"], terms["mutants"]
    return Part(
        name, count, result.subject.cells, "", result.grade.percent, result.grade.label,
        f"{golden['passed']}/{golden['scenarios']}" if golden else "none",
        f"{mutants['killed']}/{int(mutants['total']) - int(mutants['equivalent'])}" if mutants else "none",
        int(terms["properties"].get("effective", 0)), result.violates, round(seconds, 1),
    )  # fmt: skip


def write_parts(top: str, parts: Sequence[Part], asked: Mapping[str, Any], out: Path) -> None:
    """Write ``report.json`` and ``report.html`` of all parts."""
    percents = [p.percent for p in parts if not p.reason]
    report = {
        "schema": SCHEMA,
        "top": top,
        "asked": dict(asked),
        "graded": len(percents),
        "mean": round(sum(percents) / len(percents), 1) if percents else None,
        "worst": min(percents, default=None),
        "parts": [asdict(p) for p in parts],
    }
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), undefined=jinja2.StrictUndefined,
        autoescape=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("parts.html.j2").render(report=report)
    (out / "report.html").write_text(page, encoding="utf-8")
