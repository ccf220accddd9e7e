# SPDX-License-Identifier: Apache-2.0
"""The grade: one number in 0..100, the sum of four terms, and the counts behind each.

=====  ==========  =========================================================================
term   points      what it is
=====  ==========  =========================================================================
S      15          share of the scenarios whose outputs equal the golden model's
C      25          0.3 branches + 0.2 lines + 0.2 expressions + 0.15 toggles + 0.15 functional
F      25          properties: mean verdict x min(1, how many that tell something / how many the design asks for)
M      35          mutants killed, of those that are not proven equivalent
=====  ==========  =========================================================================

Tautologies, vacuous, duplicate and redundant properties give nothing; a required property that is
falsified counts -1. A term that cannot be had (no golden model) is missing: its points are neither given nor
hidden, and the grade is said to be of those available. Where the golden model disagrees the grade is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sim.verify.coverage import Coverage
from sim.verify.judge import Judgement

__all__ = [
    "GRADE_VERSION",
    "Golden",
    "Grade",
    "MutantCounts",
    "Term",
    "golden_term",
    "grade",
    "mutant_term",
    "wilson",
]

GRADE_VERSION = 1
POINTS = {"golden": 15.0, "coverage": 25.0, "properties": 25.0, "mutants": 35.0}
_SHARES = {"branch": 0.3, "line": 0.2, "expr": 0.2, "toggle": 0.15, "functional": 0.15}
_LABELS = ((90, "A"), (75, "B"), (60, "C"), (0, "D"))
FULL_DEPTH = 20
"""A bounded proof of at least so many cycles counts half; a shorter one in proportion."""


@dataclass(frozen=True)
class Golden:
    """How often the design agrees with its golden model.

    Parameters
    ----------
    scenarios, passed : stretches between resets in which the model can say anything, and that agree.
    values : that were compared in them.
    what : the model, in one line.
    """

    scenarios: int
    passed: int
    values: int
    what: str


@dataclass(frozen=True)
class MutantCounts:
    """What became of the mutants."""

    total: int
    equivalent: int
    killed: int
    by_outputs: int
    by_properties: int

    @property
    def judged(self) -> int:
        """Those that can be killed, as far as is known."""
        return self.total - self.equivalent


@dataclass(frozen=True)
class Term:
    """A term of the grade; ``points`` is None if it is missing."""

    name: str
    most: float
    points: float | None
    counts: dict[str, float | int | str]


@dataclass(frozen=True)
class Grade:
    """The grade and its terms."""

    terms: tuple[Term, ...]
    failed: bool

    @property
    def points(self) -> float:
        return 0.0 if self.failed else round(sum(t.points or 0.0 for t in self.terms), 1)

    @property
    def available(self) -> float:
        return sum(t.most for t in self.terms if t.points is not None)

    @property
    def percent(self) -> float:
        """Of the points that were available."""
        return round(100 * self.points / self.available, 1) if self.available else 0.0

    @property
    def label(self) -> str:
        return next(label for least, label in _LABELS if self.percent >= least)


def grade(
    coverage: Coverage | None, functional: tuple[int, int], ruled: Sequence[Judgement],
    needless: int, wanted: int, mutants: MutantCounts, golden: Golden | None,
) -> Grade:  # fmt: skip
    """Put a grade together.

    Parameters
    ----------
    functional : functional points reached, and all.
    needless : properties that follow from others.
    wanted : how many properties the design asks for.
    """
    failed = golden is not None and golden.passed < golden.scenarios
    terms = (
        golden_term(golden), _coverage(coverage, functional), _properties(ruled, needless, wanted),
        mutant_term(mutants),
    )  # fmt: skip
    return Grade(terms, failed)


def golden_term(golden: Golden | None) -> Term:
    """Agreement with the golden model."""
    most = POINTS["golden"]
    if golden is None or golden.scenarios == 0:
        return Term("golden", most, None, {})
    counts: dict[str, float | int | str] = {
        "scenarios": golden.scenarios, "passed": golden.passed, "values": golden.values,
        "what": golden.what,
    }  # fmt: skip
    return Term("golden", most, most * golden.passed / golden.scenarios, counts)


def _coverage(coverage: Coverage | None, functional: tuple[int, int]) -> Term:
    most = POINTS["coverage"]
    if coverage is None:
        return Term("coverage", most, None, {})
    counts: dict[str, float | int | str] = {}
    points = 0.0
    for kind, share in _SHARES.items():
        covered, of = functional if kind == "functional" else coverage.share(kind)
        counts[f"{kind}_covered"], counts[f"{kind}_points"] = covered, of
        points += share * (covered / of if of else 1.0)  # there is nothing of that kind to reach
    return Term("coverage", most, most * points, counts)


def _properties(ruled: Sequence[Judgement], needless: int, wanted: int) -> Term:
    most = POINTS["properties"]
    asserted = [j for j in ruled if j.kind == "assert"]
    counts: dict[str, float | int | str] = {
        status: sum(j.status == status for j in asserted)
        for status in ("proven", "bounded", "falsified", "vacuous", "tautology", "duplicate", "unknown", "refused")
    }  # fmt: skip
    values = [_worth(j) for j in asserted if j.earns]
    values += [0.0 for j in asserted if j.status == "unknown"]
    values += [-1.0 for j in asserted if j.status == "falsified" and j.source == "spec"]
    effective = sum(j.earns for j in asserted)
    quality = max(0.0, sum(values) / len(values)) if values else 0.0
    counts |= {
        "redundant": needless,
        "effective": effective,
        "wanted": wanted,
        "quality": round(quality, 4),
    }
    return Term("properties", most, most * quality * min(1.0, effective / wanted), counts)


def _worth(judgement: Judgement) -> float:
    if judgement.status == "proven":
        return 1.0
    return 0.5 * min(1.0, judgement.depth / FULL_DEPTH)


def mutant_term(mutants: MutantCounts) -> Term:
    """Mutants killed, of those that can be."""
    most = POINTS["mutants"]
    if not mutants.total:
        return Term("mutants", most, None, {})
    share = mutants.killed / mutants.judged if mutants.judged else 1.0
    low, high = wilson(mutants.killed, mutants.judged)
    counts: dict[str, float | int | str] = {
        "total": mutants.total, "equivalent": mutants.equivalent, "killed": mutants.killed,
        "by_outputs": mutants.by_outputs, "by_properties": mutants.by_properties,
        "survived": mutants.judged - mutants.killed, "score_low": low, "score_high": high,
    }  # fmt: skip
    return Term("mutants", most, most * share, counts)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson."""
    if not trials:
        return 0.0, 1.0
    z, share = 1.959964, successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return round((centre - spread) / scale, 4), round(min(1.0, (centre + spread) / scale), 4)
