# SPDX-License-Identifier: Apache-2.0
"""Rotary embedding: pairs of adjacent features turned by the angle of their position."""

from typing import Any

from amaranth.hdl import signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["ANGLE_FRACTION", "ROTARY_FRACTION", "Rotary"]

ROTARY_FRACTION = 5
"""Fraction bits of a feature before it is turned."""

ANGLE_FRACTION = 14
"""Fraction bits of a cosine and a sine."""


class Rotary(TemplateUnit):
    """Pairs turned and narrowed to 8 bits (``rotary``), a word per cycle; plain words are only saturated.

    Latency
    -------
    A word leaves ``latency`` cycles after it entered, if ``o`` is ready; while ``o`` holds a word that is not
    taken, everything waits. ``angles`` is read in the cycle after a word entered, or later: it must stay
    until the next word enters.

    Parameters
    ----------
    lanes : features of a word, an even number.
    tag_bits : width of what accompanies a word, at least 1.

    Members
    -------
    i : ``In(stream)`` of ``y`` (s16 per lane), ``plain`` (the word is not turned, and has no fraction bits)
        and ``tag``.
    angles : ``In``, s16 per lane: cosine and sine of each pair.
    o : ``Out(stream)`` of ``y`` (s8 per lane) and ``tag``.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    template = "sfu/rotary.sv.j2"
    latency = 4

    def __init__(self, lanes: int, tag_bits: int) -> None:
        if lanes < 2 or lanes % 2:
            raise ValueError(f"A word needs an even number of lanes, not {lanes!r}")
        if tag_bits < 1:
            raise ValueError(f"A tag needs at least 1 bit, not {tag_bits!r}")
        self.lanes, self.tag_bits = lanes, tag_bits
        word = ArrayLayout(signed(16), lanes)
        self.i_layout = StructLayout({"y": word, "plain": 1, "tag": tag_bits})
        self.o_layout = StructLayout({"y": ArrayLayout(signed(8), lanes), "tag": tag_bits})
        super().__init__(
            {
                "i": In(stream.Signature(self.i_layout)),
                "angles": In(word),
                "o": Out(stream.Signature(self.o_layout)),
            },
            {"l": lanes, "tag": tag_bits},
        )

    def context(self) -> dict[str, Any]:
        return {
            "lanes": self.lanes,
            "tag_bits": self.tag_bits,
            "shift": ROTARY_FRACTION + ANGLE_FRACTION,
        }
