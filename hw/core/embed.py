# SPDX-License-Identifier: Apache-2.0
"""Embedding: token and position rows from memory, into the residual buffer and that of the angles."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.core.config import CoreConfig
from hw.core.drain import saturate
from hw.unit import Unit

__all__ = ["Embed"]


class Embed(Unit):
    """Fills the residual buffer with ``wte[token] + wpe[position]``, saturating int16.

    In a rotary network it is ``wte[token]`` alone, and the angles ``wpe[position]`` go into a buffer of their
    own. Tokens come from the token region (prompt) or from ``token`` (decoding).

    Members
    -------
    start : pulse; length, position, prompt, token are read then and must stay
    busy : rows are being written
    descriptor, words : stream client of the memory; every stripe comes as words of R int16
    x_wen, x_waddr, x_wdata, x_row, x_chunk : write port of the residual buffer
    t_wen, t_waddr, t_wdata : write port of the buffer of the angles, of a rotary network
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
                "words": In(stream.Signature(16 * c.lanes)),
                "x_wen": Out(1),
                "x_waddr": Out(range(c.chunk * c.width_words)),
                "x_wdata": Out(c.lanes * 16),
                "x_row": Out(16),
                "x_chunk": Out(16),
                "bad_token": Out(1),
            } | ({
                "t_wen": Out(1),
                "t_waddr": Out(range(c.chunk * c.head_words)),
                "t_wdata": Out(c.lanes * 16),
            } if c.rotary else {}),
            {
                "w": c.lanes, "d": c.width, "v": c.vocabulary, "c": c.context, "l": c.chunk,
                "b": c.stripe_bytes, "t": c.tokens_at, "e": c.wte_at, "p": c.wpe_at,
            } | c.variant,
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        words = c.stripe_bytes // (2 * c.lanes)  # of a stripe
        row, part = Signal(range(c.chunk + 1)), Signal(range(c.row_stripes + 1))
        token, word = Signal(32), Signal(range(words)) if words > 1 else Signal(1)
        chunk = Signal(range(c.width_words + 1))
        address = Signal(range(c.chunk * c.width_words + 1))
        keep: Any = None
        kept_word: Any = None
        if not c.rotary:
            m.submodules.kept = kept = Memory(shape=16 * c.lanes, depth=words, init=[])
            keep, kept_word = kept.write_port(), kept.read_port(domain="comb")
        last_word, taken = word == words - 1, self.words.valid & self.words.ready
        m.d.comb += [
            self.descriptor.p.count.eq(1),
            *(
                []
                if c.rotary
                else [
                    keep.addr.eq(word),
                    keep.data.eq(self.words.payload),
                    kept_word.addr.eq(word),
                ]
            ),
        ]
        with m.If(taken):
            m.d.sync += word.eq(Mux(last_word, 0, word + 1))
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
                m.d.comb += self.words.ready.eq(1)
                known = self.words.payload[:32] < c.vocabulary
                with m.If(taken & (word == 0)):
                    m.d.comb += self.bad_token.eq(~known)
                    m.d.sync += token.eq(Mux(known, self.words.payload[:32], 0))
                with m.If(taken & last_word):
                    m.next = "ASK WTE"
            with m.State("ASK WTE"):
                m.d.comb += [
                    self.descriptor.valid.eq(1),
                    self.descriptor.p.stripe.eq(c.wte_at + token * c.row_stripes + part),
                ]
                with m.If(self.descriptor.ready):
                    if c.rotary:
                        m.next = "TAKE WTE"
                    else:
                        m.next = "ASK WPE"
            if c.rotary:
                self._turned(m, row, part, chunk, address, taken, last_word)
                return m
            with m.State("ASK WPE"):
                m.d.comb += [
                    self.descriptor.valid.eq(1),
                    self.descriptor.p.stripe.eq(
                        c.wpe_at + (self.position + row) * c.row_stripes + part
                    ),
                ]
                with m.If(self.descriptor.ready):
                    m.next = "TAKE WTE"
            with m.State("TAKE WTE"):
                m.d.comb += [self.words.ready.eq(1), keep.en.eq(taken)]
                with m.If(taken & last_word):
                    m.next = "TAKE WPE"
            with m.State("TAKE WPE"):
                # A stripe may be longer than the rest of the row: its last words are padding.
                a, b = kept_word.data, self.words.payload
                m.d.comb += [
                    self.words.ready.eq(1),
                    self.x_wen.eq(taken & (chunk != c.width_words)),
                    self.x_waddr.eq(address),
                    self.x_row.eq(row),
                    self.x_chunk.eq(chunk),
                    self.x_wdata.eq(Cat(
                        saturate(a.word_select(k, 16).as_signed() + b.word_select(k, 16).as_signed(), 16)
                        for k in range(c.lanes)
                    )),
                ]  # fmt: skip
                with m.If(self.x_wen):
                    m.d.sync += [chunk.eq(chunk + 1), address.eq(address + 1)]
                with m.If(taken & last_word):
                    m.d.sync += part.eq(part + 1)
                    with m.If(part != c.row_stripes - 1):
                        m.next = "ASK WTE"
                    with m.Else():
                        m.d.sync += row.eq(row + 1)
                        m.next = "ASK TOKEN"
                        with m.If(row + 1 == self.length):
                            m.next = "IDLE"
        return m

    def _turned(self, m, row, part, chunk, address, taken, last_word) -> None:
        """The states of a rotary network: a token's row as it is, then the angles of its position."""
        c = self._config
        angle = Signal(range(c.head_words + 1))
        with m.State("TAKE WTE"):
            # A stripe may be longer than the rest of the row: its last words are padding.
            m.d.comb += [
                self.words.ready.eq(1),
                self.x_wen.eq(taken & (chunk != c.width_words)),
                self.x_waddr.eq(address),
                self.x_row.eq(row),
                self.x_chunk.eq(chunk),
                self.x_wdata.eq(self.words.payload),
            ]
            with m.If(self.x_wen):
                m.d.sync += [chunk.eq(chunk + 1), address.eq(address + 1)]
            with m.If(taken & last_word):
                m.d.sync += part.eq(part + 1)
                m.next = "ASK WTE"
                with m.If(part == c.row_stripes - 1):
                    m.d.sync += [part.eq(0), angle.eq(0)]
                    m.next = "ASK WPE"
        with m.State("ASK WPE"):
            m.d.comb += [
                self.descriptor.valid.eq(1),
                self.descriptor.p.stripe.eq(
                    c.wpe_at + (self.position + row) * c.position_stripes + part
                ),
            ]
            with m.If(self.descriptor.ready):
                m.next = "TAKE WPE"
        with m.State("TAKE WPE"):
            m.d.comb += [
                self.words.ready.eq(1),
                self.t_wen.eq(taken & (angle != c.head_words)),
                self.t_waddr.eq(row * c.head_words + angle),
                self.t_wdata.eq(self.words.payload),
            ]
            with m.If(self.t_wen):
                m.d.sync += angle.eq(angle + 1)
            with m.If(taken & last_word):
                m.d.sync += part.eq(part + 1)
                with m.If(part != c.position_stripes - 1):
                    m.next = "ASK WPE"
                with m.Else():
                    m.d.sync += row.eq(row + 1)
                    m.next = "ASK TOKEN"
                    with m.If(row + 1 == self.length):
                        m.next = "IDLE"
