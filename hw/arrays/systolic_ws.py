# SPDX-License-Identifier: Apache-2.0
"""Weight-stationary systolic array: weights stay in their PEs while rows of activations pass."""

from typing import Any

from hw.arith.digits import digit_count
from hw.arrays.engine import Engine, Resources, accumulator_bits, skew
from hw.unit import Unit

__all__ = ["SystolicWsArray"]


class SystolicWsArray(Engine):
    """R x O processing elements, one multiplier each, that take the rows of a beat one after the other.

    A beat's weights wait where they arrived; the first row takes them along, PE by PE, as it passes. Activations hop
    right, partial sums hop down; below the last PE a memory of T rows adds the beats of a tile. So this array has
    R*O multipliers, and T is how long it keeps a set of weights: with ``tokens >= reduce + outputs - 1`` rows follow
    each other without a gap. With fewer rows the weights of the next beat wait for the last PE.

    With ``opt1`` (HPCA 2025) activations hop as digits, partial sums in carry-save form, and so they are kept below;
    one adder per column resolves what leaves.

    Latency
    -------
    ``reduce + outputs + stages + 3``: the beat, the hops, the operands and the products of a PE, the memory's
    operands, its sum; then the resolving adder.

    Parameters
    ----------
    stages : int
        With ``mac``: registers between the operands of a PE and its partial sum.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "systolic_ws"
    pes = ("mac", "opt1")
    template = "arrays/systolic_ws.sv.j2"

    def __init__(
        self, *, reduce: int, outputs: int, pe: str = "mac", stages: int = 1, **common: Any
    ) -> None:
        if stages < 1:
            raise ValueError(f"stages must be at least 1, not {stages!r}")
        key: dict[str, int | str] = {"s": stages} if pe == "mac" else {}
        super().__init__(reduce=reduce, outputs=outputs, pe=pe, key=key, **common)
        self.stages = stages
        self.sum_bits = accumulator_bits(reduce, self.x_bits, self.w_bits)
        self._parts = self._below = None
        if pe != "mac":
            self._parts = self.carry_save(1, chain=reduce, encoders=1)
            self.stages = self._parts.element.latency
            self.sum_bits = self._parts.element.width
            self._below = self._parts.after_chain(self.acc_bits)

    @property
    def macs(self) -> int:
        return self.reduce * self.outputs

    @property
    def latency(self) -> int:
        resolve = self._parts.resolve.latency if self._parts else 0
        return self.reduce + self.outputs + self.stages + 3 + resolve

    @property
    def hold(self) -> int:
        """Cycles for which a beat's weights must wait: until the last PE has them, or sums have been written."""
        return max(self.reduce + self.outputs - 1, 2)

    def beat_cycles(self, rows: int) -> int:
        return max(rows, self.hold)

    def parts(self) -> list[Unit]:
        if self._parts is None or self._below is None:
            return []
        encoders = [self._parts.encoder] * self.reduce if self._parts.encoder else []
        below: list[Unit] = [self._below, self._parts.resolve]
        return [*encoders, *[self._parts.element] * self.macs, *below * self.outputs]

    def resources(self) -> Resources:
        """One DSP a multiplier, or compressors in LUTs; skews and the memory of sums in LUTs."""
        parts, below = self._parts, self._below
        if parts and below:
            lane_bits, word, kept = parts.lane_bits, parts.element.word_bits, below.word.bits
            multiplier = digit_count(self.x_bits) * 2 * (self.w_bits + 1)
            held = 2 * parts.element.dot.out_bits * self.stages
        else:
            lane_bits, word, kept = self.x_bits, self.sum_bits, self.acc_bits
            multiplier, held = 0, self.stages * (self.x_bits + self.w_bits)
        memory = -(-self.tokens // 32) * self.outputs * kept
        return Resources(
            dsp=0 if parts else self.macs,
            lut=self.macs * (multiplier + word)
            + skew(self.reduce, self.x_bits)
            + skew(self.outputs, word)
            + 2 * memory
            + self.outputs * (kept + (self.acc_bits if parts else 0)),
            ff=self.macs * (lane_bits + self.w_bits + held + word)
            + self.i.payload.shape().size
            + self.outputs * (3 * kept + 2 * word),
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        width = max(self.x_bits, self.w_bits)
        together = next((g for g in (4, 2) if self.outputs % g == 0 and g * width <= 32), 1)
        found = super().context() | {
            "stages": self.stages,
            "sum_bits": self.sum_bits,
            "hold": self.hold,
            "together": together,
            "parts_of": self._parts,
            "below": self._below,
        }
        if self._parts is None:
            return found | self.dot_context(1)
        return found | {"chain_start": self._parts.element.chain_start(self.reduce)}
