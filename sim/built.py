# SPDX-License-Identifier: Apache-2.0
"""A folder that ``hwgen build`` wrote, as the simulator sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.memory_map import MemoryMap

__all__ = ["Built", "MemoryTiming", "Simulated", "base_address", "load", "read_design", "rtl_files"]

T = TypeVar("T")

PORT_BASE, PORT_STEP = 0x40_0000_0000, 0x1_0000_0000
"""Where each port's memory begins: high and far apart, to find out a hard-wired address."""


@dataclass(frozen=True)
class MemoryTiming:
    """How fast the memory is.

    Parameters
    ----------
    latency_cycles : from a read address to its first beat.
    bytes_per_cycle : what one port carries, reads and writes together.
    outstanding : bursts that a port accepts before it has answered the first.
    stall_percent : chance that the memory withholds a ready or valid in a cycle: provokes mistakes.
    """

    latency_cycles: int
    bytes_per_cycle: Fraction
    outstanding: int = 32
    stall_percent: int = 0


class Simulated(Protocol):
    """What compiling and running a simulator must know of a build."""

    @property
    def folder(self) -> Path: ...
    @property
    def top(self) -> str: ...
    @property
    def timing(self) -> MemoryTiming: ...
    @property
    def registers(self) -> dict[str, int]: ...
    @property
    def rtl(self) -> list[Path]: ...
    @property
    def ports(self) -> int: ...
    @property
    def port_bytes(self) -> int: ...
    @property
    def stripes(self) -> int: ...


def base_address(port: int) -> int:
    """Address at which a port's memory begins in simulation."""
    return PORT_BASE + port * PORT_STEP


@dataclass(frozen=True)
class Built:
    """What ``design.json`` says.

    Parameters
    ----------
    folder : the build's folder.
    top : the top module.
    tokens : T, token rows of the engine.
    chunk : most tokens of one pass.
    timing : the memory of the target.
    map : what lies where in it.
    registers : offset by name.
    counters : offset by name, of what is only read.
    card : the model.
    phases : the names that the probes' ``phase`` indexes.
    compression : how weights are stored, as ``generators.compress`` wrote it down.
    pim_channels : where keys and values live; 0: in the memory.
    """

    folder: Path
    top: str
    tokens: int
    chunk: int
    timing: MemoryTiming
    map: MemoryMap
    registers: dict[str, int]
    counters: dict[str, int]
    card: ModelCard
    phases: tuple[str, ...]
    compression: dict[str, Any]
    pim_channels: int = 0

    @property
    def rtl(self) -> list[Path]:
        """The Verilog files, packages first."""
        return rtl_files(self.folder)

    @property
    def ports(self) -> int:
        """Memory ports."""
        return self.map.ports

    @property
    def port_bytes(self) -> int:
        """Bytes of a word of a port."""
        return self.map.port_bytes

    @property
    def stripes(self) -> int:
        """Words that each port's memory has."""
        return self.map.total_stripes

    @property
    def is_small(self) -> bool:
        """Whether comparing every tensor costs next to nothing."""
        return self.map.layers * self.map.width <= 4096

    @property
    def weights(self) -> Path | None:
        """The memory image, if the build has weights."""
        path = self.folder / "weights.bin"
        return path if path.is_file() else None

    @property
    def quantised(self) -> Path | None:
        """The quantised model, if the build has weights."""
        path = self.folder / "quantised.npz"
        return path if path.is_file() else None

    def base(self, port: int) -> int:
        """Address at which a port's memory begins in simulation."""
        return base_address(port)


def rtl_files(folder: Path) -> list[Path]:
    """The Verilog of a folder that hwgen wrote, packages first."""
    files = [path for path in (folder / "rtl").iterdir() if path.suffix in (".v", ".sv")]
    return sorted(files, key=lambda path: (not path.stem.endswith("_pkg"), path.name))


def load(out: Path) -> Built:
    """Read a build's ``design.json``.

    Raises
    ------
    DesignError
        If there is none, or it lacks something.
    """
    return read_design(out, _built)


def read_design(out: Path, make: Callable[[Path, dict[str, Any]], T]) -> T:
    """What ``make`` makes of a folder and its ``design.json``.

    Raises
    ------
    DesignError
        If there is no such file, or it lacks something that ``make`` wants.
    """
    path = out / "design.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DesignError(
            f"{out} has no design.json: give a folder that hwgen build wrote"
        ) from None
    except (OSError, ValueError) as error:
        raise DesignError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    try:
        return make(out, data)
    except KeyError as error:
        raise DesignError(f"{path} has no {error.args[0]}: build it again") from error
    except (TypeError, ValueError) as error:
        raise DesignError(f"{path} is not valid: {' '.join(str(error).split())}") from error


def _built(out: Path, data: dict[str, Any]) -> Built:
    memory_map = MemoryMap.from_dict(data["memory_map"])
    memory = data["memory"]
    share = Fraction(memory["bytes_per_cycle"]).limit_denominator(4096) / memory_map.ports
    full = Fraction(memory_map.port_bytes)
    if share >= full * Fraction(99, 100):
        share = full  # within a percent: every cycle
    return Built(
        folder=out.resolve(),
        top=data["top"],
        tokens=data["parameters"]["tokens"],
        chunk=data["parameters"]["chunk"],
        timing=MemoryTiming(memory["latency_cycles"], min(share, full)),
        map=memory_map,
        registers=dict(data["registers"]),
        counters=dict(data.get("counters", {})),
        card=ModelCard.model_validate(data["model"]),
        phases=tuple(data["phases"]),
        compression=dict(data["compression"]),
        pim_channels=data["parameters"].get("pim_channels", 0),
    )
