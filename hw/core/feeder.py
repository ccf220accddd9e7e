# SPDX-License-Identifier: Apache-2.0
"""The feeder: plays a step as beats of operands for the engine, and a descriptor for each tile."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, enum, stream
from amaranth.lib.wiring import In, Out

from hw.core.config import CoreConfig
from hw.core.program import Destination, Op, step_layout
from hw.unit import Unit

__all__ = ["Beat", "Feeder", "Source", "header_buffers", "tile_layout"]


class Beat(enum.Enum, shape=3):
    """What the word that the rings deliver is for."""

    ENGINE = 0
    HEADER = 1
    CONSTANT = 2
    NORM_CONSTANT = 3
    NORM_PARAMETER = 4


class Source(enum.Enum, shape=2):
    """Operands of an engine beat: activations and weights, queries and keys, probabilities and values."""

    WEIGHTS = 0
    KEYS = 1
    VALUES = 2


def header_buffers(config: CoreConfig) -> int:
    """Header beats kept at once: tiles of one group drain while the next group's are fed."""
    return 2 if config.header_tiles >= 4 else 4


def tile_layout(config: CoreConfig) -> data.StructLayout:
    """What the drain must know of a tile; fields beyond the destination's own are don't-care."""
    return data.StructLayout({
        "destination": Destination,
        "phase": 8,
        "rows": range(config.tokens + 1),
        "token": range(config.chunk),  # of row 0
        "address": range(config.activation_depth),  # word of the activation buffer
        "chunk": 16,  # features // O: for the residual buffer, keys, values and logits
        "final": 1,  # last tile of the step (logits)
        "by_row": 1,  # multipliers come from the softmax rows of `slot`, not from a header
        "buffer": range(header_buffers(config)),
        "slice": range(config.header_tiles),
        "slot": range(config.slots),
        "columns": range(config.context + 1),  # unmasked columns of row 0 (scores)
        "chunks": range(config.context_chunks + 1),  # of the whole item (scores)
        "item_end": 1,  # last tile of the item (scores)
    })  # fmt: skip


