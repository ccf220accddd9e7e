# SPDX-License-Identifier: Apache-2.0
"""Vitis: the accelerator as an RTL kernel for an Alveo card, the link to its memory, and host programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from designs.errors import DesignError
from designs.target import TargetCard
from generators.export.flow import Content, Flow, Options, accelerator, given, render
from generators.export.ip import ip_context, lint, pblocks
from generators.export.project import AcceleratorProject, Project
from generators.resources import estimate, total

__all__ = ["CARDS", "FLOW", "Argument", "Card", "arguments"]

DIE_SHARE = 0.8
"""A kernel gets a die to itself if it fills no more of it: full dies do not route."""


@dataclass(frozen=True)
class Card:
    """An Alveo card as ``v++`` knows it.

    Attributes
    ----------
    platform : the newest platform of the card that is known to exist
    bank : what ``v++`` calls one of its memories
    banks : how many there are
    die : the die beside the memory, or None if each die has its own
    """

    platform: str
    bank: str
    banks: int
    die: str | None


CARDS: Mapping[str, Card] = {
    "u280": Card("xilinx_u280_gen3x16_xdma_1_202211_1", "HBM", 32, "SLR0"),
    "u55c": Card("xilinx_u55c_gen3x16_xdma_3_202210_1", "HBM", 32, "SLR0"),
    "u50": Card("xilinx_u50_gen3x16_xdma_5_202210_1", "HBM", 32, "SLR0"),
    "u250": Card("xilinx_u250_gen3x16_xdma_4_1_202210_1", "DDR", 4, None),
}
"""By the name of the target."""

_FILES = (
    "kernel.xml", "package_kernel.tcl", "link.cfg", "floorplan.tcl", "host/layout.h", "host/host.cpp",
    "host/host.py", "Makefile", "README.md",
)  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """What XRT sets before a start.

    Attributes
    ----------
    index : number of the argument
    name : of the register
    offset, size : of the register, in bytes
    bus : the port of the memory that it points to; None: a number
    """

    index: int
    name: str
    offset: int
    size: int
    bus: str | None

    @property
    def port(self) -> str:
        """The port in ``kernel.xml``."""
        return self.bus or "s_axi_control"

    @property
    def qualifier(self) -> int:
        """What ``kernel.xml`` calls a pointer or a number."""
        return 0 if self.bus is None else 1

    @property
    def type(self) -> str:
        """In C."""
        return "uint" if self.bus is None else "void*"


def arguments(project: AcceleratorProject) -> tuple[Argument, ...]:
    """The arguments of the kernel: what the host writes, in the order of the registers."""
    buses = {bus.register: bus.name for bus in project.masters}
    return tuple(
        Argument(k, r.name, r.offset, r.bits // 8, buses.get(r.name))
        for k, r in enumerate(project.registers.arguments)
    )


def fits_a_die(project: AcceleratorProject) -> bool:
    """Whether the whole kernel is small enough for one of the part's dies, by the estimate."""
    target: TargetCard = project.target
    used = total(estimate(project.config, target)).rounded()
    have = {
        "lut": target.lut_usable, "dsp": target.dsp_usable, "bram": target.bram.usable, "uram": target.uram.usable,
    }  # fmt: skip
    return all(used[kind] <= DIE_SHARE * have[kind] / target.dies for kind in have)


def _files(project: Project, options: Options) -> Mapping[str, Content]:
    design = accelerator(project, "vitis")
    card = _card(design)
    memory, registers = design.memory, design.registers
    hint = card.die if card.die is not None and fits_a_die(design) else None
    texts = render(
        _FILES, "vitis", card=card, part=design.target.part, mhz=f"{given(options.clock_mhz, design.clock_mhz):g}",
        arguments=arguments(design), memory=memory, die=hint,
        pblocks=() if hint else [block for block in pblocks(design) if block.dies[0] == block.dies[1]],
        unit=f"{design.top}_1", statuses=registers.statuses, has_image=design.image is not None,
        bytes_are_text=design.card.tokenizer == "bytes",
        has_tokenizer=(design.folder / "tokenizer.json").is_file(), **ip_context(design),
    )  # fmt: skip
    found: dict[str, Content] = {**design.sources, **texts, **lint(design)}
    found["host/hwgen_registers.h"] = registers.to_c_header()
    for name in ("weights.bin", "tokenizer.json"):
        if (design.folder / name).is_file():
            found[name] = design.folder / name
    return found


def _card(project: AcceleratorProject) -> Card:
    target, memory = project.target, project.memory
    if target.name not in CARDS:
        other = "; --flow vivado takes it" if target.part and target.family != "ecp5" else ""
        raise DesignError(
            f"the flow vitis cannot take the target {target.name}, only {', '.join(CARDS)}{other}"
        )
    card = CARDS[target.name]
    if memory.ports > card.banks or project.buffer_bytes > target.memory.bytes_per_port:
        raise DesignError(
            f"{project.title} needs {memory.ports} x {project.buffer_bytes:,} bytes, and the card has "
            f"{card.banks} x {target.memory.bytes_per_port:,}: build for a target with more memory"
        )
    return card


FLOW = Flow(
    name="vitis",
    description="RTL kernel of an Alveo card: kernel.xml, packaging, link, host programs",
    files=_files,
    next="make xclbin host",
    options=("clock_mhz",),
)
