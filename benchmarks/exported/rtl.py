# SPDX-License-Identifier: Apache-2.0
"""The RTL of an exported project, read by others than those who wrote it: pyslang and Verilator."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyslang import DiagnosticEngine, DiagnosticSeverity
from pyslang.ast import Compilation
from pyslang.syntax import SyntaxTree

from sim import verilator

__all__ = ["DSP48E2", "Rtl", "lint", "read"]

DSP48E2 = Path(__file__).parent.parent.parent / "hw" / "dsp" / "dsp48e2.v"
"""Our model of the slice: its ports and parameters are those of the vendor's."""


@dataclass(frozen=True)
class Rtl:
    """An elaborated design.

    Attributes
    ----------
    top : name of the top module
    ports : name -> (``"In"`` or ``"Out"``, bits)
    errors : what pyslang says is wrong
    """

    top: str
    ports: dict[str, tuple[str, int]]
    errors: tuple[str, ...]
    compilation: Any

    @cached_property
    def buses(self) -> dict[str, int]:
        """AXI interfaces by the names of their ports -> bits of data."""
        ends = {"s_axi_": "_awaddr", "m_axi_": "_awaddr"}
        return {
            name.removesuffix(end): self.ports[name.removesuffix(end) + "_wdata"][1]
            for name in self.ports
            for start, end in ends.items()
            if name.startswith(start) and name.endswith(end)
        }

    def instance(self, path: str) -> bool:
        """Whether there is an instance of that path below the top."""
        found = self.compilation.getRoot().lookupName(f"{self.top}.{path.replace('/', '.')}")
        return found is not None


def read(files: Sequence[Path], top: str) -> Rtl:
    """Parse and elaborate files with pyslang; vendor cells from our model of them."""
    cells = [DSP48E2] if any("DSP48E2 #(" in f.read_text() for f in files) else []
    compilation = Compilation()
    for file in (*files, *cells):
        compilation.addSyntaxTree(SyntaxTree.fromFile(str(file)))
    found = {i.name: i for i in compilation.getRoot().topInstances}
    engine = DiagnosticEngine(compilation.sourceManager)
    errors = []
    for diagnostic in compilation.getAllDiagnostics():
        severity = engine.getSeverity(diagnostic.code, diagnostic.location)
        if severity in (DiagnosticSeverity.Error, DiagnosticSeverity.Fatal):
            errors.append(f"pyslang: {engine.formatMessage(diagnostic)}")
    if top not in found:
        errors.append(f"pyslang: no module {top} that nobody instantiates, only {', '.join(found)}")
        return Rtl(top, {}, tuple(errors), compilation)
    ports = {
        port.name: (port.direction.name, port.type.bitWidth) for port in found[top].body.portList
    }
    return Rtl(top, ports, tuple(errors), compilation)


def lint(files: Sequence[Path], top: str, waivers: Path | None, *options: str) -> list[str]:
    """What ``verilator --lint-only -Wall`` says, a line each, with a list of waivers."""
    before = [waivers] if waivers is not None else []
    run = subprocess.run(
        ["verilator", "--lint-only", "-Wall", "-Wno-fatal", "--top-module", top, *options, *before, *files],
        env=verilator.environment(), capture_output=True, text=True,
    )  # fmt: skip
    said = [line for line in run.stderr.splitlines() if line.startswith("%")]
    if run.returncode and not said:
        said.append(f"verilator ended with {run.returncode}: {run.stderr[-300:]}")
    return said
