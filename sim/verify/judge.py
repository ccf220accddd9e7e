# SPDX-License-Identifier: Apache-2.0
"""The judge: proposals become properties, and each property gets one verdict with its evidence.

In this order, cheapest first: syntax and signals, duplicates, the recorded trace, tautology (a proof with
free signals), proof, and vacuity. Each proposal is judged on its own: one that is wrong spoils no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from sim.verify import formal
from sim.verify.equivalence import directed
from sim.verify.evaluate import AFTER_RESET, Trace, judge
from sim.verify.expression import PropertyError
from sim.verify.formal import Effort
from sim.verify.properties import Kind, Monitor, Property, parse_property
from sim.verify.subject import Subject
from sim.verify.waves import Wave

__all__ = ["Judgement", "Proposal", "Status", "admit", "rule"]

Status = Literal[
    "proven", "bounded", "falsified", "vacuous", "tautology", "duplicate", "unknown", "refused"
]

WINDOW = 12
"""Cycles of a trace that are shown before a violation."""


class Proposal(BaseModel):
    """What somebody proposes, as it came: text that has not been read yet."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    property: str = Field(max_length=600)
    name: str = Field(default="", max_length=80)
    kind: Kind = "assert"
    why: str = Field(default="", max_length=400)
    source: str = "user"


@dataclass(frozen=True)
class Judgement:
    """A verdict.

    Parameters
    ----------
    text : the property, in its canonical form if it could be read.
    status : see above; ``vacuous``: proven, but its condition is never met.
    engine, depth : who decided, and how many cycles were searched or the counterexample has.
    hits : cycles of the trace in which its condition was met.
    reason : in words, of what was refused or is a duplicate.
    wave : the counterexample.
    item : the property as it was read.
    rows : the inputs of a counterexample that simulation had not met, a directed stimulus.
    """

    name: str
    text: str
    source: str
    kind: Kind
    status: Status
    engine: str = ""
    depth: int = 0
    hits: int = 0
    reason: str = ""
    wave: Wave | None = field(default=None, repr=False)
    item: Property | None = field(default=None, repr=False)
    rows: tuple[dict[str, int], ...] = field(default=(), repr=False)

    @property
    def earns(self) -> bool:
        """Whether it says something true of the design."""
        return self.status in ("proven", "bounded") and self.kind == "assert"


def admit(proposals: Sequence[Proposal], subject: Subject) -> list[Property | Judgement]:
    """Read proposals; in the place of one that is no property of this design, a judgement that says why."""
    inputs = {p.name for p in subject.ports if p.direction == "input"}
    return [
        _admit(proposal, index, subject.widths, inputs) for index, proposal in enumerate(proposals)
    ]


def _admit(
    proposal: Proposal, index: int, widths: Mapping[str, int], inputs: set[str]
) -> Property | Judgement:
    name = "".join(c if c.isalnum() or c in "_-." else "_" for c in proposal.name) or f"p{index}"
    try:
        body = parse_property(proposal.property, widths)
        mentioned = body.signals - {AFTER_RESET}
        if proposal.kind == "assume" and not (mentioned and mentioned <= inputs):
            raise PropertyError("an assumption is about inputs alone")
        if proposal.kind == "assert" and mentioned <= inputs:
            raise PropertyError("it is about inputs alone, so it says nothing of the design")
        if proposal.kind != "assert" and isinstance(body, Monitor):
            raise PropertyError("a monitor can only be asserted")
    except PropertyError as error:
        return Judgement(
            name, proposal.property, proposal.source, proposal.kind, "refused", reason=str(error)
        )
    return Property(name, body, proposal.kind, proposal.source, proposal.why)


