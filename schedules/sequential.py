# SPDX-License-Identifier: Apache-2.0
"""The scheduler of one core: phases one after the other, each with the whole engine.

Its rules: the engine never shares a phase, except that attention is a pipeline of scores, softmax and context
whose items take turns, on PIM channels if the machine has them; an activation, residual addition or argmax streams
behind the product that feeds it; what writes a cache goes first, so that its writes land behind the compute of what
follows; a phase waits only if it reads what nobody has waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

from schedules.cycles import Pass, predict
from schedules.errors import ScheduleError
from schedules.machine import Machine
from schedules.pim import BURST
from schedules.problem import Problem, Section, Task
from schedules.schedule import (
    Buffer,
    Core,
    Edge,
    Home,
    Limits,
    Memory,
    Phase,
    Ring,
    Schedule,
    Sfu,
    Template,
)

__all__ = ["sequential"]

CORE, MEMORY = "c0", "m0"
PIM, CHANNELS = "p0", "m1"
"""The core that keys and values are multiplied by where they lie, and the memory of which it is a part."""
STREAMED = ("activation", "add", "argmax", "rotary")
ATTENTION = ("scores", "softmax", "context")
UNITS = {
    "embedding": "embed", "layernorm": "norm", "rmsnorm": "norm", "softmax": "softmax",
    "activation": "activation", "rotary": "rotary", "add": "residual_add", "argmax": "argmax",
}  # fmt: skip
"""The special unit of each operation."""
RECONFIGURATION = 1
"""Cycles from the end of what a phase waits for to its start: the next entry of the program is prefetched."""


@dataclass(frozen=True)
class _Group:
    """Tasks that become a phase."""

    name: str
    tasks: tuple[Task, ...]

    @property
    def made(self) -> set[str]:
        return {o for t in self.tasks for o in t.outputs}

    @property
    def needs(self) -> set[str]:
        return {i for t in self.tasks for i in t.inputs} - self.made


def sequential(
    problem: Problem, machine: Machine, *, clock_mhz: float, passes: Sequence[Pass] = ()
) -> Schedule:
    """Schedule a problem on one core.

    Parameters
    ----------
    problem : what to do.
    machine : the core and its memory.
    clock_mhz : assumed clock.
    passes : what to predict.

    Raises
    ------
    ScheduleError
        If the problem needs what the core cannot do.
    """
    ordered = {s.name: _order(problem, s) for s in problem.sections}
    phases = _phases(problem, machine, ordered)
    schedule = Schedule(
        name=problem.name,
        clock_mhz=clock_mhz,
        template=_template(problem, machine),
        tensors=problem.tensors,
        tasks=problem.tasks,
        sections=problem.sections,
        phases=phases,
        edges=_edges(problem, machine, phases),
        buffers=_buffers(problem, machine, phases),
        rings=_rings(problem, machine, phases),
    )
    schedule.verify()
    if passes:
        schedule = replace(schedule, predicted=tuple(predict(schedule, machine, p) for p in passes))
        schedule.verify()
    return schedule


def _template(problem: Problem, machine: Machine) -> Template:
    units: dict[str, list[str]] = {}
    needed = {task.op for task in problem.tasks}
    for op, unit in ((op, unit) for op, unit in UNITS.items() if op in needed):
        units.setdefault(unit, []).append(op)
    shape = (machine.tokens, machine.span * machine.lanes, machine.lanes)
    cores = [Core(CORE, machine.array, machine.pe, shape)]
    memories = [Memory(MEMORY, machine.ports, machine.port_rate, machine.memory_latency)]
    if (pim := machine.pim) is not None:
        shape = (1, pim.step_lanes, pim.banks * pim.channels)
        cores.append(Core(PIM, "pim", "mac", shape, acc_sets=1, mem=CHANNELS))
        memories.append(Memory(CHANNELS, pim.channels, Fraction(BURST, pim.burst), pim.rl))
    return Template(
        cores=tuple(cores),
        sfus=tuple(Sfu(unit, tuple(ops), machine.lanes) for unit, ops in units.items()),
        mem=tuple(memories),
        limits=Limits(machine.chunk, machine.context, machine.slots, RECONFIGURATION),
    )


def _groups(problem: Problem, section: Section) -> list[_Group]:
    """Tasks that share a phase, in the order of the section."""
    taken: set[str] = set()
    groups = []
    for name in section.tasks:
        if name in taken:
            continue
        tasks = [problem.task(name)]
        while follower := _follower(problem, section, tasks[-1]):
            tasks.append(follower)
        taken.update(t.name for t in tasks)
        groups.append(_Group("attention" if tasks[0].op == ATTENTION[0] else name, tuple(tasks)))
    return groups


def _follower(problem: Problem, section: Section, task: Task) -> Task | None:
    """The task that takes a task's result as a stream."""
    readers = problem.consumers(task.outputs[0])
    if len(readers) != 1 or readers[0].name not in section.tasks:
        return None
    reader = readers[0]
    behind = task.op == "matmul" and reader.op in STREAMED
    inside = (task.op, reader.op) in list(pairwise(ATTENTION))
    return reader if behind or inside else None


