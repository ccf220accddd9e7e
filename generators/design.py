# SPDX-License-Identifier: Apache-2.0
"""From a plan to the files of a design: schedule, RTL, and the facts that others read."""

import json
from pathlib import Path
from typing import Any

from designs.cards import ModelCard
from designs.progress import Progress
from designs.target import TargetCard
from designs.transformer import transformer_model
from generators.lower import lower, program
from generators.machine import measure
from generators.plan import Plan
from generators.verilog import Emission, emit
from generators.weights import Calibration
from hw.core.accelerator import Accelerator
from hw.core.shell import Shell
from schedules.cycles import Pass
from schedules.sequential import sequential

__all__ = ["facts", "passes", "write_design"]


def passes(planned: Plan) -> list[Pass]:
    """The passes whose cycles the schedule predicts: a full prompt chunk, and decoding at some contexts."""
    c = planned.config
    decode = sorted({c.context // 8, c.context // 2, c.context - 1})
    return [Pass(tokens=c.chunk, past=0), *(Pass(tokens=1, past=past) for past in decode)]


def write_design(
    folder: Path,
    card: ModelCard,
    board: TargetCard,
    planned: Plan,
    progress: Progress,
    calibration: Calibration | None = None,
) -> None:
    """Write ``rtl/``, ``design.json``, the C header and ``schedule.yaml`` below ``folder``.

    ``calibration`` is that of the weights, None if there are none.
    """
    with progress.step("schedule") as step:
        machine = measure(planned.config, board)
        schedule = sequential(
            lower(transformer_model(card)),
            machine,
            clock_mhz=board.clock_mhz,
            passes=passes(planned),
        )
        schedule.verify()
        (folder / "schedule.yaml").write_text(schedule.to_yaml())
        steps = program(schedule, planned.config)
        step.detail = f"{len(steps.steps)} phases"
    accelerator = Accelerator(planned.config, steps)
    with progress.step("emit") as step:
        emission = emit(Shell(accelerator), accelerator)
        rtl = folder / "rtl"
        rtl.mkdir()
        for name, text in emission.files.values():
            (rtl / name).write_text(text)
        size = sum(len(text) for _, text in emission.files.values())
        step.detail = f"{len(emission.files)} modules, {size / 1e6:.1f} MB"
    (folder / "hwgen_registers.h").write_text(accelerator.registers.to_c_header())
    (folder / "design.json").write_text(
        json.dumps(facts(card, board, planned, accelerator, emission, calibration), indent=2) + "\n"
    )


def facts(
    card: ModelCard,
    board: TargetCard,
    planned: Plan,
    accelerator: Accelerator,
    emission: Emission,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """What ``design.json`` says."""
    registers = accelerator.registers
    return {
        "version": 1,
        "top": emission.top,
        "model": card.model_dump(mode="json"),
        "target": board.to_dict(),
        "parameters": planned.config.to_dict(),
        "limits": list(planned.limits),
        "compression": planned.compression.to_dict(),
        "calibration": None if calibration is None else calibration.to_dict(),
        "memory": {
            "latency_cycles": board.memory.latency_cycles,
            "bytes_per_cycle": min(board.granted_bytes_per_cycle, planned.config.stripe_bytes),
        },
        "memory_map": planned.memory.to_dict(),
        "phases": list(accelerator.program.names),
        "registers": {r.name: r.offset for r in registers},
        "counters": {r.name: r.offset for r in registers.counters},
        "modules": emission.modules(),
        "blocks": None if emission.blocks is None else emission.blocks.model_dump(),
    }
