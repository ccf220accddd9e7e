# SPDX-License-Identifier: Apache-2.0
"""Where results go: pooling, the addresses of every row in the scratchpads, and other cores."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from hw.kernel.memory import LaneMemory, address_bits
from hw.kernel.program import CoreShape, Phase, RowsTo, Send, Store, WordsTo
from hw.kernel.tools import choose
from hw.unit import Unit, place

__all__ = ["Drain", "store_layout"]


def store_layout(shape: CoreShape) -> StructLayout:
    """A row that leaves: all its elements, or, if it was pooled, the lower half of them."""
    return StructLayout({"y": shape.outputs * shape.bits, "half": 1, "last": 1})


class Drain(Unit):
    """Takes rows of results in the order in which they are made and puts them where their phase says.

    Latency
    -------
    A row is written two cycles after it entered; rows follow each other without a gap, unless a memory takes them
    element by element, or a store or a link waits.

    Parameters
    ----------
    phases : whose results come.
    shape : of the core.
    name : of what it belongs to.
    received : rows come from another core, which has pooled them already.

    Members
    -------
    run : ``In(1)``
        Low: everything begins anew.
    go : ``In(1)``
        The scratchpads of ``uses`` are free for it.
    uses, writes : ``Out(3)``
        Whether results of this phase go to X, W, rows; whether one does in this cycle.
    i : ``In(stream)`` of ``outputs`` elements.
    x_*, w_*, rows_* : write ports of the scratchpads (``rows_*`` as of ``RowMemory``).
    store : ``Out(stream)``
        Rows that leave.
    link_N : ``Out(stream)``
        Rows for core N.
    written : phases that are done.
    done_en, done_image : a tensor in rows has one more.
    """

    def __init__(
        self, phases: Sequence[Phase], shape: CoreShape, name: str, *, received: bool = False
    ) -> None:
        self._phases, self._shape, self._received = tuple(phases), shape, received
        self._sends = tuple(sorted({t.core for p in phases for t in p.to if isinstance(t, Send)}))
        kinds = ("x", "w", "turned", "rows", "store", *(f"link_{n}" for n in self._sends))
        self._targets = {
            kind: [next((t for t in p.to if _kind(t) == kind), None) for p in phases]
            for kind in kinds
        }
        for p in phases:
            kinds = ["w" if _kind(t) == "turned" else _kind(t) for t in p.to]
            if len(set(kinds)) != len(kinds):
                raise ValueError(f"{p.name} goes twice to one kind of scratchpad")
        s = shape
        super().__init__(
            {
                "run": In(1), "go": In(1), "uses": Out(3), "writes": Out(3),
                "i": In(stream.Signature(s.outputs * s.bits)),
                "x_en": Out(s.tokens * s.reduce), "x_row": Out(address_bits(max(1, s.x_words))),
                "x_data": Out(s.tokens * s.reduce * s.bits),
                "w_en": Out(s.outputs * s.reduce), "w_row": Out(address_bits(max(1, s.w_words))),
                "w_data": Out(s.outputs * s.reduce * s.bits),
                "rows_en": Out(1), "rows_bank": Out(address_bits(s.groups)),
                "rows_row": Out(address_bits(max(1, s.row_words))), "rows_data": Out(s.outputs * s.bits),
                "rows_low": Out(1), "rows_high": Out(1), "rows_first": Out(1),
                "store": Out(stream.Signature(store_layout(shape))),
                "written": Out(8), "done_en": Out(1), "done_image": Out(8),
                **{f"link_{n}": Out(stream.Signature(s.outputs * s.bits)) for n in self._sends},
            },
            {"": name},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s, phases = self._shape, self._phases
        phase = Signal(range(len(phases) + 1))
        y, n, c = Signal(16), Signal(16), Signal(16)
        pooled = [p.pool and not self._received for p in phases]
        y_last = choose(
            m, phase,
            [(p.ys // 2 if p.pool and self._received else p.ys) - 1 for p in phases], "y_last",
        )  # fmt: skip
        n_last = choose(m, phase, [p.ns - 1 for p in phases], "n_last")
        c_last = choose(m, phase, [p.cs - 1 for p in phases], "c_last")
        by_columns = choose(m, phase, [p.by_columns for p in phases], "by_columns")
        half = choose(m, phase, [p.pool for p in phases], "half")
        pool = choose(m, phase, pooled, "pool")

        # The row, of the pooled ones the larger of neighbours.
        row, full, taken = Signal(s.outputs * s.bits), Signal(), Signal()
        m.d.comb += self.i.ready.eq(~full | taken)
        data = Signal.like(row)
        silent, y_moves = Signal(), Signal()
        with m.If(self.i.ready):
            m.d.sync += [full.eq(self.i.valid), row.eq(self.i.payload)]
        if any(pooled):
            silent = self._pool(m, row, data, pool, y, taken & full, y_moves)
        else:
            m.d.comb += data.eq(row)

        step = Signal()  # of the row's last cycle
        y_end, n_end, c_end = y == y_last, n == n_last, c == c_last
        n_moves, c_moves = Signal(), Signal()
        m.d.comb += [
            step.eq(full & taken),
            c_moves.eq(step),
            n_moves.eq(step & Mux(by_columns, y_end, c_end)),
            y_moves.eq(step & (by_columns | (c_end & n_end))),
        ]
        with m.If(c_moves):
            m.d.sync += c.eq(Mux(c_end, 0, c + 1))
        with m.If(n_moves):
            m.d.sync += n.eq(Mux(n_end, 0, n + 1))
        with m.If(y_moves):
            m.d.sync += y.eq(Mux(y_end, 0, y + 1))
        over = step & y_end & n_end & c_end
        # Written means written: a cycle after the memory took it.
        done, row_done = Signal(), Signal()
        m.d.sync += [done.eq(over), row_done.eq(0)]
        with m.If(over):
            m.d.sync += phase.eq(phase + 1)
        with m.If(done):
            m.d.sync += self.written.eq(self.written + 1)
        moves = {"y": (y_moves, y_end), "n": (n_moves, n_end), "c": (c_moves, c_end)}
        if any(self._targets["rows"]):
            self._to_rows(m, phase, full & taken & ~silent, data, y, n, (half, pool), moves)
        serial = self._to_words(m, phase, full & self.go, taken, data, n, moves)
        row = Mux(pool, y >> 1, y)
        ready = self._leave(m, phase, full & serial & self.go & ~silent, taken, data, row)
        m.d.comb += [
            taken.eq(full & serial & self.go & (silent | ready)),
            self.uses.eq(Cat(*(self._goes(m, phase, k) for k in (("x",), ("w", "turned"), ("rows",))))),
            self.writes.eq(Cat(self.x_en.any(), self.w_en.any(), self.rows_en)),
            self.store.p.y.eq(data), self.store.p.half.eq(pool), self.store.p.last.eq(
                Mux(pool, (y >> 1) == (y_last + 1 >> 1) - 1, y_end) & n_end & c_end
            ),
        ]  # fmt: skip
        with m.If(~self.run):
            m.d.sync += [phase.eq(0), y.eq(0), n.eq(0), c.eq(0), full.eq(0), self.written.eq(0),
                         done.eq(0)]  # fmt: skip
        return m

    def has(self, kind: str) -> bool:
        """Whether any phase's results go there: ``x``, ``w``, ``turned``, ``rows``, ``store``."""
        return any(self._targets[kind])

    def _goes(self, m: Module, phase: Value, kinds: tuple[str, ...]) -> Value:
        """Whether results of the phase go to one of these."""
        there = [
            any(self._targets[k][p] is not None for k in kinds) for p in range(len(self._phases))
        ]
        return choose(m, phase, there, f"goes_{kinds[0]}")

    def _leave(
        self, m: Module, phase: Value, valid: Value, taken: Value, data: Value, y: Value
    ) -> Value:
        """Offer a row to memory and the cores that need it, each once; whether all of them have it."""
        ready: Value = Const(1)
        for kind in ("store", *(f"link_{n}" for n in self._sends)):
            there, port, gone = (
                self._goes(m, phase, (kind,)),
                getattr(self, kind),
                Signal(name=f"gone_{kind}"),
            )
            sends = [t if isinstance(t, Send) else None for t in self._targets[kind]]
            if any(t and not p.by_columns for t, p in zip(sends, self._phases, strict=True)):
                first = choose(m, phase, [t.first if t else 0 for t in sends], f"first_{kind}")
                ends = [
                    t.first + t.count if t and not p.by_columns else 1 << 16
                    for t, p in zip(sends, self._phases, strict=True)
                ]
                there = there & (y >= first) & (y < choose(m, phase, ends, f"end_{kind}"))
            m.d.comb += port.valid.eq(valid & there & ~gone)
            if kind != "store":
                m.d.comb += port.payload.eq(data)
            m.d.sync += gone.eq(self.run & ~taken & (gone | (port.valid & port.ready)))
            ready = ready & (~there | gone | port.ready)
        return ready

    def _pool(
        self,
        m: Module,
        row: Signal,
        data: Signal,
        pool: Value,
        y: Value,
        step: Value,
        y_moves: Value,
    ) -> Value:
        """Largest of 2x2: neighbours in a row at once, those of the row before from a line; odd rows give results."""
        s = self._shape
        half, bits = s.outputs // 2, s.bits
        longest = max(p.ns * p.cs for p in self._phases if p.pool)
        line = place(m, "line", LaneMemory(bits=half * bits, lanes=1, depth=longest))
        index, silent = Signal(range(longest + 1)), Signal()
        m.d.comb += silent.eq(pool & ~y[0])
        ahead = Signal.like(index)  # of the next row, whose entry is read while this one is taken
        m.d.comb += ahead.eq(Mux(step, Mux(y_moves, 0, index + 1), index))
        m.d.sync += index.eq(Mux(self.run, ahead, 0))
        lanes = [row.word_select(k, bits).as_signed() for k in range(s.outputs)]
        pairs = [
            Mux(a > b, a, b).as_signed() for a, b in zip(lanes[::2], lanes[1::2], strict=False)
        ]
        widest = [Signal(signed(bits), name=f"pair_{k}") for k in range(half)]
        m.d.comb += [w.eq(p) for w, p in zip(widest, pairs, strict=True)]
        m.d.comb += [
            line.rd_en.eq(1), line.rd_row.eq(ahead), line.wr_en.eq(step & silent), line.wr_row.eq(index),
            line.wr_data.eq(Cat(widest)),
        ]  # fmt: skip
        fresh, written = Signal(), Signal(half * bits)  # where a line has one entry
        m.d.sync += [fresh.eq(step & silent & (ahead == index)), written.eq(line.wr_data)]
        entry = Mux(fresh, written, line.rd_data)
        before = [entry.word_select(k, bits).as_signed() for k in range(half)]
        larger = [Mux(a > b, a, b) for a, b in zip(widest, before, strict=True)]
        m.d.comb += data.eq(Mux(pool, Cat(*(x.as_unsigned()[:bits] for x in larger)), row))
        return silent

    def _to_rows(
        self,
        m: Module,
        phase: Value,
        en: Value,
        data: Value,
        y: Value,
        n: Value,
        pools: tuple[Value, Value],
        moves: Any,
    ) -> None:
        s, phases, targets = self._shape, self._phases, self._targets["rows"]
        pool, now = pools  # words of halves; pooled here, so that only every other row counts
        here = choose(m, phase, [t is not None for t in targets], "to_rows")
        rows = [t.rows if isinstance(t, RowsTo) else None for t in targets]
        base = choose(m, phase, [r.base if r else 0 for r in rows], "rows_base")
        tiles = choose(m, phase, [r.tiles + 1 if r else 0 for r in rows], "rows_tiles")
        stride = choose(m, phase, [r.stride if r else 0 for r in rows], "rows_stride")
        number = choose(m, phase, [r.number if r else 0 for r in rows], "rows_number")
        at_y, at_c, bank = Signal(24), Signal(24), Signal(range(s.groups + 1))
        by_columns = choose(m, phase, [p.by_columns for p in phases], "rows_by_columns")
        (y_moves, y_end), (_, n_end), (c_moves, c_end) = moves["y"], moves["n"], moves["c"]
        with m.If(c_moves):
            m.d.sync += at_c.eq(Mux(c_end, 0, at_c + stride))
        with m.If(y_moves & (~now | y[0] | y_end)):
            m.d.sync += bank.eq(bank + 1)
            with m.If(bank == s.groups - 1):
                m.d.sync += [bank.eq(0), at_y.eq(at_y + tiles)]
            with m.If(y_end):
                m.d.sync += [bank.eq(0), at_y.eq(0)]
        lanes, half = s.outputs, s.outputs // 2
        # Zeros behind the last column; two pooled tiles make a word.
        kept = [_columns(p, lanes) for p in phases]
        limit = Signal(range(lanes + 1))
        last = choose(m, phase, kept, "rows_kept")
        n_last = choose(m, phase, [p.ns - 1 for p in phases], "rows_n_last")
        m.d.comb += limit.eq(Mux(n == n_last, last, Mux(pool, half, lanes) if half else lanes))
        clean = [Mux(limit > k, data.word_select(k, s.bits), 0) for k in range(lanes)]
        odd = pool & n[0]
        placed = clean
        if any(p.pool for p in phases):
            placed = [
                Mux(odd, clean[k - half] if k >= half else 0, Mux(pool, clean[k] if k < half else 0, clean[k]))
                for k in range(lanes)
            ]  # fmt: skip
        m.d.comb += [
            self.rows_en.eq(en & here), self.rows_bank.eq(bank),
            self.rows_row.eq(base + at_y + at_c + Mux(pool, n >> 1, n)),
            self.rows_data.eq(Cat(*placed)), self.rows_low.eq(~odd), self.rows_high.eq(1),
            self.rows_first.eq(Mux(pool, n >> 1, n) == 0),
        ]  # fmt: skip
        m.d.sync += [
            self.done_en.eq(en & here & y_moves & (~by_columns | n_end)), self.done_image.eq(number),
        ]  # fmt: skip

    def _to_words(
        self, m: Module, phase: Value, full: Value, taken: Value, data: Value, n: Value, moves: Any
    ) -> Value:
        """Writes to X and W words; whether this is the row's last cycle."""
        s, phases = self._shape, self._phases
        words = [self._targets[k] for k in ("x", "w")]
        straight = [any(t) for t in words]
        serial = s.step != s.outputs and any(straight)
        element = Signal(range(s.outputs + 1))
        count = s.outputs // s.step
        ready = Signal(init=1)
        is_word = choose(
            m,
            phase,
            [any(ts[k] is not None for ts in words) for k in range(len(phases))],
            "is_word",
        )
        if serial:
            # One row, one element a cycle.
            m.d.comb += ready.eq(~is_word | (element == count - 1))
            with m.If(full & is_word & ~ready):
                m.d.sync += element.eq(element + 1)
            with m.If(moves["c"][0] | ~self.run):
                m.d.sync += element.eq(0)
        # Along a row of the result: word and position in it.
        per_word = s.reduce // s.step
        word, place_, word_0, place_0 = (Signal(16, name=f"along_{k}") for k in range(4))
        word_next, place_next = Signal(16), Signal(16)
        wraps = place_ == per_word - 1
        m.d.comb += [place_next.eq(Mux(wraps, 0, place_ + 1)), word_next.eq(word + wraps)]
        row_ends, (n_moves, n_end) = moves["c"][0], moves["n"]
        with m.If(full & is_word & (taken | ~ready)):
            m.d.sync += [word.eq(word_next), place_.eq(place_next)]
        with m.If(row_ends):
            with m.If(n_moves):
                m.d.sync += [
                    word.eq(word_next),
                    place_.eq(place_next),
                    word_0.eq(word_next),
                    place_0.eq(place_next),
                ]
                with m.If(n_end):
                    m.d.sync += [word.eq(0), place_.eq(0), word_0.eq(0), place_0.eq(0)]
            with m.Else():
                m.d.sync += [word.eq(word_0), place_.eq(place_0)]
        # A phase whose results are no words leaves nothing behind.
        with m.If(~self.run | (row_ends & ~is_word)):
            m.d.sync += [word.eq(0), place_.eq(0), word_0.eq(0), place_0.eq(0)]
        columns = choose(m, phase, [p.columns for p in phases], "columns")
        inside = Signal(init=1)
        if serial:
            m.d.comb += inside.eq(n * s.outputs + element < columns)
        part = Array(data.word_select(k, s.bits * s.step) for k in range(count))[element]
        for kind, lines in (("x", s.tokens), ("w", s.outputs)):
            targets = self._targets[kind]
            if not any(targets):
                continue
            here, base, beats = self._constants(m, phase, kind)
            line, at = self._along_y(m, kind, lines, beats, moves)
            pick = Signal(lines * per_word, name=f"{kind}_pick")
            m.d.comb += pick.eq(
                Cat((line == a) & (place_ == b) for a in range(lines) for b in range(per_word))
            )
            m.d.comb += [
                getattr(self, f"{kind}_en").eq(
                    Cat(*(b.replicate(s.step) for b in pick)) & (full & here & inside).replicate(lines * s.reduce)
                ),
                getattr(self, f"{kind}_row").eq(base + at + word),
                getattr(self, f"{kind}_data").eq(Cat(*[part] * (lines * per_word))),
            ]  # fmt: skip
        if any(self._targets["turned"]):
            here, base, beats = self._constants(m, phase, "turned")
            line, at = self._along_y(m, "turned", s.reduce, Const(1), moves)
            along = Signal(24)
            with m.If(n_moves):
                m.d.sync += along.eq(Mux(n_end, 0, along + beats))
            pick = Signal(s.reduce)
            m.d.comb += pick.eq(Cat(line == a for a in range(s.reduce)))
            lanes = [data.word_select(o, s.bits) for o in range(s.outputs)]
            with m.If(here):
                m.d.comb += [
                    self.w_en.eq(Cat(*[pick] * s.outputs) & full.replicate(s.outputs * s.reduce)),
                    self.w_row.eq(base + along + at),
                    self.w_data.eq(Cat(*(lane.replicate(s.reduce) for lane in lanes))),
                ]
        return ready

    def _constants(self, m: Module, phase: Value, kind: str) -> tuple[Value, Value, Value]:
        targets = [t if isinstance(t, WordsTo) else None for t in self._targets[kind]]
        return (
            choose(m, phase, [t is not None for t in targets], f"{kind}_here"),
            choose(m, phase, [t.base if t else 0 for t in targets], f"{kind}_base"),
            choose(m, phase, [t.beats if t else 0 for t in targets], f"{kind}_beats"),
        )

    def _along_y(
        self, m: Module, kind: str, lines: int, beats: Value, moves: Any
    ) -> tuple[Value, Value]:
        """Which of ``lines`` lines of a word a row is, and where its words begin."""
        line, at = Signal(range(lines + 1), name=f"{kind}_line"), Signal(24, name=f"{kind}_at")
        y_moves, y_end = moves["y"]
        with m.If(y_moves):
            m.d.sync += line.eq(line + 1)
            with m.If(line == lines - 1):
                m.d.sync += [line.eq(0), at.eq(at + beats)]
            with m.If(y_end):
                m.d.sync += [line.eq(0), at.eq(0)]
        with m.If(~self.run):
            m.d.sync += [line.eq(0), at.eq(0)]
        return line, at


def _kind(target: object) -> str:
    if isinstance(target, Store):
        return "store"
    if isinstance(target, Send):
        return f"link_{target.core}"
    if isinstance(target, RowsTo):
        return "rows"
    assert isinstance(target, WordsTo)
    return "turned" if target.turned else target.memory


def _columns(phase: Phase, lanes: int) -> int:
    """Columns of a row's last tile that exist, after pooling."""
    left = phase.columns - (phase.ns - 1) * lanes
    return left // 2 if phase.pool else left
