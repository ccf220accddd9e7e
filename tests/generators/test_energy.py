# SPDX-License-Identifier: Apache-2.0
"""Netlists at work, and what they take: by hand where that is possible, else against Python."""

from pathlib import Path

import numpy as np
import pytest

from designs.errors import DesignError
from generators.asic_recipe import Choice
from generators.energy import energy
from generators.gates import Gates, side_by_side
from generators.liberty import Liberty
from generators.netlist import Netlist, map_netlist, read_netlist
from generators.verilog import emit
from generators.yosys import SynthesisError
from hw.arith.dot import Multiplier
from hw.unit import Unit

CHOICE = Choice("speed", "brent-kung", False)


@pytest.fixture(scope="module")
def small() -> Liberty:
    return Liberty.load(Path(__file__).parent / "small.lib")


def mapped(folder: Path, text: str, library: Liberty) -> Netlist:
    (folder / "top.v").write_text(text)
    return map_netlist([folder / "top.v"], "top", library, CHOICE)


def column(*values: int) -> np.ndarray:
    """One stream."""
    return np.array(values)[:, None]


class TestByHand:
    """Capacitances of small.lib: 1 fF an inverter, XOR2 3 fF a pin, DFF 1 fF D and 2 fF CK."""

    def test_inverter_chain(self, small: Liberty) -> None:
        text = """module top(a, y); input a; output y; wire b, c;
            INV i1(.A(a), .Y(b)); INV i2(.A(b), .Y(c)); BUF_X2 i3(.A(c), .Y(y)); endmodule"""
        found = energy(read_netlist(text, "top"), small, {"a": column(0, 1, 1, 0)}, vectors="two")
        assert found.data_ff == pytest.approx(2 * (1 + 1 + 2) / 3)  # a toggles twice in 3 cycles
        assert found.clock_ff == 0
        # each of three cells rises once (2 fJ) and falls once (4 fJ)
        assert found.internal_fj == pytest.approx(3 * (2 + 4) / 3)
        assert found.switching_pj == pytest.approx(found.data_ff * 2.0**2 / 2 / 1000)
        assert found.total_pj == pytest.approx(found.switching_pj + 6 / 1000)
        assert found.outputs["y"][:, 0].tolist() == [0, 1, 1, 0]
        assert (found.cycles, found.streams, found.operations, found.voltage) == (3, 1, 3, 2.0)

    def test_operations_share_it(self, small: Liberty) -> None:
        text = "module top(a, y); input a; output y; INV i(.A(a), .Y(y)); endmodule"
        netlist, stimulus = read_netlist(text, "top"), {"a": column(0, 1, 0, 1, 0)}
        whole = energy(netlist, small, stimulus, vectors="", operations=2)
        assert whole.data_ff == pytest.approx(4 / 2)
        late = energy(netlist, small, stimulus, vectors="", skip=3)
        assert late.data_ff == pytest.approx(2 / 2)

    def test_a_net_of_several_pins(self, small: Liberty) -> None:
        text = """module top(a, b, y, z); input a, b; output y, z;
            XOR2 x(.A(a), .B(b), .Y(y)); NAND2 n(.A(b), .B(a), .Y(z)); endmodule"""
        stimulus = {"a": column(0, 1, 0), "b": column(1, 1, 0)}
        found = energy(read_netlist(text, "top"), small, stimulus, vectors="")
        assert found.data_ff == pytest.approx((2 * (3 + 2) + 1 * (3 + 1)) / 2)
        # y 1 0 0 falls once; z 1 0 1 falls once and rises once
        assert found.internal_fj == pytest.approx((8 + 8 + 4) / 2)

    @pytest.mark.parametrize("cell", ["DFF f(", "DFFR f(.RN(1'b1), "])
    def test_register(self, small: Liberty, cell: str) -> None:
        text = f"""module top(clk, d, q); input clk, d; output q; wire n;
            INV i(.A(d), .Y(n)); {cell}.CK(clk), .D(n), .Q(q)); endmodule"""
        found = energy(read_netlist(text, "top"), small, {"d": column(1, 1, 0, 0, 1)}, vectors="")
        assert found.outputs["q"][:, 0].tolist() == [0, 0, 0, 1, 1]
        assert found.clock_ff == pytest.approx(2 * 2)
        assert found.data_ff == pytest.approx(2 * (1 + 1) / 4)
        # Q rises once and QN falls: 20 + 30; n rises and falls at the inverter: 2 + 4, and at D while
        # the clock is high: 1 + 3. The clock rises on D == Q but once: 3 * 11, and falls on
        # (n, q) = 00, 10, 11, 01: twice 5, twice 7.
        assert found.internal_fj == pytest.approx((50 + 6 + 4 + 33 + 24) / 4)

    def test_streams_do_not_mix(self, small: Liberty) -> None:
        text = """module top(clk, d, q); input clk, d; output q; wire n, r;
            INV i(.A(r), .Y(n)); XOR2 x(.A(n), .B(d), .Y(q)); DFF f(.CK(clk), .D(q), .Q(r));
            endmodule"""
        netlist = read_netlist(text, "top")
        d = np.random.default_rng(0).integers(0, 2, (20, 70))
        together = energy(netlist, small, {"d": d}, vectors="")
        alone = [energy(netlist, small, {"d": d[:, n : n + 1]}, vectors="") for n in range(70)]
        assert together.data_ff == pytest.approx(np.mean([one.data_ff for one in alone]))
        assert together.total_pj == pytest.approx(np.mean([one.total_pj for one in alone]))
        for n, one in enumerate(alone):
            np.testing.assert_array_equal(together.outputs["q"][:, n], one.outputs["q"][:, 0])

    def test_without_tables_there_is_no_internal_energy(self, small: Liberty) -> None:
        cells = {
            name: cell.model_copy(
                update={
                    "pins": {
                        pin: what.model_copy(update={"internal": ()})
                        for pin, what in cell.pins.items()
                    }
                }
            )
            for name, cell in small.cells.items()
        }
        text = "module top(a, y); input a; output y; INV i(.A(a), .Y(y)); endmodule"
        bare = small.model_copy(update={"cells": cells})
        found = energy(read_netlist(text, "top"), bare, {"a": column(0, 1)}, vectors="")
        assert found.internal_fj is None
        assert found.total_pj == found.switching_pj
        assert "no internal energy" in str(found)


