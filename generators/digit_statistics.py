# SPDX-License-Identifier: Apache-2.0
"""How many digits the operands of a model have, and what that makes of the cycles of digit-serial PEs.

A digit-serial PE (``opt3``, ``opt4c``, ``opt4e``; Wu et al., HPCA 2025) adds one non-zero digit of the
recoded operand per cycle and lane. Recoding changes no integer, and no radix-4 digits are fewer than
those of ``csd``, value by value; so the encoding with the fewest cycles is ``csd``, for every tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.quantised import QuantModel
from hw.arith.digits import ENCODINGS, digit_count, nonzero_table

__all__ = ["BITS", "DIGITS", "LANES", "Beat", "Tally", "mean", "tally", "tally_weights"]

BITS = 8
"""Width of both operands."""

DIGITS = digit_count(BITS)
"""Digits of an operand, zeros included: the cycles of a digit-serial lane that skips nothing."""

LANES: Mapping[str, int] = {"opt3": 1, "opt4c": 1, "opt4e": 4}
"""Lanes of the PEs: digits that one adds in a cycle."""

_CHUNK = 1 << 22
"""Elements that are looked at together."""

_SMALLEST = -(1 << (BITS - 1))
_VALUES = np.arange(1 << BITS, dtype=np.uint8).view(np.int8)
"""The value of every bit pattern."""


@dataclass(frozen=True)
class Beat:
    """What a group of PEs computes in lock step, and then waits for its slowest lane.

    Attributes
    ----------
    rows : rows of the recoded operand
    reduce : elements of a row; element r goes to lane ``r % lanes``
    least : cycles of a beat whose lanes have fewer digits: our columns need 2

    Raises
    ------
    DesignError
        For sizes that are not positive, or elements that the lanes of a PE cannot share evenly.
    """

    rows: int = 1
    reduce: int = 16
    least: int = 2

    def __post_init__(self) -> None:
        for name in ("rows", "least"):
            if getattr(self, name) < 1:
                raise DesignError(f"{name} must be at least 1, not {getattr(self, name)}")
        most = max(LANES.values())
        if self.reduce < 1 or self.reduce % most:
            raise DesignError(
                f"reduce must be a multiple of the {most} lanes of a PE, not {self.reduce}"
            )


@dataclass(frozen=True)
class Tally:
    """Digits and cycles of one operand. Tallies of the same beat add up.

    Attributes
    ----------
    beat : how the PEs are grouped
    values : int64 [256]: how often each bit pattern occurs
    beats : beats that the operand takes
    cycles : encoding, lanes -> cycles of these beats
    """

    beat: Beat
    values: NDArray[np.int64]
    beats: int
    cycles: Mapping[tuple[str, int], int]

    def __add__(self, other: Tally) -> Tally:
        if other.beat != self.beat:
            raise ValueError(f"tallies of {self.beat} and {other.beat} do not add up")
        cycles = {key: self.cycles[key] + other.cycles[key] for key in self.cycles}
        return Tally(self.beat, self.values + other.values, self.beats + other.beats, cycles)

    @property
    def elements(self) -> int:
        """How many numbers the operand has."""
        return int(self.values.sum())

    @property
    def zeros(self) -> float:
        """Share of the numbers that are zero."""
        return float(self.values[0]) / self.elements

    @property
    def ones(self) -> float:
        """Bits of a number, in two's complement, that are one: what a bit-serial PE without recoding adds."""
        return float(self.values @ np.bitwise_count(_VALUES.view(np.uint8))) / self.elements

    def digits(self, encoding: str) -> float:
        """Non-zero digits of a number."""
        return float(self.values @ nonzero_table(BITS, encoding=encoding)) / self.elements

    def histogram(self, encoding: str) -> tuple[float, ...]:
        """Share of the numbers that have 0, 1, ... ``DIGITS`` digits."""
        found = np.bincount(
            nonzero_table(BITS, encoding=encoding), self.values, minlength=DIGITS + 1
        )
        return tuple(float(n) / self.elements for n in found)

    def cycles_per_operand(self, encoding: str, lanes: int) -> float:
        """Cycles that a lane takes for one number, those in which it waits for others included.

        A lane that adds all digits takes ``DIGITS``, a multiplier 1.
        """
        return self.cycles[encoding, lanes] / (self.beats * (self.beat.reduce // lanes))


def tally(
    rows: NDArray[np.int8], beat: Beat, lengths: NDArray[np.integer[Any]] | None = None
) -> Tally:
    """Count the digits of an operand ``[n, k]``, and the cycles of its beats.

    A beat takes as many cycles as the lane with the most non-zero digits has, of all lanes of all
    rows, and no fewer than ``beat.least``. What is missing in the last beat of a row, or in the last rows, is zero.

    Parameters
    ----------
    rows : the recoded operand, reduced along k.
    beat : the PEs that work in lock step.
    lengths : [n]: only the first ``lengths[i]`` elements of row i take part, the others are 0;
        rows in lock step take as many beats as the longest of them. All of them if left out.
    """
    n, k = rows.shape
    values = np.zeros(len(_VALUES), np.int64)
    cycles = {(encoding, lanes): 0 for encoding in ENCODINGS for lanes in _lane_counts()}
    width = -(-k // beat.reduce)
    step = max(1, _CHUNK // (beat.rows * width * beat.reduce)) * beat.rows
    beats = 0
    for start in range(0, n, step):
        part = rows[start : start + step]
        height = -(-len(part) // beat.rows)
        columns = np.zeros((width * beat.reduce, height * beat.rows), np.uint8)
        columns[:k, : len(part)] = part.T.view(np.uint8)
        values += np.bincount(columns.reshape(-1), minlength=len(values))
        taken = np.ones((width, height), bool)
        ends = np.zeros(height * beat.rows, np.int64)
        ends[: len(part)] = k if lengths is None else lengths[start : start + step]
        values[0] -= columns.size - int(ends.sum())
        if lengths is not None:
            last = ends.reshape(height, beat.rows).max(axis=1)
            taken = np.arange(width)[:, None] * beat.reduce < last
        beats += int(np.count_nonzero(taken))
        for encoding in ENCODINGS:
            counts = np.take(nonzero_table(BITS, encoding=encoding), columns)
            for lanes, slowest in _slowest(counts, beat):
                cycles[encoding, lanes] += int(slowest[taken].sum())
    return Tally(beat, values, beats, cycles)


def _lane_counts() -> list[int]:
    return sorted(set(LANES.values()), reverse=True)


def _slowest(counts: NDArray[np.uint8], beat: Beat) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For each number of lanes the cycles of every beat, [beats of a row, groups of rows].

    ``counts`` is [k, rows], so that all but the last step is arithmetic on whole rows of memory.
    """
    n = counts.shape[1]
    most = _lane_counts()[0]
    each = counts.reshape(-1, beat.reduce // most, most, n)
    wide = np.uint8 if beat.reduce * DIGITS < 1 << 8 else np.uint32
    sums = each.sum(axis=1, dtype=wide)
    for lanes in _lane_counts():
        own = sums.reshape(-1, most // lanes, lanes, n).sum(axis=1, dtype=wide)
        slowest = own.max(axis=1).reshape(-1, n // beat.rows, beat.rows).max(axis=2)
        yield lanes, np.maximum(slowest, beat.least).astype(np.int64)


def tally_weights(
    model: QuantModel,
    beat: Beat,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> dict[tuple[int, str], Tally]:
    """Count the digits of every weight matrix, one in memory at a time.

    Rows in lock step are output channels: what a PE that recodes the weights would see.

    Parameters
    ----------
    progress : told how many layers are done, of how many.

    Returns
    -------
    By layer and name (``k``, ``v``, ``q``, ``proj``, ``fc1``, ``fc2``), and ``head`` as one layer more.
    """
    found: dict[tuple[int, str], Tally] = {}
    for i, layer in enumerate(model.layers):
        for name in ("k", "v", "q", "proj", "fc1", "fc2"):
            found[i, name] = tally(getattr(layer, name).weight.T, beat)
        progress(i + 1, len(model.layers))
    found[len(model.layers), "head"] = tally(model.head.weight.T, beat)
    return found


def mean(tallies: Iterable[tuple[Tally, int]], figure: Callable[[Tally], float]) -> float:
    """A figure of several operands, each with its weight: how often the engine takes its numbers."""
    pairs = list(tallies)
    return sum(figure(t) * weight for t, weight in pairs) / sum(weight for _, weight in pairs)
