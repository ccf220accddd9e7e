# SPDX-License-Identifier: Apache-2.0
"""Quartus Prime: a project, its constraints, and the accelerator as a component of Platform Designer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from designs.errors import DesignError
from generators.export.flow import Content, Flow, Options, accelerator, given, render
from generators.export.ip import lint
from generators.export.project import AcceleratorProject, Bus, Project

__all__ = ["FAMILIES", "FLOW", "PART", "Interface", "interfaces"]

FAMILIES: Mapping[str, str] = {
    "AGF": "Agilex 7", "AGI": "Agilex 7", "AGM": "Agilex 7", "1S": "Stratix 10", "10A": "Arria 10",
    "10C": "Cyclone 10 GX", "5S": "Stratix V", "5C": "Cyclone V",
}  # fmt: skip
"""How a part number begins -> what Quartus calls the family."""

PART = "AGFB014R24B2E2V"
"""If nobody names one: an Agilex 7 F of development kits."""

_FILES = ("project.tcl", "component_hw.tcl", "timing.sdc", "README.md")


@dataclass(frozen=True)
class Interface:
    """An interface of the component.

    Attributes
    ----------
    name, kind, end : as ``add_interface`` takes them
    ports : (port of the top, its role, direction at the top, bits)
    properties : of the interface
    """

    name: str
    kind: str
    end: str
    ports: tuple[tuple[str, str, str, int], ...]
    properties: Mapping[str, str | int]


def interfaces(project: AcceleratorProject) -> tuple[Interface, ...]:
    """Everything that the top shows to the outside."""
    clocked = {"associatedClock": project.clock, "associatedReset": project.reset}
    shape = project.config.port_shape
    issuing = {
        "readIssuingCapability": shape.outstanding,
        "writeIssuingCapability": shape.writes,
        "combinedIssuingCapability": shape.outstanding + shape.writes,
    }
    return (
        Interface(project.clock, "clock", "end", ((project.clock, "clk", "input", 1),), {}),
        Interface(
            project.reset, "reset", "end", ((project.reset, "reset_n", "input", 1),),
            {"associatedClock": project.clock, "synchronousEdges": "BOTH"},
        ),
        _of_bus(project.control, "axi4lite", "end", clocked),
        *(_of_bus(bus, "axi4", "start", clocked | issuing) for bus in project.masters),
        Interface(
            "interrupt", "interrupt", "end", (("interrupt", "irq", "output", 1),),
            clocked | {"associatedAddressablePoint": project.control.name},
        ),
    )  # fmt: skip


def _of_bus(bus: Bus, kind: str, end: str, properties: Mapping[str, str | int]) -> Interface:
    ports = tuple(
        (f"{bus.name}_{role}", role, direction, bits)
        for role, (direction, bits) in bus.ports.items()
    )
    return Interface(bus.name, kind, end, ports, properties)


def _files(project: Project, options: Options) -> Mapping[str, Content]:
    design = accelerator(project, "quartus")
    if design.target.dsp_variant != "generic" or design.target.part is not None:
        why = design.target.part or "made of another vendor's slices"
        raise DesignError(
            f"the flow quartus cannot take the target {design.target.name}, which is {why}; "
            f"build with --target sim-small, and name the device by --part (default {PART})"
        )
    part = given(options.part, PART)
    family = next((name for start, name in FAMILIES.items() if part.startswith(start)), None)
    if family is None:
        raise DesignError(
            f"--part {part} is of no family that is known; they begin with {', '.join(FAMILIES)}"
        )
    clock = given(options.clock_mhz, design.clock_mhz)
    texts = render(
        _FILES, "quartus", p=design, part=part, family=family, mhz=f"{clock:g}", period=f"{1000 / clock:.3f}",
        interfaces=interfaces(design),
    )  # fmt: skip
    header = {"hwgen_registers.h": design.registers.to_c_header()}
    return {**design.sources, **texts, **header, **lint(design)}


FLOW = Flow(
    name="quartus",
    description="project and Platform Designer component for Intel parts",
    files=_files,
    next="quartus_sh -t project.tcl",
    options=("part", "clock_mhz"),
)
