# SPDX-License-Identifier: Apache-2.0
"""Whether a plan can be played: every rule computed again from the instance, not by the solver's code."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from schedules.errors import ScheduleError
from schedules.optimal.instance import (
    FULL,
    Edge,
    Instance,
    Load,
    Store,
    demand,
    length,
    written,
)
from schedules.optimal.plan import Plan, links_of
from schedules.optimal.rules import gates, held, streams

__all__ = ["check_plan"]

Use = tuple[int, int, int, str]
"""Begin, end, amount, and whose."""


def check_plan(instance: Instance, plan: Plan) -> None:
    """Raise ScheduleError for the first rule that a plan breaks: the rule, the tasks, the numbers."""
    modes = {t.name: plan.mode(instance, t.name) for t in instance.tasks}
    places = {(e.tensor, e.to): plan.place(e.tensor, e.to) for e in instance.edges}
    _waits(instance, plan)
    ports: dict[str, list[Use]] = {p.id: [] for p in instance.ports}
    rooms: dict[str, list[Use]] = {u.id: [] for u in instance.units}
    for task in instance.tasks:
        run, mode = plan.run(task.name), modes[task.name]
        if run.start < 0 or run.end - run.start < mode.cycles:
            raise ScheduleError(
                f"Duration: {task.name} runs from {run.start:,} to {run.end:,}, but mode {mode.name} takes "
                f"{mode.cycles:,} cycles"
            )
        given = {x.index: x.start for x in plan.loads if x.task == task.name}
        for index, load in enumerate(mode.loads):
            if index not in given:
                raise ScheduleError(
                    f"Load: the plan does not say when load {index} of {task.name} begins"
                )
            _load(instance, plan, task.name, load, given[index], ports, rooms)
        given = {x.index: x.start for x in plan.stores if x.task == task.name}
        for index, store in enumerate(mode.stores):
            if index not in given:
                raise ScheduleError(
                    f"Store: the plan does not say when store {index} of {task.name} begins"
                )
            _store(instance, plan, task.name, store, given[index], ports, rooms)
    _units(instance, plan)
    for edge in instance.edges:
        _edge(instance, plan, edge)
    _gates(instance, plan)
    _homes(instance, plan, rooms)
    _spills(instance, plan, ports)
    for port, uses in ports.items():
        _capacity(f"Port {port}", uses, FULL, "thousandths of it")
    for unit, uses in rooms.items():
        _capacity(f"Scratchpad of {unit}", uses, instance.unit(unit).spad_bytes, "bytes")
    end = max(r.end for r in plan.runs)
    if plan.makespan < end:
        raise ScheduleError(
            f"Makespan: the plan says {plan.makespan:,}, its last task ends at {end:,}"
        )
    links = len(links_of(instance, modes, places))
    if plan.links < links:
        raise ScheduleError(f"Links: the plan counts {plan.links}, its edges need {links}")


Moment = tuple[str, str]
"""A task, and ``begin`` or ``end``."""


def _waits(instance: Instance, plan: Plan) -> None:
    """Units play their tasks in the plan's order; whether all come to an end then, whatever their times are."""
    waits: dict[Moment, list[tuple[Moment, str]]] = {
        (run.task, "end"): [((run.task, "begin"), "")] for run in plan.runs
    }
    for run in plan.runs:
        waits[run.task, "begin"] = []
    for unit in instance.units:
        runs = [r for r in plan.runs if unit.id in plan.mode(instance, r.task).units]
        for one, two in pairwise(sorted(runs, key=lambda r: (r.start, r.end))):
            waits[two.task, "begin"].append(((one.task, "end"), f"{unit.id} plays it before"))
    streamed = [
        e for e in instance.edges
        if "stream" in e.places and plan.place(e.tensor, e.to).place == "stream"
    ]  # fmt: skip
    for edge in instance.edges:
        if edge not in streamed:
            waits[edge.to, "begin"].append(((edge.source, "end"), f"{edge.tensor} must be whole"))
            continue
        waits[edge.to, "begin"].append(((edge.source, "begin"), f"{edge.tensor} streams"))
        chain = [edge]  # what its pieces become on their way
        for link in chain:
            if link.bytes <= link.depth * link.grain:
                continue
            pieces = -(-link.bytes // link.grain)
            reason = f"the stream of {link.tensor} holds {link.depth} of {pieces} pieces"
            waits[edge.source, "end"].append(((link.to, "begin"), reason))
            chain += [e for e in streamed if e.source == link.to and e not in chain]
    over: set[Moment] = set()
    for moment in waits:
        _follow(waits, moment, [], over)


def _follow(
    waits: dict[Moment, list[tuple[Moment, str]]],
    moment: Moment,
    path: list[tuple[Moment, str]],
    over: set[Moment],
) -> None:
    """Raise ScheduleError if what a moment waits for waits for it."""
    known = [m for m, _ in path]
    if moment in known:
        cycle = path[known.index(moment) :]
        steps = zip(cycle, [*[m for m, _ in cycle[1:]], moment], strict=True)
        text = [
            f"{_text(one)} waits for {_text(other)}" + (f" ({why})" if why else "")
            for (one, why), other in steps
        ]
        raise ScheduleError(f"Deadlock: {'; '.join(text)}")
    if moment in over:
        return
    for other, why in waits[moment]:
        _follow(waits, other, [*path, (moment, why)], over)
    over.add(moment)


def _text(moment: Moment) -> str:
    task, which = moment
    return f"the {which} of {task}"


def _load(
    instance: Instance, plan: Plan, task: str, load: Load, begin: int,
    ports: dict[str, list[Use]], rooms: dict[str, list[Use]],
) -> None:  # fmt: skip
    run, mode, port = plan.run(task), plan.mode(instance, task), instance.port(load.port)
    arrives = begin + port.latency + port.cycles(load.ahead)
    span = length(instance, load, mode)
    if begin < 0 or arrives > run.start:
        raise ScheduleError(
            f"Load: {task} starts at {run.start:,}, its first bytes come at {arrives:,} through {port.id}"
        )
    if not load.resident and arrives != run.start:
        raise ScheduleError(
            f"Load: {load.bytes:,} bytes of {task} do not fit in {load.room:,}, so they must come with it: at "
            f"{run.start:,}, not {arrives:,}"
        )
    over = begin + span + port.latency + load.rest
    if over > run.end:
        raise ScheduleError(
            f"Load: {task} ends at {run.end:,}, but with its last bytes not before {over:,}"
        )
    ports[port.id].append((begin, begin + span, demand(instance, load, mode), f"load of {task}"))
    if load.room:
        for unit in map(instance.unit, mode.units):
            rooms[unit.id].append((begin, run.end, unit.part(load.room, mode), f"load of {task}"))


def _store(
    instance: Instance, plan: Plan, task: str, store: Store, begin: int,
    ports: dict[str, list[Use]], rooms: dict[str, list[Use]],
) -> None:  # fmt: skip
    run, mode = plan.run(task), plan.mode(instance, task)
    span, share = written(instance, store, mode)
    if begin < run.start + mode.first or begin + span < run.end:
        raise ScheduleError(
            f"Store: {store.bytes:,} bytes of {task} are written from {begin:,} to {begin + span:,}, while it makes "
            f"them from {run.start + mode.first:,} to {run.end:,}"
        )
    if begin + span > plan.makespan:
        raise ScheduleError(
            f"Store: {store.bytes:,} bytes of {task} are written until {begin + span:,}, the plan ends at "
            f"{plan.makespan:,}"
        )
    ports[store.port].append((begin, begin + span, share, f"store of {task}"))
    if store.room:
        for unit in map(instance.unit, mode.units):
            use = run.start, begin + span, unit.part(store.room, mode), f"store of {task}"
            rooms[unit.id].append(use)


def _units(instance: Instance, plan: Plan) -> None:
    for unit in instance.units:
        runs = [r for r in plan.runs if unit.id in plan.mode(instance, r.task).units]
        runs.sort(key=lambda r: r.start)
        for one, two in pairwise(runs):
            if two.start < one.end + instance.reconf_cycles:
                raise ScheduleError(
                    f"Unit {unit.id}: {two.task} starts at {two.start:,}, but {one.task} ends at {one.end:,} and the "
                    f"unit takes {instance.reconf_cycles} cycles to change"
                )


def _edge(instance: Instance, plan: Plan, edge: Edge) -> None:
    place = plan.place(edge.tensor, edge.to)
    source, sink = plan.run(edge.source), plan.run(edge.to)
    made, read = plan.mode(instance, edge.source), plan.mode(instance, edge.to)
    if place.place not in edge.places:
        raise ScheduleError(
            f"Place: {edge.label} may be {', '.join(edge.places)}, not {place.place}"
        )
    if place.place == "onchip" and sink.start < source.end:
        raise ScheduleError(
            f"Precedence: {edge.to} starts at {sink.start:,}, {edge.source} ends at {source.end:,}"
        )
    if place.place == "stream":
        if not streams(made, read):
            raise ScheduleError(
                f"Stream: {edge.label} cannot stream from mode {made.name} to mode {read.name}"
            )
        if sink.start < source.start + made.first:
            raise ScheduleError(
                f"Stream: {edge.to} starts at {sink.start:,}, the first piece of {edge.tensor} comes at "
                f"{source.start + made.first:,}"
            )
        if sink.end < source.end + read.last:
            raise ScheduleError(
                f"Stream: {edge.to} ends at {sink.end:,}, after the last piece of {edge.tensor} it needs until "
                f"{source.end + read.last:,}"
            )
        behind = sink.start + read.cycles - edge.slack(read.cycles)
        if source.end < behind:
            raise ScheduleError(
                f"Stream: {edge.source} ends at {source.end:,}, but {edge.to} takes {edge.tensor} so slowly that it "
                f"is held up until {behind:,}"
            )


def _gates(instance: Instance, plan: Plan) -> None:
    """Who streams to a task that streams on waits for all of them."""
    streamed = {e: plan.place(e.tensor, e.to).place == "stream" for e in instance.edges}
    opens = gates(instance, {r.task: r.start for r in plan.runs}, streamed)
    for edge in instance.edges:
        if not streamed[edge]:
            continue
        mode, run = plan.mode(instance, edge.source), plan.run(edge.source)
        least = opens[edge.to] + held(instance, edge, mode)
        if run.end < least:
            raise ScheduleError(
                f"Stream: {edge.source} ends at {run.end:,}, but what {edge.to} makes of {edge.tensor} is not taken "
                f"before {opens[edge.to]:,}, so it is held up until {least:,}"
            )


def _homes(instance: Instance, plan: Plan, rooms: dict[str, list[Use]]) -> None:
    for tensor in dict.fromkeys(e.tensor for e in instance.edges):
        edges = [e for e in instance.edges if e.tensor == tensor]
        kept = [e for e in edges if plan.place(tensor, e.to).place == "onchip"]
        homes = {plan.place(tensor, e.to).home for e in kept}
        if len(homes) > 1:
            raise ScheduleError(
                f"Home: {tensor} has homes {', '.join(sorted(homes))}, it may have one"
            )
        for home in homes:
            unit = instance.unit(home)
            begin = plan.run(edges[0].source).start
            over = max(plan.run(e.to).end for e in kept)
            rooms[home].append((begin, over, unit.rounded(edges[0].bytes), tensor))


def _spills(instance: Instance, plan: Plan, ports: dict[str, list[Use]]) -> None:
    total = sum(plan.mode(instance, t.name).bytes for t in instance.tasks)
    for tensor in dict.fromkeys(e.tensor for e in instance.edges):
        edges = [
            e for e in instance.edges
            if e.tensor == tensor and plan.place(tensor, e.to).place == "offchip"
        ]  # fmt: skip
        if not edges:
            continue
        first = edges[0]
        port, run = instance.port(first.port), plan.run(first.source)
        mode = plan.mode(instance, first.source)
        begin = plan.place(tensor, first.to).written
        span, share = written(instance, Store(port.id, first.bytes), mode)
        if begin < run.start + mode.first or begin + span < run.end:
            raise ScheduleError(
                f"Write: {tensor} is written from {begin:,} to {begin + span:,}, while {first.source} makes it from "
                f"{run.start + mode.first:,} to {run.end:,}"
            )
        ports[port.id].append((begin, begin + span, share, f"write of {tensor}"))
        total += first.bytes
        for edge in edges:
            sink, reader = plan.run(edge.to), plan.mode(instance, edge.to)
            read, load = plan.place(tensor, edge.to).read, Load(port.id, edge.bytes, edge.grain)
            if read < begin + span:
                raise ScheduleError(
                    f"Read: {edge.label} is read from {read:,}, but written until {begin + span:,}"
                )
            back = length(instance, load, reader)
            lead = port.latency + port.cycles(edge.grain)
            if read + lead != sink.start or read + back + port.latency > sink.end:
                raise ScheduleError(
                    f"Read: {edge.label} is read from {read:,} for {back:,} cycles, which does not fit to {edge.to} "
                    f"from {sink.start:,} to {sink.end:,}"
                )
            ports[port.id].append(
                (read, read + back, demand(instance, load, reader), f"read of {edge.label}")
            )
            total += edge.bytes
    if plan.offchip_bytes != total:
        raise ScheduleError(
            f"Bytes: the plan counts {plan.offchip_bytes:,} off the chip, it moves {total:,}"
        )


def _capacity(what: str, uses: Iterable[Use], most: int, unit: str) -> None:
    uses = list(uses)
    for moment in sorted({begin for begin, *_ in uses}):
        here = [use for use in uses if use[0] <= moment < use[1]]
        total = sum(amount for _, _, amount, _ in here)
        if total > most:
            names = ", ".join(name for *_, name in here)
            raise ScheduleError(
                f"{what}: at cycle {moment:,} {names} take {total:,} of {most:,} {unit}"
            )
