# SPDX-License-Identifier: Apache-2.0
"""The sequencer: plays the phases of a program, one beat a cycle."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.kernel.memory import address_bits
from hw.kernel.program import CoreShape, Pair, Program, Softmax, Window
from hw.kernel.tools import choose
from hw.unit import Unit

__all__ = ["EVENTS", "Issue", "beat_layout"]

EVENTS = ("cycles", "beats", "starved", "blocked", "waiting")
"""What is counted of each phase: all cycles of its turn; beats; cycles without one because weights had not come,
because the engine (or what stands for it) took none, or because tensors were not there yet. The rest is the switch of
phases."""

COUNT = 32
"""Bits of what counts beats, words and rows."""


def beat_layout(program: Program, shape: CoreShape) -> StructLayout:
    """What the sequencer says of a beat."""
    return StructLayout(
        {
            "phase": address_bits(len(program.phases)),
            "x": address_bits(max(1, shape.x_words)),
            "w": address_bits(max(1, shape.w_words)),
            "ring": address_bits(max(2, shape.ring_words)),
            "first": 1,
            "last": 1,
            "rows": bits_for(shape.tokens),
            "y": signed(18),
            "n": 16,
            "channel": address_bits(max(1, shape.row_words)),
            "pass": 2,
            "end": 1,
        }
    )


class Issue(Unit):
    """Four nested loops over each phase; every beat says where its operands lie.

    Latency
    -------
    A beat follows another, also one of the phase before, in the next cycle, unless something that it needs is missing.

    Members
    -------
    run : ``In(1)``
        Low: everything begins anew.
    advance : ``In(1)``
        The beat at ``beat`` is taken, or there is none.
    written, loaded : phases whose results are in their places; segments that are.
    arrived : of each inlet how many results are in their places, side by side.
    words : that the ring has got.
    rows : of each tensor in rows how many are there, side by side.
    valid, beat : ``Out``
        A beat.
    phase, events : the phase whose turn it is, one bit for each of :data:`EVENTS`.
    """

    def __init__(self, program: Program, shape: CoreShape, name: str) -> None:
        self._program, self._shape = program, shape
        images, inlets = len(program.images), len(program.inlets)
        super().__init__(
            {
                "run": In(1), "advance": In(1), "written": In(8), "loaded": In(8), "words": In(COUNT),
                "arrived": In(max(1, 8 * inlets)),
                "rows": In(max(1, 16 * images)), "valid": Out(1), "beat": Out(beat_layout(program, shape)),
                "phase": Out(8), "events": Out(len(EVENTS)),
            },
            {"": name},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        phases, shape = self._program.phases, self._shape
        phase, running = Signal(address_bits(len(phases))), Signal()
        loops = [p.loops(shape.tokens) for p in phases]
        limits = [
            choose(m, phase, [trips[k] - 1 for trips in loops], f"limit_{k}") for k in range(4)
        ]
        outer, middle, block, inner = (Signal(24, name=f"loop_{k}") for k in range(4))
        ends = Signal(4)
        m.d.comb += ends.eq(
            Cat(*(i == e for i, e in zip((outer, middle, block, inner), limits, strict=True)))
        )
        # What grows along with the loops.
        beats = choose(m, phase, [p.beats for p in phases], "beats")
        x_row, w_row, tile = Signal(24), Signal(24), Signal(COUNT)
        position = Signal(COUNT)
        m.d.comb += position.eq(tile + inner)

        windows = [p.work if isinstance(p.work, Window) else None for p in phases]
        channel, group, row = Signal(24), Signal(8), Signal(16)
        stride = choose(m, phase, [_stride(p.work) for p in phases], "stride")
        groups = choose(m, phase, [w.row_beats - 1 if w else 0 for w in windows], "groups")
        group_rows = choose(m, phase, [w.rows if w else 0 for w in windows], "group_rows")
        tops = choose(m, phase, [w.top if w else 0 for w in windows], "tops")
        pairs = choose(m, phase, [isinstance(p.work, Pair) for p in phases], "is_pair")
        soft = choose(m, phase, [isinstance(p.work, Softmax) for p in phases], "is_softmax")
        image = choose(m, phase, [w is not None for w in windows], "is_image")
        ring = choose(m, phase, [p.work == "ring" for p in phases], "is_ring")

        needs, starved = Signal(), Signal()
        after = choose(m, phase, [p.after for p in phases], "after")
        segments = choose(m, phase, [p.segments for p in phases], "segments")
        m.d.comb += [
            needs.eq(
                (self.written < after)
                | (self.loaded < segments)
                | ~self._arrived(m, phase)
                | ~self._rows(m, phase, outer)
            ),
            starved.eq(ring & ((self.words - position)[COUNT - 1] | (self.words == position))),
        ]

        step, last_of_phase, free = Signal(), Signal(), self.advance
        m.d.comb += [
            step.eq(running & free & ~needs & ~starved),
            last_of_phase.eq(ends.all()),
            self.phase.eq(phase),
            self.events.eq(
                Cat(
                    running, step, running & ~needs & starved, running & ~needs & ~starved & ~free,
                    running & needs,
                )
            ),
        ]  # fmt: skip
        tokens = shape.tokens
        tail = choose(
            m, phase,
            [(p.cs if w else p.ys) - (trips[2] - 1) * tokens if not isinstance(p.work, (Pair, Softmax)) else 1
             for p, w, trips in zip(phases, windows, loops, strict=True)],
            "tail_rows",
        )  # fmt: skip
        x_base = choose(m, phase, [p.x_base for p in phases], "x_base")
        w_base = choose(m, phase, [p.w_base for p in phases], "w_base")
        column = Mux(image | pairs, middle, Mux(soft, block, outer))
        with m.If(self.advance):
            m.d.sync += self.valid.eq(step)
        with m.If(step):
            m.d.sync += [
                self.beat.phase.eq(phase),
                self.beat.x.eq(x_base + x_row + inner),
                self.beat.w.eq(w_base + w_row + inner),
                self.beat.ring.eq(position),
                self.beat.first.eq(inner == 0),
                self.beat.last.eq(ends[3]),
                self.beat.rows.eq(Mux(ends[2], tail, tokens)),
                self.beat.y.eq(Mux(image, (outer + row - tops).as_signed(), outer)),
                self.beat.n.eq(column),
                self.beat.channel.eq(channel),
                self.beat["pass"].eq(Mux(soft, middle, inner)),
                self.beat.end.eq(ends[2]),
                inner.eq(inner + 1),
                group.eq(group + 1),
                row.eq(row + group_rows),
            ]
            with m.If(image & (group == groups)):
                m.d.sync += [group.eq(0), row.eq(0), channel.eq(channel + stride)]
            with m.If(ends[3]):
                m.d.sync += [
                    inner.eq(0), group.eq(0), row.eq(0), channel.eq(Mux(pairs, channel + stride, 0)),
                    block.eq(block + 1), x_row.eq(x_row + beats),
                ]  # fmt: skip
                with m.If(ends[2]):
                    m.d.sync += [block.eq(0), middle.eq(middle + 1), x_row.eq(0), channel.eq(0)]
                    with m.If(ring):
                        m.d.sync += tile.eq(tile + beats)
                    with m.If(ends[1]):
                        m.d.sync += [middle.eq(0), outer.eq(outer + 1), w_row.eq(w_row + beats)]
            with m.If(last_of_phase):
                m.d.sync += [outer.eq(0), w_row.eq(0), phase.eq(phase + 1)]
                with m.If(phase == len(phases) - 1):
                    m.d.sync += [phase.eq(0), running.eq(0)]
        started = Signal()
        m.d.sync += started.eq(self.run)
        with m.If(~self.run):
            m.d.sync += [running.eq(0), tile.eq(0), self.valid.eq(0)]
        with m.Elif(~started):
            m.d.sync += [running.eq(1), phase.eq(0), outer.eq(0), middle.eq(0), block.eq(0), inner.eq(0),
                         x_row.eq(0), w_row.eq(0), channel.eq(0), group.eq(0), row.eq(0)]  # fmt: skip
        return m

    def _arrived(self, m: Module, phase: Value) -> Value:
        """Whether all results of other cores are there that must be before the phase begins."""
        there: Value = Const(1)
        for k in range(len(self._program.inlets)):
            counts = [p.awaits[k] if p.awaits else 0 for p in self._program.phases]
            there &= self.arrived.word_select(k, 8) >= choose(m, phase, counts, f"awaits_{k}")
        return there

    def _rows(self, m: Module, phase: Value, y: Value) -> Value:
        """Whether the rows that row ``y`` of a result needs are there."""
        there = Signal(init=1)
        have = [self.rows.word_select(k, 16) for k in range(len(self._program.images))]
        with m.Switch(phase):
            for k, p in enumerate(self._program.phases):
                with m.Case(k):
                    if isinstance(p.work, Window):
                        w = p.work
                        need = Signal(18, name=f"need_{k}")
                        reach = y + (w.kernel_rows - w.top)
                        m.d.comb += need.eq(Mux(reach > w.height, w.height, reach))
                        m.d.comb += there.eq(
                            have[w.image.number] + w.absent >= (need + w.double) >> w.double
                        )
                    elif isinstance(p.work, Pair):
                        both = (have[p.work.a.number] > y) & (have[p.work.b.number] > y)
                        m.d.comb += there.eq(both)
                    elif isinstance(p.work, Softmax):
                        m.d.comb += there.eq(have[p.work.rows.number] > y)
                    else:
                        m.d.comb += there.eq(1)
        return there


def _stride(work: object) -> int:
    """Words of a channel of the image that is read."""
    image = work.image if isinstance(work, Window) else work.a if isinstance(work, Pair) else None
    return image.stride if image else 0
