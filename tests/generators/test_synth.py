# SPDX-License-Identifier: Apache-2.0
"""Counting resources with yosys, on a small hierarchy: a top with 2 lanes of 3 cells each."""

import json
import time
from pathlib import Path

import pytest

from designs import target
from designs.errors import DesignError
from designs.progress import SilentProgress
from generators import manifest, report, synth, yosys
from generators.synth import (
    Module,
    ModuleResources,
    Resources,
    SynthesisError,
    SynthesisResult,
    resources_of,
    synthesise,
    synthesise_modules,
)

CELL = """
module adder(input signed [15:0] p, input signed [31:0] c, output signed [31:0] s);
  assign s = p + c;
endmodule
module cell_unit(input clk, input rst, input signed [7:0] a, b, output reg signed [31:0] y);
  wire signed [31:0] next;
  wire signed [15:0] product = a * b;
  adder add(.p(product), .c(y), .s(next));
  always @(posedge clk) if (rst) y <= 0; else y <= next;
endmodule
"""
LANE = """
module lane(input clk, rst, input [7:0] a, b, output logic [95:0] y);
  for (genvar i = 0; i < 3; i++) begin : g
    cell_unit u(.clk(clk), .rst(rst), .a(a), .b(b), .y(y[32*i +: 32]));
  end
endmodule
"""
TOP = """
module top(input clk, input rst, input [15:0] a, b, output reg [191:0] q);
  wire [191:0] y;
  lane l0(.clk(clk), .rst(rst), .a(a[7:0]), .b(b[7:0]), .y(y[95:0]));
  lane l1(.clk(clk), .rst(rst), .a(a[15:8]), .b(b[15:8]), .y(y[191:96]));
  always @(posedge clk) q <= y;
endmodule
"""


@pytest.fixture
def hierarchy(tmp_path: Path) -> list[Module]:
    modules = []
    for name, suffix, count, text in (
        ("cell_unit", "v", 6, CELL),
        ("lane", "sv", 2, LANE),
        ("top", "v", 1, TOP),
    ):
        path = tmp_path / f"{name}.{suffix}"
        path.write_text(text)
        modules.append(Module(name=name, files=(path,), count=count))
    return modules


def count(modules: list[Module], family: str, **options: object) -> dict[str, ModuleResources]:
    options = {"limit": 120.0, "progress": SilentProgress(), **options}
    return {module.name: module for module in synthesise_modules(modules, family=family, **options)}  # type: ignore[arg-type]


def total(counted: dict[str, ModuleResources]) -> Resources:
    return sum((module.resources * module.count for module in counted.values()), Resources())


class TestResourcesOf:
    def test_luts_memories_and_registers(self) -> None:
        cells = {"LUT2": 3, "LUT6": 1, "RAM32M": 2, "SRL16E": 5, "FDRE": 7, "CARRY4": 9}
        assert resources_of(cells) == Resources(lut=3 + 1 + 8 + 5, ff=7)

    def test_half_a_block_occupies_its_block(self) -> None:
        used = resources_of({"RAMB36E2": 2, "RAMB18E2": 3, "URAM288": 1, "DSP48E2": 4})
        assert used == Resources(bram=3.5, uram=1, dsp=4)
        assert used.rounded() == {"lut": 0, "ff": 0, "dsp": 4, "bram": 4, "uram": 1}


