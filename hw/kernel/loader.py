# SPDX-License-Identifier: Apache-2.0
"""What comes from memory: one stream of words in the order in which it is used, dealt out to the scratchpads."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from hw.kernel.issue import COUNT
from hw.kernel.memory import address_bits
from hw.kernel.program import CoreShape, Program, RowsAt
from hw.kernel.tools import choose
from hw.memory.buffers import Queue
from hw.memory.burst import BurstCutter
from hw.unit import Unit, place

__all__ = ["Loader", "StreamReader"]

QUEUE = 256
"""Words of memory that may be on their way or wait: latency and a burst, at full speed."""

PAGE = 4096


class StreamReader(Unit):
    """Reads so many consecutive words of memory; nothing is asked for before there is room for it.

    Members
    -------
    bus : the read half of ``Out(Axi4Signature)``: ``ar*`` and ``r*``.
    base : address of the first word, whole pages.
    start : ``In(1)``
        A pulse.
    o : ``Out(stream)``
        The words.
    """

    def __init__(self, *, words: int, port_bytes: int) -> None:
        self._words, self._bytes = words, port_bytes
        super().__init__(
            {
                "base": In(64), "start": In(1), "o": Out(stream.Signature(8 * port_bytes)),
                "araddr": Out(64), "arlen": Out(8), "arvalid": Out(1), "arready": In(1),
                "rdata": In(8 * port_bytes), "rvalid": In(1), "rready": Out(1),
            },
            {"n": words, "b": port_bytes},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        limit = min(64, PAGE // self._bytes)
        cutter = place(m, "cutter", BurstCutter(limit=limit))
        queue = place(m, "queue", Queue(bits=8 * self._bytes, depth=QUEUE))
        room = Signal(range(QUEUE + 1), init=QUEUE)  # words neither waiting nor asked for
        asked, got = Signal(), Signal()
        burst = cutter.o
        m.d.comb += [
            cutter.i.valid.eq(self.start),
            cutter.i.p.stripe.eq(0),
            cutter.i.p.count.eq(self._words),
            self.arvalid.eq(burst.valid & (room >= limit)),
            self.araddr.eq(self.base + (burst.p.stripe << (self._bytes.bit_length() - 1))),
            self.arlen.eq(burst.p.words - 1),
            burst.ready.eq(self.arready & (room >= limit)),
            asked.eq(self.arvalid & self.arready),
            self.rready.eq(1),
            queue.i.valid.eq(self.rvalid),
            queue.i.payload.eq(self.rdata),
            self.o.valid.eq(queue.o.valid),
            self.o.payload.eq(queue.o.payload),
            queue.o.ready.eq(self.o.ready),
            got.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += room.eq(room - Mux(asked, burst.p.words, 0) + got)
        return m


class Loader(Unit):
    """Deals words of memory out to scratchpads and the ring, segment by segment.

    A word of memory holds whole words of a scratchpad, or several of it make one; segments begin with a word of memory.

    Members
    -------
    run : ``In(1)``
        Low: everything begins anew.
    i : ``In(stream)``
        Words of memory.
    x_valid, x_row, x_data, x_ready : a word for X.
    rows_*, rows_ready : a word for rows, as of ``RowMemory``.
    ring_valid, ring_row, ring_data : a word for the ring; ``words`` so many it has got.
    released : so many words of it are no longer needed.
    loaded : segments that are whole.
    done_en, done_image : a tensor in rows has one more.
    """

    def __init__(self, program: Program, shape: CoreShape, name: str) -> None:
        self._program, self._shape = program, shape
        s = shape
        super().__init__(
            {
                "run": In(1), "i": In(stream.Signature(8 * s.port_bytes)),
                "x_valid": Out(1), "x_ready": In(1), "x_row": Out(address_bits(max(1, s.x_words))),
                "x_data": Out(s.tokens * s.reduce * s.bits),
                "rows_valid": Out(1), "rows_ready": In(1), "rows_bank": Out(address_bits(s.groups)),
                "rows_row": Out(address_bits(max(1, s.row_words))), "rows_first": Out(1),
                "rows_data": Out(s.outputs * s.bits),
                "ring_valid": Out(1), "ring_row": Out(address_bits(max(2, s.ring_words))),
                "ring_data": Out(s.outputs * s.reduce * s.bits), "words": Out(COUNT), "released": In(COUNT),
                "loaded": Out(8), "done_en": Out(1), "done_image": Out(8),
            },
            {"": name},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s, segments = self._shape, self._program.segments
        segment = Signal(range(len(segments) + 1))
        count = Signal(COUNT)  # words of the segment that are done
        last = choose(m, segment, [x.words - 1 for x in segments], "last_word")
        base = choose(m, segment, [x.base for x in segments], "base")
        kinds = {
            "x": [x.to == "x" for x in segments], "ring": [x.to == "ring" for x in segments],
            "rows": [isinstance(x.to, RowsAt) for x in segments],
        }  # fmt: skip
        sizes = {"x": s.tokens * s.reduce, "ring": s.outputs * s.reduce, "rows": s.outputs}
        active = segment != len(segments)
        offered = {k: Signal(name=f"offered_{k}") for k in kinds}
        taken = Signal()
        takes: list[Value] = []
        for kind, which in kinds.items():
            if not any(which):
                continue
            here = choose(m, segment, which, f"is_{kind}")
            word, whole, ends = self._word(
                m, kind, sizes[kind], here & active, taken, count == last, last + 1
            )
            m.d.comb += getattr(self, f"{kind}_data").eq(word)
            m.d.comb += offered[kind].eq(here & active & whole)
            free: Value = Const(1)
            if kind != "ring":
                free = getattr(self, f"{kind}_ready")
            else:
                free = (self.words - self.released)[:COUNT] < s.ring_words
            m.d.comb += getattr(self, f"{kind}_valid").eq(
                offered[kind] & free if kind == "ring" else offered[kind]
            )
            takes.append(offered[kind] & free)
            if ends is not None:
                with m.If(here & active):
                    m.d.comb += self.i.ready.eq(free & ends)
        m.d.comb += taken.eq(Cat(*takes).any())
        m.d.comb += [self.x_row.eq(base + count), self.ring_row.eq(self.words)]
        ring_taken = taken & offered["ring"]
        m.d.sync += self.words.eq(self.words + ring_taken)
        finished = taken & (count == last)
        with m.If(taken):
            m.d.sync += count.eq(Mux(finished, 0, count + 1))
        m.d.sync += self.loaded.eq(segment)  # a cycle later: when the last word can be read
        with m.If(finished):
            m.d.sync += segment.eq(segment + 1)
        if any(kinds["rows"]):
            self._rows(m, segment, taken & offered["rows"])
        with m.If(~self.run):
            m.d.sync += [segment.eq(0), count.eq(0), self.words.eq(0), self.loaded.eq(0)]
        return m

    def _word(
        self,
        m: Module,
        kind: str,
        elements: int,
        here: Value,
        taken: Value,
        last: Value,
        words: Value,
    ) -> tuple[Value, Value, Value | None]:
        """A word of so many elements: it, whether all of it is there, and whether memory's word ends with it (None: it
        waits in a queue, and memory's words are taken)."""
        s = self._shape
        bits, per = elements * s.bits, s.per_beat(elements)
        if per == 1:
            return self.i.payload[:bits], self.i.valid, Const(1)
        index = Signal(range(max(2, per, -(-bits // (8 * s.port_bytes)))), name=f"{kind}_part")
        with m.If(~self.run):
            m.d.sync += index.eq(0)
        if per:
            ends = (index == per - 1) | last
            with m.If(here & taken):
                m.d.sync += index.eq(Mux(ends, 0, index + 1))
            return self.i.payload.word_select(index, bits), self.i.valid, ends
        # Words of several parts wait in a queue: while a scratchpad takes none, the next ones come together.
        parts, port = -(-bits // (8 * s.port_bytes)), 8 * s.port_bytes
        queue = place(m, f"{kind}_queue", Queue(bits=bits, depth=4))
        held, made = (
            Signal((parts - 1) * port, name=f"{kind}_held"),
            Signal(COUNT, name=f"{kind}_made"),
        )
        final, put = index == parts - 1, Signal(name=f"{kind}_put")
        more = here & (made != words)
        m.d.comb += [
            queue.i.payload.eq(Cat(held, self.i.payload)[:bits]),
            queue.i.valid.eq(more & self.i.valid & final), put.eq(queue.i.valid & queue.i.ready),
            queue.o.ready.eq(here & taken),
        ]  # fmt: skip
        with m.If(more & self.i.valid & ~final):
            m.d.sync += [index.eq(index + 1), held.word_select(index, port).eq(self.i.payload)]
        with m.If(put):
            m.d.sync += [index.eq(0), made.eq(made + 1)]
        with m.If((here & taken & last) | ~self.run):
            m.d.sync += made.eq(0)
        with m.If(more):
            m.d.comb += self.i.ready.eq(Mux(final, queue.i.ready, 1))
        return queue.o.payload, queue.o.valid, None

    def _rows(self, m: Module, segment: Value, step: Value) -> None:
        """Where a word of a tensor in rows goes: row by row, in each all channels, in each all tiles."""
        s, segments = self._shape, self._program.segments
        rows = [x.to if isinstance(x.to, RowsAt) else None for x in segments]
        base = choose(m, segment, [r.base if r else 0 for r in rows], "rows_base")
        tiles = choose(m, segment, [r.tiles if r else 0 for r in rows], "tiles")
        stride = choose(m, segment, [r.stride if r else 0 for r in rows], "stride")
        height = choose(m, segment, [r.height - 1 if r else 0 for r in rows], "height")
        channels = choose(m, segment, [x.channels - 1 for x in segments], "channels")
        number = choose(m, segment, [r.number if r else 0 for r in rows], "number")
        t, c, y, bank, at_c, at_y = (
            Signal(24, name=f"row_{k}") for k in ("t", "c", "y", "bank", "at_c", "at_y")
        )
        row_ends = Signal()
        m.d.comb += row_ends.eq(step & (t == tiles - 1) & (c == channels))
        with m.If(step):
            m.d.sync += t.eq(t + 1)
            with m.If(t == tiles - 1):
                m.d.sync += [t.eq(0), c.eq(c + 1), at_c.eq(at_c + stride)]
        with m.If(row_ends):
            m.d.sync += [c.eq(0), at_c.eq(0), y.eq(y + 1), bank.eq(bank + 1)]
            with m.If(bank == s.groups - 1):
                m.d.sync += [bank.eq(0), at_y.eq(at_y + tiles + 1)]
            with m.If(y == height):
                m.d.sync += [y.eq(0), bank.eq(0), at_y.eq(0)]
        m.d.comb += [
            self.rows_bank.eq(bank), self.rows_row.eq(base + at_y + at_c + t), self.rows_first.eq(t == 0),
        ]  # fmt: skip
        m.d.sync += [
            self.done_en.eq(row_ends),
            self.done_image.eq(number),
        ]
        with m.If(~self.run):
            m.d.sync += [x.eq(0) for x in (t, c, y, bank, at_c, at_y)]
