"""In the simulator: every engine against its golden model, its latency and its interval."""

import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge, Timer

from hw.arrays import ENGINES, Engine, accumulator_bits, make_engine
from sim.streams import get, put, start

# T, R, O: small, larger, odd everywhere, smallest, no reduction, one output, long sums.
SHAPES = [(1, 4, 4), (2, 8, 8), (3, 5, 7), (1, 1, 1), (4, 1, 6), (2, 6, 1), (5, 16, 2)]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "tree": [{}, {"stages": 1}],
    "cube": [{}, {"hop": 1}, {"hop": 4}],
    "systolic_os": [{}, {"stages": 1}],
}
BEATS = 5  # of the longest tile, for which the accumulators are just wide enough


def devices() -> dict[str, Engine]:
    """The table: every array in every shape, and with each of its own parameters in one shape."""
    found = {}
    for array in ENGINES:
        for shape in SHAPES:
            for n, options in enumerate(OPTIONS[array]):
                if n == 0 or shape == (2, 6, 1):
                    tokens, reduce, outputs = shape
                    name = f"{array}_{tokens}_{reduce}_{outputs}" + "".join(
                        f"_{k}{v}" for k, v in options.items()
                    )
                    found[name] = make_engine(
                        array, tokens=tokens, reduce=reduce, outputs=outputs,
                        acc_bits=accumulator_bits(BEATS * reduce), **options,
                    )  # fmt: skip
    return found


DEVICES = devices()
each = cocotb.parametrize(name=list(DEVICES))


def random_tile(
    engine: Engine, rng: np.random.Generator, k: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(-128, 128, (rows, k)), rng.integers(-128, 128, (k, engine.outputs))


async def compare(
    dut, name: str, tiles: list[tuple[np.ndarray, np.ndarray]], busy: float, ready: float
) -> None:
    """Stream ``tiles`` through a device; rows must be right, in order, the last one marked."""
    engine = DEVICES[name]
    beats = [payload for x, w in tiles for payload in engine.pack(x, w)]
    rows = [row for x, w in tiles for row in engine.golden(x, w)]
    ends = [n == len(x) - 1 for x, _ in tiles for n in range(len(x))]
    cocotb.start_soon(put(dut, f"{name}__i", beats, busy))
    found = [engine.unpack(payload) for payload in await get(dut, f"{name}__o", len(rows), ready)]
    np.testing.assert_array_equal([acc for acc, _ in found], rows)
    assert [last for _, last in found] == ends


@cocotb.test()
@each
@cocotb.parametrize(stalls=[(1.0, 1.0), (0.5, 1.0), (1.0, 0.3), (0.6, 0.5)])
async def matches_golden(dut, name: str, stalls: tuple[float, float]) -> None:
    engine, rng = DEVICES[name], np.random.default_rng(3)
    await start(dut)
    tiles = []
    for _ in range(14):
        k = int(rng.choice([1, engine.reduce, 2 * engine.reduce, BEATS * engine.reduce]))
        tiles.append(random_tile(engine, rng, k, int(rng.integers(1, engine.tokens + 1))))
    await compare(dut, name, tiles, *stalls)


@cocotb.test()
@each
async def holds_the_extremes(dut, name: str) -> None:
    engine = DEVICES[name]
    k = BEATS * engine.reduce
    await start(dut)
    tiles = [
        (np.full((engine.tokens, k), a), np.full((k, engine.outputs), b))
        for a, b in [(-128, -128), (-128, 127), (0, 0), (127, -128), (-128, -128)]
    ]
    assert engine.golden(*tiles[0]).max() == k << 14
    await compare(dut, name, tiles, 1.0, 1.0)


@cocotb.test()
@each
async def keeps_its_promised_cycles(dut, name: str) -> None:
    """Unstalled tiles leave ``interval`` apart, a lone one ``latency`` after its last beat."""
    engine, rng = DEVICES[name], np.random.default_rng(4)
    await start(dut)
    valid, ready = getattr(dut, f"{name}__o__valid"), getattr(dut, f"{name}__o__ready")
    taken, given = getattr(dut, f"{name}__i__ready"), getattr(dut, f"{name}__i__valid")
    payload = getattr(dut, f"{name}__o__payload")
    ready.value = 1
    for k in (1, 2 * engine.reduce, BEATS * engine.reduce):
        for rows in {1, (engine.tokens + 1) // 2, engine.tokens}:
            for count in (1, 12):
                tiles = [random_tile(engine, rng, k, rows) for _ in range(count)]
                beats = [beat for x, w in tiles for beat in engine.pack(x, w)]
                cocotb.start_soon(put(dut, f"{name}__i", beats))
                entered, left = [], []
                for cycle in range(
                    len(beats) * max(engine.tokens, engine.beat_cycles(rows)) + engine.latency + 20
                ):
                    await ReadOnly()
                    if given.value and taken.value:
                        entered.append(cycle)
                    if valid.value:
                        left.append((cycle, engine.unpack(int(payload.value))[1]))
                    await RisingEdge(dut.clk)
                assert len(left) == count * rows
                if count == 1:
                    assert left[0][0] - entered[-1] == engine.latency
                    assert [cycle - left[0][0] for cycle, _ in left] == list(range(rows))
                else:
                    ends = [cycle for cycle, last in left if last]
                    assert set(np.diff(ends[-6:])) == {engine.interval(k, rows)}, (k, rows, ends)


@cocotb.test()
@each
async def decides_ready_before_valid(dut, name: str) -> None:
    """Within a cycle, ``i.ready`` and ``o.valid`` follow neither ``i.valid`` nor ``o.ready``."""
    engine, rng, coin = DEVICES[name], np.random.default_rng(5), random.Random(5)
    await start(dut)
    i_ready, i_valid = getattr(dut, f"{name}__i__ready"), getattr(dut, f"{name}__i__valid")
    o_ready, o_valid = getattr(dut, f"{name}__o__ready"), getattr(dut, f"{name}__o__valid")
    payload = getattr(dut, f"{name}__i__payload")
    (payload.value,) = engine.pack(*random_tile(engine, rng, engine.reduce, engine.tokens))
    seen = set()
    for _ in range(200):
        await FallingEdge(dut.clk)
        before = (int(i_ready.value), int(o_valid.value))
        for _ in range(2):
            i_valid.value, o_ready.value = coin.randrange(2), coin.randrange(2)
            await Timer(100, "ps")
            assert (int(i_ready.value), int(o_valid.value)) == before
        seen.add(before)
    assert {ready for ready, _ in seen} == {valid for _, valid in seen} == {0, 1}


@cocotb.test()
@each
async def forgets_on_reset(dut, name: str) -> None:
    engine, rng = DEVICES[name], np.random.default_rng(6)
    await start(dut)
    for phase in range(2):
        tiles = [random_tile(engine, rng, 3 * engine.reduce, engine.tokens) for _ in range(3)]
        if phase == 0:
            beats = [beat for x, w in tiles for beat in engine.pack(x, w)][:-1]
            await put(dut, f"{name}__i", beats[: 3 + engine.latency % 3])
            dut.rst.value = 1
            await RisingEdge(dut.clk)
            await RisingEdge(dut.clk)
            dut.rst.value = 0
            await RisingEdge(dut.clk)
        else:
            await compare(dut, name, tiles, 1.0, 1.0)