class TestSynthesiseModules:
    @pytest.mark.parametrize("family", ["ecp5", "xcup"])
    def test_counts_each_module_once_without_its_children(
        self, hierarchy: list[Module], family: str
    ) -> None:
        counted = count(hierarchy, family)
        assert {module.basis for module in counted.values()} == {"yosys"}
        assert counted["cell_unit"].resources.dsp == 1
        assert counted["cell_unit"].resources.ff == 32
        assert counted["lane"].resources == Resources()  # wires only
        assert counted["top"].resources == Resources(ff=192)
        assert total(counted).dsp == 6
        assert total(counted).ff == 6 * 32 + 192

    def test_a_bad_module_does_not_spoil_the_others(
        self, hierarchy: list[Module], tmp_path: Path
    ) -> None:
        path = tmp_path / "bad.v"
        path.write_text("module bad(input clk; endmodule\n")
        estimate = Resources(lut=100)
        bad = Module(name="bad", files=(path,), count=2, estimate=estimate)
        counted = count([*hierarchy, bad], "ecp5", logs=tmp_path / "logs")
        assert counted["bad"].basis == "estimate"
        assert counted["bad"].resources == estimate
        assert "syntax error" in counted["bad"].note
        assert "syntax error" in (tmp_path / "logs" / "bad.log").read_text()
        assert counted["cell_unit"].basis == "yosys"
        assert counted["top"].resources.ff == 192

    def test_a_module_that_takes_too_long_keeps_its_estimate(self, tmp_path: Path) -> None:
        path = tmp_path / "slow.v"
        path.write_text(
            "module slow(input [255:0] a, b, output [511:0] y); assign y = a * b % 997; endmodule"
        )
        slow = Module(name="slow", files=(path,), count=1, estimate=Resources(lut=7))
        started = time.monotonic()
        counted = count([slow], "xc7", limit=2.0)
        assert time.monotonic() - started < 20
        assert counted["slow"].basis == "estimate"
        assert counted["slow"].resources.lut == 7
        assert counted["slow"].note == "not finished in 2 s"

    def test_an_empty_module_takes_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "probe.v"
        path.write_text("module probe(input clk, input [7:0] data); endmodule\n")
        counted = count([Module(name="probe", files=(path,), count=1)], "ecp5")
        assert counted["probe"].basis == "yosys"
        assert counted["probe"].resources == Resources()

    def test_a_module_that_gives_its_child_a_word_of_an_array_is_counted(
        self, tmp_path: Path
    ) -> None:
        """yosys reads such a module again when it knows its child; what was said of it must not be lost."""
        texts = {
            "chooser": "module chooser(input clk, input [1:0] at, input [31:0] x, output reg [7:0] y);\n"
            "wire [7:0] x_of [4]; wire [7:0] found;\n"
            "for (genvar k = 0; k < 4; k++) assign x_of[k] = x[8*k +: 8];\n"
            "inner u(.x(x_of[at]), .y(found)); always @(posedge clk) y <= found; endmodule\n",
            "inner": "module inner(input [7:0] x, output [7:0] y); assign y = ~x; endmodule\n",
        }
        for name, text in texts.items():
            (tmp_path / f"{name}.sv").write_text(text)
        modules = [Module(name=n, files=(tmp_path / f"{n}.sv",), count=1) for n in texts]
        found = count(modules, "xcup")["chooser"]
        assert found.basis == "yosys" and found.resources.ff == 8

    def test_where_abc9_fails_abc_maps(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first run ends as by a mistake of yosys; the second one counts about the same."""
        path = tmp_path / "sum.v"
        path.write_text(
            "module sum(input clk, input [15:0] a, b, c, output reg [15:0] y);\n"
            "always @(posedge clk) y <= (a & b) + (b ^ c); endmodule\n"
        )
        modules = [Module(name="sum", files=(path,), count=1)]
        usual = count(modules, "xcup")["sum"]
        counts, tries = synth._counts, []

        def failing_once(run: yosys.Run) -> dict[str, dict[str, int]]:
            tries.append(run)
            return counts(run) if len(tries) > 1 else {}

        monkeypatch.setattr(synth, "_counts", failing_once)
        monkeypatch.setattr(yosys.Run, "failure", property(lambda run: "Assert `x' failed"))
        other = count(modules, "xcup")["sum"]
        assert len(tries) == 2 and other.basis == "yosys" and "abc9 failed" in other.note
        assert other.resources.ff == usual.resources.ff == 16
        assert 16 <= other.resources.lut <= 1.2 * usual.resources.lut

    def test_a_table_in_luts_is_logic(self, tmp_path: Path) -> None:
        path = tmp_path / "table_unit.sv"
        path.write_text(
            "module table_unit(input clk, input [5:0] a, output logic [7:0] y);\n"
            '  (* rom_style = "distributed" *) logic [7:0] rom [0:63];\n'
            "  initial for (int k = 0; k < 64; k++) rom[k] = 8'(k * k);\n"
            "  always_ff @(posedge clk) y <= rom[a];\n"
            "endmodule\n"
        )
        table = count([Module(name="table_unit", files=(path,), count=1)], "ecp5")["table_unit"]
        assert table.basis == "yosys", table.note
        assert 0 < table.resources.lut < 50

    def test_without_an_estimate_nothing_is_invented(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.v"
        path.write_text("module bad(\n")
        counted = count([Module(name="bad", files=(path,), count=1)], "ecp5")
        assert counted["bad"].basis == "unknown"
        assert counted["bad"].resources == Resources()


class TestSynthesise:
    @pytest.fixture
    def out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A build folder with one module, whose report is replaced by a line."""
        (tmp_path / "rtl").mkdir()
        (tmp_path / "rtl" / "cell_unit.v").write_text(CELL)
        design = {
            "top": "cell_unit",
            "target": target.load("ecp5-85k").model_dump(mode="json"),
            "modules": [{"name": "cell_unit", "file": "cell_unit.v", "count": 3}],
        }
        (tmp_path / "design.json").write_text(json.dumps(design))
        for name in ("report.json", "report.html"):
            (tmp_path / name).write_text("estimate")
        manifest.write(tmp_path, {"key": 1})

        def apply(folder: Path, result: SynthesisResult) -> None:
            (folder / "report.json").write_text(f"{result.total.dsp:g} multipliers")

        monkeypatch.setattr(report, "apply_synthesis", apply)
        return tmp_path

    def test_writes_the_counts_and_leaves_the_build_unchanged(self, out: Path) -> None:
        result = synthesise(out, SilentProgress())
        assert result.total.dsp == 3
        assert result.available.dsp == 156
        assert result.tool.endswith("synth_ecp5")
        text = (out / "synth.json").read_text()
        assert SynthesisResult.model_validate_json(text) == result
        assert (out / "report.json").read_text() == "3 multipliers"
        assert manifest.unchanged(out, {"key": 1})
        assert not (out / "synth").exists()

    def test_a_design_that_yosys_cannot_read_changes_nothing(self, out: Path) -> None:
        (out / "rtl" / "cell_unit.v").write_text("module cell_unit(\n")
        with pytest.raises(SynthesisError, match="yosys finished no module: syntax error"):
            synthesise(out, SilentProgress())
        assert not (out / "synth.json").exists()
        assert (out / "report.json").read_text() == "estimate"
        assert "syntax error" in (out / "synth" / "cell_unit.log").read_text()

    def test_a_missing_file(self, out: Path) -> None:
        (out / "rtl" / "cell_unit.v").unlink()
        with pytest.raises(DesignError, match=r"cell_unit\.v is missing: build it again"):
            synthesise(out, SilentProgress())

    def test_a_folder_that_is_no_build(self, tmp_path: Path) -> None:
        with pytest.raises(DesignError, match=r"has no design\.json"):
            synthesise(tmp_path, SilentProgress())
