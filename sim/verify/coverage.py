# SPDX-License-Identifier: Apache-2.0
"""Coverage of a recorded stimulus by Verilator; a second simulator that must agree with the first."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from designs.cache import cache_folder, digest
from sim import verilator
from sim.compiler import find_compiler
from sim.errors import ToolError
from sim.verify.checker import Checker
from sim.verify.evaluate import Trace, Values
from sim.verify.subject import Port, Subject
from sim.verify.tools import run

__all__ = ["Coverage", "Point", "measure"]

_ENTRY = re.compile(r"C '(?P<key>.*)' (?P<count>\d+)\s*$")
_CHUNK = 32
_KINDS = ("line", "branch", "expr", "toggle")


@dataclass(frozen=True)
class Point:
    """A thing that was or was not covered."""

    kind: str
    file: str
    line: int
    what: str
    count: int


@dataclass(frozen=True)
class Coverage:
    """What a stimulus reached.

    Parameters
    ----------
    points : of the design's own source.
    agrees : whether Verilator's outputs equal the recorded ones, and no property is violated there.
    note : why not.
    """

    points: tuple[Point, ...]
    agrees: bool
    note: str = ""

    def share(self, kind: str) -> tuple[int, int]:
        """Points of a kind that were covered, and all."""
        chosen = [p for p in self.points if p.kind == kind]
        return sum(p.count > 0 for p in chosen), len(chosen)

    def missed(self) -> list[Point]:
        return [p for p in self.points if not p.count]


def measure(subject: Subject, trace: Trace, checker: Checker | None, folder: Path) -> Coverage:
    """Play the inputs of a trace to the design as Verilator compiles it.

    Parameters
    ----------
    checker : properties that are looked at too, or None.

    Raises
    ------
    ToolError
        If Verilator or the compiler cannot work with the design.
    """
    folder.mkdir(parents=True, exist_ok=True)
    driven = [p for p in subject.ports if p.direction == "input" and p.name != subject.clock]
    _packed(driven, trace).tofile(folder / "inputs")
    _packed(subject.outputs, trace).tofile(folder / "outputs")
    (folder / "top.sv").write_text(_top(subject, driven, checker))
    if checker is not None:
        (folder / "checker.v").write_text(checker.text)
    program = _build(subject, folder, checker is not None)
    command = [program, "inputs", "outputs", str(trace.cycles), "coverage.dat", str(subject.edge)]
    code, text = run(command, folder, seconds=300, log="replay.log")
    if code or not (folder / "coverage.dat").exists():
        raise ToolError(
            f"the simulation of {subject.top} by Verilator failed: {text.strip()[-200:]}"
        )
    broken = re.search(r"^(differs|violated) (\d+)", text, re.M)
    note = f"Verilator {broken[1]} in cycle {broken[2]}" if broken else ""
    return Coverage(_points(folder / "coverage.dat"), broken is None, note)


def _packed(ports: Sequence[Port], trace: Trace) -> np.ndarray:
    """Rows of words: the ports one after another from the lowest bit, and at least three words."""
    row: Values = np.zeros(trace.cycles, dtype=object)
    at = 0
    for port in ports:
        row = row | (trace.values[port.name].astype(object) << at)
        at += port.width
    words = _words(at)
    return np.stack(
        [(row >> (32 * k) & 0xFFFFFFFF).astype(np.uint32) for k in range(words)], axis=1
    )


def _words(bits: int) -> int:
    return max(3, -(-bits // _CHUNK))


def _top(subject: Subject, driven: Sequence[Port], checker: Checker | None) -> str:
    """A module around the design whose ports are two words, whatever the design's are called."""
    wide_in = 32 * _words(sum(p.width for p in driven))
    wide_out = 32 * _words(sum(p.width for p in subject.outputs))
    pins, at = [f".{subject.clock}(hwgen_clock)"], 0
    reset = "1'b0"
    for port in driven:
        pins.append(f".{port.name}(hwgen_in[{at} +: {port.width}])")
        if subject.reset and port.name == subject.reset.name:
            reset = f"{'' if subject.reset.level else '~'}hwgen_in[{at}]"
        at += port.width
    out_at = 0
    for port in subject.outputs:
        pins.append(f".{port.name}(hwgen_out[{out_at} +: {port.width}])")
        out_at += port.width
    parameters = ", ".join(f".{name}({value})" for name, value in subject.parameters)
    lines = [
        "/* verilator coverage_off */",
        f"module hwgen_top(input hwgen_clock, input [{wide_in - 1}:0] hwgen_in,",
        f"  output [{wide_out - 1}:0] hwgen_out, output hwgen_bad);",
        f"  {subject.top}{f' #({parameters})' if parameters else ''} hwgen_dut({', '.join(pins)});",
        f"  assign hwgen_out[{wide_out - 1}:{out_at}] = 0;" if out_at < wide_out else "",
    ]
    if checker is not None:
        ports = [f".{port}(hwgen_dut.{name})" for port, _, name in checker.ports]
        connected = ", ".join([".clk(hwgen_clock)", f".rst({reset})", ".pick(1'b1)", *ports])
        lines.append(f"  wire [{max(1, len(checker.properties)) - 1}:0] hwgen_wrong;")
        lines.append(
            f"  hwgen_checker hwgen_check({connected}, .bad(hwgen_wrong), .hit(), .env());"
        )
        lines.append("  assign hwgen_bad = |hwgen_wrong;")
    else:
        lines.append("  assign hwgen_bad = 1'b0;")
    return "\n".join([*lines, "endmodule", ""])


