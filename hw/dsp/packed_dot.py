"""Sums of products on chains of DSP48E2 slices, several products in each."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.dsp.dsp48e2 import Dsp48e2, opmode
from hw.dsp.packing import Packing, chain_lengths
from hw.unit import TemplateUnit

__all__ = ["PackedDot"]


class PackedDot(TemplateUnit):
    """Dot products of ``elements`` places: every pair of a wide and a narrow number has its own sum.

    Chains of slices (PCOUT to PCIN) add up as many products as a field holds; a tree of adders in fabric sums the
    chains. Numbers of the wide operand are packed by the pre-adder. Element r must arrive ``delays[r]`` cycles after
    element 0, because a chain adds one tap a cycle.

    Latency
    -------
    ``latency`` cycles with ``run``, from the elements without delay to the sums.

    Parameters
    ----------
    elements : int
        Products of each sum.
    packing : Packing
        Layout of the operands.

    Members
    -------
    run : ``In(1)``
        Everything moves.
    wide : ``In(wide.count * elements * wide.bits)``
        Numbers: element r of number i at ``i * elements + r``.
    narrow : ``In(elements * narrow_bits)``
        The narrow operands, packed.
    sums : ``Out(products * sum_bits)``
        Signed, each ``carry`` (0 or 1) too small.
    """

    template = "dsp/packed_dot.sv.j2"

    def __init__(self, *, elements: int, packing: Packing) -> None:
        if elements < 1:
            raise ValueError(f"elements must be at least 1, not {elements!r}")
        self.elements, self.packing = elements, packing
        self.lengths = chain_lengths(elements, packing.taps)
        self._taps = self.lengths[0]
        # Each adder of the tree takes one carry, the accumulator behind it the last.
        self.carry = packing.carry(self._taps)
        self.narrow_bits = packing.narrow.packed_bits(packing.field)
        levels = (len(self.lengths) - 1).bit_length()
        self.sum_bits = packing.field + levels
        self.registers = [(level % 2 == 1 or level == levels - 1) for level in range(levels)]
        ports = {
            "run": In(1),
            "wide": In(packing.wide.count * elements * packing.wide.bits),
            "narrow": In(elements * self.narrow_bits),
            "sums": Out(packing.products * self.sum_bits),
        }
        super().__init__(
            ports,
            {
                "r": elements, "w": packing.wide.bits, "x": packing.narrow.bits,
                "i": packing.wide.count, "j": packing.narrow.count,
            },
        )  # fmt: skip

    @property
    def cell(self) -> Dsp48e2:
        """The slice of every tap."""
        return Dsp48e2(
            amultsel="AD", breg=2, creg=0, inmodereg=0, opmodereg=0, alumodereg=0, carryinreg=0,
            rnd=self.packing.constant(self._taps),
        )  # fmt: skip

    @property
    def latency(self) -> int:
        return self.cell.latency + self._taps - 1 + sum(self.registers)

    @property
    def delays(self) -> list[int]:
        """Cycles that each element must wait: its place in its chain, later if the chain is short."""
        chains = len(self.lengths)
        return [r // chains + self._taps - self.lengths[r % chains] for r in range(self.elements)]

    @property
    def lut(self) -> int:
        """Adders of the tree, and what a third number of the wide operand borrows."""
        borrow = max(0, self.packing.wide.count - 2) * self.packing.wide.bits * self.elements
        return borrow + self.packing.products * (len(self.lengths) - 1) * (self.packing.field + 1)

    @property
    def ff(self) -> int:
        """Registers of the tree."""
        held = sum(n["count"] * n["bits"] for n in self._levels() if n["registered"])
        return held * self.packing.products

    def _levels(self) -> list[dict[str, int | bool]]:
        """Levels of the tree: sums that enter, sums that leave, bits of those."""
        below, found = len(self.lengths), []
        for level, registered in enumerate(self.registers):
            count = -(-below // 2)
            bits = self.packing.field + level + 1
            found.append({"below": below, "count": count, "bits": bits, "registered": registered})
            below = count
        return found

    def context(self) -> dict[str, Any]:
        enables = {
            f"CE{name}": "run" for name in ("A2", "B1", "B2", "D", "AD", "M", "P")
        }  # fmt: skip
        pins = enables | {
            "CLK": "clk", "A": "a", "D": "d", "B": "b", "INMODE": "5'b00100", "P": "p", "PCOUT": "pcout",
        }  # fmt: skip
        chains, packing = len(self.lengths), self.packing
        first = pins | {"OPMODE": f"9'd{opmode(w='RND')}"}
        following = pins | {"OPMODE": f"9'd{opmode(z='PCIN')}", "PCIN": "tap[i-1].pcout"}
        return {
            "elements": self.elements,
            "chains": chains,
            "taps": self._taps,
            "whole": sum(length == self._taps for length in self.lengths),
            "field": packing.field,
            "step": packing.step,
            "wide": packing.wide.count,
            "wide_bits": packing.wide.bits,
            "narrow_bits": self.narrow_bits,
            "products": packing.products,
            "carry": self.carry,
            "levels": self._levels(),
            "sum_bits": self.sum_bits,
            "first": self.cell.instance("slice", **first),
            "following": self.cell.instance("slice", **following),
        }
