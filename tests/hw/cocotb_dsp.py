# SPDX-License-Identifier: Apache-2.0
"""In the simulator: the model of the DSP48E2 against its reference in Python, pin by pin and cycle by cycle."""

import random
from typing import Any

import cocotb
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge, RisingEdge

from hw.dsp.dsp48e2 import INPUTS, OUTPUTS, Dsp48e2, State
from hw.unit import TemplateUnit
from sim.streams import start

CONFIGS = {
    "default": Dsp48e2(),
    "two_stages": Dsp48e2(areg=2, breg=2, acascreg=1, bcascreg=1),
    "cascaded": Dsp48e2(areg=2, breg=2, a_input="CASCADE", b_input="CASCADE", acascreg=2),
    "combinational": Dsp48e2(
        areg=0, breg=0, creg=0, dreg=0, adreg=0, mreg=0, inmodereg=0, opmodereg=0, alumodereg=0, carryinreg=0,
    ),
    "pre_adder": Dsp48e2(amultsel="AD", breg=2, rnd=1 << 17),
    "pre_adder_only": Dsp48e2(amultsel="AD", adreg=0, dreg=0, rnd=0xFFFF_0000_FFFF),
    "pre_adder_b": Dsp48e2(amultsel="AD", preaddinsel="B", breg=2, areg=2),
    "square": Dsp48e2(amultsel="AD", bmultsel="AD", preaddinsel="B"),
    "b_is_sum": Dsp48e2(bmultsel="AD", rnd=0x8000_0000_0001),
    "no_multiplier": Dsp48e2(use_mult="NONE", mreg=0),
    "dynamic": Dsp48e2(use_mult="DYNAMIC", mreg=0, opmodereg=0, rnd=5),
    "unregistered": Dsp48e2(preg=0, creg=0, alumodereg=0),
}  # fmt: skip


class Slice(TemplateUnit):
    """One slice; all its inputs are fields of ``pins``, its outputs of ``found``, the first lowest."""

    def __init__(self, name: str, cell: Dsp48e2) -> None:
        self.cell = cell
        ports = {"pins": In(sum(INPUTS.values())), "found": Out(sum(OUTPUTS.values()))}
        super().__init__(ports, {"of": name})

    def render(self) -> str:
        ports, at = {"CLK": "clk"}, 0
        for port, bits in INPUTS.items():
            ports[port] = f"pins[{at} +: {bits}]"
            at += bits
        at = 0
        for port, bits in OUTPUTS.items():
            ports[port] = f"found[{at} +: {bits}]"
            at += bits
        return (
            f"module {self.module_name} (input wire clk, input wire rst, input wire [{len(self.pins) - 1}:0] pins,\n"
            f"  output wire [{len(self.found) - 1}:0] found);\n  {self.cell.instance('slice', **ports)}\nendmodule\n"
        )


SLICES = {name: Slice(name, cell) for name, cell in CONFIGS.items()}


def random_pins(cell: Dsp48e2, rng: random.Random) -> dict[str, int]:
    """Any operands, enables and resets; only what the slice allows as OPMODE, ALUMODE and INMODE."""
    pins = {port: rng.getrandbits(bits) for port, bits in INPUTS.items()}
    for port in INPUTS:
        if port.startswith("CE"):
            pins[port] = int(rng.random() < 0.85)
        if port.startswith("RST"):
            pins[port] = int(rng.random() < 0.02)
    for port, bits in (("A", 30), ("B", 18), ("D", 27), ("C", 48)):
        if rng.random() < 0.1:
            pins[port] = rng.choice([0, (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1])
    multiplied = cell.use_mult == "MULTIPLY" or (cell.use_mult == "DYNAMIC" and rng.random() < 0.5)
    xy = [0b0101] * 3 if multiplied else []
    fed_back = (0b10,) if cell.preg else ()
    xy += [y | x for y in (0, 0b1000, 0b1100) for x in (0, *fed_back)]
    if not multiplied:
        xy += [y | 0b11 for y in (0, 0b1000, 0b1100)]
    z = [0, 1, 3, 5, *((2, 6) if cell.preg else ())]
    w = [0, 2, 3, *((1,) if cell.preg else ())]
    pins["OPMODE"] = rng.choice(w) << 7 | rng.choice(z) << 4 | rng.choice(xy)
    pins["ALUMODE"] = rng.choice([0, 0, 1, 2, 3])
    pins["CARRYINSEL"] = pins["CARRYCASCIN"] = pins["MULTSIGNIN"] = 0
    allowed = 0b01110 | (cell.areg == 2) | (cell.breg == 2) << 4
    pins["INMODE"] &= allowed
    return pins


def packed(values: dict[str, int], widths: dict[str, int]) -> int:
    word, at = 0, 0
    for port, bits in widths.items():
        word |= values[port] << at
        at += bits
    return word


@cocotb.test()
@cocotb.parametrize(name=list(SLICES))
async def equals_the_reference(dut: Any, name: str) -> None:
    await start(dut)
    rng, cell = random.Random(name), CONFIGS[name]
    state = State(cell)
    pins_port, found = getattr(dut, f"{name}__pins"), getattr(dut, f"{name}__found")
    resets = {port: int(port.startswith("RST")) for port in INPUTS}
    pins_port.value = packed(resets, INPUTS)
    for _ in range(40):  # the vendor's model holds its state for the first 100 ns
        await RisingEdge(dut.clk)
    for cycle in range(1500):
        pins = random_pins(cell, rng)
        pins_port.value = packed(pins, INPUTS)
        expected, state_next = state.step(pins)
        await FallingEdge(dut.clk)
        value = int(found.value)
        assert value == packed(expected, OUTPUTS), (cycle, pins, expected, f"{value:x}")
        await RisingEdge(dut.clk)
        state = state_next
