# SPDX-License-Identifier: Apache-2.0
"""On-chip buffers: banks of one write and one read port."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["BankedBuffer"]


class BankedBuffer(TemplateUnit):
    """``banks`` memories side by side: a write goes to one bank, a read takes the same word of all.

    Latency
    -------
    ``r_data`` follows ``r_en`` by one cycle and holds while ``r_en`` is low.

    Parameters
    ----------
    banks, depth : words of each bank
    width : bits of a word
    style : ``"ultra"`` or ``"block"``, a hint to the synthesiser

    Members
    -------
    w_en, w_bank, w_addr, w_data : write port
    r_en, r_addr, r_data : read port; bank b is bits ``b*width`` and up
    """

    template = "core/banked_buffer.sv.j2"

    def __init__(self, *, banks: int, depth: int, width: int, style: str = "block") -> None:
        if banks < 1 or depth < 1 or width < 1:
            raise ValueError(
                f"Banks, depth and width must be at least 1, not {banks!r}, {depth!r}, {width!r}"
            )
        if style not in ("block", "ultra"):
            raise ValueError(f"Style must be 'block' or 'ultra', not {style!r}")
        self._banks, self._depth, self._width, self._style = banks, depth, width, style
        super().__init__(
            {
                "w_en": In(1),
                "w_bank": In(range(banks)),
                "w_addr": In(range(depth)),
                "w_data": In(width),
                "r_en": In(1),
                "r_addr": In(range(depth)),
                "r_data": Out(banks * width),
            },
            {"b": banks, "d": depth, "w": width, "s": style},
        )

    def context(self) -> dict[str, Any]:
        return {
            "banks": self._banks,
            "depth": self._depth,
            "width": self._width,
            "style": self._style,
            "bank_bits": (self._banks - 1).bit_length(),
            "addr_bits": (self._depth - 1).bit_length(),
        }
