# SPDX-License-Identifier: Apache-2.0
"""Targets: what a part and its board offer to a design, as frozen and validated cards.

The cards are the YAML files in designs/targets/. Where a figure comes from stands beside it there.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)
from pydantic import NonNegativeInt as Count

from designs import catalogue

Family = Literal["xcup", "xcu", "xc7", "ecp5", "ice40"]
"""The name by which yosys knows a device family."""

DspKind = Literal[
    "dsp48e2", "dsp58", "dsp48e1", "mult18x18d", "sb_mac16", "generic", "none"
]  # fmt: skip
"""The hard multiplier of a family; ``generic`` is a multiplier of any width, as a simulation has it."""

MemoryKind = Literal["hbm2", "hbm2e", "ddr4", "lpddr4", "ddr3", "psram", "simulated"]
"""The technology of the external memory."""


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Blocks(_Card):
    """Memory blocks of one kind on the part.

    Members
    -------
    count : int
        Blocks on the part.
    usable : int
        Blocks that are left for a design beside the board's shell.
    bits : int
        Capacity of one block in bits, parity included.
    """

    count: Count
    usable: Count
    bits: Count

    @model_validator(mode="after")
    def _check(self) -> Blocks:
        if self.usable > self.count:
            raise ValueError(f"usable must be at most count, {self.count}, not {self.usable}")
        return self


class Die(_Card):
    """What the board's shell leaves of one die (super logic region)."""

    dsp: Count
    lut: Count
    bram: Count
    uram: Count


class Memory(_Card):
    """The external memory, as the design sees it: AXI4 ports of equal width.

    Members
    -------
    kind : MemoryKind
        Technology.
    ports : int
        AXI4 ports, each with its own part of the memory (a pseudo-channel of HBM, for example).
    port_bits : int
        Width of the data of one port: a power of two, 32 to 1024.
    bytes_per_port : int
        Capacity behind one port.
    bandwidth_gbps : float
        Peak of the whole memory in GB/s (10**9 bytes), whatever the ports could carry.
    latency_cycles : int
        Clock cycles of the design from a read address to its first beat.
    """

    kind: MemoryKind
    ports: PositiveInt
    port_bits: PositiveInt
    bytes_per_port: PositiveInt
    bandwidth_gbps: PositiveFloat
    latency_cycles: PositiveInt

    @field_validator("port_bits")
    @classmethod
    def _port_bits_is_an_axi_width(cls, value: int) -> int:
        if value & (value - 1) or not 32 <= value <= 1024:
            raise ValueError("port_bits must be a power of two, 32 to 1024")
        return value

    @property
    def bytes_per_beat(self) -> int:
        """Bytes that all ports together carry in one cycle."""
        return self.ports * self.port_bits // 8

    @property
    def capacity_bytes(self) -> int:
        """Bytes behind all ports."""
        return self.ports * self.bytes_per_port


class PimMemory(_Card):
    """Memory channels whose banks multiply, beside the external memory.

    Members
    -------
    channels, banks, ranks, groups : channels; banks of each; ranks; bank groups of a rank.
    rows, page_bytes : rows of a bank, bytes of a row.
    lanes : products of int8 numbers of a bank in one step.
    act_group : banks whose rows one command opens.
    timing : name of a set of timings (``hw.pim.timing``); the clock is the design's.
    """

    channels: PositiveInt
    banks: PositiveInt
    ranks: PositiveInt
    groups: PositiveInt
    rows: PositiveInt
    page_bytes: PositiveInt
    lanes: PositiveInt
    act_group: PositiveInt
    timing: str


