# SPDX-License-Identifier: Apache-2.0
"""Tiles through the RTL of an engine alone, in its compiled simulator."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hw.arrays import Engine
from sim.errors import SimulationError, ToolError
from sim.processes import started

__all__ = ["EngineOutcome", "run_tiles"]

_IDLE_LIMIT = 100_000
"""Cycles without a transfer after which it hangs."""


@dataclass(frozen=True)
class EngineOutcome:
    """What a run gave.

    Parameters
    ----------
    rows : accumulators of every row in the order in which they left, int64 [rows, outputs].
    last : whether each of them ended its tile.
    cycles : from the first beat's transfer to the last row's, both counted.
    beats : how many went in.
    """

    rows: NDArray[np.int64]
    last: NDArray[np.bool_]
    cycles: int
    beats: int


def run_tiles(program: Path, engine: Engine, payloads: Sequence[int], rows: int) -> EngineOutcome:
    """Stream beats into an engine without a pause, and take its rows as they come.

    Parameters
    ----------
    program : what :func:`sim.model.compile_engine` gave.
    payloads : beats as :meth:`Engine.pack` makes them, tile after tile.
    rows : that these tiles have.

    Raises
    ------
    SimulationError
        If it hangs, or gives a row too many.
    ToolError
        If the simulator cannot run.
    """
    beat = _bytes(engine.i.payload.shape().size)
    row = _bytes(engine.o.payload.shape().size)
    with tempfile.TemporaryDirectory(prefix="hwgen-engine-") as name:
        sent, got = Path(name) / "beats", Path(name) / "rows"
        sent.write_bytes(b"".join(payload.to_bytes(beat, "little") for payload in payloads))
        with started(
            [program, sent, got, str(rows), str(_IDLE_LIMIT)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            said, complaint = process.communicate()
        if process.returncode == 1 or "%Error" in said:
            raise SimulationError(f"{engine.module_name}: {(complaint or said).strip()}")
        if process.returncode:
            raise ToolError(
                f"the simulator ended with code {process.returncode}: {complaint.strip()}"
            )
        data = got.read_bytes()
    found = [
        engine.unpack(int.from_bytes(data[at : at + row], "little"))
        for at in range(0, len(data), row)
    ]
    return EngineOutcome(
        rows=np.array([acc for acc, _ in found], np.int64).reshape(rows, engine.row_outputs),
        last=np.array([last for _, last in found], np.bool_),
        cycles=int(said),
        beats=len(payloads),
    )


def _bytes(bits: int) -> int:
    """Bytes of a port of so many bits in Verilator's model."""
    return next((size for size in (1, 2, 4, 8) if bits <= 8 * size), -(-bits // 32) * 4)
