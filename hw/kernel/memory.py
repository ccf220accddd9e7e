# SPDX-License-Identifier: Apache-2.0
"""Scratchpads of a core."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["LaneMemory", "RowMemory", "address_bits"]


def address_bits(words: int) -> int:
    """Bits of the address of so many words, at least one."""
    return max(1, (words - 1).bit_length())


class LaneMemory(TemplateUnit):
    """Words whose lanes are written by themselves and read together.

    Latency
    -------
    ``rd_data`` is the word of ``rd_row`` one cycle after ``rd_en``, and holds while that is low. A word can be read
    in the cycle after it was written.

    Parameters
    ----------
    bits : of a lane.
    lanes : of a word.
    depth : words.

    Members
    -------
    wr_en : ``In(lanes)``
        Which lanes of ``wr_row`` take theirs of ``wr_data``.
    rd_en, rd_row, rd_data
        Of a read.
    """

    template = "kernel/lane_memory.sv.j2"

    def __init__(self, *, bits: int, lanes: int, depth: int) -> None:
        if min(bits, lanes, depth) < 1:
            raise ValueError(f"Sizes must be at least 1, not {bits!r}, {lanes!r}, {depth!r}")
        self._sizes = {"bits": bits, "lanes": lanes, "depth": depth}
        address = address_bits(depth)
        super().__init__(
            {
                "wr_en": In(lanes), "wr_row": In(address), "wr_data": In(lanes * bits),
                "rd_en": In(1), "rd_row": In(address), "rd_data": Out(lanes * bits),
            },
            {"w": bits, "l": lanes, "d": depth},
        )  # fmt: skip

    def context(self) -> dict[str, Any]:
        return self._sizes | {"address_bits": address_bits(self._sizes["depth"])}


class RowMemory(TemplateUnit):
    """Rows of images or matrices: words of neighbours, with copies of the edges of the words beside them.

    A bank is written a word a cycle, from one of two sides; all banks are read at once, each at its own address.
    Writing the word of an address also writes its last ``left`` lanes beside the next address, and its first ``right``
    lanes beside the one before.

    Latency
    -------
    Of reading and writing that of :class:`LaneMemory`.

    Parameters
    ----------
    bits, lanes : of a word, as there.
    left, right : lanes of the neighbours.
    groups : banks.
    depth : words of a bank.

    Members
    -------
    wr_en, wr_bank, wr_row, wr_data
        One word.
    wr_low, wr_high : ``In(1)``
        The lower and the higher half of its lanes are written. If there is no lower one, the word before has its edge
        already.
    wr_first : ``In(1)``
        The first word of a row: there is none before.
    ld_en, ld_ready, ld_bank, ld_row, ld_data, ld_first
        A whole word at the same time; it is taken if the other one goes to another bank.
    rd_en, rd_rows
        Addresses side by side.
    center, prior, behind : ``Out``
        Of each bank the word and its neighbours' edges, side by side. No lane: one bit that means nothing.
    """

    template = "kernel/row_memory.sv.j2"

    def __init__(
        self, *, bits: int, lanes: int, left: int, right: int, groups: int, depth: int
    ) -> None:
        if min(bits, lanes, groups, depth) < 1 or not 0 <= left <= lanes or not 0 <= right <= lanes:
            raise ValueError("Sizes must be at least 1, edges within a word")
        self._sizes = {
            "bits": bits, "lanes": lanes, "left": left, "right": right, "groups": groups, "depth": depth
        }  # fmt: skip
        address = address_bits(depth)
        super().__init__(
            {
                "wr_en": In(1), "wr_bank": In(address_bits(groups)), "wr_row": In(address),
                "wr_data": In(lanes * bits), "wr_low": In(1), "wr_high": In(1), "wr_first": In(1),
                "ld_en": In(1), "ld_ready": Out(1), "ld_bank": In(address_bits(groups)), "ld_row": In(address),
                "ld_data": In(lanes * bits), "ld_first": In(1),
                "rd_en": In(1), "rd_rows": In(groups * address),
                "center": Out(groups * lanes * bits), "prior": Out(max(1, groups * left * bits)),
                "behind": Out(max(1, groups * right * bits)),
            },
            {"w": bits, "l": lanes, "a": left, "b": right, "g": groups, "d": depth},
        )  # fmt: skip

    def context(self) -> dict[str, Any]:
        sizes = self._sizes
        return sizes | {
            "address_bits": address_bits(sizes["depth"]),
            "bank_bits": address_bits(sizes["groups"]),
        }
