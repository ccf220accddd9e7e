# SPDX-License-Identifier: Apache-2.0
"""Cycles of whole products ``[m, k] @ [k, n]`` on every array, in RTL, beside the array's own formula and SCALE-Sim's.

``python -m benchmarks.gemm_cycles [--pe mac|opt1|opt2]``. Every array has 256 multipliers. The RTL streams all tiles
of the product without a pause; every sum is compared with numpy's. SCALE-Sim's closed forms are those of a systolic
array of 16 x 16, output-stationary (weight-stationary for ``systolic_ws``), without stalls and without registers.
``systolic_os`` has four PEs share a register of activations (``hop``): with one each, a lone tile would take 6 cycles
more than SCALE-Sim says, which are those of the beat, the product, the sum and the collector.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.engine_run import build_engine, run_engine
from benchmarks.scale_sim import Gemm, output_stationary, weight_stationary
from hw.arrays import ENGINES, Engine, make_engine

__all__ = ["formula", "main", "tiles_of"]

SIDE = 16
SHAPES = {
    "systolic_os": (16, 1, 16),
    "matrix": (16, 1, 16),
    "systolic_ws": (64, 16, 16),  # keeps 64 rows of sums; 16 x 16 multipliers
    "cube": (4, 16, 4),
    "tree": (2, 32, 4),
}
OPTIONS: dict[str, dict[str, Any]] = {"systolic_os": {"hop": 4}}
PRODUCTS = (Gemm(16, 16, 256), Gemm(64, 64, 256), Gemm(50, 70, 40), Gemm(128, 64, 1024))

Tile = tuple[np.ndarray, np.ndarray]


def tiles_of(engine: Engine, x: np.ndarray, w: np.ndarray) -> Iterator[Tile]:
    """The tiles of ``x @ w`` in the order that the engine gets them: all rows of some outputs, then the next ones."""
    for o in range(0, w.shape[1], engine.outputs):
        for t in range(0, len(x), engine.tokens):
            some = w[:, o : o + engine.outputs]
            padded = np.pad(some, ((0, 0), (0, engine.outputs - some.shape[1])))
            yield x[t : t + engine.tokens], padded


def formula(engine: Engine, gemm: Gemm) -> int:
    """Cycles from the first beat to the last row: tiles follow each other, the last one drains."""
    rows = [min(engine.tokens, gemm.m - t) for t in range(0, gemm.m, engine.tokens)]
    rows *= -(-gemm.n // engine.outputs)
    before = sum(engine.interval(gemm.k, r) for r in rows[:-1])
    beats = (engine.beats(gemm.k) - 1) * engine.beat_cycles(rows[-1])
    return before + beats + engine.latency + rows[-1]


def _compare(engine: Engine, gemm: Gemm, peer: int, folder: Path) -> bool:
    """Print a product; whether the RTL took as long as the formula says, and not longer than SCALE-Sim's."""
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (gemm.m, gemm.k)), rng.integers(-128, 128, (gemm.k, gemm.n))
    run = run_engine(engine, list(tiles_of(engine, x, w)), folder, cycles=10**7, once=True)
    ours, used = formula(engine, gemm), gemm.macs / engine.macs / run.cycles
    name = f"{engine.array}:{engine.pe}:{engine.tokens}x{engine.reduce}x{engine.outputs}"
    print(
        f"{name:<28}{f'{gemm.m}x{gemm.k}x{gemm.n}':>16}{run.cycles:>10,}{ours:>10,}{used:>9.2%}{peer:>12,}"
        f"{'' if run.cycles <= peer else f'  {run.cycles - peer} more'}"
        f"{'' if run.cycles == ours else '  differs from the formula'}",
        flush=True,
    )
    return run.cycles == ours and run.cycles <= peer


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gemm_cycles")
    parser.add_argument("--pe", default="mac")
    parser.add_argument("arrays", nargs="*", default=list(SHAPES))
    options = parser.parse_args(arguments)
    print(f"{'array':<28}{'m x k x n':>16}{'RTL':>10}{'formula':>10}{'used':>9}{'SCALE-Sim':>12}")
    wrong = 0
    for array in options.arrays:
        if options.pe not in ENGINES[array].pes:
            continue
        tokens, reduce, outputs = SHAPES[array]
        engine = make_engine(
            array,
            options.pe,
            tokens=tokens,
            reduce=reduce,
            outputs=outputs,
            **OPTIONS.get(array, {}),
        )
        assert engine.macs == SIDE * SIDE
        dataflow = weight_stationary if array == "systolic_ws" else output_stationary
        with tempfile.TemporaryDirectory() as folder:
            build_engine(engine, Path(folder))
            for gemm in PRODUCTS:
                wrong += not _compare(engine, gemm, dataflow(gemm, SIDE, SIDE), Path(folder))
        k = 256
        lanes = engine.tokens * reduce * outputs * engine.beats(k)
        steady = lanes / engine.macs / engine.interval(k, engine.tokens)
        print(
            f"{'':<28}{'steady, k=256':>16}{engine.interval(k, engine.tokens):>10,} a tile{steady:>12.2%}"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
