# SPDX-License-Identifier: Apache-2.0
"""In the simulator: every engine against its golden model, its latency and its interval."""

import os
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly, RisingEdge, Timer

from hw.arrays import ENGINES, Engine, accumulator_bits, make_engine
from hw.arrays.chain import ChainArray
from sim.streams import get, put, start
from tests.docs.guide import defined

# T, R, O: small, larger, odd everywhere, smallest, no reduction, one output, long sums.
SHAPES = [(1, 4, 4), (2, 8, 8), (3, 5, 7), (1, 1, 1), (4, 1, 6), (2, 6, 1), (5, 16, 2)]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "tree": [{"stages": 1}, {"registers": "inside"}],
    "cube": [{"hop": 1}, {"hop": 4}],
    "systolic_os": [{"stages": 1}],
    "systolic_ws": [{"stages": 2}],
    "matrix": [{"stages": 1}],
}
# Of the carry-save PEs: encodings, the forms of a saved sum from one carry a bit to none, registers, widths.
CARRY_SAVE_SHAPES = [(2, 3, 3), (1, 1, 1)]
CARRY_SAVE_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "opt1": [
        {"encoding": "array"},
        {"encoding": "ent", "group": 1},
        {"encoding": "csd", "group": 64, "adder": "kogge_stone"},
        {"x_bits": 5, "w_bits": 9, "group": 3},
    ],
    "opt2": [{"encoding": "csd", "group": 2}, {"x_bits": 4, "w_bits": 6}],
}
# Of systolic_os: shapes whose PEs share registers in twos and threes, with a rest and without.
HOPS = [((2, 3, 7), {"hop": 2}), ((3, 1, 6), {"hop": 3}), ((1, 2, 4), {"hop": 9})]
# Of the digit-serial PEs: shape, PE, its parameters.
SERIAL: list[tuple[tuple[int, int, int], str, dict[str, Any]]] = [
    ((1, 1, 1), "opt4c", {}),
    ((4, 1, 6), "opt4c", {"group": 3, "adder": "kogge_stone"}),
    ((3, 5, 7), "opt4c", {"encoding": "booth"}),
    ((5, 16, 2), "opt4c", {"encoding": "ent", "resolve_stages": 2}),
    ((2, 6, 1), "opt4c", {"x_bits": 5, "w_bits": 9, "group": 1}),
    ((2, 3, 3), "opt4c", {"x_bits": 2, "w_bits": 3, "group": 64}),
    ((2, 2, 2), "opt4c", {"x_bits": 16, "w_bits": 16, "group": 4}),
    ((1, 1, 1), "opt4e", {}),
    ((2, 8, 8), "opt4e", {}),
    ((3, 5, 7), "opt4e", {"encoding": "ent", "group": 1}),
    ((5, 16, 2), "opt4e", {"encoding": "booth", "lanes": 3}),
    ((4, 6, 3), "opt4e", {"lanes": 6, "x_bits": 5, "w_bits": 4, "group": 3}),
    ((2, 3, 2), "opt4e", {"lanes": 3, "x_bits": 3, "w_bits": 3}),
    ((3, 5, 7), "opt3", {}),
    ((1, 4, 4), "opt3", {"encoding": "booth"}),
]
# Of packed products: array, shape, its parameters. Chains of eight, sixteen and two taps; groups that do not divide.
PACKED: list[tuple[str, tuple[int, int, int], dict[str, Any]]] = [
    *(("tree", shape, {}) for shape in [*SHAPES, (1, 17, 3), (2, 64, 4)]),
    ("tree", (2, 8, 8), {"dsp": "generic"}),
    ("tree", (1, 20, 4), {"w_bits": 4}),
    ("tree", (2, 20, 4), {"x_bits": 4, "w_bits": 4}),
    ("tree", (3, 33, 3), {"x_bits": 4, "w_bits": 4}),
    ("tree", (1, 17, 5), {"x_bits": 4, "w_bits": 4}),
    ("tree", (2, 5, 4), {"w_bits": 3}),
    ("tree", (2, 9, 7), {"x_bits": 8, "w_bits": 2}),
    # PEs that share a slice, of one product and of several chains; rows of outputs with a rest.
    ("systolic_os", (1, 1, 1), {}),
    ("systolic_os", (4, 1, 6), {}),
    ("systolic_os", (3, 5, 7), {}),
    ("systolic_os", (5, 17, 3), {"hop": 4}),
    ("systolic_os", (2, 4, 8), {"hop": 4, "w_bits": 4, "merge": 2}),
    ("systolic_os", (2, 4, 4), {"dsp": "generic"}),
    ("matrix", (4, 1, 6), {}),
    ("matrix", (3, 20, 5), {"x_bits": 4, "w_bits": 4}),
    ("matrix", (2, 8, 8), {}),
]
# Of sparse chains: shape, sparsity, parameters. One long chain and several; groups that do not divide.
CHAIN: list[tuple[tuple[int, int, int], str, dict[str, Any]]] = [
    ((1, 8, 4), "dense", {}),
    ((1, 8, 16), "2:4", {}),
    ((2, 16, 3), "2:4", {"adjusted": True}),
    ((3, 16, 3), "2:4", {"share": 1}),
    ((1, 32, 2), "1:4", {"accumulate": "dsp", "w_bits": 4}),
    ((2, 16, 5), "1:2", {"accumulate": "dsp", "w_bits": 4, "adjusted": True}),
    ((1, 64, 2), "2:8", {}),
    ((1, 48, 4), "4:8", {"accumulate": "dsp", "w_bits": 4, "adjusted": True}),
    ((2, 16, 3), "8:16", {"share": 1, "accumulate": "dsp", "w_bits": 4}),
    ((1, 8, 4), "2:4", {"dsp": "generic"}),
    ((2, 16, 2), "2:4", {"accumulate": "dsp", "w_bits": 4, "split": 2}),
    ((1, 16, 4), "4:8", {"accumulate": "dsp", "w_bits": 4, "split": 4, "adjusted": True}),
]
# Of the element of the engine guide: shape, its parameters.
OWN: list[tuple[tuple[int, int, int], dict[str, Any]]] = [
    ((3, 5, 7), {}),
]
BEATS = 5  # of the longest tile, for which the accumulators are just wide enough


