# SPDX-License-Identifier: Apache-2.0
"""The best plan in phases that all units share, by dynamic programming over down-sets of the task graph.

An answer of another method to a stricter question: tasks of a phase start together (or as their streams allow),
the next phase starts when all of them are done, nothing is loaded across phases or leaves the chip in between. So the
optimum of :mod:`schedules.optimal.solve` is never longer, and as long where phases are no restriction. Exact, and fast
if the graph has few down-sets: those of layers of a network have tens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from schedules.errors import ScheduleError
from schedules.optimal.instance import Edge, Instance, Load, Mode, length, written
from schedules.optimal.plan import LoadTime, Place, Plan, Run, links_of
from schedules.optimal.rules import gates, held, streams

__all__ = ["in_phases", "one_by_one"]

Homes = tuple[tuple[str, str], ...]
"""Tensors on the chip, and the unit of each."""


@dataclass(frozen=True)
class _Phase:
    """Tasks that run together: their modes and their times from the start of the phase."""

    modes: tuple[tuple[str, Mode], ...]
    runs: tuple[Run, ...]
    loads: tuple[LoadTime, ...]
    stores: tuple[LoadTime, ...]
    cycles: int


def in_phases(instance: Instance, *, together: int | None = None, most: int | None = None) -> Plan:
    """The shortest plan in shared phases of at most ``together`` tasks, by default as many as there are units.

    Raises
    ------
    ScheduleError
        If there is none, as its tensors do not fit on the chip; or if there are more than ``most`` down-sets with
        places of tensors to look at.
    """
    search = _Search(instance, together or len(instance.units), most)
    found = search.best(frozenset(), ())
    if found is None:
        raise ScheduleError(f"{instance.name} has no schedule in phases that fits on the chip")
    _, steps = found
    return search.plan(steps)


def one_by_one(instance: Instance) -> Plan:
    """A plan of one task after the other in the order in which they are given, each in its shortest mode that fits.

    Raises
    ------
    ScheduleError
        If tensors do not fit on the chip that way.
    """
    search = _Search(instance, 1, None)
    done: frozenset[str] = frozenset()
    homes: Homes = ()
    steps = []
    for name in search.given():
        done |= {name}
        free = {u.id: u.spad_bytes for u in instance.units}
        for tensor, unit in homes:
            size = next(e.bytes for e in instance.edges if e.tensor == tensor)
            free[unit] -= instance.unit(unit).rounded(size)
        options = [
            step
            for mode in instance.task(name).modes
            for step in search.phases({name: mode}, done, homes)
        ]
        if not options:
            raise ScheduleError(
                f"{instance.name}: {name} does not fit on the chip after what was before it"
            )
        step = min(
            options, key=lambda s: (s[0].cycles, -max((free[u] for _, u in s[1]), default=0))
        )
        steps.append(step)
        homes = step[1]
    return search.plan(tuple(steps))


_Found = tuple[int, tuple[tuple[_Phase, Homes], ...]]


class _Search:
    def __init__(self, instance: Instance, together: int, most: int | None) -> None:
        self.instance, self._together, self._most = instance, together, most
        self._known: dict[tuple[frozenset[str], Homes], _Found | None] = {}

    def given(self) -> list[str]:
        """Tasks as they are given, each as soon as what it needs is there: what belongs together stays together."""
        left, made = [t.name for t in self.instance.tasks], []
        while left:
            name = next(n for n in left if {e.source for e in self.instance.edges_to(n)} <= {*made})
            left.remove(name)
            made.append(name)
        return made

    def best(self, done: frozenset[str], homes: Homes) -> _Found | None:
        """Cycles of what is left, and how."""
        if len(done) == len(self.instance.tasks):
            return 0, ()
        key = done, homes
        if key not in self._known:
            if self._most is not None and len(self._known) >= self._most:
                raise ScheduleError(f"{self.instance.name} has too many down-sets")
            best: _Found | None = None
            for phase, after in self._steps(done, homes):
                now = done | {name for name, _ in phase.modes}
                rest = self.best(now, after)
                if rest is None:
                    continue
                last = len(now) == len(self.instance.tasks)
                cycles = phase.cycles + (0 if last else self.instance.reconf_cycles)
                if best is None or cycles + rest[0] < best[0]:
                    best = cycles + rest[0], ((phase, after), *rest[1])
            self._known[key] = best
        return self._known[key]

    def _steps(self, done: frozenset[str], homes: Homes) -> Iterator[tuple[_Phase, Homes]]:
        """Every phase that may come next, with the tensors on the chip after it."""
        left = [n for n in self.instance.order if n not in done]
        for count in range(1, self._together + 1):
            for names in combinations(left, count):
                inside = set(names)
                needed = {e.source for n in names for e in self.instance.edges_to(n)}
                if needed - inside - done:
                    continue
                tasks = [self.instance.task(n) for n in names]
                for modes in product(*(t.modes for t in tasks)):
                    units = [u for m in modes for u in m.units]
                    if len(set(units)) < len(units):
                        continue
                    chosen = dict(zip(names, modes, strict=True))
                    yield from self.phases(chosen, done | inside, homes)

    def phases(
        self, modes: dict[str, Mode], done: frozenset[str], homes: Homes
    ) -> Iterator[tuple[_Phase, Homes]]:
        """These tasks together, if they can be, with all places that their results may have."""
        edges = self.instance.edges
        inner = [e for e in edges if e.source in modes and e.to in modes]
        if any(
            "stream" not in e.places or not streams(modes[e.source], modes[e.to]) for e in inner
        ):
            return
        phase = self._play(modes, inner)
        if phase is None:
            return
        # What later tasks read is kept from now on; what nobody reads any more is dropped.
        wanted = {e.tensor for e in edges if e.source in done and e.to not in done}
        for edge in edges:
            if edge.source in modes and edge.to not in done and "onchip" not in edge.places:
                return
        made = sorted({e.tensor: e for e in edges if e.source in modes and e.to not in done})
        sizes = {e.tensor: e.bytes for e in edges}
        for chosen in product([u.id for u in self.instance.units], repeat=len(made)):
            during = (*homes, *zip(made, chosen, strict=True))
            if self._fits(during, sizes, modes):
                yield phase, tuple(h for h in during if h[0] in wanted)

    def _fits(self, homes: Homes, sizes: dict[str, int], modes: dict[str, Mode]) -> bool:
        used = {u.id: 0 for u in self.instance.units}
        for tensor, unit in homes:
            used[unit] += self.instance.unit(unit).rounded(sizes[tensor])
        for mode in modes.values():
            for unit in map(self.instance.unit, mode.units):
                used[unit.id] += sum(unit.part(x.room, mode) for x in (*mode.loads, *mode.stores))
        return all(used[u.id] <= u.spad_bytes for u in self.instance.units)

    def _play(self, modes: dict[str, Mode], streams_: list[Edge]) -> _Phase | None:
        """Times of a phase; a port serves one load or store after the other."""
        instance = self.instance
        free = {p.id: 0 for p in instance.ports}
        start: dict[str, int] = {}
        least: dict[str, int] = {}
        loads = []
        names = [n for n in instance.order if n in modes]
        for name in names:
            mode = modes[name]
            begin = max(
                (start[e.source] + modes[e.source].first for e in streams_ if e.to == name),
                default=0,
            )
            resident = [x for x in enumerate(mode.loads) if x[1].resident]
            paced = [x for x in enumerate(mode.loads) if not x[1].resident]
            times = {}
            for index, load in resident:
                times[index] = free[load.port]
                free[load.port] += length(instance, load, mode)
                begin = max(begin, times[index] + self._lead(load))
            for _, load in paced:
                begin = max(begin, free[load.port] + self._lead(load))
            for index, load in paced:
                times[index] = begin - self._lead(load)
                if times[index] < free[load.port]:
                    return None  # two loads of a task at once through one port
                free[load.port] = times[index] + length(instance, load, mode)
            start[name] = begin
            ends = [
                times[i] + length(instance, x, mode) + instance.port(x.port).latency + x.rest
                for i, x in enumerate(mode.loads)
            ]
            least[name] = max([begin + mode.cycles, *ends])
            loads += [LoadTime(name, index, times[index]) for index in sorted(times)]
        opens = gates(instance, start, dict.fromkeys(streams_, True))
        for edge in streams_:  # the reader holds its producer up ...
            reader = modes[edge.to]
            behind = start[edge.to] + reader.cycles - edge.slack(reader.cycles)
            over = opens[edge.to] + held(instance, edge, modes[edge.source])
            least[edge.source] = max(least[edge.source], behind, over)
        for name in names:  # ... and ends after it
            for edge in streams_:
                if edge.to == name:
                    least[name] = max(least[name], least[edge.source] + modes[name].last)
        whole, stores = max(least.values()), []
        for name in names:
            for index, store in enumerate(modes[name].stores):
                span, _ = written(instance, store, modes[name])
                begin = max(start[name] + modes[name].first, free[store.port], least[name] - span)
                free[store.port] = begin + span
                stores.append(LoadTime(name, index, begin))
                whole = max(whole, begin + span)
        runs = tuple(Run(n, modes[n].name, start[n], least[n]) for n in names)
        return _Phase(tuple(modes.items()), runs, tuple(loads), tuple(stores), whole)

    def _lead(self, load: Load) -> int:
        port = self.instance.port(load.port)
        return port.latency + port.cycles(load.ahead)

    def plan(self, steps: tuple[tuple[_Phase, Homes], ...]) -> Plan:
        """The steps, one after the other."""
        instance, now = self.instance, 0
        runs, loads, stores, homes = [], [], [], {}
        modes: dict[str, Mode] = {}
        phases: dict[str, int] = {}
        end = 0
        for number, (phase, after) in enumerate(steps):
            runs += [Run(r.task, r.mode, r.start + now, r.end + now) for r in phase.runs]
            loads += [LoadTime(x.task, x.index, x.start + now) for x in phase.loads]
            stores += [LoadTime(x.task, x.index, x.start + now) for x in phase.stores]
            homes |= dict(after)
            modes |= dict(phase.modes)
            phases |= {name: number for name, _ in phase.modes}
            end = now + phase.cycles
            now = end + instance.reconf_cycles
        places = []
        for e in instance.edges:
            together = phases[e.source] == phases[e.to]
            home = "" if together else homes[e.tensor]
            places.append(Place(e.tensor, e.to, "stream" if together else "onchip", home))
        known = {(p.tensor, p.to): p for p in places}
        return Plan(
            instance.name, "phases", tuple(runs), tuple(places), tuple(loads), tuple(stores),
            makespan=end, offchip_bytes=sum(m.bytes for m in modes.values()),
            links=len(links_of(instance, modes, known)), bound=0, proven=False,
        )  # fmt: skip