class TestMapped:
    def test_adder_and_wide_ports(self, small: Liberty, tmp_path: Path) -> None:
        text = """module top(input [69:0] a, input [69:0] b, output [70:0] y);
            assign y = a + b; endmodule"""
        netlist = mapped(tmp_path, text, small)
        draw = np.random.default_rng(1)
        parts = draw.integers(0, 1 << 14, (2, 6, 9, 5))  # five numbers of 14 bits side by side
        whole = (parts.astype(object) * [1 << (14 * n) for n in range(5)]).sum(axis=3)
        found = Gates(netlist, small).run({"a": parts[0], "b": whole[1]})["y"]
        assert (found == whole[0] + whole[1]).all()

    def test_multiplier(self, small: Liberty, tmp_path: Path) -> None:
        unit: Unit = Multiplier(x_bits=6, w_bits=6, encoding="csd")
        emission = emit(unit)
        for name, content in emission.files.values():
            (tmp_path / name).write_text(content)
        files = sorted(tmp_path.iterdir())
        netlist = map_netlist(files, emission.top, small, CHOICE)
        x, w = np.meshgrid(np.arange(-32, 32), np.arange(-32, 32))
        found = energy(netlist, small, {"x": x, "w": w}, vectors="all pairs")
        np.testing.assert_array_equal(found.outputs["product"], x * w & 4095)
        still = energy(netlist, small, {"x": 0 * x + 9, "w": 0 * w - 7}, vectors="none changes")
        assert (still.data_ff, still.internal_fj) == (0, 0)

    def test_enable_and_resets(self, small: Liberty, tmp_path: Path) -> None:
        text = """module top(input clk, input rst_n, input rst, input en, input signed [7:0] x,
                output reg signed [11:0] sum, output reg [3:0] count);
            always @(posedge clk or negedge rst_n)
                if (!rst_n) sum <= 0; else if (rst) sum <= -5; else if (en) sum <= sum + x;
            always @(posedge clk) if (rst) count <= 9; else if (en) count <= count + 1;
            endmodule"""
        draw = np.random.default_rng(2)
        shape = (60, 100)
        drive = {"rst_n": 0.9, "rst": 0.1, "en": 0.6}
        stimulus = {name: (draw.random(shape) < share) * 1 for name, share in drive.items()}
        stimulus["x"] = draw.integers(-128, 128, shape)
        outputs = energy(mapped(tmp_path, text, small), small, stimulus, vectors="").outputs
        total, count = np.zeros(100, int), np.zeros(100, int)
        for cycle in range(60):
            rst_n, rst, en, x = (stimulus[name][cycle] for name in ("rst_n", "rst", "en", "x"))
            total = np.where(rst_n, total, 0)  # at once, not at the next edge
            np.testing.assert_array_equal(outputs["sum"][cycle], total & 4095)
            np.testing.assert_array_equal(outputs["count"][cycle], count)
            total = np.where(rst, -5, np.where(en, total + x, total))
            total = np.where(rst_n, total, 0)
            count = np.where(rst, 9, np.where(en, count + 1, count)) & 15

    def test_fields_of_a_port(self, small: Liberty, tmp_path: Path) -> None:
        text = """module top(input [12:0] i, output [4:0] a, output [4:0] b, output c);
            assign a = ~i[4:0]; assign b = ~i[9:5]; assign c = i[12]; endmodule"""
        a = np.arange(-16, 16).reshape(4, 4, 2)
        c = np.eye(4, dtype=bool)
        stimulus = {"i": side_by_side((a, 5), (c.astype(int) * 4, 3))}
        assert stimulus["i"].shape == (4, 4, 13)
        found = Gates(mapped(tmp_path, text, small), small).run(stimulus)
        np.testing.assert_array_equal(found["a"], ~a[..., 0] & 31)
        np.testing.assert_array_equal(found["b"], ~a[..., 1] & 31)
        np.testing.assert_array_equal(found["c"], c)


