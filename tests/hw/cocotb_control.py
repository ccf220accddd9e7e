# SPDX-License-Identifier: Apache-2.0
"""cocotb tests of the control registers: a host orders and delays its transfers at random."""

import random
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, RisingEdge

from hw.control import register_map
from sim.streams import start

PORTS, COUNTERS = 2, ["busy", "starved", "blocked"]
MAP = register_map(PORTS, COUNTERS)
CTRL, GIER, IER, ISR = map(MAP.offset, ("ctrl", "gier", "ip_ier", "ip_isr"))
TEST = cocotb.test(timeout_time=100, timeout_unit="us")


class Host:
    """An AXI4-Lite initiator: each channel waits ``slow`` cycles at most, and checks what it sees."""

    def __init__(self, dut: Any, seed: int = 0, slow: int = 0) -> None:
        self.dut, self.slow, self._rng = dut, slow, random.Random(seed)

    def signal(self, name: str) -> Any:
        return getattr(self.dut, f"control__{name}")

    async def start(self) -> "Host":
        for name in ("awvalid", "wvalid", "bready", "arvalid", "rready"):
            self.signal(f"bus__{name}").value = 0
        for name in ("ready", "done", "idle", "counters", *(r.name for r in MAP.statuses)):
            self.signal(name).value = 0
        await start(self.dut)
        return self

    async def _wait(self) -> None:
        for _ in range(self._rng.randint(0, self.slow)):
            await RisingEdge(self.dut.clk)

    async def _send(self, channel: str, **payload: int) -> None:
        await self._wait()
        for name, value in payload.items():
            self.signal(f"bus__{name}").value = value
        self.signal(f"bus__{channel}valid").value = 1
        await FallingEdge(self.dut.clk)
        while not self.signal(f"bus__{channel}ready").value:
            await FallingEdge(self.dut.clk)
        await RisingEdge(self.dut.clk)
        self.signal(f"bus__{channel}valid").value = 0
        for name in payload:
            self.signal(f"bus__{name}").value = self._rng.getrandbits(4)  # must not matter

    async def _receive(self, channel: str, payload: str) -> int:
        valid, value = self.signal(f"bus__{channel}valid"), self.signal(f"bus__{payload}")
        delay, seen = self._rng.randint(0, self.slow), []
        while True:
            self.signal(f"bus__{channel}ready").value = int(delay <= len(seen))
            await FallingEdge(self.dut.clk)
            if valid.value:
                seen.append((int(value.value), int(self.signal(f"bus__{channel}resp").value)))
                assert seen[0] == seen[-1] and seen[0][1] == 0
            else:
                assert not seen, f"{channel}valid fell"
            moved = bool(valid.value) and bool(self.signal(f"bus__{channel}ready").value)
            await RisingEdge(self.dut.clk)
            if moved:
                self.signal(f"bus__{channel}ready").value = 0
                return seen[0][0]

    async def write(self, offset: int, value: int, strobe: int = 0xF) -> None:
        tasks = [
            cocotb.start_soon(self._send("aw", awaddr=offset)),
            cocotb.start_soon(self._send("w", wdata=value, wstrb=strobe)),
        ]
        await self._receive("b", "bresp")
        for task in tasks:
            await task

    async def read(self, offset: int) -> int:
        task = cocotb.start_soon(self._send("ar", araddr=offset))
        value = await self._receive("r", "rdata")
        await task
        return value

    async def pulse(self, *names: str) -> None:
        for name in names:
            self.signal(name).value = 1
        await RisingEdge(self.dut.clk)
        for name in names:
            self.signal(name).value = 0

    async def settle(self) -> None:
        for _ in range(4):
            await RisingEdge(self.dut.clk)


