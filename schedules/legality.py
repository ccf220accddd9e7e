# SPDX-License-Identifier: Apache-2.0
"""Whether a schedule can be played: an independent check that recomputes everything from the schedule alone.

It is not the code of any scheduler, and it does not believe what a scheduler says about sizes or lifetimes.
"""

from __future__ import annotations

from itertools import pairwise

from schedules.errors import ScheduleError
from schedules.problem import Task, nearest, unique
from schedules.schedule import Buffer, Core, Edge, Home, Phase, Schedule
from schedules.sizes import size_value

__all__ = ["check"]


def check(schedule: Schedule) -> None:
    """Raise ScheduleError, naming the phase, task, tensor or buffer, unless the schedule is legal.

    Checked: the flow of data (single producers, nothing read before it is made); every task in one phase of its
    section, phases in the order of the sections; units exist, can do their tasks and are exclusive in a phase;
    every edge has exactly one place, and its reader comes late enough for that place; homes are large enough,
    inside their buffers, live from producer to last reader, and no byte has two owners in a phase; rings hold what
    must stay in them and follow the order of use; predictions do not read more than the memory delivers.
    """
    unique("phases", (p.id for p in schedule.phases))
    unique("buffers", (b.name for b in schedule.buffers))
    unique("rings", (r.name for r in schedule.rings))
    _ = schedule.problem  # made and checked
    order = {phase.id: index for index, phase in enumerate(schedule.phases)}
    _phases(schedule)
    edges = _edges(schedule)
    for phase in schedule.phases:
        _units(schedule, phase, edges)
        _pattern(schedule, phase, edges)
    _homes(schedule, order, edges)
    _owners(schedule, order)
    _rings(schedule)
    _predictions(schedule)


def _phases(schedule: Schedule) -> None:
    sections = {s.name: index for index, s in enumerate(schedule.sections)}
    seen: dict[str, str] = {}
    for phase in schedule.phases:
        if phase.section not in sections:
            raise ScheduleError(
                f"Phase {phase.id}: section {phase.section} does not exist{nearest(phase.section, sections)}"
            )
        members = schedule.sections[sections[phase.section]].tasks
        for task in phase.tasks:
            schedule.problem.task(task)
            if task in seen:
                raise ScheduleError(
                    f"Task {task} runs in phases {seen[task]} and {phase.id}; it must run in one"
                )
            if task not in members:
                raise ScheduleError(
                    f"Phase {phase.id} of section {phase.section} runs task {task} of another section"
                )
            seen[task] = phase.id
    for a, b in pairwise(schedule.phases):
        if sections[b.section] < sections[a.section]:
            raise ScheduleError(
                f"Phase {b.id} of section {b.section} comes after phase {a.id} of section {a.section}"
            )
    for task in schedule.tasks:
        if task.name not in seen:
            raise ScheduleError(f"Task {task.name} runs in no phase")


def _needed(schedule: Schedule) -> dict[tuple[str, str, str], None]:
    """Every (tensor, source, reader) that must have an edge; a carry comes from two sources."""
    origins: dict[str, list[str]] = {}
    for task in schedule.tasks:
        for name in task.outputs:
            origins[name] = [task.name]
    for section in schedule.sections:
        for carry in section.carries:
            origins[carry.tensor] = [*origins[carry.first], *origins[carry.following]]
    return {
        (name, source, task.name): None
        for task in schedule.tasks
        for name in task.inputs
        for source in origins.get(name, [])
    }


def _edges(schedule: Schedule) -> dict[tuple[str, str, str], Edge]:
    needed = _needed(schedule)
    found: dict[tuple[str, str, str], Edge] = {}
    for edge in schedule.edges:
        key = (edge.tensor, edge.source, edge.to)
        if key not in needed:
            raise ScheduleError(
                f"Edge {edge.label}: {edge.to} does not read {edge.tensor} from {edge.source}"
            )
        if key in found:
            raise ScheduleError(
                f"Edge {edge.label} has places {found[key].place} and {edge.place}; it must have one"
            )
        found[key] = edge
    for tensor, source, to in needed:
        if (tensor, source, to) not in found:
            raise ScheduleError(f"Edge {tensor} ({source} to {to}) has no place")
    for edge in schedule.edges:
        _precedence(schedule, edge)
        _place(schedule, edge)
    for task in schedule.tasks:
        _in_place(schedule, task)
    return found


