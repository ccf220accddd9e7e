"""Embedding: token and position rows from memory, added into the residual buffer."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.core.config import CoreConfig
from hw.core.drain import saturate
from hw.unit import Unit

__all__ = ["Embed"]


class Embed(Unit):
    """Fills the residual buffer with ``wte[token] + wpe[position]``, saturating int16.

    Tokens come from the token region (prompt) or from ``token`` (decoding). Requests run ahead of the data by
    as much as the stream client of the memory allows.

    Members
    -------
    start : pulse; length, position, prompt, token are read then and must stay
    busy : rows are being written
    descriptor, stripes : stream client of the memory
    x_wen, x_waddr, x_wdata, x_row, x_chunk : write port of the residual buffer
    bad_token : a token of the prompt was outside the vocabulary (it was read as 0)
    """

    def __init__(self, config: CoreConfig) -> None:
        c = self._config = config
        super().__init__(
            {
                "start": In(1),
                "length": In(range(c.chunk + 1)),
                "position": In(range(c.context + 1)),
                "prompt": In(1),
                "token": In(32),
                "busy": Out(1),
                "descriptor": Out(stream.Signature(data.StructLayout({"stripe": 32, "count": 32}))),
                "stripes": In(stream.Signature(c.stripe_bytes * 8)),
                "x_wen": Out(1),
                "x_waddr": Out(range(c.chunk * c.width_words)),
                "x_wdata": Out(c.lanes * 16),
                "x_row": Out(16),
                "x_chunk": Out(16),
                "bad_token": Out(1),
            },
            {
                "w": c.lanes, "d": c.width, "v": c.vocabulary, "c": c.context, "l": c.chunk,
                "b": c.stripe_bytes, "t": c.tokens_at, "e": c.wte_at, "p": c.wpe_at,
            },
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        words = c.stripe_bytes // (2 * c.lanes)  # of a stripe
        row, part = Signal(range(c.chunk + 1)), Signal(range(c.row_stripes + 1))
        token, word = Signal(32), Signal(range(max(2, words)))
        chunk = Signal(range(c.width_words + 1))
        first, second = Signal(c.stripe_bytes * 8), Signal(c.stripe_bytes * 8)
        address = Signal(range(c.chunk * c.width_words + 1))
        m.d.comb += self.descriptor.p.count.eq(1)
        with m.FSM() as fsm:
            m.d.comb += self.busy.eq(~fsm.ongoing("IDLE"))
            with m.State("IDLE"):
                m.d.sync += [row.eq(0), address.eq(0), token.eq(self.token)]
                with m.If(self.start):
                    m.next = "ASK TOKEN"
            with m.State("ASK TOKEN"):
                m.d.sync += [part.eq(0), chunk.eq(0)]
                with m.If(self.prompt):
                    m.d.comb += [
                        self.descriptor.valid.eq(1),
                        self.descriptor.p.stripe.eq(c.tokens_at + self.position + row),
                    ]
                    with m.If(self.descriptor.ready):
                        m.next = "TAKE TOKEN"
                with m.Else():
                    m.next = "ASK WTE"
            with m.State("TAKE TOKEN"):
                m.d.comb += self.stripes.ready.eq(1)
                with m.If(self.stripes.valid):
                    known = self.stripes.payload[:32] < c.vocabulary
                    m.d.comb += self.bad_token.eq(~known)
                    m.d.sync += token.eq(Mux(known, self.stripes.payload[:32], 0))
                    m.next = "ASK WTE"
            with m.State("ASK WTE"):
                m.d.comb += [
                    self.descriptor.valid.eq(1),
                    self.descriptor.p.stripe.eq(c.wte_at + token * c.row_stripes + part),
                ]
                with m.If(self.descriptor.ready):
                    m.next = "ASK WPE"
            with m.State("ASK WPE"):
                m.d.comb += [
                    self.descriptor.valid.eq(1),
                    self.descriptor.p.stripe.eq(c.wpe_at + (self.position + row) * c.row_stripes + part),
                ]
                with m.If(self.descriptor.ready):
                    m.next = "TAKE WTE"
            with m.State("TAKE WTE"):
                m.d.comb += self.stripes.ready.eq(1)
                m.d.sync += first.eq(self.stripes.payload)
                with m.If(self.stripes.valid):
                    m.next = "TAKE WPE"
            with m.State("TAKE WPE"):
                m.d.comb += self.stripes.ready.eq(1)
                m.d.sync += [second.eq(self.stripes.payload), word.eq(0)]
                with m.If(self.stripes.valid):
                    m.next = "WRITE"
            with m.State("WRITE"):
                a = first.word_select(word, c.lanes * 16)
                b = second.word_select(word, c.lanes * 16)
                m.d.comb += [
                    self.x_wen.eq(1),
                    self.x_waddr.eq(address),
                    self.x_row.eq(row),
                    self.x_chunk.eq(chunk),
                    self.x_wdata.eq(Cat(
                        saturate(a.word_select(k, 16).as_signed() + b.word_select(k, 16).as_signed(), 16)
                        for k in range(c.lanes)
                    )),
                ]  # fmt: skip
                m.d.sync += [word.eq(word + 1), chunk.eq(chunk + 1), address.eq(address + 1)]
                with m.If(chunk == c.width_words - 1):
                    m.d.sync += row.eq(row + 1)
                    with m.If(row + 1 == self.length):
                        m.next = "IDLE"
                    with m.Else():
                        m.next = "ASK TOKEN"
                with m.Elif(word == words - 1):
                    m.d.sync += part.eq(part + 1)
                    m.next = "ASK WTE"
        return m
