# SPDX-License-Identifier: Apache-2.0
"""Multiplier-adder trees: the array for few token rows, down to matrix-vector products."""

from typing import Any

from hw.arith.digits import digit_count
from hw.arrays.engine import Engine, Resources, accumulator_bits
from hw.arrays.own_pe import OWN_PES
from hw.dsp.packed_dot import PackedDot
from hw.dsp.packing import best
from hw.unit import Unit

__all__ = ["TreeArray"]

REGISTERS = ("behind", "inside")


class TreeArray(Engine):
    """T x O cells, each a tree of R multipliers and an accumulator; operands are broadcast.

    With ``mac`` the template describes the tree as one function followed by ``stages`` registers of its
    result, which synthesis retimes into it (``-retiming`` in Vivado, ``abc -dff`` in yosys). In this
    form one compiled function serves all cells of a simulation. A flow that does not retime wants the
    ``registers`` inside: behind the products and behind each level of adders.

    With ``opt1`` and ``opt2`` (HPCA 2025) the products and their sum stay in carry-save form, from the digits of
    the activations, recoded once for all outputs, to the row that leaves. ``opt2`` sums the digits of each
    weight apart.

    With ``dsp_packed`` a slice makes the products of two or more cells (outputs that share an activation; for narrow
    numbers also token rows that share a weight). Chains of slices sum as many as their fields hold, a short tree the
    chains (:class:`hw.dsp.packed_dot.PackedDot`); operands wait in shift registers until it is their tap's turn. Made
    of ``generic`` multipliers it is ``mac``.

    Any other name is that of a :class:`~hw.arrays.own_pe.DotPe`: each cell has one in the place of its tree.

    Latency
    -------
    With ``mac``, ``dsp_packed`` and a ``DotPe`` ``stages + 1``: their registers, then the accumulator. Else operands,
    the rows of the products, the registers inside their tree, the accumulator, the resolving adder.

    Parameters
    ----------
    stages : int
        With ``mac``: registers in a tree; by default one for the products and one for every two levels of
        adders.
    registers : str
        With ``mac``: where they are, "behind" or "inside" (there their number is given).
    cut : int
        With the others: levels of carry-save adders between registers; 0: none.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "tree"
    pes = ("mac", "dsp_packed", "opt1", "opt2")
    template = "arrays/tree.sv.j2"

    def __init__(
        self, *, reduce: int, pe: str = "mac", stages: int | None = None, registers: str = "behind",
        cut: int = 4, **common: Any,
    ) -> None:  # fmt: skip
        if registers not in REGISTERS:
            raise ValueError(f"registers must be {' or '.join(REGISTERS)}, not {registers!r}")
        levels = (reduce - 1).bit_length()
        if stages is None:
            stages = 1 + (levels if registers == "inside" else (levels + 1) // 2)
        if stages < 1 or (registers == "inside" and stages != levels + 1):
            least = f"{levels + 1} inside" if registers == "inside" else "at least 1"
            raise ValueError(f"stages must be {least}, not {stages!r}")
        if cut < 0:
            raise ValueError(f"cut must be 0 or more, not {cut!r}")
        key: dict[str, int | str] = {"c": cut}
        if pe in OWN_PES:
            key = {}
        elif pe == "dsp_packed" and common.get("dsp") != "generic":
            key = {}  # as many as its chains need
        elif pe in ("mac", "dsp_packed"):
            key = {"s": stages} | ({"registers": registers} if registers != "behind" else {})
        self.registers = registers
        super().__init__(reduce=reduce, pe=pe, key=key, **common)
        self._parts = self._packed = self._own = None
        if self.sliced:
            packing = best(self.w_bits, self.x_bits, self.tokens)
            self._packed = PackedDot(elements=reduce, packing=packing)
            self.template = "arrays/packed_tree.sv.j2"
            stages = int(self._packed.latency)
        elif pe in OWN_PES:
            self._own = OWN_PES[pe](lanes=reduce, x_bits=self.x_bits, w_bits=self.w_bits)
            stages = int(self._own.latency)
        elif pe not in ("mac", "dsp_packed"):
            self._parts = self.carry_save(reduce, cut=cut, encoders=reduce)
            stages = 2 + int(self._parts.element.latency)
        self.stages = stages

    @classmethod
    def known_pes(cls) -> tuple[str, ...]:
        return (*cls.pes, *OWN_PES)

    @property
    def latency(self) -> int:
        return self.stages + 1 + (self._parts.resolve.latency if self._parts else 0)

    @property
    def _groups(self) -> int:
        """Sets of cells that share their slices."""
        assert self._packed is not None
        packing = self._packed.packing
        return -(-self.tokens // packing.narrow.count) * -(-self.outputs // packing.wide.count)

    @property
    def grain(self) -> tuple[int, int] | None:
        if self._packed:  # operands wait outside of the parts
            return self._packed.packing.narrow.count, self._packed.packing.wide.count
        return super().grain

    def parts(self) -> list[Unit]:
        if self._packed:
            return [self._packed] * self._groups
        if self._own:
            return [self._own] * (self.tokens * self.outputs)
        if self._parts is None:
            return []
        encoders = [self._parts.encoder] * self.tokens if self._parts.encoder else []
        cells = [self._parts.element] * (self.tokens * self.outputs)
        return [*encoders, *cells, *[self._parts.resolve] * self.outputs]

    def resources(self) -> Resources:
        """One DSP a multiplier with its product register, or compressors in LUTs; sums in LUTs."""
        cells, dot = (
            self.tokens * self.outputs,
            accumulator_bits(self.reduce, self.x_bits, self.w_bits),
        )
        if self._parts:
            element, resolve = self._parts.element, self._parts.resolve
            compressors = element.lanes * digit_count(self.x_bits) * 2 * (self.w_bits + 1)
            rows = (self.tokens + 1) * self.outputs * element.word_bits
            held = 2 * element.dot.out_bits * len(element.words) * element.latency
            operands = self.tokens * self.reduce * self._parts.lane_bits
            return Resources(
                dsp=0,
                lut=cells * (compressors + 2 * element.word_bits)
                + rows
                + self.outputs * resolve.width,
                ff=cells * (held + element.word_bits)
                + rows
                + operands
                + self.outputs * self.reduce * self.w_bits,
                bram=0,
            )
        rows = (self.tokens + 1) * self.outputs * self.acc_bits
        if self._packed:
            groups, dot = self._groups, self._packed
            tokens = -(-self.tokens // dot.packing.narrow.count)
            bits = tokens * dot.narrow_bits + self.outputs * self.w_bits
            # Two cycles are cheaper in flip-flops than in a shift register.
            short = bits * sum(delay for delay in dot.delays if delay < 3)
            long = bits * sum(1 + (delay - 1) // 32 for delay in dot.delays if delay > 2)
            return Resources(
                dsp=groups * self.reduce,
                lut=groups * dot.lut + long + cells * self.acc_bits + rows,
                ff=groups * dot.ff + short + cells * self.acc_bits + rows,
                bram=0,
            )
        if self._own:
            one = self._own.resources()
            return Resources(
                dsp=cells * one.dsp,
                lut=cells * (one.lut + self.acc_bits) + rows,
                ff=cells * (one.ff + self.acc_bits) + rows,
                bram=cells * one.bram,
            )
        adders = (self.reduce - 1) * (self.x_bits + self.w_bits + 1)
        # Behind the products (in the DSPs) each further register halves the sums twice, or once.
        halved = 1 if self.registers == "inside" else 2
        registers = sum(max(1, self.reduce >> (halved * s)) for s in range(1, self.stages)) * dot
        return Resources(
            dsp=self.macs,
            lut=cells * (adders + self.acc_bits) + rows,
            ff=cells * (registers + self.acc_bits) + rows,
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        found = super().context() | {"stages": self.stages, "registers": self.registers}
        if self._packed:
            packing = self._packed.packing
            return found | self.dot_context(self.reduce) | {
                "packed": self._packed,
                "token_groups": -(-self.tokens // packing.narrow.count),
                "output_groups": -(-self.outputs // packing.wide.count),
                "delays": self._packed.delays,
            }  # fmt: skip
        if self._own:
            return found | {"own": self._own}
        if self.pe == "dsp_packed":
            found["pe"] = "mac"
        if self._parts is None:
            return found | (self.dot_context(self.reduce) if self.registers == "behind" else {})
        return found | {"parts_of": self._parts}