def _in_place(schedule: Schedule, task: Task) -> None:
    """What a core multiplies inside a memory lies there."""
    core = _core(schedule, task)
    if core is None or not core.mem:
        return
    if core.mem not in {m.id for m in schedule.template.mem}:
        raise ScheduleError(f"Core {core.id}: memory {core.mem} does not exist")
    for edge in schedule.edges:
        if edge.to == task.name and edge.tensor == task.inputs[1] and edge.mem != core.mem:
            raise ScheduleError(
                f"Edge {edge.label}: core {core.id} multiplies in memory {core.mem}, not in "
                f"{edge.mem or edge.place}"
            )


def _core(schedule: Schedule, task: Task) -> Core | None:
    """The core of a task that needs one, if there is such a core."""
    if not task.on_engine:
        return None
    phase = next((p for p in schedule.phases if task.name in p.tasks), None)
    units = () if phase is None else dict(phase.run)[task.name]
    return next((c for c in schedule.template.cores if c.id in units), None)


def _precedence(schedule: Schedule, edge: Edge) -> None:
    ids = [p.id for p in schedule.phases]
    source, to = (
        ids.index(schedule.phase_of(edge.source).id),
        ids.index(schedule.phase_of(edge.to).id),
    )
    if edge.place == "stream":
        if source != to:
            raise ScheduleError(
                f"Edge {edge.label} is a stream, but {edge.source} is in phase {ids[source]} "
                f"and {edge.to} in phase {ids[to]}"
            )
        tasks = schedule.phases[to].tasks
        if tasks.index(edge.source) >= tasks.index(edge.to):
            raise ScheduleError(
                f"Phase {ids[to]}: {edge.to} comes before {edge.source}, whose stream it takes"
            )
        return
    carried = any(c.tensor == edge.tensor and c.following in schedule.problem.task(edge.source).outputs
                  for s in schedule.sections for c in s.carries)  # fmt: skip
    if carried and source >= to:
        # From one repetition to the next: everything from here to the end of the section, and from its start.
        section = schedule.phases[to].section
        members = [k for k, p in enumerate(schedule.phases) if p.section == section]
        between = [k for k in members if k > source or k <= to]
    else:
        if source >= to:
            raise ScheduleError(
                f"Phase {ids[to]} runs {edge.to}, which reads {edge.tensor} of {edge.source} "
                f"in phase {ids[source]}, not before it"
            )
        between = list(range(source + 1, to + 1))
    if not any(schedule.phases[k].barrier for k in between):
        raise ScheduleError(
            f"Phase {ids[to]} reads {edge.tensor} of phase {ids[source]}, "
            f"but no phase in between waits until it is written"
        )


def _place(schedule: Schedule, edge: Edge) -> None:
    if edge.place == "stream" and edge.depth < 1:
        raise ScheduleError(
            f"Edge {edge.label} is a stream and must hold at least one item, not {edge.depth}"
        )
    if edge.place == "onchip":
        if edge.buffer not in {b.name for b in schedule.buffers}:
            raise ScheduleError(f"Edge {edge.label}: buffer {edge.buffer} does not exist")
        if not any(h.tensor == edge.tensor for h in schedule.buffer(edge.buffer).homes):
            raise ScheduleError(
                f"Edge {edge.label}: {edge.tensor} has no home in buffer {edge.buffer}"
            )
    if edge.place == "offchip" and edge.mem not in {m.id for m in schedule.template.mem}:
        raise ScheduleError(f"Edge {edge.label}: memory {edge.mem} does not exist")


