# SPDX-License-Identifier: Apache-2.0
"""Digit-serial elements (OPT3, OPT4C, OPT4E): cycles that an operand really takes, area and period in standard cells.

Cycles hold all that a lane waits for: other lanes, other rows, beats with fewer than two digits. An element is
measured alone, between registers: what feeds it counts for the period, not for the area.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.cells import map_alone
from generators.liberty import Liberty
from hw.arith.digits import digit_count, nonzero
from hw.arith.serial import DigitSerialPe, DigitSkippingPe
from hw.arrays import make_engine

__all__ = ["activations", "cycles_per_operand", "element"]

DATA = ("N(0,10)", "N(0,20)", "N(0,30)", "N(0,50)", "uniform")
PES = ("opt3", "opt4c", "opt4e")
WIDTH = 32  # bits of the measured accumulator


def activations(data: str, rows: int, k: int, seed: int = 1) -> np.ndarray:
    """int8 ``[rows, k]`` as the paper draws them: normal with a standard deviation, or uniform."""
    rng = np.random.default_rng(seed)
    if data == "uniform":
        return rng.integers(-128, 128, (rows, k))
    deviation = float(data.removeprefix("N(0,").removesuffix(")"))
    return np.clip(np.rint(rng.normal(0, deviation, (rows, k))), -128, 127).astype(np.int64)


def cycles_per_operand(
    pe: str, encoding: str, data: str, *, tokens: int, reduce: int, k: int
) -> float:
    """Cycles of a lane for each of its operands, over many tiles."""
    engine = make_engine("column", pe, tokens=tokens, reduce=reduce, outputs=1, encoding=encoding)
    x = activations(data, 200 * tokens, k)
    tiles = [engine.cycles(x[begin : begin + tokens]) for begin in range(0, len(x), tokens)]
    lanes = engine.macs // (engine.tokens * engine.outputs)
    return float(np.mean(tiles)) * lanes / k


def element(pe: str, elements: int, group: int) -> DigitSerialPe | DigitSkippingPe:
    """The element of ``pe`` for 8-bit operands."""
    sizes = {
        "elements": elements,
        "digits": digit_count(8),
        "w_bits": 8,
        "width": WIDTH,
        "group": group,
    }
    return DigitSkippingPe(**sizes) if pe == "opt3" else DigitSerialPe(lanes=_lanes(pe), **sizes)


def _lanes(pe: str) -> int:
    return 4 if pe == "opt4e" else 1


def _cycles() -> Iterator[str]:
    yield "cycles per operand and lane, T=4 rows (`digits`: those that are not zero)"
    yield f"{'':24}" + "".join(f"{data:>10}" for data in DATA)
    for encoding in ("csd", "ent", "booth"):
        means = [nonzero(activations(d, 400, 512), 8, encoding=encoding).mean() for d in DATA]
        yield f"{'digits, ' + encoding:24}" + "".join(f"{mean:10.2f}" for mean in means)
    for pe, encoding, reduce, k in [
        *(("opt4c", "csd", 8, k) for k in (32, 128, 512)),
        *(("opt4e", "csd", 8, k) for k in (32, 128, 512)),
        *(("opt4e", "csd", 32, k) for k in (32, 128, 512)),
        ("opt4c", "ent", 8, 128),
        ("opt4e", "ent", 8, 128),
    ]:
        found = [cycles_per_operand(pe, encoding, d, tokens=4, reduce=reduce, k=k) for d in DATA]
        name = f"{pe}, {encoding}, R={reduce}, K={k}"
        yield f"{name:24}" + "".join(f"{mean:10.2f}" for mean in found)


def _areas(library: Liberty, groups: list[int], elements: list[int]) -> Iterator[str]:
    yield f"one element, {WIDTH}-bit accumulator, {library.name}; N: weights to choose from in a lane"
    yield "pe     group  N  area um2  period ns  area x period / lane"
    for n in elements:
        best = {}
        for pe in PES:
            for group in groups:
                found = map_alone(element(pe, n, group), library)[0]
                per_lane = found.product / _lanes(pe)
                best[pe] = min(per_lane, best.get(pe, per_lane))
                yield f"{pe:6} {group:5} {n:2} {found.area:9.0f} {found.period:10.3f} {per_lane:12.0f}"
        yield f"N={n}: opt4e / opt4c {best['opt4e'] / best['opt4c']:.2f} (to reach: 0.80 at most)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--liberty", type=Path, help="cells to map to; without: cycles only")
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 3], metavar="BITS")
    parser.add_argument("--elements", type=int, nargs="+", default=[2, 8], metavar="N")
    arguments = parser.parse_args()
    for line in _cycles():
        print(line)
    if arguments.liberty:
        for line in _areas(Liberty.load(arguments.liberty), arguments.groups, arguments.elements):
            print(line, flush=True)


if __name__ == "__main__":
    main()
