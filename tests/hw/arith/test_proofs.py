# SPDX-License-Identifier: Apache-2.0
"""Proofs by yosys: multipliers equal ``*`` and adders equal ``+`` for every input, not for many."""

import subprocess
import sys
from pathlib import Path

import pytest

from generators.verilog import emit
from hw.arith.adders import ADDERS, Adder
from hw.arith.digits import ENCODINGS
from hw.arith.dot import Multiplier
from hw.unit import Unit

SIGNS = [(True, True), (True, False), (False, True), (False, False)]


def proven(unit: Unit, expression: str, output: str, folder: Path, seconds: int) -> bool:
    """Whether output ``output`` of ``unit`` equals a Verilog expression of its inputs, by a SAT solver."""
    emission = emit(unit)
    ports = [(n, len(v), i) for n, v, i in unit.ports() if n not in ("clk", "rst")]
    declared = ", ".join(
        f"{'input' if is_in else 'output'} [{bits - 1}:0] {name}" for name, bits, is_in in ports
    )
    lines = [f"read_verilog -sv {file}" for file, _ in emission.files.values()]
    for file, text in emission.files.values():
        (folder / file).write_text(text)
    (folder / "gold.v").write_text(
        f"module gold (input clk, input rst, {declared}); assign {output} = {expression}; endmodule\n"
    )
    lines += [
        "read_verilog -sv gold.v", "hierarchy -check", "proc", "flatten", "opt -full",
        f"miter -equiv -flatten -make_outputs gold {emission.top} miter", "hierarchy -top miter",
        "opt -full", f"sat -verify -prove trigger 0 -timeout {seconds} miter",
    ]  # fmt: skip
    (folder / "prove.ys").write_text("\n".join(lines) + "\n")
    run = subprocess.run(
        [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script prove.ys')"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    said = run.stdout + run.stderr
    assert "no model found: SUCCESS" in said or "proof did fail" in said, said[-2000:]
    return run.returncode == 0


def product(x_signed: bool, w_signed: bool, bits: int) -> str:
    """Verilog of the exact product of operands of ``bits`` bits."""

    def wide(name: str, signed: bool) -> str:
        return (
            f"$signed({{{{{bits}{{{name}[{bits - 1}]}}}}, {name}}})"
            if signed
            else f"$signed({{{bits}'b0, {name}}})"
        )

    return f"{wide('x', x_signed)} * {wide('w', w_signed)}"


def multiplier_proven(
    bits: int, encoding: str, signs: tuple[bool, bool], folder: Path, seconds: int
) -> bool:
    unit = Multiplier(
        x_bits=bits, w_bits=bits, x_signed=signs[0], w_signed=signs[1], encoding=encoding
    )
    return proven(unit, product(*signs, bits), "product", folder, seconds)


@pytest.mark.parametrize("bits", [4, 5, 6, 7])
@pytest.mark.parametrize("encoding", ["array", *ENCODINGS])
def test_multiplier(bits: int, encoding: str, tmp_path: Path) -> None:
    signs = SIGNS if bits == 4 else [(True, True), (False, False)]
    for n, sign in enumerate(signs):
        (tmp_path / str(n)).mkdir()
        assert multiplier_proven(bits, encoding, sign, tmp_path / str(n), 120)


def test_multiplier_of_42_compressors(tmp_path: Path) -> None:
    unit = Multiplier(x_bits=6, w_bits=6, compressor="4:2")
    assert proven(unit, product(True, True, 6), "product", tmp_path, 120)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["array", *ENCODINGS])
def test_multiplier_of_bytes(encoding: str, tmp_path: Path) -> None:
    assert multiplier_proven(8, encoding, (True, True), tmp_path, 1800)


@pytest.mark.parametrize("style", [style for style in ADDERS if style != "plain"])
def test_adder(style: str, tmp_path: Path) -> None:
    assert proven(Adder(width=32, style=style), "{1'b0, a} + {1'b0, b}", "total", tmp_path, 120)


def test_a_wrong_multiplier_is_found(tmp_path: Path) -> None:
    """The proof can fail: one operand counted as unsigned differs for half of the inputs."""
    unit = Multiplier(x_bits=4, w_bits=4, x_signed=False)
    assert not proven(unit, product(True, True, 4), "product", tmp_path, 60)
