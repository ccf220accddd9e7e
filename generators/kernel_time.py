# SPDX-License-Identifier: Apache-2.0
"""Cycles of programs on their cores, before they run: when tiles and rows pass the registers.

The times follow the RTL: a beat is accepted :data:`DEEP` cycles after the sequencer issued it; a tile's rows leave the
engine one by one while the next tile computes; a finished tile stands still until the rows of the one before have left.
Phases are played row by row (of matrices: tile of columns by tile); as soon as one takes exactly as long as the one
before, the rest is not played but counted. Cores are played phase by phase, each after those whose results it reads.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import UnusedElaboratable

from generators.kernel_lower import LoweredKernel
from hw.kernel.core import make_core_engine
from hw.kernel.program import (
    CoreShape,
    Pair,
    Phase,
    Program,
    RowsAt,
    RowsTo,
    Segment,
    Send,
    Softmax,
    Store,
    Window,
    WordsTo,
)
from hw.kernel.store import BURST, QUEUE

__all__ = ["Prediction", "predict"]

DEEP = 4
"""Registers between the sequencer and the engine."""

WRITE = 3
"""Cycles from a row's way out of the requantisation until the sequencer knows that it is there."""

BEGIN = 2
"""Cycles from the start, beside the memory's latency, until a word has come that counts."""

DIVISION = 25
"""Cycles from the last exponential that enters a sum to the first one that may be divided by it."""

STOPS = 6
"""So many stretches in which the engine stands still can matter."""

END = 6
"""Cycles from the last row to the end, beside the last burst's beats and the latency of memory's answer."""

BEAT = 2
"""Cycles of a word that is written: memory carries one a cycle, but writes only every other."""

WORD = BEAT + 1 / BURST
"""The same, with its share of a burst's beginning."""


LINK = 3
"""Cycles that a row takes longer into another core than into its own."""


@dataclass(frozen=True)
class Prediction:
    """Cycles: of all, and of each core's phases' turns."""

    total: int
    phases: tuple[tuple[int, ...], ...]


def predict(lowered: LoweredKernel, latency: int) -> Prediction:
    """Play a kernel.

    Parameters
    ----------
    latency : of the memory, which else carries a word a cycle on every port.
    """
    players = [_Player(core.program, core.shape, latency) for core in lowered.cores]
    for core, number in lowered.turns:
        player = players[core]
        phase = player.program.phases[number]
        sends = [target for target in phase.to if isinstance(target, Send)]
        takes = [players[send.core].takes(core) for send in sends]
        done = player.turn(phase, max([1, *takes]))
        for send in sends:
            players[send.core].arrive(core, done, send)
    ends = [player.end() for player in players]
    return Prediction(max(ends), tuple(tuple(player.turns) for player in players))


@dataclass
class _State:
    """Where everything is: the earliest cycle of the next beat's issue, when the last :data:`DEEP` beats were accepted,
    stretches in which the engine stands still, the earliest cycle in which its bank takes another tile, when a row last
    entered the requantisation, when the last rows left it, when the drain is free, and when all that waits for memory
    will have left."""

    issue: int = 0
    accepts: tuple[int, ...] = (0,) * DEEP
    stops: tuple[int, ...] = (0,) * (2 * STOPS)
    bank: int = 0
    entry: int = 0
    exits: tuple[int, ...] = ()
    drain: int = 0
    store: float = 0

    def shifted(self, by: int) -> _State:
        """All of it later."""
        moved: dict[str, Any] = {
            name: tuple(x + by for x in value) if isinstance(value, tuple) else value + by
            for name, value in vars(self).items()
        }
        return _State(**moved)

    def seen_from(self, at: int) -> tuple[float, ...]:
        """Relative to a cycle; what lies far behind does not matter."""
        values = (
            x
            for value in vars(self).values()
            for x in (value if isinstance(value, tuple) else (value,))
        )
        return tuple(max(value - at, -64) for value in values)


