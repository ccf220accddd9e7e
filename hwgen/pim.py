# SPDX-License-Identifier: Apache-2.0
"""Simulations of builds with PIM channels: what the cycle model predicts of a run beside what the RTL counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generators.report_facts import PimRun
    from sim.run import SimResult

__all__ = ["note_run"]


def note_run(out: Path, result: SimResult) -> PimRun:
    """Compare a run with its prediction, and put both into the build's report.

    Parameters
    ----------
    out : a build with PIM channels.
    result : of a run of it that began with an empty cache.
    """
    from designs.target import TargetCard
    from generators.machine import measure
    from generators.report import apply_run
    from generators.report_facts import PimRun
    from hw.core.config import CoreConfig
    from hw.core.counters import PIM_EVENTS
    from schedules.cycles import play
    from schedules.schedule import Schedule

    facts = json.loads((out / "design.json").read_text(encoding="utf-8"))
    config = CoreConfig(**facts["parameters"])
    schedule = Schedule.from_yaml((out / "schedule.yaml").read_text(encoding="utf-8"))
    predicted = play(
        schedule,
        measure(config, TargetCard.model_validate(facts["target"])),
        prompt=result.prompt,
        generate=len(result.tokens),
        repeat=result.layers,
    )
    run = PimRun(
        prompt=result.prompt,
        generated=len(result.tokens),
        cycles=result.counters["cycles"],
        cycles_predicted=predicted.cycles,
        attention=result.counters["attention_cycles"],
        attention_predicted=predicted.counts["attention"].cycles,
        counters={name: result.counters[f"pim_{name}"] for name in PIM_EVENTS},
    )
    apply_run(out, run)
    return run
