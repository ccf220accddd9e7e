# SPDX-License-Identifier: Apache-2.0
"""What a phase is to a core: which loop it plays, and where its rows go."""

from __future__ import annotations

from dataclasses import dataclass

from schedules.errors import ScheduleError
from schedules.problem import Task
from schedules.schedule import Phase, Schedule

__all__ = ["Role", "role"]

KINDS = {
    "embedding": "embed", "layernorm": "norm", "rmsnorm": "norm", "matmul": "product", "scores": "attention",
}  # fmt: skip
SPECIAL = {"activation": "gated", "add": "residual", "argmax": "logit"}


@dataclass(frozen=True)
class Role:
    """A phase as a loop.

    Parameters
    ----------
    kind : ``embed``, ``norm``, ``product`` or ``attention``.
    task : its first task.
    result : of a product: ``buffer``, ``gated`` (through the activation), ``residual`` (added), ``rotated`` (turned),
        ``key`` (turned, if the problem says so), ``value``, ``logit``.
    source, target : tensors in buffers that it reads and makes; empty if there are none.
    last_write : of a product: it is the last of its section that writes a cache.
    """

    kind: str
    task: Task
    result: str = ""
    source: str = ""
    target: str = ""
    last_write: bool = False


def role(schedule: Schedule, phase: Phase) -> Role:
    """The loop that a phase is.

    Raises
    ------
    ScheduleError
        If a core of one engine cannot play it.
    """
    problem = schedule.problem
    tasks = [problem.task(name) for name in phase.tasks]
    first = tasks[0]
    if first.op not in KINDS:
        raise ScheduleError(
            f"Phase {phase.id} begins with a {first.op} (task {first.name}), which has no loop of its own"
        )
    kind, made = KINDS[first.op], tasks[-1].outputs[0]
    if kind != "product":
        if kind == "attention" and [t.op for t in tasks] != ["scores", "softmax", "context"]:
            raise ScheduleError(
                f"Phase {phase.id} must run scores, softmax and context, not {', '.join(phase.tasks)}"
            )
        if kind != "attention" and len(tasks) > 1:
            raise ScheduleError(f"Phase {phase.id} must run task {first.name} alone")
        return Role(kind, first, source="" if kind == "embed" else first.inputs[0], target=made)
    if len(tasks) > 2:
        raise ScheduleError(f"Phase {phase.id} must run a product and at most one task behind it")
    turned = len(tasks) == 2 and tasks[1].op == "rotary"
    if len(tasks) == 2 and not turned:
        if tasks[1].op not in SPECIAL:
            raise ScheduleError(
                f"Phase {phase.id}: a product cannot stream to a {tasks[1].op} (task {tasks[1].name})"
            )
        result = SPECIAL[tasks[1].op]
        return Role(kind, first, result, first.inputs[0], "" if result == "logit" else made)
    if problem.tensor(made).kind == "cache":
        readers = {t.op for t in problem.consumers(made)}
        if readers not in ({"scores"}, {"context"}):
            raise ScheduleError(
                f"Phase {phase.id}: cache {made} must be read by scores or by context"
            )
        section = next(s for s in schedule.sections if s.name == phase.section)
        writers = [
            p.id for p in schedule.phases if p.section == section.name
            and any(problem.tensor(o).kind == "cache" for t in p.tasks for o in problem.task(t).outputs)
        ]  # fmt: skip
        return Role(
            kind, first, "key" if readers == {"scores"} else "value", first.inputs[0],
            last_write=phase.id == writers[-1],
        )  # fmt: skip
    return Role(kind, first, "rotated" if turned else "buffer", first.inputs[0], made)