def _order(problem: Problem, section: Section) -> list[_Group]:
    """Groups in an order that respects precedence, those that write a cache as soon as they can."""
    waiting = _groups(problem, section)
    inside = {o for g in waiting for o in g.made}
    done: set[str] = set()
    ordered: list[_Group] = []
    while waiting:
        ready = [g for g in waiting if g.needs & inside <= done]
        if not ready:
            raise ScheduleError(
                f"Section {section.name}: {waiting[0].name} waits for what comes after it"
            )
        chosen = next(
            (g for g in ready if any(problem.tensor(o).kind == "cache" for o in g.made)), ready[0]
        )
        waiting.remove(chosen)
        ordered.append(chosen)
        done |= chosen.made
    return ordered


def _phases(
    problem: Problem, machine: Machine, ordered: dict[str, list[_Group]]
) -> tuple[Phase, ...]:
    phases: list[Phase] = []
    for section in problem.sections:
        unwritten: set[str] = set()  # made since somebody waited
        for index, group in enumerate(ordered[section.name]):
            barrier = index == 0 or bool(group.needs & unwritten)
            unwritten = (set() if barrier else unwritten) | group.made
            engine = [t for t in group.tasks if t.on_engine]
            phases.append(
                Phase(
                    id=group.name,
                    section=section.name,
                    pattern="pipeline" if len(group.tasks) > 1 else "sequential",
                    run=tuple((t.name, (_unit(t, machine),)) for t in group.tasks),
                    barrier=barrier,
                    interleave=machine.slots if len(engine) > 1 else 0,
                )
            )
    return tuple(phases)


def _unit(task: Task, machine: Machine) -> str:
    if not task.on_engine:
        return UNITS[task.op]
    return PIM if machine.pim is not None and task.op in ATTENTION else CORE


def _phase_of(phases: Sequence[Phase], task: str) -> int:
    return next(k for k, p in enumerate(phases) if task in p.tasks)


def _sources(problem: Problem, tensor: str) -> list[str]:
    """Tasks that make what is read under this name; two for a carry, none for weights and inputs."""
    for section in problem.sections:
        for carry in section.carries:
            if carry.tensor == tensor:
                return [*_sources(problem, carry.first), *_sources(problem, carry.following)]
    producer = problem.producer(tensor)
    return [producer.name] if producer else []


def _buffer(problem: Problem, tensor: str) -> str:
    """Wide tensors are the residual stream, narrow ones operands of the engine."""
    return "residual" if problem.tensor(tensor).dtype == "i16" else "activations"


def _edges(problem: Problem, machine: Machine, phases: Sequence[Phase]) -> tuple[Edge, ...]:
    edges = []
    for phase in phases:
        for name in phase.tasks:
            for tensor in problem.task(name).inputs:
                for source in _sources(problem, tensor):
                    if problem.tensor(tensor).kind == "cache":
                        mem = MEMORY if machine.pim is None else CHANNELS
                        edges.append(Edge(tensor, source, name, "offchip", mem=mem))
                    elif source in phase.tasks and problem.tensor(tensor).kind != "carry":
                        depth = phase.interleave or 1
                        edges.append(Edge(tensor, source, name, "stream", depth=depth))
                    else:
                        edges.append(Edge(tensor, source, name, "onchip", _buffer(problem, tensor)))
    return tuple(edges)


