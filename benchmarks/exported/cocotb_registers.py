# SPDX-License-Identifier: Apache-2.0
"""The register file of an exported project, through AXI4-Lite: is each register where it is said to be?"""

import json
import os
import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

REGISTERS: dict[str, tuple[int, int, str]] = json.loads(os.environ["REGISTERS"])


@cocotb.test()
async def registers_are_where_they_are_said_to_be(dut: Any) -> None:
    """What is written to an argument comes out under its name; what goes in under a status' name is read."""
    rng = random.Random(8)
    cocotb.start_soon(Clock(dut.clk, 4, unit="ns").start())
    dut.counters.value = 0
    for name in ("ready", "done", "idle"):
        getattr(dut, name).value = 0
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)

    async def read(offset: int, size: int) -> int:
        answer: Any = await host.read(offset, size)
        return int.from_bytes(answer.data, "little")

    of = {name: what for name, what in REGISTERS.items() if what[2] != "handshake"}
    arguments = {n: what for n, what in of.items() if what[2] == "read and write"}
    values = {name: rng.getrandbits(bits) for name, (_, bits, _) in arguments.items()}
    for name, (offset, bits, _) in arguments.items():
        await host.write(offset, values[name].to_bytes(bits // 8, "little"))
    for name, (offset, bits, _) in arguments.items():
        assert int(getattr(dut, name.lower()).value) == values[name], name
        assert await read(offset, bits // 8) == values[name], name

    counters = [name for name in of if name not in arguments and not hasattr(dut, name.lower())]
    words = [rng.getrandbits(32) for _ in counters]
    dut.counters.value = sum(word << 32 * k for k, word in enumerate(words))
    wanted = dict(zip(counters, words, strict=True))
    for name in of:
        if name not in arguments and name not in wanted:
            wanted[name] = rng.getrandbits(32)
            getattr(dut, name.lower()).value = wanted[name]
    for name, word in wanted.items():
        assert await read(of[name][0], 4) == word, name

    # The handshake is where Vitis wants it: start rises by CTRL, and the interrupt follows GIER, IER and done.
    at = {name: offset for name, (offset, _, access) in REGISTERS.items() if access == "handshake"}
    assert at == {"CTRL": 0, "GIER": 4, "IP_IER": 8, "IP_ISR": 12}
    await host.write(at["GIER"], b"\1\0\0\0")
    await host.write(at["IP_IER"], b"\1\0\0\0")
    assert not dut.start.value
    await host.write(at["CTRL"], b"\1\0\0\0")
    assert dut.start.value and not dut.interrupt.value
    dut.done.value = dut.ready.value = 1
    await ClockCycles(dut.clk, 1)
    dut.done.value = dut.ready.value = 0
    await ClockCycles(dut.clk, 3)
    assert dut.interrupt.value and not dut.start.value
    assert await read(at["CTRL"], 4) & 2
    await host.write(at["IP_ISR"], b"\1\0\0\0")
    await ClockCycles(dut.clk, 2)
    assert not dut.interrupt.value
