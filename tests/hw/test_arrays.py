"""Engines: one table of arrays and shapes, simulated in one build, linted, read by yosys."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hw.arrays import ENGINES, EngineSpec, accumulator_bits, make_engine, parse_engine
from sim import verilator
from tests.bench import run_bench
from tests.hw.cocotb_arrays import DEVICES

WITH_MAC = [array for array, cls in ENGINES.items() if "mac" in cls.pes]


def test_simulation(tmp_path: Path) -> None:
    run_bench(DEVICES, "cocotb_arrays", tmp_path)


def test_lint(tmp_path: Path) -> None:
    for name, engine in DEVICES.items():
        source = tmp_path / f"{engine.module_name}.sv"
        source.write_text(engine.render())
        lint = subprocess.run(
            ["verilator", "--lint-only", "-Wall", str(source)],
            env=verilator.environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert lint.returncode == 0 and "%Warning" not in lint.stderr, f"{name}: {lint.stderr}"


def test_yosys_reads_it(tmp_path: Path) -> None:
    """No latches, loops or undriven wires; no memories; one multiplier a MAC."""
    script, engines = (
        [],
        [e for n, e in DEVICES.items() if n.endswith(("_2_8_8", "_3_5_7", "_1_1_1"))],
    )
    for engine in engines:
        (tmp_path / f"{engine.module_name}.sv").write_text(engine.render())
        script += [
            f"read_verilog -sv {engine.module_name}.sv",
            f"hierarchy -check -top {engine.module_name}",
            "proc", "flatten", "opt_expr", "opt_clean", "check -assert",
            "select -assert-none t:$mem* t:$dlatch*", f"select -assert-count {engine.macs} t:$mul",
            "design -reset",
        ]  # fmt: skip
    (tmp_path / "read.ys").write_text("\n".join(script) + "\n")
    run = subprocess.run(
        [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script read.ys')"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-2000:]


@pytest.mark.parametrize("array", WITH_MAC)
def test_large_arrays_are_text_at_once(array: str) -> None:
    begin = time.perf_counter()
    text = make_engine(array, tokens=128, reduce=1, outputs=128).render()
    assert time.perf_counter() - begin < 5
    assert len(text) < 20_000


@pytest.mark.parametrize("array", WITH_MAC)
def test_resources_grow_with_the_array(array: str) -> None:
    small, large = (make_engine(array, tokens=n, reduce=4, outputs=n).resources() for n in (2, 4))
    assert (small.dsp, large.dsp) == (16, 64)
    assert 3 < large.lut / small.lut < 5 and 3 < large.ff / small.ff < 5
    assert small.bram == 0


class TestAccumulatorBits:
    @pytest.mark.parametrize("k", [1, 2, 3, 4, 63, 64, 65, 3072, 4096])
    def test_is_exact(self, k: int) -> None:
        bits = accumulator_bits(k)
        largest = k * (-128) * (-128)
        assert -(1 << (bits - 1)) <= k * -128 * 127 and largest < 1 << (bits - 1)
        assert largest >= 1 << (bits - 2)

    def test_golden_refuses_overflow(self) -> None:
        engine = make_engine("tree", tokens=1, reduce=4, outputs=1, acc_bits=accumulator_bits(4))
        minimum = np.full((1, 8), -128)
        with pytest.raises(OverflowError, match="k=8 overflows 18 bits"):
            engine.golden(minimum, minimum.T)


class TestNames:
    def test_parse(self) -> None:
        assert parse_engine("tree:mac:2x64x64") == EngineSpec("tree", "mac", "dense", 2, 64, 64)
        assert parse_engine("tree") == parse_engine("tree:mac:dense") == EngineSpec("tree")
        assert str(parse_engine("tree:2x64x32")) == "tree:mac:2x64x32"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("tre:mac", "array 'tre' is not known .*; use tree:mac"),
            (
                "tree:dsp_packed",
                r"array 'tree' has no PE 'dsp_packed' \(it has mac\); use tree:mac",
            ),
            (
                "tree:mac:dence",
                r"tree:mac has no sparsity 'dence' \(it has dense\); use tree:mac:dense",
            ),
            ("tree:mac:2x64", "a shape is three positive numbers"),
            ("tree:mac:0x64x64", "a shape is three positive numbers"),
            ("tree:mac:dense:more:2x2x2", r"is not array\[:pe"),
        ],
    )
    def test_refuses(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            parse_engine(text)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("array", WITH_MAC)
    def test_illegal_engines(self, array: str) -> None:
        shape: dict[str, Any] = {"tokens": 1, "reduce": 4, "outputs": 1}
        with pytest.raises(ValueError, match="reduce must be at least 1, not 0"):
            make_engine(array, tokens=1, reduce=0, outputs=1)
        with pytest.raises(ValueError, match="acc_bits must be at least 18"):
            make_engine(array, **shape, acc_bits=17)
        with pytest.raises(ValueError, match=f"use {array}:mac"):
            make_engine(array, "opt9", **shape)
        with pytest.raises(ValueError, match="has no PE"):
            ENGINES[array](**shape, pe="opt1")
