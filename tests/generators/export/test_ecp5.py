# SPDX-License-Identifier: Apache-2.0
"""Place and route on ECP5 for real: the smallest engine to a bitstream, its netlist against numpy."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyosys
import pytest

from designs import target
from designs.errors import DesignError
from designs.progress import SilentProgress
from generators import manifest, place
from generators.engine import EngineRequest, load_engine, write_engine
from generators.export import Options, ecp5, export
from generators.export.project import load
from generators.report import load as load_report
from generators.report import write_report
from generators.yosys import SynthesisError
from hwgen import cli
from sim.compiler import find_compiler
from tests.generators.export.conftest import write_build

SILENT = SilentProgress()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine of four products of 3 by 3 bits."""
    out = tmp_path_factory.mktemp("engine") / "out"
    write_engine(EngineRequest("cube:opt1:1x2x2", x_bits=3, w_bits=3, k=8), out)
    return out


@pytest.fixture(scope="module")
def accelerator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small accelerator for the part, whose RTL is finished."""
    return write_build(
        tmp_path_factory.mktemp("ecp5") / "build", "ecp5-85k", ports=1, engine="tree:opt1:1x8x8"
    )


def test_an_engine_to_a_bitstream(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["synth", str(engine), "--flow", "ecp5", "--clock", "500"]) == 0
    facts = json.loads((engine / "synth-ecp5.json").read_text())
    assert facts["top"] == load_engine(engine).module_name
    assert facts["part"] == "LFE5UM-85F-6BG756C" and facts["seed"] == 1
    assert 50 < facts["fmax_mhz"] < 500
    # The path is from register to register: its two parts are the period.
    period = facts["logic_ns"] + facts["routing_ns"]
    assert period == pytest.approx(1000 / facts["fmax_mhz"], rel=0.01)
    used, harness = facts["used"], facts["harness"]
    assert 0 < harness["ff"] < used["ff"] < 400 and 0 < harness["lut"] < used["lut"] < 600
    assert used["dsp"] == 0 and facts["available"]["lut"] == target.load("ecp5-85k").lut
    bits = (engine / "ecp5" / "design.bit").read_bytes()
    assert hashlib.sha256(bits).hexdigest() == facts["bitstream_sha256"]
    assert b"LFE5UM-85F" in bits[:200] and b"\xff\xff\xbd\xb3" in bits[:400]  # the preamble
    said = capsys.readouterr()
    assert f"{facts['fmax_mhz']:.1f} MHz" in said.out
    assert "the clock of 500 MHz is missed" in said.out + said.err
    assert "Program finished normally" in (engine / "ecp5" / "nextpnr.log").read_text()
    assert manifest.alteration(engine) is None


class TestHarness:
    def test_every_port_is_in_one_chain(self, u280: Path, engine: Path) -> None:
        for out in (u280, engine):
            harness = ecp5.harness_of(load(out))
            for is_input, bits in ((True, harness.input_bits), (False, harness.output_bits)):
                ports = [port for port in harness.ports if port.is_input is is_input]
                taken = [b for port in ports for b in range(port.at, port.at + port.bits)]
                assert sorted(taken) == list(range(bits))

    def test_ports_are_those_of_the_rtl(self, u280: Path, engine: Path) -> None:
        for out in (u280, engine):
            project = load(out)
            (text,) = (
                path.read_text() for path in project.sources.values() if path.stem == project.top
            )
            head = " ".join(text[text.index(f"module {project.top} (") : text.index(");")].split())
            for port in ecp5.harness_of(project).ports:
                way = "input" if port.is_input else "output"
                width = f"[{port.bits - 1}:0] " if port.bits > 1 else ""
                assert f"{way} wire {width}{port.name}" in head
            ports = head.count("input wire") + head.count("output wire")
            assert len(ecp5.harness_of(project).ports) == ports - 2

    def test_handshakes_wait_for_the_step(self, u280: Path) -> None:
        options = Options(part="LFE5U-85F-6BG381C")
        text = ecp5.FLOW.files(load(u280), options)["harness.v"]
        assert isinstance(text, str)
        gated = [line.split("(")[0].strip(" .") for line in text.splitlines() if "& step_q" in line]
        assert "s_axi_control_awvalid" in gated and "m_axi_g00_rvalid" in gated
        assert all(name.endswith(("valid", "ready")) for name in gated) and len(gated) == 5 + 2 * 5


class TestExport:
    def test_is_what_is_placed_here(self, engine: Path, tmp_path: Path) -> None:
        done = export(engine, "ecp5", tmp_path / "e", Options(clock_mhz=33), SILENT)
        assert 'FREQUENCY PORT "clk" 33 MHZ' in (done.folder / "pins.lpf").read_text()
        make = (done.folder / "Makefile").read_text()
        for word in ecp5.place_arguments(ecp5.find_part(load(engine)), 1):
            assert word in make
        dry = subprocess.run(
            ["make", "-n", "--no-print-directory", "SEED=7", "YOSYS=y", "NEXTPNR=n", "ECPPACK=e"],
            cwd=done.folder, capture_output=True, text=True, check=True,
        )  # fmt: skip
        lines = dry.stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["y", "n", "e"] and "--seed 7" in lines[1]
        script = (done.folder / "synth.ys").read_text()
        for path in (done.folder / "rtl").iterdir():
            assert f"rtl/{path.name}\n" in script

    @pytest.mark.parametrize(
        ("number", "device", "package", "speed"),
        [
            ("LFE5UM-85F-6BG756C", "um-85k", "CABGA756", 6),
            ("LFE5U-12F-8BG256I", "12k", "CABGA256", 8),
            ("LFE5UM5G-45F-7MG285C", "um5g-45k", "CSFBGA285", 7),
        ],
    )
    def test_parts(self, number: str, device: str, package: str, speed: int) -> None:
        part = ecp5.parse_part(number)
        assert (part.device, part.package, part.speed) == (device, package, speed)

    @pytest.mark.parametrize(
        "number", ["xc7a35t", "LFE5U-85F-9BG756C", "LFE5U-85F-6BG999C", "LFE5UM-12F-6BG381C"]
    )
    def test_parts_that_are_none(self, number: str) -> None:
        with pytest.raises(DesignError, match=f"{number} is no ECP5 part .* LFE5UM-85F-6BG756C"):
            ecp5.parse_part(number)


class TestBadInput:
    def test_another_target(self, u280: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["synth", str(u280), "--flow", "ecp5"]) == 2
        said = capsys.readouterr().err
        assert "cannot take the target u280" in said and "--target ecp5-85k" in said
        assert said.count("\n") == 1 and not (u280 / "ecp5").exists()

    def test_slices_of_another_vendor(self, tmp_path: Path) -> None:
        write_engine(EngineRequest("chain:dsp_packed:2:4:1x8x4"), tmp_path / "e")
        with pytest.raises(DesignError, match=r"has slices of AMD parts .* --dsp generic"):
            place.place(tmp_path / "e", SILENT)

    def test_no_build_and_an_edited_one(self, engine: Path, tmp_path: Path) -> None:
        with pytest.raises(DesignError, match=r"no manifest.json of a finished build"):
            place.place(tmp_path, SILENT)
        (engine / "rtl" / "more.v").write_text("")
        try:
            with pytest.raises(DesignError, match=r"rtl/more.v was added"):
                place.place(engine, SILENT)
        finally:
            (engine / "rtl" / "more.v").unlink()

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--flow", "epc5"], '"epc5" is not known; did you mean ecp5?'),
            (["--clock", "10"], "--clock is of --flow ecp5"),
            (["--flow", "asic", "--seeds", "2"], "--seeds is of --flow ecp5"),
            (["--flow", "ecp5", "--period", "2"], "--period is of --flow asic"),
        ],
    )
    def test_options(self, words, said, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["synth", str(engine), *words]) == 2
        assert said in capsys.readouterr().err

    def test_tools(self, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(SynthesisError, match=r"yosys is not finished in 0.05 s"):
            place.place(engine, SILENT, limit=0.05)
        monkeypatch.setattr(place, "PACKAGE", "no-such-package")
        with pytest.raises(SynthesisError, match="nextpnr-ecp5 is missing: pip install"):
            place.place(engine, SILENT)

    def test_a_tool_that_fails(self, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        files = ecp5.FLOW.files

        def broken(project, options):
            return {**files(project, options), "harness.v": "module hwgen_harness(; endmodule\n"}

        monkeypatch.setattr(ecp5, "FLOW", ecp5.Flow("ecp5", "", broken, ""))
        with pytest.raises(
            SynthesisError, match=r"yosys failed: .*harness.v:1: ERROR.*; see .*ecp5$"
        ):
            place.place(engine, SILENT)
        assert "harness.v:1: ERROR" in (engine / "ecp5" / "yosys.log").read_text()


def test_the_report_of_a_build(accelerator: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured, here by stand-ins for the tools, is in report.json, on the page, and on the console."""
    from generators.plan import plan
    from hw.arrays import parse_engine
    from tests.generators.export.conftest import CARD

    board = target.load("ecp5-85k")
    write_report(
        accelerator, CARD, board, plan(CARD, board, parse_engine("tree:opt1:1x8x8")), seconds=1
    )

    def run(
        name: str, script: str, arguments: list[str], folder: Path, log: str, limit: float
    ) -> None:
        (folder / log).write_text(name)
        (folder / "design.config").write_text("")
        (folder / "design.bit").write_bytes(b"bits")
        seed = int(arguments[arguments.index("--seed") + 1]) if "--seed" in arguments else 0
        path = [
            {"delay": 1.5, "type": "clk-to-q", "from": {"cell": "a"}, "to": {"cell": "b"}},
            {"delay": 9.25, "type": "routing", "from": {"cell": "b"}, "to": {"cell": "c"}},
        ]
        cells = {
            cell: {"used": 10 * at, "available": 100}
            for at, cell in enumerate(("TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD"))
        }
        placed = {
            "fmax": {"clk": {"achieved": {0: 0, 1: 71.5, 2: 93.02, 3: 80}[seed], "constraint": 60}},
            "utilization": cells,
            "critical_paths": [{"from": "p", "to": "p", "path": path}, {"from": "p", "to": "q", "path": path * 3}],
        }  # fmt: skip
        (folder / "placed.json").write_text(json.dumps(placed))

    monkeypatch.setattr(place, "_run", run)
    assert cli.run(["synth", str(accelerator), "--flow", "ecp5", "--seeds", "3"]) == 0
    found = load_report(accelerator).placed
    assert found is not None and found.met and found.asked_mhz == 60
    assert (found.fmax_mhz, found.seed, len(found.seeds)) == (93.02, 2, 3)
    assert (found.logic_ns, found.routing_ns, found.path) == (1.5, 9.25, ("a", "c"))
    assert (found.used.ff, found.used.dsp, found.available.bram) == (10, 20, 100)
    page = (accelerator / "report.html").read_text()
    assert "Placed and routed" in page and ">93.0<" in page and "ecp5/design.bit" in page


