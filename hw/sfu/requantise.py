# SPDX-License-Identifier: Apache-2.0
"""Accumulators become 16-bit numbers."""

from typing import Any

from amaranth.hdl import signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["Requantise"]


class Requantise(TemplateUnit):
    """``clamp(round_half_up((acc + bias) * multiplier / 2**shift))`` to 16 bits, a word per cycle.

    The scheme is that of Jacob et al., CVPR 2018, section 2.2. The product is cut at bit 16 of the
    sum, so that each part fits one DSP48E2.

    Latency
    -------
    A word leaves ``latency`` cycles after it entered, if ``o`` is ready; while ``o`` holds a word
    that is not taken, everything waits.

    Parameters
    ----------
    lanes : channels of a word.
    acc_bits : width of an accumulator, 2 to 32.
    tag_bits : width of what accompanies a word, at least 1.

    Members
    -------
    i : ``In(stream)`` of ``acc``, ``bias`` (s32), ``multiplier`` (u16), ``shift`` (1 to 63), each
        per lane, and ``tag``.
    o : ``Out(stream)`` of ``y`` (s16 per lane) and ``tag``.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    template = "sfu/requantise.sv.j2"
    latency = 5

    def __init__(self, lanes: int, acc_bits: int, tag_bits: int) -> None:
        if lanes < 1:
            raise ValueError(f"A word needs at least 1 lane, not {lanes!r}")
        if not 2 <= acc_bits <= 32:
            raise ValueError(f"Accumulators must have 2 to 32 bits, not {acc_bits!r}")
        if tag_bits < 1:
            raise ValueError(f"A tag needs at least 1 bit, not {tag_bits!r}")
        self.lanes, self.acc_bits, self.tag_bits = lanes, acc_bits, tag_bits
        self.i_layout = StructLayout(
            {
                "acc": ArrayLayout(signed(acc_bits), lanes),
                "bias": ArrayLayout(signed(32), lanes),
                "multiplier": ArrayLayout(16, lanes),
                "shift": ArrayLayout(6, lanes),
                "tag": tag_bits,
            }
        )
        self.o_layout = StructLayout({"y": ArrayLayout(signed(16), lanes), "tag": tag_bits})
        super().__init__(
            {
                "i": In(stream.Signature(self.i_layout)),
                "o": Out(stream.Signature(self.o_layout)),
            },
            {"l": lanes, "a": acc_bits, "tag": tag_bits},
        )

    def context(self) -> dict[str, Any]:
        return {"lanes": self.lanes, "acc_bits": self.acc_bits, "tag_bits": self.tag_bits}
