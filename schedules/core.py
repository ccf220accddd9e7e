# SPDX-License-Identifier: Apache-2.0
"""The cycle model of a core: when everything happens that it does in a run, to the cycle.

It plays the phases of a schedule as the hardware does (``docs/architecture.md``): the sequencer starts phases and
waits at barriers; the feeder issues a beat a cycle if its operands have arrived; rows leave the engine and go their
way (:mod:`schedules.rows`); softmax, LayerNorm, embedding and argmax have their latencies; keys and values are
written and fetched back; and the prefetchers share the memory ports (:mod:`schedules.port`). Time goes from event to
event, tile by tile. Latencies come from the :class:`~schedules.machine.Machine`; what this file adds is how many
states and registers lie between two decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schedules.errors import ScheduleError
from schedules.machine import Machine
from schedules.pim import PimChannel, PimRow, PimTaken
from schedules.port import Burst, Port
from schedules.roles import Role, role
from schedules.rows import Rows
from schedules.schedule import Phase, Schedule
from schedules.sizes import size_value

__all__ = ["Core", "Pass", "PassTime", "PhaseCount", "Run", "phase_bytes"]

GATED, RESIDUAL, ROTATED, KEY, VALUE, LOGIT = (
    "gated",
    "residual",
    "rotated",
    "key",
    "value",
    "logit",
)
ITEM_QUEUE = 2
"""Cycles through the queue of attention items between drain and softmax."""
QUEUE = 2
"""Cycles through the queue of rows between PIM channels and drain."""


@dataclass(frozen=True)
class Pass:
    """``tokens`` tokens after ``past`` others; ``answer``: it yields a token."""

    tokens: int
    past: int = 0
    answer: bool = True


@dataclass(frozen=True)
class PhaseCount:
    """What the hardware counts of a phase: cycles, beats of the engine, and cycles without an operand."""

    cycles: int = 0
    beats: int = 0
    starved: int = 0

    def __add__(self, other: PhaseCount) -> PhaseCount:
        return PhaseCount(
            self.cycles + other.cycles, self.beats + other.beats, self.starved + other.starved
        )


@dataclass(frozen=True)
class PassTime:
    """A pass of a run: when it began, and for each phase in order its start, first end, count and words read."""

    shape: Pass
    start: int
    end: int
    phases: tuple[tuple[str, int, int, PhaseCount], ...]

    @property
    def cycles(self) -> int:
        """From the first phase to the next pass."""
        return self.end - self.start


@dataclass(frozen=True)
class Run:
    """A run from start to done: ``cycles`` as the register says, its passes, counts by phase, and reads of a port."""

    cycles: int
    passes: tuple[PassTime, ...]
    counts: dict[str, PhaseCount]
    bursts: tuple[Burst, ...]


def phase_bytes(machine: Machine, what: Role, shape: Pass) -> int:
    """Bytes that one run of a phase reads from memory, headers and padding included; of layers, the mean."""
    task = what.task
    if what.kind == "embed":
        rows = machine.row_stripes + machine.position_stripes
        return shape.tokens * (rows + (shape.tokens > 1)) * machine.stripe_bytes
    layers = range(machine.layers if machine.stream_terms or machine.stream_words else 1)
    beats = sum(stream_beats(machine, what, layer) for layer in layers)
    weights = -(-machine.stream_bytes(beats) // len(layers))
    if what.kind != "attention" or machine.pim is not None:
        return weights
    chunks = -(-(shape.past + shape.tokens) // machine.lanes)
    head = -(-size_value(task.k, 1, 0) // machine.lanes)
    return 2 * task.heads // task.shared * chunks * head * machine.beat_bytes + weights


def stream_beats(machine: Machine, what: Role, layer: int) -> int:
    """Beats of the weight stream that a phase takes, in a layer if it is of one; whole rows of them."""
    task, row = what.task, machine.stream_row
    if what.kind == "embed":
        return 0
    if what.kind == "norm":
        return row * (1 + machine.norm_parameters)
    if what.kind == "attention":
        return 2 * row
    tiles = -(-size_value(task.n, 1) // machine.lanes)
    words = machine.tile_beats(task.name, layer, size_value(task.k, 1))
    headers = -(-tiles // machine.header_tiles) + (what.result == GATED)
    return row * headers + -(-tiles * words // row) * row


class Core:
    """The state of the core between two phases, in cycles since the start."""

    def __init__(self, schedule: Schedule, machine: Machine, repeat: int | None) -> None:
        self._m = machine
        self._port = Port(machine)
        self._rows = Rows(machine, self._port)
        answered = [s for s in schedule.sections if s.answer]
        plain = [s for s in schedule.sections if not s.answer]
        self._repeats = {s.name: s.repeat for s in schedule.sections}
        self._loop = plain[-1].name  # behind it the sequencer waits for all to be quiet
        if repeat is not None:
            if not 1 <= repeat <= self._repeats[self._loop]:
                raise ScheduleError(
                    f"Section {self._loop} repeats 1 to {self._repeats[self._loop]} times, not {repeat}"
                )
            self._repeats[self._loop] = repeat
        self._sections = plain + answered
        self._steps = {
            s.name: [(p, role(schedule, p)) for p in schedule.phases if p.section == s.name]
            for s in self._sections
        }
        attention = [
            r.task for steps in self._steps.values() for _, r in steps if r.kind == "attention"
        ]
        self._heads = attention[0].heads // attention[0].shared if attention else 0  # of the cache
        self._head_words = -(-size_value(attention[0].k, 1) // machine.lanes) if attention else 0
        pim = machine.pim
        self._channels = [PimChannel(pim) for _ in range(pim.channels)] if pim is not None else []
        self._starved = self._beats = 0
        self._fed = 0  # the last tile of weights was
        # When something is over: the feeder is idle, everything fed has been written, ...
        self._idle = self._drained = self._norm = self._embedded = self._result = 0
        self._next = {"w": 0, "k": 0, "v": 0, "e": 0}  # beats taken of each ring
        self._headers = 0
        self._armed = False
        self._fetching: tuple[int, list[tuple[str, list[int], int]]] | None = None
        self._layer = 0

    # ---- The sequencer ----------------------------------------------------------------------------

    def run(self, prompt: int, generate: int, position: int) -> Run:
        """Play all passes."""
        shapes = list(self._passes(prompt, generate, position))
        self._ask_weights(shapes)
        began, may, timed = 0, 2, []
        total: dict[str, PhaseCount] = {}
        for index, (shape, is_prompt) in enumerate(shapes):
            end, phases = self._pass(shape, is_prompt, began, may, final=index == len(shapes) - 1)
            timed.append(PassTime(shape, began, end, phases))
            for name, _, _, count in phases:
                total[name] = total.get(name, PhaseCount()) + count
            began = may = end
        return Run(may, tuple(timed), total, tuple(self._port.bursts))

    def _passes(self, prompt: int, generate: int, position: int) -> Iterator[tuple[Pass, bool]]:
        left, past = prompt, position
        while left:
            tokens = min(left, self._m.chunk)
            left -= tokens
            yield Pass(tokens, past, left == 0 and generate > 0), True
            past += tokens
        for k in range(generate - 1):
            yield Pass(1, past + k, True), False

    def _ask_weights(self, shapes: Sequence[tuple[Pass, bool]]) -> None:
        """Descriptors of the weight stream: the layers and the head of every pass."""
        cycle, m = 1, self._m
        for shape, _ in shapes:
            for answer in (False, True):
                beats = [
                    sum(stream_beats(m, r, layer) for _, r in self._steps[s.name])
                    for s in self._sections
                    if s.answer == answer
                    for layer in range(self._repeats[s.name])
                ]
                periods = sum(-(-n // m.stream_period) for n in beats)
                if not answer or shape.answer:
                    self._port.read("w", cycle, 0, periods * m.period_words)
                    cycle += 1

    def _pass(
        self, shape: Pass, is_prompt: bool, began: int, may: int, *, final: bool
    ) -> tuple[int, tuple[tuple[str, int, int, PhaseCount], ...]]:
        """One pass, whose first phase may start in cycle ``may``: when the next one's may, and its phases."""
        seen: dict[str, list] = {}
        current: tuple[str, int, int, int] | None = None
        self._layer = 0
        for section in self._sections:
            if section.answer and not shape.answer:
                continue
            for _ in range(self._repeats[section.name]):
                for phase, what in self._steps[section.name]:
                    start = max(may, self._idle, self._quiet() if phase.barrier else 0)
                    self._close(seen, current, start)
                    current = (phase.id, start if current else began, self._beats, self._starved)
                    self._start(phase, what, shape, is_prompt, start)
                    may = start + 1
                self._release("w", self._fed, -self._next["w"] % self._m.stream_period)
                if section.name == self._loop:
                    # One more state: the next layer, or the end of the pass.
                    may = max(may, self._quiet()) + 1
                    self._layer += 1
        quiet = self._quiet()
        if shape.answer:
            may = max(may, quiet + 1, self._result) + 1  # the token is there; it is written
            may = self._port.write(range(1), may)
        following = may + 1
        end = following + 2  # the next pass: its length, then its first phase
        if final:
            end = max(following + 1, self._port.quiet(), self._quiet())
        self._close(seen, current, end)
        return end, tuple((name, *row) for name, row in seen.items())

    def _close(
        self, seen: dict[str, list], current: tuple[str, int, int, int] | None, end: int
    ) -> None:
        if current is None:
            return
        name, start, beats, starved = current
        count = PhaseCount(end - start, self._beats - beats, self._starved - starved)
        if name in seen:
            seen[name][2] += count
        else:
            seen[name] = [start, end, count]

    def _quiet(self) -> int:
        """The cycle in which nothing is on its way any more."""
        self._finish()
        return max(self._idle, self._drained, self._norm, self._embedded)

    def _start(self, phase: Phase, what: Role, shape: Pass, is_prompt: bool, cycle: int) -> None:
        if self._armed:
            self._armed = False
            self._fetch(shape, cycle + 1)
        if what.kind == "embed":
            self._embed(shape, is_prompt, cycle)
        elif what.kind == "norm":
            self._layernorm(size_value(what.task.m, shape.tokens, shape.past), cycle)
        elif what.kind == "product":
            self._product(what, shape, cycle)
            self._armed = what.last_write and self._m.pim is None
        elif self._m.pim is not None:
            self._on_channels(what, shape, cycle)
        else:
            self._attention(phase, what, shape, cycle)

    # ---- Rings ------------------------------------------------------------------------------------

    def _arrived(self, ring: str, index: int) -> int:
        """The first cycle in which the feeder may issue a beat, counted from the oldest one it holds."""
        return self._port.arrival(ring, self._next[ring] + index) + self._m.arrival_latency

    def _release(self, ring: str, cycle: int, beats: int = 1) -> None:
        self._next[ring] += beats
        self._port.release(ring, cycle, beats)

    def _other(self, cycle: int) -> int:
        """Take a row of the weight stream that is not for the engine; the cycle of its issue."""
        cycle = max(cycle, self._rows.held)
        arrived = self._arrived("w", 0)
        if arrived > cycle:
            self._starved += arrived - cycle
            cycle = arrived
        self._release("w", cycle, self._m.stream_row)
        self._rows.held = cycle + 1
        return cycle

    def _tile(
        self, ring: str, indices: Sequence[int] | None, beats: int, cycle: int, rows: int
    ) -> int:
        """Issue the beats of a tile; ``indices``: of the beats in the ring, None if they are known to be there."""
        self._beats += beats
        spacing = self._m.beat_cycles[rows - 1]
        if indices is None:
            return self._rows.issue(cycle, beats, spacing)
        last = max(indices)
        if self._arrived(ring, last) <= cycle:
            return self._rows.issue(cycle, beats, spacing)
        for index in indices:
            arrived = self._arrived(ring, index)
            cycle = max(cycle, self._rows.held)
            if arrived > cycle:
                self._starved += arrived - cycle
                cycle = arrived
            cycle = self._rows.issue(cycle, 1, spacing) + 1
        return cycle - 1

    # ---- Phases -----------------------------------------------------------------------------------

    def _embed(self, shape: Pass, is_prompt: bool, start: int) -> None:
        """Row after row: its token, then a stripe of each table at a time; or a row of one, then of the other."""
        m, cycle, latency = self._m, start + 1, self._m.stream_latency

        def ask(at: int) -> int:
            index = self._next["e"]
            self._next["e"] += 1
            self._port.read("e", at, 0, 1)
            return index

        def take(index: int, earliest: int) -> int:
            """All words of a stripe; the cycle after the last one."""
            end = max(earliest, self._port.arrival("e", index) + latency) + m.embed_words
            self._port.release("e", end - 1)
            return end

        for _ in range(shape.tokens):
            cycle = take(ask(cycle), cycle + 1) if is_prompt else cycle + 1
            if m.rotary_latency:  # one stripe after the other, the angles last
                for _ in range(m.row_stripes + m.position_stripes):
                    cycle = take(ask(cycle), cycle + 1)
                continue
            for _ in range(m.row_stripes):
                token, position = ask(cycle), ask(cycle + 1)
                cycle = take(position, take(token, cycle + 2))
        self._embedded = cycle

    def _layernorm(self, rows: int, start: int) -> None:
        """The first row is summed while the parameters come; they must be stored before anything else."""
        m = self._m
        cycle = self._other(start + 1) + 1
        for _ in range(m.norm_parameters):
            cycle = self._other(cycle)
            self._rows.held = cycle + m.norm_beat  # offered until it is stored
            cycle += 1
        self._idle = cycle
        known = self._rows.held + 1
        first = start + m.norm_row + 1 + m.norm_sums  # sums of the first row
        late = max(0, known - (first if rows == 1 else start + 1 + m.norm_row))
        done = start + rows * m.norm_row + m.norm_latency + late
        self._norm = done + 1

    def _product(self, what: Role, shape: Pass, start: int) -> None:
        """Tile by tile of outputs, each for every group of tokens; weights stay until the last group used them."""
        m, task = self._m, what.task
        rows = size_value(task.m, shape.tokens, shape.past)
        words = m.tile_beats(task.name, self._layer, size_value(task.k, shape.tokens, shape.past))
        taken = range(0, words, m.span)  # the first of those that the engine takes at once
        tiles = -(-size_value(task.n, shape.tokens, shape.past) // m.lanes)
        groups = [min(m.tokens, rows - g) for g in range(0, rows, m.tokens)]
        cycle = start + 1
        if what.result == GATED:
            cycle = self._other(cycle) + 1
        # Rows leave faster than tiles come: then all groups but the first are one stream of beats.
        smooth = len(groups) > 1 and len(taken) >= groups[0] and what.result not in (KEY, VALUE)
        smooth &= max(m.beat_cycles) == 1
        for n in range(tiles):
            if n % m.header_tiles == 0:
                cycle = self._header(cycle) + m.words_wait
            ends = (n + 1) % m.header_tiles == 0 or n == tiles - 1
            g = 0
            while g < len(groups):
                count = len(groups) - g if g and smooth and self._rows.smooth else 1
                issued = self._tile("w", None if g else taken, len(taken) * count, cycle, groups[g])
                cycle = issued + 1
                g += count
                if g == len(groups):
                    pad = -(self._next["w"] + words) % m.stream_row if n == tiles - 1 else 0
                    self._release("w", issued, words + pad)
                    self._fed = issued
                self._drain(what, shape, n, g - 1, groups[g - 1], ends and g == len(groups))
        self._idle = cycle

    def _header(self, cycle: int) -> int:
        """Take a header; it needs a buffer that no tile uses any more. The cycle after its issue."""
        free = self._rows.header_free(self._headers)
        self._headers += 1
        return self._other(max(cycle, free)) + 1

    def _drain(self, what: Role, shape: Pass, tile: int, group: int, rows: int, ends: bool) -> None:
        """A tile of outputs leaves the engine; ``ends``: it is the last one of its header."""
        ports: list[range | PimRow] = []
        if what.result in (KEY, VALUE):
            first = shape.past + group * self._m.tokens
            positions = range(first, first + rows)
            if self._m.pim is None:
                ports = [self._ports(position) for position in positions]
            else:
                ports = [self._station(what, tile, position) for position in positions]
        self._rows.tile(rows, ports, what.result, ends=ends)
        self._give_fetch()

    def _ports(self, position: int) -> range:
        """The ports behind which a word of keys or values of a position lies."""
        m = self._m
        byte = position % m.lanes * m.lanes % m.stripe_bytes
        return range(byte // m.port_bytes, (byte + m.lanes - 1) // m.port_bytes + 1)

    def _station(self, what: Role, tile: int, position: int) -> PimRow:
        """The channel to which a row of keys or values goes."""
        head, block = divmod(tile, self._head_words)
        features = range(block * self._m.lanes, (block + 1) * self._m.lanes)
        channel = self._channels[head % len(self._channels)]
        return PimRow(channel, self._base, position, features if what.result == VALUE else None)

    @property
    def _base(self) -> int:
        """First row of the layer in the banks of PIM channels."""
        return self._layer * self._m.pim.layer_rows if self._m.pim is not None else 0

    def _give_fetch(self) -> None:
        """Tell the memory of a fetch when it has been given all keys and values."""
        if self._fetching is not None and (written := self._rows.written) is not None:
            (cycle, jobs), self._fetching = self._fetching, None
            self._port.fetch(max(cycle, written), jobs)

    def _finish(self) -> None:
        """Everything that was fed is written, and then counted as such."""
        result, cycle = self._rows.finish()
        self._give_fetch()
        m = self._m
        if result == RESIDUAL:
            cycle += m.residual_latency
        elif result == GATED:
            cycle += m.activation_latency
        elif result == ROTATED:
            cycle += m.rotary_latency
        elif result == LOGIT:
            self._result = cycle + m.argmax_latency
        self._drained = cycle + 1

    def _fetch(self, shape: Pass, cycle: int) -> None:
        """Keys and values are read, head by head, when those of this pass have been written."""
        m = self._m
        head_words = self._head_words * m.beat_words
        chunks = -(-(shape.past + shape.tokens) // m.lanes)
        stride = -(-m.context // m.lanes) * head_words
        first = self._layer * self._heads * stride
        words = [first + head * stride for head in range(self._heads)]
        self._fetching = cycle, [(ring, words, chunks * head_words) for ring in "kv"]
        self._give_fetch()

    def _attention(self, phase: Phase, what: Role, shape: Pass, start: int) -> None:
        """Items in turns: scores as long as a slot is free, else the context of the oldest item."""
        m, words = self._m, self._head_words
        groups = [min(m.tokens, shape.tokens - g) for g in range(0, shape.tokens, m.tokens)]
        chunks = [
            -(-(shape.past + min((g + 1) * m.tokens, shape.tokens)) // m.lanes)
            for g in range(len(groups))
        ]
        beats = -(-(shape.past + shape.tokens) // m.lanes) * words  # of a head

        def turned(of: Sequence[int]) -> Sequence[int]:
            """The beat in the ring of each beat of the engine."""
            return of if m.turns == 1 else [index for index in of for _ in range(m.turns)]

        items, shared = what.task.heads * len(groups), what.task.shared
        self._finish()
        cycle = self._header(start + 1)
        cycle = self._other(cycle) + 1
        scored = played = 0
        done: deque[int] = deque()  # cycles in which the feeder knows of probabilities
        first = read = last = 0  # the softmax began to read the item before, and has read it
        while played < items:
            if scored < items and scored - played < phase.interleave:
                head, g = divmod(scored, len(groups))
                fresh = g == 0 or chunks[g] != chunks[g - 1]  # beats that nobody has waited for
                fresh &= head % shared == 0
                item = range(chunks[g] * words)
                issued, cycle = 0, cycle + 1
                for n in range(chunks[g]):
                    tile = turned(item[n * words : (n + 1) * words]) if fresh else None
                    issued = self._tile("k", tile, words * m.turns, cycle, groups[g])
                    ends = scored == items - 1 and n == chunks[g] - 1
                    last = self._leave(groups[g], ends=ends)
                    cycle = issued + 1
                first, read = self._softmax(
                    last + m.requantise_latency, groups[g] * chunks[g], first, read
                )
                done.append(read + m.softmax_latency - m.softmax_wait + 1)
                scored += 1
                if g == len(groups) - 1 and (head + 1) % shared == 0:
                    self._release("k", issued, beats)
            else:
                head, g = divmod(played, len(groups))
                fresh = head % shared == 0 and (g == 0 or chunks[g] != chunks[g - 1])
                issued, cycle = 0, max(cycle, done.popleft()) + 1
                for n in range(words):
                    tile = turned(range(n, chunks[g] * words, words)) if fresh else None
                    issued = self._tile("v", tile, chunks[g] * m.turns, cycle, groups[g])
                    self._leave(groups[g])
                    cycle = issued + 1
                played += 1
                if g == len(groups) - 1 and (head + 1) % shared == 0:
                    self._release("v", issued, beats)
        self._idle = cycle + 1

    def _on_channels(self, what: Role, shape: Pass, start: int) -> None:
        """Token after token: queries to the channels, scores, softmax, probabilities to the channels, context."""
        m, channel, shown = self._m, self._channels[-1], self._m.pim
        assert shown is not None
        words = what.task.heads * self._head_words
        self._finish()
        cycle = self._header(start + 1)
        cycle = self._other(cycle) + 1
        cycle = max(cycle, *(c.written for c in self._channels)) + 1
        first = read = 0
        for token in range(shape.tokens):
            length = shape.past + token + 1
            chunks = -(-length // m.lanes)
            done: list[int] = []
            taken = PimTaken(shown, m.lanes, cycle + words)
            for number, index, result in channel.sweep(
                cycle + words + 1, self._base, length, False
            ):
                slots = -(-min(shown.tile, length - number * shown.tile) // shown.banks)
                slot = index % slots
                left = length - number * shown.tile - slot * shown.banks
                for row, last in taken.take(result, left, ends=slot == slots - 1):
                    self._other_row(row)
                    if last and (number + 1) * shown.tile >= length:
                        scored = self._rows.last + m.requantise_latency
                        first, read = self._softmax(scored, chunks, first, read)
                        done.append(read + m.softmax_latency - m.softmax_wait + 1)
                channel.took(taken.left)
                self._beats += 1
            self._rows.free_header(ends=token == shape.tokens - 1)
            cycle = taken.cycle + 1
            for known in done:
                cycle = max(cycle, known) + chunks
            taken = PimTaken(shown, m.lanes, cycle)
            for number, index, result in channel.sweep(cycle + 1, self._base, length, True):
                piece = index % shown.pieces
                left = self._head_words * m.lanes - piece * shown.banks
                whole = (number + 1) * shown.span >= length
                ends = piece == shown.pieces - 1
                for row, _ in taken.take(result, left, ends=ends, leaves=whole):
                    self._other_row(row)
                channel.took(taken.left)
                self._beats += 1
            cycle = taken.cycle + 1
        for c in self._channels:
            c.close()
        self._idle = max(cycle, self._rows.last + 1) + 1

    def _other_row(self, row: int) -> None:
        """A row of a PIM channel was taken: it goes to the drain by way of a queue."""
        self._rows.other(max(self._rows.last + 1, row + QUEUE))

    def _leave(self, rows: int, *, ends: bool = False) -> int:
        """The tile fed last leaves the engine unhindered; when its last row enters requantisation."""
        self._rows.tile(rows, ends=ends)
        return self._rows.last

    def _softmax(self, scored: int, words: int, first: int, read: int) -> tuple[int, int]:
        """An item whose last score is there in cycle ``scored``: its first read, and the cycle after its last one.

        It is accepted when the item before, first read in cycle ``first``, no longer waits.
        """
        accepted = max(scored + ITEM_QUEUE, first - 1)
        begin = max(accepted + self._m.softmax_wait, read)
        return begin, begin + words
