# SPDX-License-Identifier: Apache-2.0
"""Mapping small designs to cells: what is measured, that the netlist is the design, what is refused."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from generators import yosys
from generators.asic import Measurement, Point, best, measure, netlist, pareto
from generators.asic_recipe import SCRIPTS, Choice
from generators.liberty import Liberty
from generators.timing import abc_timer, find_timer
from generators.yosys import SynthesisError
from tests.generators import tiny_library

ADDER = "module top(input [7:0] a, b, output [8:0] y); assign y = a + b; endmodule\n"
GATES = (
    "module top(input clk, input [3:0] a, output reg y); always @(posedge clk) y <= ^a; endmodule\n"
)
MAC = """
module product(input signed [3:0] a, b, output signed [7:0] y);
  assign y = a * b;
endmodule
module top(input clk, input rst, input en, input signed [3:0] a, b, output reg signed [9:0] acc);
  // Enables and a synchronous reset: the library has neither.
  reg signed [3:0] x, w;
  wire signed [7:0] p;
  product multiply(.a(x), .b(w), .y(p));
  always @(posedge clk) begin
    if (en) begin x <= a; w <= b; end
    if (rst) acc <= 0; else if (en) acc <= acc + p;
  end
endmodule
"""
ASYNCHRONOUS = """
module top(input c, r, d, output reg y);
  always @(posedge c, posedge r) if (r) y <= 0; else y <= d;
endmodule
"""
MEMORY = """
module top(input clk, input we, input [5:0] wa, ra, input [31:0] d, output reg [31:0] q);
  reg [31:0] words [0:63];
  always @(posedge clk) begin
    if (we) words[wa] <= d + 1;
    q <= words[ra];
  end
