"""Output-stationary systolic array: every operand moves to a neighbour only."""

from typing import Any

from hw.arrays.engine import Engine, Resources, accumulator_bits

__all__ = ["SystolicOsArray"]


class SystolicOsArray(Engine):
    """T x O processing elements with R multipliers each; activations hop right, weights hop down.

    Beats are skewed inside: row t works t cycles after row 0 and output o o cycles after output 0.
    So the results of a column finish one row per cycle, and a tree of registered ORs over the
    column carries them out as they finish; the next tile already accumulates behind them, without a
    second set of accumulators. Columns are aligned again at the output, where whole token rows
    leave.

    Latency
    -------
    ``outputs + stages + levels + 2``: the beat's register, the skew of the last output, a PE
    (operands, products, accumulator), the OR tree of ``levels = ceil(log4(T))``.

    Parameters
    ----------
    stages : int
        Registers behind the products of a PE, for synthesis to retime (see
        :class:`hw.arrays.tree.TreeArray`); by default one for the products and one for every two
        levels of adders.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "systolic_os"
    template = "arrays/systolic_os.sv.j2"

    def __init__(
        self, *, tokens: int, reduce: int, stages: int | None = None, **common: Any
    ) -> None:
        if stages is None:
            stages = 1 + ((reduce - 1).bit_length() + 1) // 2
        if stages < 1:
            raise ValueError(f"stages must be at least 1, not {stages!r}")
        self.stages = stages
        self.levels: list[int] = []
        left = tokens
        while left > 1:
            left = -(-left // 4)
            self.levels.append(left)
        super().__init__(tokens=tokens, reduce=reduce, key={"s": stages}, **common)

    @property
    def latency(self) -> int:
        return self.outputs + self.stages + len(self.levels) + 2

    def resources(self) -> Resources:
        """One DSP a multiplier; adders in LUTs; skews in LUTs, up to 32 cycles a bit in each."""
        pes, dot = self.macs // self.reduce, accumulator_bits(self.reduce, self.x_bits, self.w_bits)
        operands = self.reduce * (self.x_bits + self.w_bits)
        adders = (self.reduce - 1) * (self.x_bits + self.w_bits + 1)
        rows = sum(self.levels) + 1  # registers as wide as a row of accumulators

        def skew(lines: int, bits: int) -> int:
            return bits * sum(1 + (n - 1) // 32 for n in range(1, lines))

        waiting = (
            skew(self.tokens, self.reduce * self.x_bits)
            + skew(self.outputs, self.reduce * self.w_bits)
            + skew(self.outputs, self.acc_bits)
        )
        return Resources(
            dsp=self.macs,
            lut=pes * (adders + self.acc_bits + self.acc_bits // 2)
            + waiting
            + rows * self.outputs * self.acc_bits,
            ff=pes * (operands + (self.stages - 1) * dot + self.acc_bits)
            + rows * self.outputs * self.acc_bits
            + self.i.payload.shape().size
            + 3 * self.tokens * (self.tokens // 2 + self.outputs + self.stages + 1),
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        # PEs that share a 32-bit word of operands are written out: aligned selections are fast.
        width = self.reduce * max(self.x_bits, self.w_bits)
        group = next((g for g in (4, 2) if self.outputs % g == 0 and g * width <= 32), 1)
        return (
            super().context()
            | self.dot_context(self.reduce)
            | {"stages": self.stages, "levels": self.levels, "group": group}
        )
