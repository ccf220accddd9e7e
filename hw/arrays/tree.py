"""Multiplier-adder trees: the array for few token rows, down to matrix-vector products."""

from typing import Any

from hw.arrays.engine import Engine, Resources, accumulator_bits

__all__ = ["TreeArray"]


class TreeArray(Engine):
    """T x O cells, each a tree of R multipliers and an accumulator; operands are broadcast.

    The template describes the tree as one function followed by ``stages`` registers of its result,
    which synthesis retimes into it (``-retiming`` in Vivado, ``abc -dff`` in yosys). In this form
    one compiled function serves all cells of a simulation.

    Latency
    -------
    ``stages + 1``: the registers of the tree, then the accumulator.

    Parameters
    ----------
    stages : int
        Registers in a tree; by default one for the products and one for every two levels of adders.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "tree"
    template = "arrays/tree.sv.j2"

    def __init__(self, *, reduce: int, stages: int | None = None, **common: Any) -> None:
        if stages is None:
            stages = 1 + ((reduce - 1).bit_length() + 1) // 2
        if stages < 1:
            raise ValueError(f"stages must be at least 1, not {stages!r}")
        self.stages = stages
        super().__init__(reduce=reduce, key={"s": stages}, **common)

    @property
    def latency(self) -> int:
        return self.stages + 1

    def resources(self) -> Resources:
        """One DSP a multiplier with its product register; adders and accumulators in LUTs."""
        cells, dot = (
            self.tokens * self.outputs,
            accumulator_bits(self.reduce, self.x_bits, self.w_bits),
        )
        adders = (self.reduce - 1) * (self.x_bits + self.w_bits + 1)
        # Behind the products (in the DSPs) each further register halves the sums twice.
        registers = sum(max(1, self.reduce >> (2 * s)) for s in range(1, self.stages)) * dot
        rows = (self.tokens + 1) * self.outputs * self.acc_bits
        return Resources(
            dsp=self.macs,
            lut=cells * (adders + self.acc_bits) + rows,
            ff=cells * (registers + self.acc_bits) + rows,
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        return super().context() | self.dot_context(self.reduce) | {"stages": self.stages}
