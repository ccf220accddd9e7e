# SPDX-License-Identifier: Apache-2.0
"""Rows of attention scores become probabilities."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out, Signature
from amaranth.utils import bits_for

from hw.sfu.memory import WordMemory
from hw.sfu.tables import EXP2_TABLE, concatenation
from hw.sfu.tree import radix_4, tree
from hw.unit import TemplateUnit, Unit, place

__all__ = ["Exp2Lanes", "Reciprocal", "RowMaximum", "Softmax"]


def _index_bits(count: int) -> int:
    """Width of an index below ``count``; at least one bit, so that every port has a wire."""
    return max(1, (count - 1).bit_length())


class RowMaximum(TemplateUnit):
    """Largest of the first ``limit`` scores of a word; a word per cycle.

    Latency
    -------
    ``valid_o``, ``tag_o`` and ``largest`` come ``latency`` cycles after the word: a stage for two
    comparisons in line.

    Parameters
    ----------
    lanes : scores of a word.
    tag_bits : width of what accompanies a word.

    Members
    -------
    valid, tag : ``In``; accompany ``data``.
    limit : ``In``; lanes from ``limit`` on are ignored.
    data : ``In``, s16 per lane.
    valid_o, tag_o : ``Out``.
    largest : ``Out``, s17; the maximum, or -65536 if no lane counts.
    """

    template = "sfu/row_maximum.sv.j2"

    def __init__(self, lanes: int, tag_bits: int) -> None:
        self.lanes, self.tag_bits = lanes, tag_bits
        super().__init__(
            {
                "valid": In(1),
                "tag": In(tag_bits),
                "limit": In(bits_for(lanes)),
                "data": In(ArrayLayout(signed(16), lanes)),
                "valid_o": Out(1),
                "tag_o": Out(tag_bits),
                "largest": Out(signed(17)),
            },
            {"l": lanes, "tag": tag_bits},
        )

    @property
    def latency(self) -> int:
        """Cycles from a word to its maximum."""
        return radix_4(self.lanes)

    def context(self) -> dict[str, Any]:
        return {
            "lanes": self.lanes,
            "tag_bits": self.tag_bits,
            "limit_bits": bits_for(self.lanes),
            "stages": tree("key", self.lanes, 17, [4] * self.latency),
        }


class Exp2Lanes(TemplateUnit):
    """``127 * 2**(score - maximum)`` per lane, and the sum of a row; a word per cycle.

    The table is complete at the 8 fraction bits of a score. Only its upper 8 bits are held: the
    result is the table's value shifted right by at least 7 before it is rounded.

    Latency
    -------
    ``p`` is valid ``latency`` cycles after ``data``, ``sum`` ``sum_latency`` cycles after the row's
    last word.

    Parameters
    ----------
    lanes : scores of a word.
    sum_bits : width of the sum of a row.
    tag_bits : width of what accompanies a word.

    Members
    -------
    valid, first, last, tag : ``In``; accompany ``data``, the flags say where a row begins and ends.
    limit : ``In``; lanes from ``limit`` on become 0.
    maximum : ``In``, s16; of the row.
    data : ``In``, s16 per lane.
    p_valid, p_tag : ``Out``.
    p : ``Out``, 7 bits per lane.
    sum_valid, sum_tag : ``Out``; the tag of the row's last word.
    sum : ``Out``.
    """

    template = "sfu/exp2_lanes.sv.j2"
    latency = 3

    def __init__(self, lanes: int, sum_bits: int, tag_bits: int) -> None:
        self.lanes, self.sum_bits, self.tag_bits = lanes, sum_bits, tag_bits
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "tag": In(tag_bits),
                "limit": In(bits_for(lanes)),
                "maximum": In(signed(16)),
                "data": In(ArrayLayout(signed(16), lanes)),
                "p_valid": Out(1),
                "p_tag": Out(tag_bits),
                "p": Out(ArrayLayout(7, lanes)),
                "sum_valid": Out(1),
                "sum_tag": Out(tag_bits),
                "sum": Out(sum_bits),
            },
            {"l": lanes, "s": sum_bits, "tag": tag_bits},
        )

    @property
    def sum_latency(self) -> int:
        """Cycles from a row's last word to its sum."""
        return self.latency + radix_4(self.lanes) + 1

    def context(self) -> dict[str, Any]:
        return {
            "lanes": self.lanes,
            "sum_bits": self.sum_bits,
            "tag_bits": self.tag_bits,
            "limit_bits": bits_for(self.lanes),
            "depth": radix_4(self.lanes),
            "sums": tree("sum", self.lanes, 7, [4] * radix_4(self.lanes)),
            "table": concatenation(EXP2_TABLE >> 7, 8, per_line=12),
        }


