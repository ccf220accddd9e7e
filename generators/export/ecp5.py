# SPDX-License-Identifier: Apache-2.0
"""Lattice ECP5 by open tools: yosys, nextpnr and Project Trellis, up to a bitstream.

A design has more ports than a package has pins, so a harness is around it: a chain of registers that is shifted in
and out by a pin each. Handshakes are passed on in the cycle ``step`` only, so that shifting moves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from designs import target
from designs.errors import DesignError
from generators.engine import load_engine
from generators.export.flow import Content, Flow, Options, given, render
from generators.export.project import AcceleratorProject, Project

__all__ = [
    "FLOW", "HARNESS", "LOGS", "Harness", "Part", "Port", "asked_clock", "find_part", "harness_of", "parse_part",
    "place_arguments",
]  # fmt: skip

HARNESS = "hwgen_harness"
"""The module that is placed and routed."""

LOGS = ("yosys.log", "nextpnr.log")
"""What the tools say."""

_TARGET = "ecp5-85k"
"""Whose part an engine alone is for, if none is named."""

_PACKAGES = {
    # The vendor's name -> nextpnr's.
    "BG256": "CABGA256", "BG381": "CABGA381", "BG554": "CABGA554", "BG756": "CABGA756",
    "MG285": "CSFBGA285",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part as nextpnr knows it.

    Attributes
    ----------
    number : the vendor's part number
    device : nextpnr's option without dashes, ``um-85k`` for example
    package : nextpnr's name of it
    speed : grade, 6 (slowest) to 8
    """

    number: str
    device: str
    package: str
    speed: int


def parse_part(number: str) -> Part:
    """Read a part number such as ``LFE5UM-85F-6BG756C``.

    Raises
    ------
    DesignError
        If it is not one of an ECP5 that nextpnr knows.
    """
    found = re.fullmatch(r"LFE5(U|UM|UM5G)-(12|25|45|85)F-([678])([BM]G\d+)[CI]", number)
    if found is None or found[4] not in _PACKAGES or (found[2] == "12" and found[1] != "U"):
        raise DesignError(
            f"{number} is no ECP5 part that nextpnr knows; one is LFE5UM-85F-6BG756C "
            f"(packages: {', '.join(_PACKAGES)})"
        )
    family = {"U": "", "UM": "um-", "UM5G": "um5g-"}[found[1]]
    return Part(number, f"{family}{found[2]}k", _PACKAGES[found[4]], int(found[3]))


def find_part(project: Project, given_number: str | None = None) -> Part:
    """The part that a project is for.

    Raises
    ------
    DesignError
        If it is of another family, or the number is none.
    """
    if given_number is not None:
        return parse_part(given_number)
    if not isinstance(project, AcceleratorProject):
        return parse_part(target.load(_TARGET).part or "")
    if project.target.family != "ecp5" or project.target.part is None:
        raise DesignError(
            f"the flow ecp5 cannot take the target {project.target.name}, which is of the family "
            f"{project.target.family}; build with --target {_TARGET}"
        )
    return parse_part(project.target.part)


def asked_clock(project: Project, clock_mhz: float | None = None) -> float:
    """The clock in MHz: what is given, else the project's, else that of the card of `_TARGET`."""
    return given(clock_mhz, given(project.clock_mhz, target.load(_TARGET).clock_mhz))


# ---- The harness ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Port:
    """A port of the design, clock and reset excepted.

    Attributes
    ----------
    name : in Verilog
    bits : its width
    is_input : whether the harness drives it
    at : its lowest bit in the harness's chain of inputs, or of outputs
    """

    name: str
    bits: int
    is_input: bool
    at: int

    @property
    def is_handshake(self) -> bool:
        """Whether something is transferred while it is high."""
        return self.bits == 1 and self.name.endswith(("valid", "ready"))

    @property
    def slice(self) -> str:
        """Its bits in the chain."""
        return f"[{self.at + self.bits - 1}:{self.at}]" if self.bits > 1 else f"[{self.at}]"


@dataclass(frozen=True)
class Harness:
    """What is around a design.

    Attributes
    ----------
    ports : of the design, in the order of the chains
    """

    ports: tuple[Port, ...]

    @property
    def input_bits(self) -> int:
        """Length of the chain of inputs."""
        return sum(port.bits for port in self.ports if port.is_input)

    @property
    def output_bits(self) -> int:
        """Length of the chain of outputs."""
        return sum(port.bits for port in self.ports if not port.is_input)

    @property
    def ff(self) -> int:
        """Flip-flops: both chains, and one behind each pin that is an input."""
        return self.input_bits + self.output_bits + 4

    @property
    def lut(self) -> int:
        """LUTs: one for each bit of the outputs, each handshake, the enable of the outputs."""
        handshakes = sum(port.is_input and port.is_handshake for port in self.ports)
        return self.output_bits + handshakes + 1


def harness_of(project: Project) -> Harness:
    """The harness for a project's top module."""
    if isinstance(project, AcceleratorProject):
        buses = (project.control, *project.masters)
        signals = [
            (f"{bus.name}_{name}", bits, way == "input")
            for bus in buses
            for name, (way, bits) in bus.ports.items()
        ]
        signals.append(("interrupt", 1, False))
    else:
        engine = load_engine(project.folder)
        signals = [(name, len(value), is_input) for name, value, is_input in engine.ports()]
    ports, ends = [], {True: 0, False: 0}
    for name, bits, is_input in signals:
        ports.append(Port(name, bits, is_input, ends[is_input]))
        ends[is_input] += bits
    return Harness(tuple(ports))


# ---- Scripts -------------------------------------------------------------------------------------


def place_arguments(part: Part, seed: int) -> list[str]:
    """What nextpnr is told, beside the clock, which ``pins.lpf`` has."""
    return [
        f"--{part.device}", "--package", part.package, "--speed", str(part.speed),
        "--json", "netlist.json", "--lpf", "pins.lpf", "--lpf-allow-unconstrained", "--seed", str(seed),
        "--timing-allow-fail", "--textcfg", "design.config", "--report", "placed.json",
        "--log", LOGS[1], "--quiet",
    ]  # fmt: skip


def _files(project: Project, options: Options) -> Mapping[str, Content]:
    sliced = [
        name
        for name, path in project.sources.items()
        if "DSP48E2 #(" in path.read_text(encoding="utf-8")
    ]
    if sliced:
        raise DesignError(
            f"{project.folder} has slices of AMD parts ({sliced[0]}), which ECP5 lacks: take another --engine, "
            "or hwgen engine ... --dsp generic"
        )
    part = find_part(project, options.part)
    clock = asked_clock(project, options.clock_mhz)
    texts = render(
        ("harness.v", "synth.ys", "pins.lpf", "Makefile", "README.md"), "ecp5",
        p=project, part=part, mhz=f"{clock:g}", harness=harness_of(project), top=HARNESS,
        place=" ".join(place_arguments(part, 1)), logs=LOGS,
    )  # fmt: skip
    return {**project.sources, **texts}


FLOW = Flow(
    name="ecp5",
    description="Lattice ECP5 by yosys and nextpnr, up to a bitstream",
    files=_files,
    next="make",
    options=("part", "clock_mhz"),
)
