# SPDX-License-Identifier: Apache-2.0
"""What goes to memory: rows of results, packed into its words, in the order in which they are made."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from hw.kernel.drain import store_layout
from hw.kernel.program import CoreShape
from hw.memory.buffers import Queue
from hw.memory.burst import BurstCutter
from hw.unit import Unit, place

__all__ = ["StreamWriter"]

BURST, QUEUE = 16, 64


class StreamWriter(Unit):
    """Packs rows and writes them to consecutive words of memory; a tensor's last row fills up its word with zeros.

    Members
    -------
    base : address of the first word, whole pages.
    start : ``In(1)``
        A pulse.
    i : ``In(stream)``
        Rows, as ``store_layout`` says.
    done : ``Out(1)``
        Memory has answered all writes.
    aw*, w*, b* : of AXI4.
    """

    def __init__(self, shape: CoreShape, *, words: int, halves: bool, wholes: bool) -> None:
        self._shape, self._words, self._kinds = shape, words, (wholes, halves)
        data = 8 * shape.port_bytes
        super().__init__(
            {
                "base": In(64), "start": In(1), "i": In(stream.Signature(store_layout(shape))), "done": Out(1),
                "awaddr": Out(64), "awlen": Out(8), "awvalid": Out(1), "awready": In(1),
                "wdata": Out(data), "wstrb": Out(shape.port_bytes), "wlast": Out(1), "wvalid": Out(1),
                "wready": In(1), "bvalid": In(1), "bready": Out(1),
            },
            {
                "n": words, "o": shape.outputs, "b": shape.port_bytes, "w": shape.bits,
                "": "all" if halves and wholes else "halves" if halves else "wholes",
            },
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s = self._shape
        queue = place(m, "queue", Queue(bits=8 * s.port_bytes, depth=QUEUE))
        wholes, halves = self._kinds
        if wholes:
            self._pack(m, queue, s.outputs, ~self.i.p.half if halves else Const(1), "row")
        if halves:
            self._pack(m, queue, s.outputs // 2, self.i.p.half if wholes else Const(1), "half")

        limit = min(BURST, 4096 // s.port_bytes)
        cutter = place(m, "cutter", BurstCutter(limit=limit))
        # Words that wait and belong to no burst yet; a burst is asked for when all of it is there.
        waiting, left = Signal(range(QUEUE + 1)), Signal(9)
        burst, answers = cutter.o, Signal(16)
        put, begin, out = Signal(), Signal(), Signal()
        m.d.comb += [
            cutter.i.valid.eq(self.start), cutter.i.p.stripe.eq(0), cutter.i.p.count.eq(self._words),
            self.awaddr.eq(self.base + (burst.p.stripe << (s.port_bytes.bit_length() - 1))),
            self.awlen.eq(burst.p.words - 1),
            self.awvalid.eq(burst.valid & (left == 0) & (waiting >= burst.p.words)),
            burst.ready.eq(self.awready & (left == 0) & (waiting >= burst.p.words)),
            begin.eq(self.awvalid & self.awready),
            put.eq(queue.i.valid & queue.i.ready),
            self.wvalid.eq(queue.o.valid & (left != 0)), self.wdata.eq(queue.o.payload),
            self.wstrb.eq(~0), self.wlast.eq(left == 1), queue.o.ready.eq(self.wready & (left != 0)),
            out.eq(self.wvalid & self.wready), self.bready.eq(1),
        ]  # fmt: skip
        m.d.sync += [
            waiting.eq(waiting + put - Mux(begin, burst.p.words, 0)),
            left.eq(Mux(begin, burst.p.words, left - out)),
            answers.eq(answers + begin - self.bvalid),
        ]
        written, active = Signal(32), Signal()
        with m.If(self.start):
            m.d.sync += [written.eq(0), active.eq(1)]
        with m.Elif(out):
            m.d.sync += written.eq(written + 1)
        m.d.comb += self.done.eq((written == self._words) & active & (answers == 0))
        return m

    def _pack(self, m: Module, queue: Queue, elements: int, here: Value, name: str) -> None:
        s = self._shape
        bits, port, per = elements * s.bits, 8 * s.port_bytes, s.per_beat(elements)
        data = self.i.p.y[:bits]
        index = Signal(range(max(2, per, -(-bits // port) + 1)), name=f"{name}_index")
        if per:
            held = Signal(max(1, (per - 1) * bits), name=f"{name}_held")
            ends = (index == per - 1) | self.i.p.last
            word = Signal(per * bits, name=f"{name}_word")
            m.d.comb += word.eq(held)
            with m.Switch(index):
                for k in range(per):
                    with m.Case(k):
                        m.d.comb += word[k * bits : (k + 1) * bits].eq(data)
            with m.If(here):
                m.d.comb += [
                    queue.i.valid.eq(self.i.valid & ends), queue.i.payload.eq(word),
                    self.i.ready.eq(queue.i.ready | ~ends),
                ]  # fmt: skip
            with m.If(here & self.i.valid & self.i.ready):
                m.d.sync += index.eq(Mux(ends, 0, index + 1))
                m.d.sync += held.eq(Mux(ends, 0, word))
            return
        parts = -(-bits // port)
        with m.If(here):
            m.d.comb += [
                queue.i.valid.eq(self.i.valid), queue.i.payload.eq(data.word_select(index, port)),
                self.i.ready.eq(queue.i.ready & (index == parts - 1)),
            ]  # fmt: skip
        with m.If(here & self.i.valid & queue.i.ready):
            m.d.sync += index.eq(Mux(index == parts - 1, 0, index + 1))
