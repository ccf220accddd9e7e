# SPDX-License-Identifier: Apache-2.0
"""What is exported: a finished build, or an engine alone, as every flow sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from amaranth.hdl import Shape
from amaranth.lib.wiring import Out, Signature

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.memory_map import MemoryMap
from designs.target import TargetCard
from generators import manifest
from hw.control.registers import RegisterMap, register_map
from hw.core.config import CoreConfig
from hw.memory.axi import Axi4Signature, AxiLiteSignature

__all__ = ["AcceleratorProject", "Bus", "Project", "load"]

PAGE = 4096
"""Bytes that no burst crosses, and that base addresses are multiples of."""


@dataclass(frozen=True)
class Project:
    """Verilog that can be taken elsewhere.

    Attributes
    ----------
    folder : where hwgen wrote it; its digests were checked
    name : what it is, as an identifier
    title : the same, for people
    top : name of the top module
    files : Verilog files below ``rtl``, packages first, each module once
    clock, reset : ports of the top; ``reset_low``: active low
    """

    folder: Path
    name: str
    title: str
    top: str
    files: tuple[str, ...]
    clock: str
    reset: str
    reset_low: bool

    @property
    def sources(self) -> dict[str, Path]:
        """``rtl/NAME`` in an exported project -> the file."""
        return {f"rtl/{name}": self.folder / "rtl" / name for name in self.files}

    @property
    def clock_mhz(self) -> float | None:
        """The clock that was assumed, if one was."""
        return None


@dataclass(frozen=True)
class Bus:
    """An AXI interface of the top; its ports are ``NAME_SIGNAL``.

    Attributes
    ----------
    name : prefix of its ports
    data_bits, address_bits, id_bits : widths; no identifiers in AXI4-Lite
    ports : signal of the specification -> (direction at the top, bits)
    register : the register that holds its base address; None of the control port
    """

    name: str
    data_bits: int
    address_bits: int
    id_bits: int
    ports: dict[str, tuple[str, int]]
    register: str | None = None


@dataclass(frozen=True)
class AcceleratorProject(Project):
    """A build of a model for a target.

    Attributes
    ----------
    card, target : what was built for what
    memory : what lies where in the external memory
    registers : the map that the RTL decodes
    config : sizes of the core
    modules : names of all modules
    """

    card: ModelCard
    target: TargetCard
    memory: MemoryMap
    config: CoreConfig
    registers: RegisterMap
    modules: tuple[str, ...]

    @property
    def clock_mhz(self) -> float:
        return self.target.clock_mhz

    @cached_property
    def control(self) -> Bus:
        """The AXI4-Lite port of the registers."""
        return Bus("s_axi_control", 32, 12, 0, _ports(AxiLiteSignature(), master=False))

    @cached_property
    def masters(self) -> tuple[Bus, ...]:
        """The memory ports."""
        bits = 8 * self.memory.port_bytes
        ports = _ports(Axi4Signature(bits), master=True)
        return tuple(
            Bus(f"m_axi_g{p:02d}", bits, 64, 1, ports, f"memory_{p}")
            for p in range(self.memory.ports)
        )

    @property
    def buffer_bytes(self) -> int:
        """Bytes that each memory port needs behind it, in whole pages."""
        return -(-self.memory.bytes_per_port // PAGE) * PAGE

    @property
    def image(self) -> Path | None:
        """The weight image, if the build has weights."""
        path = self.folder / "weights.bin"
        return path if path.is_file() else None


def _ports(signature: Signature, *, master: bool) -> dict[str, tuple[str, int]]:
    """Direction at the top, and bits, of each signal of a signature that is written from the initiator."""
    return {
        name: (
            "output" if (member.flow == Out) == master else "input",
            Shape.cast(member.shape).width,
        )
        for name, member in signature.members.items()
    }


def load(out: Path) -> Project:
    """Read a folder that ``hwgen build`` or ``hwgen engine`` finished, and nobody changed since.

    Raises
    ------
    DesignError
        If it is something else, is not finished, or was edited.
    """
    if not out.is_dir():
        raise DesignError(f"{out} is not a folder: give one that hwgen build wrote")
    changed = manifest.alteration(out)
    if changed is not None:
        raise DesignError(f"{out} cannot be exported: {changed}; build it again")
    if (out / "design.json").is_file():
        facts = _facts(out / "design.json")
        if facts.get("backend") == "hls":
            raise DesignError(
                f"{out} is HLS C++, which has its own scripts: run_hls.tcl and link.cfg, or tapa.sh"
            )
        if facts.get("kind") == "kernel":
            raise DesignError(
                f"{out} is a kernel: export writes projects of models and engines only"
            )
        return _accelerator(out, facts)
    if (out / "engine.json").is_file():
        return _engine(out, _facts(out / "engine.json"))
    raise DesignError(f"{out} holds no RTL to export: give a folder that hwgen build wrote")


def _facts(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DesignError(f"{path} is not JSON ({error}): build it again") from None


def _accelerator(out: Path, facts: dict[str, Any]) -> AcceleratorProject:
    try:
        card = ModelCard.model_validate(facts["model"])
        target = TargetCard.model_validate(facts["target"])
        memory = MemoryMap.from_dict(facts["memory_map"])
        config = CoreConfig(**facts["parameters"])
        registers = register_map(memory.ports, list(facts["counters"]))
        offsets, top, modules = facts["registers"], facts["top"], facts["modules"]
    except KeyError as error:
        raise DesignError(
            f"{out / 'design.json'} has no {error.args[0]}: build it again"
        ) from error
    except (TypeError, ValueError) as error:
        raise DesignError(f"{out / 'design.json'} is not valid: {error}; build it again") from error
    if {r.name: r.offset for r in registers} != offsets:
        raise DesignError(f"{out} has registers of another version of hwgen: build it again")
    if target.pim is not None:
        raise DesignError(
            f"{out} has memory that computes ({target.name}), which no part has: "
            "export a build for a target without"
        )
    return AcceleratorProject(
        folder=out.resolve(),
        name=_identifier(f"{card.name}_{target.name}"),
        title=f"{card.name} on {target.name}",
        top=top,
        files=_ordered(module["file"] for module in modules),
        clock="ap_clk",
        reset="ap_rst_n",
        reset_low=True,
        card=card,
        target=target,
        memory=memory,
        config=config,
        registers=registers,
        modules=tuple(module["name"] for module in modules),
    )


def _engine(out: Path, facts: dict[str, Any]) -> Project:
    try:
        name, top, modules = facts["engine"], facts["top"], facts["modules"]
    except KeyError as error:
        raise DesignError(
            f"{out / 'engine.json'} has no {error.args[0]}: build it again"
        ) from error
    return Project(
        folder=out.resolve(),
        name=_identifier(top),
        title=f"engine {name}",
        top=top,
        files=_ordered(module["file"] for module in modules),
        clock="clk",
        reset="rst",
        reset_low=False,
    )


def _ordered(names: Any) -> tuple[str, ...]:
    """Packages first: others import them."""
    return tuple(sorted(set(names), key=lambda name: (not Path(name).stem.endswith("_pkg"), name)))


def _identifier(text: str) -> str:
    """What all tools take for a name."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)
