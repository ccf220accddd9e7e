"""Cube of multipliers: partial sums travel along k, as a cascade of DSP slices adds them."""

from typing import Any

from hw.arrays.engine import Engine, Resources, accumulator_bits

__all__ = ["CubeArray"]


class CubeArray(Engine):
    """T x R x O multipliers in planes of ``hop`` elements of k.

    Within a plane operands are broadcast along tokens and outputs. A plane sums the products of its
    ``hop`` elements for each (token, output), registers that, and adds it to the partial sum of the
    plane before. Operands wait in shift registers until the partial sums reach their plane, so that
    no path grows with R: with ``hop=1`` every multiply-add is one DSP slice that cascades into the
    next one.

    Latency
    -------
    ``planes + 2``: the operands, the products, a hop for every plane but the first, the
    accumulator.

    Parameters
    ----------
    hop : int
        Elements of k between two registers of a partial sum; it need not divide R.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "cube"
    template = "arrays/cube.sv.j2"

    def __init__(self, *, reduce: int, hop: int = 8, **common: Any) -> None:
        if hop < 1:
            raise ValueError(f"hop must be at least 1, not {hop!r}")
        self.hop = max(1, min(hop, reduce))
        self.planes = -(-reduce // self.hop)
        super().__init__(reduce=reduce, key={"h": self.hop}, **common)

    @property
    def latency(self) -> int:
        return self.planes + 2

    def resources(self) -> Resources:
        """One DSP a multiplier; sums in LUTs; operands wait in LUTs, up to 32 cycles in each."""
        cells, bank = self.tokens * self.outputs, (self.tokens + 1) * self.outputs * self.acc_bits
        dot = accumulator_bits(self.hop, self.x_bits, self.w_bits)
        total = accumulator_bits(self.reduce, self.x_bits, self.w_bits)
        face = self.hop * (self.tokens * self.x_bits + self.outputs * self.w_bits)
        waiting = face * sum(1 + (p - 1) // 32 for p in range(2, self.planes))
        sums = (
            self.planes * (self.hop - 1) * (self.x_bits + self.w_bits + 1)
            + (self.planes - 1) * total
        )
        return Resources(
            dsp=self.macs,
            lut=cells * (sums + self.acc_bits) + waiting + bank,
            ff=cells * (self.planes * dot + (self.planes - 1) * total + self.acc_bits)
            + face * self.planes
            + bank,
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        return (
            super().context()
            | self.dot_context(self.hop)
            | {"hop": self.hop, "planes": self.planes}
        )
