# SPDX-License-Identifier: Apache-2.0
"""What a golden model is to a verification: inputs that its unit is made for, and what must come out.

A reference knows a unit by its parameters, never its inside. It draws inputs cycle by cycle, and it judges
what the ports of any implementation showed between two resets, whoever drove them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from amaranth.hdl import Value
from amaranth.lib.data import StructLayout
from numpy.typing import NDArray

from sim.verify.evaluate import Trace, Values

__all__ = [
    "BUSY",
    "Answers",
    "Columns",
    "Entries",
    "Outcome",
    "Pipeline",
    "Reference",
    "Segment",
    "StreamReference",
    "anything",
    "delayed",
    "draw",
    "fields",
    "lanes",
    "parts",
    "rows",
    "segments",
    "side_by_side",
]

Columns = dict[str, NDArray[np.object_]]
"""Values of inputs by name, each [cycles]."""

Bits = NDArray[np.bool_]

BUSY = ((1.0, 1.0), (0.6, 1.0), (1.0, 0.4), (0.5, 0.5))
"""How often, in turns, a stream's source offers something and its sink takes it."""


@dataclass(frozen=True)
class Segment:
    """What the ports showed between two resets.

    Parameters
    ----------
    start : its first cycle in the trace.
    planned : whether a reference drew its inputs; otherwise they are any.
    values : by port, each [cycles].
    """

    start: int
    planned: bool
    values: Mapping[str, Values]

    @property
    def cycles(self) -> int:
        return len(next(iter(self.values.values())))

    def bits(self, name: str) -> Bits:
        """Where a port of one bit is high."""
        return self.values[name].astype(bool)


@dataclass
class Outcome:
    """How far a segment agrees: values that were compared, and the first cycle (of it) that is wrong."""

    compared: int = 0
    wrong: int | None = None
    note: str = ""

    def same(self, cycle: int, found: int, wanted: int, what: str) -> None:
        """Compare a value."""
        self.compared += 1
        if found != wanted and (self.wrong is None or cycle < self.wrong):
            self.wrong = cycle
            self.note = f"{what} is {found:#x}, the golden model says {wanted:#x}"


class Reference(Protocol):
    """A golden model of a unit, with the inputs that its unit is made for."""

    @property
    def what(self) -> str:
        """One line for the report."""
        ...

    def lengths(self, cycles: int) -> list[int]:
        """Cycles of each scenario, about ``cycles`` together."""
        ...

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        """Inputs of the cycles of a scenario; ports that are left out are any.

        A stream's inputs are what its source does if it never has to wait.
        """
        ...

    def compare(self, segment: Segment) -> Outcome:
        """Compare what came out with what must."""
        ...


def segments(trace: Trace, ports: Sequence[str], planned: int) -> list[Segment]:
    """The parts of a trace between resets; from cycle ``planned`` on, they are planned."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], trace.reset.astype(int), [1]])))
    found = []
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        values = {name: trace.values[name][start:stop] for name in ports}
        found.append(Segment(start, start >= planned, values))
    return found


# ---- Numbers -------------------------------------------------------------------------------------------


def draw(
    random: np.random.Generator, bits: int, size: int, *, is_signed: bool = True
) -> NDArray[np.int64]:
    """Numbers of every length up to ``bits`` bits (at most 62), the extremes among them."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)
    x = random.integers(low, high + 1, size) >> random.integers(0, bits, size)
    special = random.choice([low, high, 0, min(1, high), high - 1], size)
    return np.where(random.random(size) < 0.15, special, x).astype(np.int64)


def side_by_side(values: Sequence[int] | NDArray[np.int64], bits: int) -> int:
    """Two's complement of ``bits`` bits each, the first lowest."""
    mask, word = (1 << bits) - 1, 0
    for k, value in enumerate(values):
        word |= (int(value) & mask) << (k * bits)
    return word


def lanes(word: int, bits: int, count: int, *, is_signed: bool = True) -> NDArray[np.int64]:
    """Inverse of `side_by_side`."""
    mask = (1 << bits) - 1
    found = np.array([(word >> (k * bits)) & mask for k in range(count)], dtype=np.int64)
    return np.where(found >> (bits - 1), found - (1 << bits), found) if is_signed else found


def rows(values: Values, bits: int, count: int, *, is_signed: bool = True) -> NDArray[np.int64]:
    """`lanes` of each cycle, [cycles, count]."""
    found = np.zeros((len(values), count), dtype=np.int64)
    for t, value in enumerate(values):
        found[t] = lanes(int(value), bits, count, is_signed=is_signed)
    return found


