# SPDX-License-Identifier: Apache-2.0
"""The schedule: when each task runs and on which unit, and where every tensor lives.

A schedule is one value for all passes of a network: sizes are in L and P (:mod:`schedules.sizes`), and a section
of phases repeats for the layers. It names no register and no module, so every back end reads the same file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from schedules.errors import ScheduleError
from schedules.problem import Problem, Section, Task, Tensor, nearest
from schedules.text import differences, flow, parse, plain, restore

__all__ = [
    "Buffer", "Core", "Edge", "Home", "Limits", "Memory", "Phase", "PhaseTime", "Prediction", "Ring", "Schedule",
    "Sfu", "Template",
]  # fmt: skip

VERSION = 1
PATTERNS = ("task_parallel", "sequential", "pipeline")
PLACES = ("stream", "onchip", "offchip")
BOUNDS = ("compute", "memory", "latency")


@dataclass(frozen=True)
class Core:
    """An engine with its sequencer.

    Parameters
    ----------
    id : its name.
    array, pe : how it multiplies.
    shape : tokens, reduce, outputs: ``[tokens, reduce] @ [reduce, outputs]`` a cycle.
    acc_sets : accumulator sets; with two, a tile drains while the next one computes.
    mem : the memory that it is a part of: its second operands lie there and need no ring. Empty for other engines.
    """

    id: str
    array: str
    pe: str
    shape: tuple[int, int, int]
    acc_sets: int = 2
    mem: str = ""

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.acc_sets < 1:
            raise ScheduleError(
                f"Core {self.id}: shape and acc_sets must be at least 1, not {self.shape}, {self.acc_sets}"
            )

    @property
    def lanes(self) -> int:
        """Multiplications a cycle."""
        return self.shape[0] * self.shape[1] * self.shape[2]


@dataclass(frozen=True)
class Sfu:
    """A special function unit: what operations it does, and how many elements of a row a cycle."""

    id: str
    kinds: tuple[str, ...]
    lanes: int


@dataclass(frozen=True)
class Memory:
    """External memory.

    Parameters
    ----------
    id : its name.
    ports : equal ports; what lies here is striped over all of them.
    bytes_per_cycle : what one port carries.
    latency : cycles from an address to its first data.
    """

    id: str
    ports: int
    bytes_per_cycle: Fraction
    latency: int

    def __post_init__(self) -> None:
        if self.ports < 1 or self.bytes_per_cycle <= 0 or self.latency < 0:
            raise ScheduleError(
                f"Memory {self.id} must have ports, bandwidth and a latency of at least 0 cycles"
            )


@dataclass(frozen=True)
class Limits:
    """What the circuit can hold.

    Parameters
    ----------
    chunk : most tokens of a pass.
    context : most tokens that attention sees.
    slots : attention items (a head and a group of tokens) in flight.
    reconf_cycles : cycles from the end of a phase, or from the end of what it waits for, to the start of the next.
    """

    chunk: int
    context: int
    slots: int
    reconf_cycles: int

    def __post_init__(self) -> None:
        if min(self.chunk, self.context, self.slots) < 1 or self.reconf_cycles < 0:
            raise ScheduleError(f"Limits must be at least 1 (reconf_cycles at least 0), not {self}")


@dataclass(frozen=True)
class Template:
    """The units that the schedule plays on."""

    cores: tuple[Core, ...]
    sfus: tuple[Sfu, ...]
    mem: tuple[Memory, ...]
    limits: Limits


@dataclass(frozen=True)
class Phase:
    """Tasks that run at the same time.

    Parameters
    ----------
    id : its name.
    section : the section that it is a part of.
    pattern : ``sequential`` (one task), ``task_parallel`` (independent tasks on different units) or ``pipeline`` (each
        task but the first takes a stream of another one).
    run : tasks and their units, producers before consumers.
    barrier : starts only when everything that earlier phases make has been written; without it, it starts as soon
        as its units are free.
    interleave : of a pipeline: a core plays several of its tasks in turns, item by item, the consumer at most this many
        items behind the producer. 0: a unit has one task.
    """

    id: str
    section: str
    pattern: str
    run: tuple[tuple[str, tuple[str, ...]], ...]
    barrier: bool = True
    interleave: int = 0

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise ScheduleError(
                f"Phase {self.id}: pattern must be one of {', '.join(PATTERNS)}, not {self.pattern!r}"
            )
        if not self.run:
            raise ScheduleError(f"Phase {self.id} must run a task")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of its tasks."""
        return tuple(name for name, _ in self.run)


