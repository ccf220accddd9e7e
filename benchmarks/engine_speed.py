# SPDX-License-Identifier: Apache-2.0
"""How fast Verilator simulates an engine, and that every accumulator is right meanwhile.

``python -m benchmarks.engine_speed [ENGINE ...] [--cycles N]``, e.g. ``tree:mac:1x64x64``. The
model streams a ring of random tiles without a pause; a C++ main compares each row that leaves with
numpy's result.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.engine_run import build_engine, run_engine
from hw.arrays import make_engine, parse_engine

__all__ = ["main"]

DEFAULT = ("tree:mac:1x64x64", "tree:mac:2x64x64", "systolic_os:mac:64x1x64")
# The fastest of the published generators that was measured on a machine of this kind.
PEER = "cgra4ml 32x32 (1024 MACs): 86 M MAC/s, built in 117 s"
TILES = 8


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_speed")
    parser.add_argument("engines", nargs="*", default=DEFAULT, help="array:pe:TxRxO")
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--beats", type=int, default=64, help="beats of a tile")
    options = parser.parse_args(arguments)
    for text in options.engines:
        spec = parse_engine(text)
        if spec.tokens is None or spec.reduce is None or spec.outputs is None:
            parser.error(f"{text!r} needs a shape, e.g. {text}:1x64x64")
        engine = make_engine(
            spec.array, spec.pe, spec.sparsity,
            tokens=spec.tokens, reduce=spec.reduce, outputs=spec.outputs,
        )  # fmt: skip
        rng, k = np.random.default_rng(1), options.beats * engine.reduce
        tiles = [
            (
                rng.integers(-128, 128, (engine.tokens, k)),
                rng.integers(-128, 128, (k, engine.outputs)),
            )
            for _ in range(TILES)
        ]
        with tempfile.TemporaryDirectory() as folder:
            built = build_engine(engine, Path(folder))
            run = run_engine(engine, tiles, Path(folder), cycles=options.cycles)
        print(
            f"{text:26} {engine.macs:6} MACs  built in {built:5.1f} CPU s"
            f"  {options.cycles / run.seconds / 1e3:7.1f} k cycles/s"
            f"  {run.taken * engine.macs / run.seconds / 1e6:7.0f} M MAC/s  {run.given} rows equal numpy's",
            flush=True,
        )
    print(f"peer: {PEER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
