# SPDX-License-Identifier: Apache-2.0
"""Several implementations of one specification: graded, ranked, and turned into preference data.

Each candidate plays the same scenarios as a reference, cycle by cycle; one that passes all is compared with
it by proof. What the specification states in the language of properties is judged on each. A pair is emitted
only if its scores differ by a margin: never a tie, so never two that are proven equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from designs.errors import DesignError
from designs.progress import Progress
from sim.errors import ToolError
from sim.verify.equivalence import compare_designs
from sim.verify.evaluate import Trace
from sim.verify.formal import Effort
from sim.verify.grade import GRADE_VERSION
from sim.verify.judge import Judgement, Proposal, admit, rule
from sim.verify.properties import Property
from sim.verify.simulate import build_simulator, record
from sim.verify.stimulus import Stimulus, draw_stimulus, find_streams
from sim.verify.subject import Subject, elaborate

__all__ = ["MARGIN", "Standing", "pairs", "rank_candidates"]

SCENARIOS, CYCLES = 12, 240
MARGIN = 5.0
"""Pairs whose scores are nearer than that are not emitted."""


@dataclass(frozen=True)
class Standing:
    """What became of a candidate.

    Parameters
    ----------
    score : 0 if it cannot be read or has other ports; else 60 points for scenarios, 30 for the properties of
        the specification (90 for scenarios if there are none), and 10 unless it is proven to differ.
    passed : scenarios.
    proof : ``equivalent``, ``different`` or ``unknown`` to the reference; empty if it was not compared.
    evidence : what is known, for the preference data.
    """

    name: str
    text: str
    score: float
    passed: int
    proof: str
    evidence: dict[str, Any]


def rank_candidates(
    reference: Subject, files: Sequence[Path], required: Sequence[Proposal], folder: Path,
    effort: Effort, seed: int, progress: Progress,
) -> list[Standing]:  # fmt: skip
    """Grade candidates against a reference; the best first.

    Parameters
    ----------
    files : one candidate each, with a module of the reference's name.
    required : properties of the specification; those that name more than ports are of the reference alone.
    """
    stimuli = [draw_stimulus(reference, CYCLES, seed + k) for k in range(SCENARIOS)]
    expected = _traces(reference, stimuli, folder / "reference")
    ports = {p.name for p in reference.ports} | {"after_reset"}
    judged = [
        p for p in admit(required, reference) if isinstance(p, Property) and p.body.signals <= ports
    ]
    standings = []
    for number, path in enumerate(files):
        with progress.step("candidate", path.name) as step:
            work = folder / f"c{number}"
            standing = _standing(reference, path, stimuli, expected, judged, work, effort, seed)
            step.detail = f"{path.name}: {standing.score}"
        standings.append(standing)
    return sorted(standings, key=lambda s: (-s.score, s.name))


def _traces(subject: Subject, stimuli: Sequence[Stimulus], folder: Path) -> list[Trace]:
    names = [p.name for p in subject.ports if p.name in subject.signals]
    simulator = build_simulator(subject, folder, watch=names)
    streams = find_streams(subject)
    return [record(simulator, stimulus, streams) for stimulus in stimuli]


def _standing(
    reference: Subject, path: Path, stimuli: Sequence[Stimulus], expected: Sequence[Trace],
    judged: Sequence[Property], folder: Path, effort: Effort, seed: int,
) -> Standing:  # fmt: skip
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        subject = elaborate([path], folder / "n", top=reference.top)
        if _interface(subject) != _interface(reference):
            raise DesignError("its ports are not those of the reference")
        traces = _traces(subject, stimuli, folder / "s")
    except (DesignError, ToolError) as error:
        return Standing(path.name, text, 0.0, 0, "", {"error": str(error)})
    differ = [_first_difference(reference, e, t) for e, t in zip(expected, traces, strict=True)]
    passed = differ.count(None)
    evidence: dict[str, Any] = {
        "scenarios": len(stimuli), "passed": passed,
        "differences": [{"scenario": k, "cycle": d[0], "output": d[1]} for k, d in enumerate(differ) if d][:8],
    }  # fmt: skip
    verdicts = _properties(subject, judged, traces[0], folder, effort, seed)
    evidence["properties"] = {j.text: j.status for j in verdicts}
    proof = ""
    if passed == len(stimuli):
        found = compare_designs(reference, subject, find_streams(reference), folder / "p", effort)
        proof = evidence["proof"] = found.verdict
    share = passed / len(stimuli)
    held = [j.status in ("proven", "bounded", "vacuous", "unknown") for j in verdicts]
    points = 60 * share + 30 * sum(held) / len(held) if held else 90 * share
    score = round(points + (10 if proof in ("equivalent", "unknown") else 0), 1)
    return Standing(path.name, text, score, passed, proof, evidence)


def _interface(subject: Subject) -> set[tuple[str, int, str]]:
    return {(p.name, p.width, p.direction) for p in subject.ports}


def _first_difference(reference: Subject, one: Trace, other: Trace) -> tuple[int, str] | None:
    """Cycle and output; None if there is none."""
    found = []
    for port in reference.outputs:
        differs = np.flatnonzero(one.values[port.name] != other.values[port.name])
        if len(differs):
            found.append((int(differs[0]), port.name))
    return min(found) if found else None


def _properties(
    subject: Subject,
    judged: Sequence[Property],
    trace: Trace,
    folder: Path,
    effort: Effort,
    seed: int,
) -> list[Judgement]:
    if not judged:
        return []
    ruled = rule(subject, judged, trace, folder / "rule", effort, seed=seed)
    return [j for j in ruled if j.kind == "assert"]


def pairs(standings: Sequence[Standing], prompt: str, reference: Subject) -> Iterator[str]:
    """Preference data, a line of JSON for each pair whose scores differ by the margin."""
    digest = hashlib.sha256()
    for path in reference.files:
        digest.update(path.read_bytes())
    design = digest.hexdigest()
    for better, worse in combinations(sorted(standings, key=lambda s: (-s.score, s.name)), 2):
        if better.score - worse.score < MARGIN or better.text == worse.text:
            continue
        yield json.dumps({
            "prompt": prompt, "chosen": better.text, "rejected": worse.text,
            "margin": round(better.score - worse.score, 1),
            "score_chosen": better.score, "score_rejected": worse.score,
            "evidence_chosen": better.evidence, "evidence_rejected": worse.evidence,
            "design_hash": design, "grade_version": GRADE_VERSION, "source": "candidates",
            "split": "test" if int(design[:2], 16) < 26 else "train",
        })  # fmt: skip