@dataclass(frozen=True)
class Edge:
    """How a tensor comes from the task that makes it to one that reads it.

    Parameters
    ----------
    tensor : its name, as the reader calls it.
    source, to : the two tasks.
    place : ``stream`` (element by element, within a phase), ``onchip`` (a buffer) or ``offchip`` (a memory).
    buffer : of ``onchip``: where.
    mem : of ``offchip``: where.
    depth : of ``stream``: items that the connection holds.
    """

    tensor: str
    source: str = field(metadata={"key": "from"})
    to: str
    place: str
    buffer: str = ""
    mem: str = ""
    depth: int = 0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ScheduleError(
                f"Edge {self.label}: place must be one of {', '.join(PLACES)}, not {self.place!r}"
            )

    @property
    def label(self) -> str:
        """The edge as messages name it."""
        return f"{self.tensor} ({self.source} to {self.to})"


@dataclass(frozen=True)
class Home:
    """The bytes of a buffer that a tensor has, and when.

    Parameters
    ----------
    tensor : whose.
    offset, bytes : which.
    live : first and last phase.
    replaces : a tensor with the same bytes that this one overwrites, element by element as it is read.
    """

    tensor: str
    offset: int
    bytes: int
    live: tuple[str, str]
    replaces: str = ""

    def __post_init__(self) -> None:
        if self.offset < 0 or self.bytes < 1:
            raise ScheduleError(
                f"Home of {self.tensor} must have an offset from 0 and at least one byte"
            )

    @property
    def end(self) -> int:
        """The byte after its last one."""
        return self.offset + self.bytes


@dataclass(frozen=True)
class Buffer:
    """On-chip memory: ``banks`` side by side, words of ``word_bytes``, and who owns what of it."""

    name: str
    bytes: int
    banks: int
    word_bytes: int
    homes: tuple[Home, ...]

    def __post_init__(self) -> None:
        if self.banks < 1 or self.word_bytes < 1 or self.bytes < 1:
            raise ScheduleError(
                f"Buffer {self.name}: bytes, banks and word_bytes must be at least 1"
            )
        if self.bytes % (self.banks * self.word_bytes):
            raise ScheduleError(
                f"Buffer {self.name}: {self.bytes} bytes are not whole words of {self.word_bytes} bytes "
                f"in {self.banks} banks"
            )

    def home(self, tensor: str) -> Home:
        """The home of a tensor."""
        found = next((h for h in self.homes if h.tensor == tensor), None)
        if found is None:
            raise ScheduleError(f"Buffer {self.name} has no home of {tensor}")
        return found

    def word(self, tensor: str) -> int:
        """First word of a tensor, in every bank."""
        return self.home(tensor).offset // (self.banks * self.word_bytes)


@dataclass(frozen=True)
class Ring:
    """A prefetcher: reads tensors from memory in this order, as far ahead as its ring has room.

    Parameters
    ----------
    name : its name.
    mem : where it reads.
    bytes : what the ring holds; 0 if it only streams rows that are asked for.
    tensors : in the order in which they are used.
    """

    name: str
    mem: str
    bytes: int
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class PhaseTime:
    """What is predicted of a phase.

    Parameters
    ----------
    phase : its name.
    start, end : of its first run, in cycles since the pass began; the end is the start of the next phase.
    cycles : of all its runs in the pass.
    bytes : that all its runs read from memory.
    bound : what its time is made of: ``compute``, ``memory`` or ``latency``.
    """

    phase: str
    start: int
    end: int
    cycles: int
    bytes: int
    bound: str

    def __post_init__(self) -> None:
        if self.bound not in BOUNDS:
            raise ScheduleError(
                f"Prediction of {self.phase}: bound must be one of {', '.join(BOUNDS)}, not {self.bound!r}"
            )


@dataclass(frozen=True)
class Prediction:
    """What is predicted of a pass: of ``tokens`` after ``past`` others; ``answer``: it yields a token.

    ``total`` is in cycles, ``lane_use`` the part of them in which a multiplier does something useful.
    """

    tokens: int
    past: int
    answer: bool
    total: int
    lane_use: float
    phases: tuple[PhaseTime, ...]


