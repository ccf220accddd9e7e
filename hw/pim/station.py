# SPDX-License-Identifier: Apache-2.0
"""A PIM channel with what a core needs to use it: rows go in, products of keys and of values come out."""

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out, connect

from hw.pim.cache import BURST_BYTES, RESULTS, CacheShape
from hw.pim.channel import PimChannel
from hw.pim.commands import Cmd, index_bits
from hw.unit import Unit, place

__all__ = ["PimResults", "PimStation", "PimSweep", "PimWriter", "row_layout", "tag_layout"]


def row_layout(shape: CacheShape) -> data.StructLayout:
    """A row of ``lanes`` features of a key or value: whose it is in this channel, and its place in the head."""
    return data.StructLayout({
        "value": 1, "head": index_bits(shape.heads_here), "block": index_bits(shape.head_words),
        "position": index_bits(shape.context), "data": 8 * shape.lanes,
    })  # fmt: skip


def tag_layout(shape: CacheShape) -> data.StructLayout:
    """What becomes of a result.

    Fields
    ------
    value : it is a part of a sum over the rows of values, number ``index``; ``fresh``: the first one.
    leaves : it is complete. ends : the last one of its head (in this row of keys).
    rows : rows of ``lanes`` numbers that count in it, if it has several.
    """
    return data.StructLayout({
        "value": 1, "fresh": 1, "leaves": 1, "ends": 1, "index": index_bits(shape.vectors_here * shape.pieces),
        "rows": index_bits(shape.channel.banks // shape.lanes + 1),
    })  # fmt: skip


def _bits(power: int) -> int:
    return power.bit_length() - 1


class PimWriter(Unit):
    """Writes rows of keys and values into the banks: a row of a key in one transfer, one of a value bank by bank.

    Members
    -------
    rows : :func:`row_layout`
    base : first row of the layer.
    request : to the channel (:func:`hw.pim.commands.request_layout`).
    busy : something is not yet written.
    """

    def __init__(self, shape: CacheShape, mem: Any) -> None:
        self._shape = shape
        super().__init__(
            {
                "rows": In(stream.Signature(row_layout(shape))),
                "base": In(index_bits(shape.channel.rows)),
                "request": Out(mem),
                "busy": Out(1),
            },
            shape.key,
        )

    def elaborate(self, platform: Any) -> Module:
        s, m = self._shape, Module()
        c, layout = s.channel, row_layout(s)
        m.submodules.waiting = waiting = fifo.SyncFIFOBuffered(
            width=layout.size, depth=s.rows_depth
        )
        row: Any = data.View(layout, waiting.r_data)
        feature = Signal(range(s.lanes))
        place_in_head = Signal(range(s.head_size))
        bank_bits, burst_bits = _bits(c.banks), _bits(BURST_BYTES)
        slot, at = Signal(range(s.context)), Signal(range(c.page_bytes))
        ask = self.request.payload
        m.d.comb += [
            waiting.w_data.eq(self.rows.payload),
            waiting.w_en.eq(self.rows.valid),
            self.rows.ready.eq(waiting.w_rdy),
            self.busy.eq(waiting.level != 0),  # pyright: ignore[reportAttributeAccessIssue]
            self.request.valid.eq(waiting.r_rdy),
            place_in_head.eq(row.block * s.lanes + feature),
            slot.eq(row.position >> bank_bits),
            ask.write.eq(1),
            ask.col.eq(at >> burst_bits),
        ]
        offset = at[:burst_bits]
        with m.If(row.value):
            piece = place_in_head >> bank_bits
            m.d.comb += [
                at.eq((row.head * s.pieces + piece) * s.span + (row.position & (s.span - 1))),
                ask.bank.eq(place_in_head),
                ask.row.eq(self.base + s.key_rows + (row.position >> _bits(s.span))),
                ask.data.eq(row.data.word_select(feature, 8).replicate(BURST_BYTES)),
                ask.mask.eq(Const(1, BURST_BYTES) << offset),
            ]
        with m.Else():
            here = slot & (s.key_slots - 1)
            m.d.comb += [
                at.eq((here * s.heads_here + row.head) * s.head_size + row.block * s.lanes),
                ask.bank.eq(row.position),
                ask.row.eq(self.base + (slot >> _bits(s.key_slots))),
                ask.data.eq(row.data.replicate(BURST_BYTES // s.lanes)),
                ask.mask.eq(Const((1 << s.lanes) - 1, BURST_BYTES) << offset),
            ]
        last = ~row.value | (feature == s.lanes - 1)
        taken = self.request.valid & self.request.ready
        m.d.comb += waiting.r_en.eq(taken & last)
        with m.If(taken):
            m.d.sync += feature.eq(Mux(last, 0, feature + 1))
        return m


class PimSweep(Unit):
    """The commands of a token's products with all keys, or with all values.

    Row after row of the banks: vectors into the vector buffer (queries once, probabilities for each row), then
    sequences that open the row and multiply each vector with it. The order of results is that of heads here, query
    heads that share one, then slots of positions (of keys) or features of a bank (of values).

    Members
    -------
    keys, values : pulse: begin; ``base`` (first row of the layer) and ``length`` (positions) stay until ``idle``.
    word_addr, word : bursts of vectors, read in the same cycle.
    command : to the channel (:func:`hw.pim.commands.pim_layout`).
    tag, tag_valid : of a product that was issued in this cycle (:func:`tag_layout`).
    leaving : a result has left.
    """

    def __init__(self, shape: CacheShape, pim: Any) -> None:
        self._shape = shape
        super().__init__(
            {
                "keys": In(1), "values": In(1), "base": In(index_bits(shape.channel.rows)),
                "length": In(range(shape.context + 1)), "idle": Out(1),
                "word_addr": Out(index_bits(shape.vector_words)), "word": In(8 * BURST_BYTES),
                "command": Out(pim), "tag": Out(tag_layout(shape)), "tag_valid": Out(1),
                "leaving": In(1),
            },
            shape.key,
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        s, m = self._shape, Module()
        c, t = s.channel, s.channel.timing
        bank_bits, lane_bits, burst_bits = _bits(c.banks), _bits(c.lanes), _bits(BURST_BYTES)
        of_value = Signal()
        row, left = Signal(range(max(2, s.layer_rows + 1))), Signal(range(s.context + 1))
        size = Mux(of_value, s.span, s.tile)
        here, last_row = Signal(range(max(s.span, s.tile) + 1)), Signal()
        m.d.comb += [last_row.eq(left <= size), here.eq(Mux(last_row, left, size))]

        # Products of this row: for each head and turn as many as there are slots or features.
        slots, steps = Signal(range(s.key_slots + 1)), Signal(range(c.cols + 1))
        inner = Mux(of_value, s.pieces, slots)
        n_inner = max(s.key_slots, s.pieces)
        h, u = Signal(range(max(2, s.heads_here))), Signal(range(max(2, s.shared)))
        i = Signal(range(max(2, n_inner)))
        todo = Signal(range(s.vectors_here * n_inner + 1))
        count = Signal(range(s.most + 1))
        promise = Signal(13)
        m.d.comb += [
            slots.eq((here + (c.banks - 1)) >> bank_bits),
            steps.eq(Mux(of_value, (here + (c.lanes - 1)) >> lane_bits, s.key_steps)),
        ]
        filled = Mux(steps < t.fill, t.fill, steps)
        each = Signal(range(s.longest + 1))  # cycles of a product
        m.d.comb += each.eq(c.group_cycles(t.fill) + t.comp * (filled - t.fill))

        def advance(last_inner: Any) -> list:
            """The next product, or the first one of the next row."""
            end_u = u == s.shared - 1
            return [
                i.eq(Mux(last_inner, 0, i + 1)),
                u.eq(Mux(last_inner, Mux(end_u, 0, u + 1), u)),
                h.eq(Mux(last_inner & end_u, Mux(h == s.heads_here - 1, 0, h + 1), h)),
            ]

        # Results under way, whose room is reserved before a sequence begins.
        flying = Signal(range(RESULTS + 1))
        m.d.sync += flying.eq(flying + self.tag_valid - self.leaving)

        # Vectors: their bursts lie in the order in which they are wanted.
        word, piece = (
            Signal(range(s.vector_words + 1)),
            Signal(range(s.span_bursts + s.query_bursts)),
        )
        bursts = Signal(range(s.span_bursts + s.query_bursts + 1))
        m.d.comb += [
            bursts.eq(Mux(of_value, (here + (BURST_BYTES - 1)) >> burst_bits, s.query_bursts)),
            self.word_addr.eq(word + piece),
        ]

        command = self.command.payload.command
        taken = self.command.valid & self.command.ready
        m.d.comb += self.command.payload.data.eq(self.word)
        tag = self.tag
        group, gact = Signal(range(max(2, c.banks // c.act_group))), c.banks // c.act_group
        rank_bits = _bits(c.ranks)
        first_bank = ((group >> rank_bits) * c.act_group) + (
            (group & (c.ranks - 1)) * c.banks_per_rank
        )
        positions = Signal(signed(here.shape().width + 2))  # of this slot and the ones behind it
        m.d.comb += positions.eq(here - (i << bank_bits))

        with m.FSM() as fsm:
            m.d.comb += self.idle.eq(fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [
                    of_value.eq(self.values), left.eq(self.length), word.eq(0), piece.eq(0),
                    row.eq(Mux(self.values, s.key_rows, 0)), h.eq(0), u.eq(0), i.eq(0),
                ]  # fmt: skip
                with m.If(self.keys | self.values):
                    m.next = "VECTORS"
            with m.State("VECTORS"):
                m.d.comb += [
                    self.command.valid.eq(1), command.cmd.eq(Cmd.WRGB), command.entry.eq(u),
                    command.gcol.eq(Mux(of_value, h * s.span_bursts, 0) + piece),
                ]  # fmt: skip
                with m.If(taken):
                    m.d.sync += piece.eq(piece + 1)
                    with m.If(piece + 1 == bursts):
                        end_h = ~of_value | (h == s.heads_here - 1)
                        m.d.sync += [
                            piece.eq(0),
                            word.eq(word + Mux(of_value, s.span_bursts, s.query_bursts)),
                            h.eq(Mux(end_h, 0, h + 1)),
                        ]
                        with m.If(end_h):
                            m.d.sync += u.eq(u + 1)
                            with m.If(u == s.shared - 1):
                                m.d.sync += u.eq(0)
                                m.next = "COUNT"
            with m.State("COUNT"):
                m.d.sync += todo.eq(s.vectors_here * inner)
                m.next = "SEQUENCE"
            with m.State("SEQUENCE"):
                m.d.sync += [count.eq(Mux(todo > s.most, s.most, todo)), group.eq(0)]
                m.next = "PROMISE"
            with m.State("PROMISE"):
                m.d.sync += promise.eq(s.promise + count * each)
                m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += [
                    self.command.valid.eq(flying + count <= RESULTS), command.cmd.eq(Cmd.HEADER),
                    command.row.eq(self.base + row), command.est.eq(promise),
                ]  # fmt: skip
                with m.If(taken):
                    m.next = "CLOSE"
            with m.State("CLOSE"):
                m.d.comb += [self.command.valid.eq(1), command.cmd.eq(Cmd.PIMPREA)]
                with m.If(taken):
                    m.next = "OPEN"
            with m.State("OPEN"):
                m.d.comb += [
                    self.command.valid.eq(1), command.cmd.eq(Cmd.GACT),
                    command.bank.eq(first_bank), command.row.eq(self.base + row),
                ]  # fmt: skip
                with m.If(taken):
                    m.d.sync += group.eq(group + 1)
                    with m.If(group == gact - 1):
                        m.next = "STEPS"
            with m.State("STEPS"):
                last_inner, final = i == inner - 1, count == 1
                m.d.comb += [
                    self.command.valid.eq(1), command.cmd.eq(Cmd.COMPS_READRES), command.entry.eq(u),
                    command.k.eq(steps), command.fresh.eq(1), command.last.eq(final),
                    self.tag_valid.eq(taken), tag.value.eq(of_value), tag.ends.eq(last_inner),
                    tag.fresh.eq(row == s.key_rows), tag.leaves.eq(~of_value | last_row),
                    tag.index.eq((h * s.shared + u) * s.pieces + i),
                ]  # fmt: skip
                with m.If(of_value):
                    m.d.comb += [
                        command.col.eq((h * s.pieces + i) * (s.span // c.lanes)),
                        command.gcol.eq(h * (s.span // c.lanes)),
                        command.tail.eq(here[:lane_bits]),
                        tag.rows.eq(self._rows(s.head_size - (i << bank_bits))),
                    ]
                with m.Else():
                    m.d.comb += [
                        command.col.eq((i * s.heads_here + h) * s.key_steps),
                        command.gcol.eq(h * s.key_steps),
                        tag.rows.eq(self._rows(positions)),
                    ]
                with m.If(taken):
                    m.d.sync += [*advance(last_inner), count.eq(count - 1), todo.eq(todo - 1)]
                    with m.If(final):
                        m.next = "SEQUENCE"
                        with m.If(todo == 1):
                            m.d.sync += [row.eq(row + 1), left.eq(left - here)]
                            with m.If(last_row):
                                m.next = "IDLE"
                            with m.Elif(of_value):
                                m.next = "VECTORS"
                            with m.Else():
                                m.next = "COUNT"
        return m

    def _rows(self, numbers: Any) -> Any:
        """Rows of lanes in a result of which so many numbers count, and what is behind it."""
        s = self._shape
        most = s.channel.banks // s.lanes
        if most < 2:
            return Const(1)
        found = (numbers + (s.lanes - 1)) >> _bits(s.lanes)
        return Mux(found > most, most, found)


class PimResults(Unit):
    """Results become rows of ``lanes`` sums: those of values are added up, and words of banks cut or joined.

    Members
    -------
    valid, result : of READRES: a number of each bank.
    tag_valid, tag : what will become of the results, in their order (:class:`PimSweep`).
    leaving : a result is done with.
    o : rows of sums.
    """

    def __init__(self, shape: CacheShape, acc_bits: int) -> None:
        self._shape, self._acc_bits = shape, acc_bits
        c = shape.channel
        super().__init__(
            {
                "valid": In(1), "result": In(c.banks * c.res_bits), "tag_valid": In(1),
                "tag": In(tag_layout(shape)), "leaving": Out(1),
                "o": Out(stream.Signature(shape.lanes * acc_bits)),
            },
            shape.key | {"acc": acc_bits},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        s, m = self._shape, Module()
        banks, bits, lanes = s.channel.banks, s.channel.res_bits, s.lanes
        layout = tag_layout(s)
        m.submodules.words = words = fifo.SyncFIFOBuffered(width=banks * bits, depth=RESULTS)
        m.submodules.tags = tags = fifo.SyncFIFOBuffered(width=layout.size, depth=RESULTS)
        m.submodules.sums = sums = Memory(
            shape=banks * bits, depth=s.vectors_here * s.pieces, init=[]
        )
        keep, kept = sums.write_port(), sums.read_port()
        tag: Any = data.View(layout, tags.r_data)
        m.d.comb += [
            words.w_data.eq(self.result), words.w_en.eq(self.valid),
            tags.w_data.eq(self.tag), tags.w_en.eq(self.tag_valid),
            kept.addr.eq(tag.index), keep.addr.eq(tag.index),
        ]  # fmt: skip
        # The sum so far is read in one cycle and added in the next.
        read, total, whole = Signal(), Signal(banks * bits), Signal(banks * bits)
        here = words.r_rdy & tags.r_rdy
        m.d.comb += [
            kept.en.eq(here & ~read),
            total.eq(Cat(
                (words.r_data.word_select(b, bits) + kept.data.word_select(b, bits))[:bits]
                for b in range(banks)
            )),
            whole.eq(Mux(tag.value & ~tag.fresh, total, words.r_data)),
            keep.data.eq(whole),
        ]  # fmt: skip
        done, offered = Signal(), Signal()
        m.d.comb += [
            offered.eq(here & read & tag.leaves),
            keep.en.eq(here & read & ~tag.leaves),
            self.leaving.eq(done | keep.en),
            words.r_en.eq(self.leaving), tags.r_en.eq(self.leaving),
        ]  # fmt: skip
        m.d.sync += read.eq(here & ~self.leaving)
        (self._cut if banks >= lanes else self._join)(m, tag, whole, offered, done)
        return m

    def _cast(self, value: Any) -> Any:
        """A sum in the bits of the core's accumulators, which hold every sum of the network."""
        own, bits = self._shape.channel.res_bits, self._acc_bits
        return value[:bits] if bits <= own else Cat(value, value[-1].replicate(bits - own))

    def _numbers(self, word: Any, count: int) -> Any:
        bits = self._shape.channel.res_bits
        return Cat(self._cast(word[bits * k : bits * (k + 1)]) for k in range(count))

    def _cut(self, m: Module, tag: Any, whole: Signal, offered: Signal, done: Signal) -> None:
        """A word has one row or several."""
        s = self._shape
        parts = s.channel.banks // s.lanes
        width = s.lanes * s.channel.res_bits
        part = Signal(range(max(2, parts)))
        pieces = Array(whole[width * k : width * (k + 1)] for k in range(parts))
        chosen = Signal(width)
        m.d.comb += [
            chosen.eq(pieces[part]),
            self.o.payload.eq(self._numbers(chosen, s.lanes)),
            self.o.valid.eq(offered),
            done.eq(offered & self.o.ready & (part + 1 == tag.rows)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += part.eq(Mux(done, 0, part + 1))

    def _join(self, m: Module, tag: Any, whole: Signal, offered: Signal, done: Signal) -> None:
        """A row takes several words, fewer at the end of a head."""
        s = self._shape
        parts, width = s.lanes // s.channel.banks, s.channel.banks * s.channel.res_bits
        part = Signal(range(parts))
        held = [Signal(width, name=f"held_{k}") for k in range(parts - 1)]
        full = tag.ends | (part == parts - 1)
        row = Cat(*(Mux(part == k, whole, held[k]) for k in range(parts - 1)), whole)
        m.d.comb += [
            self.o.payload.eq(self._numbers(row, s.lanes)),
            self.o.valid.eq(offered & full),
            done.eq(offered & (~full | self.o.ready)),
        ]
        with m.If(done):
            m.d.sync += part.eq(Mux(full, 0, part + 1))
            for k in range(parts - 1):
                with m.If(part == k):
                    m.d.sync += held[k].eq(whole)


class PimStation(Unit):
    """A channel, and what feeds and empties it; channels of a core are alike, and so are their stations.

    Members
    -------
    rows : keys and values of this channel (:func:`row_layout`).
    layer : whose keys and values these are; stays until they are written and used.
    writing : rows are not yet written.
    restart : pulse: the refreshes begin anew.
    v_en, v_addr, v_data : a word of ``lanes`` numbers of the vectors: of turn u, head h here the queries at byte
        ``u * query_bursts * 64 + h * head_size``, the probabilities of row r of values at
        ``((r * shared + u) * heads_here + h) * span``.
    keys, values, length : begin the products with the first ``length`` keys, values (:class:`PimSweep`).
    o : rows of sums: of keys positions, of values features.
    opened, multiplied, written, refreshed : pulse: a row was opened for the multipliers, a product issued, a
        request written, a rank refreshed.
    fault : the channel has refused a command.
    """

    shared = True

    def __init__(self, shape: CacheShape, acc_bits: int) -> None:
        self._shape, self._acc_bits = shape, acc_bits
        words = shape.vector_words * BURST_BYTES // shape.lanes
        super().__init__(
            {
                "rows": In(stream.Signature(row_layout(shape))), "layer": In(8), "writing": Out(1), "restart": In(1),
                "v_en": In(1), "v_addr": In(index_bits(words)), "v_data": In(8 * shape.lanes),
                "keys": In(1), "values": In(1), "length": In(range(shape.context + 1)),
                "o": Out(stream.Signature(shape.lanes * acc_bits)),
                "opened": Out(1), "multiplied": Out(1), "written": Out(1), "refreshed": Out(1),
                "fault": Out(1),
            },
            shape.key | {"acc": acc_bits},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        s, m = self._shape, Module()
        c = s.channel
        channel = place(m, "channel", PimChannel(c))
        writer = place(m, "writer", PimWriter(s, channel.mem.signature.flip()))
        sweep = place(m, "sweep", PimSweep(s, channel.pim.signature.flip()))
        results = place(m, "results", PimResults(s, self._acc_bits))
        m.submodules.vectors = vectors = Memory(
            shape=data.ArrayLayout(8 * s.lanes, BURST_BYTES // s.lanes),
            depth=s.vector_words,
            init=[],
        )
        put = vectors.write_port(granularity=1)
        get = vectors.read_port(domain="comb")
        parts = BURST_BYTES // s.lanes
        base = Signal(index_bits(c.rows))
        connect(m, channel.mem, writer.request)
        connect(m, channel.pim, sweep.command)
        m.d.comb += [
            base.eq(self.layer * s.layer_rows),
            writer.rows.valid.eq(self.rows.valid), writer.rows.payload.eq(self.rows.payload),
            self.rows.ready.eq(writer.rows.ready), writer.base.eq(base),
            self.writing.eq(writer.busy), channel.restart.eq(self.restart),
            put.addr.eq(self.v_addr >> _bits(parts)),
            put.en.eq(self.v_en << (self.v_addr & (parts - 1))),
            put.data.as_value().eq(self.v_data.replicate(parts)),
            get.addr.eq(sweep.word_addr), sweep.word.eq(get.data.as_value()),
            sweep.keys.eq(self.keys), sweep.values.eq(self.values), sweep.base.eq(base),
            sweep.length.eq(self.length), sweep.leaving.eq(results.leaving),
            results.valid.eq(channel.res_valid), results.result.eq(channel.res_data),
            results.tag_valid.eq(sweep.tag_valid), results.tag.eq(sweep.tag),
            self.o.valid.eq(results.o.valid), self.o.payload.eq(results.o.payload),
            results.o.ready.eq(self.o.ready),
            self.opened.eq(channel.ca_valid & (channel.ca.cmd == Cmd.GACT)),
            self.multiplied.eq(sweep.tag_valid),
            self.written.eq(channel.ca_valid & (channel.ca.cmd == Cmd.WR)),
            self.refreshed.eq(channel.ca_valid & (channel.ca.cmd == Cmd.REF)),
            self.fault.eq(channel.fault != 0),
        ]  # fmt: skip
        return m