class Feeder(Unit):
    """Issues one beat a cycle: reads buffers and rings in one cycle, offers the beat in the next.

    A step's loop order is output tile, group of tokens, reduction, so that a tile's weights stay in the ring
    while every group uses them. Attention plays items (head, group): scores run ahead of context by up to
    ``slots`` items, which hides the softmax. Keys and values stay in their rings while heads share them. The
    tiles of a gated network come in pairs, gate and factor, whose results have one place.

    If headers say of which words of the operand a tile has weights (``w_masks``), its beats are for these words alone;
    the first of a group of tiles waits a cycle for its header.

    If the engine takes kept weights, a beat of keys or values is offered in ``turns`` parts, with the same activations.
    If it takes several beats of weights at once (``span``), of as many words of the operand side by side, ``words`` of
    a beat says which of them each is for: terms of one word, and parts of keys, are all for the same.

    Latency
    -------
    A beat is offered the cycle after its operands are there and the beat before was taken. A step starts the
    cycle after it was taken.

    Members
    -------
    step : ``In(stream.Signature(step_layout(config)))``
    length, past : tokens of the pass and tokens before it; stable during a pass
    busy : a step is being played
    w_*, k_*, v_* : consumer side of the rings (``hw.memory``); ``w_index`` and ``w_count`` are of beats of
        the weight stream (:class:`hw.core.weights.WeightStream`), of which what is not a tile takes a row
    a_en, a_addr : read port of the activation buffer
    p_en, p_slot, p_chunk : read port of the softmax unit's probabilities
    beat_valid, beat_ready, beat : the word read in the cycle before
    tile : one descriptor per tile, not later than its last beat
    words : if there are ``w_masks``: of the header that is offered, for each tile a bit for each word of the operand
    header_free, header_buffer : a tile with that header buffer left the drain's parameter stage
    softmax_done : an attention item's probabilities are there
    other, other_start, other_done : if attention is on PIM channels: whose descriptors pass, from the pulse
        ``other_start`` to the pulse ``other_done``
    starved, blocked, waiting : why no beat was issued: rings, engine, softmax
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._row_bits = (config.stream.row_beats - 1).bit_length()
        rings = {}
        for ring in "wkv":
            bits = 16 + (self._row_bits if ring == "w" else 0)
            rings |= {
                f"{ring}_index": Out(bits), f"{ring}_en": Out(1), f"{ring}_ok": In(1),
                f"{ring}_free": Out(1), f"{ring}_count": Out(16),
            }  # fmt: skip
        beats = -(-config.norm_bytes * config.width // config.beat_bytes)
        turn: dict[str, Any] = {"turn": range(config.turns)} if config.turns > 1 else {}
        self._span_bits = (config.span - 1).bit_length()
        if config.span > 1:
            turn["words"] = config.span * self._span_bits
        self._norm_beats = beats
        super().__init__(
            {
                "step": In(stream.Signature(step_layout(config))),
                "length": In(range(config.chunk + 1)),
                "past": In(range(config.context + 1)),
                "busy": Out(1),
                **rings,
                "a_en": Out(1),
                "a_addr": Out(range(config.activation_depth)),
                "p_en": Out(1),
                "p_slot": Out(range(config.slots)),
                "p_chunk": Out(range(config.context_chunks)),
                "beat_valid": Out(1),
                "beat_ready": In(1),
                "beat": Out(
                    data.StructLayout({
                        "kind": Beat, "source": Source, "first": 1, "last": 1, "rows": range(config.tokens + 1),
                        "buffer": range(header_buffers(config)), "index": range(beats), **turn,
                    })
                ),
                "tile": Out(stream.Signature(tile_layout(config))),
                **({"words": In(config.header_tiles * config.operand_words)} if config.w_masks else {}),
                "header_free": In(1),
                "header_buffer": In(range(header_buffers(config))),
                "softmax_done": In(1),
                "starved": Out(1),
                "blocked": Out(1),
                "waiting": Out(1),
                **({
                    "other": In(stream.Signature(tile_layout(config))), "other_start": Out(1), "other_done": In(1),
                } if config.pim else {}),
            },
            {
                "t": config.tokens, "w": config.lanes, "d": config.width, "h": config.heads,
                "f": config.ffn, "c": config.context, "l": config.chunk, "s": config.slots,
                **({"b": config.stream.row_beats} if config.stream.compressed else {}),
                **({"turns": config.turns} if config.turns > 1 else {}),
                **({"span": config.span} if config.span > 1 else {}),
                **({"masks": 1} if config.w_masks else {}),
                **config.variant,
                **({} if config.centred else {"n": beats}),
                **({"pim": config.pim_channels} if config.pim else {}),
            },
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        c, m = self._config, Module()
        lane_bits, token_bits = (c.lanes - 1).bit_length(), (c.tokens - 1).bit_length()
        step = Signal(step_layout(c))

        # -- the pipeline: issue in this cycle, offer in the next
        advance, want, ok, issue = Signal(), Signal(), Signal(), Signal()
        last_beat, tile_ok = Signal(), Signal()
        m.d.comb += [
            advance.eq(~self.beat_valid | self.beat_ready),
            tile_ok.eq(~last_beat | self.tile.ready),
            issue.eq(want & ok & advance & tile_ok),
            self.tile.valid.eq(want & ok & advance & last_beat),
            self.starved.eq(want & ~ok),
            self.blocked.eq(want & ok & ~(advance & tile_ok)),
        ]
        offered: Any = Signal(self.beat.shape())
        with m.If(advance):
            m.d.sync += self.beat_valid.eq(issue)
            with m.If(issue):
                m.d.sync += self.beat.eq(offered)

        # -- rings: the index of the next item, and which ring this beat reads
        row, compressed = c.stream.row_beats, c.stream.compressed
        base = {
            ring: Signal(16 + (self._row_bits if ring == "w" else 0), name=f"{ring}_base")
            for ring in "wkv"
        }
        offset, source = Signal(16), Signal(Source)
        for ring, code in (("w", Source.WEIGHTS), ("k", Source.KEYS), ("v", Source.VALUES)):
            m.d.comb += [
                getattr(self, f"{ring}_index").eq(base[ring] + offset),
                getattr(self, f"{ring}_en").eq(issue & (source == code)),
            ]

        def free(ring: str, count: Any) -> list:
            return [getattr(self, f"{ring}_free").eq(1), getattr(self, f"{ring}_count").eq(count)]

        with m.Switch(source):
            with m.Case(Source.KEYS):
                m.d.comb += ok.eq(self.k_ok)
            with m.Case(Source.VALUES):
                m.d.comb += ok.eq(self.v_ok)
            with m.Default():
                m.d.comb += ok.eq(self.w_ok)

        # -- header buffers: tiles that still need each
        buffers = header_buffers(c)
        users = [Signal(16, name=f"users{i}") for i in range(buffers)]
        buffer, next_buffer = Signal(range(buffers)), Signal(range(buffers))
        header_room = Signal()
        m.d.comb += next_buffer.eq(Mux(buffer == buffers - 1, 0, buffer + 1))
        with m.Switch(next_buffer):
            for i in range(buffers):
                with m.Case(i):
                    m.d.comb += header_room.eq(users[i] == 0)
        pushed = Signal()
        m.d.comb += pushed.eq(self.tile.valid & self.tile.ready & ~self.tile.p.by_row)
        for i in range(buffers):
            m.d.sync += users[i].eq(
                users[i] + (pushed & (buffer == i)) - (self.header_free & (self.header_buffer == i))
            )

        # -- sizes of this pass
        groups, one = Signal(range(c.groups + 1)), step.last_token
        all_groups = (self.length + (c.tokens - 1)) >> token_bits
        m.d.comb += groups.eq(Mux(one, 1, all_groups))

        def rows_of(group: Any) -> Any:
            left = self.length - (group << token_bits)
            return Mux(one, 1, Mux(left >= c.tokens, c.tokens, left))

        def chunks_of(group: Any) -> Any:
            reached = (group + 1) << token_bits
            end = self.past + Mux(reached < self.length, reached, self.length)
            return (end + (c.lanes - 1)) >> lane_bits

        context_chunks = Signal(range(c.context_chunks + 1))
        head_beats = Signal(16)
        m.d.comb += [
            context_chunks.eq((self.past + self.length + (c.lanes - 1)) >> lane_bits),
            head_beats.eq(context_chunks * c.head_words),
        ]

        # -- loop counters of a matrix product
        n, g, k = Signal(16), Signal(range(c.groups + 1)), Signal(12)
        operand, target = Signal(range(c.activation_depth)), Signal(range(c.activation_depth))
        slice_ = Signal(range(c.header_tiles)) if c.header_tiles > 1 else Signal(1)
        last_k, last_g, last_n = k == step.k_words - 1, g == groups - 1, n == step.n_tiles - 1

        # -- keys and values: k counts the parts of beats
        turn_bits = (c.turns - 1).bit_length()
        of_head = k >> turn_bits
        if turn_bits:
            m.d.comb += offered.turn.eq(k[:turn_bits])

        # -- the word of the operand that a tile's next beat is for, and whether it is the last beat for it
        span, span_bits = c.span, self._span_bits
        at_word: Any = ((k << span_bits) >> step.terms)[:12] if compressed else k

        def side_by_side(words: list[Any]) -> None:
            """For which of the words that are read a beat is, for each of those that it takes."""
            if span_bits:
                m.d.comb += offered.words.eq(Cat(word[:span_bits] for word in words))

        words_begin, words_of, word_done = Signal(), Signal(slice_.shape()), Signal()
        last_term = Const(1)
        if c.w_masks:
            at_word = self._words(m, words_begin, words_of, word_done)
            if compressed:
                others = (1 << step.terms) - 1
                last_term = (k & others) == others

        # -- attention: the next scores item and the next context item
        q_head, q_group = Signal(range(c.heads + 1)), Signal(range(c.groups + 1))
        a_head, a_group = Signal(range(c.heads + 1)), Signal(range(c.groups + 1))
        q_slot, a_slot = Signal(range(c.slots)), Signal(range(c.slots))
        q_word, a_word = Signal(range(c.activation_depth)), Signal(range(c.activation_depth))
        flying, done = Signal(range(c.slots + 1)), Signal(range(c.slots + 1))
        q_begin, a_begin, a_end = Signal(), Signal(), Signal()
        m.d.sync += [
            flying.eq(flying + q_begin - a_end),
            done.eq(done + self.softmax_done - a_begin),
        ]
        q_chunks, a_chunks = chunks_of(q_group), chunks_of(a_group)

        tile, offered_kind = self.tile.p, offered.kind
        place: Any = n  # word of the operand that a tile's rows become
        if c.gated:
            place = Mux(step.destination == Destination.GATED, n >> 1, n)
        shares = {ring: Signal(range(max(2, c.shared)), name=f"{ring}_share") for ring in "kv"}

        def leave(ring: str) -> list:
            """A head is done with its keys or values: they may go, if it is the last one that shares them."""
            if c.shared == 1:
                m.d.comb += free(ring, head_beats)
                return [base[ring].eq(base[ring] + head_beats)]
            with m.If(shares[ring] == c.shared - 1):
                m.d.comb += free(ring, head_beats)
                m.d.sync += [base[ring].eq(base[ring] + head_beats), shares[ring].eq(0)]
            with m.Else():
                m.d.sync += shares[ring].eq(shares[ring] + 1)
            return []

        m.d.comb += [
            offered.source.eq(source),
            offered.buffer.eq(buffer),
            tile.phase.eq(step.phase),
            tile.buffer.eq(buffer),
            self.p_slot.eq(a_slot),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.step.ready.eq(1)
                m.d.sync += [
                    step.eq(self.step.payload), n.eq(0), g.eq(0), k.eq(0), slice_.eq(0),
                    operand.eq(self.step.p.source), target.eq(self.step.p.target),
                    q_head.eq(0), q_group.eq(0), a_head.eq(0), a_group.eq(0), q_slot.eq(0), a_slot.eq(0),
                    q_word.eq(c.query_base), a_word.eq(c.context_base),
                ]  # fmt: skip
                with m.If(self.step.valid):
                    with m.Switch(self.step.p.op):
                        with m.Case(Op.NORM):
                            m.next = "NORM CONSTANT"
                        with m.Case(Op.MATMUL):
                            with m.If(self.step.p.constant):
                                m.next = "CONSTANT"
                            with m.Else():
                                m.next = "HEADER"
                        with m.Case(Op.ATTENTION):
                            m.next = "HEADER"

            with m.State("NORM CONSTANT"):
                m.d.comb += [want.eq(1), offered_kind.eq(Beat.NORM_CONSTANT)]
                with m.If(issue):
                    m.d.comb += free("w", row)
                    m.d.sync += base["w"].eq(base["w"] + row)
                    m.next = "NORM PARAMETERS"

            with m.State("NORM PARAMETERS"):
                m.d.comb += [want.eq(1), offered_kind.eq(Beat.NORM_PARAMETER), offered.index.eq(k)]
                m.d.comb += offered.last.eq(k == self._norm_beats - 1)
                with m.If(issue):
                    m.d.comb += free("w", row)
                    m.d.sync += [base["w"].eq(base["w"] + row), k.eq(k + 1)]
                    with m.If(offered.last):
                        m.next = "IDLE"

            with m.State("CONSTANT"):
                m.d.comb += [want.eq(1), offered_kind.eq(Beat.CONSTANT)]
                with m.If(issue):
                    m.d.comb += free("w", row)
                    m.d.sync += base["w"].eq(base["w"] + row)
                    with m.If(step.op == Op.ATTENTION):
                        m.next = "OTHER" if c.pim else "ITEM"
                        if c.pim:
                            m.d.comb += self.other_start.eq(1)
                    with m.Else():
                        m.next = "HEADER"

            with m.State("HEADER"):
                m.d.comb += [
                    want.eq(header_room),
                    offered_kind.eq(Beat.HEADER),
                    offered.buffer.eq(next_buffer),
                ]
                m.d.comb += self.waiting.eq(~header_room)
                with m.If(issue):
                    m.d.comb += free("w", row)
                    m.d.sync += [
                        base["w"].eq(base["w"] + row),
                        buffer.eq(next_buffer),
                        slice_.eq(0),
                    ]
                    with m.If(step.op == Op.ATTENTION):
                        m.next = "CONSTANT"
                    with m.Else():
                        m.next = "WORDS" if c.w_masks else "TILE"

            if c.w_masks:
                with m.State("WORDS"):
                    m.d.comb += words_begin.eq(1)
                    m.next = "TILE"

            with m.State("TILE"):
                m.d.comb += [
                    want.eq(1), offset.eq(k << span_bits), offered_kind.eq(Beat.ENGINE),
                    offered.first.eq(k == 0), offered.last.eq(last_k), offered.rows.eq(rows_of(g)),
                    self.a_en.eq(issue), self.a_addr.eq(operand + at_word), last_beat.eq(last_k),
                    tile.destination.eq(step.destination), tile.rows.eq(rows_of(g)),
                    tile.token.eq(g << token_bits), tile.address.eq(target + place), tile.chunk.eq(n),
                    tile.final.eq(last_n), tile.slice.eq(slice_),
                ]  # fmt: skip
                if span_bits:  # operands begin at a multiple of `span` words
                    side_by_side([((k << span_bits) + h) >> step.terms for h in range(span)])
                if c.w_masks:
                    m.d.comb += [
                        word_done.eq(issue & last_term),
                        words_begin.eq(issue & last_k),
                        words_of.eq(Mux(last_g, slice_ + 1, slice_)),
                    ]
                with m.If(issue):
                    m.d.sync += k.eq(k + 1)
                    with m.If(last_k):
                        m.d.sync += [
                            k.eq(0), g.eq(g + 1),
                            operand.eq(operand + step.source_stride), target.eq(target + step.target_stride),
                        ]  # fmt: skip
                        with m.If(last_g):
                            used = (
                                (step.k_words << span_bits) + Mux(last_n, step.pad, 0)
                                if compressed
                                else step.k_words
                            )
                            m.d.comb += free("w", used)
                            m.d.sync += [
                                g.eq(0), operand.eq(step.source), target.eq(step.target), n.eq(n + 1),
                                base["w"].eq(base["w"] + used), slice_.eq(slice_ + 1),
                            ]  # fmt: skip
                            with m.If(last_n):
                                m.next = "IDLE"
                            with m.Elif(slice_ == c.header_tiles - 1):
                                m.next = "HEADER"

            if c.pim:
                with m.State("OTHER"):
                    m.d.comb += [
                        tile.eq(self.other.payload),
                        tile.phase.eq(step.phase),
                        tile.buffer.eq(buffer),
                        self.tile.valid.eq(self.other.valid),
                        self.other.ready.eq(self.tile.ready),
                        self.waiting.eq(~self.other.valid),
                    ]
                    with m.If(self.other_done):
                        m.next = "IDLE"
                m.d.comb += self.busy.eq(~self.step.ready)
                return m

            with m.State("ITEM"):
                m.d.sync += [n.eq(0), k.eq(0)]
                with m.If((q_head != c.heads) & (flying != c.slots)):
                    m.d.comb += q_begin.eq(1)
                    m.next = "SCORES"
                with m.Elif(a_head == c.heads):
                    m.next = "IDLE"
                with m.Elif(done != 0):
                    m.d.comb += a_begin.eq(1)
                    m.next = "CONTEXT"
                with m.Else():
                    m.d.comb += self.waiting.eq(1)

            with m.State("SCORES"):
                word, chunk_end = k == c.head_words * c.turns - 1, n == q_chunks - 1
                side_by_side([q_word + of_head] * span)
                m.d.comb += [
                    want.eq(1), source.eq(Source.KEYS), offset.eq(n * c.head_words + of_head),
                    offered_kind.eq(Beat.ENGINE), offered.first.eq(k == 0), offered.last.eq(word),
                    offered.rows.eq(rows_of(q_group)),
                    self.a_en.eq(issue), self.a_addr.eq(q_word + of_head), last_beat.eq(word),
                    tile.destination.eq(Destination.SCORE), tile.rows.eq(rows_of(q_group)),
                    tile.token.eq(q_group << token_bits), tile.chunk.eq(n), tile.slot.eq(q_slot),
                    tile.columns.eq(self.past + (q_group << token_bits) + 1), tile.chunks.eq(q_chunks),
                    tile.item_end.eq(chunk_end),
                ]  # fmt: skip
                with m.If(issue):
                    m.d.sync += k.eq(k + 1)
                    with m.If(word):
                        m.d.sync += [k.eq(0), n.eq(n + 1)]
                        with m.If(chunk_end):
                            m.d.sync += [
                                q_slot.eq(q_slot + 1), q_group.eq(q_group + 1),
                                q_word.eq(q_word + c.width_words),
                            ]  # fmt: skip
                            with m.If(q_group == all_groups - 1):
                                gone = leave("k")
                                m.d.sync += [
                                    q_group.eq(0), q_head.eq(q_head + 1), *gone,
                                    q_word.eq(c.query_base + (q_head + 1) * c.head_words),
                                ]  # fmt: skip
                            m.next = "ITEM"

            with m.State("CONTEXT"):
                word, chunk_end = n == c.head_words - 1, k == (a_chunks << turn_bits) - 1
                m.d.comb += [
                    want.eq(1), source.eq(Source.VALUES), offset.eq(of_head * c.head_words + n),
                    offered_kind.eq(Beat.ENGINE), offered.first.eq(k == 0), offered.last.eq(chunk_end),
                    offered.rows.eq(rows_of(a_group)),
                    self.p_en.eq(issue), self.p_chunk.eq(of_head), last_beat.eq(chunk_end),
                    tile.destination.eq(Destination.ACTIVATION), tile.by_row.eq(1),
                    tile.rows.eq(rows_of(a_group)), tile.token.eq(a_group << token_bits),
                    tile.address.eq(a_word + n), tile.chunk.eq(a_head * c.head_words + n), tile.slot.eq(a_slot),
                ]  # fmt: skip
                with m.If(issue):
                    m.d.sync += k.eq(k + 1)
                    with m.If(chunk_end):
                        m.d.sync += [k.eq(0), n.eq(n + 1)]
                        with m.If(word):
                            m.d.comb += a_end.eq(1)
                            m.d.sync += [
                                a_slot.eq(a_slot + 1), a_group.eq(a_group + 1),
                                a_word.eq(a_word + c.width_words),
                            ]  # fmt: skip
                            with m.If(a_group == all_groups - 1):
                                gone = leave("v")
                                m.d.sync += [
                                    a_group.eq(0), a_head.eq(a_head + 1), *gone,
                                    a_word.eq(c.context_base + (a_head + 1) * c.head_words),
                                ]  # fmt: skip
                            m.next = "ITEM"

        m.d.comb += self.busy.eq(~self.step.ready)
        return m

    def _words(self, m: Module, begin: Signal, tile: Signal, done: Signal) -> Signal:
        """The word that beats are for: with ``begin`` the first one of a tile, with ``done`` the next one.

        The words of all tiles of a header are known from the cycle in which it is offered: then the first tile begins.
        """
        c = self._config
        size = c.operand_words
        fresh = self.beat_valid & (self.beat.kind == Beat.HEADER)
        masks = Signal(c.header_tiles * size)
        left, word = Signal(size), Signal(range(size))
        now = Signal(size)
        of_tile = Mux(fresh, self.words, masks).word_select(tile, size)
        m.d.comb += now.eq(Mux(begin, of_tile, left))
        _, first, alone = _lowest(m, now)
        with m.If(fresh):
            m.d.sync += masks.eq(self.words)
        with m.If(begin | done):
            m.d.sync += [word.eq(first), left.eq(now & ~alone)]
        return word


def _lowest(m: Module, bits: Value) -> tuple[Value, Value, Value]:
    """Whether a bit is set, the number of the lowest one, and that one alone; as deep as its number has bits."""
    if len(bits) == 1:
        return bits, Const(0, 0), bits
    half = 1 << (len(bits) - 1).bit_length() - 1
    (low, low_at, low_bit), (high, high_at, high_bit) = (
        _lowest(m, bits[:half]), _lowest(m, bits[half:]),
    )  # fmt: skip
    found, at, alone = Signal(), Signal(range(len(bits))), Signal(len(bits))
    m.d.comb += [
        found.eq(low | high),
        at.eq(Mux(low, low_at, high_at | half)),
        alone.eq(Cat(low_bit, Mux(low, 0, high_bit))),
    ]
    return found, at, alone