def _units(schedule: Schedule, phase: Phase, edges: dict[tuple[str, str, str], Edge]) -> None:
    cores = {c.id for c in schedule.template.cores}
    sfus = {s.id: s.kinds for s in schedule.template.sfus}
    users: dict[str, list[str]] = {}
    for name, units in phase.run:
        task = schedule.problem.task(name)
        if not units:
            raise ScheduleError(f"Phase {phase.id}: task {name} has no unit")
        for unit in units:
            if unit not in cores and unit not in sfus:
                raise ScheduleError(
                    f"Phase {phase.id}: unit {unit} of task {name} does not exist{nearest(unit, [*cores, *sfus])}"
                )
            if (unit in cores and not task.on_engine) or (
                unit in sfus and task.op not in sfus[unit]
            ):
                raise ScheduleError(
                    f"Phase {phase.id}: unit {unit} cannot do {task.op} (task {name})"
                )
            users.setdefault(unit, []).append(name)
    for unit, names in users.items():
        if len(names) > 1:
            if not phase.interleave or unit not in cores:
                raise ScheduleError(
                    f"Phase {phase.id}: unit {unit} has two tasks, {names[0]} and {names[1]}"
                )
            _interleaved(schedule, phase, names, edges)


def _interleaved(
    schedule: Schedule, phase: Phase, names: list[str], edges: dict[tuple[str, str, str], Edge]
) -> None:
    """Tasks in turns on a core: each stream between them must hold the items that the consumer is behind."""
    streams = [e for e in edges.values() if e.place == "stream" and e.source in phase.tasks]
    for first, then in pairwise(names):
        reached, path = {first}, []
        for edge in streams:  # in the order of the tasks: producers come first
            if edge.source in reached:
                reached.add(edge.to)
                path.append(edge)
        if then not in reached:
            raise ScheduleError(
                f"Phase {phase.id}: {first} and {then} take turns, but no stream leads from one to the other"
            )
        for edge in path:
            if edge.depth < phase.interleave:
                raise ScheduleError(
                    f"Edge {edge.label} holds {edge.depth} items, but phase {phase.id} runs {phase.interleave} ahead"
                )
    if phase.interleave > schedule.template.limits.slots:
        raise ScheduleError(
            f"Phase {phase.id} runs {phase.interleave} items ahead, "
            f"but the template has {schedule.template.limits.slots} slots"
        )


def _pattern(schedule: Schedule, phase: Phase, edges: dict[tuple[str, str, str], Edge]) -> None:
    inside = [
        e
        for e in edges.values()
        if e.source in phase.tasks and e.to in phase.tasks and e.place == "stream"
    ]
    if phase.pattern == "sequential" and len(phase.run) != 1:
        raise ScheduleError(
            f"Phase {phase.id} is sequential and must run one task, not {len(phase.run)}"
        )
    if phase.pattern == "task_parallel" and (len(phase.run) < 2 or inside):
        raise ScheduleError(
            f"Phase {phase.id} is task_parallel and must run two or more tasks without streams between them"
        )
    if phase.pattern == "pipeline":
        for name in phase.tasks[1:]:
            if not any(e.to == name for e in inside):
                raise ScheduleError(
                    f"Phase {phase.id} is a pipeline, but {name} takes no stream of its tasks"
                )
        if len(phase.run) < 2:
            raise ScheduleError(f"Phase {phase.id} is a pipeline and must run two or more tasks")


def _homes(
    schedule: Schedule, order: dict[str, int], edges: dict[tuple[str, str, str], Edge]
) -> None:
    limits = schedule.template.limits
    most, past = limits.chunk, max(0, limits.context - limits.chunk)
    where: dict[str, tuple[Buffer, Home]] = {}
    for buffer in schedule.buffers:
        for home in buffer.homes:
            if home.tensor in where:
                raise ScheduleError(
                    f"Tensor {home.tensor} has homes in buffers {where[home.tensor][0].name} and {buffer.name}"
                )
            where[home.tensor] = (buffer, home)
            tensor = schedule.problem.tensor(home.tensor)
            for phase in home.live:
                if phase not in order:
                    raise ScheduleError(
                        f"Home of {home.tensor}: phase {phase} does not exist{nearest(phase, order)}"
                    )
            if order[home.live[0]] > order[home.live[1]]:
                raise ScheduleError(
                    f"Home of {home.tensor}: phase {home.live[0]} does not come before {home.live[1]}"
                )
            if home.end > buffer.bytes:
                raise ScheduleError(
                    f"Home of {home.tensor} ends at byte {home.end}, but buffer {buffer.name} has {buffer.bytes} bytes"
                )
            if home.offset % (buffer.banks * buffer.word_bytes):
                raise ScheduleError(
                    f"Home of {home.tensor} must start at a word of buffer {buffer.name}, not at byte {home.offset}"
                )
            if (size := tensor.bytes(most, past)) > home.bytes:
                raise ScheduleError(
                    f"Home of {home.tensor} has {home.bytes} bytes, but {most} tokens take {size}"
                )
    _lifetimes(schedule, order, edges, where)
    for section in schedule.sections:
        for carry in section.carries:
            names = (carry.tensor, carry.first, carry.following)
            spots = {(where[n][0].name, where[n][1].offset) for n in names if n in where}
            if len(spots) > 1 or any(n in where for n in names) != all(n in where for n in names):
                raise ScheduleError(
                    f"Tensors {carry.tensor}, {carry.first} and {carry.following} are one carry and must have one home"
                )


