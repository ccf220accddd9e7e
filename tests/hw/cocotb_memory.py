# SPDX-License-Identifier: Apache-2.0
"""cocotb tests of the striped memory, before memories that check every rule of AXI4 they see."""

import json
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge

from sim.streams import get, put, start

SIZES = json.loads(os.environ["SIZES"])  # of each device; see test_memory.py
STRIPES = 2048  # of every memory
PAGE = 4096
OKAY, SLVERR = 0, 2


@dataclass
class Port:
    """The memory behind one AXI port.

    Parameters
    ----------
    dut, prefix : where its signals are, e.g. ``small__m_axi_g00__``
    base : address of its first byte
    data : its bytes
    word : bytes of a word
    latency : cycles from a request to its answer, or a function that draws one
    busy : probability that a channel answers in a cycle
    """

    dut: Any
    prefix: str
    base: int
    data: bytearray
    word: int
    longest: int
    latency: int | Callable[[], int] = 3
    busy: float = 1.0
    seed: int = 0
    response: int = OKAY
    reads: list[tuple[int, int, int]] = field(default_factory=list)  # cycle, address, words
    beats: list[int] = field(default_factory=list)  # cycle of each word read
    writes: int = 0
    unanswered: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._held: dict[str, tuple[int, ...] | None] = {}
        self.task = cocotb.start_soon(self._run())

    def _signal(self, name: str) -> Any:
        return getattr(self.dut, self.prefix + name)

    def _delay(self) -> int:
        return self.latency if isinstance(self.latency, int) else self.latency()

    def _check_stable(self, channel: str, names: Sequence[str], moved: bool) -> tuple[int, ...]:
        """Payload of a valid channel; the same until it moves."""
        now = tuple(int(self._signal(name).value) for name in names)
        before = self._held.get(channel)
        assert before is None or before == now, f"{self.prefix}{channel}: payload changed"
        self._held[channel] = None if moved else now
        return now

    def _check_address(self, address: int, words: int) -> int:
        """Offset of a burst that is within the memory and within a page."""
        assert address % self.word == 0, f"address {address:#x} is not aligned"
        assert address // PAGE == (address + words * self.word - 1) // PAGE, "crosses a page"
        offset = address - self.base
        assert 0 <= offset <= len(self.data) - words * self.word, f"outside: {address:#x}"
        return offset

    async def _run(self) -> None:
        rng, cycle = self._rng, 0
        answers: deque[tuple[int, int, bool]] = deque()  # due, word, last
        addresses: deque[int] = deque()
        words: deque[tuple[int, int]] = deque()
        dues: deque[int] = deque()
        constant = (1, self.word.bit_length() - 1, 0b0011, 0)
        while True:
            arready, awready, wready = (int(rng.random() < self.busy) for _ in range(3))
            rvalid = bool(answers) and answers[0][0] <= cycle and rng.random() < self.busy
            bvalid = bool(dues) and dues[0] <= cycle and rng.random() < self.busy
            self._signal("arready").value = arready
            self._signal("awready").value = awready
            self._signal("wready").value = wready
            self._signal("rvalid").value = int(rvalid)
            self._signal("rdata").value = (
                answers[0][1] if rvalid else rng.getrandbits(8 * self.word)
            )
            self._signal("rlast").value = int(rvalid and answers[0][2])
            self._signal("rresp").value = self.response
            self._signal("bvalid").value = int(bvalid)
            self._signal("bresp").value = self.response
            await ReadOnly()
            if self._signal("arvalid").value:
                names = ("araddr", "arlen", "arburst", "arsize", "arcache", "arid")
                address, length, *others = self._check_stable("ar", names, bool(arready))
                assert tuple(others) == constant
                if arready:
                    assert length < self.longest
                    offset = self._check_address(address, length + 1)
                    due = cycle + self._delay()
                    for k in range(length + 1):
                        word = self.data[offset + k * self.word :][: self.word]
                        answers.append((due, int.from_bytes(word, "little"), k == length))
                    self.reads.append((cycle, address, length + 1))
            else:
                assert self._held.get("ar") is None, "arvalid fell"
            if rvalid:
                assert self._signal("rready").value, "read data had to wait"
                answers.popleft()
                self.beats.append(cycle)
            if self._signal("awvalid").value:
                names = ("awaddr", "awlen", "awburst", "awsize", "awcache", "awid")
                address, length, *others = self._check_stable("aw", names, bool(awready))
                assert tuple(others) == constant and length == 0
                if awready:
                    addresses.append(self._check_address(address, 1))
                    self.unanswered += 1
            else:
                assert self._held.get("aw") is None, "awvalid fell"
            if self._signal("wvalid").value:
                names = ("wdata", "wstrb", "wlast")
                word, strobe, last = self._check_stable("w", names, bool(wready))
                assert last == 1 and strobe != 0
                if wready:
                    words.append((word, strobe))
            else:
                assert self._held.get("w") is None, "wvalid fell"
            if bvalid:
                assert self._signal("bready").value
                dues.popleft()
                self.unanswered -= 1
            while addresses and words:
                offset, (word, strobe) = addresses.popleft(), words.popleft()
                for k, byte in enumerate(word.to_bytes(self.word, "little")):
                    if strobe >> k & 1:
                        self.data[offset + k] = byte
                self.writes += 1
                dues.append(cycle + self._delay())
            await RisingEdge(self.dut.clk)
            cycle += 1


