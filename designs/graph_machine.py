# SPDX-License-Identifier: Apache-2.0
"""Machines for kernels that bring none, such as ONNX models: from a target, from options, or both."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import ValidationError

from designs import catalogue, target
from designs.errors import DesignError
from designs.graph import MachineCard

__all__ = ["MachineOptions"]

SMALL = MachineCard(
    tokens=1,
    reduce=8,
    outputs=16,
    grow="outputs",
    cores=2,
    spad_bytes=1 << 20,
    bytes_per_cycle=64,
)
"""Where neither a target nor an option says anything."""

REDUCE = 8
MOST_TOKENS = 8
MOST_LANES = 4096
"""Of a machine for a target: larger ones are asked for by option."""


@dataclass(frozen=True)
class MachineOptions:
    """What the command line says of a machine.

    Parameters
    ----------
    target : name of a target: lanes from its multipliers, scratchpads from its memory blocks, its memory.
    lanes : ``TOKENSxREDUCExOUTPUTS``.
    grow, cores, spad_bytes, bytes_per_cycle : of MachineCard.
    """

    target: str | None = None
    lanes: str | None = None
    grow: str | None = None
    cores: int | None = None
    spad_bytes: int | None = None
    bytes_per_cycle: int | None = None

    def machine(self, rows: int) -> MachineCard:
        """For a kernel that brings none, whose products have up to ``rows`` rows.

        Raises
        ------
        DesignError
            For an unknown target, one without multipliers, or values that do not go together.
        """
        return self.change(SMALL if self.target is None else for_target(self.target, rows))

    def change(self, machine: MachineCard) -> MachineCard:
        """A machine with what the options say."""
        fields: dict[str, object] = {
            name: value
            for name in ("grow", "cores", "spad_bytes", "bytes_per_cycle")
            if (value := getattr(self, name)) is not None
        }
        if self.lanes is not None:
            found = re.fullmatch(r"(\d{1,6})x(\d{1,6})x(\d{1,6})", self.lanes)
            if found is None:
                raise DesignError(
                    f"--lanes must be TOKENSxREDUCExOUTPUTS such as 1x8x16, not {self.lanes}"
                )
            fields |= dict(
                zip(("tokens", "reduce", "outputs"), map(int, found.groups()), strict=True)
            )
        try:
            return MachineCard.model_validate(machine.model_dump() | fields)
        except ValidationError as error:
            raise DesignError(f"machine: {catalogue.explain(error, MachineCard)}") from error


def for_target(name: str, rows: int) -> MachineCard:
    """Half of a target's multipliers and memory blocks, as powers of two, and all of its memory's bandwidth."""
    board = target.load(name)
    lanes = min(_power(board.dsp_usable // 2), MOST_LANES)
    tokens = min(_power(rows), MOST_TOKENS, max(1, lanes // (2 * REDUCE)))
    outputs = lanes // (tokens * REDUCE)
    if outputs < 1:
        raise DesignError(
            f"target {name} has {board.dsp_usable} multipliers, a machine needs at least {2 * REDUCE}; "
            "say by --lanes what it shall have"
        )
    blocks = board.bram.usable * board.bram.bits + board.uram.usable * board.uram.bits
    return MachineCard(
        tokens=tokens,
        reduce=REDUCE,
        outputs=outputs,
        grow="outputs",
        cores=1 if outputs % 2 else 2,
        spad_bytes=max(4096, blocks // 16 // 4096 * 4096),
        bytes_per_cycle=_power(max(1, int(board.granted_bytes_per_cycle))),
        latency=board.memory.latency_cycles,
        memory_bytes=board.memory.capacity_bytes,
    )


def _power(most: int) -> int:
    """The largest power of two up to ``most``; 0 of 0."""
    return 1 << (most.bit_length() - 1) if most > 0 else 0
