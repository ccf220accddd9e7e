# SPDX-License-Identifier: Apache-2.0
"""`hwgen verify`, offline, on hwgen's own components: the grade of each, and what it is made of.

Small instances of what every build is made of, each against its golden model.

    python benchmarks/verify_grades.py [-o grades.json] [NAME ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.verify_strangers import figures
from designs.progress import SilentProgress
from generators.engine import EngineRequest, write_engine
from generators.verilog import emit
from hw.memory.buffers import Queue, RingMemory
from hw.memory.burst import BurstCutter
from hw.sfu.activation import ActivationPair
from hw.sfu.argmax import ArgMax
from hw.sfu.layernorm import InverseRoot, NormLanes, NormSums
from hw.sfu.product import GatedProduct
from hw.sfu.requantise import Requantise
from hw.sfu.rotary import Rotary
from hw.sfu.softmax import Exp2Lanes, Reciprocal, RowMaximum
from hw.unit import Unit
from sim.verify.campaign import Settings, run_campaign
from sim.verify.formal import Effort
from sim.verify.references import Reference, find_reference, reference_of
from sim.verify.subject import elaborate

UNITS: dict[str, Callable[[], Unit]] = {
    "queue": lambda: Queue(bits=8, depth=4),
    "burst cutter": lambda: BurstCutter(limit=4),
    "requantise": lambda: Requantise(1, 16, 2),
    "gated product": lambda: GatedProduct(1),
    "argmax": lambda: ArgMax(2, 4),
    "row maximum": lambda: RowMaximum(2, 2),
    "ring memory": lambda: RingMemory(bits=4, lanes=2, depth=4),
    "activation pair": lambda: ActivationPair("gelu"),
    "rotary": lambda: Rotary(2, 1),
    "exp2 lanes": lambda: Exp2Lanes(2, 10, 2),
    "reciprocal": lambda: Reciprocal(6, 2),
    "norm sums": lambda: NormSums(4, 2),
    "inverse root": lambda: InverseRoot(4, 18, 33),
    "norm lanes": lambda: NormLanes(4, 2),
}
ENGINES = {
    "tree": "tree:mac:1x4x1", "matrix": "matrix:mac:1x2x2", "systolic_os": "systolic_os:mac:2x1x2",
    "systolic_ws": "systolic_ws:mac:2x2x2", "cube": "cube:mac:2x2x2", "column": "column:opt4e:2x4x2",
    "tree opt1": "tree:opt1:1x4x1",
}  # fmt: skip


def _rtl(name: str, folder: Path) -> tuple[list[Path], str, Reference | None]:
    """Files, top and golden model of a component."""
    if name in ENGINES:
        facts = write_engine(
            EngineRequest(ENGINES[name], x_bits=4, w_bits=4, k=8), folder / "engine"
        )
        rtl = folder / "engine" / "rtl"
        return sorted(rtl.iterdir()), facts["top"], find_reference(rtl, facts["top"])
    unit = UNITS[name]()
    emission = emit(unit)
    files = []
    for file, text in emission.files.values():
        (folder / file).write_text(text)
        files.append(folder / file)
    return files, emission.top, reference_of(unit)


def grade(name: str, folder: Path) -> dict[str, Any]:
    """Verify one component; its figures."""
    started = time.monotonic()
    files, top, reference = _rtl(name, folder)
    subject = elaborate(files, folder / "n", top=top)
    settings = Settings(rounds=3, target=98, seconds=150, cycles=2000, effort=Effort(5, 20))
    result = run_campaign(subject, settings, folder / "v", SilentProgress(), reference=reference)
    row = {"name": name, "top": top, **figures(result), "status": result.status}
    terms = {
        t.name: round(t.points, 1) if t.points is not None else None for t in result.grade.terms
    }
    return {**row, "terms": terms, "seconds": round(time.monotonic() - started)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.names or [*UNITS, *ENGINES]:
        with tempfile.TemporaryDirectory() as folder:
            row = grade(name, Path(folder))
        rows.append(row)
        print(
            "{name:14} {cells:5} cells  grade {percent:5}  {killed}/{mutants} killed, {equivalent} equivalent, "
            "{killed_by_properties_percent} % by properties, {proven} proven, {bounded} bounded, {terms}, "
            "{seconds} s".format(**row), flush=True,
        )  # fmt: skip
        if arguments.out:
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
