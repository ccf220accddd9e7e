# SPDX-License-Identifier: Apache-2.0
"""Attention on PIM channels: the part of a core that has keys and values where the products are made."""

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, fifo, stream
from amaranth.lib.wiring import In, Out

from hw.core.config import CoreConfig
from hw.core.feeder import tile_layout
from hw.core.program import Destination
from hw.pim.cache import BURST_BYTES
from hw.pim.station import PimStation
from hw.unit import Unit, place

__all__ = ["PimAttention"]

ROWS = 4
"""Rows between stations and drain."""


class PimAttention(Unit):
    """Plays an attention step on PIM channels, token after token, all heads of a token together.

    Queries go to the stations, whose channels multiply them with all keys; scores go the way of the engine's rows
    (drain, softmax); probabilities come back to the stations, and the sums of values go the same way, to the context.
    The integers are those of the engine.

    Members
    -------
    rows : keys and values from the drain
    writing : some are not yet in the banks
    restart : pulse: the channels are refreshed, so that a run takes the same cycles whenever it begins
    layer, past, length : of the pass; stable
    start : pulse; ``done`` follows when the last row has left
    a_en, a_addr, a_data : read port of the activation buffer
    p_en, p_slot, p_chunk, p_data : read port of the softmax unit's probabilities
    softmax_done : an item's probabilities are there
    tile : a descriptor for each row (``phase`` and ``buffer`` are the feeder's)
    o : rows of accumulators, each the ``last`` of its tile
    waiting : no row was there
    opened, multiplied, written, refreshed, fault : of the first channel (:class:`hw.pim.station.PimStation`); ``fault``
        of any
    """

    def __init__(self, config: CoreConfig, acc_bits: int) -> None:
        c = self._config = config
        self._acc_bits = acc_bits
        super().__init__(
            {
                "rows": In(stream.Signature(data.StructLayout({
                    "value": 1, "token": range(c.chunk), "chunk": 16, "data": c.lanes * 8, "phase": 8,
                }))),
                "writing": Out(1), "restart": In(1),
                "layer": In(8), "past": In(range(c.context + 1)), "length": In(range(c.chunk + 1)),
                "start": In(1), "done": Out(1),
                "a_en": Out(1), "a_addr": Out(range(c.activation_depth)),
                "a_data": In(c.tokens * c.lanes * 8),
                "p_en": Out(1), "p_slot": Out(range(c.slots)), "p_chunk": Out(range(c.context_chunks)),
                "p_data": In(c.lanes * 8), "softmax_done": In(1),
                "tile": Out(stream.Signature(tile_layout(c))),
                "o": Out(stream.Signature(data.StructLayout({"acc": c.lanes * acc_bits, "last": 1}))),
                "waiting": Out(1),
                "opened": Out(1), "multiplied": Out(1), "written": Out(1), "refreshed": Out(1),
                "fault": Out(1),
            },
            c.cache.key | {"n": c.cache.channels, "t": c.tokens, "k": c.chunk, "x": c.slots, "acc": acc_bits},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        s = c.cache
        lane_bits, token_bits = (c.lanes - 1).bit_length(), (c.tokens - 1).bit_length()
        stations = [
            place(m, f"station_{n}", PimStation(s, self._acc_bits)) for n in range(s.channels)
        ]
        self._write(m, stations)
        self._count(m, stations)

        # The token, its columns, and the loops over rows that come back: h, u, n, and the channel innermost.
        token, columns = Signal(range(c.chunk)), Signal(range(c.context + 1))
        left, here, base = (
            Signal(range(c.context + 1)),
            Signal(range(s.tile + 1)),
            Signal(range(c.context_chunks + 1)),
        )
        chunks, rows = Signal(range(c.context_chunks + 1)), Signal(range(s.tile // c.lanes + 1))
        h, u = Signal(range(max(2, s.heads_here))), Signal(range(max(2, s.shared)))
        n = Signal(range(max(c.context_chunks, c.head_words) + 1))
        channel = Signal(range(max(2, s.channels)))
        last_row = Signal()
        m.d.comb += [
            columns.eq(self.past + token + 1),
            chunks.eq((columns + (c.lanes - 1)) >> lane_bits),
            last_row.eq(left <= s.tile),
            here.eq(Mux(last_row, left, s.tile)),
            rows.eq((here + (c.lanes - 1)) >> lane_bits),
        ]
        end_c, end_u, end_h = channel == s.channels - 1, u == s.shared - 1, h == s.heads_here - 1
        head = (h * s.channels + channel) * s.shared + u  # of the query

        # What is read in one cycle goes to the stations in the next.
        writes, to = Signal(), Signal(range(max(2, s.channels)))
        address = Signal(range(s.vector_words * BURST_BYTES // c.lanes))
        from_softmax, bank = Signal(), Signal(range(max(2, c.tokens)))
        m.d.comb += bank.eq(token[:token_bits] if token_bits else 0)
        word = Mux(from_softmax, self.p_data, self.a_data.word_select(bank, 8 * c.lanes))
        for k, station in enumerate(stations):
            m.d.comb += [
                station.v_en.eq(writes & (to == k)), station.v_addr.eq(address),
                station.v_data.eq(word), station.restart.eq(self.restart), station.layer.eq(self.layer),
                station.length.eq(columns),
            ]  # fmt: skip
        m.d.sync += writes.eq(self.a_en | self.p_en)

        # A row and its descriptor leave together, each into a queue: the drain's, and one that is as slow.
        want, offered, ready = Signal(), Signal(), Signal()
        m.submodules.queue = queue = fifo.SyncFIFOBuffered(
            width=c.lanes * self._acc_bits, depth=ROWS
        )
        streams = Array(station.o for station in stations)
        payloads = Array(station.o.payload for station in stations)
        m.d.comb += [
            offered.eq(Array(st.valid for st in streams)[channel]),
            self.tile.valid.eq(want & offered & queue.w_rdy),
            ready.eq(self.tile.valid & self.tile.ready),
            self.waiting.eq(want & ~offered),
        ]
        for k, station in enumerate(stations):
            m.d.comb += station.o.ready.eq(ready & (channel == k))
        m.d.comb += [
            queue.w_en.eq(ready), queue.w_data.eq(payloads[channel]), queue.r_en.eq(self.o.ready),
            self.o.valid.eq(queue.r_rdy), self.o.p.acc.eq(queue.r_data), self.o.p.last.eq(1),
        ]  # fmt: skip
        tile = self.tile.p
        m.d.comb += [tile.rows.eq(1), tile.token.eq(token), tile.slot.eq(head)]

        finished = Signal(range(c.heads + 1))  # items whose probabilities wait
        fetched = Signal()
        m.d.sync += finished.eq(finished + self.softmax_done - fetched)

        def following(ends: Any, inner: list) -> list:
            """The next (h, u): channels first, then what ``inner`` counts, which ``ends``."""
            return [
                channel.eq(Mux(end_c, 0, channel + 1)),
                *inner,
                u.eq(Mux(ends, Mux(end_u, 0, u + 1), u)),
                h.eq(Mux(ends & end_u, Mux(end_h, 0, h + 1), h)),
            ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [token.eq(0), h.eq(0), u.eq(0), n.eq(0), channel.eq(0)]
                with m.If(self.start):
                    m.next = "WRITTEN"
            with m.State("WRITTEN"):
                with m.If(~self.writing):
                    m.next = "QUERIES"
            with m.State("QUERIES"):
                # In the order of the query heads: turns, channels, heads of a channel.
                end_n = n == c.head_words - 1
                m.d.comb += [
                    self.a_en.eq(1),
                    self.a_addr.eq(
                        c.query_base
                        + (token >> token_bits) * c.width_words
                        + head * c.head_words
                        + n
                    ),
                ]
                m.d.sync += [
                    from_softmax.eq(0), to.eq(channel),
                    address.eq(u * (s.query_bursts * BURST_BYTES // c.lanes) + h * c.head_words + n),
                    n.eq(Mux(end_n, 0, n + 1)),
                ]  # fmt: skip
                with m.If(end_n):
                    m.d.sync += following(end_c, [])
                    with m.If(end_c & end_u & end_h):
                        m.next = "KEYS"
            with m.State("KEYS"):
                # The last word is written now, and read later by those that begin now.
                m.d.comb += [station.keys.eq(1) for station in stations]
                m.d.sync += [left.eq(columns), base.eq(0)]
                m.next = "SCORES"
            with m.State("SCORES"):
                end_n = n == rows - 1
                m.d.comb += [
                    want.eq(1), tile.destination.eq(Destination.SCORE),
                    tile.chunk.eq(base + n), tile.columns.eq(columns), tile.chunks.eq(chunks),
                    tile.item_end.eq(last_row & end_n),
                ]  # fmt: skip
                with m.If(ready):
                    m.d.sync += following(end_c & end_n, [])
                    with m.If(end_c):
                        m.d.sync += n.eq(Mux(end_n, 0, n + 1))
                        with m.If(end_n & end_u & end_h):
                            m.d.sync += [left.eq(left - s.tile), base.eq(base + s.tile // c.lanes)]
                            with m.If(last_row):
                                m.next = "PROBABILITIES"
            with m.State("PROBABILITIES"):
                # In the order in which scores were complete.
                at_span = Signal(range(max(2, s.span // c.lanes)))
                per_span = s.span // c.lanes
                end_n = n == chunks - 1
                m.d.comb += [
                    self.p_en.eq(finished != 0), self.p_slot.eq(head), self.p_chunk.eq(n),
                    fetched.eq(self.p_en & end_n), at_span.eq(n & (per_span - 1)),
                ]  # fmt: skip
                m.d.sync += [
                    from_softmax.eq(1), to.eq(channel),
                    address.eq(
                        (((n >> (per_span - 1).bit_length()) * s.shared + u) * s.heads_here + h) * per_span
                        + at_span
                    ),
                ]  # fmt: skip
                with m.If(self.p_en):
                    m.d.sync += n.eq(Mux(end_n, 0, n + 1))
                    with m.If(end_n):
                        m.d.sync += following(end_c, [])
                        with m.If(end_c & end_u & end_h):
                            m.next = "VALUES"
            with m.State("VALUES"):
                m.d.comb += [station.values.eq(1) for station in stations]
                m.next = "CONTEXT"
            with m.State("CONTEXT"):
                end_n = n == c.head_words - 1
                m.d.comb += [
                    want.eq(1), tile.destination.eq(Destination.ACTIVATION), tile.by_row.eq(1),
                    tile.address.eq(
                        c.context_base + (token >> token_bits) * c.width_words + head * c.head_words + n
                    ),
                    tile.chunk.eq(head * c.head_words + n),
                ]  # fmt: skip
                with m.If(ready):
                    m.d.sync += following(end_c & end_n, [])
                    with m.If(end_c):
                        m.d.sync += n.eq(Mux(end_n, 0, n + 1))
                        with m.If(end_n & end_u & end_h):
                            m.d.sync += token.eq(token + 1)
                            m.next = "QUERIES"
                            with m.If(token == self.length - 1):
                                m.next = "LEAVE"
            with m.State("LEAVE"):
                with m.If(queue.level == 0):  # pyright: ignore[reportAttributeAccessIssue]
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        return m

    def _write(self, m: Module, stations: list[PimStation]) -> None:
        """Rows of keys and values go to the channel of their head."""
        c = self._config
        s = c.cache
        head, block = Signal(range(c.kv_heads)), Signal(range(max(2, c.head_words)))
        word_bits, channel_bits = (c.head_words - 1).bit_length(), (s.channels - 1).bit_length()
        m.d.comb += [
            head.eq(self.rows.p.chunk >> word_bits),
            block.eq(self.rows.p.chunk & (c.head_words - 1)),
            self.rows.ready.eq(
                Array(station.rows.ready for station in stations)[head[:channel_bits]]
                if channel_bits
                else stations[0].rows.ready
            ),
        ]
        writing = 0
        for k, station in enumerate(stations):
            mine = (head[:channel_bits] == k) if channel_bits else 1
            row = station.rows.p
            m.d.comb += [
                station.rows.valid.eq(self.rows.valid & mine), row.value.eq(self.rows.p.value),
                row.head.eq(head >> channel_bits), row.block.eq(block),
                row.position.eq(self.past + self.rows.p.token), row.data.eq(self.rows.p.data),
            ]  # fmt: skip
            writing |= station.writing
        m.d.comb += self.writing.eq(writing)

    def _count(self, m: Module, stations: list[PimStation]) -> None:
        first, fault = stations[0], 0
        for station in stations:
            fault |= station.fault
        m.d.comb += [self.fault.eq(fault)] + [
            getattr(self, name).eq(getattr(first, name))
            for name in ("opened", "multiplied", "written", "refreshed")
        ]
