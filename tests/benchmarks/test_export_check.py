# SPDX-License-Identifier: Apache-2.0
"""The benchmark that checks exported projects: what it prints, and that its simulation finds a register elsewhere."""

import shutil
from pathlib import Path

import pytest

from benchmarks.export_check import main
from benchmarks.exported.registers import read_header, try_registers
from designs.progress import SilentProgress
from generators.engine import EngineRequest, write_engine
from generators.export import Options, export
from generators.verilog import emit
from hw.control import ControlRegisters
from hw.control.registers import register_map


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")
def test_a_line_for_each_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_engine(EngineRequest("tree:mac:1x2x2"), tmp_path / "e")
    project = export(tmp_path / "e", "openlane", None, Options(), SilentProgress()).folder
    assert main([str(project), "openlane"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["pyslang", "references", "verilator"]
    assert all("complete" in line for line in lines)
    (project / "config.json").write_text((project / "config.json").read_text().replace("clk", "ck"))
    assert main([str(project), "openlane"]) == 1
    assert "no port ck in the RTL" in capsys.readouterr().out


@pytest.mark.slow
def test_registers_that_are_elsewhere(tmp_path: Path) -> None:
    registers = register_map(2, ["busy", "starved"])
    (tmp_path / "rtl").mkdir()
    for file, text in emit(ControlRegisters(registers)).files.values():
        (tmp_path / "rtl" / file).write_text(text)
    (tmp_path / "registers.h").write_text(registers.to_c_header())
    found = read_header(tmp_path / "registers.h").registers
    try_registers(tmp_path / "rtl", found, tmp_path / "right")
    for one, other in (("MEMORY_0", "MEMORY_1"), ("PROMPT", "GENERATE"), ("TOKEN", "CYCLES")):
        swapped = found | {one: found[other], other: found[one]}
        with pytest.raises((RuntimeError, SystemExit)):
            try_registers(tmp_path / "rtl", swapped, tmp_path / "wrong")
