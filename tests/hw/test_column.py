# SPDX-License-Identifier: Apache-2.0
"""Digit-serial arrays: the table of cocotb_arrays.py in a build of their own, and what only they have."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.verilog import emit
from hw.arith.digits import nonzero
from hw.arith.serial import DigitSerialPe
from hw.arrays import make_engine
from sim import verilator
from tests.bench import Bench, run_bench
from tests.hw.cocotb_arrays import serial_devices, share

DEVICES = serial_devices()
# Of combinational units among the parts: their clock, and what yosys writes.
STYLE = ("UNUSEDSIGNAL", "PROCASSINIT")


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_simulation(every: int, tmp_path: Path) -> None:
    run_bench(
        share("serial", every), "cocotb_arrays", tmp_path,
        extra_env={"HWGEN_PES": "serial", "HWGEN_EVERY": str(every)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Verilog of all devices and their parts, and of a bench with all of them."""
    folder = tmp_path_factory.mktemp("sources")
    for file, text in emit(Bench(DEVICES)).files.values():
        (folder / file).write_text(text)
    return folder


def test_lint(sources: Path, tmp_path: Path) -> None:
    """The templates with all warnings; of the parts, which have a style of their own, the others."""
    files = []
    for source in sorted(sources.iterdir(), key=lambda path: path.suffix):
        off = [f"/* verilator lint_off {name} */\n" for name in STYLE if source.suffix == ".v"]
        on = [f"/* verilator lint_on {name} */\n" for name in STYLE if source.suffix == ".v"]
        files.append(tmp_path / source.name)
        files[-1].write_text("".join([*off, source.read_text(), *on]))
    lint = subprocess.run(
        ["verilator", "--lint-only", "-Wall", "--top-module", "bench", *map(str, files)],
        env=verilator.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert lint.returncode == 0 and "%Warning" not in lint.stderr, lint.stderr


def test_yosys_reads_it(sources: Path, tmp_path: Path) -> None:
    """No latches, loops, undriven wires or memories, and nothing that multiplies."""
    script = [f"read_verilog -sv {path}" for path in sorted(sources.iterdir())]
    script += [
        "hierarchy -check -top bench", "proc", "flatten", "opt_expr", "opt_clean", "check -assert",
        "select -assert-none t:$mem* t:$dlatch* t:$mul",
    ]  # fmt: skip
    (tmp_path / "read.ys").write_text("\n".join(script) + "\n")
    run = subprocess.run(
        [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script read.ys')"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-2000:]


class TestCycles:
    """What the formula says; that the hardware keeps to it is for the simulation."""

    @pytest.mark.parametrize(
        ("pe", "lanes", "encoding"),
        [("opt4c", 1, "csd"), ("opt3", 1, "booth"), ("opt4e", 4, "ent"), ("opt4e", 3, "csd")],
    )
    def test_count_the_digits(self, pe: str, lanes: int, encoding: str) -> None:
        engine = make_engine(
            "column", pe, tokens=4, reduce=5, outputs=2, lanes=lanes, encoding=encoding
        )
        x = np.random.default_rng(1).integers(-128, 128, (3, 23))
        total = 0
        for begin in range(0, 23, 5):
            beat = x[:, begin : begin + 5]
            in_lanes = [
                sum(int(nonzero(np.array([v]), 8, encoding=encoding)[0]) for v in row[lane::lanes])
                for row in beat
                for lane in range(lanes)
            ]
            total += max(2, *in_lanes)
        assert engine.cycles(x) == total <= engine.interval(23, 3)

    def test_extremes(self) -> None:
        engine: Any = make_engine("column", "opt4c", tokens=2, reduce=8, outputs=2)
        assert engine.beats_cycles(np.zeros((2, 16), int)).tolist() == [2, 2]
        assert engine.cycles(np.zeros((2, 16), int)) == max(4, 2 + 2)
        assert engine.beats_cycles(np.full((2, 8), 85)).tolist() == [8 * 4]  # 01010101
        assert engine.interval(8, 2) == 8 * 4
        booth = make_engine("column", "opt4c", tokens=2, reduce=8, outputs=2, encoding="booth")
        assert booth.cycles(np.full((2, 8), -128)) == 8


class TestRefuses:
    @pytest.mark.parametrize(
        ("pe", "options", "message"),
        [
            ("opt4c", {"lanes": 2}, "PE 'opt4c' has 1 lane, not 2; use opt4e for more"),
            ("opt4e", {"lanes": 9}, r"lanes must be 1 to 8 \(reduce\), not 9"),
            ("opt4e", {"lanes": 0}, r"lanes must be 1 to 8 \(reduce\), not 0"),
            ("opt4e", {"group": 0}, "group must be at least 1"),
            ("opt4e", {"encoding": "array"}, "takes no encoding 'array'"),
            ("opt4e", {"resolve_stages": 3}, "an addition takes 1 or 2 stages, not 3"),
            ("mac", {}, "array 'column' has no PE 'mac' .*; use column:opt4c"),
        ],
    )
    def test_bad_parameters(self, pe: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make_engine("column", pe, tokens=2, reduce=8, outputs=2, **options)

    def test_narrow_sum(self) -> None:
        with pytest.raises(ValueError, match="rows of 15 bits exceed an accumulator of 14"):
            DigitSerialPe(lanes=1, elements=1, digits=4, w_bits=8, width=14)
