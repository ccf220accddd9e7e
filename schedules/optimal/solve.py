# SPDX-License-Identifier: Apache-2.0
"""The optimal plan, by constraint programming (OR-Tools CP-SAT) with a proven bound.

Lexicographic: the makespan, then bytes that pass the memory ports, then connections between units (the
circuit has only those that some task uses), then early ends, which make a plan readable.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from ortools.sat.python import cp_model

from schedules.errors import ScheduleError
from schedules.optimal.downsets import in_phases, one_by_one
from schedules.optimal.instance import (
    FULL,
    Edge,
    Instance,
    Load,
    Mode,
    Store,
    Task,
    demand,
    length,
    written,
)
from schedules.optimal.plan import LoadTime, Place, Plan, Run
from schedules.optimal.rules import held, streams

__all__ = ["EFFORT", "Effort", "improve", "solve"]


@dataclass(frozen=True)
class Effort:
    """How long to search.

    Parameters
    ----------
    seconds : of CP-SAT's deterministic clock, about those of a fast machine, for the makespan; each other objective has
        a quarter of it.
    seed : of its random choices.
    """

    seconds: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds <= 0:
            raise ScheduleError(f"seconds must be positive, not {self.seconds!r}")


EFFORT = Effort()

MOST_DOWNSETS = 1000
"""That are looked at for a plan to begin with: seconds, if there are a hundred tasks."""


def solve(instance: Instance, effort: Effort = EFFORT, *, policy: str = "optimal") -> Plan:
    """The best plan that is found, and whether it is proven optimal.

    Raises
    ------
    ScheduleError
        If there is no plan, as what the modes load and the tensors do not fit on the chip; or if none is found in time.
    """
    plan, bound = _Model(instance).best(effort, policy)
    if plan is None and bound is None:
        raise ScheduleError(f"{instance.name} has no schedule: {_why(instance)}")
    if plan is None:
        raise ScheduleError(
            f"No schedule of {instance.name} was found within {effort.seconds:g} seconds; allow more"
        )
    return plan


def improve(
    instance: Instance, best: Plan, effort: Effort = EFFORT
) -> tuple[Plan | None, int | None]:
    """A plan of ``instance``, another machine for the same tasks, that is shorter than ``best``.

    None if none was found; then also what is proven: no plan is shorter than that number, or, if that is None too, than
    ``best``.
    """
    return _Model(instance, most=best.makespan - 1).best(effort, best.policy)


def _why(instance: Instance) -> str:
    need = sum({e.tensor: e.bytes for e in instance.edges if "offchip" not in e.places}.values())
    have = sum(u.spad_bytes for u in instance.units)
    return (
        f"its tensors that stay on the chip have {need:,} bytes together, all scratchpads {have:,}, and with what "
        "the modes load they do not fit at the times at which they are needed"
    )


class _Model:
    """The variables of an instance."""

    def __init__(self, instance: Instance, most: int | None = None) -> None:
        self.instance, self.model = instance, cp_model.CpModel()
        top = self.top = instance.horizon if most is None else min(most, instance.horizon)
        model = self.model
        self.start = {t.name: model.new_int_var(0, top, f"S {t.name}") for t in instance.tasks}
        self.end = {t.name: model.new_int_var(0, top, f"E {t.name}") for t in instance.tasks}
        self.gate = {t.name: model.new_int_var(0, top, f"G {t.name}") for t in instance.tasks}
        for name, gate in self.gate.items():
            model.add(gate >= self.start[name])
        self.makespan = model.new_int_var(0, top, "makespan")
        self.in_mode: dict[tuple[str, str], Any] = {}
        self.on_unit: dict[tuple[str, str], Any] = {}
        self.loads: dict[tuple[str, str, int], Any] = {}
        self.stores: dict[tuple[str, str, int], Any] = {}
        self.place: dict[tuple[str, str, str], Any] = {}
        self.home: dict[tuple[str, str], Any] = {}
        self.written: dict[tuple[str, str], Any] = {}
        self.reads: dict[tuple[str, str, str], Any] = {}
        self._busy: dict[str, list] = {u.id: [] for u in instance.units}
        self._ports: dict[str, list[tuple[Any, int]]] = {p.id: [] for p in instance.ports}
        self._rooms: dict[str, list[tuple[Any, int]]] = {u.id: [] for u in instance.units}
        for task in instance.tasks:
            self._task(task)
        for tensor in dict.fromkeys(e.tensor for e in instance.edges):
            self._tensor([e for e in instance.edges if e.tensor == tensor])
        for intervals in self._busy.values():
            model.add_no_overlap(intervals)
        for taken in self._ports.values():
            model.add_cumulative([i for i, _ in taken], [d for _, d in taken], FULL)
        for unit in instance.units:
            taken = self._rooms[unit.id]
            model.add_cumulative([i for i, _ in taken], [d for _, d in taken], unit.spad_bytes)
        self._links()
        self._least()

    # ---- Constraints

    def _task(self, task: Task) -> None:
        model, name = self.model, task.name
        start, end = self.start[name], self.end[name]
        size = model.new_int_var(1, self.top, f"D {name}")
        model.add(size == end - start)
        model.add(self.makespan >= end)
        chosen = []
        for mode in task.modes:
            z = self.in_mode[name, mode.name] = model.new_bool_var(f"{name} in {mode.name}")
            chosen.append(z)
            model.add(size >= mode.cycles).only_enforce_if(z)
            gap = self.instance.reconf_cycles
            for unit in mode.units:
                self._busy[unit].append(
                    model.new_optional_interval_var(
                        start, size + gap, end + gap, z, f"{name} {unit}"
                    )
                )
            for index, load in enumerate(mode.loads):
                self._load(task, mode, index, load, z)
            for index, store in enumerate(mode.stores):
                begin, over = self._write(name, mode, store, z, f"store {index} of {name}")
                self.stores[name, mode.name, index] = begin
                model.add(self.makespan >= over).only_enforce_if(z)
                if store.room:
                    held = model.new_int_var(0, self.top, f"held store {index} of {name}")
                    room = model.new_optional_interval_var(
                        start, held, over, z, f"store {index} of {name}"
                    )
                    self._occupy(room, store.room, mode)
        model.add_exactly_one(chosen)
        for unit in self.instance.units:
            using = [self.in_mode[name, m.name] for m in task.modes if unit.id in m.units]
            x = self.on_unit[name, unit.id] = model.new_bool_var(f"{name} on {unit.id}")
            model.add(x == sum(using))

    def _write(self, name: str, mode: Mode, store: Store, z: Any, label: str) -> tuple[Any, Any]:
        """A write of what a task makes: not before its first piece, not over before the task. Its begin and end."""
        span, share = written(self.instance, store, mode)
        begin = self.model.new_int_var(0, self.top, label)
        interval = self.model.new_optional_interval_var(begin, span, begin + span, z, label)
        self._ports[store.port].append((interval, share))
        self.model.add(begin + span >= self.end[name]).only_enforce_if(z)
        self.model.add(begin >= self.start[name] + mode.first).only_enforce_if(z)
        return begin, begin + span

    def _load(self, task: Task, mode: Mode, index: int, load: Load, z: Any) -> None:
        model, instance = self.model, self.instance
        start, end = self.start[task.name], self.end[task.name]
        port, span = instance.port(load.port), length(instance, load, mode)
        lead = port.latency + port.cycles(load.ahead)
        begin = model.new_int_var(0, self.top, f"load {task.name} {mode.name} {index}")
        self.loads[task.name, mode.name, index] = begin
        if load.resident:
            model.add(begin + lead <= start).only_enforce_if(z)
        else:
            model.add(begin + lead == start).only_enforce_if(z)
        model.add(end >= begin + span + port.latency + load.rest).only_enforce_if(z)
        label = f"load {task.name} {mode.name} {index}"
        interval = model.new_optional_interval_var(begin, span, begin + span, z, label)
        self._ports[load.port].append((interval, demand(instance, load, mode)))
        if load.room:
            held = model.new_int_var(0, self.top, f"held {label}")
            room = model.new_optional_interval_var(begin, held, end, z, f"room {label}")
            self._occupy(room, load.room, mode)

    def _occupy(self, interval: Any, size: int, mode: Mode) -> None:
        for unit in map(self.instance.unit, mode.units):
            self._rooms[unit.id].append((interval, unit.part(size, mode)))

    def _tensor(self, edges: list[Edge]) -> None:
        """Places of a tensor's edges, and its one home and one write."""
        model, instance = self.model, self.instance
        first = edges[0]
        tensor, source = first.tensor, first.source
        for edge in edges:
            options = []
            for place in edge.places:
                y = self.place[tensor, edge.to, place] = model.new_bool_var(f"{edge.label} {place}")
                options.append(y)
                if place == "stream":
                    self._stream(edge, y)
            model.add_exactly_one(options)
        inside = [e for e in edges if "onchip" in e.places]
        if inside:
            homes = [u for u in instance.units if u.rounded(first.bytes) <= u.spad_bytes]
            last = model.new_int_var(0, self.top, f"last of {tensor}")
            held = model.new_int_var(0, self.top, f"held {tensor}")
            for edge in inside:
                y = self.place[tensor, edge.to, "onchip"]
                model.add(self.start[edge.to] >= self.end[source]).only_enforce_if(y)
                model.add(last >= self.end[edge.to]).only_enforce_if(y)
            for unit in homes:
                h = self.home[tensor, unit.id] = model.new_bool_var(f"{tensor} in {unit.id}")
                room = model.new_optional_interval_var(
                    self.start[source], held, last, h, f"{tensor} in {unit.id}"
                )
                self._rooms[unit.id].append((room, unit.rounded(first.bytes)))
            kept = [self.home[tensor, u.id] for u in homes]
            model.add_at_most_one(kept)
            for edge in inside:
                model.add_bool_or(kept).only_enforce_if(self.place[tensor, edge.to, "onchip"])
            for h in kept:
                model.add_bool_or(
                    [self.place[tensor, e.to, "onchip"] for e in inside]
                ).only_enforce_if(h)
        outside = [e for e in edges if "offchip" in e.places]
        if outside:
            self._spill(outside)

    def _spill(self, edges: list[Edge]) -> None:
        model, instance, first = self.model, self.instance, edges[0]
        tensor, source = first.tensor, first.source
        out = model.new_bool_var(f"{tensor} off the chip")
        self.place[tensor, "", "offchip"] = out
        model.add_max_equality(out, [self.place[tensor, e.to, "offchip"] for e in edges])
        port = instance.port(first.port)
        for mode in instance.task(source).modes:
            z = self._both(out, self.in_mode[source, mode.name])
            store = Store(port.id, first.bytes)
            begin, over = self._write(source, mode, store, z, f"write {tensor} {mode.name}")
            self.written[tensor, mode.name] = begin
            for edge in edges:
                for reader in instance.task(edge.to).modes:
                    y = self._both(
                        self.place[tensor, edge.to, "offchip"], self.in_mode[edge.to, reader.name]
                    )
                    if (tensor, edge.to, reader.name) not in self.reads:
                        self._read(edge, reader, y)
                    model.add(self.reads[tensor, edge.to, reader.name] >= over).only_enforce_if(
                        [y, z]
                    )

    def _read(self, edge: Edge, mode: Mode, y: Any) -> None:
        """A spilled tensor comes back at the pace of its reader."""
        model, port = self.model, self.instance.port(edge.port)
        load = Load(port.id, edge.bytes, edge.grain)
        begin = model.new_int_var(0, self.top, f"read {edge.label} {mode.name}")
        self.reads[edge.tensor, edge.to, mode.name] = begin
        span = length(self.instance, load, mode)
        interval = model.new_optional_interval_var(
            begin, span, begin + span, y, f"read {edge.label}"
        )
        self._ports[port.id].append((interval, demand(self.instance, load, mode)))
        lead = port.latency + port.cycles(edge.grain)
        model.add(begin + lead == self.start[edge.to]).only_enforce_if(y)
        model.add(self.end[edge.to] >= begin + span + port.latency).only_enforce_if(y)

    def _stream(self, edge: Edge, y: Any) -> None:
        model, instance = self.model, self.instance
        gate = self.gate[edge.to]
        model.add(self.gate[edge.source] >= gate).only_enforce_if(y)
        for mode in instance.task(edge.source).modes:
            least = gate + held(instance, edge, mode)
            z = self.in_mode[edge.source, mode.name]
            model.add(self.end[edge.source] >= least).only_enforce_if([y, z])
        for mode in instance.task(edge.source).modes:
            z = self.in_mode[edge.source, mode.name]
            model.add(self.start[edge.to] >= self.start[edge.source] + mode.first).only_enforce_if(
                [y, z]
            )
            for reader in instance.task(edge.to).modes:
                if not streams(mode, reader):
                    model.add_bool_or([~y, ~z, ~self.in_mode[edge.to, reader.name]])
        for reader in instance.task(edge.to).modes:
            z = self.in_mode[edge.to, reader.name]
            model.add(self.end[edge.to] >= self.end[edge.source] + reader.last).only_enforce_if(
                [y, z]
            )
            behind = reader.cycles - edge.slack(reader.cycles)
            model.add(self.end[edge.source] >= self.start[edge.to] + behind).only_enforce_if([y, z])

    def _links(self) -> None:
        model, units = self.model, self.instance.units
        self.link = {
            (a.id, b.id): model.new_bool_var(f"{a.id} to {b.id}")
            for a in units
            for b in units
            if a != b
        }
        for edge in self.instance.edges:
            for (a, b), link in self.link.items():
                if "stream" in edge.places:
                    y = self.place[edge.tensor, edge.to, "stream"]
                    model.add_bool_or(
                        [~y, ~self.on_unit[edge.source, a], ~self.on_unit[edge.to, b], link]
                    )
                if "onchip" in edge.places:
                    y = self.place[edge.tensor, edge.to, "onchip"]
                    if (edge.tensor, b) in self.home:
                        h = self.home[edge.tensor, b]
                        model.add_bool_or([~y, ~h, ~self.on_unit[edge.source, a], link])
                    if (edge.tensor, a) in self.home:
                        h = self.home[edge.tensor, a]
                        model.add_bool_or([~y, ~h, ~self.on_unit[edge.to, b], link])

    def _both(self, a: Any, b: Any) -> Any:
        both = self.model.new_bool_var("")
        self.model.add_bool_or([~a, ~b, both])
        self.model.add_implication(both, a)
        self.model.add_implication(both, b)
        return both

    def _least(self) -> None:
        """What no schedule can go below: the work of each unit, and of each port. The rest implies it, but late."""
        model, instance, gap = self.model, self.instance, self.instance.reconf_cycles
        for unit in instance.units:
            work = [
                (mode.cycles + gap) * self.in_mode[task.name, mode.name]
                for task in instance.tasks
                for mode in task.modes
                if unit.id in mode.units
            ]
            model.add(self.makespan + gap >= sum(work))
        for port in instance.ports:
            work = [
                port.cycles(x.bytes) * self.in_mode[task.name, mode.name]
                for task in instance.tasks
                for mode in task.modes
                for x in (*mode.loads, *mode.stores)
                if x.port == port.id
            ]
            model.add(self.makespan >= sum(work))

    def _start_from(self, plan: Plan) -> None:
        """Where the search begins."""
        hints: list[tuple[Any, int]] = [(self.makespan, min(plan.makespan, self.top))]
        for run in plan.runs:
            hints += [(self.start[run.task], run.start), (self.end[run.task], run.end)]
            hints.append((self.gate[run.task], run.start))  # nothing streams
            for mode in self.instance.task(run.task).modes:
                hints.append((self.in_mode[run.task, mode.name], int(mode.name == run.mode)))
            for times, begins in ((plan.loads, self.loads), (plan.stores, self.stores)):
                for begun in times:
                    if begun.task == run.task:
                        hints.append((begins[run.task, run.mode, begun.index], begun.start))
        homes = {p.tensor: p.home for p in plan.places if p.home}
        for (tensor, unit), home in self.home.items():
            hints.append((home, int(homes.get(tensor) == unit)))
        for edge in self.instance.edges:
            for name in edge.places:
                chosen = plan.place(edge.tensor, edge.to).place == name
                hints.append((self.place[edge.tensor, edge.to, name], int(chosen)))
        for variable, value in hints:
            self.model.add_hint(variable, value)

    # ---- Search

    @property
    def _moved(self) -> Any:
        """Bytes that pass a port: what the modes load and store, and tensors that leave the chip and return."""
        total: Any = 0
        for task in self.instance.tasks:
            for mode in task.modes:
                total += mode.bytes * self.in_mode[task.name, mode.name]
        sizes = {e.tensor: e.bytes for e in self.instance.edges}
        for (tensor, _, place), y in self.place.items():
            if place == "offchip":
                total += sizes[tensor] * y
        return total

    def best(self, effort: Effort, policy: str) -> tuple[Plan | None, int | None]:
        """The best plan found and a proven bound; (None, None) if there is none."""
        model, first = self.model, None
        with suppress(ScheduleError):  # no plan of one task after the other may fit on the chip
            try:
                first = in_phases(self.instance, together=1, most=MOST_DOWNSETS)
            except ScheduleError:  # too many, as of many heads side by side
                first = one_by_one(self.instance)
            self._start_from(first)
        goals = [self.makespan, self._moved, sum(self.link.values()), sum(self.end.values())]
        bound, proven, solver, plan = 0, True, cp_model.CpSolver(), None
        solver.parameters.num_workers = 1  # a seed gives one answer
        solver.parameters.random_seed = effort.seed
        solver.parameters.max_deterministic_time = effort.seconds
        for number, goal in enumerate(goals):
            if number:
                solver.parameters.max_deterministic_time = effort.seconds / (
                    4 if number < 3 else 20
                )
            if isinstance(goal, int):  # there is nothing to choose
                continue
            model.minimize(goal)
            status = solver.solve(model)
            if status == cp_model.INFEASIBLE:
                return None, None
            if number == 0:
                bound = round(solver.best_objective_bound)
            if number < 3:  # the last one is for the eye
                proven &= status == cp_model.OPTIMAL
            if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                break
            value = round(solver.objective_value)
            model.add(goal <= value)
            self._hint(solver)
            plan = self._plan(solver, policy, bound, proven)
        if plan is not None:
            return replace(plan, proven=proven), bound
        if first is None or first.makespan > self.top:
            return None, bound
        return replace(first, policy=policy, bound=bound, proven=False), bound

    def _hint(self, solver: cp_model.CpSolver) -> None:
        self.model.clear_hints()
        for index in range(len(self.model.proto.variables)):
            variable = self.model.get_int_var_from_proto_index(index)
            self.model.add_hint(variable, solver.value(variable))

    def _plan(self, solver: cp_model.CpSolver, policy: str, bound: int, proven: bool) -> Plan:
        instance, value = self.instance, solver.value
        runs, loads, stores, places = [], [], [], []
        modes = {}
        for task in instance.tasks:
            mode = next(m for m in task.modes if value(self.in_mode[task.name, m.name]))
            modes[task.name] = mode
            start, end = value(self.start[task.name]), value(self.end[task.name])
            runs.append(Run(task.name, mode.name, start, end))
            for made, begins, count in (
                (loads, self.loads, len(mode.loads)), (stores, self.stores, len(mode.stores))
            ):  # fmt: skip
                for index in range(count):
                    made.append(
                        LoadTime(task.name, index, value(begins[task.name, mode.name, index]))
                    )
        for edge in instance.edges:
            place = next(p for p in edge.places if value(self.place[edge.tensor, edge.to, p]))
            home, written, read = "", 0, 0
            if place == "onchip":
                home = next(
                    u.id for u in instance.units
                    if (edge.tensor, u.id) in self.home and value(self.home[edge.tensor, u.id])
                )  # fmt: skip
            if place == "offchip":
                written = value(self.written[edge.tensor, modes[edge.source].name])
                read = value(self.reads[edge.tensor, edge.to, modes[edge.to].name])
            places.append(Place(edge.tensor, edge.to, place, home, written, read))
        return Plan(
            instance.name, policy, tuple(runs), tuple(places), tuple(loads), tuple(stores),
            makespan=value(self.makespan),
            offchip_bytes=value(self._moved),
            links=sum(value(link) for link in self.link.values()),
            bound=bound, proven=proven,
        )  # fmt: skip
