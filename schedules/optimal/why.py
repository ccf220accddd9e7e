# SPDX-License-Identifier: Apache-2.0
"""What binds a plan: why every task does not start earlier, and why it does not take less time."""

from __future__ import annotations

from collections.abc import Iterator

from schedules.optimal.instance import Edge, Instance, Load, length
from schedules.optimal.plan import Plan

__all__ = ["binds", "waits"]


def waits(instance: Instance, plan: Plan, task: str) -> str:
    """Why a task does not start earlier: a unit, a dependency, a port; else room on the chip, or nothing."""
    run, mode = plan.run(task), plan.mode(instance, task)
    reasons = [_arrival(instance, plan, e) for e in instance.edges_to(task)]
    for other in plan.runs:
        shared = set(plan.mode(instance, other.task).units) & set(mode.units)
        if shared and other.task != task and other.start < run.start:
            when = other.end + instance.reconf_cycles
            reasons.append((when, f"unit: {', '.join(sorted(shared))} after {other.task}"))
    for begun in (x for x in plan.loads if x.task == task):
        load = mode.loads[begun.index]
        port = instance.port(load.port)
        lead = port.latency + port.cycles(load.ahead)
        before = [
            end for begin, end in _busy(instance, plan, load.port, task) if end <= begun.start
        ]
        reasons.append((max(before, default=0) + lead, f"port: {load.port}"))
    found = [why for when, why in reasons if when == run.start]
    return found[0] if found else "start" if run.start == 0 else "room, or an equal choice"


def binds(instance: Instance, plan: Plan, task: str) -> str:
    """What the time of a task is made of: its lanes, a port, or the task that its stream comes from or goes to."""
    run, mode = plan.run(task), plan.mode(instance, task)
    if run.end - run.start == mode.cycles:
        return "lanes"
    for begun in (x for x in plan.loads if x.task == task):
        load = mode.loads[begun.index]
        port = instance.port(load.port)
        over = begun.start + length(instance, load, mode) + port.latency + load.rest
        if over == run.end:
            return f"port: {load.port}"
    for edge in instance.edges_to(task):
        place = plan.place(edge.tensor, task).place
        if place == "stream" and plan.run(edge.source).end + mode.last == run.end:
            return f"stream: from {edge.source}"
        if place == "offchip":
            port = instance.port(edge.port)
            read = Load(edge.port, edge.bytes, edge.grain)
            back = plan.place(edge.tensor, task).read + length(instance, read, mode) + port.latency
            if back == run.end:
                return f"port: {edge.port}"
    for edge in instance.edges_from(task):
        if plan.place(edge.tensor, edge.to).place == "stream":
            return f"stream: to {edge.to}"
    return "an equal choice"


def _arrival(instance: Instance, plan: Plan, edge: Edge) -> tuple[int, str]:
    source, mode = plan.run(edge.source), plan.mode(instance, edge.source)
    place = plan.place(edge.tensor, edge.to)
    if place.place == "stream":
        return source.start + mode.first, f"stream: first of {edge.tensor}"
    if place.place == "onchip":
        return source.end, f"dependency: {edge.tensor}"
    port = instance.port(edge.port)
    return place.read + port.latency + port.cycles(edge.grain), f"port: {edge.tensor} comes back"


def _busy(instance: Instance, plan: Plan, port: str, but: str) -> Iterator[tuple[int, int]]:
    """Begin and end of the other loads of a port."""
    for begun in plan.loads:
        mode = plan.mode(instance, begun.task)
        load = mode.loads[begun.index]
        if load.port == port and begun.task != but:
            yield begun.start, begun.start + length(instance, load, mode)