def devices(*, carry_save: bool) -> dict[str, Engine]:
    """The table: every array and PE in every shape, and with each of its parameters in one shape."""
    found = {}
    for array, cls in ENGINES.items():
        for pe in cls.pes:
            if (
                array not in OPTIONS
                or pe == "dsp_packed"
                or carry_save != (pe in CARRY_SAVE_OPTIONS)
            ):
                continue
            shapes, single, options = SHAPES, (2, 6, 1), OPTIONS[array]
            if carry_save:
                shapes, single, options = CARRY_SAVE_SHAPES, (2, 4, 1), CARRY_SAVE_OPTIONS[pe]
                if array == "tree":
                    options = [*options, {"cut": 1}]
            for shape, own in [(s, {}) for s in shapes] + [(single, own) for own in options]:
                found |= _device(array, pe, shape, own)
    if carry_save:  # lanes in blocks, and registers of every kind between and after their levels
        for cut in (2, 3):
            found |= _device("tree", "opt1", (1, 64, 1), {"x_bits": 4, "w_bits": 4, "cut": cut})
    for shape, own in HOPS:
        found |= _device("systolic_os", "opt1" if carry_save else "mac", shape, own)
    return found


def serial_devices() -> dict[str, Engine]:
    """The table of digit-serial arrays."""
    found = {}
    for shape, pe, own in SERIAL:
        found |= _device("column", pe, shape, own)
    return found


def packed_devices() -> dict[str, Engine]:
    """The table of packed products."""
    found = {}
    for array, shape, own in PACKED:
        found |= _device(array, "dsp_packed", shape, own)
    return found


def chain_devices() -> dict[str, Engine]:
    """The table of sparse chains."""
    found = {}
    for shape, sparsity, own in CHAIN:
        found |= _device("chain", "dsp_packed", shape, own, sparsity)
    return found


def own_devices() -> dict[str, Engine]:
    """The table of an element that a user brings: that of docs/engines.md."""
    found = {}
    with defined() as element:
        for shape, own in OWN:
            found |= _device("tree", element.name, shape, own)
    return found


def _device(
    array: str, pe: str, shape: tuple[int, int, int], own: dict[str, Any], sparsity: str = "dense"
) -> dict[str, Engine]:
    tokens, reduce, outputs = shape
    widths = {bits: own.get(bits, 8) for bits in ("x_bits", "w_bits")}
    kept = [] if sparsity == "dense" else sparsity.split(":")
    name = "_".join(map(str, (array, pe, *kept, *shape, *(f"{k}{v}" for k, v in own.items()))))
    engine = make_engine(
        array, pe, sparsity, tokens=tokens, reduce=reduce, outputs=outputs,
        acc_bits=accumulator_bits(BEATS * reduce, **widths), **own,
    )  # fmt: skip
    return {name: engine}


TABLES = {
    "mac": lambda: devices(carry_save=False),
    "carry_save": lambda: devices(carry_save=True),
    "serial": serial_devices,
    "packed": packed_devices,
    "chain": chain_devices,
    "own": own_devices,
}


def share(table: str, every: int) -> dict[str, Engine]:
    """Each ``every``-th device of a table."""
    return dict(list(TABLES[table]().items())[::every])


DEVICES = share(os.environ.get("HWGEN_PES", "mac"), int(os.environ.get("HWGEN_EVERY", "1")))
each = cocotb.parametrize(name=list(DEVICES))


