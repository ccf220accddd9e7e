# SPDX-License-Identifier: Apache-2.0
"""Combinational units evaluated on many vectors at once: their emitted netlist, gate by gate, in numpy.

Amaranth's simulator takes a second for 5,000 vectors of a multiplier, a Verilator build 15 s. yosys writes the
netlist as JSON; a wire here is an array of bool, one element a vector.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from generators.verilog import emit
from hw.unit import Unit

Bits = np.ndarray
GATES: dict[str, Callable[..., Bits]] = {
    "$_NOT_": lambda a: ~a,
    "$_AND_": lambda a, b: a & b,
    "$_OR_": lambda a, b: a | b,
    "$_XOR_": lambda a, b: a ^ b,
    "$_MUX_": lambda a, b, s: np.where(s, b, a),
}


@cache
def _netlist(name: str, texts: tuple[str, ...]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        for n, text in enumerate(texts):
            (Path(folder) / f"{n}.sv").write_text(text)
        commands = [f"read_verilog -sv {n}.sv" for n in range(len(texts))] + [
            f"synth -flatten -noabc -noalumacc -top {name}",
            "delete t:$scopeinfo",
            "write_json n.json",
        ]
        (Path(folder) / "n.ys").write_text("\n".join(commands))
        run = subprocess.run(
            [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script n.ys')"],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 0, (run.stdout + run.stderr)[-2000:]
        return json.loads((Path(folder) / "n.json").read_text())["modules"][name]


def evaluate(unit: Unit, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs of ``unit`` (unsigned) for vectors of inputs; any integers, of which the low bits count."""
    emission = emit(unit)
    module = _netlist(emission.top, tuple(text for _, text in emission.files.values()))
    length = len(next(iter(inputs.values())))
    wires: dict[Any, Bits] = {
        "0": np.zeros(length, bool), "1": np.ones(length, bool), "x": np.zeros(length, bool)
    }  # fmt: skip
    for name, port in module["ports"].items():
        if port["direction"] == "input":
            value = np.asarray(inputs.get(name, np.zeros(length, np.int64)))
            for n, bit in enumerate(port["bits"]):
                wires[bit] = ((value >> n) & 1).astype(bool)
    waiting = list(module["cells"].values())
    while waiting:
        later = []
        for cell in waiting:
            pins = {pin: bits[0] for pin, bits in cell["connections"].items()}
            output = pins.pop("Y")
            taken = [pins[pin] for pin in "ABS" if pin in pins]
            if all(bit in wires for bit in taken):
                wires[output] = GATES[cell["type"]](*(wires[bit] for bit in taken))
            else:
                later.append(cell)
        assert len(later) < len(waiting), "a loop"
        waiting = later
    return {
        name: _number([wires[bit] for bit in port["bits"]])
        for name, port in module["ports"].items()
        if port["direction"] == "output"
    }


def _number(bits: list[Bits]) -> np.ndarray:
    """Unsigned numbers from their bits, lowest first; Python integers where 62 bits do not hold them."""
    total = np.zeros(len(bits[0]), np.int64 if len(bits) <= 62 else object)
    for n, bit in enumerate(bits):
        total += bit.astype(total.dtype) << n
    return total
