# SPDX-License-Identifier: Apache-2.0
"""The accelerator against its golden vectors (``vectors.json``); host and memory are in Python.

Run by ``run.py``, or by any cocotb 2 runner with the files of ``../rtl``, and this folder on
PYTHONPATH.
"""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge

HERE = Path(__file__).resolve().parent
FACTS: dict[str, Any] = json.loads((HERE / "vectors.json").read_text())
REGISTERS: dict[str, int] = FACTS["registers"]
PORTS, PORT_BYTES = FACTS["ports"], FACTS["port_bytes"]
STRIPE = PORTS * PORT_BYTES
CTRL, GIER, IP_IER, IP_ISR = 0x00, 0x04, 0x08, 0x0C
START, DONE, IDLE = 1, 2, 4
OKAY, DECERR = 0, 3


class Host:
    """Reads and writes registers over AXI4-Lite."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            self.pin(name).value = 0

    def pin(self, name: str) -> Any:
        """A signal of the port."""
        return getattr(self.dut, f"s_axi_control_{name}")

    async def write(self, offset: int, value: int) -> None:
        """Write a register, and wait for the answer."""
        self.pin("awaddr").value = offset
        self.pin("wdata").value = value & 0xFFFFFFFF
        self.pin("wstrb").value = 15
        for name in ("awvalid", "wvalid", "bready"):
            self.pin(name).value = 1
        waiting = {"aw", "w", "b"}
        while waiting:
            await RisingEdge(self.dut.ap_clk)
            for channel in sorted(waiting):
                if self.pin(f"{channel}valid").value and self.pin(f"{channel}ready").value:
                    waiting.remove(channel)
                    self.pin("bready" if channel == "b" else f"{channel}valid").value = 0
                    if channel == "b":
                        assert int(self.pin("bresp").value) == OKAY

    async def read(self, offset: int) -> int:
        """Read a register."""
        self.pin("araddr").value = offset
        self.pin("arvalid").value = self.pin("rready").value = 1
        while True:
            await RisingEdge(self.dut.ap_clk)
            if self.pin("arvalid").value and self.pin("arready").value:
                self.pin("arvalid").value = 0
            if self.pin("rvalid").value and self.pin("rready").value:
                self.pin("rready").value = 0
                assert int(self.pin("rresp").value) == OKAY
                return int(self.pin("rdata").value)


class Port:
    """One port of the memory: bursts in order, a latency, and checks of what AXI4 asks for.

    Parameters
    ----------
    memory : the striped space: stripe s is its bytes ``[s * PORTS * PORT_BYTES, ...)``, of which
        port p has the ``PORT_BYTES`` from ``p * PORT_BYTES``.
    """

    def __init__(self, dut: Any, index: int, memory: bytearray) -> None:
        self.dut, self.index, self.memory = dut, index, memory
        self.base: int = FACTS["bases"][index]
        self.pins = {
            name: getattr(dut, f"m_axi_g{index:02d}_{name}")
            for name in (
                *("awaddr", "awlen", "awsize", "awburst", "awid", "awvalid", "awready"),
                *(
                    "wdata",
                    "wstrb",
                    "wlast",
                    "wvalid",
                    "wready",
                    "bid",
                    "bresp",
                    "bvalid",
                    "bready",
                ),
                *("araddr", "arlen", "arsize", "arburst", "arid", "arvalid", "arready"),
                *("rid", "rdata", "rresp", "rlast", "rvalid", "rready"),
            )
        }
        for name in ("awready", "wready", "bvalid", "arready", "rvalid"):
            self.pins[name].value = 0
        cocotb.start_soon(self.serve_reads())
        cocotb.start_soon(self.serve_writes())

    def burst(self, channel: str) -> tuple[int, int, int]:
        """Stripe, beats and id of the burst that is being asked for."""
        address, beats = (int(self.pins[f"{channel}{field}"].value) for field in ("addr", "len"))
        beats += 1
        size = int(self.pins[f"{channel}size"].value)
        assert 1 << size == PORT_BYTES, "narrow transfers are not allowed"
        assert int(self.pins[f"{channel}burst"].value) == 1, "bursts must increment"
        assert address % PORT_BYTES == 0, f"address {address:#x} is not a multiple of {PORT_BYTES}"
        end = address + beats * PORT_BYTES
        assert address % 4096 + beats * PORT_BYTES <= 4096, f"burst at {address:#x} crosses 4 KiB"
        size_of_port = len(self.memory) // PORTS
        assert self.base <= address and end <= self.base + size_of_port, f"{address:#x} is outside"
        return (address - self.base) // PORT_BYTES, beats, int(self.pins[f"{channel}id"].value)

    def at(self, stripe: int) -> int:
        """Where the memory holds this port's bytes of a stripe."""
        return stripe * STRIPE + self.index * PORT_BYTES

    async def serve_reads(self) -> None:
        """Take read bursts, and answer one beat a cycle in order."""
        pins, clock = self.pins, RisingEdge(self.dut.ap_clk)
        beats: deque[tuple[int, int, int, int]] = deque()  # cycle, stripe, id, last
        valid, cycle = False, 0
        pins["arready"].value = 1
        while True:
            await clock
            cycle += 1
            if pins["arvalid"].value:
                stripe, count, tag = self.burst("ar")
                when = cycle + FACTS["latency_cycles"]
                beats.extend((when, stripe + k, tag, int(k == count - 1)) for k in range(count))
            if valid and pins["rready"].value:
                valid = False
                pins["rvalid"].value = 0
            if not valid and beats and beats[0][0] <= cycle:
                _, stripe, tag, last = beats.popleft()
                start = self.at(stripe)
                word = self.memory[start : start + PORT_BYTES]
                pins["rdata"].value = int.from_bytes(word, "little")
                pins["rid"].value, pins["rlast"].value, pins["rresp"].value = tag, last, OKAY
                pins["rvalid"].value = 1
                valid = True

    async def serve_writes(self) -> None:
        """Take one write burst at a time, and answer it."""
        pins, clock = self.pins, RisingEdge(self.dut.ap_clk)
        while True:
            pins["awready"].value = 1
            await clock
            while not pins["awvalid"].value:
                await clock
            stripe, count, tag = self.burst("aw")
            pins["awready"].value, pins["wready"].value = 0, 1
            for beat in range(count):
                await clock
                while not pins["wvalid"].value:
                    await clock
                assert bool(pins["wlast"].value) == (beat == count - 1), (
                    "wlast is on the wrong beat"
                )
                word = int(pins["wdata"].value).to_bytes(PORT_BYTES, "little")
                strobe, start = int(pins["wstrb"].value), self.at(stripe + beat)
                for k in range(PORT_BYTES):
                    if strobe >> k & 1:
                        self.memory[start + k] = word[k]
            pins["wready"].value = 0
            pins["bid"].value, pins["bresp"].value, pins["bvalid"].value = tag, OKAY, 1
            await clock
            while not pins["bready"].value:
                await clock
            pins["bvalid"].value = 0