def rule(
    subject: Subject, properties: Sequence[Property], trace: Trace, folder: Path, effort: Effort,
    *, seed: int = 0, proofs: bool = True,
) -> list[Judgement]:  # fmt: skip
    """Judge properties of a design; those of kind ``assume`` hold of its environment.

    Parameters
    ----------
    trace : a simulation of the design in which every signal that they name is recorded.
    proofs : without them, what the trace does not violate stays ``unknown``.

    Raises
    ------
    ToolError
        If a tool cannot work with the design at all.
    """
    verdicts: dict[int, Judgement] = {}
    first: dict[str, str] = {}
    hits: dict[int, int] = {}
    for k, item in enumerate(properties):
        if (key := f"{item.kind} {item.text}") in first:
            verdicts[k] = _judgement(item, "duplicate", reason=f"the same as {first[key]}")
            continue
        first[key] = item.name
        outcome = judge(item, trace)
        hits[k] = int(outcome.hits.sum())
        if outcome.bad.any() and item.kind != "cover":
            at = int(np.flatnonzero(outcome.bad)[0])
            wave = _window(item, trace, at)
            verdicts[k] = _judgement(
                item, "falsified", "simulation", wave.cycles, hits[k], wave=wave
            )
    left = [k for k in range(len(properties)) if k not in verdicts]
    asserted = [k for k in left if properties[k].kind == "assert"]
    empty = formal.tautologies([properties[k] for k in asserted], folder, effort, seed)
    for k, nothing in zip(asserted, empty, strict=True):
        if nothing:
            verdicts[k] = _judgement(properties[k], "tautology", "free signals", hits=hits[k])
    left = [k for k in left if k not in verdicts]
    if proofs:
        verdicts |= _proofs(subject, {k: properties[k] for k in left}, hits, folder, effort)
    return [
        verdicts.get(k) or _judgement(item, "unknown", hits=hits.get(k, 0))
        for k, item in enumerate(properties)
    ]


def _judgement(
    item: Property, status: Status, engine: str = "", depth: int = 0, hits: int = 0,
    *, reason: str = "", wave: Wave | None = None,
) -> Judgement:  # fmt: skip
    return Judgement(
        item.name,
        item.text,
        item.source,
        item.kind,
        status,
        engine,
        depth,
        hits,
        reason,
        wave,
        item,
    )


def _window(item: Property, trace: Trace, at: int) -> Wave:
    """The cycles before a violation in a trace."""
    start = max(0, at + 1 - max(WINDOW, item.body.history + 1))
    names = sorted(item.body.signals)
    values = {n: tuple(int(v) for v in trace.values[n][start : at + 1]) for n in names}
    return Wave(at + 1 - start, {n: trace.widths[n] for n in names}, values)


def _proofs(
    subject: Subject, left: Mapping[int, Property], hits: Mapping[int, int], folder: Path,
    effort: Effort,
) -> dict[int, Judgement]:  # fmt: skip
    verdicts: dict[int, Judgement] = {}
    if not any(item.kind != "assume" for item in left.values()):
        return verdicts
    keys, items = list(left), list(left.values())
    for k, ruling in zip(keys, formal.prove(subject, items, folder, effort), strict=True):
        if ruling is None:
            continue
        wave, rows = ruling.wave, ()
        if wave is not None:
            rows = tuple(directed(subject, wave))
            wave = wave.only(sorted(left[k].body.signals))
        verdicts[k] = replace(
            _judgement(left[k], ruling.verdict, ruling.engine, ruling.depth, hits[k], wave=wave),
            rows=rows,
        )
    never_met = [
        k for k in keys
        if (k in verdicts and hits[k] == 0 and verdicts[k].status in ("proven", "bounded"))
        or left[k].kind == "cover"
    ]  # fmt: skip
    if never_met:
        assumed = [item for item in items if item.kind == "assume"]
        chosen = [left[k] for k in never_met]
        met = formal.reachable(subject, [*chosen, *assumed], folder, effort)
        for k, can in zip(never_met, met[: len(chosen)], strict=True):
            if left[k].kind == "cover":
                status = "proven" if can or hits[k] else "vacuous" if can is False else "unknown"
                verdicts[k] = _judgement(left[k], status, "pdr", hits=hits[k])
            elif can is False:
                verdicts[k] = _judgement(
                    left[k], "vacuous", "pdr", reason="its condition is never met"
                )
            elif can is None:
                verdicts[k] = _judgement(
                    left[k], "unknown", "pdr", reason="nobody saw its condition met"
                )
    return verdicts