def anything(random: np.random.Generator, full: int) -> int:
    """A number of as many bits as ``full``."""
    return int.from_bytes(random.bytes(-(-full.bit_length() // 8))) & full


def parts(cycles: int, count: int) -> list[int]:
    """So many equal scenarios."""
    return [cycles // count] * count


def fields(layout: StructLayout, **values: int) -> int:
    """A word of a structure; a value that does not fit is an error."""
    word = 0
    for name, value in values.items():
        place: Any = layout[name]
        if value < 0 or value >> place.width:
            raise ValueError(f"{name} of {place.width} bits cannot be {value}")
        word |= value << place.offset
    return word


# ---- Streams -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entries:
    """What was taken at ``i`` in a segment.

    Parameters
    ----------
    payloads, cycles : of each transfer.
    most : more answers than this are not asked for.
    """

    segment: Segment
    payloads: Sequence[int]
    cycles: Sequence[int]
    most: int


@dataclass(frozen=True)
class Answers:
    """What must leave, in order.

    Parameters
    ----------
    values : None where anything may.
    ends : false if nobody can say what follows: the inputs were not what the unit is made for, or there
        are more answers than were asked for.
    """

    values: Sequence[int | None]
    ends: bool = True


@dataclass(frozen=True)
class StreamReference:
    """A unit with one stream in and one out, ``i`` and ``o``; valid and ready are whatever they like."""

    unit: Any
    planned_only: ClassVar[bool] = False

    @property
    def drain(self) -> int:
        """Cycles without new inputs after which everything has come out."""
        return 40

    @property
    def what(self) -> str:
        return f"{type(self.unit).__name__}: the transfers of o, in order"

    def lengths(self, cycles: int) -> list[int]:
        return parts(cycles, len(BUSY))

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        """At least so many payloads of ``i``."""
        raise NotImplementedError

    def answers(self, entries: Entries) -> Answers:
        """Payloads of ``o`` for those of ``i``."""
        raise NotImplementedError

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        offers, takes = BUSY[scenario % len(BUSY)]
        last = max(1, cycles - self.drain)
        valid, ready = random.random(cycles) < offers, random.random(cycles) < takes
        valid[last:], ready[last:] = False, True
        full = (1 << len(Value.cast(self.unit.i.payload))) - 1
        given = iter(self.elements(random, int(valid.sum()), scenario))
        payload = np.zeros(cycles, dtype=object)
        for t in range(cycles):
            payload[t] = next(given) if valid[t] else anything(random, full)
        return {
            "i__valid": valid.astype(int).astype(object),
            "i__payload": payload,
            "o__ready": ready.astype(int).astype(object),
        }

    def compare(self, segment: Segment) -> Outcome:
        outcome = Outcome()
        if self.planned_only and not segment.planned:
            return outcome
        taken = np.flatnonzero(segment.bits("i__valid") & segment.bits("i__ready")).tolist()
        left = np.flatnonzero(segment.bits("o__valid") & segment.bits("o__ready")).tolist()
        given, found = segment.values["i__payload"], segment.values["o__payload"]
        wanted = self.answers(
            Entries(segment, [int(given[t]) for t in taken], taken, len(left) + 1)
        )
        for cycle, value in zip(left, wanted.values, strict=False):
            if value is not None:
                outcome.same(cycle, int(found[cycle]), value, "o__payload")
        if not wanted.ends:
            return outcome
        if len(left) > len(wanted.values):
            outcome.same(left[len(wanted.values)], 1, 0, "o__valid")
        quiet = segment.cycles - self.drain
        drained = (
            quiet > 0
            and not segment.bits("i__valid")[quiet:].any()
            and segment.bits("o__ready")[quiet:].all()
        )
        if drained and len(left) < len(wanted.values):
            outcome.same(
                segment.cycles - 1, len(left), len(wanted.values), "the number of transfers"
            )
        return outcome


# ---- Pipelines -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pipeline:
    """A unit whose outputs come a fixed number of cycles after their inputs."""

    unit: Any
    planned_only: ClassVar[bool] = False

    @property
    def what(self) -> str:
        return f"{type(self.unit).__name__}: each result, in its cycle"

    def lengths(self, cycles: int) -> list[int]:
        return parts(cycles, 4)

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        """Inputs of so many cycles after a reset; ports that are left out are any."""
        raise NotImplementedError

    def results(self, segment: Segment, outcome: Outcome) -> None:
        """Compare the results of a segment."""
        raise NotImplementedError

    def compare(self, segment: Segment) -> Outcome:
        outcome = Outcome()
        if segment.planned or not self.planned_only:
            self.results(segment, outcome)
        return outcome


def delayed(segment: Segment, outcome: Outcome, name: str, pulse: Bits, latency: int) -> None:
    """A bit must be what ``pulse`` was ``latency`` cycles before."""
    found = segment.bits(name)
    for t in range(latency, segment.cycles):
        outcome.same(t, int(found[t]), int(pulse[t - latency]), name)
