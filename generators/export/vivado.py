# SPDX-License-Identifier: Apache-2.0
"""Vivado: the accelerator as an IP of the catalogue, its constraints, and synthesis out of context."""

from __future__ import annotations

from collections.abc import Mapping

from generators.export.flow import Content, Flow, Options, accelerator, given, render
from generators.export.ip import check_part, ip_context, lint, pblocks
from generators.export.project import Project

__all__ = ["FLOW"]

_FILES = ("package_ip.tcl", "synth_ooc.tcl", "timing.xdc", "floorplan.xdc", "README.md")


def _files(project: Project, options: Options) -> Mapping[str, Content]:
    design = accelerator(project, "vivado")
    part = options.part or check_part(design, "vivado")
    clock = given(options.clock_mhz, design.clock_mhz)
    texts = render(
        _FILES, "vivado", part=part, period=f"{1000 / clock:.3f}", mhz=f"{clock:g}",
        pblocks=pblocks(design), **ip_context(design),
    )  # fmt: skip
    header = {"hwgen_registers.h": design.registers.to_c_header()}
    return {**design.sources, **texts, **header, **lint(design)}


FLOW = Flow(
    name="vivado",
    description="IP for the Vivado catalogue, constraints, synthesis out of context",
    files=_files,
    next="vivado -mode batch -source synth_ooc.tcl",
    options=("part", "clock_mhz"),
)
