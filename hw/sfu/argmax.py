# SPDX-License-Identifier: Apache-2.0
"""The greedy choice."""

from typing import Any

from amaranth.hdl import signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.unit import TemplateUnit

__all__ = ["ArgMax"]


class ArgMax(TemplateUnit):
    """Index of the first maximum of a sequence of words.

    A tree with a register behind every comparison, then a comparison with the best so far.

    Latency
    -------
    The result is valid ``latency`` cycles after the word with ``last`` entered. A word per cycle;
    the next sequence may follow at once. While a result is not taken, everything waits.

    Parameters
    ----------
    lanes : numbers in a word, at least 2.
    index_bits : width of the index; indices count modulo ``2**index_bits``.

    Members
    -------
    i : ``In(stream)`` of ``y`` (s16 per lane), ``limit`` (lanes from ``limit`` on are ignored) and
        ``last``. Lane ``l`` of word ``n`` of the sequence has the index ``n * lanes + l``. At least
        one lane of the sequence must count.
    o : ``Out(stream)`` of ``index`` and ``value`` (s16).

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    template = "sfu/arg_max.sv.j2"

    def __init__(self, lanes: int, index_bits: int) -> None:
        if lanes < 2:
            raise ValueError(f"A word needs at least 2 lanes, not {lanes!r}")
        self.depth = (lanes - 1).bit_length()
        if index_bits < self.depth:
            raise ValueError(
                f"An index of {lanes} lanes needs {self.depth} bits, not {index_bits!r}"
            )
        self.lanes, self.index_bits = lanes, index_bits
        self.i_layout = StructLayout(
            {
                "y": ArrayLayout(signed(16), lanes),
                "limit": bits_for(lanes),
                "last": 1,
            }
        )
        self.o_layout = StructLayout({"index": index_bits, "value": signed(16)})
        super().__init__(
            {
                "i": In(stream.Signature(self.i_layout)),
                "o": Out(stream.Signature(self.o_layout)),
            },
            {"l": lanes, "i": index_bits},
        )

    @property
    def latency(self) -> int:
        """Cycles from the last word to the result."""
        return self.depth + 2

    def context(self) -> dict[str, Any]:
        return {
            "lanes": self.lanes,
            "index_bits": self.index_bits,
            "limit_bits": bits_for(self.lanes),
            "depth": self.depth,
        }
