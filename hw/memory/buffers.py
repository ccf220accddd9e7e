# SPDX-License-Identifier: Apache-2.0
"""The two memories of a port: a queue in distributed RAM and a ring in block or ultra RAM."""

from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["Queue", "RingMemory"]


class Queue(TemplateUnit):
    """First in, first out; the word at the front is visible without asking for it.

    Latency
    -------
    A word that enters an empty queue leaves one cycle later.

    Parameters
    ----------
    bits : width of a word
    depth : words it holds, a power of two from 2

    Members
    -------
    i : ``In(stream.Signature(bits))``
        Words; ``ready`` unless the queue is full.
    o : ``Out(stream.Signature(bits))``
        The same words, in order.
    """

    template = "memory/queue.sv.j2"

    def __init__(self, *, bits: int, depth: int) -> None:
        if bits < 1:
            raise ValueError(f"A word must have at least 1 bit, not {bits!r}")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Depth must be a power of two from 2, not {depth!r}")
        self._bits, self._depth = bits, depth
        super().__init__(
            {"i": In(stream.Signature(bits)), "o": Out(stream.Signature(bits))},
            {"w": bits, "d": depth},
        )

    def context(self) -> dict[str, int]:
        return {
            "bits": self._bits,
            "depth": self._depth,
            "index_bits": self._depth.bit_length() - 1,
        }


class RingMemory(TemplateUnit):
    """Rows of ``lanes`` words: written a word at a time, read a row at a time.

    Latency
    -------
    ``rd_data`` is the row of ``rd_row`` one cycle after ``rd_en``, and holds while ``rd_en`` is
    low. A word can be read in the cycle after ``wr_en``.

    Parameters
    ----------
    bits : width of a word
    lanes : words of a row
    depth : rows, a power of two from 2
    style : what it should be made of, ``"ultra"``, ``"distributed"``, or "": what suits a synthesiser

    Members
    -------
    wr_en : ``In(lanes)``
        Which lanes of the row ``wr_row`` take ``wr_data``.
    wr_row, wr_data : ``In``
        Where to and what.
    rd_en, rd_row : ``In``
        Read request.
    rd_data : ``Out(lanes * bits)``
        The row, its first word lowest.
    """

    template = "memory/ring_memory.sv.j2"

    def __init__(self, *, bits: int, lanes: int, depth: int, style: str = "") -> None:
        if bits < 1 or lanes < 1:
            raise ValueError(f"A row must have a word and a word a bit, not {lanes!r} of {bits!r}")
        if depth < 2 or depth & (depth - 1):
            raise ValueError(f"Depth must be a power of two from 2, not {depth!r}")
        self._bits, self._lanes, self._depth, self._style = bits, lanes, depth, style
        row_bits = depth.bit_length() - 1
        super().__init__(
            {
                "wr_en": In(lanes),
                "wr_row": In(row_bits),
                "wr_data": In(bits),
                "rd_en": In(1),
                "rd_row": In(row_bits),
                "rd_data": Out(lanes * bits),
            },
            {"w": bits, "l": lanes, "d": depth, **({"": style} if style else {})},
        )

    def context(self) -> dict[str, int | str]:
        return {
            "bits": self._bits,
            "lanes": self._lanes,
            "depth": self._depth,
            "style": self._style,
            "row_bits": self._depth.bit_length() - 1,
        }