class TestRefuses:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("LATCH l(.G(clk), .D(d), .Q(q));", "cell LATCH cannot be simulated: .* reads IQ"),
            (
                "wire n; INV i(.A(clk), .Y(n)); DFF f(.CK(n), .D(d), .Q(q));",
                "1 of them are no port",
            ),
            ("DFF f(.CK(clk), .D(d), .Q(q)); DFF g(.CK(d), .D(clk), .Q());", "there are 2 clocks"),
            ("wire n; NAND2 i(.A(d), .B(n), .Y(n)); INV j(.A(n), .Y(q));", "has a loop"),
            ("NAND3 n(.A(d), .Y(q));", "n: small has no cell NAND3"),
        ],
    )
    def test_netlist(self, small: Liberty, body: str, message: str) -> None:
        text = f"module top(clk, d, q); input clk, d; output q; {body} endmodule"
        with pytest.raises(DesignError, match=message):
            Gates(read_netlist(text, "top"), small)

    @pytest.mark.parametrize(
        ("stimulus", "message"),
        [
            ({"e": np.zeros((2, 1))}, "top has no input 'e'; it has d"),
            ({"clk": np.zeros((2, 1))}, "top has no input 'clk'; it has d"),
            ({"d": np.zeros(2)}, r"stimulus of d: \[cycles, streams\] or"),
            ({"d": np.zeros((2, 1, 2))}, "n a divisor of the 3 bits"),
            ({"d": np.zeros((1, 1))}, "a stimulus of 1 cycles, of which 1 are skipped"),
            ({}, "all ports need a stimulus of as many cycles and streams, at least one of each"),
        ],
    )
    def test_stimulus(self, small: Liberty, stimulus: dict[str, np.ndarray], message: str) -> None:
        text = """module top(clk, d, q); input clk; input [2:0] d; output q;
            DFF f(.CK(clk), .D(d[1]), .Q(q)); endmodule"""
        with pytest.raises(DesignError, match=message):
            energy(read_netlist(text, "top"), small, stimulus, vectors="")

    def test_what_is_no_netlist(self) -> None:
        with pytest.raises(SynthesisError, match="top: the netlist has no such module"):
            read_netlist("module other(a); input a; endmodule", "top")
        text = "module top(input [1:0] a, output y); assign y = &a; endmodule"
        with pytest.raises(SynthesisError, match=r"top: .* is no standard cell"):
            read_netlist(text, "top")
        with pytest.raises(SynthesisError, match="syntax error"):
            read_netlist("modul top;", "top")
