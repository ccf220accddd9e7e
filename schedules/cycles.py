"""The cycle model: when everything happens that a core does in a pass, to the cycle.

It plays the phases of a schedule as the hardware does (``docs/architecture.md``): the sequencer starts phases and
waits at barriers; the feeder issues a beat a cycle if its operands have arrived; the engine stands still while a
finished tile finds the last one still leaving; rows leave through requantisation to where they go; softmax, LayerNorm,
embedding and argmax have their latencies; keys and values are written and fetched back; and the prefetchers share
the memory ports (:mod:`schedules.port`). Time goes from event to event, tile by tile. All latencies come from the
:class:`~schedules.machine.Machine`; what this file adds is how many registers lie between two decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from schedules.errors import ScheduleError
from schedules.machine import Machine
from schedules.port import Port
from schedules.roles import Role, role
from schedules.schedule import Phase, PhaseTime, Prediction, Schedule
from schedules.sizes import size_value

__all__ = ["Ideal", "Pass", "PassTime", "PhaseCount", "Run", "bound", "ideal", "play", "predict"]

GATED, RESIDUAL, KEY, VALUE, LOGIT = "gated", "residual", "key", "value", "logit"
ITEM_QUEUE = 2
"""Cycles through the queue of attention items between drain and softmax."""


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
    """A run from start to done: ``cycles`` as the register says, its passes, and counts by phase."""

    cycles: int
    passes: tuple[PassTime, ...]
    counts: dict[str, PhaseCount]


@dataclass(frozen=True)
class Ideal:
    """Lower bounds of a phase in a pass, in cycles: all multipliers always busy, all bandwidth always used."""

    compute: int
    memory: int
    macs: int
    bytes: int


def play(
    schedule: Schedule,
    machine: Machine,
    *,
    prompt: int,
    generate: int = 1,
    position: int = 0,
    repeat: int | None = None,
) -> Run:
    """Play a run of the accelerator.

    Parameters
    ----------
    prompt : tokens of the prompt.
    generate : tokens to generate; 0 fills the cache only.
    position : tokens already cached.
    repeat : repetitions of the section that repeats (layers), all of them if None.

    Raises
    ------
    ScheduleError
        If a core of one engine cannot play the schedule, or the run does not fit in the context.
    """
    if prompt < 1 or generate < 0 or position < 0:
        raise ScheduleError(f"A run needs a prompt, not {prompt} tokens at {position} and {generate} to generate")
    if position + prompt + max(0, generate - 1) > machine.context:
        raise ScheduleError(
            f"{position} cached, {prompt} of the prompt and {generate} to generate exceed the context of {machine.context}"
        )
    return _Core(schedule, machine, repeat).run(prompt, generate, position)


def predict(schedule: Schedule, machine: Machine, shape: Pass) -> Prediction:
    """The cycles of a pass: a prompt's pass from a cold start, a token's in the midst of generating.

    A pass of one token comes after another one, if it can: its first weights are there.
    """
    warm = shape.tokens == 1 and shape.past > 0 and shape.answer
    if warm:
        run = _warm(schedule, machine, shape.past)
    else:
        run = play(
            schedule, machine, prompt=shape.tokens, generate=int(shape.answer), position=shape.past
        )
    timed = run.passes[-1]
    repeats = {s.name: s.repeat for s in schedule.sections}
    phases = []
    for name, start, end, count in timed.phases:
        phase = schedule.phase(name)
        least = ideal(schedule, machine, phase, shape)
        repeat = repeats[phase.section]
        phases.append(
            PhaseTime(
                phase=name,
                start=start - timed.start,
                end=end - timed.start,
                cycles=count.cycles,
                bytes=repeat * least.bytes,
                bound=bound(least, count.cycles / repeat),
            )
        )
    macs = schedule.problem.macs(shape.tokens, shape.past, answer=shape.answer)
    use = macs / machine.multipliers / timed.cycles
    return Prediction(
        shape.tokens, shape.past, shape.answer, timed.cycles, round(use, 6), tuple(phases)
    )


@lru_cache(maxsize=64)
def _warm(schedule: Schedule, machine: Machine, past: int) -> Run:
    return play(schedule, machine, prompt=1, generate=2, position=past - 1)


def ideal(schedule: Schedule, machine: Machine, phase: Phase, shape: Pass) -> Ideal:
    """Lower bounds of one run of a phase; its bytes are those that the prefetchers read, headers included."""
    macs = sum(schedule.problem.task(t).macs(shape.tokens, shape.past) for t in phase.tasks)
    bytes_read = _phase_bytes(machine, role(schedule, phase), shape)
    return Ideal(
        compute=-(-macs // machine.multipliers),
        memory=-int(-bytes_read // machine.bytes_per_cycle),
        macs=macs,
        bytes=bytes_read,
    )


def bound(least: Ideal, cycles: float) -> str:
    """What the time of a phase is made of: the larger lower bound, if that is half of it."""
    name, most = max((("compute", least.compute), ("memory", least.memory)), key=lambda b: b[1])
    return name if 2 * most >= cycles else "latency"


def _phase_bytes(machine: Machine, what: Role, shape: Pass) -> int:
    task = what.task
    if what.kind == "embed":
        return shape.tokens * (2 * machine.row_stripes + (shape.tokens > 1)) * machine.stripe_bytes
    if what.kind == "norm":
        return (1 + machine.norm_parameters) * machine.beat_bytes
    if what.kind == "product":
        tiles = -(-size_value(task.n, shape.tokens, shape.past) // machine.lanes)
        words = -(-size_value(task.k, shape.tokens, shape.past) // machine.lanes)
        headers = -(-tiles // machine.header_tiles) + (what.result == GATED)
        return (tiles * words + headers) * machine.beat_bytes
    chunks = -(-(shape.past + shape.tokens) // machine.lanes)
    head = -(-size_value(task.k, 1, 0) // machine.lanes)
    return (2 * task.heads * chunks * head + 2) * machine.beat_bytes


@dataclass
class _Row:
    """A row of a finished tile that has not entered requantisation: since when it is in the bank, where it goes."""

    loaded: int
    ports: range | None  # of a key or value
    result: str
    ends: bool  # the last row that needs its header


class _Rows:
    """The way of finished rows: the engine's pipeline, its bank of finished rows, requantisation, key/value writer.

    Everything moves at once or stands still, stage by stage: requantisation while a key or value is not taken, the
    engine while a finished tile finds more than one row in the bank. What happens to a row is found out as late as
    possible: only then is it known what the feeder, which runs ahead of it, asked of the memory meanwhile.
    """

    def __init__(self, machine: Machine, port: Port) -> None:
        self._port = port
        self._depth = machine.engine_latency - 1  # cycles from the transfer of a last beat to the bank
        self._requantise = machine.requantise_latency
        self.held = 0  # the beat register of the feeder is free from then on
        self._bank = 0  # the next tile may be loaded
        self._entered = 0  # the last row entered requantisation
        self._written = 0  # the key/value writer is free
        self._waiting: deque[_Row] = deque()
        self._leaving: deque[tuple[int, range]] = deque()  # keys and values in requantisation: since when, ports
        # Cycles in which the engine's pipeline, and requantisation, stand still, as [first, end).
        self._still: deque[tuple[int, int]] = deque()
        self._stopped: deque[tuple[int, int]] = deque()
        self.freed = [0] * machine.header_buffers
        """When no row needs a header any more, header by header."""
        self._last = ("", 0)  # of the last row: where it goes, and when it is offered there

    def issue(self, cycle: int, beats: int) -> int:
        """Issue beats whose operands are there, from ``cycle`` on; the cycle of the last issue."""
        cycle = max(cycle, self.held)
        while self._still and self._still[0][1] <= cycle + 1:
            self._still.popleft()
        if not self._still or self._still[0][0] > cycle + beats:
            self.held = cycle + beats
            return self.held - 1
        for _ in range(beats):
            issued = max(cycle, self.held)
            self.held = issued + 1
            for first, end in self._still:
                if first <= self.held < end:
                    self.held = end
            cycle = issued + 1
        return cycle - 1

    def tile(self, rows: int, ports: Sequence[range] = (), result: str = "", *, ends: bool = False) -> None:
        """The beat issued last ends a tile.

        Parameters
        ----------
        rows : of the tile.
        ports : of keys and values: where each row goes.
        result : where other rows go.
        ends : it is the last tile that needs its header.
        """
        self._make_room()
        ready = self.held + self._depth
        for first, end in self._still:
            if first < ready and end > self.held:
                ready += end - first
        loaded = max(ready, self._bank)
        if loaded > ready:
            self._still.append((ready, loaded))
        self._bank = loaded + rows
        if not ports and not self._waiting and not self._leaving:
            while self._stopped and self._stopped[0][1] <= loaded:
                self._stopped.popleft()
            if not self._stopped:
                self._entered = loaded + rows
                self._last = (result, self._entered + self._requantise)
                if ends:
                    self.freed.append(self._entered + 1)
                return
        for row in range(rows):
            to = ports[row] if ports else None
            self._waiting.append(_Row(loaded, to, result, ends and row == rows - 1))

    @property
    def smooth(self) -> bool:
        """Whether nothing stands still, and nothing can."""
        return not (self._still or self._stopped or self._waiting or self._leaving)

    @property
    def last(self) -> int:
        """The cycle in which the last row entered requantisation, nothing being in its way."""
        return self._entered

    def header_free(self, header: int) -> int:
        """The cycle in which no row needs a header any more."""
        while len(self.freed) <= header:
            self._enter()
        return self.freed[header]

    def finish(self) -> tuple[str, int]:
        """All rows leave: where the last one goes, and when it is offered there."""
        while self._waiting:
            self._enter()
        while self._leaving:
            self._accept()
        return self._last

    @property
    def written(self) -> int | None:
        """The cycle in which the memory took the last key or value; None if some are under way."""
        under_way = self._leaving or any(row.ports is not None for row in self._waiting)
        return None if under_way else self._written

    def _make_room(self) -> None:
        """A tile is loaded when at most one row is left in the bank, which then waits beside it."""
        free = not self._leaving and not self._stopped
        if free and all(row.ports is None for row in self._waiting):
            while self._waiting:
                self._enter()
        elif self._waiting:
            while len(self._waiting) > 1:
                self._enter()
            self._bank = max(self._bank, self._entered + 1)

    def _enter(self) -> None:
        """The next row enters requantisation; rows before it have left if they could have."""
        row = self._waiting.popleft()
        cycle = max(row.loaded, self._entered) + 1
        while True:
            while self._leaving and self._offered(self._leaving[0][0]) <= cycle:
                self._accept()
            stop = next((end for first, end in self._stopped if first <= cycle < end), None)
            if stop is None:
                break
            cycle = stop
        self._entered = cycle
        if row.ports is not None:
            self._leaving.append((cycle, row.ports))
        else:
            self._last = (row.result, self._offered(cycle))
        if row.ends:
            self.freed.append(cycle + 1)

    def _offered(self, entered: int) -> int:
        """The cycle in which a row that entered requantisation is offered to where it goes."""
        cycle = entered + self._requantise
        for first, end in self._stopped:
            if first < cycle and end > entered:
                cycle += end - first
        return cycle

    def _accept(self) -> None:
        """The oldest key or value is taken by the writer, which gives it to the memory."""
        entered, ports = self._leaving.popleft()
        offered = self._offered(entered)
        accepted = max(offered, self._written)
        if accepted > offered:
            while self._stopped and self._stopped[0][1] <= entered:
                self._stopped.popleft()
            self._stopped.append((offered, accepted))
        self._written = self._port.write(ports, accepted + 1)
        self._last = ("", accepted)


class _Core:
    """The state of the core between two phases, in cycles since the start."""

    def __init__(self, schedule: Schedule, machine: Machine, repeat: int | None) -> None:
        self._schedule, self._m = schedule, machine
        self._port = Port(machine)
        self._rows = _Rows(machine, self._port)
        answered = [s for s in schedule.sections if s.answer]
        plain = [s for s in schedule.sections if not s.answer]
        self._repeats = {s.name: s.repeat for s in schedule.sections}
        self._loop = plain[-1].name  # the section after which the sequencer waits for all to be quiet
        if repeat is not None:
            if not 1 <= repeat <= self._repeats[self._loop]:
                raise ScheduleError(f"Section {self._loop} repeats 1 to {self._repeats[self._loop]} times, not {repeat}")
            self._repeats[self._loop] = repeat
        self._sections = plain + answered
        self._steps = {
            s.name: [(p, role(schedule, p)) for p in schedule.phases if p.section == s.name]
            for s in self._sections
        }
        self._heads = max(
            (r.task.heads for steps in self._steps.values() for _, r in steps if r.kind == "attention"),
            default=1,
        )
        self._starved = self._beats = 0
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
        return Run(may, tuple(timed), total)

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
        cycle, words = 1, self._m.beat_words
        for shape, _ in shapes:
            for answer in (False, True):
                beats = sum(
                    self._repeats[s.name] * self._stream_beats(r)
                    for s in self._sections
                    if s.answer == answer
                    for _, r in self._steps[s.name]
                )
                if not answer or shape.answer:
                    self._port.read("w", cycle, 0, beats * words)
                    cycle += 1

    def _stream_beats(self, what: Role) -> int:
        if what.kind == "embed":
            return 0
        if what.kind == "attention":
            return 2
        return _phase_bytes(self._m, what, Pass(1)) // self._m.beat_bytes

    def _pass(
        self, shape: Pass, is_prompt: bool, began: int, may: int, *, final: bool
    ) -> tuple[int, tuple[tuple[str, int, int, PhaseCount], ...]]:
        """One pass, whose first phase may start in cycle ``may``: when the next one's may (or all is done), its phases."""
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
                if section.name == self._loop:
                    may = max(may, self._quiet()) + 1  # one more state: the next layer, or the end of the pass
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

    def _close(self, seen: dict[str, list], current: tuple[str, int, int, int] | None, end: int) -> None:
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
            self._armed = what.last_write
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
        """Take a beat of the weight stream that is not for the engine; the cycle of its issue."""
        cycle = max(cycle, self._rows.held)
        arrived = self._arrived("w", 0)
        if arrived > cycle:
            self._starved += arrived - cycle
            cycle = arrived
        self._release("w", cycle)
        self._rows.held = cycle + 1
        return cycle

    def _tile(self, ring: str, indices: Sequence[int] | None, beats: int, cycle: int) -> int:
        """Issue the beats of a tile; ``indices``: of the beats in the ring, None if they are known to be there."""
        self._beats += beats
        if indices is None:
            return self._rows.issue(cycle, beats)
        last = max(indices)
        if self._arrived(ring, last) <= cycle:
            return self._rows.issue(cycle, beats)
        for index in indices:
            arrived = self._arrived(ring, index)
            cycle = max(cycle, self._rows.held)
            if arrived > cycle:
                self._starved += arrived - cycle
                cycle = arrived
            cycle = self._rows.issue(cycle, 1) + 1
        return cycle - 1

    # ---- Phases -----------------------------------------------------------------------------------

    def _embed(self, shape: Pass, is_prompt: bool, start: int) -> None:
        """Row after row: its token, then a stripe of each table at a time."""
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
        if rows == 1:
            late = max(0, known - first)
        else:
            late = max(0, known - (start + 1 + m.norm_row))
        done = start + rows * m.norm_row + m.norm_latency + late
        self._norm = done + 1

    def _product(self, what: Role, shape: Pass, start: int) -> None:
        """Tile by tile of outputs, each for every group of tokens; weights stay until the last group used them."""
        m, task = self._m, what.task
        rows = size_value(task.m, shape.tokens, shape.past)
        words = -(-size_value(task.k, shape.tokens, shape.past) // m.lanes)
        tiles = -(-size_value(task.n, shape.tokens, shape.past) // m.lanes)
        groups = [min(m.tokens, rows - g) for g in range(0, rows, m.tokens)]
        cycle = start + 1
        if what.result == GATED:
            cycle = self._other(cycle) + 1
        # Rows leave faster than tiles come: then all groups but the first are one stream of beats.
        smooth = len(groups) > 1 and words >= groups[0] and what.result not in (KEY, VALUE)
        for n in range(tiles):
            if n % m.header_tiles == 0:
                cycle = self._header(cycle)
            ends = (n + 1) % m.header_tiles == 0 or n == tiles - 1
            g = 0
            while g < len(groups):
                count = len(groups) - g if g and smooth and self._rows.smooth else 1
                issued = self._tile("w", None if g else range(words), words * count, cycle)
                cycle = issued + 1
                g += count
                if g == len(groups):
                    self._release("w", issued, words)
                self._drain(what, shape, g - 1, groups[g - 1], ends and g == len(groups))
        self._idle = cycle

    def _header(self, cycle: int) -> int:
        """Take a header; it needs a buffer that no tile uses any more. The cycle after its issue."""
        free = self._rows.header_free(self._headers)
        self._headers += 1
        return self._other(max(cycle, free)) + 1

    def _drain(self, what: Role, shape: Pass, group: int, rows: int, ends: bool) -> None:
        """The tile fed last leaves the engine; ``ends``: it is the last one of its header."""
        ports: list[range] = []
        if what.result in (KEY, VALUE):
            first = shape.past + group * self._m.tokens
            ports = [self._ports(position) for position in range(first, first + rows)]
        self._rows.tile(rows, ports, what.result, ends=ends)
        self._give_fetch()

    def _ports(self, position: int) -> range:
        """The ports behind which a word of keys or values of a position lies."""
        m = self._m
        byte = position % m.lanes * m.lanes % m.stripe_bytes
        return range(byte // m.port_bytes, (byte + m.lanes - 1) // m.port_bytes + 1)

    def _give_fetch(self) -> None:
        """Tell the memory of a fetch when it has been given all keys and values."""
        if self._fetching is not None and self._rows.written is not None:
            (cycle, jobs), self._fetching = self._fetching, None
            self._port.fetch(max(cycle, self._rows.written), jobs)

    def _finish(self) -> None:
        """Everything that was fed is written, and then counted as such."""
        result, cycle = self._rows.finish()
        self._give_fetch()
        m = self._m
        if result == RESIDUAL:
            cycle += m.residual_latency
        elif result == GATED:
            cycle += m.activation_latency
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

    @property
    def _head_words(self) -> int:
        return next(
            -(-size_value(r.task.k, 1, 0) // self._m.lanes)
            for steps in self._steps.values()
            for _, r in steps
            if r.kind == "attention"
        )

    def _attention(self, phase: Phase, what: Role, shape: Pass, start: int) -> None:
        """Items in turns: scores as long as a slot is free, else the context of the oldest item."""
        m, words = self._m, self._head_words
        groups = [min(m.tokens, shape.tokens - g) for g in range(0, shape.tokens, m.tokens)]
        chunks = [
            -(-(shape.past + min((g + 1) * m.tokens, shape.tokens)) // m.lanes) for g in range(len(groups))
        ]
        beats = -(-(shape.past + shape.tokens) // m.lanes) * words  # of a head
        items = what.task.heads * len(groups)
        cycle = self._header(start + 1)
        cycle = self._other(cycle) + 1
        scored = played = 0
        done: deque[int] = deque()  # cycles in which the feeder knows of probabilities
        read = last = 0  # the softmax has read the item before
        while played < items:
            ends = played == items - 1
            if scored < items and scored - played < phase.interleave:
                g = scored % len(groups)
                item = range(chunks[g] * words)
                fresh = g == 0 or chunks[g] != chunks[g - 1]
                issued, cycle = 0, cycle + 1
                for n in range(chunks[g]):
                    tile = item[n * words : (n + 1) * words] if fresh else None
                    issued = self._tile("k", tile, words, cycle)
                    last = self._leave(groups[g])
                    cycle = issued + 1
                read = self._softmax(last + m.requantise_latency, groups[g] * chunks[g], read)
                done.append(read + m.softmax_latency - m.softmax_wait + 1)
                scored += 1
                if g == len(groups) - 1:
                    self._release("k", issued, beats)
            else:
                g = played % len(groups)
                cycle = max(cycle, done.popleft()) + 1
                issued = 0
                for n in range(words):
                    tile = range(n, chunks[g] * words, words) if g == 0 or chunks[g] != chunks[g - 1] else None
                    issued = self._tile("v", tile, chunks[g], cycle)
                    last = self._leave(groups[g], ends=ends and n == words - 1)
                    cycle = issued + 1
                played += 1
                if g == len(groups) - 1:
                    self._release("v", issued, beats)
        self._idle = cycle + 1

    def _leave(self, rows: int, *, ends: bool = False) -> int:
        """The tile fed last leaves the engine without a hindrance; the cycle in which its last row enters requantisation."""
        self._rows.tile(rows, ends=ends)
        return self._rows.last

    def _softmax(self, scored: int, words: int, read: int) -> int:
        """An item whose last score is there in cycle ``scored``; the cycle after its last read."""
        m = self._m
        accepted = scored + ITEM_QUEUE
        return max(accepted + m.softmax_wait, read) + words
