# SPDX-License-Identifier: Apache-2.0
"""A core: engine, scratchpads, the sequencer that feeds it, what brings its results back and those of other cores."""

from typing import Any, cast

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.arrays import make_engine
from hw.kernel.drain import Drain, store_layout
from hw.kernel.issue import EVENTS, Issue
from hw.kernel.loader import Loader
from hw.kernel.memory import LaneMemory, RowMemory, address_bits
from hw.kernel.post import PostProcess
from hw.kernel.program import CoreShape, Pair, Program, RowsAt, Softmax, Window
from hw.kernel.softmax import RowSoftmax
from hw.kernel.tools import choose, divide
from hw.kernel.window import WindowKind, WindowSelect
from hw.memory.buffers import RingMemory
from hw.unit import Unit, place

__all__ = ["KernelCore", "make_core_engine"]


def make_core_engine(shape: CoreShape, array: str = "tree") -> Any:
    """The engine of a core."""
    return make_engine(
        array, tokens=shape.tokens, reduce=shape.reduce, outputs=shape.outputs, x_bits=shape.bits,
        w_bits=shape.bits, acc_bits=shape.acc_bits,
    )  # fmt: skip


class KernelCore(Unit):
    """Plays a program once after ``run`` rises.

    A beat goes from the sequencer through three registers (addresses of rows, the scratchpads, the operands) to the
    engine, or, of products and sums of tensors and of softmax, to what stands for it; results go through requantisation
    to :class:`Drain`. Everything before the engine moves together. What other cores send is put into the scratchpads by
    a :class:`Drain` of its own, while this core writes to none of the same kind. There is no engine if no phase needs
    one, and no loader if nothing comes from memory.

    Members
    -------
    run : ``In(1)``
        Low: everything begins anew.
    load : ``In(stream)``
        Words of memory, as the program's segments say.
    store : ``Out(stream)``
        Rows that leave.
    link_N, from_N : ``Out(stream)``, ``In(stream)``
        Rows for and of core N.
    written : phases whose results are in their places.
    phase, events : of the sequencer.
    """

    def __init__(self, program: Program, shape: CoreShape, name: str) -> None:
        self._program, self._shape, self._name = program, shape, name
        super().__init__(
            {
                "run": In(1), "load": In(stream.Signature(8 * shape.port_bytes)),
                "store": Out(stream.Signature(store_layout(shape))), "written": Out(8), "phase": Out(8),
                "events": Out(len(EVENTS)),
                **{f"link_{n}": Out(stream.Signature(shape.outputs * shape.bits)) for n in program.sends},
                **{
                    f"from_{inlet.source}": In(stream.Signature(shape.outputs * shape.bits))
                    for inlet in program.inlets
                },
            },
            {"": name},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        s, program, phases = self._shape, self._program, self._program.phases
        works = [p.work for p in phases]
        issue = place(m, "issue", Issue(program, s, self._name))
        drain = place(m, "drain", Drain(phases, s, self._name))
        post = place(
            m, "post",
            PostProcess(lanes=s.outputs, acc_bits=s.acc_bits, bits=s.bits,
                        steps=tuple((p.function, p.relu) for p in phases), name=self._name),
        )  # fmt: skip
        m.d.comb += [unit.run.eq(self.run) for unit in (issue, drain)]
        m.d.comb += [
            issue.written.eq(drain.written), drain.go.eq(1),
            self.written.eq(drain.written), self.phase.eq(issue.phase), self.events.eq(issue.events),
        ]  # fmt: skip
        for n in program.sends:
            connect(m, getattr(drain, f"link_{n}"), flipped(getattr(self, f"link_{n}")))
        loader: Any = None
        if program.segments:
            loader = place(m, "loader", Loader(program, s, self._name))
            connect(m, loader.i, flipped(self.load))
            m.d.comb += [
                loader.run.eq(self.run), issue.loaded.eq(loader.loaded), issue.words.eq(loader.words)
            ]  # fmt: skip
        drains = [drain, *self._inlets(m, issue, drain)]
        self._count_rows(m, issue, [*drains, loader] if loader else drains)

        # Three registers behind the sequencer; `advance` moves all of them.
        beat_1, valid_1 = issue.beat, issue.valid
        shape = beat_1.shape()
        beat_2, beat_3, beat_4 = (cast(Any, Signal(shape, name=f"beat_{k}")) for k in (2, 3, 4))
        valid_2, valid_3, valid_4 = (Signal(name=f"valid_{k}") for k in (2, 3, 4))
        ready, advance = Signal(), Signal()
        m.d.comb += [advance.eq(~valid_4 | ready), issue.advance.eq(advance)]
        with m.If(advance):
            m.d.sync += [
                beat_2.eq(beat_1), beat_3.eq(beat_2), beat_4.eq(beat_3), valid_2.eq(valid_1),
                valid_3.eq(valid_2), valid_4.eq(valid_3),
            ]  # fmt: skip
        with m.If(~self.run):
            m.d.sync += [valid_2.eq(0), valid_3.eq(0), valid_4.eq(0)]

        x, w = Signal(s.tokens * s.reduce * s.bits), Signal(s.outputs * s.reduce * s.bits)
        operands: list[tuple[str, Value]] = []
        if s.x_words:
            x_memory = place(
                m, "x_memory", LaneMemory(bits=s.bits, lanes=s.tokens * s.reduce, depth=s.x_words)
            )
            m.d.comb += [x_memory.rd_en.eq(advance), x_memory.rd_row.eq(beat_2.x)]
            self._write(m, x_memory, [d for d in drains if d.has("x")], "x", loader)
            with m.If(advance):
                m.d.sync += x.eq(self._tail(m, x_memory.rd_data, beat_3))
        if s.ring_words:
            ring = place(m, "ring", RingMemory(bits=len(w), lanes=1, depth=s.ring_words))
            m.d.comb += [
                ring.wr_en.eq(loader.ring_valid), ring.wr_row.eq(loader.ring_row),
                ring.wr_data.eq(loader.ring_data), ring.rd_en.eq(advance), ring.rd_row.eq(beat_2.ring),
            ]  # fmt: skip
            self._release(m, loader, beat_3, valid_3, advance)
            operands.append(("ring", ring.rd_data))
        if s.w_words:
            w_memory = place(
                m, "w_memory", LaneMemory(bits=s.bits, lanes=s.outputs * s.reduce, depth=s.w_words)
            )
            m.d.comb += [
                w_memory.rd_en.eq(advance), w_memory.rd_row.eq(beat_2.w)
            ]  # fmt: skip
            self._write(
                m, w_memory, [d for d in drains if d.has("w") or d.has("turned")], "w", None
            )
            operands.append(("tensor", w_memory.rd_data))
        if s.row_words:
            operands.append(("rows", self._rows(m, advance, drains, loader, beat_1, beat_3)))
        kinds = [p.work if isinstance(p.work, str) else "rows" for p in phases]
        names = [name for name, _ in operands]
        which = choose(m, beat_3.phase, [names.index(k) for k in kinds], "operand")
        with m.If(advance), m.Switch(which):
            for k, (_, value) in enumerate(operands[: 1 << len(which)]):
                with m.Case(k):
                    m.d.sync += w.eq(value)

        # The engine, and what stands for it.
        unit = choose(m, beat_4.phase, [_unit(work) for work in works], "unit")
        accepts: list[Value] = [Const(1), Const(1), Const(1)]
        entry = Signal(range(len(phases) + 1))
        source = choose(m, entry, [_unit(work) for work in works], "source")
        multiplier = choose(m, entry, [p.multiplier for p in phases], "multiplier")
        shift = choose(m, entry, [p.shift for p in phases], "shift")
        acc = Signal(s.outputs * s.acc_bits)
        valid = Signal()
        m.d.comb += [post.i.p.multiplier.eq(multiplier), post.i.p.shift.eq(shift)]
        if program.computes:
            engine = place(m, "engine", make_core_engine(s))
            m.d.comb += [
                engine.i.valid.eq(valid_4 & (unit == 0)), engine.i.p.x.eq(x), engine.i.p.w.eq(w),
                engine.i.p.first.eq(beat_4.first), engine.i.p.last.eq(beat_4.last),
                engine.i.p.rows.eq(beat_4.rows), acc.eq(engine.o.p.acc), valid.eq(engine.o.valid),
                engine.o.ready.eq(post.i.ready & (source == 0)),
            ]  # fmt: skip
            accepts[0] = engine.i.ready
        pixels = [w.word_select(o * s.reduce, s.bits) for o in range(s.outputs)]
        if any(isinstance(work, Pair) for work in works):
            accepts[1] = self._pairs(
                m, beat_4, valid_4 & (unit == 1), pixels, source == 1, acc, valid, post
            )
        if any(isinstance(work, Softmax) for work in works):
            accepts[2] = self._softmax(
                m, beat_4, valid_4 & (unit == 2), pixels, source == 2, acc, valid, post
            )
        with m.Switch(unit):
            for k, accept in enumerate(accepts[: 1 << len(unit)]):
                with m.Case(k):
                    m.d.comb += ready.eq(accept)
        m.d.comb += [post.i.valid.eq(valid), post.i.p.acc.eq(acc), post.i.p.phase.eq(entry)]
        self._entry(m, entry, post.i.valid & post.i.ready)
        m.d.comb += [
            drain.i.valid.eq(post.o.valid), drain.i.payload.eq(post.o.p.y), post.o.ready.eq(drain.i.ready),
        ]  # fmt: skip
        connect(m, drain.store, flipped(self.store))
        return m

    def _entry(self, m: Module, entry: Signal, step: Value) -> None:
        """Of which phase the next row is."""
        phases = self._program.phases
        left = Signal(32)
        last = choose(m, entry, [p.rows - 1 for p in phases], "last_row")
        with m.If(step):
            m.d.sync += left.eq(left + 1)
            with m.If(left == last):
                m.d.sync += [left.eq(0), entry.eq(entry + 1)]
        with m.If(~self.run):
            m.d.sync += [left.eq(0), entry.eq(0)]

    def _inlets(self, m: Module, issue: Issue, drain: Drain) -> list[Drain]:
        """What puts rows of other cores into the scratchpads; the core's own go first, then the first inlet's."""
        before, found = drain.writes, []
        for k, inlet in enumerate(self._program.inlets):
            name = f"{self._name}_from{inlet.source}"
            unit = place(
                m, f"inlet_{inlet.source}", Drain(inlet.phases, self._shape, name, received=True)
            )
            connect(m, flipped(getattr(self, f"from_{inlet.source}")), unit.i)
            m.d.comb += [
                unit.run.eq(self.run), unit.go.eq(~(unit.uses & before).any()),
                issue.arrived.word_select(k, 8).eq(unit.written),
            ]  # fmt: skip
            before = before | unit.writes
            found.append(unit)
        return found

    def _write(
        self, m: Module, memory: LaneMemory, drains: list[Drain], kind: str, loader: Any
    ) -> None:
        """The write port of a scratchpad: whoever writes, else what is loaded."""
        ports = [
            tuple(getattr(d, f"{kind}_{part}") for part in ("en", "row", "data")) for d in drains
        ]
        busy: Value = Cat(*(en.any() for en, _, _ in ports)).any() if ports else Const(0)
        if loader is not None and any(x.to == kind for x in self._program.segments):
            m.d.comb += [
                loader.x_ready.eq(~busy), memory.wr_en.eq(loader.x_valid.replicate(len(memory.wr_en))),
                memory.wr_row.eq(loader.x_row), memory.wr_data.eq(loader.x_data),
            ]  # fmt: skip
        for en, row, data in ports:
            with m.If(en.any()):
                m.d.comb += [memory.wr_en.eq(en), memory.wr_row.eq(row), memory.wr_data.eq(data)]

    def _count_rows(self, m: Module, issue: Issue, units: list[Any]) -> None:
        """How many rows of each tensor in rows are there."""
        for k in range(len(self._program.images)):
            count = Signal(16, name=f"rows_of_{k}")
            m.d.comb += issue.rows.word_select(k, 16).eq(count)
            more = [unit.done_en & (unit.done_image == k) for unit in units]
            m.d.sync += count.eq(Mux(self.run, sum(more, count), 0))

    def _tail(self, m: Module, word: Value, beat: Any) -> Value:
        """The word with zeros where a tile's last beat has no elements."""
        s, phases = self._shape, self._program.phases
        tails = [p.tail or s.reduce for p in phases]
        if min(tails) == s.reduce:
            return word
        tail = choose(m, beat.phase, tails, "tail")
        lanes = [word.word_select(k, s.bits) for k in range(s.tokens * s.reduce)]
        return Cat(
            *(Mux(beat.last & (tail <= k % s.reduce), 0, lane) for k, lane in enumerate(lanes))
        )

    def _release(self, m: Module, loader: Loader, beat: Any, valid: Value, advance: Value) -> None:
        """Words of the ring that have been read for the last time."""
        ring = choose(m, beat.phase, [p.work == "ring" for p in self._program.phases], "releases")
        with m.If(advance & valid & ring & beat.end):
            m.d.sync += loader.released.eq(loader.released + 1)
        with m.If(~self.run):
            m.d.sync += loader.released.eq(0)

    def _rows(
        self, m: Module, advance: Value, drains: list[Drain], loader: Any, beat_1: Any, beat_3: Any
    ) -> Value:
        """The second operand from tensors in rows."""
        s, program, phases = self._shape, self._program, self._program.phases
        memory = place(
            m, "row_memory",
            RowMemory(bits=s.bits, lanes=s.outputs, left=s.left, right=s.right, groups=s.groups, depth=s.row_words),
        )  # fmt: skip
        m.d.comb += memory.rd_en.eq(advance)
        for drain in drains:
            if drain.has("rows"):
                with m.If(drain.rows_en):
                    m.d.comb += memory.wr_en.eq(1)
                    m.d.comb += [
                        getattr(memory, f"wr_{part}").eq(getattr(drain, f"rows_{part}"))
                        for part in ("bank", "row", "data", "low", "high", "first")
                    ]
        if any(isinstance(x.to, RowsAt) for x in program.segments):
            m.d.comb += [memory.ld_en.eq(loader.rows_valid), loader.rows_ready.eq(memory.ld_ready)]
            m.d.comb += [
                getattr(memory, f"ld_{part}").eq(getattr(loader, f"rows_{part}"))
                for part in ("bank", "row", "data", "first")
            ]
        # From row and tile to the address in each bank.
        works = [p.work for p in phases]
        phase, second = beat_1.phase, beat_1["pass"][0]
        firsts = [_image(work, 0) for work in works]
        others = [_image(work, 1) for work in works]
        base = Mux(
            second & choose(m, phase, [isinstance(work, Pair) for work in works], "has_second"),
            choose(m, phase, [r.base if r else 0 for r in others], "base_1"),
            choose(m, phase, [r.base if r else 0 for r in firsts], "base_0"),
        )
        tiles = choose(m, phase, [r.tiles if r else 0 for r in firsts], "image_tiles")
        double = choose(m, phase, [isinstance(k, Window) and k.double for k in works], "double")
        height = choose(
            m,
            phase,
            [k.height if isinstance(k, Window) else 1 << 16 for k in works],
            "image_height",
        )
        used = choose(
            m, phase, [k.rows if isinstance(k, Window) else 1 for k in works], "rows_used"
        )
        column = Mux(double, beat_1.n >> 1, beat_1.n)
        most = max(max((r.height for r in firsts if r), default=1), 1)
        address = address_bits(s.row_words)
        bank_bits = address_bits(s.groups)
        rows = Signal(s.groups * address)
        banks, valids = Signal(s.groups * bank_bits), Signal(s.groups)
        found: list[tuple[Value, Value, Value]] = []
        for g in range(s.groups):
            row = Signal(beat_1.y.shape(), name=f"row_{g}")
            m.d.comb += row.eq(beat_1.y + g)
            stored = Signal(16, name=f"stored_{g}")
            m.d.comb += stored.eq(Mux(double, row.as_unsigned() >> 1, row.as_unsigned()))
            inside = Signal(name=f"inside_{g}")
            m.d.comb += inside.eq((row >= 0) & (row < height) & (g < used))
            quotient, bank = divide(stored, s.groups, most)
            at = Signal(address, name=f"address_{g}")
            m.d.comb += at.eq(base + beat_1.channel + quotient * (tiles + 1) + column)
            found.append((inside, bank, at))
        with m.If(advance):
            for b in range(s.groups):
                for inside, bank, at in found:
                    with m.If(inside & (bank == b)):
                        m.d.sync += rows.word_select(b, address).eq(at)
            for g, (inside, bank, _) in enumerate(found):
                m.d.sync += [valids[g].eq(inside), banks.word_select(g, bank_bits).eq(bank)]
        m.d.comb += memory.rd_rows.eq(rows)

        kinds = [kind for work in works for kind in _kinds(work)]
        select = place(
            m, "window",
            WindowSelect(outputs=s.outputs, reduce=s.reduce, bits=s.bits, left=s.left, right=s.right,
                         groups=s.groups, kinds=tuple(dict.fromkeys(kinds)), name=self._name),
        )  # fmt: skip
        of_phase = [[select.kinds.index(k) for k in _kinds(work)] or [0] for work in works]
        even = choose(m, beat_3.phase, [k[0] for k in of_phase], "kind_even")
        odd = choose(m, beat_3.phase, [k[-1] for k in of_phase], "kind_odd")
        banks_3, valids_3 = Signal.like(banks), Signal.like(valids)
        with m.If(advance):
            m.d.sync += [banks_3.eq(banks), valids_3.eq(valids)]
        tiles_3 = choose(m, beat_3.phase, [r.tiles if r else 0 for r in firsts], "tiles_3")
        double_3 = choose(
            m, beat_3.phase, [isinstance(k, Window) and k.double for k in works], "double_3"
        )
        tile = Mux(double_3, beat_3.n >> 1, beat_3.n)
        m.d.comb += [
            select.kind.eq(Mux(beat_3.n[0], odd, even)), select.banks.eq(banks_3), select.valid.eq(valids_3),
            select.center.eq(memory.center), select.prior.eq(memory.prior), select.behind.eq(memory.behind),
            select.no_prior.eq((tile == 0) | (tile > tiles_3)), select.no_center.eq(tile >= tiles_3),
            select.no_behind.eq(tile + 1 >= tiles_3),
        ]  # fmt: skip
        return select.w

    def _pairs(
        self, m: Module, beat: Any, valid: Value, pixels: list[Value], mine: Value, acc: Signal,
        out: Signal, post: PostProcess,
    ) -> Value:  # fmt: skip
        """Products and weighted sums of two tensors, a row every two cycles."""
        s = self._shape
        pairs = [p.work if isinstance(p.work, Pair) else None for p in self._program.phases]
        adds = choose(m, beat.phase, [p is not None and p.op == "add" for p in pairs], "adds")
        factors = [
            choose(m, beat.phase, [p.multipliers[k] if p else 0 for p in pairs], f"factor_{k}")
            for k in (0, 1)
        ]
        first = [Signal(s.bits, name=f"first_{o}") for o in range(s.outputs)]
        made = [Signal(s.acc_bits, name=f"pair_{o}") for o in range(s.outputs)]
        full, free = Signal(), Signal()
        m.d.comb += free.eq(~full | (post.i.ready & mine))
        with m.If(full & post.i.ready & mine):
            m.d.sync += full.eq(0)
        with m.If(valid & ~beat["pass"][0]):
            m.d.sync += [a.eq(b) for a, b in zip(first, pixels, strict=True)]
        with m.If(valid & beat["pass"][0] & free):
            m.d.sync += full.eq(1)
            for held, a, b in zip(made, first, pixels, strict=True):
                a, b = a.as_signed(), b.as_signed()
                total = a * _positive(factors[0]) + b * _positive(factors[1])
                m.d.sync += held.eq(Mux(adds, total, a * b))
        with m.If(mine):
            m.d.comb += [out.eq(full), acc.eq(Cat(*made))]
        return ~beat["pass"][0] | free

    def _softmax(
        self, m: Module, beat: Any, valid: Value, pixels: list[Value], mine: Value, acc: Signal,
        out: Signal, post: PostProcess,
    ) -> Value:  # fmt: skip
        s, phases = self._shape, self._program.phases
        unit = place(
            m, "softmax", RowSoftmax(self._program, lanes=s.outputs, bits=s.bits, name=self._name)
        )
        kept = choose(
            m, beat.phase,
            [(1 << p.columns - (p.ns - 1) * s.outputs) - 1 if isinstance(p.work, Softmax) else 0 for p in phases],
            "kept",
        )  # fmt: skip
        m.d.comb += [
            unit.i_valid.eq(valid), unit.i_data.eq(Cat(*pixels)), unit.i_pass.eq(beat["pass"]),
            unit.i_kept.eq(Mux(beat.end, kept, (1 << s.outputs) - 1)), unit.i_first.eq(beat.n == 0),
            unit.i_end.eq(beat.end), unit.phase.eq(beat.phase), unit.o_ready.eq(post.i.ready & mine),
        ]  # fmt: skip
        with m.If(mine):
            rows = [unit.o_data.word_select(o, 17) for o in range(s.outputs)]
            m.d.comb += [
                out.eq(unit.o_valid), post.i.p.multiplier.eq(unit.o_multiplier),
                post.i.p.shift.eq(unit.o_shift), acc.eq(Cat(*(Cat(r, Const(0, s.acc_bits - 17)) for r in rows))),
            ]  # fmt: skip
        return unit.i_ready


def _positive(value: Value) -> Value:
    return Cat(value, Const(0, 1)).as_signed()


def _unit(work: object) -> int:
    return 1 if isinstance(work, Pair) else 2 if isinstance(work, Softmax) else 0


def _image(work: object, number: int) -> RowsAt | None:
    if isinstance(work, Window):
        return work.image
    if isinstance(work, Softmax):
        return work.rows
    if isinstance(work, Pair):
        return work.b if number else work.a
    return None


def _kinds(work: object) -> list[WindowKind]:
    """What a beat reads: in turns, if every pixel counts twice."""
    if isinstance(work, Window):
        kind = WindowKind(work.rows, work.columns, work.left, work.double)
        return (
            [kind, WindowKind(work.rows, work.columns, work.left, True, True)]
            if work.double
            else [kind]
        )
    return [] if isinstance(work, str) else [WindowKind(1, 1, 0)]
