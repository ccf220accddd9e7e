# SPDX-License-Identifier: Apache-2.0
"""LibreLane (OpenLane): from RTL to a layout in sky130 or IHP sg13g2, of what is small enough for that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from designs.errors import DesignError
from generators.export.flow import Content, Flow, Options, render
from generators.export.ip import lint
from generators.export.project import AcceleratorProject, Project
from generators.resources import buffers

__all__ = ["FLOW", "MEMORY_BITS", "PROCESSES", "Process", "memory_bits"]

MEMORY_BITS = 1 << 16
"""Memories are inferred: their bits become flip-flops, of which a layout takes this many and no more."""


@dataclass(frozen=True)
class Process:
    """A process design kit that LibreLane lays out in.

    Attributes
    ----------
    pdk : its name for ``librelane --pdk``
    pattern : the key of its section in the configuration
    clock_mhz : the clock to ask for if nobody says one: below what `hwgen synth --flow asic` finds for engines
    """

    pdk: str
    pattern: str
    clock_mhz: float


PROCESSES: Mapping[str, Process] = {
    "sky130": Process("sky130A", "pdk::sky130*", 50),
    "ihp-sg13g2": Process("ihp-sg13g2", "pdk::ihp-sg13g2*", 100),
}
"""By the name that `hwgen synth --pdk` takes, too."""


def memory_bits(project: AcceleratorProject) -> int:
    """Bits of all buffers of an accelerator."""
    return sum(b.banks * b.depth * b.width for b in buffers(project.config, project.target))


def configuration(
    project: Project, processes: Mapping[str, Process], clock_mhz: float | None
) -> dict[str, Any]:
    """What ``config.json`` says; paths are relative to it."""
    return {
        "meta": {"version": 2},
        "DESIGN_NAME": project.top,
        "VERILOG_FILES": [f"dir::{path}" for path in project.sources],
        # Multipliers as `*`, not as slices of an FPGA.
        "VERILOG_DEFINES": ["HWGEN_PLAIN"],
        "CLOCK_PORT": project.clock,
        "FP_CORE_UTIL": 40,
        "PL_TARGET_DENSITY_PCT": 50,
    } | {
        process.pattern: {"CLOCK_PERIOD": round(1000 / (clock_mhz or process.clock_mhz), 3)}
        for process in processes.values()
    }


def _files(project: Project, options: Options) -> Mapping[str, Content]:
    if options.pdk is not None and options.pdk not in PROCESSES:
        raise DesignError(f"--pdk {options.pdk} is not known (known: {', '.join(PROCESSES)})")
    if isinstance(project, AcceleratorProject):
        _check_size(project)
    chosen = {options.pdk: PROCESSES[options.pdk]} if options.pdk else PROCESSES
    config = configuration(project, chosen, options.clock_mhz)
    texts = render(["README.md"], "openlane", p=project, processes=chosen, config=config)
    return {
        **project.sources,
        **texts,
        **lint(project),
        "config.json": json.dumps(config, indent=2) + "\n",
    }


def _check_size(project: AcceleratorProject) -> None:
    target, bits = project.target, memory_bits(project)
    if target.part is not None:
        raise DesignError(
            f"the flow openlane cannot take the target {target.name}, which is {target.part}; "
            "give an engine alone (hwgen engine cube:opt1:4x8x4 -o OUT), or build with --target sim-small"
        )
    if bits > MEMORY_BITS:
        raise DesignError(
            f"{project.title} has {bits:,} bits of memory, and a layout takes {MEMORY_BITS:,} as flip-flops; "
            "give an engine alone (hwgen engine cube:opt1:4x8x4 -o OUT), or a smaller model"
        )


FLOW = Flow(
    name="openlane",
    description="LibreLane configuration for sky130 and IHP sg13g2, of an engine or a very small build",
    files=_files,
    next="librelane --pdk ihp-sg13g2 config.json",
    options=("pdk", "clock_mhz"),
)
