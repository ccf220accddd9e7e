# SPDX-License-Identifier: Apache-2.0
"""Plans of a GPT-2 layer on a grid of cores: the best one, the sequential one, the authors' own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from designs import catalogue
from designs.cards import ModelCard
from designs.errors import DesignError
from generators.kernel import asked
from generators.layer_by_hand import hand_intar
from generators.layer_grid import COLUMNS, layer_instance
from schedules.errors import ScheduleError
from schedules.optimal.instance import Instance, Mode
from schedules.optimal.plan import Plan
from schedules.optimal.solve import EFFORT, Effort, improve, solve

__all__ = ["POLICIES", "schedule_layers"]

POLICIES = ("optimal", "sequential", "hand-intar")
"""``sequential``: both columns work on every product. ``hand-intar``: the authors' schedule, with their cadences."""


def schedule_layers(
    card: ModelCard, tokens: int, policy: str = "optimal", effort: Effort = EFFORT, layers: int = 1
) -> tuple[Instance, Plan]:
    """The best plan of a policy for some layers, one after the other.

    Raises
    ------
    DesignError
        For an unknown policy, more than one layer by hand, or as :func:`layer_instance` and :func:`hand_intar`.
    """
    if policy not in POLICIES:
        raise DesignError(catalogue.unknown("policy", policy, list(POLICIES)))
    if policy == "hand-intar":
        if layers != 1:
            raise DesignError(f"hand-intar plays one layer, not {layers}")
        return hand_intar(card, tokens)
    instance = layer_instance(card, tokens, layers=layers)
    together = _only(instance, lambda mode: len(mode.units) != 1 or mode.units[0] not in COLUMNS)
    with asked():
        if policy == "sequential":
            return instance, solve(together, effort, policy=policy)
        # A good plan of fewer modes comes soon, and cuts the search among all of them short.
        best: Plan | None = None
        for few in (together, _only(instance, lambda mode: mode.makes != "columns")):
            with suppress(ScheduleError):
                found = solve(few, effort, policy=policy)
                best = found if best is None or found.makespan < best.makespan else best
        if best is None:
            return instance, solve(instance, effort, policy=policy)
        better, bound = improve(instance, best, effort)
        if better is None:
            proven = bound is None
            better = replace(best, bound=best.makespan if proven else bound or 0, proven=proven)
        return instance, better


def _only(instance: Instance, wanted: Callable[[Mode], bool]) -> Instance:
    """The same tasks with some of their modes."""
    tasks = [replace(t, modes=tuple(filter(wanted, t.modes))) for t in instance.tasks]
    return replace(instance, tasks=tuple(tasks))