class Reciprocal(TemplateUnit):
    """``(multiplier * 2**24) / (total * 2**(24 - length))`` and ``shift + length``; a row a cycle.

    ``length`` is the bit length of ``total``. A restoring divider with two bits in a stage.

    Latency
    -------
    ``latency`` cycles.

    Parameters
    ----------
    total_bits : width of the sum, at most 24.
    tag_bits : width of what accompanies a sum.

    Members
    -------
    valid, tag : ``In``; accompany ``total``.
    total : ``In``; at least 1.
    multiplier, shift : ``In(16)``, ``In(6)``; stable. The multiplier is from 2**14 to 2**15 - 1.
    valid_o, tag_o : ``Out``.
    multiplier_o, shift_o : ``Out(16)``, ``Out(6)``; the quotient, and the shift that belongs to it.
    """

    template = "sfu/reciprocal.sv.j2"
    latency = 10

    def __init__(self, total_bits: int, tag_bits: int) -> None:
        self.total_bits, self.tag_bits = total_bits, tag_bits
        super().__init__(
            {
                "valid": In(1),
                "tag": In(tag_bits),
                "total": In(total_bits),
                "multiplier": In(16),
                "shift": In(6),
                "valid_o": Out(1),
                "tag_o": Out(tag_bits),
                "multiplier_o": Out(16),
                "shift_o": Out(6),
            },
            {"t": total_bits, "tag": tag_bits},
        )

    def context(self) -> dict[str, Any]:
        return {"total_bits": self.total_bits, "tag_bits": self.tag_bits}