class TargetCard(_Card):
    """A part on its board, with the clock that a design on it is assumed to reach.

    Members
    -------
    name : str
        The name on the command line.
    description : str
        One line for ``hwgen list targets``.
    part : str or None
        The vendor's part number; None where no part exists.
    family : Family
        What ``hwgen synth`` maps to.
    clock_mhz : float
        The clock of the design, assumed: no design was placed and routed for it.
    dies : int
        Super logic regions: a crossing costs registers.
    each_die : tuple of Die
        What is left of each, from die 0 on; empty where only the sums are known: then they are taken to be equal.
    dsp, dsp_usable, dsp_kind
        Hard multipliers on the part, how many the board's shell leaves, and their kind.
    lut, lut_usable, ff
        Look-up tables on the part, how many the shell leaves, and flip-flops.
    bram, uram : Blocks
        Block memories.
    memory : Memory
        External memory.
    pim : PimMemory or None
        Where keys and values live, and attention's products are made; None: in the external memory, by the engine.
    unverified : tuple of str
        The fields whose figure nobody has checked against a data sheet, such as ``"uram"`` or
        ``"memory.latency_cycles"``.
    """

    name: str
    description: str
    part: str | None
    family: Family
    clock_mhz: PositiveFloat
    dies: PositiveInt
    each_die: tuple[Die, ...] = ()
    dsp: Count
    dsp_usable: Count
    dsp_kind: DspKind
    lut: PositiveInt
    lut_usable: PositiveInt
    ff: PositiveInt
    bram: Blocks
    uram: Blocks
    memory: Memory
    pim: PimMemory | None = None
    unverified: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> TargetCard:
        if self.dsp_usable > self.dsp:
            raise ValueError(f"dsp_usable must be at most dsp, {self.dsp}, not {self.dsp_usable}")
        if self.lut_usable > self.lut:
            raise ValueError(f"lut_usable must be at most lut, {self.lut}, not {self.lut_usable}")
        if (self.dsp == 0) != (self.dsp_kind == "none"):
            raise ValueError(f'dsp_kind "none" and dsp 0 go together, not {self.dsp}')
        if self.each_die:
            if len(self.each_die) != self.dies:
                raise ValueError(f"each_die must have {self.dies} dies, not {len(self.each_die)}")
            for kind, usable in {"dsp": self.dsp_usable, "lut": self.lut_usable,
                                 "bram": self.bram.usable, "uram": self.uram.usable}.items():  # fmt: skip
                total = sum(getattr(die, kind) for die in self.each_die)
                if total != usable:
                    raise ValueError(f"each_die must add up to {usable} of {kind}, not {total}")
        known = set(TargetCard.model_fields) | {f"memory.{field}" for field in Memory.model_fields}
        known |= {f"pim.{field}" for field in PimMemory.model_fields}
        for field in self.unverified:
            if field not in known:
                raise ValueError(f'unverified names the field "{field}", which a target has not')
        return self

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON has it; without ``pim`` if there is none."""
        return self.model_dump(mode="json", exclude=None if self.pim else {"pim"})

    @property
    def dsp_variant(self) -> Literal["dsp48e2", "generic"]:
        """How multipliers are written: as slices, which the tools also put into a DSP58, or as ``*``."""
        return "dsp48e2" if self.dsp_kind in ("dsp48e2", "dsp58") else "generic"

    @property
    def packs(self) -> bool:
        """Whether two products of 8 by 8 bits can share a multiplier: it takes 27 x 18 bits and cascades 48."""
        return self.dsp_kind in ("dsp48e2", "dsp58", "generic")

    @property
    def verified(self) -> bool:
        """Whether every figure of the card was checked against its source."""
        return not self.unverified

    @property
    def memory_bytes_per_beat(self) -> int:
        """Bytes that the ports could carry in one cycle if the memory behind them kept up."""
        return self.memory.bytes_per_beat

    @property
    def granted_bytes_per_cycle(self) -> float:
        """Bytes per cycle that a design can count on: what ports *and* memory allow."""
        return min(self.memory_bytes_per_beat, self.memory.bandwidth_gbps * 1e3 / self.clock_mhz)

    @property
    def granted_gbps(self) -> float:
        """`granted_bytes_per_cycle` in GB/s."""
        return self.granted_bytes_per_cycle * self.clock_mhz / 1e3


def names() -> list[str]:
    """Return the names of all targets, sorted."""
    return catalogue.names("targets")


def load(name: str) -> TargetCard:
    """Load a target by its name.

    Raises
    ------
    DesignError
        If there is no such target (with the nearest match), or its card is not valid.
    """
    return catalogue.load("targets", "target", name, TargetCard)