def _lifetimes(
    schedule: Schedule,
    order: dict[str, int],
    edges: dict[tuple[str, str, str], Edge],
    where: dict[str, tuple[Buffer, Home]],
) -> None:
    """Live from the phase that makes a tensor to the last one that reads it; through a section that repeats."""
    repeated = {s.name for s in schedule.sections if s.repeat > 1}
    ends = {p.section: p for p in schedule.phases}  # the last of each
    starts = {p.section: p for p in reversed(schedule.phases)}
    carries = {c.tensor: (s, c) for s in schedule.sections for c in s.carries}
    made = {name: schedule.phase_of(t.name) for t in schedule.tasks for name in t.outputs}
    for edge in edges.values():
        if edge.place != "onchip":
            continue
        _, home = where[edge.tensor]
        first, last = order[home.live[0]], order[home.live[1]]
        reader = schedule.phase_of(edge.to)
        if edge.tensor in carries:
            writer = starts[carries[edge.tensor][0].name]
        else:
            writer = made[edge.tensor]
            if reader.section in repeated and writer.section != reader.section:
                reader = ends[reader.section]
        if not first <= order[writer.id]:
            raise ScheduleError(
                f"Home of {edge.tensor} begins with phase {home.live[0]}, but it is there from phase {writer.id}"
            )
        if not order[reader.id] <= last:
            raise ScheduleError(
                f"Home of {edge.tensor} ends with phase {home.live[1]}, but phase {reader.id} needs it"
            )


def _owners(schedule: Schedule, order: dict[str, int]) -> None:
    """No byte of a buffer has two owners in a phase, unless one replaces the other element by element."""
    for buffer in schedule.buffers:
        for phase in schedule.phases:
            at = order[phase.id]
            live = [h for h in buffer.homes if order[h.live[0]] <= at <= order[h.live[1]]]
            live.sort(key=lambda h: h.offset)
            for index, a in enumerate(live):
                for b in live[index + 1 :]:
                    if (
                        b.offset < a.end
                        and not _replaces(schedule, phase, a, b)
                        and not _replaces(schedule, phase, b, a)
                    ):
                        raise ScheduleError(
                            f"Phase {phase.id}: byte {b.offset} of buffer {buffer.name} "
                            f"belongs to {a.tensor} and to {b.tensor}"
                        )


def _replaces(schedule: Schedule, phase: Phase, new: Home, old: Home) -> bool:
    """Whether ``new`` legally overwrites ``old`` in this phase."""
    if new.replaces != old.tensor or (new.offset, new.bytes) != (old.offset, old.bytes):
        return False
    maker = schedule.problem.producer(new.tensor)
    others = [
        t
        for t in phase.tasks
        if old.tensor in schedule.problem.task(t).inputs and maker and t != maker.name
    ]
    return (
        maker is not None
        and maker.op == "add"
        and maker.inputs[0] == old.tensor
        and maker.name in phase.tasks
        and not others
        and old.live[1] == phase.id
        and new.live[0] == phase.id
    )