class Bench:
    """A device of the bench with memories behind its ports."""

    def __init__(self, dut: Any, device: str, seed: int = 0, **behaviour: Any) -> None:
        sizes = SIZES[device]
        self.dut, self.device, self.ports = dut, device, sizes["ports"]
        self.word, self.lanes = sizes["shape"]["port_bytes"], sizes["shape"]["beat_stripes"]
        self.limits, self.window = sizes["limits"], sizes["window"]
        self.stripe = self.ports * self.word
        self._behaviour = behaviour
        self.rng = random.Random(seed)
        self.seed, self.first = seed, 0

    async def start(self) -> "Bench":
        for name in ("w", "k", "v", "e"):
            getattr(self.dut, f"{self.device}__{name}_desc__valid").value = 0
        for name in ("w", "k", "v"):
            self.ring(name, "rd_en").value = 0
            self.ring(name, "rd_index").value = 0
            self.ring(name, "release__valid").value = 0
        getattr(self.dut, f"{self.device}__e__ready").value = 0
        getattr(self.dut, f"{self.device}__write__valid").value = 0
        self.memories = []
        for p in range(self.ports):
            base = (p + 5) * 0x40_0000_0000 + 3 * PAGE
            getattr(self.dut, f"{self.device}__base__{p}").value = (
                base + 0xABC
            )  # low bits: taken as 0
            data = bytearray(self.rng.randbytes(STRIPES * self.word))
            prefix = f"{self.device}__m_axi_g{p:02d}__"
            longest = max(self.limits.values())
            for name in ("arready", "awready", "wready", "rvalid", "bvalid"):
                getattr(self.dut, prefix + name).value = 0
            self.memories.append((prefix, base, data, longest))
        await start(self.dut)
        self.memories = [
            Port(
                self.dut,
                prefix,
                base,
                data,
                self.word,
                longest,
                seed=self.seed + p,
                **self._behaviour,
            )
            for p, (prefix, base, data, longest) in enumerate(self.memories)
        ]
        return self

    def count_from(self, first: int) -> None:
        """Let the running counts start elsewhere, as after many beats."""
        unit = getattr(self.dut, self.device)
        for name in ("w", "k", "v"):
            depth = SIZES[self.device]["shape"][f"{name}_depth"]
            getattr(unit, f"{name}_arrived").value = first
            for p in range(self.ports):
                getattr(getattr(unit, f"port{p:02d}"), f"{name}__written").value = first % (
                    2 * depth
                )
        self.first = first

    def ring(self, name: str, signal: str) -> Any:
        return getattr(self.dut, f"{self.device}__{name}__{signal}")

    def stripe_bytes(self, stripe: int) -> bytes:
        here = slice(stripe * self.word, (stripe + 1) * self.word)
        return b"".join(bytes(memory.data[here]) for memory in self.memories)

    def draw(self, stripes: int, longest: int) -> list[tuple[int, int]]:
        """Random descriptors that take ``stripes`` stripes together, some of them empty."""
        found = []
        while stripes:
            count = min(stripes, self.rng.choice((0, 1, 2, 3, self.rng.randint(1, longest))))
            found.append((self.rng.randint(0, STRIPES - count), count))
            stripes -= count
        return found

    def describe(self, name: str, descriptors: list[tuple[int, int]], busy: float = 1.0) -> Any:
        payloads = [stripe | count << 32 for stripe, count in descriptors]
        stream = f"{self.device}__{name}_desc"
        return cocotb.start_soon(put(self.dut, stream, payloads, busy, seed=self.seed))

    async def consume(
        self, name: str, descriptors: list[tuple[int, int]], busy: float = 1.0, hold: bool = False
    ) -> None:
        """Read all beats in random order within the window, compare, release.

        With ``hold``, beats are released only when the window is full of beats already read.
        """
        rng = random.Random(f"{self.seed}{name}")
        stripes = [s + k for s, count in descriptors for k in range(count)]
        assert len(stripes) % self.lanes == 0
        beats = [stripes[k : k + self.lanes] for k in range(0, len(stripes), self.lanes)]
        signal = {n: self.ring(name, n) for n in ("rd_index", "ok", "rd_en", "rd_data")}
        valid, count = self.ring(name, "release__valid"), self.ring(name, "release__count")
        released, read, last = 0, set(), None
        while released < len(beats):
            edge = min(released + self.window[name], len(beats))
            waiting = [k for k in range(released, edge) if k not in read]
            index = rng.choice(waiting) if waiting else edge
            signal["rd_index"].value = (self.first + index) & 0xFFFF
            await FallingEdge(self.dut.clk)
            if last is not None:
                assert int(signal["rd_data"].value) == last, f"{name}: wrong, or did not hold"
            ok = bool(signal["ok"].value)
            if index == len(beats):
                assert not ok, f"{name}: a beat that was not requested has arrived"
            take = bool(waiting) and ok and rng.random() < busy
            signal["rd_en"].value = int(take)
            ready = next(k for k in range(released, edge + 1) if k not in read) - released
            full = ready == edge - released
            free = rng.randint(0, ready) if not hold else ready * full
            free = free if rng.random() < busy else 0
            valid.value, count.value = int(free > 0), free or rng.getrandbits(16)
            released += free
            await RisingEdge(self.dut.clk)
            if take:
                last = int.from_bytes(b"".join(map(self.stripe_bytes, beats[index])), "little")
                read.add(index)
        valid.value, signal["rd_en"].value = 0, 0


