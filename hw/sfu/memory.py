# SPDX-License-Identifier: Apache-2.0
"""The memory of words that the special function units keep."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["WordMemory"]


class WordMemory(TemplateUnit):
    """One write port, one read port; written so that tools infer distributed or block RAM.

    Latency
    -------
    A word can be read from the cycle after its write. ``r_data`` comes the cycle after ``r_en``,
    and stays.

    Parameters
    ----------
    depth : words.
    bits : width of a word.

    Members
    -------
    w_en, w_addr, w_data : ``In``; write port.
    r_en, r_addr : ``In``; read port.
    r_data : ``Out``.
    """

    template = "sfu/word_memory.sv.j2"

    def __init__(self, depth: int, bits: int) -> None:
        self.depth, self.bits = depth, bits
        self.addr_bits = max(1, (depth - 1).bit_length())
        super().__init__(
            {
                "w_en": In(1),
                "w_addr": In(self.addr_bits),
                "w_data": In(bits),
                "r_en": In(1),
                "r_addr": In(self.addr_bits),
                "r_data": Out(bits),
            },
            {"d": depth, "w": bits},
        )

    def context(self) -> dict[str, Any]:
        return {"depth": self.depth, "bits": self.bits, "addr_bits": self.addr_bits}
