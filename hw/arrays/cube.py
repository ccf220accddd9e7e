# SPDX-License-Identifier: Apache-2.0
"""Cube of multipliers: partial sums travel along k, as a cascade of DSP slices adds them."""

from typing import Any

from hw.arith.digits import digit_count
from hw.arrays.engine import Engine, Resources, accumulator_bits, skew
from hw.unit import Unit

__all__ = ["CubeArray"]


class CubeArray(Engine):
    """T x R x O multipliers in planes of ``hop`` elements of k.

    Within a plane operands are broadcast along tokens and outputs. A plane sums the products of its
    ``hop`` elements for each (token, output), registers that, and adds it to the partial sum of the
    plane before. Operands wait in shift registers until the partial sums reach their plane, so that
    no path grows with R: with ``hop=1`` every multiply-add is one DSP slice that cascades into the
    next one.

    With ``opt1`` (HPCA 2025) activations are digits, and the sums of a plane, of the chain and of the
    accumulator stay in carry-save form; rows are resolved as they leave.

    Latency
    -------
    With ``mac`` ``planes + 2``: the operands, the products, a hop for every plane but the first, the
    accumulator. With ``opt1`` also a hop for the first, the registers inside a plane, the resolving adder.

    Parameters
    ----------
    hop : int
        Elements of k between two registers of a partial sum; it need not divide R.
    cut : int
        With ``opt1``: levels of carry-save adders between registers; 0: none.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "cube"
    pes = ("mac", "opt1")
    template = "arrays/cube.sv.j2"

    def __init__(
        self, *, reduce: int, hop: int = 8, pe: str = "mac", cut: int = 3, **common: Any
    ) -> None:
        if hop < 1:
            raise ValueError(f"hop must be at least 1, not {hop!r}")
        if cut < 0:
            raise ValueError(f"cut must be 0 or more, not {cut!r}")
        self.hop = max(1, min(hop, reduce))
        self.planes = -(-reduce // self.hop)
        key: dict[str, int | str] = {"h": self.hop}
        if pe != "mac":
            key["c"] = cut
        super().__init__(reduce=reduce, pe=pe, key=key, **common)
        self._parts = self._after = None
        if pe != "mac":
            self._parts = self.carry_save(self.hop, cut=cut, chain=self.planes, encoders=self.hop)
            self._after = self._parts.after_chain(self.acc_bits)

    @property
    def stages(self) -> int:
        """Registers that a beat passes until its sums are final."""
        return self.planes + (self._parts.element.latency + 1 if self._parts else 0) + 1

    @property
    def latency(self) -> int:
        return self.stages + 1 + (self._parts.resolve.latency if self._parts else 0)

    def parts(self) -> list[Unit]:
        if self._parts is None or self._after is None:
            return []
        cells = self.tokens * self.outputs
        encoders = [self._parts.encoder] * self.tokens * self.planes if self._parts.encoder else []
        elements = [self._parts.element] * (cells * self.planes)
        return [*encoders, *elements, *[self._after] * cells, *[self._parts.resolve] * self.outputs]

    def resources(self) -> Resources:
        """One DSP a multiplier; sums in LUTs; operands wait in LUTs, up to 32 cycles in each."""
        cells = self.tokens * self.outputs
        if self._parts and self._after:
            element, kept = self._parts.element, self._after.word.bits
            face = self.hop * (self.tokens * self._parts.lane_bits + self.outputs * self.w_bits)
            compressors = self.hop * digit_count(self.x_bits) * 2 * (self.w_bits + 1)
            bank = self.tokens * self.outputs * kept + self.outputs * self.acc_bits
            return Resources(
                dsp=0,
                lut=cells * (self.planes * (compressors + 2 * element.word_bits) + 2 * kept)
                + skew(self.planes, face)
                + bank,
                ff=cells
                * (self.planes * (2 * element.latency * element.dot.out_bits + element.word_bits))
                + cells * kept
                + face * self.planes
                + bank,
                bram=0,
            )
        bank = (self.tokens + 1) * self.outputs * self.acc_bits
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
        found = super().context() | {
            "hop": self.hop,
            "planes": self.planes,
            "stages": self.stages,
            "parts_of": self._parts,
            "after": self._after,
        }
        if self._parts is None:
            return found | self.dot_context(self.hop)
        return found | {"chain_start": self._parts.element.chain_start(self.planes)}
