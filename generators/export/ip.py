# SPDX-License-Identifier: Apache-2.0
"""What Vivado's IP packager is told of an accelerator, whether an IP or a kernel comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from designs.errors import DesignError
from generators.export.flow import Content, render
from generators.export.project import AcceleratorProject, Project
from hw.control.registers import WINDOW

__all__ = ["Pblock", "Vlnv", "check_part", "ip_context", "lint", "pblocks"]

FAMILIES = ("xcup", "xcu", "xc7")
"""Families of parts that Vivado knows."""


@dataclass(frozen=True)
class Vlnv:
    """The name of an IP: the same in component.xml and in kernel.xml."""

    vendor: str
    library: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.vendor}:{self.library}:{self.name}:{self.version}"


@dataclass(frozen=True)
class Pblock:
    """Where units of the core go on a part of several dies.

    Attributes
    ----------
    name : of the Pblock
    cells : paths of instances below the top
    dies : first and last die (super logic region)
    """

    name: str
    cells: tuple[str, ...]
    dies: tuple[int, int]

    @property
    def range(self) -> str:
        """The dies as Vivado names them."""
        first, last = self.dies
        return f"SLR{first}" if first == last else f"SLR{first}:SLR{last}"


def check_part(project: AcceleratorProject, flow: str) -> str:
    """The vendor's part number of the project's target.

    Raises
    ------
    DesignError
        If the target has none, or is of another vendor.
    """
    target = project.target
    if target.part is None or target.family not in FAMILIES:
        why = "has no part" if target.part is None else f"is {target.part}"
        raise DesignError(
            f"the flow {flow} cannot take the target {target.name}, which {why}; "
            "build for an AMD part, e.g. --target u280 or kv260"
        )
    return target.part


def pblocks(project: AcceleratorProject) -> tuple[Pblock, ...]:
    """A die for each part of the core: memory ports beside the memory, the engine on the others.

    HBM is beside die 0. None is needed on a part of one die, and none is known to help where each die has
    a memory of its own.
    """
    dies = project.target.dies
    if dies == 1 or not project.target.memory.kind.startswith("hbm"):
        return ()
    return (
        Pblock("pblock_memory", ("accelerator/memory", "accelerator/control_registers"), (0, 0)),
        Pblock("pblock_engine", ("accelerator/engine",), (1, dies - 1)),
    )


def lint(project: Project) -> dict[str, Content]:
    """What Verilator may keep to itself, and why."""
    return render(["lint.vlt"], "ip", p=project)


def ip_context(project: AcceleratorProject) -> dict[str, Any]:
    """What ``ip/*.tcl.j2`` need: the name, what the masters do, the pointers, the window of the registers."""
    shape = project.config.port_shape
    return {
        "p": project,
        "vlnv": Vlnv("hwgen", "kernel", project.top, "1.0"),
        "bus_parameters": {
            "SUPPORTS_NARROW_BURST": 0,
            "MAX_BURST_LENGTH": max(shape.limits.values()),
            "NUM_READ_OUTSTANDING": shape.outstanding,
            "NUM_WRITE_OUTSTANDING": shape.writes,
        },
        "buses": {bus.register: bus.name for bus in project.masters},
        "window": WINDOW,
    }
