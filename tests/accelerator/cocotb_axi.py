# SPDX-License-Identifier: Apache-2.0
"""The top of a build between the AXI models of cocotbext-axi, which withhold their ready and valid at random.

A watch on every channel asserts what those models do not: payloads that wait do not change, bursts stay within 4 KiB
and within the memory behind the port, and are whole words that increment.
"""

import itertools
import json
import os
import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from designs.memory_map import MemoryMap
from sim.built import load

JOB: dict[str, Any] = json.loads(os.environ["JOB"])
BUILT = load(Path(JOB["out"]))
MAP: MemoryMap = BUILT.map
PAGE, INCREMENT = 4096, 1


def pauses(seed: int, percent: int) -> Iterator[bool]:
    """When a channel waits: in bursts, and single cycles."""
    rng = random.Random(seed)
    while True:
        wait = rng.random() * 100 < percent
        yield from itertools.repeat(wait, rng.choice((1, 1, 1, 2, 5)))


class Watch:
    """Assertions on one master, cycle by cycle."""

    def __init__(self, dut: Any, port: int, base: int, size: int) -> None:
        self.dut, self.name = dut, f"m_axi_g{port:02d}"
        self.base, self.size = base, size
        self.held: dict[str, tuple[int, ...]] = {}
        self.beats: deque[int] = deque()  # of the write bursts that have no data yet
        self.early: deque[int] = deque()  # last flags of data before its address
        self.bursts = {"ar": 0, "aw": 0}
        cocotb.start_soon(self.run())

    def of(self, *names: str) -> tuple[int, ...]:
        return tuple(int(getattr(self.dut, f"{self.name}_{name}").value) for name in names)

    async def run(self) -> None:
        fields = ("addr", "len", "size", "burst", "id", "lock", "cache", "prot", "qos")
        channels = {
            "ar": tuple(f"ar{f}" for f in fields),
            "aw": tuple(f"aw{f}" for f in fields),
            "w": ("wdata", "wstrb", "wlast"),
        }
        while True:
            await RisingEdge(self.dut.ap_clk)
            # Values before the edge: what both sides saw.
            for channel, names in channels.items():
                valid, ready = self.of(f"{channel}valid", f"{channel}ready")
                now = self.of(*names) if valid else ()
                before = self.held.pop(channel, None)
                assert before is None or before == now, f"{self.name}: {channel} did not wait"
                if valid and not ready:
                    self.held[channel] = now
                if valid and ready:
                    self.moved(channel, now)

    def moved(self, channel: str, now: tuple[int, ...]) -> None:
        if channel == "w":
            self.early.append(now[2])
        else:
            address, length, size, burst = now[:4]
            count = length + 1
            assert 1 << size == MAP.port_bytes, f"{self.name}: a narrow burst"
            assert burst == INCREMENT, f"{self.name}: a burst that does not increment"
            assert address % MAP.port_bytes == 0, f"{self.name}: {address:#x} is not aligned"
            end = address + count * MAP.port_bytes
            assert address // PAGE == (end - 1) // PAGE, f"{self.name}: {address:#x} crosses 4 KiB"
            assert self.base <= address and end <= self.base + self.size, f"outside: {address:#x}"
            self.bursts[channel] += 1
            if channel == "aw":
                self.beats.append(count)
        while self.beats and self.early:
            self.beats[0] -= 1
            assert self.early.popleft() == (self.beats[0] == 0), f"{self.name}: wlast"
            if not self.beats[0]:
                self.beats.popleft()


@cocotb.test()
@cocotb.parametrize(percent=[0, 40])
async def tokens_are_those_of_the_golden_model(dut: Any, percent: int = 0) -> None:
    """A prompt and some tokens, with no pauses and with many."""
    stripes = MAP.total_stripes
    image = np.fromfile(BUILT.folder / "weights.bin", np.uint8)
    space = np.zeros(MAP.total_bytes, np.uint8)
    space[: image.size] = image
    MAP.write_tokens(space, 0, JOB["prompt"])
    size = 1 << (stripes * MAP.port_bytes - 1).bit_length()
    cocotb.start_soon(Clock(dut.ap_clk, 4, unit="ns").start())
    dut.ap_rst_n.value = 0
    host: Any = AxiLiteMaster(
        AxiLiteBus.from_prefix(dut, "s_axi_control"), dut.ap_clk, dut.ap_rst_n, reset_active_level=False
    )  # fmt: skip
    memories, watches = [], []
    for port in range(MAP.ports):
        bus = AxiBus.from_prefix(dut, f"m_axi_g{port:02d}")
        ram: Any = AxiRam(bus, dut.ap_clk, dut.ap_rst_n, reset_active_level=False, size=size)
        ram.write(0, MAP.port_view(space, port).tobytes())
        sides = (ram.read_if.ar_channel, ram.read_if.r_channel, ram.write_if.aw_channel,
                 ram.write_if.w_channel, ram.write_if.b_channel)  # fmt: skip
        for k, side in enumerate(sides):
            if percent:
                side.set_pause_generator(pauses(100 * port + k, percent))
        memories.append(ram)
    if percent:
        for k, side in enumerate((
            host.write_if.aw_channel, host.write_if.w_channel, host.write_if.b_channel,
            host.read_if.ar_channel, host.read_if.r_channel,
        )):  # fmt: skip
            side.set_pause_generator(pauses(1000 + k, percent))
    await ClockCycles(dut.ap_clk, 16)
    dut.ap_rst_n.value = 1
    await ClockCycles(dut.ap_clk, 16)
    # The base is a high multiple of the memory's size, which AxiRam takes off again.
    bases = [(port + 5) * 0x1_0000_0000 for port in range(MAP.ports)]
    watches = [Watch(dut, p, base, stripes * MAP.port_bytes) for p, base in enumerate(bases)]

    async def write(name: str, value: int, length: int = 4) -> None:
        await host.write(BUILT.registers[name], value.to_bytes(length, "little"))

    async def read(name: str) -> int:
        answer: Any = await host.read(BUILT.registers[name], 4)
        return int.from_bytes(answer.data, "little")

    for port, base in enumerate(bases):
        await write(f"memory_{port}", base, 8)
    values = {"prompt": len(JOB["prompt"]), "generate": len(JOB["tokens"]), "position": 0,
              "layers": MAP.layers}  # fmt: skip
    for name, value in values.items():
        await write(name, value)
        assert await read(name) == value
    for name in ("gier", "ip_ier", "ctrl"):
        await write(name, 1)
    while not dut.interrupt.value:
        await RisingEdge(dut.ap_clk)
    assert await read("ctrl") & 2
    await write("ip_isr", 1)
    await ReadOnly()
    assert not dut.interrupt.value
    await RisingEdge(dut.ap_clk)
    assert await read("generated") == len(JOB["tokens"])
    for port, ram in enumerate(memories):
        part = np.frombuffer(ram.read(0, stripes * MAP.port_bytes), np.uint8)
        view = MAP.port_view(space, port)
        view[:] = part.reshape(view.shape)
    found = MAP.read_tokens(space, len(JOB["prompt"]), len(JOB["tokens"]))
    assert found.tolist() == JOB["tokens"]
    assert all(watch.bursts["ar"] > 100 for watch in watches)
    assert any(watch.bursts["aw"] for watch in watches)