def least_weight(engine: Engine) -> int:
    """The most negative weight, or one more where weights must be symmetric."""
    return -(1 << (engine.w_bits - 1)) + bool(getattr(engine, "adjusted", False))


PAIRS = {  # of each PE and encoding one device, with enough sums side by side
    (engine.array, engine.pe, engine.encoding): name
    for name, engine in DEVICES.items()
    if engine.tokens * engine.outputs >= 16
    and engine.x_bits == engine.w_bits == 8
    and least_weight(engine) == -128
}


def random_tile(
    engine: Engine, rng: np.random.Generator, k: int, rows: int
) -> tuple[np.ndarray, np.ndarray]:
    x, least = 1 << (engine.x_bits - 1), least_weight(engine)
    w = rng.integers(least, 1 << (engine.w_bits - 1), (k, engine.outputs))
    if isinstance(engine, ChainArray):
        w *= kept(engine, k, rng, engine.n, engine.outputs)
    return rng.integers(-x, x, (rows, k)), w


def kept(engine: ChainArray, k: int, rng: np.random.Generator, n: int, outputs: int) -> np.ndarray:
    """n of every M weights of the outputs that share positions, any ones."""
    blocks, groups = -(-k // engine.m), -(-outputs // engine.share)
    order = rng.random((blocks, engine.m, groups)).argsort(1).argsort(1)
    return (order < n).reshape(-1, groups).repeat(engine.share, 1)[:k, :outputs]


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
    np.testing.assert_array_equal([acc[: engine.outputs] for acc, _ in found], rows)
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
@cocotb.parametrize(name=list(PAIRS.values()))
async def multiplies_all_pairs(dut, name: str) -> None:
    """All 65,536 pairs of operands, at every place of a beat."""
    engine = DEVICES[name]
    await start(dut)
    numbers, places = np.arange(256), np.arange(engine.reduce)
    # Tiles whose place r holds the same numbers as place 0, shifted by a different amount.
    xs = (numbers[:, None] + 85 * places) % 256 - 128
    ws = (numbers[:, None] + 51 * places) % 256 - 128
    tiles = [
        (
            xs[t : t + engine.tokens],
            np.resize(ws[o : o + engine.outputs], (engine.outputs, len(places))).T,
        )
        for t in range(0, 256, engine.tokens)
        for o in range(0, 256, engine.outputs)
    ]
    await compare(dut, name, tiles, 1.0, 1.0)


@cocotb.test()
@each
async def holds_the_extremes(dut, name: str) -> None:
    engine = DEVICES[name]
    k = BEATS * engine.reduce
    await start(dut)
    x, w = (1 << (bits - 1) for bits in (engine.x_bits, engine.w_bits))
    least = least_weight(engine)
    tiles = [
        (np.full((engine.tokens, k), a), np.full((k, engine.outputs), b))
        for a, b in [(-x, least), (-x, w - 1), (0, 0), (x - 1, least), (-2, least), (-x, least)]
    ]
    assert engine.golden(*tiles[0]).max() == k * x * -least
    await compare(dut, name, tiles, 1.0, 1.0)


@cocotb.test()
@each
async def keeps_its_promised_cycles(dut, name: str) -> None:
    """Unstalled tiles leave ``cycles`` apart, a lone one ``delay`` after its last beat."""
    engine, rng = DEVICES[name], np.random.default_rng(4)
    await start(dut)
    valid, ready = getattr(dut, f"{name}__o__valid"), getattr(dut, f"{name}__o__ready")
    taken, given = getattr(dut, f"{name}__i__ready"), getattr(dut, f"{name}__i__valid")
    payload = getattr(dut, f"{name}__o__payload")
    ready.value = 1
    for k in (1, 2 * engine.reduce, BEATS * engine.reduce):
        for rows in {1, (engine.tokens + 1) // 2, engine.tokens}:
            for count in (1, 12):
                x, w = random_tile(engine, rng, k, rows)
                # Few digits, and whole beats without any, where an engine skips them.
                x = x * rng.integers(0, 2, x.shape) * (rng.random(x.shape[1]) < rng.random())
                beats = [beat for _ in range(count) for beat in engine.pack(x, w)]
                cocotb.start_soon(put(dut, f"{name}__i", beats))
                entered, left = [], []
                most = count * engine.interval(k, rows) + engine.delay(x) + engine.tokens + 20
                for cycle in range(most):
                    await ReadOnly()
                    if given.value and taken.value:
                        entered.append(cycle)
                    if valid.value:
                        left.append((cycle, engine.unpack(int(payload.value))[1]))
                    await RisingEdge(dut.clk)
                assert len(left) == count * rows
                assert engine.cycles(x) <= engine.interval(k, rows)
                if count == 1:
                    assert left[0][0] - entered[-1] == engine.delay(x) >= engine.latency
                    assert [cycle - left[0][0] for cycle, _ in left] == list(range(rows))
                else:
                    ends = [cycle for cycle, last in left if last]
                    assert set(np.diff(ends[-6:])) == {engine.cycles(x)}, (k, rows, ends)


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
        # The last tile that ends before the reset has one row, the one that it meets has all.
        heights = [engine.tokens if phase or n else 1 for n in range(3)]
        tiles = [random_tile(engine, rng, 3 * engine.reduce, rows) for rows in heights]
        if phase == 0:
            dut_ready = getattr(dut, f"{name}__o__ready")
            dut_ready.value = 1
            beats = [beat for x, w in tiles for beat in engine.pack(x, w)][:-1]
            await put(dut, f"{name}__i", beats[: 4 + engine.latency % 3])
            dut_ready.value = 0
            dut.rst.value = 1
            await RisingEdge(dut.clk)
            await RisingEdge(dut.clk)
            dut.rst.value = 0
            await RisingEdge(dut.clk)
        else:
            await compare(dut, name, tiles, 1.0, 1.0)


SPLIT = [n for n, e in DEVICES.items() if isinstance(e, ChainArray) and e.split > 1]


@cocotb.test(skip=not SPLIT)
@cocotb.parametrize(name=SPLIT or ["none"], stalls=[(1.0, 1.0), (0.6, 0.5)])
async def cuts_chains(dut, name: str, stalls: tuple[float, float]) -> None:
    """Tiles of once, twice, four times as many outputs in any order, as much sparser; and dense ones."""
    engine, rng = DEVICES[name], np.random.default_rng(9)
    assert isinstance(engine, ChainArray)
    await start(dut)
    beats, rows, places = [], [], []
    for _ in range(40):
        cuts = int(rng.choice([c for c in (1, 2, 4) if c <= engine.split]))
        outputs = engine.outputs * cuts - int(rng.integers(0, engine.outputs))
        k, tokens = int(rng.integers(1, 3 * engine.reduce)), int(rng.integers(1, engine.tokens + 1))
        x, half = rng.integers(-128, 128, (tokens, k)), 1 << (engine.w_bits - 1)
        w = rng.integers(least_weight(engine), half, (k, outputs))
        sparse = rng.random() < 0.8
        if sparse:
            w *= kept(engine, k, rng, engine.n // cuts, outputs)
        payloads = engine.pack(x, w)
        if sparse:  # beats without a weight are left out
            assert 1 <= len(payloads) <= engine.beats(k)
        beats += payloads
        rows += list(x @ w)
        places += [[engine.place(o, cuts) for o in range(outputs)]] * tokens
    cocotb.start_soon(put(dut, f"{name}__i", beats, stalls[0]))
    found = await get(dut, f"{name}__o", len(rows), stalls[1])
    for payload, row, at in zip(found, rows, places, strict=True):
        np.testing.assert_array_equal(engine.unpack(payload)[0][at], row)


@cocotb.test(skip="HWGEN_TRACE" not in os.environ)
async def leaves_a_trace(dut) -> None:
    """Every port that a device drives, cycle by cycle, for comparison with another build of the same devices."""
    await start(dut)
    rng = np.random.default_rng(7)
    sources, traces = {}, {}
    for name, engine in DEVICES.items():
        shapes = [(int(rng.integers(1, 4 * engine.reduce)), int(rng.integers(1, engine.tokens + 1)))
                  for _ in range(25)]  # fmt: skip
        sources[name] = [
            b for k, rows in shapes for b in engine.pack(*random_tile(engine, rng, k, rows))
        ]
        traces[name] = []
    coin = random.Random(8)
    for _ in range(400):
        for name in DEVICES:
            getattr(dut, f"{name}__i__valid").value = int(
                bool(sources[name]) and coin.random() < 0.8
            )
            getattr(dut, f"{name}__i__payload").value = (sources[name] or [0])[0]
            getattr(dut, f"{name}__o__ready").value = int(coin.random() < 0.7)
        await ReadOnly()
        for name in DEVICES:
            ready, valid = (
                int(getattr(dut, f"{name}__{port}").value) for port in ("i__ready", "o__valid")
            )
            row = "-"
            if valid:
                acc, last = DEVICES[name].unpack(int(getattr(dut, f"{name}__o__payload").value))
                row = f"{acc[: DEVICES[name].outputs].tolist()}{int(last)}"
            traces[name].append(f"{ready}{valid}{row}")
            if ready and int(getattr(dut, f"{name}__i__valid").value):
                sources[name].pop(0)
        await RisingEdge(dut.clk)
    text = "".join(f"{name}: {' '.join(trace)}\n" for name, trace in traces.items())
    Path(os.environ["HWGEN_TRACE"]).write_text(text)
