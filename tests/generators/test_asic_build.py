# SPDX-License-Identifier: Apache-2.0
"""A small build in standard cells: a top with two lanes and a memory, each module once."""

import json
from pathlib import Path

import pytest

from designs import target
from designs.errors import DesignError
from designs.progress import SilentProgress
from generators import manifest, report
from generators.asic_build import AsicModule, AsicResult, Fit, _sweep, synthesise_asic
from generators.liberty import Liberty
from generators.yosys import SynthesisError
from tests.generators import tiny_library

LANE = """
module lane(input clk, input rst, input en, input [7:0] a, output reg [7:0] y);
  always @(posedge clk) if (rst) y <= 0; else if (en) y <= y + a;
endmodule
"""
STORE = """
module store(input clk, input we, input [5:0] at, input [31:0] d, output reg [31:0] q);
  reg [31:0] words [0:63];
  always @(posedge clk) begin if (we) words[at] <= d; q <= words[at]; end
endmodule
"""
PROBE = "module probe(input clk, input [7:0] data); endmodule\n"
TOP = """
module top(input clk, rst, en, we, input [7:0] a, output [31:0] q);
  wire [7:0] y, z;
  lane first(.clk(clk), .rst(rst), .en(en), .a(a), .y(y));
  lane second(.clk(clk), .rst(rst), .en(en), .a(y & {8{we}}), .y(z));
  store words(.clk(clk), .we(we), .at(z[5:0]), .d({y, z, a, y}), .q(q));
  probe seen(.clk(clk), .data(y));
endmodule
"""
FILES = {"lane": (LANE, 2), "store": (STORE, 1), "probe": (PROBE, 1), "top": (TOP, 1)}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path: Path) -> Liberty:
    path = tmp_path / "tiny.lib"
    path.write_text(tiny_library.text())
    return Liberty.load(path)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder whose report is replaced by a line."""
    folder = tmp_path / "out"
    (folder / "rtl").mkdir(parents=True)
    for name, (text, _) in FILES.items():
        (folder / "rtl" / f"{name}.v").write_text(text)
    design = {
        "top": "top",
        "target": target.load("ecp5-85k").model_dump(mode="json"),
        "modules": [
            {"name": name, "file": f"{name}.v", "count": count}
            for name, (_, count) in FILES.items()
        ],
    }
    (folder / "design.json").write_text(json.dumps(design))
    for name in ("report.json", "report.html"):
        (folder / name).write_text("estimate")
    manifest.write(folder, {"key": 1})

    def apply(place: Path, result: AsicResult) -> None:
        (place / "report.json").write_text(f"{result.best.area_um2:g} um2")

    monkeypatch.setattr(report, "apply_asic", apply)
    return folder


def run(out: Path, library: Liberty, **options: object) -> AsicResult:
    return synthesise_asic(out, library, SilentProgress(), limit=100, **options)  # type: ignore[arg-type]


class TestSynthesise:
    def test_modules_times_instances(self, out: Path, tiny: Liberty) -> None:
        result = run(out, tiny)
        modules = {module.name: module for module in result.modules}
        assert list(modules) == sorted(FILES)
        assert modules["lane"].count == 2
        assert {fit.sequential_um2 for fit in modules["lane"].fits} == {8 * 10}
        assert modules["store"].macro_bits == result.macro_bits == 64 * 32
        assert modules["store"].fits[0].area_um2 == 0  # its register is the memory's
        assert modules["probe"].fits[0].area_um2 == 0
        # Eight gates between the children, which are not counted again.
        assert 8 * 2 <= modules["top"].fits[0].area_um2 < 100
        for row in result.sweep:
            area = sum(m.at(row.target_ns).area_um2 * m.count for m in result.modules)
            assert row.area_um2 == pytest.approx(area)
            assert row.area_delay == pytest.approx(row.area_um2 * row.period_ns / 1e6)
        assert result.best.slowest == "lane"
        assert (result.library, result.unfinished) == ("tiny", ())

    def test_files(self, out: Path, tiny: Liberty) -> None:
        result = run(out, tiny)
        text = (out / "synth-asic.json").read_text()
        assert AsicResult.model_validate_json(text) == result
        assert (out / "report.json").read_text() == f"{result.best.area_um2:g} um2"
        assert manifest.unchanged(out, {"key": 1})
        run(out, tiny)
        assert (out / "synth-asic.json").read_text() == text

    def test_clock_targets(self, out: Path, tiny: Liberty) -> None:
        result = run(out, tiny, periods_ns=[50.0, 0.1])
        fast, slow = result.sweep
        assert (fast.target_ns, slow.target_ns) == (0.1, 50)
        assert fast.period_ns > 0.1  # what cannot be reached is not claimed
        assert fast.period_ns < slow.period_ns < 50
        assert slow.area_um2 < fast.area_um2

    def test_a_bad_module_is_missing_from_the_totals_and_named(
        self, out: Path, tiny: Liberty
    ) -> None:
        (out / "rtl" / "lane.v").write_text(LANE.replace("y <= y + a;", "y <= y + ;"))
        result = run(out, tiny)
        assert [m.name for m in result.unfinished] == ["lane", "top"]  # which reads it
        assert "syntax error" in result.unfinished[0].note
        assert not result.unfinished[0].note.startswith("lane")

    def test_nothing_readable_changes_nothing(self, out: Path, tiny: Liberty) -> None:
        for name in FILES:
            (out / "rtl" / f"{name}.v").write_text("module (\n")
        with pytest.raises(SynthesisError, match=r"no module was mapped: .*syntax error"):
            run(out, tiny)
        assert not (out / "synth-asic.json").exists()
        assert (out / "report.json").read_text() == "estimate"

    def test_slices_of_an_fpga_are_refused(self, out: Path, tiny: Liberty) -> None:
        lane = out / "rtl" / "lane.v"
        lane.write_text(
            lane.read_text().replace("endmodule", "DSP48E2 #(.AREG(1)) s (); endmodule")
        )
        with pytest.raises(
            DesignError, match=r"has slices of an FPGA \(lane\): .* --engine, tree:mac"
        ):
            run(out, tiny)

    def test_a_folder_that_is_no_build(self, tmp_path: Path, tiny: Liberty) -> None:
        with pytest.raises(DesignError, match=r"has no design\.json"):
            run(tmp_path, tiny)


def module(name: str, count: int, *fits: tuple[float, float]) -> AsicModule:
    return AsicModule(
        name=name,
        count=count,
        fits=tuple(
            Fit(critical_ns=ns, area_um2=area, sequential_um2=0, script="", adder="", booth=False,
                target_ps=1)
            for ns, area in fits
        ),
    )  # fmt: skip


class TestSweep:
    MODULES = (module("a", 2, (1, 100), (3, 40)), module("b", 1, (2, 50), (4, 30)))

    def test_the_targets_at_which_something_changes(self) -> None:
        rows = [(t.target_ns, t.period_ns, t.slowest, t.area_um2) for t in _sweep(self.MODULES, [])]
        assert rows == [(2, 2, "b", 250), (3, 3, "a", 130), (4, 4, "b", 110)]

    def test_targets_asked_for(self) -> None:
        rows = [(t.target_ns, t.period_ns, t.area_um2) for t in _sweep(self.MODULES, [3.5, 1, 3.5])]
        assert rows == [(1, 2, 250), (3.5, 3, 130)]

    def test_long_sweeps_are_thinned_but_keep_the_best(self) -> None:
        areas = [1000 - 10 * i for i in range(40)]
        areas[17:] = [area - 500 for area in areas[17:]]
        many = [module("a", 1, *((10 + i / 10, area) for i, area in enumerate(areas)))]
        rows = list(_sweep(many, []))
        assert len(rows) <= 11
        assert (rows[0].target_ns, rows[-1].target_ns) == (10, 13.9)
        best = min(range(40), key=lambda i: (10 + i / 10) * areas[i])
        assert 10 + best / 10 in {row.target_ns for row in rows}