class _Player:
    def __init__(self, program: Program, shape: CoreShape, latency: int) -> None:
        self.program, self.shape, self.latency = program, shape, latency
        with warnings.catch_warnings():  # an engine that is only asked
            warnings.simplefilter("ignore", UnusedElaboratable)
            self.stages = make_core_engine(shape).latency - 1
        self.post = 10 if any(p.function for p in program.phases) else 4
        self.state = _State(exits=(0,) * (self.post + 1))
        self.load = latency + BEGIN  # when what is loaded next begins to come
        self.segment = 0
        self.loaded: list[int] = []  # when each segment was there
        self.row_times: dict[int, list[int]] = {}  # of tensors in rows: when each row was there
        self.written: list[int] = []
        self.writer = 0  # when the last burst is written, and words that wait for the next one
        self.pending = 0
        self.turns: list[int] = []
        self.before = 0
        self.arrived: list[list[int]] = [[] for _ in program.inlets]  # when results were there
        # Stretches in which results are written to X or (if it has one bank) rows, and the part of them that they take.
        self.busy: dict[str, list[tuple[int, int, float]]] = {"x": [], "rows": []}

    def turn(self, phase: Phase, width: int) -> list[int]:
        """Play the next phase, whose rows other cores take in so many cycles each; when each outer step was written."""
        self.width, self.each = max(width, self._row_cycles(phase)), self._store_cycles(phase)
        self._load_until(phase)
        done = self._phase(phase)
        self.turns.append(self.state.issue - self.before)
        self.before = self.state.issue
        return done

    def end(self) -> int:
        """When all that it stores is in memory."""
        if self.pending:
            self._burst(self.state.drain)
        return self.writer + END + self.latency if self.writer else self.state.drain

    def _inlet(self, source: int) -> tuple[int, Phase]:
        number = next(k for k, x in enumerate(self.program.inlets) if x.source == source)
        return number, self.program.inlets[number].phases[len(self.arrived[number])]

    def takes(self, source: int) -> int:
        """Cycles of a row of the next result of another core."""
        return self._row_cycles(self._inlet(source)[1])

    def arrive(self, source: int, done: list[int], send: Send) -> None:
        """The next result of another core, whose outer steps were written there at these times."""
        number, phase = self._inlet(source)
        if not phase.by_columns:
            step = 2 if phase.pool else 1
            done = done[step * send.first : step * (send.first + send.count)]
        self.arrived[number].append(done[-1] + LINK)
        for target in phase.to:
            if isinstance(target, RowsTo):
                self._rows_there(phase, target, [at + LINK for at in done])

    def _rows_there(self, phase: Phase, target: RowsTo, done: list[int]) -> None:
        """Rows of a tensor have come; if it comes in parts, who reads it waits for the last one."""
        times, known = self._rows_done(phase, target, done), self.row_times
        before = known.get(target.rows.number)
        if before:
            times = [max(times[-1], before[-1])] * (len(times) + len(before))
        known[target.rows.number] = times

    def _store(self, beats: int, begin: int, end: int) -> None:
        """Words of memory that a phase fills evenly from one cycle to another; a burst goes when all of it is there."""
        total = self.pending + beats
        for done in range(BURST - self.pending, beats + 1, BURST):
            self.pending = BURST
            self._burst(begin + (end - begin) * done // beats)
        self.pending = total % BURST

    def _burst(self, whole: int) -> None:
        self.writer = max(self.writer, whole) + BEAT * self.pending + 1
        self.pending = 0

    # ---- Loads

    def _word_cycles(self, segment: Segment) -> int:
        s = self.shape
        size = {"x": s.tokens * s.reduce, "ring": s.outputs * s.reduce}
        elements = size[segment.to] if isinstance(segment.to, str) else s.outputs
        return 1 if s.per_beat(elements) else -(-elements * s.bits // (8 * s.port_bytes))

    def _load_until(self, phase: Phase) -> None:
        """What comes before the phase's weights, or is all it waits for."""
        segments = self.program.segments
        images = {r.number for r in _images(phase)}
        need = phase.segments
        for k, segment in enumerate(segments):
            if isinstance(segment.to, RowsAt) and segment.to.number in images:
                need = max(need, k + 1)
        while self.segment < need:
            segment = segments[self.segment]
            if segment.to == "ring":
                break
            cycles = self._word_cycles(segment)
            if isinstance(segment.to, RowsAt):
                each = cycles * segment.words // segment.to.height
                times = self.row_times[segment.to.number] = []
                for _ in range(segment.to.height):
                    self.load = self._past("rows", each)
                    times.append(self.load)
            else:
                self.load = self._past("x", cycles * segment.words)
            self.loaded.append(self.load)
            self.segment += 1

    def _past(self, memory: str, need: int) -> int:
        """When ``need`` cycles of a scratchpad's write port have come that no result took."""
        at: float = self.load
        left: float = need
        for begin, end, taken in self.busy[memory]:
            if at >= end:
                continue
            gap = max(0.0, begin - at)
            if left <= gap:
                break
            left, at = left - gap, max(at, begin)
            free = (end - at) * (1 - taken)
            if left <= free:
                return round(at + left / (1 - taken))
            left, at = left - free, end
        return round(at + left)

    # ---- Phases

    def _phase(self, phase: Phase) -> list[int]:
        state, s = self.state, self.shape
        start = max([0, *(self.written[: phase.after][-1:])])
        for times, count in zip(self.arrived, phase.awaits, strict=False):
            start = max([start, *times[:count][-1:]])
        if phase.segments:
            start = max(start, *self.loaded[: phase.segments][-1:])
        state.issue = max(state.issue, start)
        outer = phase.loops(s.tokens)[0]
        done: list[int] = []
        times = [self.row_times[r.number] for r in _images(phase)]
        if phase.work == "ring":
            self.columns: list[int] = []  # when each tile's weights are released
        first = 0  # when about its first row is written
        seen: tuple[float, ...] | None = None
        step = 0
        index = 0
        while index < outer:
            begun = state.issue
            need = self._need(phase, index)
            for rows in times:
                state.issue = max(state.issue, rows[need - 1])
            if phase.work == "ring":
                self._ring(phase, index)
            if not index:
                first = state.issue + phase.beats + DEEP + self.post
            self._outer(phase, index)
            done.append(state.drain + 1)
            now = state.seen_from(state.issue)
            if phase.work == "ring":
                now += (self.load - state.issue,)
            same, moved = now == seen and state.issue - begun == step, state.issue - begun
            seen, step = now, moved
            left = outer - index - 3
            if same and left > 0 and self._regular(phase, times, index, left, moved):
                jump = left * moved
                done += [done[-1] + moved * (k + 1) for k in range(left)]
                self.state = state = state.shifted(jump)
                self.load += jump if phase.work == "ring" else 0
                if phase.work == "ring":
                    self.columns += [self.columns[-1] + moved * (k + 1) for k in range(left)]
                index += left
            index += 1
        if phase.work == "ring":
            self.loaded.append(self.load)
            self.segment += 1
        self.written.append(state.drain + 1)
        for target in phase.to:
            if isinstance(target, Store):
                elements = s.outputs // (2 if phase.pool else 1)
                self._store(s.beats_of(elements, target.words), first, state.drain)
            memory = "x" if isinstance(target, WordsTo) and target.memory == "x" else ""
            if isinstance(target, RowsTo) and s.groups == 1:
                memory = "rows"
            if memory and state.drain > first:
                taken = phase.rows * self.width / (state.drain - first)
                self.busy[memory].append((first, state.drain, min(taken, 1.0)))
            if isinstance(target, RowsTo):
                self._rows_there(phase, target, done)
        return done

    def _regular(
        self, phase: Phase, times: list[list[int]], index: int, left: int, moved: int
    ) -> bool:
        """Whether the next ``left`` rows find what they read in time."""
        if not times:
            return True
        begin = self.state.issue
        return all(
            rows[self._need(phase, k) - 1] <= begin + (k - index - 1) * moved
            for rows in times
            for k in range(index + 1, index + left + 1)
        )

    def _need(self, phase: Phase, y: int) -> int:
        """Rows of a tensor that row ``y`` of the result needs."""
        work = phase.work
        if isinstance(work, Window):
            reach = min(y + work.kernel_rows - work.top, work.height)
            return max(1, ((reach + work.double) >> work.double) - work.absent)
        return y + 1

    def _rows_done(self, phase: Phase, target: RowsTo, done: list[int]) -> list[int]:
        if phase.by_columns:  # all rows of the last tile, one by one
            count = target.rows.height
            return [done[-1] - (count - 1 - y) for y in range(count)]
        return done[1::2] if phase.pool else done

    def _ring(self, phase: Phase, index: int) -> None:
        """Wait for a tile's weights: all of them, if it is used again, else the last one at its time."""
        state, beats, ring = self.state, phase.beats, self.shape.ring_words
        cycles = self._word_cycles(
            next(x for x in self.program.segments[self.segment :] if x.to == "ring")
        )
        if phase.blocks(self.shape.tokens) == 1:  # words make room one by one
            self.load = max(self.load, state.issue + DEEP - ring)
        elif index >= ring // beats:
            self.load = max(self.load, self.columns[index - ring // beats])
        self.load += cycles * beats
        state.issue = max(state.issue, self.load - beats + 1)

    def _outer(self, phase: Phase, index: int) -> None:
        s, state, width = self.shape, self.state, self.width
        if isinstance(phase.work, Pair):
            for _ in range(phase.ns * phase.cs):
                self._beats(1)
                last = self._beats(1, state.entry)  # the row before has entered
                self._row(last + 1, width)
        elif isinstance(phase.work, Softmax):
            self._softmax(phase, width)
        else:
            image = isinstance(phase.work, Window)
            lines = phase.cs if image else phase.ys
            for _ in range(phase.ns if image else 1):
                for block in range(phase.blocks(s.tokens)):
                    self._tile(phase.beats, min(s.tokens, lines - block * s.tokens), width)
            if phase.work == "ring":
                self.columns.append(state.issue + DEEP)

    def _beats(self, count: int, least: int = 0) -> int:
        """Issue beats; the first is accepted at ``least`` or later, the others behind it. When the last one is."""
        state = self.state
        first = max(state.issue, state.accepts[0])
        begin = max(first + DEEP, state.accepts[-1] + 1, least)
        stops = list(zip(state.stops[::2], state.stops[1::2], strict=True))
        for stop, go in stops:
            if stop <= begin < go:
                begin = go
        last = begin + count - 1
        for stop, go in stops:
            if begin < stop <= last:
                last += go - stop
        waits = last - DEEP if count > DEEP else state.accepts[count - 1]
        state.issue = max(first + count - 1, waits) + 1
        recent = tuple(last - k for k in range(min(count, DEEP) - 1, -1, -1))
        state.accepts = (*state.accepts, *recent)[-DEEP:]
        return last

    def _tile(self, beats: int, rows: int, width: int) -> None:
        state = self.state
        tile = self._beats(beats)
        stops = zip(state.stops[::2], state.stops[1::2], strict=True)
        at_end = tile + self.stages + sum(go - stop for stop, go in stops if stop > tile)
        load = max(at_end, state.bank)
        if load > at_end:  # the whole engine stands still
            state.stops = (*state.stops[2:], at_end, load)
        for row in range(rows):
            self._row(load + 1 + row, width)
        state.bank = state.entry

    def _row(self, at: int, width: int) -> None:
        """A row enters the requantisation at the earliest in a cycle, and takes the drain ``width`` cycles."""
        state = self.state
        # As many rows as it has registers may be inside.
        state.entry = max(state.entry + 1, at, state.exits[0] + 1)
        leaves = max(state.entry + self.post, state.exits[-1] + 1, state.drain)
        state.exits = (*state.exits[1:], leaves)
        state.drain = leaves + width
        if self.each:
            state.store = max(state.store, leaves) + self.each
            state.drain = max(state.drain, math.ceil(state.store - QUEUE * WORD))

    def _softmax(self, phase: Phase, width: int) -> None:
        ready = self._beats(2 * phase.ns) + DIVISION
        for _ in range(phase.ns):
            accepted = self._beats(1, ready)
            self._row(accepted + 6, width)

    def _row_cycles(self, phase: Phase) -> int:
        """Cycles that the drain takes for a row."""
        s, found = self.shape, 1
        for target in phase.to:
            if isinstance(target, WordsTo) and not target.turned:
                found = max(found, s.outputs // s.step)
        return found

    def _store_cycles(self, phase: Phase) -> float:
        """Cycles in which memory takes a row; of a pooled result every other one, so half of them."""
        s = self.shape
        if not any(isinstance(target, Store) for target in phase.to):
            return 0
        half = 2 if phase.pool else 1
        per = s.per_beat(s.outputs // half)
        beats = 1 / per if per else -(-s.outputs // half * s.bits // (8 * s.port_bytes))
        return (
            round(64 * beats * WORD / half) / 64
        )  # exact, so that equal rows are found to be equal


def _images(phase: Phase) -> list[RowsAt]:
    work = phase.work
    if isinstance(work, Window):
        return [work.image]
    if isinstance(work, Pair):
        return [work.a, work.b]
    if isinstance(work, Softmax):
        return [work.rows]
    return []
