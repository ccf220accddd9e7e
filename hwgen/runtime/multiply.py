# SPDX-License-Identifier: Apache-2.0
"""Products of matrices through an engine, tile by tile: in the simulator, or by its golden model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from amaranth.hdl import UnusedElaboratable
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.progress import Progress
from generators.engine import load_engine
from generators.synth import load_json
from hw.arrays import Engine
from hw.arrays.chain import ChainArray
from hw.core.accelerator import make_core_engine
from hw.core.config import CoreConfig
from sim.built import rtl_files
from sim.engine import run_tiles
from sim.errors import SimulationError
from sim.model import compile_engine

__all__ = ["Multiplier", "of_core", "of_engine"]

Ints = NDArray[np.int64]


class Multiplier(Protocol):
    """Multiplies matrices of integers exactly."""

    def multiply(
        self, x: NDArray[np.integer], w: NDArray[np.integer]
    ) -> tuple[Ints, dict[str, int]]:
        """``x @ w``, int64 [rows, outputs], and what was counted meanwhile."""
        ...


def of_engine(folder: Path, backend: str, progress: Progress) -> Multiplier:
    """The engine that ``hwgen engine`` wrote into a folder."""
    with warnings.catch_warnings():  # engines are elaborated when they are emitted only
        warnings.simplefilter("ignore", UnusedElaboratable)
        engine = load_engine(folder)
    return _multiplier(folder, engine, backend, progress)


def of_core(folder: Path, backend: str, progress: Progress) -> Multiplier:
    """The engine within an accelerator that ``hwgen build`` wrote into a folder."""
    parameters = load_json(folder / "design.json")["parameters"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        engine = make_core_engine(CoreConfig(**parameters))
    return _multiplier(folder, engine, backend, progress)


def _multiplier(folder: Path, engine: Engine, backend: str, progress: Progress) -> Multiplier:
    return Golden(engine) if backend == "golden" else Simulated(engine, folder, progress)


@dataclass(frozen=True)
class Golden:
    """The engine's golden model."""

    engine: Engine

    def multiply(
        self, x: NDArray[np.integer], w: NDArray[np.integer]
    ) -> tuple[Ints, dict[str, int]]:
        """See `Multiplier`; nothing is counted."""
        x, w = checked(self.engine, x, w)
        if isinstance(
            self.engine, ChainArray
        ):  # some have limits of their own, which packing knows
            packed(self.engine, x, w, _tiles(self.engine, len(x), w.shape[1]))
        return self.engine.golden(x, w), {}


@dataclass(frozen=True)
class Simulated:
    """The engine's RTL in the compiled simulator, which is made when the first product is asked for."""

    engine: Engine
    folder: Path
    progress: Progress

    def multiply(
        self, x: NDArray[np.integer], w: NDArray[np.integer]
    ) -> tuple[Ints, dict[str, int]]:
        """See `Multiplier`; cycles, beats and rows are counted.

        Raises
        ------
        SimulationError
            If the engine hangs, or its tiles end where they should not.
        """
        engine = self.engine
        x, w = checked(engine, x, w)
        tiles = list(_tiles(engine, len(x), w.shape[1]))
        payloads = packed(engine, x, w, tiles)
        program = compile_engine(
            self.folder, engine.module_name, rtl_files(self.folder), self.progress
        )
        count = sum(rows.stop - rows.start for rows, _ in tiles)
        outcome = run_tiles(program, engine, payloads, count)
        product, at = np.empty((len(x), w.shape[1]), np.int64), 0
        for rows, outputs in tiles:
            end = at + rows.stop - rows.start
            if outcome.last[at:end].tolist() != [False] * (end - at - 1) + [True]:
                raise SimulationError(
                    f"{engine.module_name}: a tile does not end with its last row"
                )
            product[rows, outputs] = outcome.rows[at:end, : outputs.stop - outputs.start]
            at = end
        counters = {"cycles": outcome.cycles, "beats": outcome.beats, "rows": count}
        return product, counters


def _tiles(engine: Engine, rows: int, outputs: int) -> Iterator[tuple[slice, slice]]:
    """Rows and outputs of each tile."""
    for first in range(0, outputs, engine.outputs):
        for row in range(0, rows, engine.tokens):
            yield (
                slice(row, min(row + engine.tokens, rows)),
                slice(first, min(first + engine.outputs, outputs)),
            )


def packed(engine: Engine, x: Ints, w: Ints, tiles: Iterable[tuple[slice, slice]]) -> list[int]:
    """The beats of all tiles.

    Raises
    ------
    DesignError
        If the engine cannot take one of them.
    """
    try:
        return [beat for rows, outputs in tiles for beat in engine.pack(x[rows], w[:, outputs])]
    except ValueError as error:
        raise DesignError(f"{engine.module_name}: {error}") from None


def checked(engine: Engine, x: NDArray[np.integer], w: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """Both matrices as int64, if the engine can multiply them exactly.

    Raises
    ------
    DesignError
        Says which matrix is wrong, and what would be right.
    """
    x, w = np.asarray(x), np.asarray(w)
    for name, matrix, bits in (("x", x, engine.x_bits), ("w", w, engine.w_bits)):
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise DesignError(f"{name} must be a matrix with elements, not of shape {matrix.shape}")
        if not np.issubdtype(matrix.dtype, np.integer):
            raise DesignError(f"{name} must hold integers, not {matrix.dtype}")
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        if int(matrix.min()) < low or int(matrix.max()) > high:
            raise DesignError(
                f"{name} must be within {low} and {high} ({bits} bits), but holds "
                f"{int(matrix.min())} to {int(matrix.max())}"
            )
    k, longest = x.shape[1], (1 << (engine.acc_bits + 1 - engine.x_bits - engine.w_bits)) - 1
    if k != w.shape[0]:
        raise DesignError(f"x has {k} columns, but w has {w.shape[0]} rows: they must be equal")
    if k > longest:
        raise DesignError(
            f"k = {k} products may overflow accumulators of {engine.acc_bits} bits, which hold {longest} "
            "exactly: split the matrices, or write an engine with a larger --k"
        )
    return x.astype(np.int64), w.astype(np.int64)
