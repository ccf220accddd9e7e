# SPDX-License-Identifier: Apache-2.0
"""The special function units against the golden model, and what their constructors refuse."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from generators.verilog import emit
from hw.sfu import product, rotary, tables
from hw.sfu.activation import Activation
from hw.sfu.argmax import ArgMax
from hw.sfu.layernorm import LayerNorm
from hw.sfu.requantise import Requantise
from hw.sfu.softmax import Softmax
from hw.sfu.tree import radix_4, tree
from hw.unit import Unit
from sim import verilator
from sim.golden import ops
from tests.bench import run_bench
from tests.hw.cocotb_sfu import UNITS


def test_on_verilator(tmp_path: Path) -> None:
    run_bench(UNITS, "cocotb_sfu", tmp_path)


class TestRtl:
    @pytest.mark.parametrize(
        "name",
        [
            "requantise", "activation", "activation_passing", "rotary", "gated_product", "argmax_odd",
            "layernorm", "rmsnorm_odd", "softmax",
        ],
    )  # fmt: skip
    def test_tools_read_it_without_warnings(self, name: str, tmp_path: Path) -> None:
        emission = emit(UNITS[name])
        for file, text in emission.files.values():
            (tmp_path / file).write_text(text)
        files = [file for file, _ in emission.files.values()]
        for file in files:
            if file.endswith(".sv"):
                _verilator(["-Wall", file], tmp_path)
        # What Amaranth's back end writes has its own style.
        style = ["PROCASSINIT", "UNUSEDSIGNAL", "WIDTHEXPAND", "WIDTHTRUNC", "CASEOVERLAP"]
        _verilator(
            ["-Wall", *(f"-Wno-{w}" for w in style), "--top", emission.top, *files], tmp_path
        )
        script = f"read_verilog -sv {' '.join(files)}; hierarchy -check -top {emission.top}"
        script += "; proc; check -assert"
        run = subprocess.run(
            [sys.executable, "-c", f"from pyosys import libyosys as y; y.run_pass({script!r})"],
            cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, (run.stdout + run.stderr)[-2000:]


def _verilator(arguments: list[str], folder: Path) -> None:
    run = subprocess.run(
        ["verilator", "--lint-only", *arguments],
        cwd=folder, env=verilator.environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0 and not run.stderr, run.stderr[-2000:]


class TestTables:
    def test_equal_those_of_the_golden_model(self) -> None:
        np.testing.assert_array_equal(tables.EXP2_TABLE, ops.EXP2_TABLE)
        np.testing.assert_array_equal(tables.RSQRT_TABLE, ops.RSQRT_TABLE)
        assert tables.GATE_TABLE.keys() == ops.GATE_TABLE.keys()
        for gate, table in tables.GATE_TABLE.items():
            np.testing.assert_array_equal(table, ops.GATE_TABLE[gate])
        assert rotary.ROTARY_FRACTION == ops.ROTARY_FRACTION
        assert rotary.ANGLE_FRACTION == ops.ANGLE_FRACTION
        assert product.PRODUCT_FRACTION == ops.PRODUCT_FRACTION

    def test_concatenation_has_the_first_value_lowest(self) -> None:
        assert (
            "".join(tables.concatenation([1, 2, 3], 6, per_line=2).split()) == "{6'h03,6'h02,6'h01}"
        )


class TestTree:
    @pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 63, 64, 65])
    def test_adds_every_operand_once(self, count: int) -> None:
        stages = tree("s", count, 7, [4] * radix_4(count))
        sums: list[int] = [1 << k for k in range(count)]
        for stage in stages:
            sums = [sum(sums[k] for k in group) for group in stage.groups]
            assert max(value.bit_count() for value in sums) * 127 < 1 << stage.bits
        assert sums == [(1 << count) - 1]


class TestCycles:
    """What the scheduler is promised; tests/hw/cocotb_sfu.py measures the same functions."""

    def test_layernorm_of_a_token(self) -> None:
        unit = LayerNorm(width=1024, lanes=64, rows_bits=10, beat_bytes=4096)
        assert unit.cycles(1) <= 2 * 16 + 25
        assert unit.cycles(8) - unit.cycles(7) == 16

    def test_softmax_item(self) -> None:
        unit = Softmax(tokens=2, lanes=64, context=1024, slots=4)
        assert unit.cycles(2, 16) <= 32 + 25
        assert unit.interval(2, 16) == 32


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Requantise(0, 24, 1), "A word needs at least 1 lane, not 0"),
        (lambda: Requantise(4, 33, 1), "Accumulators must have 2 to 32 bits, not 33"),
        (lambda: Requantise(4, 24, 0), "A tag needs at least 1 bit, not 0"),
        (lambda: Activation(0, 1), "A word needs at least 1 lane, not 0"),
        (lambda: Activation(4, 0), "A tag needs at least 1 bit, not 0"),
        (
            lambda: Activation(4, 1, "swish"),
            "Gate 'swish' is not known; known are gelu, relu, silu",
        ),
        (lambda: Activation(4, 1, bits=12), "A result has 8 or 16 bits, not 12"),
        (lambda: rotary.Rotary(3, 1), "A word needs an even number of lanes, not 3"),
        (lambda: rotary.Rotary(4, 0), "A tag needs at least 1 bit, not 0"),
        (lambda: product.GatedProduct(0), "A word needs at least 1 lane, not 0"),
        (lambda: LayerNorm(64, 8, 3, 24, False), "A beat must be a multiple of 16 bytes"),
        (lambda: ArgMax(1, 8), "A word needs at least 2 lanes, not 1"),
        (lambda: ArgMax(8, 2), "An index of 8 lanes needs 3 bits, not 2"),
        (lambda: LayerNorm(60, 8, 3, 64), "Width must be a multiple of 8 up to 16384, not 60"),
        (lambda: LayerNorm(64, 8, 3, 48), "A beat must be a multiple of 32 bytes"),
        (lambda: LayerNorm(64, 8, 0, 64), "The index of a row needs at least 1 bit, not 0"),
        (lambda: LayerNorm(64, 1, 3, 64), "A word needs at least 2 lanes, not 1"),
        (lambda: Softmax(0, 8, 64, 2), "Tokens and slots must be at least 1, not 0 and 2"),
        (lambda: Softmax(2, 1, 64, 2), "A word needs at least 2 lanes, not 1"),
        (lambda: Softmax(2, 8, 60, 2), "Context must be a multiple of 8 lanes, not 60"),
        (lambda: Softmax(2, 8, 1 << 18, 2), "Context must be at most 132104 columns, not 262144"),
    ],
)
def test_wrong_parameters_are_refused(make: Callable[[], Unit], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        make()
