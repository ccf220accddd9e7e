# SPDX-License-Identifier: Apache-2.0
"""C-simulation of HLS designs: g++, the vendor's arbitrary-precision integers, and our own bounded streams."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from designs.errors import DesignError
from designs.progress import Progress
from sim.compiler import find_compiler
from sim.errors import SimulationError, ToolError
from sim.processes import Command, run_all, started

__all__ = ["HlsResult", "is_hls", "simulate"]

PROGRAM = "csim/kernel"
DEADLOCK, LEFT_OVER = 4, 5
"""Exit codes of the streams in hls_templates/csim/fibers.h."""


@dataclass(frozen=True)
class HlsResult:
    """What a C-simulation compared.

    Attributes
    ----------
    values, wrong : of all outputs, and how many of them differ from the golden model
    lines : what the test bench said of each output
    seconds : of the run
    """

    values: int
    wrong: int
    lines: tuple[str, ...]
    seconds: float

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.wrong == 0


def is_hls(out: Path) -> bool:
    """Whether a folder is an HLS design that hwgen wrote."""
    try:
        return json.loads((out / "design.json").read_text())["backend"] == "hls"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def simulate(out: Path, progress: Progress) -> HlsResult:
    """Compile an HLS design unless that is done, and run it.

    Raises
    ------
    DesignError
        If files of the design are missing.
    ToolError
        If there is no C++ compiler, no ``ap_int.h``, or the compiler fails.
    SimulationError
        If the processes wait for each other, or leave something in a stream.
    """
    sources = [out / "src" / name for name in ("kernel.cpp", "host.cpp", "kernel.h", "ops.h")]
    for path in (*sources, out / "data"):
        if not path.exists():
            raise DesignError(f"{path} is missing; build {out} again")
    program = out / PROGRAM
    newest = max(p.stat().st_mtime for p in (*sources, *(out / "csim").glob("*.h")))
    if not program.is_file() or program.stat().st_mtime <= newest:
        with progress.step("compile"):
            _compile(out)
    began = time.monotonic()
    with progress.step("run") as step:
        code, lines = _run(program, out)
        seconds = time.monotonic() - began
        step.detail = f"{seconds:.1f} s"
    total = next((m for m in map(_TOTAL.fullmatch, lines) if m), None)
    if code == DEADLOCK:
        raise SimulationError(f"{out}: processes wait for each other; {' '.join(lines)}")
    if code == LEFT_OVER:
        raise SimulationError(f"{out}: not all was taken; {' '.join(lines)}")
    if total is None or code not in (0, 1):
        raise SimulationError(f"{out}: the C-simulation ended with {code}; {' '.join(lines[-3:])}")
    return HlsResult(
        int(total[1]), int(total[2]), tuple(x for x in lines if not _TOTAL.fullmatch(x)), seconds
    )


_TOTAL = re.compile(r"values (\d+) wrong (\d+)")


def _run(program: Path, out: Path) -> tuple[int, list[str]]:
    with started(
        [program.resolve(), out.resolve()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        lines = list(_lines(process))
        return process.wait(), lines


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.decode(errors="replace").rstrip("\n")


def _compile(out: Path) -> None:
    command = [
        find_compiler("the C-simulation"), "-O2", "-std=c++17", "-Wno-unknown-pragmas", "-Wno-unused-label",
        "-I.", "-Icsim", "-Isrc", f"-I{integers()}", "csim/all.cpp", "-o", f"{PROGRAM}.new",
    ]  # fmt: skip
    log = out / "csim" / "compile.log"
    log.unlink(missing_ok=True)
    run_all([Command("the C++ compiler", command)], folder=out, log=log)
    (out / f"{PROGRAM}.new").replace(out / PROGRAM)


def integers() -> Path:
    """Folder of ``ap_int.h``: of an installed Vitis HLS, or of the package ``hls4ml``.

    Raises
    ------
    ToolError
        If neither is there.
    """
    for variable in ("XILINX_HLS", "XILINX_VITIS"):
        folder = Path(os.environ.get(variable, "/nonexistent")) / "include"
        if (folder / "ap_int.h").is_file():
            return folder
    found = importlib.util.find_spec("hls4ml")
    for place in () if found is None else found.submodule_search_locations or ():
        folder = Path(place) / "templates" / "vivado" / "ap_types"
        if (folder / "ap_int.h").is_file():
            return folder
    raise ToolError(
        "ap_int.h is not found: install Vitis HLS and set XILINX_HLS, or pip install hls4ml, which brings it"
    )
