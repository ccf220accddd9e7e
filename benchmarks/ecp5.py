# SPDX-License-Identifier: Apache-2.0
"""Clock against area of each family of engines on an ECP5, placed and routed.

``python -m benchmarks.ecp5 [--seeds N] [--clock MHZ] [--only dense|bit-weight|sparse]``. Every engine makes sixteen
products of kept 8-bit weights a cycle; families differ in what makes them, rows of one family in pipelining. Figures
are nextpnr's, of an LFE5UM-85F at its slowest speed grade. Areas are without the harness that carries the ports to six
pins, clocks with it.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from designs.progress import SilentProgress
from generators.engine import EngineRequest, load_engine, write_engine
from generators.export.project import load
from generators.place import PlacedResult, place_and_route

__all__ = ["CASES", "HEAD", "PRODUCTS", "Case", "measure", "row"]

PRODUCTS = 16


@dataclass(frozen=True)
class Case:
    """An engine of the table.

    Attributes
    ----------
    family : dense, bit-weight or sparse
    pipeline : what sets it apart, in words
    request : the engine
    """

    family: str
    pipeline: str
    request: EngineRequest


def _case(family: str, pipeline: str, spec: str, **options: Any) -> Case:
    return Case(family, pipeline, EngineRequest(spec, k=256, **options))


CASES = (
    _case("dense", "2 stages behind products and tree", "tree:mac:1x4x4"),
    _case("dense", "a register behind each level", "tree:mac:1x4x4", registers="inside"),
    _case("dense", "a product an element, sums held there", "systolic_os:mac:4x1x4"),
    _case("bit-weight", "4 levels of adders a stage", "tree:opt1:1x4x4"),
    _case("bit-weight", "2 levels", "tree:opt1:1x4x4", cut=2),
    _case("bit-weight", "1 level", "tree:opt1:1x4x4", cut=1),
    _case("sparse", "4 slots an output", "chain:dsp_packed:2:4:1x8x4", dsp="generic"),
    _case("sparse", "2 slots an output", "chain:dsp_packed:2:4:1x4x8", dsp="generic"),
)


def measure(
    cases: Sequence[Case], seeds: Sequence[int], clock_mhz: float
) -> Iterator[tuple[Case, PlacedResult]]:
    """Place and route every case with every seed."""
    for case in cases:
        with tempfile.TemporaryDirectory(prefix="hwgen-ecp5-") as name:
            out = Path(name) / "engine"
            write_engine(case.request, out)
            if load_engine(out).macs != PRODUCTS:
                raise ValueError(f"{case.request.spec} does not make {PRODUCTS} products a cycle")
            result, _ = place_and_route(
                load(out), SilentProgress(), seeds=seeds, clock_mhz=clock_mhz
            )
            yield case, result


HEAD = (
    "| family | engine | pipeline | MHz by seed | MHz | LUT | FF | DSP | G products/s | per 1,000 LUT |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def row(case: Case, result: PlacedResult) -> str:
    """A line of the table."""
    own = result.own.rounded()
    rate = PRODUCTS * result.fmax_mhz / 1e3
    tried = ", ".join(f"{seed.fmax_mhz:.1f}" for seed in result.seeds)
    cells = [
        case.family, f"`{case.request.spec}`", case.pipeline, tried, f"{result.fmax_mhz:.1f}",
        f"{own['lut']:,}", f"{own['ff']:,}", own["dsp"], f"{rate:.2f}", f"{1e3 * rate / own['lut']:.2f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Clock against area on an ECP5, placed and routed."
    )
    parser.add_argument("--seeds", type=int, default=2, help="placements of each engine")
    parser.add_argument("--clock", type=float, default=200.0, help="MHz that nextpnr aims at")
    parser.add_argument("--only", choices=sorted({case.family for case in CASES}))
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only in (None, case.family)]
    seeds = range(1, arguments.seeds + 1)
    for number, (case, result) in enumerate(measure(cases, seeds, arguments.clock)):
        if not number:
            print(f"{result.part}, {result.tool}, aimed at {result.asked_mhz:g} MHz\n")
            print("\n".join(HEAD))
        print(row(case, result), flush=True)


if __name__ == "__main__":
    main()
