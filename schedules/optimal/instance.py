# SPDX-License-Identifier: Apache-2.0
"""What is to be scheduled: tasks with alternative modes, on units that share memory ports.

Times are cycles. The problem is the multi-mode resource-constrained one of InTAR (FCCM 2025), with the places of
tensors among the decisions:

- A task runs in one of its modes, on the units of that mode, for at least ``cycles``. Between two tasks of a unit
  ``reconf_cycles`` pass.
- An edge is a ``stream`` (producer and consumer run at the same time; the orders in which one makes and the other
  takes elements must be equal), ``onchip`` (in the scratchpad of one unit, from the start of the producer to the end
  of the last consumer), or ``offchip`` (written to memory and read back through a port).
- A mode's loads occupy a share of a port; they may begin before their task if their bytes fit on the chip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from schedules.errors import ScheduleError
from schedules.problem import nearest, unique

__all__ = ["FULL", "Edge", "Instance", "Load", "Mode", "Port", "Store", "Task", "Unit"]

FULL = 1000
"""The whole of a port: demands are in thousandths of it."""


@dataclass(frozen=True)
class Unit:
    """A core or a special function unit.

    Parameters
    ----------
    id : its name.
    spad_bytes : scratchpad for tensors and loads; 0: it keeps none.
    bank_bytes : granularity in which the scratchpad is given out.
    """

    id: str
    spad_bytes: int = 0
    bank_bytes: int = 1

    def __post_init__(self) -> None:
        if self.spad_bytes < 0 or self.bank_bytes < 1:
            raise ScheduleError(f"Unit {self.id}: spad_bytes must be at least 0, bank_bytes 1")

    def rounded(self, size: int) -> int:
        """Bytes of whole banks."""
        return -(-size // self.bank_bytes) * self.bank_bytes

    def part(self, room: int, mode: Mode) -> int:
        """Bytes of this unit, one of a mode's, if that occupies ``room`` on all of them."""
        return self.rounded(-(-room // len(mode.units)))


@dataclass(frozen=True)
class Port:
    """A memory port: one stream of ``bytes_per_cycle``, first data after ``latency`` cycles."""

    id: str
    bytes_per_cycle: int
    latency: int = 0

    def __post_init__(self) -> None:
        if self.bytes_per_cycle < 1 or self.latency < 0:
            raise ScheduleError(f"Port {self.id}: bytes_per_cycle must be at least 1, latency 0")

    def cycles(self, size: int) -> int:
        """Cycles that ``size`` bytes take."""
        return -(-size // self.bytes_per_cycle)


@dataclass(frozen=True)
class Load:
    """What a mode reads from memory while, or before, it runs.

    Parameters
    ----------
    port : its port.
    bytes : all of it.
    ahead : of which so many must be there when the task starts.
    rest : cycles that the task still works after the last byte came.
    room : bytes that it occupies, in equal parts, of the scratchpads of the mode's units. If all bytes fit, the load is
        fast and may be early (a prefetch); else it keeps pace with the task.
    """

    port: str
    bytes: int
    ahead: int = 0
    rest: int = 0
    room: int = 0

    def __post_init__(self) -> None:
        if self.bytes < 1 or not 0 <= self.ahead <= self.bytes or min(self.rest, self.room) < 0:
            raise ScheduleError(f"Load of {self.bytes} bytes: ahead, rest or room out of range")

    @property
    def resident(self) -> bool:
        """All of it fits on the chip at once."""
        return self.room >= self.bytes


@dataclass(frozen=True)
class Store:
    """What a mode writes to memory.

    Parameters
    ----------
    port : its port.
    bytes : all of it.
    room : bytes that it occupies, in equal parts, of the scratchpads of the mode's units. If all bytes fit, they are
        written at once, and may wait for the port; else they keep pace with the task.
    """

    port: str
    bytes: int
    room: int = 0

    def __post_init__(self) -> None:
        if self.bytes < 1 or self.room < 0:
            raise ScheduleError(f"Store of {self.bytes} bytes: bytes or room out of range")

    @property
    def resident(self) -> bool:
        """All of it fits on the chip at once."""
        return self.room >= self.bytes


@dataclass(frozen=True)
class Mode:
    """A way to run a task.

    Parameters
    ----------
    name : of it.
    units : that work on it together.
    cycles : that it takes if nothing stalls it.
    first : cycles from its start to the first grain of its result.
    last : cycles from the last grain of a streamed input to its end.
    loads : from memory.
    stores : results that leave the chip.
    takes, makes : order of a streamed input and of the result, such as ``"rows"``; "" cannot stream.
    """

    name: str
    units: tuple[str, ...]
    cycles: int
    first: int = 0
    last: int = 0
    loads: tuple[Load, ...] = ()
    stores: tuple[Store, ...] = ()
    takes: str = ""
    makes: str = ""

    def __post_init__(self) -> None:
        if not self.units or len(set(self.units)) != len(self.units):
            raise ScheduleError(f"Mode {self.name} must name different units, not {self.units}")
        if (
            self.cycles < 1
            or not 0 <= self.first <= self.cycles
            or not 0 <= self.last <= self.cycles
        ):
            raise ScheduleError(
                f"Mode {self.name}: cycles must be at least 1, first and last 0 to cycles, "
                f"not {self.cycles}, {self.first}, {self.last}"
            )

    @property
    def bytes(self) -> int:
        """Loaded and stored."""
        return sum(x.bytes for x in (*self.loads, *self.stores))


@dataclass(frozen=True)
class Task:
    """What has to run, and the modes it may run in."""

    name: str
    modes: tuple[Mode, ...]

    def __post_init__(self) -> None:
        if not self.modes:
            raise ScheduleError(f"Task {self.name} has no mode: no unit can run it")
        unique(f"modes of {self.name}", (m.name for m in self.modes))

    def mode(self, name: str) -> Mode:
        """The mode of this name."""
        found = next((m for m in self.modes if m.name == name), None)
        if found is None:
            known = [m.name for m in self.modes]
            raise ScheduleError(f"Task {self.name} has no mode {name}{nearest(name, known)}")
        return found


@dataclass(frozen=True)
class Edge:
    """A tensor from the task that makes it to one that reads it.

    Parameters
    ----------
    tensor : its name; edges of one tensor have one producer and one size.
    source, to : the tasks.
    bytes : of the tensor.
    grain : bytes of a piece that a stream hands over.
    depth : pieces that a stream holds.
    places : allowed: ``stream``, ``onchip``, ``offchip``.
    port : through which it goes off the chip.
    """

    tensor: str
    source: str
    to: str
    bytes: int
    grain: int = 1
    depth: int = 2
    places: tuple[str, ...] = ("onchip",)
    port: str = ""

    def __post_init__(self) -> None:
        if self.bytes < 1 or not 1 <= self.grain <= self.bytes or self.depth < 1:
            raise ScheduleError(f"Edge {self.label}: bytes, grain or depth out of range")
        if not self.places or set(self.places) - {"stream", "onchip", "offchip"}:
            raise ScheduleError(
                f"Edge {self.label}: places must be of stream, onchip, offchip, not {self.places}"
            )
        if "offchip" in self.places and not self.port:
            raise ScheduleError(f"Edge {self.label} may go off the chip, but names no port")

    @property
    def label(self) -> str:
        """The edge as messages name it."""
        return f"{self.tensor} ({self.source} to {self.to})"

    def slack(self, cycles: int) -> int:
        """Cycles of a consumer of ``cycles`` in which it takes what the stream holds."""
        return cycles * min(self.depth * self.grain, self.bytes) // self.bytes


@dataclass(frozen=True)
class Instance:
    """Units, ports, tasks and the tensors between them.

    Raises
    ------
    ScheduleError
        For a name that is unknown or not unique, tasks in a cycle, edges of a tensor that do not agree, or a task
        or tensor that cannot fit on any unit: which, and by how many bytes.
    """

    name: str
    units: tuple[Unit, ...]
    ports: tuple[Port, ...]
    tasks: tuple[Task, ...]
    edges: tuple[Edge, ...]
    reconf_cycles: int = 0

    def __post_init__(self) -> None:
        unique("units", (u.id for u in self.units))
        unique("ports", (p.id for p in self.ports))
        unique("tasks", (t.name for t in self.tasks))
        if self.reconf_cycles < 0:
            raise ScheduleError(f"{self.name}: reconf_cycles must be at least 0")
        for task in self.tasks:
            for mode in task.modes:
                self._check_mode(task, mode)
        for edge in self.edges:
            for name in (edge.source, edge.to):
                self.task(name)
            if edge.port:
                self.port(edge.port)
        self._check_tensors()
        _ = self.order  # raises if there is a cycle

    def _check_mode(self, task: Task, mode: Mode) -> None:
        for name in mode.units:
            self.unit(name)
        for store in mode.stores:
            self.port(store.port)
        for load in mode.loads:
            self.port(load.port)
        for unit in map(self.unit, mode.units):
            room = sum(unit.part(x.room, mode) for x in (*mode.loads, *mode.stores))
            if room > unit.spad_bytes:
                raise ScheduleError(
                    f"Task {task.name}, mode {mode.name}: its loads and stores take {room:,} bytes, "
                    f"{unit.id} has {unit.spad_bytes:,}"
                )

    def _check_tensors(self) -> None:
        largest = max((u.spad_bytes for u in self.units), default=0)
        seen: dict[str, Edge] = {}
        pairs = set()
        for edge in self.edges:
            known = seen.setdefault(edge.tensor, edge)
            if (known.source, known.bytes) != (edge.source, edge.bytes):
                raise ScheduleError(
                    f"Tensor {edge.tensor} must have one producer and one size: "
                    f"{known.source} makes {known.bytes:,} bytes, {edge.source} {edge.bytes:,}"
                )
            if (edge.tensor, edge.to) in pairs:
                raise ScheduleError(f"Two edges bring {edge.tensor} to {edge.to}")
            pairs.add((edge.tensor, edge.to))
            if edge.places == ("onchip",) and edge.bytes > largest:
                raise ScheduleError(
                    f"Tensor {edge.tensor} of {edge.source} has {edge.bytes:,} bytes, but the largest scratchpad "
                    f"has {largest:,} and it may not go off the chip"
                )

    @cached_property
    def _units(self) -> dict[str, Unit]:
        return {u.id: u for u in self.units}

    @cached_property
    def _ports(self) -> dict[str, Port]:
        return {p.id: p for p in self.ports}

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        return {t.name: t for t in self.tasks}

    def unit(self, name: str) -> Unit:
        """The unit of this name."""
        return _get("unit", name, self._units)

    def port(self, name: str) -> Port:
        """The port of this name."""
        return _get("port", name, self._ports)

    def task(self, name: str) -> Task:
        """The task of this name."""
        return _get("task", name, self._tasks)

    def edges_to(self, task: str) -> tuple[Edge, ...]:
        """What a task reads from others."""
        return tuple(e for e in self.edges if e.to == task)

    def edges_from(self, task: str) -> tuple[Edge, ...]:
        """What others read from a task."""
        return tuple(e for e in self.edges if e.source == task)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Task names, producers before consumers, otherwise as given."""
        left = [t.name for t in self.tasks]
        done: list[str] = []
        while left:
            ready = [n for n in left if all(e.source in done for e in self.edges_to(n))]
            if not ready:
                raise ScheduleError(f"{self.name}: tasks wait for each other: {_cycle(self, left)}")
            done += ready
            left = [n for n in left if n not in ready]
        return tuple(done)

    @cached_property
    def horizon(self) -> int:
        """Cycles after which any reasonable schedule is over: everything one after the other."""
        total = 0
        for task in self.tasks:
            total += max(self._alone(mode) for mode in task.modes) + self.reconf_cycles
        for edge in self.edges:
            if edge.port:
                port = self.port(edge.port)
                total += 2 * (port.cycles(edge.bytes) + port.latency)
        return total

    def _alone(self, mode: Mode) -> int:
        loads = sum(
            self.port(x.port).latency + max(length(self, x, mode), mode.cycles) + x.rest
            for x in mode.loads
        )
        return mode.cycles + loads + sum(self.port(x.port).cycles(x.bytes) for x in mode.stores)


def written(instance: Instance, store: Store, mode: Mode) -> tuple[int, int]:
    """Cycles for which a store occupies its port, and how many thousandths of it."""
    fast = instance.port(store.port).cycles(store.bytes)
    span = fast if store.resident else max(fast, mode.cycles - mode.first)
    return span, min(FULL, -(-FULL * fast // span))


def length(instance: Instance, load: Load, mode: Mode) -> int:
    """Cycles for which a load occupies its port: at full speed, or as long as the task that it keeps pace with."""
    port = instance.port(load.port)
    fast = port.cycles(load.bytes)
    if load.resident:
        return fast
    # It begins with what must be ahead, and its last byte comes as late as the task allows.
    return max(fast, mode.cycles - load.rest + port.cycles(load.ahead))


def demand(instance: Instance, load: Load, mode: Mode) -> int:
    """Share of the port that a load takes meanwhile, in thousandths."""
    port = instance.port(load.port)
    return min(FULL, math.ceil(FULL * port.cycles(load.bytes) / length(instance, load, mode)))


def _get(what: str, name: str, known: dict):
    if name not in known:
        raise ScheduleError(f"There is no {what} {name}{nearest(name, known)}")
    return known[name]


def _cycle(instance: Instance, left: Iterable[str]) -> str:
    """Tasks that wait for each other, as ``a -> b -> a``."""
    waiting = set(left)
    path = [next(iter(left))]
    while path.count(path[-1]) == 1:
        path.append(next(e.source for e in instance.edges_to(path[-1]) if e.source in waiting))
    return " -> ".join(reversed(path[path.index(path[-1]) :]))
