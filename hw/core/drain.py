# SPDX-License-Identifier: Apache-2.0
"""The drain: takes finished rows from the engine, requantises them, and brings each to its destination."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, fifo, stream
from amaranth.lib.wiring import In, Out

from hw.core.buffers import BankedBuffer
from hw.core.config import CoreConfig
from hw.core.feeder import header_buffers, tile_layout
from hw.core.program import Destination
from hw.sfu.activation import Activation
from hw.sfu.product import GatedProduct
from hw.sfu.requantise import Requantise
from hw.sfu.rotary import Rotary
from hw.unit import Unit, place

__all__ = ["Drain"]

TILES = 16
"""Descriptors held between feeder and drain; the engine has at most two tiles of its own."""


def saturate(value: Any, bits: int) -> Any:
    """Clamp a signed value to ``bits`` bits."""
    top = value[bits - 1 :]
    fits = (top.all() | ~top.any()) if len(top) > 1 else Const(1)
    sign = value[-1]
    return Mux(
        fits, value[:bits], Cat(Const(0, bits - 1) | Mux(sign, 0, (1 << (bits - 1)) - 1), sign)
    )


class Drain(Unit):
    """One row of a tile a cycle, from the engine through :class:`hw.sfu.Requantise` to its destination.

    Rows go to the activation buffer (int8), through :class:`hw.sfu.Activation` to it, to the residual buffer
    (read, add, write), to the key/value writer, to the softmax unit, or to the argmax.

    In a gated network the rows of a gate and of its factor follow one another through the activation, the factor
    unchanged: the gate's stays in a buffer until the factor's multiplies it. In a rotary network queries and keys
    are turned on their way, and values pass the same unit, so that none overtakes another.

    Members
    -------
    rows : stream of accumulators from the engine
    tile : stream of descriptors from the feeder
    p_buffer, p_tile, header : parameters of a tile, read from the header buffers
    multiplier, shift : the activation's constants
    r_slot, r_multiplier, r_shift : multipliers of the rows of a softmax slot
    header_free, header_buffer : the parameters of a tile were used for the last time
    a_* : write port of the activation buffer
    x_r*, x_w* : read and write port of the residual buffer
    t_* : read port of the buffer of the angles, of a rotary network
    kv : stream to the key/value writer
    score, item : to the softmax unit
    logit : stream to the argmax
    retired, kv_retired : a tile (of keys or values) has reached its destination
    row, chunk, phase : of the write on ``a_*`` (``a_row`` ...) and ``x_w*`` (for probes)
    """

    def __init__(self, config: CoreConfig, *, acc_bits: int) -> None:
        c = self._config = config
        self._acc_bits = acc_bits
        lanes, tile = c.lanes, tile_layout(c)
        where = {"row": 16, "chunk": 16, "phase": 8}
        super().__init__(
            {
                "rows": In(stream.Signature(data.StructLayout({"acc": lanes * acc_bits, "last": 1}))),
                "tile": In(stream.Signature(tile)),
                "p_buffer": Out(range(header_buffers(c))),
                "p_tile": Out(range(c.header_tiles)),
                "header": In(lanes * 64),
                "multiplier": In(16),
                "shift": In(6),
                "r_slot": Out(range(c.slots)),
                "r_multiplier": In(16 * c.tokens),
                "r_shift": In(6 * c.tokens),
                "header_free": Out(1),
                "header_buffer": Out(range(header_buffers(c))),
                "a_en": Out(1),
                "a_bank": Out(range(c.tokens)),
                "a_addr": Out(range(c.activation_depth)),
                "a_data": Out(lanes * 8),
                "a_where": Out(data.StructLayout(where)),
                "x_ren": Out(1),
                "x_raddr": Out(range(c.chunk * c.width_words)),
                "x_rdata": In(lanes * 16),
                "x_wen": Out(1),
                "x_waddr": Out(range(c.chunk * c.width_words)),
                "x_wdata": Out(lanes * 16),
                "x_where": Out(data.StructLayout(where)),
                "kv": Out(stream.Signature(data.StructLayout({
                    "value": 1, "token": range(c.chunk), "chunk": 16, "data": lanes * 8, "phase": 8,
                }))),
                "score": Out(data.StructLayout({
                    "valid": 1, "slot": range(c.slots), "row": range(c.tokens),
                    "chunk": range(c.context_chunks), "data": lanes * 16, "limit": range(lanes + 1), "first": 1,
                })),
                "item": Out(stream.Signature(data.StructLayout({
                    "slot": range(c.slots), "rows": range(c.tokens + 1),
                    "chunks": range(c.context_chunks + 1), "columns": range(c.context + 1),
                }))),
                "logit": Out(stream.Signature(data.StructLayout({
                    "y": lanes * 16, "limit": range(lanes + 1), "last": 1,
                }))),
                "retired": Out(1),
                "kv_retired": Out(1),
            } | ({
                "t_en": Out(1), "t_addr": Out(range(c.chunk * c.head_words)), "t_data": In(lanes * 16),
            } if c.rotary else {}),
            {
                "t": c.tokens, "w": lanes, "a": acc_bits, "d": c.width, "v": c.vocabulary,
                "c": c.context, "l": c.chunk, "s": c.slots, "f": c.ffn,
            } | c.variant | ({"pim": 1} if c.pim else {}),
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        lanes, layout = c.lanes, tile_layout(c)
        tag_layout = data.StructLayout({"tile": layout, "row": range(c.tokens), "last": 1})
        tag_bits = tag_layout.size

        m.submodules.tiles = tiles = fifo.SyncFIFOBuffered(width=layout.size, depth=TILES)
        requantise = place(
            m, "requantise", Requantise(lanes=lanes, acc_bits=self._acc_bits, tag_bits=tag_bits)
        )
        activation = place(m, "activation", Activation(
            lanes=lanes, tag_bits=tag_bits, gate=c.gate, bits=16 if c.gated else 8, passing=c.gated,
        ))  # fmt: skip
        head = data.View(layout, tiles.r_data)
        m.d.comb += [
            tiles.w_data.eq(self.tile.payload),
            tiles.w_en.eq(self.tile.valid),
            self.tile.ready.eq(tiles.w_rdy),
        ]

        # -- parameters of the row in front
        row = Signal(range(c.tokens))
        taken = Signal()
        tag = data.View(tag_layout, requantise.i.p.tag)
        channel = [self.header.word_select(k, 64) for k in range(lanes)]
        m.d.comb += [
            self.r_slot.eq(head.slot),
            self.p_buffer.eq(head.buffer),
            self.p_tile.eq(head.slice),
            requantise.i.valid.eq(self.rows.valid & tiles.r_rdy),
            taken.eq(requantise.i.valid & requantise.i.ready),
            self.rows.ready.eq(tiles.r_rdy & requantise.i.ready),
            requantise.i.p.acc.as_value().eq(self.rows.p.acc),
            tag.tile.eq(head),
            tag.row.eq(row),
            tag.last.eq(self.rows.p.last),
            tiles.r_en.eq(taken & self.rows.p.last),
            self.header_free.eq(tiles.r_en & ~head.by_row),
            self.header_buffer.eq(head.buffer),
        ]
        with m.If(taken):
            m.d.sync += row.eq(Mux(self.rows.p.last, 0, row + 1))
        with m.If(head.by_row):
            m.d.comb += [
                requantise.i.p.bias.as_value().eq(0),
                requantise.i.p.multiplier.as_value().eq(
                    self.r_multiplier.word_select(row, 16).replicate(lanes)
                ),
                requantise.i.p.shift.as_value().eq(
                    self.r_shift.word_select(row, 6).replicate(lanes)
                ),
            ]
        with m.Else():
            m.d.comb += [
                requantise.i.p.bias.as_value().eq(Cat(ch[:32] for ch in channel)),
                requantise.i.p.multiplier.as_value().eq(Cat(ch[32:48] for ch in channel)),
                requantise.i.p.shift.as_value().eq(Cat(ch[48:54] for ch in channel)),
            ]

        # -- destinations of a requantised row
        out = data.View(tag_layout, requantise.o.p.tag)
        y = requantise.o.p.y.as_value()
        narrow = Signal(lanes * 8)
        m.d.comb += narrow.eq(
            Cat(saturate(y.word_select(k, 16).as_signed(), 8) for k in range(lanes))
        )
        fire, token = Signal(), Signal(range(c.chunk))
        m.d.comb += [
            fire.eq(requantise.o.valid & requantise.o.ready),
            token.eq(out.tile.token + out.row),
            requantise.o.ready.eq(1),
        ]
        kind = out.tile.destination
        simple = Signal()  # reaches its destination in this cycle
        late = Signal(tag_layout)  # of the residual row that was read in the cycle before
        late_valid, late_delta = Signal(), Signal(lanes * 16)
        act = data.View(tag_layout, activation.o.p.tag)
        m.d.comb += [
            activation.i.p.z.as_value().eq(y),
            activation.i.p.tag.eq(out),
            activation.i.p.multiplier.eq(self.multiplier),
            activation.i.p.shift.eq(self.shift),
            activation.o.ready.eq(1),
            *([] if c.rotary else self._to_writer(out, token, narrow)),
            self.score.slot.eq(out.tile.slot),
            self.score.row.eq(out.row),
            self.score.chunk.eq(out.tile.chunk),
            self.score.data.eq(y),
            self.score.first.eq(out.tile.chunk == 0),
            self.logit.p.y.eq(y),
            self.logit.p.last.eq(out.tile.final & out.last),
            self.logit.p.limit.eq(Mux(out.tile.final, (c.vocabulary - 1) % lanes + 1, lanes)),
            self.x_raddr.eq(token * c.width_words + out.tile.chunk),
        ]
        rotary = self._rotary(m, requantise, tag_layout, token) if c.rotary else None
        with m.Switch(kind):
            with m.Case(Destination.ACTIVATION):
                m.d.comb += simple.eq(fire)
            with m.Case(Destination.GATED):
                m.d.comb += activation.i.valid.eq(requantise.o.valid)
                m.d.comb += requantise.o.ready.eq(activation.i.ready)
            with m.Case(Destination.RESIDUAL):
                m.d.comb += self.x_ren.eq(fire)
            if rotary is not None:
                with m.Case(Destination.KEY, Destination.VALUE, Destination.ROTATED):
                    m.d.comb += rotary.i.valid.eq(requantise.o.valid)
                    m.d.comb += requantise.o.ready.eq(rotary.i.ready)
            else:
                with m.Case(Destination.KEY, Destination.VALUE):
                    m.d.comb += self.kv.valid.eq(requantise.o.valid)
                    m.d.comb += requantise.o.ready.eq(self.kv.ready)
                    m.d.comb += [simple.eq(fire), self.kv_retired.eq(fire & out.last)]
            with m.Case(Destination.SCORE):
                m.d.comb += [simple.eq(fire), self.score.valid.eq(fire)]
            with m.Case(Destination.LOGIT):
                m.d.comb += [simple.eq(fire), self.logit.valid.eq(requantise.o.valid)]

        # -- scores: how many columns of this chunk the row may see; the item follows its last row
        before, left = (
            Signal(range(c.context + c.lanes + 1)),
            Signal(signed(c.context.bit_length() + 3)),
        )
        m.d.comb += [
            before.eq(out.tile.chunk * lanes),
            left.eq(out.tile.columns + out.row - before),
            self.score.limit.eq(Mux(left < 0, 0, Mux(left > lanes, lanes, left))),
        ]
        m.submodules.items = items = fifo.SyncFIFOBuffered(
            width=len(self.item.payload.as_value()), depth=c.slots
        )
        item = data.View(self.item.payload.shape(), items.w_data)
        m.d.comb += [
            item.slot.eq(out.tile.slot),
            item.rows.eq(out.tile.rows),
            item.chunks.eq(out.tile.chunks),
            item.columns.eq(out.tile.columns),
            items.w_en.eq(fire & (kind == Destination.SCORE) & out.tile.item_end & out.last),
            self.item.payload.eq(items.r_data),
            self.item.valid.eq(items.r_rdy),
            items.r_en.eq(self.item.ready),
        ]

        # -- the residual row, one cycle after its read
        m.d.sync += late_valid.eq(self.x_ren)
        with m.If(self.x_ren):
            m.d.sync += [late.eq(out), late_delta.eq(y), self.x_waddr.eq(self.x_raddr)]
        total = Cat(
            saturate(
                self.x_rdata.word_select(k, 16).as_signed()
                + late_delta.word_select(k, 16).as_signed(),
                16,
            )
            for k in range(lanes)
        )
        m.d.comb += [
            self.x_wen.eq(late_valid),
            self.x_wdata.eq(total),
            self.x_where.row.eq(late.tile.token + late.row),
            self.x_where.chunk.eq(late.tile.chunk),
            self.x_where.phase.eq(late.tile.phase),
        ]

        # -- the activation buffer: rows as they are, from the activation, or turned
        gated, gated_tag, gated_data = (
            activation.o.valid,
            activation.o.p.tag,
            activation.o.p.y.as_value(),
        )
        gated_retired = gated & act.last
        if c.gated:
            gated, gated_tag, gated_data, gated_retired = self._product(m, activation, tag_layout)
            m.d.comb += activation.i.p.plain.eq(out.tile.chunk[0])
            with m.If(out.tile.chunk[0]):  # a factor passes the activation as it is
                m.d.comb += [activation.i.p.multiplier.eq(1 << 15), activation.i.p.shift.eq(15)]
        source, narrowed = Mux(gated, gated_tag, requantise.o.p.tag), Mux(gated, gated_data, narrow)
        written, retired = gated | (simple & (kind == Destination.ACTIVATION)), gated_retired
        if rotary is not None:
            turned = data.View(tag_layout, rotary.o.p.tag)
            done = rotary.o.valid & rotary.o.ready
            query = rotary.o.valid & (turned.tile.destination == Destination.ROTATED)
            source = Mux(query, rotary.o.p.tag, source)
            narrowed = Mux(query, rotary.o.p.y.as_value(), narrowed)
            written, retired = written | query, retired | (done & turned.last)
            m.d.comb += self.kv_retired.eq(done & turned.last & ~query)
        w = data.View(tag_layout, source)
        m.d.comb += [
            self.a_en.eq(written),
            self.a_bank.eq(w.tile.token + w.row if c.pim else w.row),
            self.a_addr.eq(w.tile.address),
            self.a_data.eq(narrowed),
            self.a_where.row.eq(w.tile.token + w.row),
            self.a_where.chunk.eq(w.tile.chunk),
            self.a_where.phase.eq(w.tile.phase),
        ]
        # Destinations with a latency of their own retire alone: the steps that use them wait for all before.
        m.d.comb += self.retired.eq((simple & out.last) | retired | (late_valid & late.last))
        return m

    def _to_writer(self, tag: Any, token: Any, row: Any) -> list:
        """What the key/value writer is told of a row."""
        return [
            self.kv.p.value.eq(tag.tile.destination == Destination.VALUE),
            self.kv.p.token.eq(token),
            self.kv.p.chunk.eq(tag.tile.chunk),
            self.kv.p.data.eq(row),
            self.kv.p.phase.eq(tag.tile.phase),
        ]

    def _rotary(self, m: Module, requantise: Requantise, tag_layout: Any, token: Any) -> Rotary:
        """The unit that turns queries and keys; its angles are read as a row enters."""
        c = self._config
        rotary = place(m, "rotary", Rotary(lanes=c.lanes, tag_bits=tag_layout.size))
        out = data.View(tag_layout, requantise.o.p.tag)
        turned = data.View(tag_layout, rotary.o.p.tag)
        query = turned.tile.destination == Destination.ROTATED
        m.d.comb += [
            rotary.i.p.y.as_value().eq(requantise.o.p.y.as_value()),
            rotary.i.p.plain.eq(out.tile.destination == Destination.VALUE),
            rotary.i.p.tag.eq(out),
            self.t_en.eq(rotary.i.valid & rotary.i.ready),
            self.t_addr.eq(token * c.head_words + (out.tile.chunk & (c.head_words - 1))),
            rotary.angles.as_value().eq(self.t_data),
            rotary.o.ready.eq(query | self.kv.ready),
            self.kv.valid.eq(rotary.o.valid & ~query),
            *self._to_writer(turned, turned.tile.token + turned.row, rotary.o.p.y.as_value()),
        ]
        return rotary

    def _product(self, m: Module, activation: Activation, tag_layout: Any) -> tuple[Any, ...]:
        """Gates wait in a buffer for their factors: valid, tag and data of a product, and the end of a tile."""
        c = self._config
        gates = place(m, "gates", BankedBuffer(
            banks=1, depth=max(2, c.chunk), width=16 * c.lanes, style="block",
        ))  # fmt: skip
        product = place(m, "product", GatedProduct(lanes=c.lanes))
        act = data.View(tag_layout, activation.o.p.tag)
        factor, token = act.tile.chunk[0], act.tile.token + act.row
        m.d.comb += [
            gates.w_en.eq(activation.o.valid & ~factor),
            gates.w_bank.eq(0),
            gates.w_addr.eq(token),
            gates.w_data.eq(activation.o.p.y.as_value()),
            gates.r_en.eq(activation.o.valid & factor),
            gates.r_addr.eq(token),
            product.valid.eq(activation.o.valid & factor),
            product.up.eq(activation.o.p.y),
            product.u.as_value().eq(gates.r_data),
        ]
        valid, tag = activation.o.valid, activation.o.p.tag
        for k in range(
            GatedProduct.latency
        ):  # a gate goes the same way, so that tiles retire in turn
            next_valid, next_tag = (
                Signal(name=f"product_{k}"),
                Signal(tag_layout.size, name=f"product_tag_{k}"),
            )
            m.d.sync += [next_valid.eq(valid), next_tag.eq(tag)]
            valid, tag = next_valid, next_tag
        view = data.View(tag_layout, tag)
        pair: Any = Signal(tag_layout)
        m.d.comb += [pair.eq(view), pair.tile.chunk.eq(view.tile.chunk >> 1)]
        is_factor = view.tile.chunk[0]
        return valid & is_factor, pair.as_value(), product.y.as_value(), valid & view.last