@cocotb.test(timeout_time=100, timeout_unit="us")
async def random_clients(dut: Any) -> None:
    """All clients at once, on ports that stall at random, over the wrap of the running count."""
    for seed, busy in ((1, 1.0), (2, 0.5), (3, 0.8)):
        rng = random.Random(seed)
        bench = await Bench(
            dut, "small", seed, busy=busy, latency=lambda rng=rng: rng.randint(1, 30)
        ).start()
        bench.count_from((1 << 16) - 32)
        tasks = []
        for name in ("w", "k", "v"):
            descriptors = bench.draw(120 * bench.lanes, 60)
            tasks.append(bench.describe(name, descriptors, rng.choice((1.0, 0.3))))
            tasks.append(
                cocotb.start_soon(bench.consume(name, descriptors, rng.choice((1.0, 0.5))))
            )
        descriptors = bench.draw(150, 60)
        tasks.append(bench.describe("e", descriptors))
        stripes = [s + k for s, count in descriptors for k in range(count)]
        found = await get(dut, "small__e", len(stripes), busy=rng.choice((1.0, 0.4)), seed=seed)
        for stripe, value in zip(stripes, found, strict=True):
            assert value == int.from_bytes(bench.stripe_bytes(stripe), "little"), f"E: {stripe}"
        for task in tasks:
            await task
        for memory in bench.memories:
            assert sum(words for _, _, words in memory.reads) == 3 * 120 * bench.lanes + 150
            memory.task.cancel()
        assert not dut.small__error.value


