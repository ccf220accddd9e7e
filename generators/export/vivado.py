"""Vivado: the accelerator as an IP of the catalogue, its constraints, and synthesis out of context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from designs.errors import DesignError
from generators.export.flow import Content, Flow, Options, accelerator, given, templates
from generators.export.project import PAGE, AcceleratorProject, Project
from hw.control.registers import WINDOW

__all__ = ["FAMILIES", "FLOW", "Pblock", "bus_context", "check_part", "pblocks"]

FAMILIES = ("xcup", "xcu", "xc7")
"""Families of parts that Vivado knows."""


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

    The memory's ports are on die 0 in the parts with HBM. None is needed on a part of one die.
    """
    dies = project.target.dies
    if dies == 1:
        return ()
    engine = (1, dies - 1)
    return (
        Pblock("pblock_memory", ("accelerator/memory", "accelerator/control_registers"), (0, 0)),
        Pblock("pblock_engine", ("accelerator/engine",), engine),
    )


def bus_context(project: AcceleratorProject) -> dict[str, Any]:
    """What ``interfaces.tcl.j2`` needs: the longest burst in beats, the pointers, the window of the registers."""
    return {
        "burst": min(PAGE // project.memory.port_bytes, 256),
        "buses": {bus.register: bus.name for bus in project.masters},
        "window": WINDOW,
    }


def _files(project: Project, options: Options) -> Mapping[str, Content]:
    design = accelerator(project, "vivado")
    part = options.part or check_part(design, "vivado")
    clock = given(options.clock_mhz, design.clock_mhz)
    env = templates("vivado")
    context = {
        "p": design, "part": part, "period": f"{1000 / clock:.3f}", "mhz": f"{clock:g}",
        "pblocks": pblocks(design), **bus_context(design),
    }  # fmt: skip
    names = ("package_ip.tcl", "synth_ooc.tcl", "timing.xdc", "floorplan.xdc", "README.md")
    texts = {name: env.get_template(f"{name}.j2").render(context) for name in names}
    return {**design.sources, **texts}


FLOW = Flow(
    name="vivado",
    description="IP for the Vivado catalogue, constraints, synthesis out of context",
    files=_files,
    next="vivado -mode batch -source synth_ooc.tcl",
    options=("part", "clock_mhz"),
)
