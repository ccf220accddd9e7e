# SPDX-License-Identifier: Apache-2.0
"""What a solver answers: when every task runs and in which mode, where tensors are, when loads begin."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from schedules.errors import ScheduleError
from schedules.optimal.instance import Instance, Mode
from schedules.problem import nearest

__all__ = ["LoadTime", "Place", "Plan", "Run"]


@dataclass(frozen=True)
class Run:
    """A task in a mode, from cycle ``start`` to ``end``."""

    task: str
    mode: str
    start: int
    end: int


@dataclass(frozen=True)
class Place:
    """Where an edge passes.

    Parameters
    ----------
    tensor, to : the edge.
    place : ``stream``, ``onchip`` or ``offchip``.
    home : of ``onchip``: the unit.
    written, read : of ``offchip``: when the write and the read begin.
    """

    tensor: str
    to: str
    place: str
    home: str = ""
    written: int = 0
    read: int = 0


@dataclass(frozen=True)
class LoadTime:
    """When load, or store, number ``index`` of a task's mode begins."""

    task: str
    index: int
    start: int


@dataclass(frozen=True)
class Plan:
    """A schedule of an :class:`Instance`.

    Parameters
    ----------
    instance : its name.
    policy : how it was found.
    runs, places, loads, stores : the decisions.
    makespan : cycles from the first start to the last end, stores included.
    offchip_bytes : that pass the memory ports: loads, stores, and tensors that leave the chip and return.
    links : connections between units that the circuit needs.
    bound : no schedule is shorter; ``proven``: this one is optimal (makespan, then bytes, then links).
    """

    instance: str
    policy: str
    runs: tuple[Run, ...]
    places: tuple[Place, ...]
    loads: tuple[LoadTime, ...]
    stores: tuple[LoadTime, ...]
    makespan: int
    offchip_bytes: int
    links: int
    bound: int
    proven: bool

    @cached_property
    def _runs(self) -> dict[str, Run]:
        return {r.task: r for r in self.runs}

    @cached_property
    def _places(self) -> dict[tuple[str, str], Place]:
        return {(p.tensor, p.to): p for p in self.places}

    def run(self, task: str) -> Run:
        """The run of a task."""
        if task not in self._runs:
            raise ScheduleError(f"The plan does not run {task}{nearest(task, self._runs)}")
        return self._runs[task]

    def place(self, tensor: str, to: str) -> Place:
        """Where the edge of a tensor to a task passes."""
        if (tensor, to) not in self._places:
            raise ScheduleError(f"The plan does not say where {tensor} passes to {to}")
        return self._places[tensor, to]

    def mode(self, instance: Instance, task: str) -> Mode:
        """The mode that a task runs in."""
        return instance.task(task).mode(self.run(task).mode)


def links_of(
    instance: Instance, modes: dict[str, Mode], places: dict[tuple[str, str], Place]
) -> set[tuple[str, str]]:
    """Pairs of different units between which data pass: the union over all tasks is what the circuit needs."""
    found = set()
    for edge in instance.edges:
        place = places[edge.tensor, edge.to]
        source, sink = modes[edge.source].units, modes[edge.to].units
        if place.place == "stream":
            found |= {(a, b) for a in source for b in sink}
        elif place.place == "onchip":
            found |= {(a, place.home) for a in source} | {(place.home, b) for b in sink}
    return {(a, b) for a, b in found if a != b}