def _live(problem: Problem, phases: Sequence[Phase]) -> dict[str, tuple[int, int]]:
    """First and last phase of every tensor that lives in a buffer, in the order in which they appear."""
    ends = {p.section: k for k, p in enumerate(phases)}
    starts = {p.section: k for k, p in reversed(list(enumerate(phases)))}
    repeats = {s.name for s in problem.sections if s.repeat > 1}
    live: dict[str, tuple[int, int]] = {}

    def extend(tensor: str, first: int, last: int) -> None:
        old = live.get(tensor, (first, last))
        live[tensor] = (min(old[0], first), max(old[1], last))

    for index, phase in enumerate(phases):
        carries = {
            c.tensor: c for s in problem.sections if s.name == phase.section for c in s.carries
        }
        for carry in carries.values():
            if index == starts[phase.section]:
                extend(carry.tensor, index, index)
        for name in phase.tasks:
            for tensor in problem.task(name).inputs:
                if problem.tensor(tensor).kind not in ("activation", "carry"):
                    continue
                if tensor in carries:
                    extend(tensor, starts[phase.section], index)
                    continue
                first = _phase_of(phases, _sources(problem, tensor)[0])
                if first == index:
                    continue  # a stream
                through = phase.section in repeats and phases[first].section != phase.section
                extend(tensor, first, ends[phase.section] if through else index)
        for carry in carries.values():
            for tensor in (carry.first, carry.following):
                made = _phase_of(phases, _sources(problem, tensor)[0])
                extend(tensor, made, made)
    return dict(sorted(live.items(), key=lambda item: item[1][0]))


def _buffers(problem: Problem, machine: Machine, phases: Sequence[Phase]) -> tuple[Buffer, ...]:
    live = _live(problem, phases)
    past = max(0, machine.context - machine.chunk)
    homes: dict[str, list[tuple[Home, str]]] = {"activations": [], "residual": []}
    for tensor, (first, last) in live.items():
        placed = homes[_buffer(problem, tensor)]
        size = problem.tensor(tensor).bytes(machine.chunk, past)
        span = (phases[first].id, phases[last].id)
        spot, replaces, writer = _spot(problem, live, placed, tensor, size)
        placed.append((Home(tensor, spot, size, span, replaces), writer))
    shapes = {"activations": (machine.tokens, machine.lanes), "residual": (1, 2 * machine.lanes)}
    return tuple(
        Buffer(name, max(h.end for h, _ in placed), *shapes[name], tuple(h for h, _ in placed))
        for name, placed in homes.items()
        if placed
    )


def _spot(
    problem: Problem,
    live: dict[str, tuple[int, int]],
    placed: list[tuple[Home, str]],
    tensor: str,
    size: int,
) -> tuple[int, str, str]:
    """Offset, what it replaces, and its writer: the lowest bytes that are free while it lives.

    A byte has one writer over all phases (the engine, or a special unit), so that the write port needs no more
    addresses than there are tensors.
    """
    sources = _sources(problem, tensor)
    maker = problem.task(sources[-1])
    writer = (
        "residual"
        if _buffer(problem, tensor) == "residual"
        else maker.op
        if maker.op in ("layernorm", "rmsnorm")
        else CORE
    )
    for section in problem.sections:
        for carry in section.carries:
            same = {carry.tensor, carry.first, carry.following}
            for home, by in placed:
                if tensor in same and home.tensor in same and tensor != carry.following:
                    return home.offset, "", by
    if maker.op == "add" and problem.tensor(tensor).kind != "carry":
        old = maker.inputs[0]
        for home, by in placed:
            if home.tensor == old and live[old][1] == live[tensor][0]:
                return home.offset, old, by
    first, last = live[tensor]
    offset = 0
    for home, by in sorted(placed, key=lambda item: item[0].offset):
        together = live[home.tensor][0] <= last and first <= live[home.tensor][1]
        if (together or by != writer) and home.offset < offset + size and home.end > offset:
            offset = home.end
    return offset, "", writer


def _rings(problem: Problem, machine: Machine, phases: Sequence[Phase]) -> tuple[Ring, ...]:
    """Who reads what from memory, in the order of use."""
    used: dict[str, dict[str, None]] = {"e": {}, "w": {}, "k": {}, "v": {}}
    for phase in phases:
        for name in phase.tasks:
            task = problem.task(name)
            for tensor in task.inputs:
                kind = problem.tensor(tensor).kind
                if kind == "cache" and machine.pim is not None:
                    continue
                if kind == "cache":
                    used["k" if task.op == "scores" else "v"][tensor] = None
                elif kind in ("weight", "input"):
                    used["e" if task.op == "embedding" else "w"][tensor] = None
    return tuple(
        Ring(name, MEMORY, machine.ring_bytes(name), tuple(tensors))
        for name, tensors in used.items()
        if tensors
    )
