# SPDX-License-Identifier: Apache-2.0
"""Exported projects name nothing that is not there, and the check of that finds what is broken."""

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.export_check import CHECKS
from benchmarks.exported import vitis
from benchmarks.exported.registers import read_header
from benchmarks.exported.rtl import Rtl, lint, read
from benchmarks.exported.tcl import VIVADO, TclError, record
from designs.progress import SilentProgress
from generators.engine import EngineRequest, write_engine
from generators.export import Options, export

pytestmark = pytest.mark.skipif(shutil.which("tclsh") is None, reason="needs tclsh")


@pytest.fixture(scope="module")
def projects(
    u280: Path, generic: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    write_engine(
        EngineRequest("cube:opt1:2x2x2"), engine := tmp_path_factory.mktemp("e") / "engine"
    )
    builds = {"vitis": u280, "vivado": u280, "quartus": generic, "openlane": engine}
    return {
        flow: export(out, flow, None, Options(), SilentProgress()).folder
        for flow, out in builds.items()
    }


@pytest.fixture(scope="module")
def designs(projects: dict[str, Path]) -> dict[str, Rtl]:
    tops = dict.fromkeys(projects, "hwgen_top")
    tops["openlane"] = json.loads((projects["openlane"] / "config.json").read_text())["DESIGN_NAME"]
    return {
        flow: read(sorted((project / "rtl").iterdir()), tops[flow])
        for flow, project in projects.items()
    }


@pytest.fixture(scope="module")
def rtl(designs: dict[str, Rtl]) -> Rtl:
    return designs["vitis"]


class TestRtl:
    def test_others_read_it(self, rtl: Rtl) -> None:
        assert not rtl.errors
        assert rtl.buses == {"s_axi_control": 32, "m_axi_g00": 128, "m_axi_g01": 128}
        assert rtl.instance("accelerator/memory") and not rtl.instance("accelerator/nothing")

    def test_lint_says_nothing(self, projects: dict[str, Path]) -> None:
        files = sorted((projects["vitis"] / "rtl").iterdir())
        assert lint(files, "hwgen_top", projects["vitis"] / "lint.vlt") == []
        kinds = {line.split(":")[0] for line in lint(files, "hwgen_top", None)}
        assert kinds == {
            "%Warning-UNUSEDSIGNAL", "%Warning-PROCASSINIT", "%Warning-SYMRSVDWORD",
            "%Warning-DECLFILENAME",
        }  # fmt: skip


@pytest.mark.parametrize("flow", CHECKS)
def test_is_complete(flow: str, projects: dict[str, Path], designs: dict[str, Rtl]) -> None:
    assert not designs[flow].errors
    assert list(CHECKS[flow](projects[flow], designs[flow])) == []


BREAKS = [
    ("vitis", "kernel.xml", 'offset="0x80"', 'offset="0x84"', "MEMORY_0 is at"),
    ("vitis", "kernel.xml", 'port="m_axi_g01" size', 'port="m_axi_g00" size', "one pointer"),
    ("vitis", "kernel.xml", 'name="m_axi_g01" mode="master"', 'name="m_axi_g01" mode="slave"', "is a slave"),
    ("vitis", "kernel.xml", 'id="2"', 'id="7"', "numbered from 0"),
    ("vitis", "kernel.xml", 'dataWidth="128"', 'dataWidth="256"', "in the RTL"),
    ("vitis", "kernel.xml", "hwgen:kernel:hwgen_top:1.0", "hwgen:kernel:hwgen_top:1.1", "in the script"),
    ("vitis", "kernel.xml", 'range="0x1000"', 'range="0x400"', "the registers need"),
    ("vitis", "kernel.xml", "ap_ctrl_hs", "ap_ctrl_chain", "must be ap_ctrl_hs"),
    ("vitis", "link.cfg", "HBM[1]", "HBM[0]", "share a memory"),
    ("vitis", "link.cfg", "HBM[1]", "HBM[32]", "the card does not have"),
    ("vitis", "link.cfg", "sp=hwgen_top_1.m_axi_g01:HBM[1]\n", "", "not every memory port"),
    ("vitis", "package_kernel.tcl", "rtl accelerator.v", "rtl accelerators.v", "accelerators.v, which is missing"),
    ("vitis", "package_kernel.tcl", "-busif $bus -clock ap_clk", "-busif $bus -clock clk", "no port clk"),
    ("vitis", "package_kernel.tcl", "lappend masters m_axi_g01\n", "", "without a clock: m_axi_g01"),
    ("vitis", "package_kernel.tcl", "{GENERATED 0x030", "{GENERATED 0x034", "register GENERATED is"),
    ("vitis", "package_kernel.tcl", "here kernel.xml", "here kernels.xml", "names no kernel.xml"),
    ("vitis", "package_kernel.tcl", "sdx_kernel_type", "sdx_kernel_typ", "no property sdx_kernel_typ"),
    ("vitis", "host/layout.h", "kGenerateArgument = 1", "kGenerateArgument = 2", "argument generate is 2"),
    ("vitis", "host/host.cpp", "HWGEN_GENERATED", "HWGEN_GENERATES", "not in hwgen_registers.h"),
    ("vitis", "host/host.py", "POSITION_ARGUMENT = 2", "POSITION_ARGUMENT = 3", "argument position is 3"),
    ("vitis", "host/host.py", "CYCLES = 0x038", "CYCLES = 0x03C", "host.py: CYCLES"),
    ("vitis", "Makefile", "rtl/hwgen_top.sv", "rtl/hwgen_tops.sv", "rtl/hwgen_tops.sv"),
    ("vitis", "README.md", "`host/host.cpp`,", "`host/main.cpp`,", "host/main.cpp is missing"),
    ("vivado", "timing.xdc", "get_ports ap_clk", "get_ports clk", "no port clk"),
    ("vivado", "floorplan.xdc", "accelerator/engine", "accelerator/engines", "no instance accelerator/engines"),
    ("vivado", "floorplan.xdc", "create_pblock pblock_engine\n", "", "no Pblock pblock_engine"),
    ("vivado", "synth_ooc.tcl", "-top hwgen_top", "-top hwgen", "the top is hwgen_top"),
    ("vivado", "synth_ooc.tcl", "here timing.xdc", "here clock.xdc", "clock.xdc is missing"),
    ("vivado", "package_ip.tcl", "0x08c 64 read-write m_axi_g01", "0x08c 64 read-write {}", "points to no bus"),
    ("quartus", "project.tcl", "here rtl accelerator.v", "here rtl accel.v", "accel.v is missing"),
    ("quartus", "project.tcl", "-name VERILOG_FILE", "-name SYSTEMVERILOG_FILE", "is a SYSTEMVERILOG_FILE"),
    ("quartus", "project.tcl", "TOP_LEVEL_ENTITY hwgen_top", "TOP_LEVEL_ENTITY top", "the top is hwgen_top"),
    ("quartus", "project.tcl", "-name DEVICE", "-name DEVICES", "no assignment DEVICES"),
    ("quartus", "project.tcl", "    interrupt\n", "", "but the clock must be virtual"),
    ("quartus", "component_hw.tcl", "awlen awlen Output 8", "awlen awlen Output 4", "as Out of 8 bits"),
    ("quartus", "component_hw.tcl", "awlen awlen Output", "awlen arlen Output", "is no arlen of m_axi_g00"),
    ("quartus", "component_hw.tcl", "associatedClock ap_clk", "associatedClock clk", "no such interface"),
    ("quartus", "component_hw.tcl", "m_axi_g01 axi4 start", "m_axi_g01 axi3 start", "no interface axi3 start"),
    ("quartus", "timing.sdc", "get_ports ap_rst_n", "get_ports rst", "no port rst"),
    ("openlane", "config.json", "CLOCK_PORT", "CLOCK_PORTS", "has no variable CLOCK_PORTS"),
    ("openlane", "config.json", '"clk"', '"clock"', "no port clock"),
    ("openlane", "config.json", "pdk::sky130*", "pdk::sky90*", "no process pdk::sky90*"),
    ("openlane", "config.json", "dir::rtl/resolve", "dir::rtl/resolved", "is missing"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("flow", "file", "before", "after", "said"), BREAKS, ids=[f"{b[1]}-{b[4]}" for b in BREAKS]
)
def test_what_is_broken_is_found(
    flow: str, file: str, before: str, after: str, said: str,
    projects: dict[str, Path], designs: dict[str, Rtl], tmp_path: Path,
) -> None:  # fmt: skip
    copy = tmp_path / "copy"
    shutil.copytree(projects[flow], copy)
    text = (copy / file).read_text()
    assert before in text
    (copy / file).write_text(text.replace(before, after, 1))
    problems = list(CHECKS[flow](copy, designs[flow]))
    assert any(said in problem for problem in problems), problems


def test_a_missing_file_is_found(projects: dict[str, Path], rtl: Rtl, tmp_path: Path) -> None:
    shutil.copytree(projects["vitis"], tmp_path / "copy")
    (tmp_path / "copy" / "rtl" / "accelerator.v").unlink()
    problems = list(vitis.check(tmp_path / "copy", rtl))
    assert any("accelerator.v, which is missing" in problem for problem in problems)
    assert any("Makefile" in problem for problem in problems)


def test_a_command_that_vivado_does_not_have(projects: dict[str, Path], tmp_path: Path) -> None:
    script = tmp_path / "package_ip.tcl"
    text = (projects["vivado"] / "package_ip.tcl").read_text()
    script.write_text(text.replace("ipx::save_core", "ipx::safe_core"))
    with pytest.raises(TclError, match='invalid command name "ipx::safe_core"'):
        record(script, VIVADO)


def test_the_header_has_every_register(projects: dict[str, Path]) -> None:
    header = read_header(projects["vitis"] / "host" / "hwgen_registers.h")
    assert header.window == 4096 and len(header.registers) > 70
    assert header.registers["MEMORY_1"] == (0x8C, 64, "read and write")