class Softmax(Unit):
    """Score slots, row maxima, the probabilities (P buffer) and the reciprocals of their sums.

    Maxima are found while scores are written. An item then reads its scores row by row, a word per
    cycle (``softmax_row``), and every row's sum goes through a pipelined divider (``reciprocal``).

    Latency
    -------
    ``done`` comes :meth:`cycles` cycles after the item was accepted by an idle unit. One item waits
    inside while another is read; so items that are offered in time begin :meth:`interval` cycles
    apart.

    Parameters
    ----------
    tokens : rows of a slot.
    lanes : scores of a word, at least 2.
    context : columns of a row, a multiple of ``lanes``.
    slots : how many groups of rows are held.

    Members
    -------
    score : ``In``; a word of scores when ``valid``: ``slot``, ``row``, ``chunk``, ``data`` (s16 per
        lane), ``limit`` (unmasked lanes, 0 to ``lanes``), ``first`` (of the row: at least one lane
        is unmasked, the maximum begins anew).
    item : ``In(stream)`` of ``slot``, ``rows`` (1 to ``tokens``), ``chunks`` (words of every row)
        and ``columns`` (unmasked columns of row 0; each further row has one more). Its last score
        is written in the cycle of the transfer or earlier.
    constant : ``In``; ``multiplier`` and ``shift`` of the context, see ``reciprocal``; stable.
    p_en, p_slot, p_chunk : ``In``; read port of the P buffer.
    p_data : ``Out``, ``[tokens][lanes]`` s8, 0 to 127; the cycle after ``p_en``; stays while
        ``p_en`` is low. Masked columns are 0; rows from ``rows`` on are undefined.
    r_slot : ``In``; whose reciprocals are shown, in the same cycle.
    r_multiplier, r_shift : ``Out``; 16 and 6 bits for each row.
    done : ``Out(1)``; a pulse: all of the item can be read from this cycle on.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    def __init__(self, tokens: int, lanes: int, context: int, slots: int) -> None:
        if tokens < 1 or slots < 1:
            raise ValueError(f"Tokens and slots must be at least 1, not {tokens!r} and {slots!r}")
        if lanes < 2:
            raise ValueError(f"A word needs at least 2 lanes, not {lanes!r}")
        if context < lanes or context % lanes:
            raise ValueError(f"Context must be a multiple of {lanes} lanes, not {context!r}")
        self.tokens, self.lanes, self.context, self.slots = tokens, lanes, context, slots
        self.chunks = context // lanes
        self.slot_bits, self.row_bits = _index_bits(slots), _index_bits(tokens)
        self.chunk_bits = _index_bits(self.chunks)
        sum_bits = (127 * context).bit_length()
        if sum_bits > 24:
            raise ValueError(f"Context must be at most 132104 columns, not {context!r}")
        where = StructLayout({"slot": self.slot_bits, "row": self.row_bits})
        self._score_tag = StructLayout({"where": where, "first": 1})
        self._word_tag = StructLayout({"where": where, "chunk": self.chunk_bits, "final": 1})
        self._row_tag = StructLayout({"where": where, "final": 1})
        self._maximum = RowMaximum(lanes, self._score_tag.size)
        self._exp2 = Exp2Lanes(lanes, sum_bits, self._word_tag.size)
        self._reciprocal = Reciprocal(sum_bits, self._row_tag.size)
        self.item_layout = StructLayout(
            {
                "slot": self.slot_bits,
                "rows": bits_for(tokens),
                "chunks": bits_for(self.chunks),
                "columns": bits_for(context),
            }
        )
        super().__init__(
            {
                "score": In(
                    Signature(
                        {
                            "valid": Out(1),
                            "slot": Out(self.slot_bits),
                            "row": Out(self.row_bits),
                            "chunk": Out(self.chunk_bits),
                            "data": Out(ArrayLayout(signed(16), lanes)),
                            "limit": Out(bits_for(lanes)),
                            "first": Out(1),
                        }
                    )
                ),
                "item": In(stream.Signature(self.item_layout)),
                "constant": In(Signature({"multiplier": Out(16), "shift": Out(6)})),
                "p_en": In(1),
                "p_slot": In(self.slot_bits),
                "p_chunk": In(self.chunk_bits),
                "p_data": Out(ArrayLayout(ArrayLayout(signed(8), lanes), tokens)),
                "r_slot": In(self.slot_bits),
                "r_multiplier": Out(ArrayLayout(16, tokens)),
                "r_shift": Out(ArrayLayout(6, tokens)),
                "done": Out(1),
            },
            {"t": tokens, "l": lanes, "c": context, "s": slots},
        )

    @property
    def wait(self) -> int:
        """Cycles from an item's transfer to its first read: every maximum is then known."""
        return max(2, self._maximum.latency + 1)

    def cycles(self, rows: int, chunks: int) -> int:
        """Cycles from the one that accepts an item, the unit being idle, to ``done``."""
        last_read = self.wait + rows * chunks - 1
        return last_read + 1 + self._exp2.sum_latency + Reciprocal.latency + 1

    def interval(self, rows: int, chunks: int) -> int:
        """Cycles from the first read of an item to the next, if that is offered in time."""
        return max(rows * chunks, self.wait - 1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        maximum, exp2 = place(m, "maximum", self._maximum), place(m, "exp2", self._exp2)
        reciprocal = place(m, "reciprocal", self._reciprocal)
        score = self.score

        # Scores: a memory, and the maximum of every row.
        depth = self.slots * self.tokens * self.chunks
        scores = place(m, "scores", WordMemory(depth, self.lanes * 16))
        score_tag = Signal(self._score_tag)
        m.d.comb += [
            scores.w_en.eq(score.valid),
            scores.w_addr.eq(self._address(score.slot, score.row, score.chunk)),
            scores.w_data.eq(score.data),
            score_tag.where.slot.eq(score.slot),
            score_tag.where.row.eq(score.row),
            score_tag.first.eq(score.first),
            maximum.valid.eq(score.valid),
            maximum.tag.eq(score_tag),
            maximum.limit.eq(score.limit),
            maximum.data.eq(score.data),
        ]
        maxima = Array(
            Array(Signal(signed(16), name=f"maximum_{s}_{t}") for t in range(self.tokens))
            for s in range(self.slots)
        )
        found = Signal(self._score_tag)
        m.d.comb += found.eq(maximum.tag_o)
        for s in range(self.slots):
            for t in range(self.tokens):
                chosen = (found.where.slot == s) & (found.where.row == t)
                better = found.first | (maximum.largest > maxima[s][t])
                with m.If(maximum.valid_o & chosen & better):
                    m.d.sync += maxima[s][t].eq(maximum.largest[:16].as_signed())

        # Items: the next one waits until its maxima are known and its predecessor is read.
        waiting = Signal()
        ahead = Signal(self.item_layout)
        left = Signal(range(self.wait))
        reading = Signal()
        item = Signal(self.item_layout)
        row = Signal(self.row_bits)
        chunk = Signal(self.chunk_bits)
        columns = Signal(bits_for(self.context + self.tokens))
        remaining = Signal.like(columns)
        last_chunk = Signal()
        last_row = Signal()
        take = Signal()
        m.d.comb += [
            last_chunk.eq(chunk + 1 == item.chunks),
            last_row.eq(row + 1 == item.rows),
            take.eq(waiting & (left == 0) & (~reading | (last_chunk & last_row))),
            self.item.ready.eq(~waiting | take),
        ]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(take):
            m.d.sync += waiting.eq(0)
        with m.If(self.item.valid & self.item.ready):
            m.d.sync += [waiting.eq(1), ahead.eq(self.item.payload), left.eq(self.wait - 2)]
        with m.If(reading):
            m.d.sync += [
                chunk.eq(chunk + 1),
                remaining.eq(Mux(remaining > self.lanes, remaining - self.lanes, 0)),
            ]
            with m.If(last_chunk):
                m.d.sync += [
                    chunk.eq(0),
                    row.eq(row + 1),
                    columns.eq(columns + 1),
                    remaining.eq(columns + 1),
                    reading.eq(~last_row),
                ]
        with m.If(take):
            m.d.sync += [
                reading.eq(1),
                item.eq(ahead),
                row.eq(0),
                chunk.eq(0),
                columns.eq(ahead.columns),
                remaining.eq(ahead.columns),
            ]

        # A word of scores, and what accompanies it.
        word_tag = Signal(self._word_tag)
        m.d.comb += [
            scores.r_en.eq(reading),
            scores.r_addr.eq(self._address(item.slot, row, chunk)),
            exp2.data.eq(scores.r_data),
            exp2.tag.eq(word_tag),
        ]
        m.d.sync += [
            exp2.valid.eq(reading),
            exp2.first.eq(chunk == 0),
            exp2.last.eq(last_chunk),
            exp2.limit.eq(Mux(remaining > self.lanes, self.lanes, remaining)),
            exp2.maximum.eq(maxima[item.slot][row]),
            word_tag.where.slot.eq(item.slot),
            word_tag.where.row.eq(row),
            word_tag.chunk.eq(chunk),
            word_tag.final.eq(last_row & last_chunk),
        ]

        # Probabilities: a memory for each row of a slot, read together.
        p_tag = Signal(self._word_tag)
        m.d.comb += p_tag.eq(exp2.p_tag)
        for t in range(self.tokens):
            bank = place(m, f"p_{t}", WordMemory(self.slots * self.chunks, self.lanes * 7))
            m.d.comb += [
                bank.w_en.eq(exp2.p_valid & (p_tag.where.row == t)),
                bank.w_addr.eq(p_tag.where.slot * self.chunks + p_tag.chunk),
                bank.w_data.eq(exp2.p),
                bank.r_en.eq(self.p_en),
                bank.r_addr.eq(self.p_slot * self.chunks + self.p_chunk),
            ]
            for lane in range(self.lanes):
                m.d.comb += self.p_data[t][lane].eq(bank.r_data.word_select(lane, 7))

        # Sums and their reciprocals.
        sum_tag = Signal(self._word_tag)
        row_tag = Signal(self._row_tag)
        m.d.comb += [
            sum_tag.eq(exp2.sum_tag),
            row_tag.where.eq(sum_tag.where),
            row_tag.final.eq(sum_tag.final),
            reciprocal.valid.eq(exp2.sum_valid),
            reciprocal.tag.eq(row_tag),
            reciprocal.total.eq(exp2.sum),
            reciprocal.multiplier.eq(self.constant.multiplier),
            reciprocal.shift.eq(self.constant.shift),
        ]
        known = Signal(self._row_tag)
        m.d.comb += known.eq(reciprocal.tag_o)
        pairs = Array(
            Array(Signal(22, name=f"reciprocal_{s}_{t}") for t in range(self.tokens))
            for s in range(self.slots)
        )
        for s in range(self.slots):
            for t in range(self.tokens):
                chosen = (known.where.slot == s) & (known.where.row == t)
                with m.If(reciprocal.valid_o & chosen):
                    m.d.sync += pairs[s][t].eq(Cat(reciprocal.multiplier_o, reciprocal.shift_o))
        m.d.sync += self.done.eq(reciprocal.valid_o & known.final)
        for t in range(self.tokens):
            pair = pairs[self.r_slot][t]
            m.d.comb += [self.r_multiplier[t].eq(pair[:16]), self.r_shift[t].eq(pair[16:])]
        return m

    def _address(self, slot: Any, row: Any, chunk: Any) -> Any:
        """Of a word of scores."""
        return (slot * self.tokens + row) * self.chunks + chunk
