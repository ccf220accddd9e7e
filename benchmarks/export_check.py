# SPDX-License-Identifier: Apache-2.0
"""Is an exported project complete? Every file, port, register, argument and instance that it names must exist.

    python -m benchmarks.export_check                    gpt2-medium for u280, as Vitis and Vivado projects
    python -m benchmarks.export_check PROJECT FLOW       a folder that hwgen export wrote

Read by others than those who wrote it: scripts run in tclsh with commands that only note their calls, pyslang and
Verilator (-Wall) read the RTL, and a simulation of the exported register file is asked for every register.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from benchmarks.exported import openlane, quartus, vitis, vivado
from benchmarks.exported.registers import read_header, try_registers
from benchmarks.exported.rtl import Rtl, lint, read
from designs.progress import SilentProgress
from generators.build import BuildRequest, build
from generators.export import Options, export
from hwgen.joins import joins

__all__ = ["CHECKS", "Found", "check", "main"]

CHECKS: dict[str, Callable[[Path, Rtl], Iterator[str]]] = {
    "openlane": openlane.check,
    "quartus": quartus.check,
    "vitis": vitis.check,
    "vivado": vivado.check,
}
"""What is looked at in a project of each flow."""


@dataclass(frozen=True)
class Found:
    """What one check of a project gave.

    Attributes
    ----------
    what : was looked at
    problems : one sentence each; none is right
    seconds : that it took
    """

    what: str
    problems: tuple[str, ...]
    seconds: float


def check(project: Path, flow: str, *, rtl: bool = True) -> list[Found]:
    """Check an exported project.

    Parameters
    ----------
    project : what ``hwgen export`` wrote
    flow : a key of `CHECKS`
    rtl : also lint it, and ask a simulation of the register file
    """
    found = []

    def timed(what: str, look: Callable[[], Iterable[str]]) -> None:
        began = time.monotonic()
        found.append(Found(what, tuple(look()), time.monotonic() - began))

    top = _top(project)
    files = sorted(path for path in (project / "rtl").iterdir() if path.suffix in (".v", ".sv"))
    began = time.monotonic()
    design = read(files, top)
    found.append(Found("pyslang", design.errors, time.monotonic() - began))
    timed("references", lambda: CHECKS[flow](project, design))
    if rtl:
        timed("verilator -Wall", lambda: lint(files, top, project / "lint.vlt"))
    headers = list(project.rglob("hwgen_registers.h"))
    if rtl and headers:  # an engine alone has no registers
        timed("registers", lambda: _registers(project, headers[0]))
    return found


def _top(project: Path) -> str:
    """The top module of a project: that of every accelerator, or the engine that LibreLane is told."""
    config = project / "config.json"
    return json.loads(config.read_text())["DESIGN_NAME"] if config.is_file() else "hwgen_top"


def _registers(project: Path, header: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            try_registers(project / "rtl", read_header(header).registers, Path(folder))
        except (RuntimeError, SystemExit) as error:
            return [f"the register file in simulation: {error}"]
    return []


def main(arguments: list[str] | None = None) -> int:
    """Check, and print a line for each check; 1 if something is missing."""
    parser = argparse.ArgumentParser(description="Check that exported projects are complete.")
    parser.add_argument("project", type=Path, nargs="?")
    parser.add_argument("flow", nargs="?", choices=sorted(CHECKS))
    parser.add_argument("--model", default="gpt2-medium")
    parser.add_argument("--target", default="u280")
    parser.add_argument("--flows", nargs="+", default=["vitis", "vivado"], choices=sorted(CHECKS))
    options = parser.parse_args(arguments)
    if options.project is not None and options.flow is None:
        parser.error("give the flow of the project, too")
    if options.project is not None:
        return _show(options.project.name, check(options.project, options.flow))
    warnings.simplefilter(
        "ignore", UnusedElaboratable
    )  # sizes are asked of units that are not built
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "build"
        build(BuildRequest(options.model, options.target, out), SilentProgress(), joins())
        for flow in options.flows:
            project = export(out, flow, None, Options(), SilentProgress()).folder
            name = f"{options.model}@{options.target} {flow}"
            first = flow == options.flows[0]  # the RTL of all of them is the same
            wrong |= _show(name, check(project, flow, rtl=first))
    return wrong


def _show(name: str, found: list[Found]) -> int:
    for one in found:
        verdict = f"{len(one.problems)} problems" if one.problems else "complete"
        print(f"{name:30s} {one.what:20s} {verdict:14s} {one.seconds:6.1f} s", flush=True)
        for problem in one.problems[:20]:
            print(f"    {problem}")
    return int(any(one.problems for one in found))


if __name__ == "__main__":
    sys.exit(main())
