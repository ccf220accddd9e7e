# SPDX-License-Identifier: Apache-2.0
"""The shortest makespan by trying everything, for graphs of a few tasks and cycles. Only the check knows the rules."""

from collections.abc import Iterator
from itertools import product

from schedules.errors import ScheduleError
from schedules.optimal.check import check_plan
from schedules.optimal.instance import Edge, Instance, Load, Mode, length
from schedules.optimal.plan import LoadTime, Place, Plan, Run, links_of
from schedules.optimal.rules import held


def shortest(instance: Instance, most: int) -> int | None:
    """The least makespan up to ``most``, or None."""
    for makespan in range(1, most + 1):
        if any(_holds(instance, plan) for plan in _plans(instance, makespan)):
            return makespan
    return None


def _holds(instance: Instance, plan: Plan) -> bool:
    try:
        check_plan(instance, plan)
    except ScheduleError:
        return False
    return True


def _plans(instance: Instance, makespan: int) -> Iterator[Plan]:
    for modes in product(*(t.modes for t in instance.tasks)):
        chosen = {t.name: m for t, m in zip(instance.tasks, modes, strict=True)}
        for places in product(*(e.places for e in instance.edges)):
            named = dict(zip(instance.edges, places, strict=True))
            for starts in _starts(instance, chosen, named, makespan):
                yield from _whole(instance, chosen, named, starts, makespan)


def _starts(
    instance: Instance, modes: dict[str, Mode], places: dict[Edge, str], makespan: int
) -> Iterator[dict[str, int]]:
    """Starts of all tasks, of which no unit has two at once."""

    def go(index: int, starts: dict[str, int]) -> Iterator[dict[str, int]]:
        if index == len(instance.order):
            yield dict(starts)
            return
        name = instance.order[index]
        mode, least = modes[name], 0
        for edge in instance.edges_to(name):
            source = modes[edge.source]
            wait = source.first if places[edge] == "stream" else source.cycles
            least = max(least, starts[edge.source] + wait)
        for start in range(least, makespan - mode.cycles + 1):
            end = start + mode.cycles
            if all(
                end + instance.reconf_cycles <= s
                or s + modes[n].cycles + instance.reconf_cycles <= start
                for n, s in starts.items()
                if set(modes[n].units) & set(mode.units)
            ):
                yield from go(index + 1, starts | {name: start})

    yield from go(0, {})


def _whole(
    instance: Instance, modes: dict[str, Mode], places: dict[Edge, str], starts: dict[str, int], makespan: int
) -> Iterator[Plan]:  # fmt: skip
    """Plans with these starts: all homes, all begins of loads, stores and writes, the earliest ends."""
    loads = [(n, i, x) for n, m in modes.items() for i, x in enumerate(m.loads)]
    stores = [(n, i) for n, m in modes.items() for i in range(len(m.stores))]
    kept = sorted({e.tensor for e, p in places.items() if p == "onchip"})
    spilled = sorted({e.tensor for e, p in places.items() if p == "offchip"})

    def begins(name: str, load: Load) -> list[int]:
        port = instance.port(load.port)
        latest = starts[name] - port.latency - port.cycles(load.ahead)
        return list(range(latest + 1)) if load.resident else [latest] if latest >= 0 else []

    anywhere = range(makespan + 1)
    for homes in product([u.id for u in instance.units], repeat=len(kept)):
        at = dict(zip(kept, homes, strict=True))
        for times in product(*(begins(n, x) for n, _, x in loads)):
            for outs in product(anywhere, repeat=len(stores) + len(spilled)):
                written = dict(zip(spilled, outs[len(stores) :], strict=True))
                at_start = dict(zip(((n, i) for n, i, _ in loads), times, strict=True))
                ends = _ends(instance, modes, places, starts, at_start)
                if max(ends.values()) > makespan:
                    continue
                found = []
                for edge, place in places.items():
                    home, write, read = "", 0, 0
                    if place == "onchip":
                        home = at[edge.tensor]
                    if place == "offchip":
                        port = instance.port(edge.port)
                        write = written[edge.tensor]
                        read = starts[edge.to] - port.latency - port.cycles(edge.grain)
                    found.append(Place(edge.tensor, edge.to, place, home, write, read))
                known = {(p.tensor, p.to): p for p in found}
                sizes = {e.tensor: e.bytes for e in instance.edges}
                moved = sum(m.bytes for m in modes.values()) + sum(sizes[t] for t in spilled)
                moved += sum(e.bytes for e, p in places.items() if p == "offchip")
                yield Plan(
                    instance.name, "brute force",
                    tuple(Run(n, modes[n].name, starts[n], ends[n]) for n in starts), tuple(found),
                    tuple(LoadTime(n, i, t) for (n, i), t in at_start.items()),
                    tuple(LoadTime(n, i, t) for (n, i), t in zip(stores, outs, strict=False)),
                    makespan=makespan, offchip_bytes=moved,
                    links=len(links_of(instance, modes, known)), bound=0, proven=False,
                )  # fmt: skip


def _ends(
    instance: Instance, modes: dict[str, Mode], places: dict[Edge, str], starts: dict[str, int],
    loads: dict[tuple[str, int], int],
) -> dict[str, int]:  # fmt: skip
    ends = {n: starts[n] + m.cycles for n, m in modes.items()}
    for (name, index), begin in loads.items():
        load = modes[name].loads[index]
        port = instance.port(load.port)
        over = begin + length(instance, load, modes[name]) + port.latency + load.rest
        ends[name] = max(ends[name], over)
    for edge, place in places.items():
        if place == "offchip":
            port = instance.port(edge.port)
            read = starts[edge.to] - port.latency - port.cycles(edge.grain)
            back = length(instance, Load(edge.port, edge.bytes, edge.grain), modes[edge.to])
            ends[edge.to] = max(ends[edge.to], read + back + port.latency)
    for edge, place in places.items():
        if place == "stream":
            reader = modes[edge.to]
            behind = starts[edge.to] + reader.cycles - edge.slack(reader.cycles)
            over = _gate(instance, places, starts, edge.to) + held(
                instance, edge, modes[edge.source]
            )
            ends[edge.source] = max(ends[edge.source], behind, over)
    for name in instance.order:
        for edge in instance.edges_to(name):
            if places[edge] == "stream":
                ends[name] = max(ends[name], ends[edge.source] + modes[name].last)
    return ends


def _gate(instance: Instance, places: dict[Edge, str], starts: dict[str, int], name: str) -> int:
    """When a task and all that it streams on to have started."""
    after = [e.to for e in instance.edges_from(name) if places[e] == "stream"]
    return max([starts[name], *(_gate(instance, places, starts, n) for n in after)])