def yosys_script(folder: Path, name: str) -> None:
    program = f"from pyosys import libyosys as y; y.run_pass('script {name}')"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-500:] + run.stderr[-500:]


@pytest.mark.slow
def test_netlist_computes_what_numpy_does(engine: Path, tmp_path: Path) -> None:
    """The mapped netlist, through the pins of its harness: beats are shifted in, rows out."""
    done = export(engine, "ecp5", tmp_path / "e", Options(), SILENT)
    cells = Path(pyosys.__file__).parent / "share" / "lattice" / "cells_sim_ecp5.v"
    (done.folder / "sim.ys").write_text(
        f"read_verilog -overwrite {cells}\nread_json top.json\nhierarchy -top hwgen_harness\nproc\nflatten\n"
        "opt_clean -purge\nwrite_cxxrtl -g0 netlist.cc\n"
    )
    yosys_script(done.folder, "synth.ys")
    netlist = json.loads((done.folder / "netlist.json").read_text())
    netlist["modules"] = {ecp5.HARNESS: netlist["modules"][ecp5.HARNESS]}  # without the black boxes
    (done.folder / "top.json").write_text(json.dumps(netlist))
    yosys_script(done.folder, "sim.ys")
    (done.folder / "main.cc").write_text(_PLAYER)
    runtime = cells.parents[1] / "include" / "backends" / "cxxrtl" / "runtime"
    compiler = find_compiler("a netlist")
    subprocess.run(
        [compiler, "-O1", "-std=c++17", f"-I{runtime}", "main.cc", "-o", "main"],
        cwd=done.folder,
        check=True,
    )

    made, harness = load_engine(engine), ecp5.harness_of(load(engine))
    at = {port.name: port.at for port in harness.ports}
    draw = np.random.default_rng(2)
    pins: list[int] = [1] * 8 + [0] * 4  # bit 0 reset, 1 shift, 2 step, 3 scan_in
    expected, waiting = [], []
    for k in (2, 5, 8):
        x, w = draw.integers(-4, 4, (1, k)), draw.integers(-4, 4, (k, 2))
        expected += made.golden(x, w).tolist()
        waiting += made.pack(x, w)
    for payload in [*waiting, *[None] * 16]:
        word = 1 << at["o__ready"]
        if payload is not None:
            word |= 1 << at["i__valid"] | payload << at["i__payload"]
        pins += [2 | (word >> bit & 1) << 3 for bit in range(harness.input_bits)]
        pins += [4, 0, 0]
        pins += [2] * harness.output_bits
    said = subprocess.run(
        [done.folder / "main"], input=bytes([*pins, 0]), capture_output=True, check=True
    ).stdout
    seen, cycle = [], 12
    for _ in range(len(waiting) + 16):
        cycle += harness.input_bits + 3
        # Of a shift the register behind its pin knows a cycle later, and the chain moves at the end of that.
        word = sum(said[cycle + 1 + bit] << bit for bit in range(harness.output_bits))
        cycle += harness.output_bits
        assert word >> at["i__ready"] & 1
        if word >> at["o__valid"] & 1:
            seen.append(
                made.unpack(word >> at["o__payload"] & ((1 << made.o.payload.shape().size) - 1))[
                    0
                ].tolist()
            )
    assert seen == expected


_PLAYER = r"""
#include <cstdio>
#include "netlist.cc"
// A byte of pins a cycle on standard input, scan_out of that cycle on standard output.
int main() {
    cxxrtl_design::p_hwgen__harness top;
    for (int c; (c = std::getchar()) != EOF;) {
        top.p_reset.set<unsigned>(c & 1);
        top.p_shift.set<unsigned>(c >> 1 & 1);
        top.p_step.set<unsigned>(c >> 2 & 1);
        top.p_scan__in.set<unsigned>(c >> 3 & 1);
        top.p_clk.set<unsigned>(0);
        top.step();
        std::putchar(int(top.p_scan__out.get<unsigned>()));
        top.p_clk.set<unsigned>(1);
        top.step();
    }
}
"""
