# SPDX-License-Identifier: Apache-2.0
"""cocotb tests of rings of compressed weights: what the reader gets is what numpy decodes."""

import random
from itertools import pairwise
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from generators.weight_stream import Beats, decode, interleave
from sim.streams import put, start
from tests.hw.cocotb_memory import PAGE, Port
from tests.hw.weight_devices import DEVICES, device_shape

PERIODS = 24


def random_stream(name: str, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray, Beats]:
    """Bytes of a stream, what its beats decode to, and its beats; any bytes that are valid indices will do."""
    stream, _ = device_shape(name)
    count = PERIODS * stream.period_beats
    values, factors = (
        draw.integers(0, 256, (count, size), np.uint8)
        for size in (stream.value_bytes, stream.factor_bytes)
    )
    indices = np.zeros((count, 0), np.uint8)
    if stream.m > 1:
        blocks = 8 * stream.index_bytes // stream.index_bits
        order = draw.random((count, blocks, stream.m)).argsort(axis=-1)[..., : stream.n]
        if stream.position_bits:
            fields = np.sort(order, axis=-1)
            bits = fields[..., None] >> np.arange(stream.position_bits) & 1
        else:
            bits = np.zeros((count, blocks, stream.m), np.int64)
            np.put_along_axis(bits, order, 1, axis=-1)
        indices = np.packbits(bits.reshape(count, -1).astype(np.uint8), axis=1, bitorder="little")
    beats = Beats(values, indices, factors)
    data = np.concatenate(list(interleave([beats], stream)))
    return data, decode(beats, stream), beats


async def run(dut: Any, name: str, seed: int, busy: float, hold: bool) -> None:
    stream, shape = device_shape(name)
    _, _, ports, word = DEVICES[name]
    data, weights, beats = random_stream(name, np.random.default_rng(seed))
    stripes = data.reshape(-1, ports, word)
    rng = random.Random(seed)
    pin = lambda signal: getattr(dut, f"{name}__{signal}")  # noqa: E731
    for client in "wkve":
        pin(f"{client}_desc__valid").value = 0
    for ring in "wkv":
        pin(f"{ring}__rd_en").value = 0
        pin(f"{ring}__rd_index").value = 0
        pin(f"{ring}__release__valid").value = 0
    pin("source").value = 0
    pin("words__ready").value = 0
    pin("write__valid").value = 0
    memories = []
    for p in range(ports):
        base = (p + 3) * 0x10_0000_0000
        pin(f"base__{p}").value = base
        for signal in ("arready", "awready", "wready", "rvalid", "bvalid"):
            pin(f"m_axi_g{p:02d}__{signal}").value = 0
        memories.append((f"{name}__m_axi_g{p:02d}__", base, bytearray(stripes[:, p].tobytes())))
    await start(dut)
    memories = [
        Port(dut, prefix, base, content, word, max(shape.limits.values()), seed=seed + p,
             busy=busy, latency=lambda: rng.randint(1, 20))
        for p, (prefix, base, content) in enumerate(memories)
    ]  # fmt: skip
    cuts = sorted(rng.sample(range(1, PERIODS), 3))  # descriptors of whole periods
    bounds = [stream.period_stripes * cut for cut in (0, *cuts, PERIODS)]
    descriptors = [a | (b - a) << 32 for a, b in pairwise(bounds)]
    cocotb.start_soon(put(dut, f"{name}__w_desc", descriptors, busy, seed=seed))

    window = shape.window["w"] * stream.row_beats
    released, read, last = 0, set(), None
    rows = beats.values.reshape(-1, stream.row_bytes)
    while released < len(weights):
        edge = min(released + window, len(weights))
        waiting = [k for k in range(released, edge) if k not in read]
        index = rng.choice(waiting) if waiting else released
        if hold and waiting:
            index = waiting[-1]  # the last beat first: it must come while all others are held
        raw = rng.random() < 0.3
        pin("raw").value = int(raw)
        pin("w__rd_index").value = index
        await FallingEdge(dut.clk)
        if last is not None:
            found = int(pin("beat").value).to_bytes(stream.row_bytes, "little")
            wanted = rows[last // stream.row_beats] if raw else weights[last]
            assert found == wanted.tobytes(), (
                f"{name}: {'row of' if raw else 'beat'} {last} differs"
            )
        take = bool(waiting) and bool(pin("w__ok").value) and rng.random() < busy
        pin("w__rd_en").value = int(take)
        ready = next((k for k in range(released, edge) if k not in read), edge) - released
        free = rng.randint(0, ready) if not hold else ready
        pin("w__release__valid").value = int(free > 0)
        pin("w__release__count").value = free or rng.getrandbits(16)
        released += free
        await RisingEdge(dut.clk)
        if take:
            last = index
            read.add(index)
    pin("w__release__valid").value = pin("w__rd_en").value = 0
    for memory in memories:
        assert sum(words for _, _, words in memory.reads) == bounds[-1]
        assert all(address % PAGE + words * word <= PAGE for _, address, words in memory.reads)
        memory.task.cancel()


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def any_order(dut: Any) -> None:
    """Beats in any order within the window, on ports that stall."""
    for seed, name in enumerate(DEVICES):
        await run(dut, name, seed, 0.7, hold=False)


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def full_window(dut: Any) -> None:
    """A reader that waits for the last beat that it may, and holds all others."""
    for seed, name in enumerate(DEVICES):
        await run(dut, name, seed + 10, 1.0, hold=True)