async def start_up(dut: Any) -> Host:
    """Clock, reset, and a host that has told the accelerator where its memory is."""
    cocotb.start_soon(Clock(dut.ap_clk, 4, unit="ns", impl="gpi").start())
    host = Host(dut)
    dut.ap_rst_n.value = 0
    for _ in range(16):
        await RisingEdge(dut.ap_clk)
    dut.ap_rst_n.value = 1
    for _ in range(16):
        await RisingEdge(dut.ap_clk)
    for port, base in enumerate(FACTS["bases"]):
        at = REGISTERS[f"memory_{port}"]
        await host.write(at, base)
        await host.write(at + 4, base >> 32)
    return host


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def control_registers(dut: Any) -> None:
    """What the host writes can be read back, and the accelerator is idle until it is started."""
    for port in range(PORTS):
        for name in ("awready", "wready", "bvalid", "arready", "rvalid"):
            getattr(dut, f"m_axi_g{port:02d}_{name}").value = 0
    host = await start_up(dut)
    assert await host.read(CTRL) == IDLE
    for value, name in enumerate(("prompt", "generate", "position", "layers"), 1):
        await host.write(REGISTERS[name], value)
    for value, name in enumerate(("prompt", "generate", "position", "layers"), 1):
        assert await host.read(REGISTERS[name]) == value
    for port, base in enumerate(FACTS["bases"]):
        at = REGISTERS[f"memory_{port}"]
        assert await host.read(at) + (await host.read(at + 4) << 32) == base
    assert await host.read(CTRL) == IDLE
    assert not dut.interrupt.value


@cocotb.test(skip=not FACTS["cases"])
@cocotb.parametrize(case=list(range(len(FACTS["cases"]))))
async def golden_vectors(dut: Any, case: int = 0) -> None:
    """Tokens, keys and values in memory after a run are those of the golden model."""
    vector = FACTS["cases"][case]
    memory = bytearray((HERE / FACTS["image"]).read_bytes())
    memory.extend(bytes(FACTS["stripes"] * STRIPE - len(memory)))
    first = FACTS["token_stripe"]
    for k, token in enumerate(vector["prompt"]):
        memory[(first + k) * STRIPE : (first + k) * STRIPE + 4] = token.to_bytes(4, "little")
    for port in range(PORTS):
        Port(dut, port, memory)
    host = await start_up(dut)
    values = {"prompt": len(vector["prompt"]), "generate": len(vector["tokens"])}
    for name, value in (values | {"position": 0, "layers": FACTS["layers"]}).items():
        await host.write(REGISTERS[name], value)
    await host.write(GIER, 1)
    await host.write(IP_IER, 1)
    await host.write(CTRL, START)
    await RisingEdge(dut.interrupt)
    assert await host.read(CTRL) & DONE
    await host.write(IP_ISR, 1)
    assert await host.read(CTRL) == IDLE
    assert await host.read(REGISTERS["generated"]) == len(vector["tokens"])
    cycles = await host.read(REGISTERS["cycles"])
    dut._log.info(f"{len(vector['prompt'])} + {len(vector['tokens'])} tokens in {cycles} cycles")
    at = [(first + len(vector["prompt"]) + k) * STRIPE for k in range(len(vector["tokens"]))]
    assert [int.from_bytes(memory[k : k + 4], "little") for k in at] == vector["tokens"]
    wrong = [
        f"byte {offset}: {memory[offset : offset + len(wanted) // 2].hex()}, expected {wanted}"
        for offset, wanted in vector["memory"]
        if memory[offset : offset + len(wanted) // 2].hex() != wanted
    ]
    assert not wrong, f"{len(wrong)} of {len(vector['memory'])} words differ; {wrong[0]}"
