# SPDX-License-Identifier: Apache-2.0
"""`hwgen verify`, offline, on modules that nobody here wrote: what the mined properties are worth.

For each module: properties that say something and are proven or hold to the depth stated, the share of the
last round's proposals that was falsified, and mutants killed by properties alone. The modules come with
packages of PyPI (`pip install --group strangers`).

    python benchmarks/verify_strangers.py [-o strangers.json] [NAME ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from designs.errors import DesignError
from designs.progress import SilentProgress
from sim.errors import ToolError
from sim.verify.campaign import Result, Settings, run_campaign
from sim.verify.formal import Effort
from sim.verify.subject import elaborate


@dataclass(frozen=True)
class Module:
    """A module in a package.

    Parameters
    ----------
    files : in the package.
    reset : if it is not found by itself.
    """

    package: str
    files: tuple[str, ...]
    top: str
    what: str
    parameters: Mapping[str, int] = field(default_factory=dict)
    reset: str | None = None


_MOR1KX = "verilog/rtl/verilog"
_SERV = "verilog/rtl"
MODULES = (
    Module("libsv", ("counters/binary_counter.sv",), "binary_counter", "counter"),
    Module("pythondata_cpu_serv", (f"{_SERV}/serv_state.v",), "serv_state", "control of a bit-serial CPU"),
    Module("pythondata_cpu_serv", (f"{_SERV}/serv_rf_ram_if.v",), "serv_rf_ram_if", "register file port"),
    Module("pythondata_cpu_serv", (f"{_SERV}/serv_aligner.v",), "serv_aligner", "fetch aligner"),
    Module("pythondata_cpu_serv", ("verilog/servant/servant_timer.v",), "servant_timer", "bus timer"),
    Module("pythondata_cpu_picorv32", ("verilog/picosoc/simpleuart.v",), "simpleuart", "UART"),
    Module("pythondata_cpu_picorv32", ("verilog/picorv32.v",), "picorv32_pcpi_div", "sequential divider"),
    Module("pythondata_cpu_mor1kx", (f"{_MOR1KX}/mor1kx_ticktimer.v",), "mor1kx_ticktimer", "timer of a CPU"),
    Module("pythondata_cpu_mor1kx", (f"{_MOR1KX}/mor1kx_pic.v",), "mor1kx_pic", "interrupt controller"),
    Module("pythondata_cpu_mor1kx", (f"{_MOR1KX}/mor1kx_bus_if_wb32.v",), "mor1kx_bus_if_wb32", "Wishbone master"),
    Module("pythondata_cpu_mor1kx", (f"{_MOR1KX}/mor1kx_store_buffer.v", f"{_MOR1KX}/mor1kx_simple_dpram_sclk.v"),
           "mor1kx_store_buffer", "store buffer", {"DEPTH_WIDTH": 2, "OPTION_OPERAND_WIDTH": 8}),
    Module("pythondata_cpu_mor1kx", (f"{_MOR1KX}/mor1kx_branch_predictor_saturation_counter.v",),
           "mor1kx_branch_predictor_saturation_counter", "branch predictor"),
)  # fmt: skip


_LINE = (
    "{name:20} {cells:5} cells  {proven:3} proven {bounded:2} bounded  {falsified_last_percent:4} % falsified  "
    "{killed_by_properties_percent:5} % of mutants by properties  grade {percent}  {seconds} s"
)


def grade(module: Module, folder: Path) -> dict[str, Any]:
    """Verify one module; its figures."""
    found = importlib.util.find_spec(module.package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"{module.package} is missing: pip install --group strangers")
    root = Path(next(iter(found.submodule_search_locations)))
    files = [root / name for name in module.files]
    started = time.monotonic()
    subject = elaborate(
        files, folder / "n", top=module.top, parameters=module.parameters, reset=module.reset,
        include=[root.parent, *sorted({path.parent for path in files})],
    )  # fmt: skip
    # A target that is never reached: what is measured comes after feedback.
    settings = Settings(rounds=3, target=100.1, seconds=240, cycles=1500, effort=Effort(5, 20))
    result = run_campaign(subject, settings, folder, SilentProgress())
    return {
        "name": module.top,
        "what": module.what,
        **figures(result),
        "seconds": round(time.monotonic() - started),
    }


def figures(result: Result) -> dict[str, Any]:
    """What a campaign came to."""
    terms = {t.name: t for t in result.grade.terms}
    properties, mutants = terms["properties"].counts, terms["mutants"].counts
    last = result.rounds[-1]
    visible = int(mutants["total"]) - int(mutants["equivalent"])
    return {
        "cells": result.subject.cells,
        "proven": properties["proven"], "bounded": properties["bounded"], "falsified": properties["falsified"],
        "vacuous": properties["vacuous"], "tautology": properties["tautology"],
        "effective": properties["effective"],
        "falsified_last_percent": round(100 * last.falsified_new / max(1, last.standing + last.falsified_new), 1),
        "mutants": mutants["total"], "equivalent": mutants["equivalent"], "killed": mutants["killed"],
        "killed_by_properties_percent": round(100 * int(mutants["by_properties"]) / max(1, visible), 1),
        "percent": result.grade.percent, "rounds": len(result.rounds), "notes": list(result.notes),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("-o", "--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for module in MODULES:
        if arguments.names and module.top not in arguments.names:
            continue
        with tempfile.TemporaryDirectory() as name:
            try:
                row = grade(module, Path(name))
            except (DesignError, ToolError) as error:
                print(f"{module.top:20} {error}", flush=True)
                continue
        rows.append(row)
        print(_LINE.format(**row), flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