def _rings(schedule: Schedule) -> None:
    mems = {m.id for m in schedule.template.mem}
    used: dict[str, int] = {}
    for task in (schedule.problem.task(n) for p in schedule.phases for n in p.tasks):
        core = _core(schedule, task)
        for name in task.inputs:
            if core is not None and core.mem and name == task.inputs[1]:
                continue  # multiplied where it lies
            if schedule.problem.tensor(name).kind in ("weight", "input", "cache"):
                used.setdefault(name, len(used))
    holder: dict[str, str] = {}
    for ring in schedule.rings:
        if ring.mem not in mems:
            raise ScheduleError(
                f"Ring {ring.name}: memory {ring.mem} does not exist{nearest(ring.mem, mems)}"
            )
        for name in ring.tensors:
            schedule.problem.tensor(name)
            if name in holder:
                raise ScheduleError(f"Tensor {name} is in rings {holder[name]} and {ring.name}")
            if name not in used:
                raise ScheduleError(
                    f"Ring {ring.name} reads {name}, which no task reads from memory"
                )
            holder[name] = ring.name
        for a, b in pairwise(ring.tensors):
            if used[a] > used[b]:
                raise ScheduleError(f"Ring {ring.name} reads {a} before {b}, but {b} is used first")
    for name in used:
        if name not in holder:
            raise ScheduleError(f"Tensor {name} is read from memory, but no ring reads it")
    for task in schedule.tasks:
        if task.on_engine:
            _stationary(schedule, task, holder)


def _stationary(schedule: Schedule, task: Task, holder: dict[str, str]) -> None:
    """What all groups of tokens use stays in the ring: a tile of weights, or a head's keys or values."""
    limits = schedule.template.limits
    past = max(0, limits.context - limits.chunk)
    units = schedule.phase_of(task.name).run
    core = next(c for c in schedule.template.cores if c.id in dict(units)[task.name])
    if core.mem:
        return
    ring = next(r for r in schedule.rings if r.name == holder[task.inputs[1]])
    _, reduce, outputs = core.shape
    k = -(-size_value(task.k, limits.chunk, past) // reduce) * reduce
    n = -(-size_value(task.n, limits.chunk, past) // outputs) * outputs
    need = k * outputs if task.op == "matmul" else k * n
    if ring.bytes < need:
        raise ScheduleError(
            f"Ring {ring.name} has {ring.bytes} bytes, but task {task.name} keeps {need} bytes in it"
        )


def _predictions(schedule: Schedule) -> None:
    read = {r.mem for r in schedule.rings}
    rate = sum(m.ports * m.bytes_per_cycle for m in schedule.template.mem if m.id in read)
    ahead = sum(r.bytes for r in schedule.rings)
    ids = [p.id for p in schedule.phases]
    for p in schedule.predicted:
        label = f"Prediction of {p.tokens} tokens after {p.past}"
        if (
            not 1 <= p.tokens <= schedule.template.limits.chunk
            or not 0 <= p.past <= schedule.template.limits.context - p.tokens
        ):
            raise ScheduleError(f"{label}: such a pass does not fit in chunk and context")
        times = {t.phase: t for t in p.phases}
        for name in times:
            if name not in ids:
                raise ScheduleError(f"{label}: phase {name} does not exist{nearest(name, ids)}")
        played = [times[name] for name in ids if name in times]
        for a, b in pairwise(played):
            if b.start < a.end:
                raise ScheduleError(
                    f"{label}: phase {b.phase} starts at {b.start}, before phase {a.phase} ends at {a.end}"
                )
        bytes_read = 0
        for time in played:
            section = schedule.phase(time.phase).section
            repeat = next(s.repeat for s in schedule.sections if s.name == section)
            if time.cycles < time.end - time.start or time.end < time.start:
                raise ScheduleError(
                    f"{label}: phase {time.phase} takes {time.cycles} cycles from {time.start} to {time.end}"
                )
            bytes_read += -(-time.bytes // repeat)
            if bytes_read > rate * time.end + ahead:
                raise ScheduleError(
                    f"{label}: {bytes_read} bytes are used by the end of phase {time.phase} at {time.end}, "
                    f"more than the memory ports deliver"
                )
        if sum(t.cycles for t in played) > p.total:
            raise ScheduleError(
                f"{label}: phases take {sum(t.cycles for t in played)} cycles, more than the total {p.total}"
            )
        if sum(t.bytes for t in played) > rate * p.total + ahead:
            raise ScheduleError(
                f"{label}: more bytes than the memory ports deliver in {p.total} cycles"
            )
