# SPDX-License-Identifier: Apache-2.0
"""Packed products: limits of the fields, exactness on both sides of them, products of a slice and cycle in RTL.

``python -m benchmarks.dsp_packing [--no-rtl]``

Limits beside those of the literature (constant of half the range: WP486, FlightLLM, and the prototypes of this engine).
Every layout is tried on all corners of its operands and on random ones, at the limit and one product later. In RTL the
array ``tree:dsp_packed`` multiplies tiles of K = 4096, every row compared with numpy; its slices are counted by yosys.
"""

import argparse
import sys
import tempfile
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.engine_run import build_engine, run_engine
from benchmarks.slices import map_unit
from hw.arrays import accumulator_bits, make_engine
from hw.dsp.packing import Packing, acts, both, weights

__all__ = ["LAYOUTS", "agree", "main"]

LAYOUTS: dict[str, tuple[Packing, int | None]] = {
    "W8A8 2 weights": (weights(2, 8, 8), 7),
    "W8A8 2 weights, no -128": (weights(2, 8, 8, symmetric=True), 8),
    "W8A8 2 activations": (acts(2, 8, 8), 7),
    "W4A8 2 weights": (weights(2, 4, 8), 2047),
    "W4A8 2 weights, no -8": (weights(2, 4, 8, symmetric=True), 2340),
    "W3A8 3 weights, no -4": (weights(3, 3, 8, symmetric=True), 5),
    "ternary A8 3 weights": (weights(3, 2, 8, symmetric=True), 15),
    "W4A4 2 x 2": (both(4, 4), 15),
    "W4A4 2 x 2, no -8": (both(4, 4, symmetric=True), 18),
}
"""Layouts, and the products of a field that a prototype of the same operands held."""

RTL = {
    "W8A8": (8, 8, 1, 2.0),
    "W8A8, 4 tokens": (8, 8, 4, 2.0),
    "W4A8": (4, 8, 1, 2.0),
    "W4A4": (4, 4, 2, 4.0),
}
"""Widths, token rows, and products of a slice and cycle that are wanted."""


def agree(packing: Packing, products: int, constant: int, carry: int) -> bool:
    """Whether the fields of chains of so many products are exact, at all corners and on 200 random chains."""
    rng = np.random.default_rng(2)
    wide_count, narrow_count = packing.wide.count, packing.narrow.count
    ends = np.array(list(product((0, 1), repeat=wide_count + narrow_count)))
    wide = np.where(ends[:, :wide_count], packing.wide.high, packing.wide.low)
    narrow = np.where(ends[:, wide_count:], packing.narrow.high, packing.narrow.low)
    chains = [
        (np.repeat(wide[:, None], products, 1), np.repeat(narrow[:, None], products, 1)),
        (rng.integers(packing.wide.low, packing.wide.high + 1, (200, products, wide_count)),
         rng.integers(packing.narrow.low, packing.narrow.high + 1, (200, products, narrow_count))),
    ]  # fmt: skip
    for w, x in chains:
        exact = np.einsum("bni,bnj->bij", w, x).reshape(len(w), -1)
        if (packing.fields(packing.chain(w, x, constant), carry) != exact).any():
            return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; 1 if a layout is not exact up to its limit, or a slice makes fewer products than wanted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dsp_packing")
    parser.add_argument("--no-rtl", dest="rtl", action="store_false", help="limits only")
    options = parser.parse_args(arguments)
    missed = 0
    print(
        f"{'layout':26}{'products':>9}{'field':>7}{'limit':>7}{'prototype':>11}  exact at the limit, one later"
    )
    for name, (packing, known) in LAYOUTS.items():
        limit = packing.limit
        constant, carry = packing.constant(limit), packing.carry(limit)
        at, later = (agree(packing, n, constant, carry) for n in (limit, limit + 1))
        missed += not at or later
        print(
            f"{name:26}{packing.products:9}{packing.field:7}{limit:7}{known or '':>11}  {at}, {later}"
        )
    if options.rtl:
        print(f"\n{'tree:dsp_packed, K=4096':26}{'slices':>9}{'products a slice and cycle':>28}{'wanted':>8}"
              f"{'busy, fill + drain':>20}{'LUT a slice':>13}")  # fmt: skip
        for name, (w_bits, x_bits, tokens, wanted) in RTL.items():
            missed += not _run(name, w_bits, x_bits, tokens, wanted)
    print(
        "FINN's 4 x 4 MVU: 4 products a slice, high parts recovered in LUTs; WP486: 2 of W8A8, read after 7"
    )
    return 1 if missed else 0


def _run(name: str, w_bits: int, x_bits: int, tokens: int, wanted: float) -> bool:
    k, rng = 4096, np.random.default_rng(3)
    engine = make_engine(
        "tree", "dsp_packed", tokens=tokens, reduce=16, outputs=16, w_bits=w_bits, x_bits=x_bits,
        acc_bits=accumulator_bits(k, x_bits, w_bits),
    )  # fmt: skip
    x, w = (1 << (bits - 1) for bits in (x_bits, w_bits))
    tiles = [(rng.integers(-x, x, (tokens, k)), rng.integers(-w, w, (k, 16))) for _ in range(6)]
    with tempfile.TemporaryDirectory(prefix="hwgen-packing-") as folder:
        build_engine(engine, Path(folder))
        one = run_engine(engine, tiles[:1], Path(folder), cycles=100_000, once=True)
        many = run_engine(engine, tiles, Path(folder), cycles=100_000, once=True)
    mapped = map_unit(engine)
    slices = mapped.cells["DSP48E2"]
    real = engine.macs * (many.taken - one.taken) / (many.cycles - one.cycles) / slices
    busy = len(tiles) * engine.beats(k) / many.cycles  # fill and drain included
    print(
        f"{name:26}{slices:9}{real:28.3f}{wanted:8.2f}{busy:20.1%}{mapped.lut_per_slice:13.2f}",
        flush=True,
    )
    return abs(real - wanted) < 0.005 and busy >= 0.95


if __name__ == "__main__":
    sys.exit(main())
