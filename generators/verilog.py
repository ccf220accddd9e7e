# SPDX-License-Identifier: Apache-2.0
"""Emission: a tree of units becomes Verilog files, one module each, every unique one once."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.back import rtlil  # pyright: ignore[reportAttributeAccessIssue]
from amaranth.hdl import ClockDomain, Fragment, Value
from amaranth.hdl._ir import PortDirection

from generators.blocks import Blocks, read_blocks
from hw.unit import Collector, TemplateUnit, Unit

__all__ = ["Emission", "emit"]


@dataclass(frozen=True)
class Emission:
    """Verilog of a design.

    Attributes
    ----------
    top : name of the top module
    files : module name -> (file name, text)
    counts : module name -> instances in the whole design (the top counts as 1)
    origins : module name -> what its unit is made by (`hw.unit.Unit.origin`), of those that say it
    blocks : the parts of the module that was to be opened, None if there was none
    """

    top: str
    files: dict[str, tuple[str, str]]
    counts: dict[str, int]
    origins: dict[str, dict[str, Any]] = field(default_factory=dict)
    blocks: Blocks | None = None

    def modules(self) -> list[dict[str, Any]]:
        """Each module as a manifest lists it: name, file, instances, and what its unit is made by."""
        return [
            {"name": name, "file": file, "count": self.counts[name], **self.origins.get(name, {})}
            for name, (file, _) in self.files.items()
        ]


def emit(top: Unit, opened: Unit | None = None) -> Emission:
    """Elaborate each unique unit of the tree below ``top`` once and return its Verilog.

    Templates are rendered as they are; Amaranth units go through yosys together, in one run.

    Parameters
    ----------
    top : the root of the tree.
    opened : an Amaranth unit of the tree whose parts and links are asked for.
    """
    collector = Collector()
    collector.add(top)
    waiting, done = [top], set()
    texts: dict[str, str] = {}
    files: dict[str, tuple[str, str]] = {}
    while waiting:
        unit = waiting.pop()
        if unit.module_name in done:
            continue
        done.add(unit.module_name)
        if isinstance(unit, TemplateUnit):
            files[unit.module_name] = (f"{unit.module_name}.sv", unit.render())
            with collector.within(unit):
                for part in unit.parts():
                    collector.add(part)
                    waiting.append(part)
            continue
        with collector.within(unit):
            texts[unit.module_name] = _rtlil(unit)
        waiting.extend(collector.units[child] for child in collector.children[unit.module_name])
    inside = None if opened is None else opened.module_name
    verilog, netlist = _verilog(texts, inside)
    for name, text in verilog.items():
        files[name] = (f"{name}.v", _finished(text, collector.units[name].shared))
    origins = {name: origin for name in files if (origin := collector.units[name].origin)}
    blocks = None
    if inside is not None:
        outputs = {
            child: {port for port, _, is_input in collector.units[child].ports() if not is_input}
            for child in collector.children[inside]
        }
        blocks = read_blocks(netlist, outputs)
    return Emission(
        top.module_name, dict(sorted(files.items())), _count(top.module_name, collector), origins, blocks,
    )  # fmt: skip


def _rtlil(unit: Unit) -> str:
    """RTLIL of one unit, its placed children as instances; always with the ports ``clk`` and ``rst``."""
    fragment = Fragment.get(unit, None)
    clock: Any = ClockDomain("sync")
    fragment.add_domains(clock)
    ports: dict[str, tuple[Value, PortDirection]] = {
        "clk": (clock.clk, PortDirection.Input),
        "rst": (clock.rst, PortDirection.Input),
    }
    for name, value, is_input in unit.ports():
        ports[name] = (value, PortDirection.Input if is_input else PortDirection.Output)
    return rtlil.convert(fragment, name=unit.module_name, ports=ports, emit_src=False)


def _verilog(texts: dict[str, str], inside: str | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Verilog of RTLIL modules and the netlist of the module ``inside``, by one run of yosys."""
    if not texts:
        return {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = []
        for module, text in texts.items():
            (folder / f"{module}.il").write_text(text)
            lines.append(f"read_rtlil {module}.il")
        lines += ["proc", "opt_clean", "memory_collect"]
        for module in texts:
            lines += [
                f"select {module} {module}.*",
                f"write_verilog -norename -noattr -selected {module}.v",
            ]
        if inside is not None:
            lines += [f"select {inside} {inside}.*", "write_json -selected netlist.json"]
        (folder / "emit.ys").write_text("\n".join(lines) + "\n")
        # Its own process: yosys writes to the terminal and ends the process on an error.
        run = subprocess.run(
            [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script emit.ys')"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        if run.returncode:
            raise RuntimeError(
                f"yosys could not write Verilog: {(run.stdout + run.stderr)[-2000:]}"
            )
        netlist = {}
        if inside is not None:
            netlist = json.loads((folder / "netlist.json").read_text())["modules"][inside]
        return {module: (folder / f"{module}.v").read_text() for module in texts}, netlist


def _finished(text: str, shared: bool) -> str:
    """Without yosys's banner; widths are as Amaranth checked them, in a style that Verilator warns of."""
    lines = [line for line in text.splitlines() if line and not line.startswith("/* Generated by")]
    if shared:
        lines.insert(1 + next(k for k, line in enumerate(lines) if line.endswith(");")),
                     "  /* verilator no_inline_module */")  # fmt: skip
    return "\n".join(["/* verilator lint_off WIDTH */", "/* verilator lint_off CASEOVERLAP */", *lines,
                      "/* verilator lint_on WIDTH */", "/* verilator lint_on CASEOVERLAP */"]) + "\n"  # fmt: skip


def _count(top: str, collector: Collector) -> dict[str, int]:
    totals: Counter[str] = Counter()

    def visit(name: str, times: int) -> None:
        totals[name] += times
        for child, each in collector.children[name].items():
            visit(child, times * each)

    visit(top, 1)
    return dict(sorted(totals.items()))