def _build(subject: Subject, folder: Path, checked: bool) -> Path:
    root = verilator.root()
    environment = verilator.environment()
    own = ["checker.v"] if checked else []
    includes = [f"-I{path}" for path in subject.include]
    defines = [f"-D{name}" for name in subject.define]
    command = [
        "perl", root / "bin" / "verilator", "--cc", "--coverage-line", "--coverage-toggle",
        "--coverage-expr", "--no-timing", "-Wno-fatal", "-Wno-lint", "-Wno-style", "-O3", "--x-assign", "0",
        "--x-initial", "fast", "--top-module", "hwgen_top", "--Mdir", "obj", *includes, *defines,
        "top.sv", *own, *(p.resolve() for p in subject.files),
    ]  # fmt: skip
    extra = {"VERILATOR_ROOT": environment["VERILATOR_ROOT"]}
    code, text = run(command, folder, seconds=300, log="verilator.log", extra=extra)
    if code:
        errors = [line for line in text.splitlines() if line.startswith("%Error")]
        raise ToolError(f"Verilator cannot read it: {(errors or [text.strip()[-200:]])[0]}")
    sources = sorted((folder / "obj").glob("*.cpp"))
    (folder / "all.cpp").write_text("".join(f'#include "obj/{p.name}"\n' for p in sources))
    (folder / "replay.cc").write_text(Path(__file__).with_name("replay.cc").read_text())
    compiler = find_compiler("the simulator of a design")
    flags = _flags()
    objects = _runtime(compiler, flags)
    command = [
        compiler,
        *flags,
        "-O0",
        "-Iobj",
        "all.cpp",
        "replay.cc",
        *objects,
        "-o",
        "replay",
        "-pthread",
    ]
    code, text = run(command, folder, seconds=600, log="compile.log")
    if code:
        raise ToolError(f"{compiler} failed: {text.strip()[-200:]}")
    return folder / "replay"


def _flags() -> list[str]:
    include = verilator.root() / "include"
    return [
        "-std=c++20",
        "-w",
        "-DVM_COVERAGE=1",
        "-DVM_TRACE=0",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
    ]


def _runtime(compiler: str, flags: Sequence[str]) -> list[Path]:
    """Verilator's own C++, compiled once for this machine."""
    names = ("verilated", "verilated_cov", "verilated_threads")
    key = digest("verify-runtime", verilator.version(), compiler, *flags, sys.platform)
    folder = cache_folder() / f"verify-{key[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for name in names:
        built = folder / f"{name}.o"
        if not built.exists():
            fresh = folder / f".{name}.{os.getpid()}.o"
            source = verilator.root() / "include" / f"{name}.cpp"
            command = [compiler, *flags, "-O1", "-c", source, "-o", fresh]
            code, text = run(command, folder, seconds=300, log=f"{name}.log")
            if code:
                raise ToolError(f"{compiler} failed: {text.strip()[-200:]}")
            fresh.replace(built)
        objects.append(built)
    return objects


def _points(path: Path) -> tuple[Point, ...]:
    """Points of the design; those of several instances are one, as covered as the most covered."""
    counts: Counter[tuple[str, str, int, str]] = Counter()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = _ENTRY.match(line)
        if found is None:
            continue
        keys = dict(part.split("\x02", 1) for part in found["key"].split("\x01") if "\x02" in part)
        kind = keys.get("page", "").split("/")[0].removeprefix("v_")
        if kind in _KINDS and Path(keys.get("f", "")).name not in ("top.sv", "checker.v"):
            point = (kind, Path(keys.get("f", "")).name, int(keys.get("l", "0")), keys.get("o", ""))
            counts[point] = max(counts[point], int(found["count"]))
    return tuple(Point(*point, count) for point, count in sorted(counts.items()))
