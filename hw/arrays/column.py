# SPDX-License-Identifier: Apache-2.0
"""Columns of digit-serial elements: cycles for the digits of the activations that are not zero, none for the others."""

from typing import Any

import numpy as np

from hw.arith.digits import DIGIT_BITS, DigitEncoder, digit_count, nonzero
from hw.arith.resolve import Resolve
from hw.arith.serial import DigitSequencer, DigitSerialPe, DigitSkippingPe, step_bits
from hw.arrays.engine import Engine, Resources
from hw.unit import Unit

__all__ = ["ColumnArray"]


class ColumnArray(Engine):
    """T x O elements; an element adds one product of a weight and a non-zero digit per lane and cycle.

    The array of OPT3 and OPT4 (HPCA 2025): activations are recoded before they enter, and a sequencer visits the
    digits that are not zero. Lane l of L handles the elements r of a beat with ``r % L == l``. The O elements of a
    token row (a *column* in the paper's words) see the same activations and select their weights by the same digits.

    - ``opt3``: every element has its own sequencer; it takes as long as ``opt4c``, which it is to be compared with.
    - ``opt4c``: one sequencer for all elements of a row.
    - ``opt4e``: the same with ``lanes`` lanes, whose rows share a compressor tree and an accumulator.

    All rows and lanes wait for the slowest of a beat; the next beat waits in registers of its own. So a beat takes
    as many cycles as the lane with the most has digits that are not zero, and no fewer than 2. (Beats of one cycle, all
    but empty ones, would cost a third set of operands, or a path through all that decides when a beat ends.)

    Latency
    -------
    ``latency`` if the last beat of a tile and the one before take 2 cycles: the beat's registers, the beat, the element
    (see :class:`hw.arith.serial.DigitSerialPe`), the bank, the resolving adder. Each cycle that they take longer is one
    more: :meth:`delay` says how long it takes for given activations.

    Parameters
    ----------
    lanes : int
        Digits that an element of ``opt4e`` takes a cycle, by default 4; not more than R. ``opt3`` and ``opt4c`` take 1.
    resolve_stages : int
        Cycles (1 or 2) of the addition that resolves them.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "column"
    pes = ("opt4c", "opt4e", "opt3")
    template = "arrays/column.sv.j2"

    def __init__(
        self, *, reduce: int, pe: str = "opt4c", lanes: int | None = None, group: int = 2,
        resolve_stages: int = 1, **common: Any,
    ) -> None:  # fmt: skip
        if lanes is None:
            lanes = max(1, min(4, reduce)) if pe == "opt4e" else 1
        if pe in self.pes and pe != "opt4e" and lanes != 1:
            raise ValueError(f"PE {pe!r} has 1 lane, not {lanes!r}; use opt4e for more")
        if not 1 <= lanes <= max(1, reduce):
            raise ValueError(f"lanes must be 1 to {reduce} (reduce), not {lanes!r}")
        key: dict[str, int | str] = {"l": lanes}
        if resolve_stages != 1:
            key["s"] = resolve_stages
        super().__init__(reduce=reduce, pe=pe, group=group, key=key, **common)
        self.lanes = lanes
        self.elements = -(-reduce // lanes)
        self.digits = digit_count(self.x_bits)
        self._encoder = DigitEncoder(lanes=reduce, bits=self.x_bits, encoding=self.encoding)
        shape: dict[str, int] = {"elements": self.elements, "digits": self.digits}
        sums: dict[str, int] = {"w_bits": self.w_bits, "width": self.acc_bits, "group": group}
        if pe == "opt3":
            self._sequencer, self._pe = None, DigitSkippingPe(**shape, **sums)
        else:
            self._sequencer = DigitSequencer(**shape)
            self._pe = DigitSerialPe(lanes=lanes, **shape, **sums)
        self._resolve = Resolve(
            width=self.acc_bits, group=group, style=self.adder, stages=resolve_stages
        )

    @property
    def latency(self) -> int:
        return 4 + self._pe.latency + self._resolve.latency

    @property
    def macs(self) -> int:
        """Products of a weight and a digit per cycle: a product of numbers takes as many as the activation has digits
        that are not zero, so how many numbers are multiplied per cycle depends on the data."""
        return self.tokens * self.outputs * self.lanes

    def beat_cycles(self, rows: int) -> int:
        """Most cycles that a beat may take."""
        most = nonzero(_all_numbers(self.x_bits), self.x_bits, encoding=self.encoding).max()
        return max(2, self.elements * int(most))

    def interval(self, k: int, rows: int) -> int:
        """Most cycles from one tile to the next in steady state."""
        return max(self.beats(k) * self.beat_cycles(rows), self._drained(rows))

    def cycles(self, x: np.ndarray) -> int:
        """Cycles from one tile of ``x`` ``[rows, k]`` to the next in steady state."""
        return max(int(self.beats_cycles(x).sum()), self._drained(len(x)))

    def delay(self, x: np.ndarray) -> int:
        """Cycles from the transfer of the last beat to the first row, if beats come without a pause."""
        last = self.beats_cycles(x)[-2:]
        return self.latency + int(last.sum()) - 2 * len(last)

    def beats_cycles(self, x: np.ndarray) -> np.ndarray:
        """Cycles ``[beats]`` of each beat of the tile of ``x`` ``[rows, k]``."""
        rows, k = x.shape
        beats = self.beats(k)
        counts = np.zeros((rows, beats * self.reduce), np.int64)
        counts[:, :k] = nonzero(x, self.x_bits, encoding=self.encoding)
        lanes = np.zeros((rows, beats, self.elements * self.lanes), np.int64)
        lanes[..., : self.reduce] = counts.reshape(rows, beats, self.reduce)
        digits = lanes.reshape(rows, beats, self.elements, self.lanes).sum(axis=2)
        return np.maximum(2, digits.max(axis=(0, 2)))

    def _drained(self, rows: int) -> int:
        """Cycles after which the bank takes another tile: its rows have left, the new ones have arrived."""
        return rows + self._pe.latency

    def parts(self) -> list[Unit]:
        cells = [self._pe] * (self.tokens * self.outputs)
        sequencers = [self._sequencer] * (self.tokens * self.lanes) if self._sequencer else []
        encoders = [self._encoder] * self.tokens
        return [*encoders, *sequencers, *cells, *[self._resolve] * self.outputs]

    def resources(self) -> Resources:
        """Selections, shifts, compressors and accumulators in LUTs; two sets of operands in flip-flops."""
        rows, cells = self.tokens, self.tokens * self.outputs
        row_bits, word_bits = self.w_bits + 2 * self.digits - 1, self._pe.word.bits
        code = self.reduce * self.digits * DIGIT_BITS
        select = self.elements + step_bits(self.digits)
        sequencers = (cells if self.pe == "opt3" else rows) * self.lanes
        choose = self.w_bits * -(-self.elements // 2)  # two weights and their selections in a LUT
        shift = row_bits * (1 + ((self.digits - 1).bit_length() + 1) // 2)
        tree = (self.lanes - 1) * row_bits + (2 * row_bits if self.lanes > 1 else 0)
        banks = (rows * word_bits + 2 * self.acc_bits) * self.outputs
        return Resources(
            dsp=0,
            lut=cells * (self.lanes * (choose + shift) + tree + word_bits)
            + sequencers * 2 * code // self.lanes
            + rows * code
            + banks,
            ff=cells * (self.lanes * (row_bits + 1) + (self.lanes > 1) * 2 * row_bits + word_bits)
            + sequencers * (code // self.lanes + select)
            + rows * code
            + 2 * self.outputs * self.reduce * self.w_bits
            + banks,
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        return super().context() | {
            "lanes": self.lanes,
            "elements": self.elements,
            "code_bits": self.digits * DIGIT_BITS,
            "step_bits": step_bits(self.digits),
            "encoder_unit": self._encoder,
            "sequencer_unit": self._sequencer,
            "pe_unit": self._pe,
            "resolve_unit": self._resolve,
        }


def _all_numbers(bits: int) -> np.ndarray:
    return np.arange(-(1 << (bits - 1)), 1 << (bits - 1))
