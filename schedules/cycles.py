# SPDX-License-Identifier: Apache-2.0
"""The cycle model: what a schedule costs on a machine, and what it must cost at least.

The prediction is a promise: the cycles that the RTL takes, see :mod:`schedules.core`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from schedules.core import Core, Pass, PassTime, PhaseCount, Run, phase_bytes
from schedules.errors import ScheduleError
from schedules.machine import Machine
from schedules.port import Burst
from schedules.roles import role
from schedules.schedule import Phase, PhaseTime, Prediction, Schedule
from schedules.sizes import size_value

__all__ = [
    "Burst",
    "Ideal",
    "Pass",
    "PassTime",
    "PhaseCount",
    "Run",
    "bound",
    "ideal",
    "play",
    "predict",
]


@dataclass(frozen=True)
class Ideal:
    """Lower bounds of a phase in a pass, in cycles: all multipliers always busy, all bandwidth always used.

    Products with weights of blocks that are left out are not counted. ``engine``: the engine multiplies.
    """

    compute: int
    memory: int
    macs: int
    bytes: int
    engine: bool = True


def play(
    schedule: Schedule,
    machine: Machine,
    *,
    prompt: int,
    generate: int = 1,
    position: int = 0,
    repeat: int | None = None,
) -> Run:
    """Play a run of the accelerator.

    Parameters
    ----------
    prompt : tokens of the prompt.
    generate : tokens to generate; 0 fills the cache only.
    position : tokens already cached.
    repeat : repetitions of the section that repeats (layers), all of them if None.

    Raises
    ------
    ScheduleError
        If a core of one engine cannot play the schedule, or the run does not fit in the context.
    """
    if prompt < 1 or generate < 0 or position < 0:
        raise ScheduleError(
            f"A run needs a prompt, not {prompt} tokens at {position} and {generate} to generate"
        )
    if position + prompt + max(0, generate - 1) > machine.context:
        raise ScheduleError(
            f"{position} cached, {prompt} of the prompt and {generate} to generate "
            f"exceed the context of {machine.context}"
        )
    return Core(schedule, machine, repeat).run(prompt, generate, position)


def predict(schedule: Schedule, machine: Machine, shape: Pass) -> Prediction:
    """The cycles of a pass: a prompt's pass from a cold start, a token's in the midst of generating.

    A pass of one token comes after another one, if it can: its first weights are there.
    """
    warm = shape.tokens == 1 and shape.past > 0 and shape.answer
    if warm:
        run = _warm(schedule, machine, shape.past)
    else:
        run = play(
            schedule, machine, prompt=shape.tokens, generate=int(shape.answer), position=shape.past
        )
    timed = run.passes[-1]
    repeats = {s.name: s.repeat for s in schedule.sections}
    phases, macs = [], 0
    for name, start, end, count in timed.phases:
        phase = schedule.phase(name)
        least = ideal(schedule, machine, phase, shape)
        repeat = repeats[phase.section]
        macs += repeat * least.macs if least.engine else 0
        phases.append(
            PhaseTime(
                phase=name,
                start=start - timed.start,
                end=end - timed.start,
                cycles=count.cycles,
                bytes=repeat * least.bytes,
                bound=bound(least, count.cycles / repeat),
            )
        )
    use = macs / machine.multipliers / timed.cycles
    return Prediction(
        shape.tokens, shape.past, shape.answer, timed.cycles, round(use, 6), tuple(phases)
    )


@lru_cache(maxsize=64)
def _warm(schedule: Schedule, machine: Machine, past: int) -> Run:
    return play(schedule, machine, prompt=1, generate=2, position=past - 1)


def ideal(schedule: Schedule, machine: Machine, phase: Phase, shape: Pass) -> Ideal:
    """Lower bounds of one run of a phase; its bytes are those that the prefetchers read, headers included."""
    what = role(schedule, phase)
    macs = sum(schedule.problem.task(t).macs(shape.tokens, shape.past) for t in phase.tasks)
    if what.kind == "product":
        macs = int(macs * machine.stored_share(what.task.name, size_value(what.task.k, 1)))
    bytes_read = phase_bytes(machine, what, shape)
    turns, products = 1, machine.multipliers
    pim = machine.pim if what.kind == "attention" else None
    if pim is not None:
        products = pim.products
    elif what.kind == "attention":
        turns = machine.turns * machine.span
    return Ideal(
        compute=-(-macs * turns // products),
        memory=-int(-bytes_read // machine.bytes_per_cycle),
        macs=macs,
        bytes=bytes_read,
        engine=pim is None,
    )


def bound(least: Ideal, cycles: float) -> str:
    """What the time of a phase is made of: the larger lower bound, if that is half of it."""
    name, most = max((("compute", least.compute), ("memory", least.memory)), key=lambda b: b[1])
    return name if 2 * most >= cycles else "latency"
