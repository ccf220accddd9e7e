# SPDX-License-Identifier: Apache-2.0
"""Keys and values between the core and memory: written row by row, read back head by head."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from hw.core.config import CoreConfig
from hw.unit import Unit

__all__ = ["HeadFetch", "KeyValueWriter"]


class KeyValueWriter(Unit):
    """Turns a row of O features of a key or value into a write to the striped memory.

    The word of position ``p``, feature block ``j`` of head ``h`` is R bytes at ``(p % O) * R`` of beat
    ``(p // O) * (dh / R) + j`` of the head (``docs/architecture.md``, section 2).

    Latency
    -------
    One cycle.

    Members
    -------
    rows : rows from the drain
    past : position of the first token of the pass
    offset : stripes from layer 0 to this layer
    write : ``{stripe, data, strobe}``
    busy : a row is held
    """

    def __init__(self, config: CoreConfig) -> None:
        c = self._config = config
        super().__init__(
            {
                "rows": In(stream.Signature(data.StructLayout({
                    "value": 1, "token": range(c.chunk), "chunk": 16, "data": c.lanes * 8, "phase": 8,
                }))),
                "past": In(range(c.context + 1)),
                "offset": In(32),
                "write": Out(stream.Signature(data.StructLayout({
                    "stripe": 32, "data": c.stripe_bytes * 8, "strobe": c.stripe_bytes,
                }))),
                "busy": Out(1),
            },
            {"w": c.lanes, "l": c.chunk, "c": c.context, "b": c.stripe_bytes, "k": c.k_at, "v": c.v_at},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        lane_bits, word_bits = (c.lanes - 1).bit_length(), (c.head_words - 1).bit_length()
        position = Signal(range(c.context + 1))
        head, block = Signal(16), Signal(16)
        beat, byte = Signal(32), Signal(range(c.beat_bytes))
        m.d.comb += [
            position.eq(self.past + self.rows.p.token),
            head.eq(self.rows.p.chunk >> word_bits),
            block.eq(self.rows.p.chunk & (c.head_words - 1)),
            beat.eq(((position >> lane_bits) << word_bits) + block),
            byte.eq((position & (c.lanes - 1)) << lane_bits),
        ]
        stripe_bits = (c.stripe_bytes - 1).bit_length()
        # The stripe holds whole words of R bytes, because a stripe is a power of two of bytes.
        words = c.stripe_bytes // c.lanes
        place_in_stripe = (byte & (c.stripe_bytes - 1)) >> lane_bits
        free = ~self.write.valid | self.write.ready
        m.d.comb += [self.rows.ready.eq(free), self.busy.eq(self.write.valid)]
        with m.If(free):
            m.d.sync += self.write.valid.eq(self.rows.valid)
            with m.If(self.rows.valid):
                start = Signal(32)
                with m.If(self.rows.p.value):
                    m.d.comb += start.eq(c.v_at)
                with m.Else():
                    m.d.comb += start.eq(c.k_at)
                m.d.sync += [
                    self.write.p.stripe.eq(
                        start
                        + self.offset
                        + head * c.kv_head_stripes
                        + beat * c.beat_stripes
                        + (byte >> stripe_bits)
                    ),
                    self.write.p.data.eq(self.rows.p.data.replicate(words)),
                    self.write.p.strobe.eq(
                        Cat((place_in_stripe == k).replicate(c.lanes) for k in range(words))
                    ),
                ]
        return m


class HeadFetch(Unit):
    """Asks for the keys (or values) of every head of a layer, one descriptor a head.

    Members
    -------
    start : pulse
    stripe : first stripe of the layer's head 0
    count : stripes of a head's prefix
    descriptor : ``{stripe, count}``
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "stripe": In(32),
                "count": In(32),
                "descriptor": Out(stream.Signature(data.StructLayout({"stripe": 32, "count": 32}))),
            },
            {"h": config.kv_heads, "s": config.kv_head_stripes},
        )

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        left = Signal(range(c.kv_heads + 1))
        m.d.comb += self.descriptor.valid.eq(left != 0)
        with m.If(self.start):
            m.d.sync += [
                left.eq(c.kv_heads),
                self.descriptor.p.stripe.eq(self.stripe),
                self.descriptor.p.count.eq(self.count),
            ]
        with m.Elif(self.descriptor.valid & self.descriptor.ready):
            m.d.sync += [
                left.eq(left - 1),
                self.descriptor.p.stripe.eq(self.descriptor.p.stripe + c.kv_head_stripes),
            ]
        return m