@cocotb.test(timeout_time=100, timeout_unit="us")
async def full_window(dut: Any) -> None:
    """A consumer that holds as many beats as promised gets the last of them."""
    for device in ("small", "wide"):
        bench = await Bench(dut, device, 4).start()
        tasks = []
        for name in ("w", "k", "v"):
            descriptors = bench.draw(bench.lanes * 3 * bench.window[name], STRIPES // 2)
            bench.describe(name, descriptors)
            tasks.append(cocotb.start_soon(bench.consume(name, descriptors, hold=True)))
        for task in tasks:
            await task
        for memory in bench.memories:
            memory.task.cancel()


async def stream_all(bench: Bench, traffic: dict[str, list[tuple[int, int]]]) -> list[int]:
    """Cycles of all words of port 0, with consumers that never wait."""
    tasks = []
    for name, descriptors in traffic.items():
        tasks.append(bench.describe(name, descriptors))
        total = sum(count for _, count in descriptors)
        if name == "e":
            tasks.append(cocotb.start_soon(get(bench.dut, f"{bench.device}__e", total)))
        else:
            tasks.append(cocotb.start_soon(drain(bench, name, total // bench.lanes)))
    for task in tasks:
        await task
    bench.memories[0].task.cancel()
    return bench.memories[0].beats


async def drain(bench: Bench, name: str, beats: int) -> None:
    """Read and release a beat in every cycle in which there is one."""
    index, ok = bench.ring(name, "rd_index"), bench.ring(name, "ok")
    valid, count = bench.ring(name, "release__valid"), bench.ring(name, "release__count")
    done, count.value = 0, 1
    while done < beats:
        index.value = done & 0xFFFF
        await FallingEdge(bench.dut.clk)
        taken = int(ok.value)
        valid.value, bench.ring(name, "rd_en").value = taken, taken
        await RisingEdge(bench.dut.clk)
        done += taken
    valid.value = 0


@cocotb.test(timeout_time=100, timeout_unit="us")
async def weights_at_full_rate(dut: Any) -> None:
    """One word a cycle without a gap, from long descriptors and from the shortest."""
    bench = await Bench(dut, "wide", 5, latency=40).start()
    beats = await stream_all(bench, {"w": [(3, 1500), (200, 1300)]})
    assert beats[-1] - beats[0] + 1 == len(beats) == 2800
    # The first block starts at stripe 3, so it is cut there; the others are whole pages.
    words = [w for _, _, w in bench.memories[0].reads]
    assert words[:3] == [253, 256, 256] and max(words) == 256

    bench = await Bench(dut, "wide", 6, latency=40).start()
    rng = random.Random(6)
    beats = await stream_all(bench, {"w": [(rng.randrange(STRIPES), 1) for _ in range(600)]})
    assert beats[-1] - beats[0] + 1 == len(beats) == 600


@cocotb.test(timeout_time=100, timeout_unit="us")
async def mixed_clients_at_full_rate(dut: Any) -> None:
    """No gap between the words of different clients with short bursts."""
    rng = random.Random(7)
    bench = await Bench(dut, "wide", 7, latency=20).start()
    traffic = {
        name: [(rng.randrange(STRIPES - 4), rng.randint(1, 4)) for _ in range(150)]
        for name in "wkve"
    }
    beats = await stream_all(bench, traffic)
    assert len(beats) == sum(count for d in traffic.values() for _, count in d)
    # W ends alone, so only the requests limit; nothing else may leave a gap.
    assert beats[-1] - beats[0] + 1 == len(beats)


@cocotb.test(timeout_time=100, timeout_unit="us")
async def latency_and_priority(dut: Any) -> None:
    """The documented latencies, and that K passes a long W."""
    sizes = SIZES["wide"]
    bench = await Bench(dut, "wide", 8, latency=12).start()
    memory = bench.memories[0]
    bench.describe("w", [(0, 2000)])
    valid = dut.wide__m_axi_g00__arvalid
    waited = 0
    while not (dut.wide__w_desc__valid.value and dut.wide__w_desc__ready.value):
        await FallingEdge(dut.clk)
    while not valid.value:
        await FallingEdge(dut.clk)
        waited += 1
    assert waited == sizes["request_latency"]
    while not (dut.wide__m_axi_g00__rvalid.value):
        await FallingEdge(dut.clk)
    waited = 0
    while not dut.wide__w__ok.value:
        await FallingEdge(dut.clk)
        waited += 1
    assert waited == sizes["data_latency"]
    # W now runs into its ring, which nobody empties; then K asks, while W is still busy.
    asked = len(memory.beats)
    bench.describe("k", [(100, 8)])
    while not dut.wide__k__ok.value:
        await FallingEdge(dut.clk)
    ahead = len(memory.beats) - asked
    assert len(memory.beats) < sizes["shape"]["w_depth"], "W was done before"
    assert ahead <= sizes["shape"]["flight"] + sizes["limits"]["w"] + 24
    while len(memory.beats) < sizes["shape"]["w_depth"] + 8:
        await FallingEdge(dut.clk)
    for _ in range(50):
        await RisingEdge(dut.clk)
    assert len(memory.beats) == sizes["shape"]["w_depth"] + 8, "no more than the ring holds"
    memory.task.cancel()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def writes(dut: Any) -> None:
    """Every write lands, by its strobes; those without go nowhere; idle means acknowledged."""
    for seed, busy in ((9, 1.0), (10, 0.5)):
        rng = random.Random(seed)
        bench = await Bench(
            dut, "small", seed, busy=busy, latency=lambda rng=rng: rng.randint(1, 20)
        ).start()
        full, expected, payloads = (1 << bench.stripe) - 1, {}, []
        transfers = [0] * bench.ports
        for _ in range(200):
            stripe = rng.randrange(20)
            strobe = rng.choice(
                (0, full, rng.getrandbits(bench.stripe), 0xFF, 1 << rng.randrange(16))
            )
            word = rng.getrandbits(8 * bench.stripe)
            payloads.append(stripe | word << 32 | strobe << 32 + 8 * bench.stripe)
            old = expected.setdefault(stripe, bytearray(bench.stripe_bytes(stripe)))
            for k in range(bench.stripe):
                if strobe >> k & 1:
                    old[k] = word >> 8 * k & 0xFF
            for p in range(bench.ports):
                transfers[p] += (strobe >> p * bench.word & (1 << bench.word) - 1) != 0
        task = cocotb.start_soon(put(dut, "small__write", payloads, busy=0.9, seed=seed))
        idle, deepest = 0, 0
        while not (task.done() and dut.small__write_idle.value):
            await FallingEdge(dut.clk)
            if dut.small__write_idle.value:
                idle += 1
                assert all(memory.unanswered == 0 for memory in bench.memories)
            deepest = max(deepest, *(memory.unanswered for memory in bench.memories))
        assert deepest == SIZES["small"]["shape"]["writes"]
        assert [memory.writes for memory in bench.memories] == transfers
        for stripe, value in expected.items():
            assert bench.stripe_bytes(stripe) == value
        for memory in bench.memories:
            memory.task.cancel()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def write_of_nothing(dut: Any) -> None:
    """A write without strobes leaves the memory idle."""
    bench = await Bench(dut, "small", 11).start()
    await put(dut, "small__write", [5 | 1 << 32])
    for _ in range(20):
        assert dut.small__write_idle.value
        await RisingEdge(dut.clk)
    assert [memory.writes for memory in bench.memories] == [0, 0]
    for memory in bench.memories:
        memory.task.cancel()


@cocotb.test(timeout_time=100, timeout_unit="us")
async def bad_response(dut: Any) -> None:
    """A response that is not OKAY is remembered, of a read and of a write."""
    for client in ("read", "write"):
        bench = await Bench(dut, "small", 12).start()
        assert not dut.small__error.value
        bench.memories[1].response = SLVERR
        if client == "read":
            bench.describe("w", [(0, 2)])
        else:
            await put(dut, "small__write", [1 << 32 + 8 * bench.stripe + bench.word])
        for _ in range(20):
            await RisingEdge(dut.clk)
        assert dut.small__error.value
        for memory in bench.memories:
            memory.task.cancel()
