# SPDX-License-Identifier: Apache-2.0
"""Descriptors to bursts."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.unit import Unit

__all__ = ["BurstCutter", "Descriptor"]

Descriptor = data.StructLayout({"stripe": 32, "count": 32})
"""``count`` consecutive words of a port, from word ``stripe``."""


class BurstCutter(Unit):
    """Cuts descriptors into bursts that stay within blocks of ``limit`` words, one burst a cycle.

    A block is aligned to its own size, so no burst crosses a 4 KiB boundary if a block is at most
    that long.

    Latency
    -------
    A burst leaves two cycles after its descriptor entered. Descriptors follow each other without a
    gap; one with ``count`` 0 takes a cycle and gives nothing.

    Parameters
    ----------
    limit : words of a block, a power of two

    Members
    -------
    i : ``In(stream.Signature(Descriptor))``
        What to read.
    o : ``Out(stream.Signature({"stripe": 32, "words": range(limit + 1)}))``
        Bursts of 1 to ``limit`` words, in order.
    """

    i: stream.Interface
    o: stream.Interface

    def __init__(self, *, limit: int) -> None:
        if limit < 1 or limit & (limit - 1):
            raise ValueError(f"Limit must be a power of two, not {limit!r}")
        self._limit = limit
        burst = data.StructLayout({"stripe": 32, "words": limit.bit_length()})
        super().__init__(
            {"i": In(stream.Signature(Descriptor)), "o": Out(stream.Signature(burst))},
            {"l": limit},
        )

    def elaborate(self, platform):
        m = Module()
        block_bits = self._limit.bit_length() - 1
        stripe, remaining, active = Signal(32), Signal(32), Signal()
        room, words = Signal(block_bits + 1), Signal(block_bits + 1)  # of the block, of the burst
        last, move = Signal(), Signal()
        m.d.comb += [
            room.eq(self._limit - stripe[:block_bits]),
            last.eq(remaining <= room),
            words.eq(Mux(last, remaining, room)),
            move.eq(active & (~self.o.valid | self.o.ready)),
            self.i.ready.eq(~active | (move & last)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(move):
            m.d.sync += [
                self.o.valid.eq(1),
                self.o.p.stripe.eq(stripe),
                self.o.p.words.eq(words),
                stripe.eq(Cat(Const(0, block_bits), stripe[block_bits:] + 1)),
                remaining.eq(remaining - words),
                active.eq(~last),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                stripe.eq(self.i.p.stripe),
                remaining.eq(self.i.p.count),
                active.eq(self.i.p.count != 0),
            ]
        return m