@dataclass(frozen=True)
class Schedule:
    """Tasks in phases, their edges, buffers and rings, and the cycles that are predicted.

    Parameters
    ----------
    name : of the network.
    clock_mhz : assumed clock; only turns cycles into seconds.
    template : the units.
    tensors, tasks, sections : the problem that is solved.
    phases : in the order in which they run; those of a section follow each other and repeat with it.
    edges, buffers, rings : where tensors pass and live.
    predicted : passes that somebody asked for.

    Raises
    ------
    ScheduleError
        By :meth:`verify`, and by :meth:`from_yaml`.
    """

    name: str
    clock_mhz: float
    template: Template
    tensors: tuple[Tensor, ...] = field(metadata={"named": True})
    tasks: tuple[Task, ...] = field(metadata={"named": True})
    sections: tuple[Section, ...]
    phases: tuple[Phase, ...]
    edges: tuple[Edge, ...]
    buffers: tuple[Buffer, ...] = field(metadata={"named": True})
    rings: tuple[Ring, ...] = field(metadata={"named": True})
    predicted: tuple[Prediction, ...] = ()
    version: int = field(default=VERSION, kw_only=True)

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ScheduleError(
                f"Schedule {self.name} has version {self.version}, but this program reads version {VERSION}"
            )
        if self.clock_mhz <= 0:
            raise ScheduleError(
                f"Schedule {self.name}: clock_mhz must be positive, not {self.clock_mhz!r}"
            )

    @cached_property
    def problem(self) -> Problem:
        """What the schedule solves; making it checks the flow of data."""
        return Problem(self.name, self.tensors, self.tasks, self.sections)

    def phase(self, name: str) -> Phase:
        """The phase of this name."""
        return self._find("phase", name, {p.id: p for p in self.phases})

    def phase_of(self, task: str) -> Phase:
        """The phase that runs a task."""
        return self._find("task", task, {t: p for p in self.phases for t in p.tasks})

    def buffer(self, name: str) -> Buffer:
        """The buffer of this name."""
        return self._find("buffer", name, {b.name: b for b in self.buffers})

    def home(self, tensor: str) -> tuple[Buffer, Home]:
        """The buffer in which a tensor lives, and its bytes there."""
        homes = {h.tensor: (b, h) for b in self.buffers for h in b.homes}
        return self._find("home of", tensor, homes)

    def _find(self, what: str, name: str, known: dict):
        if name not in known:
            raise ScheduleError(f"Schedule {self.name} has no {what} {name}{nearest(name, known)}")
        return known[name]

    def verify(self) -> None:
        """Check that the schedule can be played: see :mod:`schedules.legality`."""
        from schedules.legality import check

        check(self)

    def to_yaml(self) -> str:
        """The schedule as YAML: one line for each tensor, task, phase, edge; always the same text."""
        data = plain(self)
        lines = [f"version: {VERSION}"]
        for key, value in data.items():
            if isinstance(value, dict) and value:
                lines.append(f"{key}:")
                for name, content in value.items():
                    if isinstance(content, list):
                        lines += [f"  {name}:", *(f"  - {flow(row)}" for row in content)]
                    elif key == "buffers":
                        homes = content.pop("homes")
                        lines.append(f"  {flow(name)}:")
                        lines += [f"    {k}: {flow(v)}" for k, v in content.items()]
                        lines += (
                            ["    homes:", *(f"    - {flow(row)}" for row in homes)]
                            if homes
                            else ["    homes: []"]
                        )
                    else:
                        lines.append(f"  {flow(name)}: {flow(content)}")
            elif key == "predicted":
                lines.append("predicted:")
                for row in value:
                    times = row.pop("phases")
                    head = [f"{k}: {flow(v)}" for k, v in row.items()]
                    lines += [f"- {head[0]}", *(f"  {text}" for text in head[1:]), "  phases:"]
                    lines += [f"  - {flow(time)}" for time in times]
            elif isinstance(value, list) and value:
                lines += [f"{key}:", *(f"- {flow(row)}" for row in value)]
            else:
                lines.append(f"{key}: {flow(value)}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_yaml(cls, text: str) -> Schedule:
        """The schedule that :meth:`to_yaml` wrote; raises ScheduleError if it is none."""
        return restore(cls, parse(text), "Schedule")

    def diff(self, other: Schedule) -> list[str]:
        """What is different in ``other``, a line each: ``-`` gone, ``+`` new, ``~`` changed."""
        return list(differences(plain(self), plain(other)))

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {len(self.phases)} phases, {len(self.tasks)} tasks at {self.clock_mhz:g} MHz"
        ]
        for phase in self.phases:
            run = ", ".join(f"{task} on {'+'.join(units)}" for task, units in phase.run)
            lines.append(
                f"  {phase.section:<8}{phase.id:<12}{phase.pattern:<14}{run}{'' if phase.barrier else '  (no wait)'}"
            )
        lines.extend(
            f"  {p.tokens} tokens after {p.past}: {p.total:,} cycles, lanes busy {p.lane_use:.1%}"
            for p in self.predicted
        )
        return "\n".join(lines)