endmodule
"""

needs_sta = pytest.mark.skipif(find_timer().program is None, reason="OpenSTA is not installed")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tiny(tmp_path: Path) -> Liberty:
    path = tmp_path / "tiny.lib"
    path.write_text(tiny_library.text())
    return Liberty.load(path)


def source(folder: Path, text: str) -> list[Path]:
    (folder / "top.v").write_text(text)
    return [folder / "top.v"]


def point(period: float, area: float) -> Point:
    return Point(
        script="speed", adder="brent-kung", booth=False, target_ps=1, area_um2=area,
        sequential_um2=0, period_ns=period, through_ns=None, timer="", cells={},
    )  # fmt: skip


class TestChoosing:
    def test_pareto_keeps_what_nothing_beats(self) -> None:
        points = [point(2, 10), point(1, 30), point(3, 10), point(1, 20), point(2.5, 9)]
        assert pareto(points) == (point(1, 20), point(2, 10), point(2.5, 9))

    def test_pareto_by_another_time(self) -> None:
        slow_port = point(1, 10).model_copy(update={"through_ns": 4.0})
        assert pareto([slow_port, point(2, 12)]) == (slow_port,)
        assert pareto([slow_port, point(2, 12)], lambda p: p.critical_ns)[0] == point(2, 12)

    def test_best_is_area_times_period(self) -> None:
        assert best([point(2, 10), point(1, 21), point(3, 6)]) == point(3, 6)
        assert best([point(2, 9), point(3, 6)]) == point(2, 9)

    def test_measurement(self) -> None:
        found = Measurement("top", "tiny", (point(2, 10), point(1, 30)))
        assert found.best == point(2, 10)
        assert found.fastest == point(1, 30)


class TestMeasure:
    def test_choices_that_make_no_difference_are_left_out(
        self, tmp_path: Path, tiny: Liberty
    ) -> None:
        found = measure(source(tmp_path, GATES), "top", tiny)
        assert {p.adder for p in found.points} == {"brent-kung"}
        assert {p.booth for p in found.points} == {False}
        assert len(found.points) == len(SCRIPTS)
        assert found.unfinished == ()
        assert found.library == "tiny (process 1, 1.2 V, 25 C)"

    def test_sums_of_cells(self, tmp_path: Path, tiny: Liberty) -> None:
        (one,) = measure(source(tmp_path, GATES), "top", tiny, scripts=["area"]).points
        assert one.cells["DFF"] == 1
        assert one.sequential_um2 == 10
        assert one.area_um2 == sum(tiny.cells[n].area_um2 * k for n, k in one.cells.items())

    def test_booth_and_adders_where_there_is_something_to_multiply(
        self, tmp_path: Path, tiny: Liberty
    ) -> None:
        found = measure(
            source(tmp_path, MAC), "top", tiny, scripts=["gia"], adders=["brent-kung", "sklansky"]
        )
        kinds = {(p.adder, p.booth) for p in found.points}
        assert kinds == {(a, b) for a in ("brent-kung", "sklansky") for b in (False, True)}
        assert len({p.area_um2 for p in found.points}) > 1

    def test_enables_and_resets_become_gates(self, tmp_path: Path, tiny: Liberty) -> None:
        (one,) = measure(
            source(tmp_path, MAC), "top", tiny, scripts=["speed"], adders=["brent-kung"], booth=[True]
        ).points  # fmt: skip
        assert one.cells["DFF"] == 4 + 4 + 10
        assert set(one.cells) <= set(tiny.cells)
        assert "DLY" not in one.cells

    def test_the_second_run_starts_nothing(
        self, tmp_path: Path, tiny: Liberty, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = source(tmp_path, GATES)
        first = measure(files, "top", tiny, scripts=["gia", "area"])
        monkeypatch.setattr(yosys, "start", None)
        assert measure(files, "top", tiny, scripts=["gia", "area"]) == first
        with pytest.raises(TypeError):  # another text is another design
            measure(source(tmp_path, GATES + "\n"), "top", tiny, scripts=["gia", "area"])

    def test_the_same_again(
        self, tmp_path: Path, tiny: Liberty, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = source(tmp_path, MAC)
        runs = []
        for name in ("a", "b"):
            monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / name))
            runs.append(measure(files, "top", tiny, scripts=["gia", "speed"], booth=[True]))
        assert runs[0] == runs[1]

    def test_slow_targets_are_smaller(self, tmp_path: Path, tiny: Liberty) -> None:
        files = source(tmp_path, ADDER)
        found = measure(
            files, "top", tiny, scripts=["speed"], adders=["kogge-stone"], targets_ps=[1, 100_000]
        )
        fast, slow = found.points
        assert (fast.target_ps, slow.target_ps) == (1, 100_000)
        assert slow.area_um2 < fast.area_um2

    def test_memories_can_be_cut_out(self, tmp_path: Path, tiny: Liberty) -> None:
        files = source(tmp_path, MEMORY)
        options = {"scripts": ["area"], "adders": ["brent-kung"], "timer": abc_timer()}
        cut = measure(files, "top", tiny, macro_bits=1024, **options)  # type: ignore[arg-type]
        assert cut.macro_bits == 64 * 32
        # The adder before it stays; its registered output is the memory's.
        assert 0 < cut.best.area_um2 < 1000
        assert "DFF" not in cut.best.cells
        kept = measure(files, "top", tiny, macro_bits=4096, **options)  # type: ignore[arg-type]
        assert kept.macro_bits == 0
        assert kept.best.cells["DFF"] == 64 * 32 + 32

    def test_boxes_have_no_area_and_the_logic_around_them_stays(
        self, tmp_path: Path, tiny: Liberty
    ) -> None:
        box = tmp_path / "box.v"
        box.write_text("module box(input [3:0] a, output [3:0] y); assign y = ~a; endmodule\n")
        files = source(
            tmp_path,
            "module top(input clk, input [3:0] a, b, output reg [3:0] y);\n"
            "  wire [3:0] s, t; assign s = a & b; box u(.a(s), .y(t));\n"
            "  always @(posedge clk) y <= t ^ {4{b[0]}};\n"
            "endmodule\n",
        )
        whole = measure([*files, box], "top", tiny, scripts=["area"]).best
        around = measure(files, "top", tiny, boxes=[box], scripts=["area"]).best
        assert around.cells["DFF"] == whole.cells["DFF"] == 4
        assert around.cells["XOR2"] == 4
        assert "box" not in around.cells
        assert sum(n for cell, n in around.cells.items() if cell in ("NAND2", "NOR2", "NOR2B")) >= 4

    def test_what_has_no_outputs_takes_nothing(self, tmp_path: Path, tiny: Liberty) -> None:
        files = source(tmp_path, "module top(input clk, input [7:0] data); endmodule\n")
        one = measure(files, "top", tiny, scripts=["area"]).best
        assert (one.area_um2, one.period_ns, one.cells) == (0, 0, {})


class TestTiming:
    def test_abc_adds_the_flip_flop_and_says_so(self, tmp_path: Path, tiny: Liberty) -> None:
        files = source(tmp_path, MAC)
        one = measure(
            files, "top", tiny, scripts=["gia"], adders=["brent-kung"], booth=[False], timer=abc_timer()
        ).best  # fmt: skip
        assert one.timer == "ABC delay + clk->Q + setup"
        assert one.through_ns is None
        flop = tiny.flip_flops["DFF"]
        assert one.period_ns > flop.clk_to_q_ns + flop.setup_ns + 0.2

    @needs_sta
    def test_opensta(self, tmp_path: Path, tiny: Liberty) -> None:
        """One inverter between two flip-flops, each delay known by hand."""
        text = (
            "module top(input clk, input a, output reg y); reg x;\n"
            "always @(posedge clk) begin x <= a; y <= ~x; end endmodule\n"
        )
        one = measure(source(tmp_path, text), "top", tiny, scripts=["area"]).best
        assert one.timer.startswith("OpenSTA 2")
        assert one.cells == {"DFF": 2, "INV": 1}
        # clk->Q at the inverter's 2 fF, the inverter at the 2 fF of D, setup at the inverter's slew.
        clk_to_q, inverter = 0.1 + 0.6 * 0.02, 0.02 + 0.6 * 0.02
        setup = 0.05 + 0.1 * inverter
        assert one.period_ns == pytest.approx(clk_to_q + inverter + setup, abs=2e-3)
        # From the clock to an output, whose load is 10 fF.
        assert one.through_ns == pytest.approx(0.1 + 0.6 * 0.1, abs=2e-3)

    @needs_sta
    def test_the_two_agree(self, tmp_path: Path) -> None:
        library = Liberty.load(tiny_library.sg13g2())
        files = source(tmp_path, MAC)
        options = {"scripts": ["speed"], "adders": ["sklansky"], "booth": [False]}
        sta = measure(files, "top", library, **options).best  # type: ignore[arg-type]
        abc = measure(files, "top", library, timer=abc_timer(), **options).best  # type: ignore[arg-type]
        assert sta.cells == abc.cells
        assert abc.period_ns == pytest.approx(sta.period_ns, rel=0.3)

    def test_logic_without_flip_flops(self, tmp_path: Path, tiny: Liberty) -> None:
        one = measure(source(tmp_path, ADDER), "top", tiny, scripts=["speed"]).fastest
        assert one.sequential_um2 == 0
        assert one.period_ns == one.through_ns
        assert one.period_ns > 0.1

    def test_without_opensta(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        assert find_timer.__wrapped__() == abc_timer()


class TestNetlist:
    @pytest.mark.parametrize(("script", "booth"), [("gia", False), ("ydef", True)])
    def test_is_the_design(self, tmp_path: Path, tiny: Liberty, script: str, booth: bool) -> None:
        """From reset on, 4 cycles of any inputs."""
        files = source(tmp_path, MAC)
        text = netlist(files, "top", tiny, Choice(script, "han-carlson", booth))
        assert equal(tmp_path, files[0], text, tiny)
        wrong = re.sub(r"\bNOR2 ", "NAND2 ", text, count=1)
        assert wrong != text
        assert not equal(tmp_path, files[0], wrong, tiny)


def equal(folder: Path, gold: Path, text: str, library: Liberty) -> bool:
    """Whether a netlist does what its source does, by SAT."""
    (folder / "net.v").write_text(text)
    script = f"""
        read_verilog {gold}
        prep -flatten -top top
        splitnets -ports
        rename top gold
        design -stash gold
        read_liberty {library.path}
        read_verilog {folder}/net.v
        prep -flatten -top top
        rename top gate
        design -copy-from gold gold
        miter -equiv -flatten -make_outputs -ignore_gold_x gold gate miter
        hierarchy -top miter
        sat -verify -seq 5 -prove-skip 1 -prove trigger 0 -set-at 1 in_rst 1 -set-at 1 in_en 1 miter
    """
    (folder / "equal.ys").write_text(script)
    run = subprocess.run(
        [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script equal.ys')"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert "proof" in run.stdout, run.stdout[-1500:] + run.stderr
    return run.returncode == 0


class TestRefused:
    def test_logic_that_is_hidden_from_synthesis(self, tmp_path: Path, tiny: Liberty) -> None:
        """A tree between synopsys translate_off and on: its user would lose half its gates."""
        text = (
            "module tree(input [3:0] a, output [3:0] y);\n"
            "// synopsys translate_off\n  assign y = ~a;\n// synopsys translate_on\nendmodule\n"
            "module top(input clk, input [3:0] a, output reg [3:0] y); wire [3:0] t;\n"
            "  tree u(.a(a), .y(t)); always @(posedge clk) y <= t ^ a; endmodule\n"
        )
        with pytest.raises(SynthesisError, match="problems in 'check -assert'"):
            measure(source(tmp_path, text), "top", tiny)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("module top(input a, output y); assign y = 0; endmodule", "no cell is left"),
            ("module top(input a, output y); assign y = a; endmodule", "no cell is left"),
            ("module top(input a, output y) assign", "syntax error"),
            ("module other(input a); endmodule", "`top' not found"),
            ("module top(input a, output y); none u(a, y); endmodule", "none"),
            (
                "module top(input e, a, output reg y); always @* if (e) y = a; endmodule",
                "D latches are not supported",
            ),
            (
                ASYNCHRONOUS,
                "dffs with async set or reset are not supported",
            ),
        ],
    )
    def test_one_line(self, tmp_path: Path, tiny: Liberty, text: str, message: str) -> None:
        with pytest.raises(SynthesisError, match=message) as error:
            measure(source(tmp_path, text + "\n"), "top", tiny, scripts=["area"])
        assert "\n" not in str(error.value)
        assert error.value.exit_code == 3

    def test_nets_that_abc_could_not_buffer(
        self, tmp_path: Path, tiny: Liberty, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A gain that is too low for any design stands for one that is for a large design."""
        monkeypatch.setitem(SCRIPTS, "gia", SCRIPTS["gia"].replace("-G 300", "-G 1"))
        files = source(tmp_path, MAC)
        options = {"adders": ["brent-kung"], "booth": [False]}
        found = measure(files, "top", tiny, scripts=["gia", "area"], **options)  # type: ignore[arg-type]
        assert [p.script for p in found.points] == ["area"]
        assert [choice.script for choice in found.unfinished] == ["gia"]
        with pytest.raises(SynthesisError, match="could not buffer it"):
            measure(files, "top", tiny, scripts=["gia"], **options)  # type: ignore[arg-type]
        with pytest.raises(SynthesisError, match="could not buffer it"):
            netlist(files, "top", tiny, Choice("gia", "brent-kung", False))

    def test_unknown_choices(self, tmp_path: Path, tiny: Liberty) -> None:
        with pytest.raises(ValueError, match=r"'fast' is not known \(scripts speed, speed-lean"):
            measure(source(tmp_path, ADDER), "top", tiny, scripts=["fast"])

    def test_too_slow(self, tmp_path: Path, tiny: Liberty) -> None:
        text = "module top(input [63:0] a, b, output [63:0] y); assign y = a * b % 997; endmodule"
        with pytest.raises(SynthesisError, match="in 1 s"):
            measure(source(tmp_path, text), "top", tiny, limit=1)
