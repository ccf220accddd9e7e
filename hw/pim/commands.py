# SPDX-License-Identifier: Apache-2.0
"""Commands of a PIM channel: their codes, and the words that carry them."""

from enum import IntEnum

from amaranth.lib.data import StructLayout

from hw.pim.config import BURST_BITS, PimConfig

__all__ = ["Cmd", "Fault", "command_layout", "pim_layout", "request_layout", "slices"]


class Cmd(IntEnum):
    """What a channel can be told; HEADER never reaches the banks."""

    NOP = 0
    ACT = 1
    RD = 2
    WR = 3
    PRE = 4
    PREA = 5
    REF = 6
    GACT = 7
    COMP = 8
    READRES = 9
    COMPS_READRES = 10
    GWRITE = 11
    WRGB = 12
    PIMPRE = 13
    PIMPREA = 14
    HEADER = 15


class Fault(IntEnum):
    """Why the controller refused a command; it drops the command and goes on."""

    NONE = 0
    UNKNOWN = 1
    NO_HEADER = 2
    NESTED_HEADER = 3
    LONG_HEADER = 4
    CLOSED = 5
    NOT_CLOSED = 6
    RANGE = 7


def index_bits(count: int) -> int:
    """Width of a number below ``count``, at least 1."""
    return max(1, (count - 1).bit_length())


def command_layout(c: PimConfig) -> StructLayout:
    """A command: what it is and where it acts.

    Fields
    ------
    cmd : a :class:`Cmd`. bank : for GACT any bank of the group, for PREA and REF of the rank.
    buf : row buffer of the multipliers. entry : page of the vector buffer.
    col : first column of a row, in steps; for RD and WR in bursts. gcol : first column of the vector,
    for WRGB in bursts. k : steps. tail : lanes that count in the last step, 0 for all.
    fresh : the first step starts new sums. last : the sequence ends. est : its promise, in cycles.
    """
    return StructLayout(
        {
            "cmd": 5, "bank": index_bits(c.banks), "row": index_bits(c.rows), "buf": 1,
            "entry": index_bits(c.entries), "col": index_bits(c.cols), "gcol": index_bits(c.cols),
            "k": index_bits(c.cols + 1), "tail": index_bits(c.lanes), "fresh": 1, "last": 1, "est": 13,
        }
    )  # fmt: skip


def pim_layout(c: PimConfig) -> StructLayout:
    """A command for the multipliers, with the data of WRGB."""
    return StructLayout({"command": command_layout(c), "data": BURST_BITS})


def request_layout(c: PimConfig) -> StructLayout:
    """A read or write of one burst; the controller opens and closes the row.

    Of ``data`` the bytes are written whose bit in ``mask`` is set.
    """
    return StructLayout(
        {"write": 1, "bank": index_bits(c.banks), "row": index_bits(c.rows), "col": index_bits(c.bursts),
         "data": BURST_BITS, "mask": BURST_BITS // 8}
    )  # fmt: skip


def slices(layout: StructLayout, word: str) -> dict[str, str]:
    """Verilog of each field of ``word``: ``{"bank": "ca[9:5]", ...}``."""
    return {
        name: f"{word}[{field.offset + field.width - 1}:{field.offset}]"
        for name, field in ((n, layout[n]) for n in layout.members)
    }
