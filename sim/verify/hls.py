# SPDX-License-Identifier: Apache-2.0
"""HLS kernels graded by their C-simulation: seeded bugs that the golden results must show.

The bugs are those of hand-written kernels: bounds off by one, widths, accumulators that are not cleared, swapped
indices, wrong shifts. All are compiled into one program; the environment variable ``HWGEN_MUTANT`` selects one.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from designs.progress import Progress
from sim.errors import SimulationError, ToolError
from sim.hls import integers, simulate
from sim.verify.grade import Golden, Grade, MutantCounts, Term, golden_term, mutant_term
from sim.verify.source import Place, diff
from sim.verify.tools import run

__all__ = ["Bug", "HlsGrade", "find_bugs", "grade_hls", "seeded"]

BugKind = Literal["off-by-one", "missing-reset", "wrong-width", "swapped-indices", "wrong-shift"]
Fate = Literal["killed", "survived", "not played"]

_BOUND = re.compile(r"(?<=; )(?P<left>\w+) < (?P<bound>[^;&|]+?)(?=; \w+(?:\+\+| \+=))")
_CLEARED = re.compile(r"(?m)^(?P<indent>[ \t]+)(?P<target>[A-Za-z_]\w*(?:\[[^\]\n]+\])*) = 0;")
_WIDTH = re.compile(r"\((?P<type>elem_t|made_t)\)(?P<value>[a-z]\w*)\b(?![\[(.])")
_INDICES = re.compile(r"\b(?P<array>held)\[(?P<a>\w+)\]\[(?P<b>\w+)\]\[(?P<c>\w+)\]")
_SHIFT = re.compile(r"(?<![>])>> (?:\((?P<inner>[^()\n]+)\)|(?P<amount>[A-Za-z_]\w*(?:\.\w+)*))")
_STARTED = re.compile(r"(?P<condition>\w+ == 0) \? \(acc_t\)")
_SELECTOR = """#include <cstdlib>
inline int hwgen_mutant() {
  static const int chosen = std::getenv("HWGEN_MUTANT") ? std::atoi(std::getenv("HWGEN_MUTANT")) : 0;
  return chosen;
}
"""


_STACKS = 256
"""Gigabytes of addresses for the stacks of the C-simulation's processes; hardly any are touched."""


@dataclass(frozen=True)
class Bug:
    """A seeded bug.

    Parameters
    ----------
    number : selects it, from 1; 0 before it is chosen.
    file, start, end : the characters of the source that it replaces.
    right, wrong : what stands there, and what the bug makes of it.
    seeded : an expression or statement that is one or the other; ``{k}`` stands for the number.
    diff : the line before and after.
    """

    number: int
    kind: BugKind
    file: str
    start: int
    end: int
    right: str
    wrong: str
    seeded: str
    diff: str


@dataclass(frozen=True)
class HlsGrade:
    """What the C-simulation of a kernel notices."""

    grade: Grade
    bugs: tuple[Bug, ...]
    fates: tuple[Fate, ...]

    def report(self) -> dict[str, Any]:
        """As plain values."""
        terms = [
            {"name": t.name, "most": t.most, "points": t.points, **t.counts}
            for t in self.grade.terms
        ]
        return {
            "schema": 1, "kind": "hls", "grade": {"points": self.grade.points, "available": self.grade.available,
            "percent": self.grade.percent, "label": self.grade.label, "terms": terms},
            "mutants": [
                {"number": b.number, "kind": b.kind, "fate": fate, "diff": b.diff}
                for b, fate in zip(self.bugs, self.fates, strict=True)
            ],
        }  # fmt: skip


def find_bugs(folder: Path, count: int, seed: int) -> list[Bug]:
    """At most ``count`` bugs of a kernel's sources, in turns of each kind; the same for the same seed."""
    kinds: dict[str, list[Bug]] = {}
    for name in ("kernel.cpp", "ops.h"):
        path = folder / "src" / name
        for bug in _sites(path, path.read_text(encoding="utf-8")):
            kinds.setdefault(bug.kind, []).append(bug)
    source = random.Random(seed)
    for found in kinds.values():
        source.shuffle(found)
    chosen: list[Bug] = []
    while len(chosen) < count and any(kinds.values()):
        for kind in sorted(kinds):
            if kinds[kind] and len(chosen) < count:
                bug = kinds[kind].pop()
                if not any(
                    b.file == bug.file and b.start < bug.end and bug.start < b.end for b in chosen
                ):
                    chosen.append(bug)
    chosen.sort(key=lambda b: (b.file, b.start))
    return [
        Bug(k, b.kind, b.file, b.start, b.end, b.right, b.wrong, b.seeded, b.diff)
        for k, b in enumerate(chosen, start=1)
    ]


