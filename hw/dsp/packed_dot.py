# SPDX-License-Identifier: Apache-2.0
"""Sums of products on chains of DSP48E2 slices, several products in each."""

from dataclasses import replace
from typing import Any

from amaranth.lib.wiring import In, Out

from hw.dsp.dsp48e2 import Dsp48e2, opmode
from hw.dsp.packing import Packing, chain_lengths
from hw.unit import TemplateUnit

__all__ = ["LONGEST", "PackedDot"]

LONGEST = 24
"""Taps of a chain at most: a column of slices in a clock region."""


class PackedDot(TemplateUnit):
    """Dot products of ``elements`` places: every pair of a wide and a narrow number has its own sum.

    Chains of slices (PCOUT to PCIN) add up as many products as a field holds; a tree of adders in fabric sums the
    chains. Numbers of the wide operand are packed by the pre-adder, unless they come ``adjusted``. Element r must
    arrive ``delays[r]`` cycles after element 0, because a chain adds one tap a cycle.

    With ``segments`` the slices also accumulate over beats: the last tap of a chain adds its own sum again, except in
    the first beat of a sum, in which the first tap adds the constant. A chain of several segments can be cut between
    them, from beat to beat, by OPMODE alone: then each segment that ends at a cut has a sum of its own.

    Latency
    -------
    ``latency`` cycles with ``run``, from the elements without delay to the sums.

    Parameters
    ----------
    elements : int
        Products of each sum.
    packing : Packing
        Layout of the operands.
    adjusted : bool
        Numbers of the wide operand are those of :meth:`hw.dsp.packing.Packing.adjusted`.
    segments : int
        0: every beat has its own sums; 1, 2, 4: they accumulate, a chain can be cut into so many parts.

    Members
    -------
    run : ``In(1)``
        Everything moves.
    wide : ``In(wide.count * elements * wide.bits)``
        Numbers: element r of number i at ``i * elements + r``.
    narrow : ``In(elements * narrow_bits)``
        The narrow operands, packed.
    first, valid : ``In(taps)``, with ``segments``
        Of the beat whose element with delay d came ``lead`` cycles (``lead + 1``, valid) before, bit d: it starts new
        sums, it counts.
    cut : ``In(2 * taps)``, with two ``segments`` or more
        In the same cycle as ``first``, bits 2d (chains are cut in two) and 2d + 1 (in four).
    sums : ``Out(products * sum_bits)``, for each segment, the last one lowest
        Signed, each ``carry`` (0 or 1) too small.

    Raises
    ------
    ValueError
        For no elements, and for segments that are not equal parts of one chain.
    """

    template = "dsp/packed_dot.sv.j2"

    def __init__(
        self, *, elements: int, packing: Packing, adjusted: bool = False, segments: int = 0
    ) -> None:
        if elements < 1:
            raise ValueError(f"elements must be at least 1, not {elements!r}")
        if segments not in (0, 1, 2, 4):
            raise ValueError(f"segments must be 0, 1, 2 or 4, not {segments!r}")
        self.elements, self.packing, self.adjusted = elements, packing, adjusted
        self.segments = segments
        self.lengths = chain_lengths(elements, min(packing.taps, LONGEST))
        if segments > 1 and (
            len(self.lengths) > 1 or elements % segments or elements < 2 * segments
        ):
            raise ValueError(
                f"{segments} segments need one chain (at most {min(packing.taps, LONGEST)} taps here) of a multiple of "
                f"{segments} taps, two each at least, not {elements}"
            )
        self.taps = self.lengths[0]
        # Each adder of the tree takes one carry, the accumulator behind it the last.
        self.carry = 0 if segments else packing.carry(self.taps)
        self.narrow_bits = packing.narrow.packed_bits(packing.field)
        levels = (len(self.lengths) - 1).bit_length()
        self.sum_bits = packing.field + levels
        self.registers = [(level % 2 == 1 or level == levels - 1) for level in range(levels)]
        ports = {
            "run": In(1),
            "wide": In(packing.wide.count * elements * packing.wide.bits),
            "narrow": In(elements * self.narrow_bits),
            "sums": Out(max(1, segments) * packing.products * self.sum_bits),
        }
        if segments:
            ports |= {"first": In(self.taps), "valid": In(self.taps)}
        if segments > 1:
            ports["cut"] = In(2 * self.taps)
        key: dict[str, int | str] = {
            "r": elements, "w": packing.wide.bits, "x": packing.narrow.bits,
            "i": packing.wide.count, "j": packing.narrow.count, "f": packing.field,
        }  # fmt: skip
        key |= ({"a": 1} if adjusted else {}) | ({"s": segments} if segments else {})
        super().__init__(ports, key)

    @property
    def cell(self) -> Dsp48e2:
        """The slice of every tap."""
        constant = self.packing.constant(1 if self.segments else self.taps)
        return Dsp48e2(
            amultsel="A" if self.adjusted else "AD", breg=1 if self.adjusted else 2,
            dreg=0 if self.adjusted else 1, adreg=0 if self.adjusted else 1,
            creg=0, inmodereg=0, opmodereg=0, alumodereg=0, carryinreg=0, rnd=constant,
        )  # fmt: skip

    @property
    def latency(self) -> int:
        return self.cell.latency + self.taps - 1 + sum(self.registers)

    @property
    def lead(self) -> int:
        """Cycles from an element to ``first``, which reaches the sum through a register of OPMODE."""
        return self.cell.latency - 2

    @property
    def delays(self) -> list[int]:
        """Cycles that each element must wait: its place in its chain, later if the chain is short."""
        chains = len(self.lengths)
        return [r // chains + self.taps - self.lengths[r % chains] for r in range(self.elements)]

    @property
    def whole(self) -> int:
        """Chains with all taps; of element r it is number ``r % chains``."""
        return sum(length == self.taps for length in self.lengths)

    @property
    def lut(self) -> int:
        """Adders of the tree, and what a third number of the wide operand borrows."""
        borrow = (
            (0 if self.adjusted else max(0, self.packing.wide.count - 2))
            * self.packing.wide.bits
            * self.elements
        )
        part = self.taps // max(1, self.segments)
        waits = [
            (part * s + 31) // 32 for s in range(1, self.segments)
        ]  # sums of segments, in shift registers
        borrow += sum(waits) * self.packing.products * self.packing.field
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
        pins = {f"CE{name}": "run" for name in ("A2", "B2", "M", "P")}
        pins |= {"CLK": "clk", "A": "a", "B": "b", "P": "p", "PCOUT": "pcout"}
        if not self.adjusted:
            pins |= {f"CE{name}": "run" for name in ("B1", "D", "AD")}
            pins |= {"D": "d", "INMODE": "5'b00100"}
        first = pins | {"OPMODE": f"9'd{opmode(w='RND')}"}
        following = pins | {"OPMODE": f"9'd{opmode(z='PCIN')}", "PCIN": "tap[i-1].pcout"}
        steered = replace(self.cell, opmodereg=1)
        control = {"OPMODE": "opmode", "CECTRL": "run", "CEP": "count"}
        chains, packing = len(self.lengths), self.packing
        return {
            "elements": self.elements,
            "chains": chains,
            "taps": self.taps,
            "adjusted": self.adjusted,
            "segments": self.segments,
            "part": self.taps // max(1, self.segments),
            "whole": self.whole,
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
            "steered_first": steered.instance("slice", **(first | control)),
            "steered": steered.instance("slice", **(following | control)),
        }
