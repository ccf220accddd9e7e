# SPDX-License-Identifier: Apache-2.0
"""Engines: one table of arrays and shapes, simulated in one build, linted, read by yosys."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.verilog import Emission, emit
from hw.arrays import ENGINES, EngineSpec, accumulator_bits, make_engine, parse_engine
from hw.unit import Unit
from sim import verilator
from tests.bench import Bench, run_bench
from tests.hw.cocotb_arrays import DEVICES, devices, own_devices, share

READ = {
    name: engine
    for name, engine in (DEVICES | devices(carry_save=True)).items()
    if name.endswith(
        (
            "_3_5_7",
            "_1_1_1",
            "_2_3_3",
            "inside",
            "array",
            "64_adderkogge_stone",
            "hop2",
            "hop9",
        )
    )
}
"""What tools read: every array and PE, some of their parameters."""
PAIRS = [(array, pe) for array, cls in ENGINES.items() for pe in cls.pes]
GENERATED = ("-Wno-DECLFILENAME", "-Wno-UNUSEDSIGNAL", "-Wno-PROCASSINIT")
"""Of modules that Amaranth wrote: constants in wires, registers with an initial value."""


def written(unit: Unit, folder: Path) -> tuple[Emission, list[str]]:
    """Emit ``unit`` into ``folder``; the names of its files."""
    emission = emit(unit)
    for name, text in emission.files.values():
        (folder / name).write_text(text)
    return emission, [name for name, _ in emission.files.values()]


@pytest.mark.parametrize("every", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_simulation(every: int, tmp_path: Path) -> None:
    """Those with multipliers; tests/hw/test_carry_save.py has the others."""
    run_bench(share("mac", every), "cocotb_arrays", tmp_path, extra_env={"HWGEN_EVERY": str(every)})


def test_an_element_of_ones_own(tmp_path: Path) -> None:
    """That of the engine guide, in the same table."""
    run_bench(own_devices(), "cocotb_arrays", tmp_path, extra_env={"HWGEN_PES": "own"})


def test_lint(tmp_path: Path) -> None:
    """Templates without a warning; what Amaranth wrote without a serious one."""
    emission, files = written(Bench(READ), tmp_path)
    lint = subprocess.run(
        ["verilator", "--lint-only", "-Wall", *GENERATED, "--top", emission.top, *files],
        env=verilator.environment(), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert lint.returncode == 0 and "%Warning" not in lint.stderr, lint.stderr[:2000]
    strict = subprocess.run(
        ["verilator", "--lint-only", "-Wall", "-Wno-fatal", "--top", emission.top, *files],
        env=verilator.environment(), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    ours = [line for line in strict.stderr.splitlines() if re.match(r"%Warning\S* \S+\.sv:", line)]
    assert not ours, ours[:5]


def test_yosys_reads_it(tmp_path: Path) -> None:
    """No latches, loops or undriven wires; one multiplier a MAC, none with the other PEs."""
    emission, files = written(Bench(READ), tmp_path)
    multipliers = sum(engine.macs for engine in READ.values() if engine.pe == "mac")
    script = [
        *(f"read_verilog -sv {file}" for file in files),
        f"hierarchy -check -top {emission.top}",
        "proc", "flatten", "opt_expr", "opt_clean", "check -assert",
        "select -assert-none t:$dlatch*", f"select -assert-count {multipliers} t:$mul",
    ]  # fmt: skip
    (tmp_path / "read.ys").write_text("\n".join(script) + "\n")
    run = subprocess.run(
        [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script read.ys')"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-2000:]


@pytest.mark.parametrize(("array", "pe"), PAIRS)
def test_a_large_array_is_the_text_of_a_small_one(array: str, pe: str) -> None:
    """Text grows with what is unique: the modules are as many, and hardly longer."""
    reduce = 128 if array == "systolic_ws" else 1
    small, large = (
        emit(make_engine(array, pe, tokens=n, reduce=min(n, reduce), outputs=n)) for n in (16, 128)
    )
    assert len(large.files) <= len(small.files) + 1
    sizes = [sum(len(text) for _, text in e.files.values()) for e in (small, large)]
    assert sizes[1] < 1.2 * sizes[0]


@pytest.mark.parametrize(("array", "pe"), PAIRS)
def test_resources_grow_with_the_array(array: str, pe: str) -> None:
    """Twice the rows and outputs; a weight-stationary array grows with its outputs only."""
    engines = [make_engine(array, pe, tokens=n, reduce=4, outputs=n) for n in (4, 8)]
    small, large = (engine.resources() for engine in engines)
    products = {"mac": 1, "dsp_packed": 2}.get(pe)  # of a slice; the others have none
    assert [r.dsp for r in (small, large)] == [
        e.macs // products if products else 0 for e in engines
    ]
    grown = engines[1].macs / engines[0].macs
    assert 0.7 < large.lut / small.lut / grown < 1.3 and 0.7 < large.ff / small.ff / grown < 1.3
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
        spec = parse_engine("cube:opt1.csd:2x8x8")
        assert (spec.pe, spec.encoding, str(spec)) == ("opt1", "csd", "cube:opt1.csd:2x8x8")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("tre:mac", "array 'tre' is not known .*; use tree:mac"),
            (
                "cube:dsp_packed",
                r"array 'cube' has no PE 'dsp_packed' \(it has mac, opt1\); use cube:mac",
            ),
            (
                "tree:mac:dence",
                r"tree:mac has no sparsity 'dence' \(it has dense\); use tree:mac:dense",
            ),
            (
                "tree:opt2.array",
                r"PE 'opt2' takes no encoding 'array' \(it takes booth, csd, ent\)",
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

    @pytest.mark.parametrize("array", ENGINES)
    def test_illegal_engines(self, array: str) -> None:
        shape: dict[str, Any] = {"tokens": 1, "reduce": 4, "outputs": 1}
        pe = ENGINES[array].pes[0]
        with pytest.raises(ValueError, match="reduce must be at least 1, not 0"):
            make_engine(array, pe, tokens=1, reduce=0, outputs=1)
        with pytest.raises(ValueError, match="acc_bits must be at least 18"):
            make_engine(array, pe, **shape, acc_bits=17)
        with pytest.raises(ValueError, match=f"array '{array}' has no PE 'systolic'"):
            make_engine(array, "systolic", **shape)
        with pytest.raises(ValueError, match="has no PE"):
            ENGINES[array](**shape, pe="dsp")
        with pytest.raises(ValueError, match="x_bits must be 2 to 16"):
            make_engine(array, pe, **shape, x_bits=17)
        pe = ENGINES[array].pes[-1]
        with pytest.raises(ValueError, match=f"PE '{pe}' takes no encoding 'naf'"):
            make_engine(array, pe, **shape, encoding="naf")