def _sites(path: Path, text: str) -> Iterator[Bug]:
    def made(kind: BugKind, found: re.Match[str], wrong: str, seeded: str) -> Bug:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        place = Place(str(path), line, column, line, column + len(found[0]))
        return Bug(
            0,
            kind,
            path.name,
            found.start(),
            found.end(),
            found[0],
            wrong,
            seeded,
            diff(place, wrong, kind),
        )

    chosen = "(hwgen_mutant() == {k})"
    for found in _BOUND.finditer(text):
        left, bound = found["left"], found["bound"]
        yield made("off-by-one", found, f"{left} < {bound} - 1", f"{left} < {bound} - {chosen}")
    for found in _CLEARED.finditer(text):
        wrong = f"{found['indent']};"
        statement = f"{found['target']} = 0;"
        yield made("missing-reset", found, wrong, f"{found['indent']}if (!{chosen}) {statement}")
    for found in _STARTED.finditer(text):
        condition = f"({found['condition']} && !{chosen}) ? (acc_t)"
        yield made("missing-reset", found, "false ? (acc_t)", condition)
    for found in _WIDTH.finditer(text):
        kind, value = found["type"], found["value"]
        wrong = f"({kind})(int8_t){value}"
        yield made("wrong-width", found, wrong, f"({chosen} ? {wrong} : ({kind}){value})")
    for found in _INDICES.finditer(text):
        array, a, b, c = found["array"], found["a"], found["b"], found["c"]
        if b.isdecimal() and c.isdecimal():  # its declaration
            continue
        wrong = f"{array}[{a}][{c}][{b}]"
        swapped = f"{array}[{a}][{chosen} ? {c} : {b}][{chosen} ? {b} : {c}]"
        yield made("swapped-indices", found, wrong, swapped)
    for found in _SHIFT.finditer(text):
        amount = found["inner"] or found["amount"]
        yield made("wrong-shift", found, f">> ({amount} + 1)", f">> ({amount} + {chosen})")


def seeded(text: str, bugs: list[Bug]) -> str:
    """A source with all of its bugs in it."""
    for bug in sorted(bugs, key=lambda b: -b.start):
        text = text[: bug.start] + bug.seeded.replace("{k}", str(bug.number)) + text[bug.end :]
    return text


def grade_hls(
    out: Path, folder: Path, *, count: int, seed: int, seconds: float, progress: Progress
) -> HlsGrade:
    """Grade the C-simulation of an HLS design.

    Parameters
    ----------
    folder : for the seeded copy.
    seconds : for all bugs together.

    Raises
    ------
    ToolError
        If it cannot be compiled.
    """
    try:
        result = simulate(out, progress)
        golden = Golden(1, int(result.identical), result.values, "the C-simulation's results")
    except SimulationError as error:
        golden = Golden(1, 0, 0, str(error))
    bugs = find_bugs(out, count, seed)
    copy = folder / "seeded"
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("*.verify", "kernel", "kernel.new"))
    for name in ("kernel.cpp", "ops.h"):
        path = copy / "src" / name
        path.write_text(
            seeded(path.read_text(encoding="utf-8"), [b for b in bugs if b.file == name])
        )
    header = copy / "src" / "kernel.h"
    header.write_text(
        header.read_text(encoding="utf-8").replace(
            "#pragma once\n", "#pragma once\n" + _SELECTOR, 1
        )
    )
    if _SELECTOR not in header.read_text(encoding="utf-8"):
        raise ToolError(
            f"{out / 'src' / 'kernel.h'} does not begin with #pragma once; build {out} again"
        )
    with progress.step("seed bugs", f"{len(bugs)} in one program"):
        _compile(copy)
    fates = _play(copy, bugs, seconds, progress)
    kinds = Counter(f"{b.kind} {fate}" for b, fate in zip(bugs, fates, strict=True))
    played = [f for f in fates if f != "not played"]
    killed = played.count("killed")
    counts = MutantCounts(len(played), 0, killed, killed, 0)
    mutants = mutant_term(counts)
    terms = (
        golden_term(golden),
        Term(mutants.name, mutants.most, mutants.points, {**mutants.counts, **kinds}),
    )
    return HlsGrade(Grade(terms, golden.passed < golden.scenarios), tuple(bugs), tuple(fates))


def _compile(folder: Path) -> None:
    command = [
        os.environ.get("CXX", "g++"), "-O1", "-std=c++17", "-w", "-I.", "-Icsim", "-Isrc", f"-I{integers()}",
        "csim/all.cpp", "-o", "csim/kernel",
    ]  # fmt: skip
    code, text = run(command, folder, seconds=600, log="compile.log")
    if code:
        raise ToolError(f"g++ failed on the seeded kernel: {text.strip()[-200:]}")


def _play(folder: Path, bugs: list[Bug], seconds: float, progress: Progress) -> list[Fate]:
    """Run the program without a bug, which must pass, and then with each."""
    program = (folder / "csim" / "kernel").resolve()

    def once(number: int, limit: float) -> int | None:
        extra = {"HWGEN_MUTANT": str(number)}
        return run(
            [program, folder.resolve()], folder, seconds=limit, log="run.log", extra=extra,
            gigabytes=_STACKS,
        )[0]  # fmt: skip

    started = time.monotonic()
    if once(0, 300) not in (0, 1):
        raise ToolError("the seeded kernel does not run without a bug")
    limit = max(5.0, 10 * (time.monotonic() - started))  # a bug may loop for ever
    fates: list[Fate] = []
    with progress.step("play bugs") as step:
        for bug in bugs:
            progress.advance(bug.number, len(bugs))
            if time.monotonic() - started > seconds:
                fates.append("not played")
                continue
            fates.append("survived" if once(bug.number, limit) == 0 else "killed")
        step.detail = f"{fates.count('killed')} of {len(bugs)} killed"
    return fates
