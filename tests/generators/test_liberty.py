# SPDX-License-Identifier: Apache-2.0
"""Reading cell libraries: one written by hand whose figures are known, the real one, and bad files."""

import sys
from pathlib import Path

import pytest

from designs.errors import DesignError
from generators import liberty
from generators.liberty import Liberty
from generators.yosys import SynthesisError
from tests.generators import tiny_library


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "cache"))


def load(folder: Path, text: str) -> Liberty:
    path = folder / "tiny.lib"
    path.write_text(text)
    return Liberty.load(path)


def test_without_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is an extra: one line says how to get it, exit code 3."""
    monkeypatch.setitem(sys.modules, "liberty.parser", None)
    with pytest.raises(SynthesisError, match=r"pip install 'hwgen\[asic\]'") as error:
        load(tmp_path, tiny_library.text())
    assert error.value.exit_code == 3


class TestLoad:
    def test_figures(self, tmp_path: Path) -> None:
        library = load(tmp_path, tiny_library.text())
        assert library.name == "tiny"
        assert library.conditions == "process 1, 1.2 V, 25 C"
        nand = library.cells["NAND2"]
        assert nand.area_um2 == 2
        assert {name: pin.capacitance_ff for name, pin in nand.pins.items()} == {
            "A": 2,
            "B": 2,
            "Y": 0,
        }
        assert nand.pins["Y"].direction == "output"

    def test_kinds_follow_the_function(self, tmp_path: Path) -> None:
        cells = load(tmp_path, tiny_library.text()).cells
        kinds = {name: cell.kind for name, cell in cells.items() if cell.kind}
        assert kinds == {"INV": "inverter", "BUF": "buffer", "BUF_X2": "buffer", "NAND2": "nand"}

    def test_what_synthesis_uses(self, tmp_path: Path) -> None:
        library = load(tmp_path, tiny_library.text())
        assert library.driver == "BUF_X2"
        assert library.avoided == ("DLY",)

    def test_flip_flop(self, tmp_path: Path) -> None:
        """At 10 fF of 100: a tenth of the way up. Its slew is 0.1 ns: so is the setup's."""
        flop = load(tmp_path, tiny_library.text()).flip_flops["DFF"]
        assert flop.clock == "CK"
        assert flop.clk_to_q_ns == pytest.approx(0.1 + 0.1 * 0.6)
        assert flop.setup_ns == pytest.approx(0.05 + 0.1 * 0.1)

    def test_units(self, tmp_path: Path) -> None:
        """The same digits in ps and fF: 10 fF are then beyond the table, whose end is taken."""
        library = load(tmp_path, tiny_library.text(capacitance="1,ff", time="1ps"))
        assert library.time_ns == 1e-3
        assert library.cells["INV"].pins["A"].capacitance_ff == pytest.approx(0.002)
        assert library.flip_flops["DFF"].clk_to_q_ns == pytest.approx(0.7e-3)

    def test_parsed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first = load(tmp_path, tiny_library.text())
        monkeypatch.setattr(liberty, "_read", None)
        (tmp_path / "elsewhere").mkdir()
        again = load(tmp_path / "elsewhere", tiny_library.text())
        assert again.cells == first.cells
        assert again.path.parent.name == "elsewhere"

    def test_sg13g2(self) -> None:
        library = Liberty.load(tiny_library.sg13g2())
        assert library.name == "sg13g2_stdcell_typ_1p20V_25C"
        assert library.driver == "sg13g2_buf_2"
        assert library.cells["sg13g2_dfrbp_1"].area_um2 == 47.1744
        assert library.cells["sg13g2_nor2b_1"].kind == ""
        # OpenSTA finds 0.20 to 0.28 and 0.13 in a netlist.
        flop = library.flip_flops["sg13g2_dfrbp_1"]
        assert 0.19 < flop.clk_to_q_ns < 0.28
        assert 0.11 < flop.setup_ns < 0.15
        assert {"sg13g2_lgcp_1", "sg13g2_sighold"} <= set(library.avoided)


class TestBadFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is not a liberty file"),
            ("hello", "is not a liberty file"),
            ("module top(input a); endmodule\n", "is not a liberty file"),
            (tiny_library.text()[:2000], "is not a liberty file"),
            ("cell(INV) { area : 1; }", "is not a liberty file: it begins with 'cell'"),
            ("library(empty) { }", "lacks a nand, a buffer, an inverter, a flip-flop"),
            (tiny_library.text(without=("DFF",)), "lacks a flip-flop"),
            (tiny_library.text(without=("NAND2",)), "lacks a nand"),
            (tiny_library.text(without=("INV",)), "lacks an inverter"),
        ],
    )
    def test_one_line(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(DesignError, match=r"tiny\.lib") as error:
            load(tmp_path, text)
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_missing_and_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(DesignError, match="cannot be read: No such file"):
            Liberty.load(tmp_path / "none.lib")
        with pytest.raises(DesignError, match="cannot be read: Is a directory"):
            Liberty.load(tmp_path)

    def test_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.lib").write_bytes(bytes(range(256)) * 8)
        with pytest.raises(DesignError, match="is not a liberty file"):
            Liberty.load(tmp_path / "x.lib")
