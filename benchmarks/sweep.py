# SPDX-License-Identifier: Apache-2.0
"""How fast a sweep predicts designs, and what a second worker brings to those that are synthesised.

``python -m benchmarks.sweep [--points 200] [--model gpt2-medium] [--synth 2]``: seconds for that many designs on all
cores; then as many synthesised designs on one worker and on two, and their ratio. The load is printed, and
processor seconds, which other work does not change.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from designs.progress import SilentProgress
from generators.sweep.spec import Candidate, SweepSpec
from hwgen.sweep import sweep
from hwgen.workers import LocalWorkers, cores

__all__ = ["main", "synthesis", "time_points"]

TARGETS = {"gpt2-medium": ["u280", "u55c"], "tiny-gpt2": ["sim-small", "kv260"]}
LANES = {"gpt2-medium": [32, 64], "tiny-gpt2": [8, 16]}
SYNTH_TARGET = "ecp5-85k"
ENGINES = ("tree:mac:1x8x8", "systolic_os:mac:1x8x8", "tree:mac:2x8x8", "systolic_os:mac:2x8x8")


def spec(model: str, points: int) -> SweepSpec:
    """A space of a few hundred designs of a model."""
    return SweepSpec.model_validate(
        {
            "model": model,
            "space": {
                "target": TARGETS[model],
                "engine": ["tree:mac", "tree:dsp_packed", "systolic_os:mac", "cube:opt1"],
                "tokens": {"from": 1, "to": 8},
                "lanes": LANES[model],
                "weights": ["int8", "int4"],
                "group": [32, 64],
                "sparsity": ["dense", "2:4"],
            },
            "search": {"points": points, "seed": 1},
        }
    )


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def time_points(model: str, points: int, workers: int) -> tuple[float, float, int]:
    """Seconds, processor seconds, and possible designs of a sweep, the start of its workers included."""
    began, used = time.monotonic(), _processor_seconds()
    with tempfile.TemporaryDirectory() as folder:
        with LocalWorkers(workers) as found:
            result = sweep(spec(model, points), Path(folder) / "out", found, SilentProgress())
    possible = sum(not design.reason for design in result.designs)
    return time.monotonic() - began, _processor_seconds() - used, possible


def synthesis(points: int, workers: int) -> float:
    """Seconds to synthesise the first few designs."""
    work = [
        {"kind": "synth", "model": "tiny-gpt2", "candidate": asdict(Candidate(SYNTH_TARGET, engine)), "limit": 3600}
        for engine in ENGINES[:points]
    ]  # fmt: skip
    began = time.monotonic()
    with LocalWorkers(workers) as found:
        results = dict(found.run(work))
    wrong = [r for r in results.values() if "figures" not in r or r["figures"]["unfinished"]]
    if wrong or len(results) < points:
        raise SystemExit(f"not all were synthesised: {wrong}")
    return time.monotonic() - began


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {cores()} cores"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep")
    parser.add_argument("--model", choices=sorted(TARGETS), default="gpt2-medium")
    parser.add_argument("--points", type=int, default=200, help="designs to predict; 0: none")
    parser.add_argument(
        "--synth", type=int, default=0, help=f"to synthesise, at most {len(ENGINES)}"
    )
    options = parser.parse_args(arguments)
    if options.points:
        before = _load()
        seconds, used, possible = time_points(options.model, options.points, cores())
        print(
            f"{options.points} designs of {options.model} ({possible} possible): {seconds:.1f} s, {used:.1f} "
            f"processor seconds ({before} before, {_load()} after)"
        )
    if options.synth:
        before = _load()
        one = synthesis(options.synth, 1)
        print(f"{options.synth} synthesised for {SYNTH_TARGET}, 1 worker: {one:.0f} s", flush=True)
        two = synthesis(options.synth, 2)
        print(
            f"{options.synth} synthesised for {SYNTH_TARGET}, 2 workers: {two:.0f} s, {one / two:.2f} times as fast "
            f"({before} before, {_load()} after)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