@TEST
async def arguments(dut: Any) -> None:
    """Every argument, by words and by bytes, in random order; nothing else changes."""
    for seed, slow in ((1, 0), (2, 5)):
        host, rng = await Host(dut, seed, slow).start(), random.Random(seed)
        model = {r.offset + k: 0 for r in MAP.arguments for k in range(0, r.bits // 8, 4)}
        for _ in range(100):
            offset = rng.choice(list(model))
            value, strobe = rng.getrandbits(32), rng.choice((0xF, rng.randrange(16)))
            await host.write(offset | rng.choice((0, 0, 3)), value, strobe)
            mask = sum(0xFF << 8 * k for k in range(4) if strobe >> k & 1)
            model[offset] = model[offset] & ~mask | value & mask
            other = rng.choice(list(model))
            assert await host.read(other) == model[other], hex(other)
            for r in MAP.arguments:
                words = range(r.bits // 32)
                expected = sum(model[r.offset + 4 * k] << 32 * k for k in words)
                assert int(host.signal(r.name).value) == expected, r.name


@TEST
async def statuses(dut: Any) -> None:
    """Every status and counter reads what is at the input, and cannot be written."""
    host, rng = await Host(dut, 3, 2).start(), random.Random(3)
    values = {r.name: rng.getrandbits(32) for r in (*MAP.statuses, *MAP.counters)}
    for r in MAP.statuses:
        host.signal(r.name).value = values[r.name]
    host.signal("counters").value = sum(values[name] << 32 * k for k, name in enumerate(COUNTERS))
    for _ in range(2):
        for name, value in values.items():
            assert await host.read(MAP.offset(name)) == value, name
            await host.write(MAP.offset(name), ~value & 0xFFFFFFFF)


@TEST
async def unmapped(dut: Any) -> None:
    """All addresses of the window answer; what is not mapped reads 0, whatever was written."""
    host = await Host(dut, 4).start()
    mapped = {r.offset + k for r in MAP for k in range(0, r.bits // 8, 4)}
    prompt = MAP.offset("prompt")
    await host.write(prompt, 0x5A5A5A5A)
    for offset in set(range(0, 0x1000, 4)) - mapped:
        if offset % 0x40 == 0x14 or offset > 0xF00 or offset < 0xC0:
            await host.write(offset, 0xFFFFFFFF)
            assert await host.read(offset) == 0, hex(offset)
            assert await host.read(prompt) == 0x5A5A5A5A
    for offset in mapped - {prompt}:
        assert await host.read(offset) == 0, "a write went elsewhere"


@TEST
async def start_and_done(dut: Any) -> None:
    """The handshake: start stays until ready, done and ready clear on read, idle follows."""
    host = await Host(dut, 5).start()
    begun = host.signal("start")
    host.signal("idle").value = 1
    assert await host.read(CTRL) == 0b0100
    await host.write(CTRL, 1, strobe=0b1110)
    await host.write(CTRL, 0x80)  # auto_restart is not supported
    assert not begun.value and await host.read(CTRL) == 0b0100
    await host.write(CTRL, 1)
    for _ in range(5):
        assert begun.value
        await RisingEdge(dut.clk)
    await host.write(CTRL, 0)  # does not take the start back
    assert begun.value and await host.read(CTRL) == 0b0001, "not idle from the start on"
    host.signal("idle").value = 0
    await host.pulse("ready")
    await host.settle()
    assert not begun.value
    assert await host.read(CTRL) == 0b1000
    assert await host.read(CTRL) == 0
    await host.pulse("done")
    host.signal("idle").value = 1
    await host.settle()
    assert await host.read(MAP.offset("prompt")) == 0
    await host.write(CTRL, 0b1010)
    assert await host.read(CTRL) == 0b0110, "only reading ctrl clears done"
    assert await host.read(CTRL) == 0b0100


@TEST
async def done_is_never_lost(dut: Any) -> None:
    """Done in any cycle around a read of ctrl is seen by exactly one read."""
    host = await Host(dut, 6).start()
    for delay in range(8):
        task = cocotb.start_soon(host.read(CTRL))
        for _ in range(delay):
            await RisingEdge(dut.clk)
        await host.pulse("done")
        first = await task
        await host.settle()
        assert (first >> 1 & 1) + (await host.read(CTRL) >> 1 & 1) == 1, delay
        assert await host.read(CTRL) == 0


@TEST
async def interrupt_comes_with_done(dut: Any) -> None:
    """No answer says done before the interrupt has risen, whenever ctrl is read; and it rises in any case."""
    host = await Host(dut, 11).start()
    output, together = host.signal("interrupt"), 0
    await host.write(IER, 1)
    await host.write(GIER, 1)
    for delay in range(8):
        done, risen = False, 0  # risen: cycles with the interrupt so far
        task = cocotb.start_soon(host.read(CTRL))
        for cycle in range(12):
            host.signal("done").value = int(cycle == delay)
            await FallingEdge(dut.clk)
            risen += int(output.value)
            answered = host.signal("bus__rvalid").value and host.signal("bus__rready").value
            if answered and int(host.signal("bus__rdata").value) & 2:
                assert risen, f"done {delay} cycles after the read began was answered too early"
                done, together = True, together + (risen == 1)
            await RisingEdge(dut.clk)
        await task
        assert risen, "no interrupt"
        assert done != bool(await host.read(CTRL) & 2), "one read, and only one, says done"
        await host.write(ISR, 1)
        await host.settle()
        assert not output.value
    assert together == 1, "no read was answered in the cycle of the interrupt"


@TEST
async def interrupts(dut: Any) -> None:
    """Enables select, writing 1 toggles, the output is the enabled or of what is pending."""
    host = await Host(dut, 7).start()
    output = host.signal("interrupt")
    await host.pulse("done", "ready")
    await host.settle()
    assert await host.read(ISR) == 0, "not enabled"
    cases = ((1, "done", 1), (2, "ready", 2), (2, "done", 0), (1, "ready", 0))
    for enables, event, expected in cases:
        await host.write(IER, enables)
        await host.pulse(event)
        await host.settle()
        assert await host.read(ISR) == expected
        assert not output.value, "globally off"
        await host.write(GIER, 1)
        await host.settle()
        assert bool(output.value) == bool(expected)
        await host.write(ISR, 3 ^ expected)
        assert await host.read(ISR) == 3, "toggles what is not pending, too"
        await host.write(ISR, 0, strobe=0xF)
        await host.write(ISR, 3, strobe=0b1110)
        assert await host.read(ISR) == 3
        await host.write(ISR, 3)
        await host.settle()
        assert await host.read(ISR) == 0 and not output.value
        await host.write(GIER, 0, strobe=0b1110)
        assert await host.read(GIER) == 1
        await host.write(GIER, 0)
    await host.write(IER, 3)
    await host.write(CTRL, 1)
    await host.write(GIER, 0xFFFFFFFF)
    assert await host.read(GIER) == 1 and await host.read(IER) == 3
    await host.pulse("done", "ready")
    await host.settle()
    assert output.value and await host.read(ISR) == 3


@TEST
async def event_beats_toggle(dut: Any) -> None:
    """Done in any cycle around a toggle of its bit: the event wins."""
    host = await Host(dut, 8).start()
    await host.write(IER, 1)
    found = []
    for delay in range(8):
        await host.pulse("done")
        task = cocotb.start_soon(host.write(ISR, 1))
        for _ in range(delay):
            await RisingEdge(dut.clk)
        await host.pulse("done")
        await task
        await host.settle()
        found.append(await host.read(ISR))
        if found[-1]:
            await host.write(ISR, 1)
    # The write takes effect two cycles on: an event before that is undone, one in that cycle is not.
    assert found == [0] + 7 * [1]


@TEST
async def reads_and_writes_together(dut: Any) -> None:
    """The two sides do not wait for each other."""
    host = await Host(dut, 9, 3).start()
    write = cocotb.start_soon(host.write(MAP.offset("prompt"), 77))
    read = cocotb.start_soon(host.read(MAP.offset("layers")))
    await read
    await write
    assert await host.read(MAP.offset("prompt")) == 77
    # A write that is not complete does not stop reads.
    host.signal("bus__awvalid").value = 1
    host.signal("bus__awaddr").value = MAP.offset("layers")
    await RisingEdge(dut.clk)
    host.signal("bus__awvalid").value = 0
    assert await host.read(MAP.offset("prompt")) == 77
    assert await host.read(MAP.offset("layers")) == 0


@TEST
async def requests_ahead_of_answers(dut: Any) -> None:
    """A host that sends on before it takes the answers gets all of them, in order."""
    host = await Host(dut, 10).start()
    names = ("prompt", "generate", "position")
    offsets = [MAP.offset(name) for name in names]

    async def send(channel: str, payloads: list[dict[str, int]]) -> None:
        for payload in payloads:
            await host._send(channel, **payload)

    tasks = [
        cocotb.start_soon(send("aw", [{"awaddr": offset} for offset in offsets])),
        cocotb.start_soon(send("w", [{"wdata": offset + 7, "wstrb": 0xF} for offset in offsets])),
    ]
    for _ in range(12):
        await RisingEdge(dut.clk)
    assert int(host.signal("generate").value) == 0, "the first write is not answered yet"
    for name, offset in zip(names, offsets, strict=True):
        await host._receive("b", "bresp")
        assert int(host.signal(name).value) == offset + 7
    tasks.append(cocotb.start_soon(send("ar", [{"araddr": offset} for offset in offsets])))
    for _ in range(12):
        await RisingEdge(dut.clk)
    for offset in offsets:
        assert await host._receive("r", "rdata") == offset + 7
    for task in tasks:
        await task
    await host.settle()
    assert not host.signal("bus__bvalid").value and not host.signal("bus__rvalid").value
