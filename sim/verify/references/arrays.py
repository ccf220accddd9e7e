# SPDX-License-Identifier: Apache-2.0
"""Golden models of engines: sums of products of whole numbers."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hw.arrays.engine import Engine
from sim.verify.references.base import Answers, Entries, StreamReference, lanes

__all__ = ["EngineReference"]


class EngineReference(StreamReference):
    """Tiles, exact; what enters that is no sequence of tiles is not judged."""

    unit: Engine
    planned_only: ClassVar[bool] = True

    @property
    def drain(self) -> int:
        """Two beats may wait, and two tiles' rows."""
        unit = self.unit
        return unit.latency + 2 * unit.beat_cycles(unit.tokens) + 3 * unit.tokens + 16

    @property
    def _longest(self) -> int:
        """Beats of a tile whose sums the accumulators hold whatever the numbers are."""
        unit = self.unit
        fits = 1 << (unit.acc_bits + 1 - unit.x_bits - unit.w_bits)
        return max(1, (fits - 1) // unit.reduce)

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        unit, found = self.unit, []
        while len(found) < count:
            beats = min(self._longest, max(1, int(random.integers(-2, 7))))
            k = beats * unit.reduce - int(random.integers(0, unit.reduce))
            rows = int(random.integers(1, unit.tokens + 1))
            x, w = self._operands(random, rows, k)
            found += unit.pack(x, w)
        return found

    def _operands(
        self, random: np.random.Generator, rows: int, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of any size, and tiles of nothing but extremes."""
        unit = self.unit
        x_low, w_low = -(1 << (unit.x_bits - 1)), -(1 << (unit.w_bits - 1))
        if random.random() < 0.25:
            x = np.full((rows, k), random.choice([x_low, -x_low - 1, -1, 1]))
            w = np.full((k, unit.outputs), random.choice([w_low, -w_low - 1]))
        else:
            x = random.integers(x_low, -x_low, (rows, k)) >> random.integers(
                0, unit.x_bits, (rows, k)
            )
            w = random.integers(w_low, -w_low, (k, unit.outputs))
        return x, w

    def answers(self, entries: Entries) -> Answers:
        """Each tile of the transfers, unpacked by the layout of the ports and multiplied anew."""
        unit = self.unit
        layout = unit.i.payload.shape()
        found: list[int | None] = []
        xs: list[np.ndarray] = []
        ws: list[np.ndarray] = []
        for payload in entries.payloads:
            at = {
                name: payload >> layout[name].offset & ((1 << layout[name].width) - 1)
                for name in ("x", "w", "first", "last", "rows")
            }
            if at["first"]:
                xs, ws = [], []
            x = lanes(at["x"], unit.x_bits, unit.tokens * unit.reduce)
            w = lanes(at["w"], unit.w_bits, unit.outputs * unit.reduce)
            xs.append(x.reshape(unit.tokens, unit.reduce))
            ws.append(w.reshape(unit.outputs, unit.reduce))
            if at["last"]:
                rows = at["rows"]
                sums = np.concatenate(xs, axis=1)[:rows] @ np.concatenate(ws, axis=1).T
                found += [self._row(row, n == rows - 1) for n, row in enumerate(sums)]
        return Answers(found)

    def _row(self, sums: np.ndarray, last: bool) -> int:
        mask, word = (1 << self.unit.acc_bits) - 1, 0
        for n, value in enumerate(sums.tolist()):
            word |= (value & mask) << (n * self.unit.acc_bits)
        return word | int(last) << (self.unit.row_outputs * self.unit.acc_bits)
