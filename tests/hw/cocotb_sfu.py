# SPDX-License-Identifier: Apache-2.0
"""cocotb tests of the special function units, on a bench."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import Event, ReadOnly, RisingEdge

from hw.sfu.activation import Activation
from hw.sfu.argmax import ArgMax
from hw.sfu.layernorm import InverseRoot, LayerNorm, NormSums
from hw.sfu.product import GatedProduct
from hw.sfu.requantise import Requantise
from hw.sfu.rotary import Rotary
from hw.sfu.softmax import Reciprocal, Softmax
from hw.unit import Unit
from sim.golden import ops
from sim.streams import get, put, start, unpack
from sim.streams import pack as pack_integers

UNITS: dict[str, Unit] = {
    "requantise": Requantise(lanes=4, acc_bits=32, tag_bits=5),
    "requantise_narrow": Requantise(lanes=2, acc_bits=20, tag_bits=1),
    "activation": Activation(lanes=3, tag_bits=4),
    "activation_relu": Activation(lanes=2, tag_bits=1, gate="relu"),
    "activation_passing": Activation(lanes=3, tag_bits=2, gate="silu", bits=16, passing=True),
    "rotary": Rotary(lanes=8, tag_bits=3),
    "rotary_pair": Rotary(lanes=2, tag_bits=1),
    "gated_product": GatedProduct(lanes=3),
    "argmax": ArgMax(lanes=8, index_bits=10),
    "argmax_odd": ArgMax(lanes=5, index_bits=7),
    "layernorm": LayerNorm(width=64, lanes=8, rows_bits=3, beat_bytes=64),
    "layernorm_odd": LayerNorm(width=24, lanes=4, rows_bits=2, beat_bytes=16),
    "layernorm_word": LayerNorm(width=8, lanes=8, rows_bits=4, beat_bytes=96),
    "layernorm_long": LayerNorm(width=1280, lanes=2, rows_bits=2, beat_bytes=16),
    "rmsnorm": LayerNorm(width=64, lanes=8, rows_bits=3, beat_bytes=64, centred=False),
    "rmsnorm_odd": LayerNorm(width=24, lanes=4, rows_bits=2, beat_bytes=8, centred=False),
    "rmsnorm_long": LayerNorm(width=2048, lanes=2, rows_bits=2, beat_bytes=16, centred=False),
    "norm_sums": NormSums(width=24, lanes=3),
    "norm_sums_rms": NormSums(width=24, lanes=3, centred=False),
    "inverse_root": InverseRoot(width=64, total_bits=22, squares_bits=37),
    "inverse_root_rms": InverseRoot(width=64, total_bits=22, squares_bits=37, centred=False),
    "reciprocal": Reciprocal(total_bits=24, tag_bits=3),
    "softmax": Softmax(tokens=2, lanes=8, context=64, slots=4),
    "softmax_odd": Softmax(tokens=3, lanes=6, context=42, slots=3),
    "softmax_decode": Softmax(tokens=1, lanes=4, context=32, slots=2),
}
"""What stands on the bench."""

BUSY = [(1.0, 1.0), (0.6, 1.0), (1.0, 0.5), (0.5, 0.5)]
"""How often the source and the sink of a stream are ready for a transfer."""


def of_type(kind: type) -> Iterator[tuple[str, Any]]:
    """Units of the bench that are a ``kind``."""
    return ((name, unit) for name, unit in UNITS.items() if isinstance(unit, kind))


LIMIT: dict[str, Any] = {"timeout_time": 100, "timeout_unit": "us"}
"""50,000 cycles, more than any test takes: a unit that hangs fails."""


async def transfer(
    dut: Any, name: str, words: list[int], busy: tuple[float, float], count: int
) -> list[int]:
    """Send ``words`` to ``name.i`` and receive ``count`` words of ``name.o``."""
    sender = cocotb.start_soon(put(dut, f"{name}__i", words, busy[0], seed=len(words)))
    found = await get(dut, f"{name}__o", count, busy[1])
    await sender
    return found


async def latency(dut: Any, name: str, word: int) -> int:
    """Cycles from the transfer of ``word`` at ``name.i`` to valid at ``name.o``."""
    cocotb.start_soon(put(dut, f"{name}__i", [word]))
    valid, taken = getattr(dut, f"{name}__i__valid"), getattr(dut, f"{name}__i__ready")
    left = getattr(dut, f"{name}__o__valid")
    getattr(dut, f"{name}__o__ready").value = 1
    sent = None
    for cycle in range(100):
        await ReadOnly()
        if sent is None and valid.value and taken.value:
            sent = cycle
        if left.value:
            await RisingEdge(dut.clk)
            assert sent is not None
            return cycle - sent
        await RisingEdge(dut.clk)
    raise AssertionError(f"{name}: no result")


def pack(values: np.ndarray, bits: int) -> int:
    """:func:`sim.streams.pack` of an array."""
    return pack_integers(values.tolist(), bits)


def fields(*parts: tuple[int, int]) -> int:
    """Concatenate ``(value, bits)``, the first one lowest."""
    word, at = 0, 0
    for value, bits in parts:
        assert 0 <= value < 1 << bits
        word |= value << at
        at += bits
    return word


def narrow(rng: np.random.Generator, bits: int, size: int, signed: bool = True) -> np.ndarray:
    """Numbers of every length up to ``bits`` bits, with the extremes among them."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    x = rng.integers(low, high + 1, size) >> rng.integers(0, bits, size)
    special = rng.choice([low, high, 0, min(1, high), high - 1], size)
    return np.where(rng.random(size) < 0.1, special, x).astype(np.int64)


@cocotb.test(**LIMIT)
async def requantise_equals_golden(dut):
    await start(dut)
    for name, unit in of_type(Requantise):
        assert isinstance(unit, Requantise)
        rng = np.random.default_rng(1)
        for busy in BUSY:
            words, want = [], []
            for n in range(300):
                acc = narrow(rng, unit.acc_bits, unit.lanes)
                bias = narrow(rng, 32, unit.lanes)
                multiplier = narrow(rng, 16, unit.lanes, signed=False)
                # About where the result fits 16 bits, or anywhere.
                length = [int(abs(p)).bit_length() for p in (acc + bias) * multiplier]
                shift = np.clip(np.array(length) - rng.integers(10, 20, unit.lanes), 1, 63)
                if n % 4 == 0:
                    shift = rng.integers(1, 64, unit.lanes)
                tag = int(rng.integers(1 << unit.tag_bits))
                words.append(
                    fields(
                        (pack(acc, unit.acc_bits), unit.lanes * unit.acc_bits),
                        (pack(bias, 32), unit.lanes * 32),
                        (pack(multiplier, 16), unit.lanes * 16),
                        (pack(shift, 6), unit.lanes * 6),
                        (tag, unit.tag_bits),
                    )
                )
                y = ops.requantise(acc, bias, multiplier, shift, 16)
                want.append(fields((pack(y, 16), unit.lanes * 16), (tag, unit.tag_bits)))
            assert await transfer(dut, name, words, busy, len(words)) == want, f"{name} at {busy}"
        assert await latency(dut, name, 0) == unit.latency


@cocotb.test(**LIMIT)
async def activation_equals_golden(dut):
    await start(dut)
    for name, unit in of_type(Activation):
        assert isinstance(unit, Activation)
        rng = np.random.default_rng(2)

        def word(
            z: np.ndarray, multiplier: int, shift: int, tag: int, unit: Activation = unit
        ) -> tuple[int, int]:
            plain = unit.passing and tag % 2
            if plain:
                y = ops.requantise(z, 0, multiplier, shift, unit.bits)
            else:
                y = ops.gated_activation(z, multiplier, shift, unit.gate, unit.bits)
            return (
                fields(
                    (pack(z, 16), unit.lanes * 16),
                    (multiplier, 16),
                    (shift, 6),
                    (tag, unit.tag_bits),
                    *([(int(plain), 1)] if unit.passing else []),
                ),
                fields((pack(y, unit.bits), unit.lanes * unit.bits), (tag, unit.tag_bits)),
            )

        for busy in BUSY:
            pairs = []
            for _ in range(300):
                multiplier = int(narrow(rng, 16, 1, signed=False)[0])
                shift = int(np.clip(multiplier.bit_length() + rng.integers(0, 8), 1, 63))
                tag = int(rng.integers(1 << unit.tag_bits))
                pairs.append(word(narrow(rng, 16, unit.lanes), multiplier, shift, tag))
            words, want = map(list, zip(*pairs, strict=True))
            assert await transfer(dut, name, words, busy, len(words)) == want, f"{name} at {busy}"
        # Every entry of the table, at both of its ends.
        z = np.concatenate([np.arange(-8300, 8300, 16) + 7, np.arange(-8300, 8300, 16) + 8])
        z = np.resize(z, -(-z.size // unit.lanes) * unit.lanes).reshape(-1, unit.lanes)
        words, want = map(list, zip(*(word(row, 40000, 20, 0) for row in z), strict=True))
        assert await transfer(dut, name, words, (1.0, 1.0), len(words)) == want
        assert await latency(dut, name, 0) == unit.latency


@cocotb.test(**LIMIT)
async def rotary_equals_golden(dut):
    """The angles are those of a memory that is read as a word enters, and keeps what it read."""
    await start(dut)
    for name, unit in of_type(Rotary):
        rng = np.random.default_rng(14)

        def word(y: np.ndarray, plain: bool, tag: int, unit: Rotary = unit) -> int:
            return fields((pack(y, 16), unit.lanes * 16), (int(plain), 1), (tag, unit.tag_bits))

        for busy in BUSY:
            words, want, angles = [], [], []
            for n in range(300):
                y, plain = narrow(rng, 16, unit.lanes), rng.random() < 0.2
                row = np.round(2**14 * np.sin(rng.uniform(0, 2 * np.pi, unit.lanes)))
                row = narrow(rng, 16, unit.lanes) if n % 5 == 0 else row.astype(np.int64)
                tag = int(rng.integers(1 << unit.tag_bits))
                words.append(word(y, plain, tag))
                angles.append(pack(row, 16))
                turned = ops.clamp(y, 8) if plain else ops.rotary(y[None], row[None])[0]
                want.append(fields((pack(turned, 8), unit.lanes * 8), (tag, unit.tag_bits)))

            async def memory(name: str = name, angles: list[int] = angles) -> None:
                valid, ready = (getattr(dut, f"{name}__i__{p}") for p in ("valid", "ready"))
                for row in angles:
                    await ReadOnly()
                    while not (valid.value and ready.value):
                        await RisingEdge(dut.clk)
                        await ReadOnly()
                    await RisingEdge(dut.clk)
                    getattr(dut, f"{name}__angles").value = row

            reading = cocotb.start_soon(memory())
            assert await transfer(dut, name, words, busy, len(words)) == want, f"{name} at {busy}"
            await reading
        zero = np.zeros(unit.lanes, np.int64)
        assert await latency(dut, name, word(zero, False, 0)) == unit.latency


@cocotb.test(**LIMIT)
async def gated_product_equals_golden(dut):
    await start(dut)
    for name, unit in of_type(GatedProduct):
        rng = np.random.default_rng(15)
        up = narrow(rng, 16, 3 * 500).reshape(-1, unit.lanes)
        u = narrow(rng, 16, up.size).reshape(up.shape)
        u[::3] = (
            2**15 * rng.uniform(-128, 128, u[::3].shape) / np.where(up[::3], up[::3], 1)
        ).clip(-32768, 32767)
        up[:2], u[:2] = -32768, [[-32768], [32767]]
        due: list[int] = []
        found: list[int] = []
        k = 0
        while len(found) < len(up):
            given = k < len(up) and rng.random() < 0.7
            getattr(dut, f"{name}__valid").value = int(given)
            if given:
                getattr(dut, f"{name}__up").value = pack(up[k], 16)
                k += 1
            due.append(int(given))
            if len(due) > unit.latency and due[-1 - unit.latency]:
                await ReadOnly()
                found.append(int(getattr(dut, f"{name}__y").value))
            await RisingEdge(dut.clk)
            getattr(dut, f"{name}__u").value = pack(u[k - 1], 16) if given else 12345
        assert found == [pack(row, 8) for row in ops.gated_product(u, up)]


@cocotb.test(**LIMIT)
async def argmax_takes_the_first(dut):
    await start(dut)
    for name, unit in of_type(ArgMax):
        assert isinstance(unit, ArgMax)
        limit_bits = unit.lanes.bit_length()
        rng = np.random.default_rng(3)

        def sequence(
            y: np.ndarray, limits: np.ndarray, unit: ArgMax = unit, bits: int = limit_bits
        ) -> list[int]:
            return [
                fields(
                    (pack(row, 16), unit.lanes * 16), (int(limit), bits), (int(n == len(y) - 1), 1)
                )
                for n, (row, limit) in enumerate(zip(y, limits, strict=True))
            ]

        for busy in BUSY:
            words, want = [], []
            for n in range(60):
                rows = int(rng.integers(1, 12))
                # Many equal numbers, or any; every tenth sequence holds but one number.
                y = (
                    rng.integers(-3, 3, (rows, unit.lanes))
                    if n % 2
                    else narrow(rng, 16, rows * unit.lanes)
                )
                y = y.reshape(rows, unit.lanes)
                if n % 10 == 0:
                    y = np.full_like(y, rng.choice([-32768, 32767, 0]))
                limits = np.full(rows, unit.lanes)
                limits[-1] = rng.integers(1, unit.lanes + 1)
                if n % 3 == 0:
                    limits = rng.integers(0, unit.lanes + 1, rows)
                    limits[rng.integers(rows)] = unit.lanes
                counted = np.where(np.arange(unit.lanes) < limits[:, None], y, -40000).reshape(-1)
                index = ops.argmax(counted)
                words += sequence(y, limits)
                want.append(fields((index, unit.index_bits), (int(counted[index]) & 0xFFFF, 16)))
            assert await transfer(dut, name, words, busy, len(want)) == want, f"{name} at {busy}"
        y, limits = np.zeros((1, unit.lanes), np.int64), np.full(1, unit.lanes)
        assert await latency(dut, name, sequence(y, limits)[0]) == unit.latency


class NormBench:
    """A residual buffer, a source of parameters, and a record of what one LayerNorm does."""

    def __init__(self, dut: Any, name: str, unit: LayerNorm) -> None:
        self.dut, self.name, self.unit = dut, name, unit
        self.rng = np.random.default_rng(4)
        self.buffer = np.zeros((1 << unit.rows_bits, unit.width), np.int64)
        self.cycle = 0
        self.results: list[tuple[int, int, int, int]] = []
        """(cycle, row, chunk, data)"""
        self.accepted: list[int] = []
        self.done: list[int] = []
        self.reads = 0
        self.finished = Event()
        for port in ("job__valid", "param__valid", "constants__valid", "param_done"):
            self.port(port).value = 0
        self._task = cocotb.start_soon(self._run())

    def port(self, name: str) -> Any:
        return getattr(self.dut, f"{self.name}__{name}")

    async def _run(self) -> None:
        names = ("x_en", "x_row", "x_chunk", "y_valid", "y_row", "y_chunk", "y_data", "done")
        x_en, x_row, x_chunk, y_valid, y_row, y_chunk, y_data, done = map(self.port, names)
        job_valid, job_ready = self.port("job__valid"), self.port("job__ready")
        x_data, lanes = self.port("x_data"), self.unit.lanes
        while True:
            await ReadOnly()
            if job_valid.value and job_ready.value:
                self.accepted.append(self.cycle)
            word = int(self.rng.integers(1 << 30))  # not what the unit may read
            if x_en.value:
                self.reads += 1
                at = int(x_chunk.value) * lanes
                word = pack(self.buffer[int(x_row.value), at : at + lanes], 16)
            if y_valid.value:
                self.results.append(
                    (self.cycle, int(y_row.value), int(y_chunk.value), int(y_data.value))
                )
            if done.value:
                self.done.append(self.cycle)
                self.finished.set()
            await RisingEdge(self.dut.clk)
            x_data.value = word
            self.cycle += 1

    async def parameters(
        self, gamma: np.ndarray, beta: np.ndarray, shift: int, epsilon: int, busy: float
    ) -> None:
        """Give the constants and every beat of parameters, then ``param_done``."""
        values = np.stack([gamma, beta], axis=1).reshape(-1) if self.unit.centred else gamma
        per_beat = self.unit.beat_bytes // 2
        self.port("constants__epsilon").value = epsilon
        self.port("constants__gamma_shift").value = shift
        self.port("constants__valid").value = 1
        await RisingEdge(self.dut.clk)
        self.port("constants__valid").value = 0
        self.port("constants__epsilon").value = 12345
        index_bits = self.unit.param_layout["index"].width
        beats = [
            fields((n, index_bits), (pack(values[k : k + per_beat], 16), per_beat * 16))
            for n, k in enumerate(range(0, len(values), per_beat))
        ]
        await put(self.dut, f"{self.name}__param", beats, busy)
        self.port("param_done").value = 1
        await RisingEdge(self.dut.clk)
        self.port("param_done").value = 0

    def rows(self, count: int, kind: int) -> np.ndarray:
        """Rows of random kinds; the extremes among them."""
        rng, d = self.rng, self.unit.width
        makers: list[Callable[[], Any]] = [
            lambda: rng.integers(-32768, 32768, d),
            lambda: np.zeros(d),
            lambda: np.full(d, rng.choice([-32768, 32767, 5])),
            lambda: np.where(np.arange(d) % 2, 32767, -32768),
            lambda: np.where(np.arange(d) == rng.integers(d), 32767, -32768),
            lambda: np.where(np.arange(d) == rng.integers(d), -1, 0),
            lambda: rng.normal(rng.normal(0, 3000), 10 ** rng.uniform(0, 3.5), d),
            lambda: rng.normal(0, 300, d),
            lambda: (
                rng.choice([-32768, 32760, 12345]) + rng.integers(0, 3, d)
            ),  # sums must be exact
        ]
        rows = [makers[(kind + k) % len(makers)]() for k in range(count)]
        return np.clip(np.round(rows), -32768, 32767).astype(np.int64)

    async def job(self, count: int, kind: int, known: str, busy: float = 1.0) -> None:
        """Run a job, and compare everything. ``known``: when the parameters come."""
        rng, unit = self.rng, self.unit
        first, to = (int(v) for v in rng.integers(0, 1 << unit.rows_bits, 2))
        x = self.rows(count, kind)
        self.buffer[(first + np.arange(count)) % len(self.buffer)] = x
        shift = int(rng.integers(0, 16))
        gamma = narrow(rng, 16, unit.width)
        beta = narrow(rng, 16, unit.width)
        if kind % 2:
            gamma = (
                np.round(rng.normal(40, 10, unit.width) * 2**shift / 4)
                .clip(-32768, 32767)
                .astype(np.int64)
            )
        epsilon = int(
            rng.choice([1, 2, 1 << 20, int(1e-5 * unit.width**2 * 2**18) + 1, (1 << 56) - 1])
        )
        self.results.clear()
        self.finished.clear()
        self.reads = 0
        give = self.parameters(gamma, beta, shift, epsilon, busy)
        job = [fields((first, unit.rows_bits), (count, unit.rows_bits + 1), (to, unit.rows_bits))]
        if known == "before":
            await give
            await put(self.dut, f"{self.name}__job", job)
        else:
            await put(self.dut, f"{self.name}__job", job)
            for _ in range(0 if known == "with" else 3 * unit.words + 50):
                await RisingEdge(self.dut.clk)
            assert not self.results, "results without parameters"
            await give
        await self.finished.wait()
        await RisingEdge(self.dut.clk)

        want = []
        for k in range(count):
            if unit.centred:
                y = ops.layernorm(x[k], gamma, beta, shift, epsilon)
            else:
                y = ops.rmsnorm(x[k], gamma, shift, epsilon)
            for chunk in range(unit.words):
                part = y[chunk * unit.lanes : (chunk + 1) * unit.lanes]
                want.append(((to + k) % len(self.buffer), chunk, pack(part, 8)))
        found = [r[1:] for r in self.results]
        wrong = [(a, b) for a, b in zip(found, want, strict=False) if a != b]
        assert len(found) == len(want) and not wrong, (
            f"{self.name}: {count} rows, kind {kind}, {known}: "
            f"{len(wrong)} of {len(found)} words wrong, the first {wrong[:1]}"
        )
        assert self.reads == count * unit.words
        cycles = [r[0] for r in self.results]
        assert self.done[-1] == cycles[-1] + 1
        if known == "before":
            assert self.done[-1] - self.accepted[-1] == unit.cycles(count)
            assert cycles == list(range(cycles[0], cycles[0] + len(cycles))), (
                "a row costs more than its words"
            )


async def pulses(
    dut: Any,
    name: str,
    inputs: list[dict[str, int]],
    flag: str,
    outputs: tuple[str, ...],
    latency: int,
) -> list[tuple[int, ...]]:
    """Drive ``inputs`` with ``valid``, some at once, some apart; return the ``outputs`` of each.

    They are read ``latency`` cycles later; with a ``flag``, only those of inputs that have it.
    """

    def port(name_: str) -> Any:
        return getattr(dut, f"{name}__{name_}")

    rng = random.Random(len(inputs))
    waiting, found = list(reversed(inputs)), []
    due: list[bool] = [False] * latency
    while waiting or any(due):
        due.append(bool(waiting) and rng.random() < 0.7)
        port("valid").value = int(due[-1])
        if due[-1]:
            values = waiting.pop()
            due[-1] = bool(values.pop(flag, 1)) if flag else True
            for key, value in values.items():
                port(key).value = value
            if flag:
                port(flag).value = int(due[-1])
        elif flag:
            port(flag).value = 1
        await ReadOnly()
        if due.pop(0):
            found.append(tuple(int(port(key).value) for key in outputs))
        await RisingEdge(dut.clk)
    port("valid").value = 0
    return found


@cocotb.test(**LIMIT)
async def norm_sums_are_exact(dut):
    await start(dut)
    for name, unit in of_type(NormSums):
        rng = np.random.default_rng(11)
        words, inputs, want = unit.width // unit.lanes, [], []
        for _ in range(60):
            x = narrow(rng, 16, unit.width)
            if rng.random() < 0.2:
                x = np.full(unit.width, rng.choice([-32768, 32767]))
            for k in range(words):
                part = pack(x[k * unit.lanes : (k + 1) * unit.lanes], 16)
                inputs.append({"first": int(k == 0), "last": int(k == words - 1), "x": part})
            total = int(x.sum()) & ((1 << unit.total_bits) - 1)
            want.append((1, *([total] if unit.centred else []), int((x * x).sum())))
        outputs = ("done", "total", "squares") if unit.centred else ("done", "squares")
        assert await pulses(dut, name, inputs, "last", outputs, unit.latency) == want


@cocotb.test(**LIMIT)
async def inverse_root_equals_golden(dut):
    await start(dut)
    for name, unit in of_type(InverseRoot):
        rng = random.Random(12)
        values = [1 << k for k in range(58)] + [(1 << k) - 1 for k in range(1, 59)]
        values += [rng.getrandbits(rng.randint(1, 58)) + 1 for _ in range(1500)]
        values += [(((top << 8) + rng.choice([0, 255])) << 30) + 5 for top in range(64, 256)]
        dut_epsilon = getattr(dut, f"{name}__epsilon")
        for value in values:
            # d*Q - S*S + epsilon is the value; S is any that leaves room for Q.
            total = rng.randint(-(1 << 18), 1 << 18) if unit.centred else 0
            squares = -(-total * total // unit.width)
            squares += rng.randint(0, min(value - 1, 1 << 34) // unit.width)
            epsilon = value - (unit.width * squares - total * total)
            if epsilon < 0:
                total = squares = 0
                epsilon = value
            dut_epsilon.value = epsilon
            sums = {"squares": squares}
            outputs = ("r", "shift")
            if unit.centred:
                sums["total"] = total & ((1 << unit.total_bits) - 1)
                outputs += ("total_o",)
            [found] = await pulses(dut, name, [sums], "", outputs, unit.latency)
            r, e = ops.rsqrt(value)
            totals = (sums["total"],) if unit.centred else ()
            assert found == (r, 13 + e, *totals), f"1 / sqrt({value})"
        # One row per cycle.
        dut_epsilon.value = 1
        zero = {"total": 0} if unit.centred else {}
        inputs = [zero | {"squares": rng.getrandbits(36)} for _ in range(100)]
        want = [ops.rsqrt(unit.width * row["squares"] + 1) for row in inputs]
        found = await pulses(dut, name, inputs, "", ("r", "shift"), unit.latency)
        assert found == [(r, 13 + e) for r, e in want]


@cocotb.test(**LIMIT)
async def reciprocal_equals_golden(dut):
    await start(dut)
    for name, unit in of_type(Reciprocal):
        rng = random.Random(13)
        for multiplier in (
            1 << 14,
            (1 << 15) - 1,
            *(rng.randrange(1 << 14, 1 << 15) for _ in range(8)),
        ):
            shift = rng.randint(1, 39)
            getattr(dut, f"{name}__multiplier").value = multiplier
            getattr(dut, f"{name}__shift").value = shift
            totals = [1, (1 << unit.total_bits) - 1]
            totals += [1 << k for k in range(unit.total_bits)]
            totals += [rng.getrandbits(rng.randint(1, unit.total_bits)) or 1 for _ in range(100)]
            inputs = [{"total": total, "tag": k % 8} for k, total in enumerate(totals)]
            outputs = ("valid_o", "tag_o", "multiplier_o", "shift_o")
            found = await pulses(dut, name, inputs, "", outputs, unit.latency)
            want = [ops.reciprocal(total, multiplier, shift) for total in totals]
            assert found == [(1, k % 8, *pair) for k, pair in enumerate(want)]


@cocotb.test(**LIMIT)
async def layernorm_equals_golden(dut):
    await start(dut)
    for name, unit in of_type(LayerNorm):
        bench = NormBench(dut, name, unit)
        large = unit.width > 1000
        for kind in range(4 if large else 18):
            known = ("before", "with", "after", "before")[kind % 4]
            count = (1, 2, 3, 1 << unit.rows_bits)[kind % 4 if kind < 8 else (kind // 4) % 4]
            await bench.job(
                min(count, 3) if large else count, kind, known, 1.0 if kind % 3 else 0.6
            )
        bench._task.cancel()


class SoftmaxBench:
    """What one Softmax is given, and what it says, cycle by cycle."""

    def __init__(self, dut: Any, name: str, unit: Softmax, seed: int) -> None:
        self.dut, self.name, self.unit = dut, name, unit
        self.rng = np.random.default_rng(seed)
        self.cycle = 0
        self.accepted: list[int] = []
        self.done: list[int] = []
        for port in ("score__valid", "item__valid", "p_en"):
            self.port(port).value = 0
        self.constant()
        self._task = cocotb.start_soon(self._run())

    def port(self, name: str) -> Any:
        return getattr(self.dut, f"{self.name}__{name}")

    async def _run(self) -> None:
        valid, ready, done = self.port("item__valid"), self.port("item__ready"), self.port("done")
        while True:
            await ReadOnly()
            if valid.value and ready.value:
                self.accepted.append(self.cycle)
            if done.value:
                self.done.append(self.cycle)
            await RisingEdge(self.dut.clk)
            self.cycle += 1

    def constant(self) -> None:
        """Another constant; only while no item is worked on."""
        self.multiplier, self.shift = (
            int(self.rng.integers(1 << 14, 1 << 15)),
            int(self.rng.integers(1, 40)),
        )
        self.port("constant__multiplier").value = self.multiplier
        self.port("constant__shift").value = self.shift

    def item(self, slot: int, rows: int, columns: int, kind: int) -> "Item":
        """Scores of a random kind."""
        unit, rng = self.unit, self.rng
        chunks = -(-(columns + rows - 1) // unit.lanes)
        shape = (rows, chunks * unit.lanes)
        scores = [
            lambda: rng.normal(0, 700, shape),
            lambda: np.full(shape, rng.choice([-32768, 32767, 0])),
            lambda: rng.choice([-32768, 32767], shape),
            lambda: rng.integers(-32768, 32768, shape),
            lambda: -np.cumsum(rng.integers(0, 60, shape), axis=1),
            lambda: np.cumsum(rng.integers(0, 60, shape), axis=1),
        ][kind % 6]()
        scores = np.clip(np.round(scores), -32768, 32767).astype(np.int64)
        for t in range(rows):  # masked scores are anything, large ones too
            scores[t, columns + t :] = rng.choice([32767, -32768, 100], shape[1] - columns - t)
        return Item(slot, rows, chunks, columns, scores)

    def items(self, shapes: list[tuple[int, int]]) -> list["Item"]:
        """Items of ``(rows, columns)`` in slots in turn."""
        return [
            self.item(k % self.unit.slots, rows, columns, k)
            for k, (rows, columns) in enumerate(shapes)
        ]

    async def write(self, item: "Item", busy: float = 1.0, offer: bool = False) -> None:
        """Write the scores of an item; with ``offer``, offer it in the cycle of the last one."""
        unit = self.unit
        words = [(t, c) for t in range(item.rows) for c in range(item.chunks)]
        if self.rng.random() < 0.5:
            words = [(t, c) for c in range(item.chunks) for t in range(item.rows)]
        for n, (t, c) in enumerate(words):
            while self.rng.random() >= busy:
                await RisingEdge(self.dut.clk)
            values = {
                "valid": 1, "slot": item.slot, "row": t, "chunk": c, "first": int(c == 0),
                "limit": int(np.clip(item.columns + t - c * unit.lanes, 0, unit.lanes)),
                "data": pack(item.scores[t, c * unit.lanes : (c + 1) * unit.lanes], 16),
            }  # fmt: skip
            for port, value in values.items():
                self.port(f"score__{port}").value = value
            if offer and n == len(words) - 1:
                self.offer(item)
            await RisingEdge(self.dut.clk)
            self.port("score__valid").value = 0

    def offer(self, item: "Item") -> Any:
        """Offer an item from this cycle on until it is taken."""
        layout = self.unit.item_layout
        values = {
            "slot": item.slot,
            "rows": item.rows,
            "chunks": item.chunks,
            "columns": item.columns,
        }
        word = fields(*((v, layout[k].width) for k, v in values.items()))
        return cocotb.start_soon(put(self.dut, f"{self.name}__item", [word]))

    async def check(self, item: "Item") -> None:
        """Read all of an item, from the cycle on in which it is done."""
        unit = self.unit
        self.port("r_slot").value = item.slot
        self.port("p_slot").value = item.slot
        found = np.zeros((unit.tokens, item.chunks * unit.lanes), np.int64)
        for c in range(item.chunks):
            self.port("p_en").value = 1
            self.port("p_chunk").value = c
            await RisingEdge(self.dut.clk)
            self.port("p_en").value = 0
            self.port("p_chunk").value = int(self.rng.integers(unit.chunks))
            for _ in range(int(self.rng.integers(2))):  # what was read stays
                await RisingEdge(self.dut.clk)
            await ReadOnly()
            word = unpack(int(self.port("p_data").value), 8, unit.tokens * unit.lanes)
            found[:, c * unit.lanes : (c + 1) * unit.lanes] = np.reshape(
                word, (unit.tokens, unit.lanes)
            )
            await RisingEdge(self.dut.clk)
        multipliers = unpack(int(self.port("r_multiplier").value), 16, unit.tokens, signed=False)
        shifts = unpack(int(self.port("r_shift").value), 6, unit.tokens, signed=False)
        for t in range(item.rows):
            p, total = ops.softmax_row(item.scores[t, : item.columns + t])
            np.testing.assert_array_equal(found[t, : len(p)], p, f"{self.name} row {t} of {item}")
            assert not found[t, len(p) :].any(), f"{self.name}: masked columns of row {t} of {item}"
            assert (multipliers[t], shifts[t]) == ops.reciprocal(total, self.multiplier, self.shift)


@dataclass(frozen=True)
class Item:
    """One group of rows."""

    slot: int
    rows: int
    chunks: int
    columns: int
    scores: np.ndarray = field(repr=False)


def shapes_of(unit: Softmax, count: int, seed: int) -> list[tuple[int, int]]:
    """``(rows, columns)``: the smallest, the largest, and random ones."""
    rng = random.Random(seed)
    shapes = [
        (1, 1),
        (unit.tokens, 1),
        (unit.tokens, unit.context - unit.tokens + 1),
        (1, unit.context),
    ]
    while len(shapes) < count:
        rows = rng.randint(1, unit.tokens)
        shapes.append((rows, rng.randint(1, unit.context - rows + 1)))
    return shapes[:count]


@cocotb.test(**LIMIT)
async def softmax_one_item(dut):
    """Each item by itself, offered with its last score: integers, and cycles."""
    await start(dut)
    for name, unit in of_type(Softmax):
        bench = SoftmaxBench(dut, name, unit, seed=5)
        for item in bench.items(shapes_of(unit, 16, seed=6)):
            before = len(bench.done)
            bench.constant()
            await bench.write(item, offer=True)
            while len(bench.done) == before:
                await RisingEdge(dut.clk)
            assert bench.done[-1] - bench.accepted[-1] == unit.cycles(item.rows, item.chunks), (
                f"{item}"
            )
            await bench.check(item)
        bench._task.cancel()


@cocotb.test(**LIMIT)
async def softmax_reads_at_once(dut):
    """Both read ports are right in the very cycle of ``done``."""
    await start(dut)
    for name, unit in of_type(Softmax):
        bench = SoftmaxBench(dut, name, unit, seed=7)
        item = bench.item(unit.slots - 1, unit.tokens, 1, 3)
        await bench.write(item, offer=True)
        for port, value in {
            "r_slot": item.slot,
            "p_slot": item.slot,
            "p_chunk": 0,
            "p_en": 1,
        }.items():
            bench.port(port).value = value
        while True:
            await ReadOnly()
            if bench.port("done").value:
                break
            await RisingEdge(dut.clk)
        multipliers = unpack(int(bench.port("r_multiplier").value), 16, unit.tokens, signed=False)
        await RisingEdge(dut.clk)
        await ReadOnly()
        word = unpack(int(bench.port("p_data").value), 8, unit.tokens * unit.lanes)
        for t in range(item.rows):
            p, total = ops.softmax_row(item.scores[t, : item.columns + t])
            assert word[t * unit.lanes :][: len(p[: unit.lanes])] == list(p[: unit.lanes])
            assert multipliers[t] == ops.reciprocal(total, bench.multiplier, bench.shift)[0]
        await RisingEdge(dut.clk)
        bench._task.cancel()


@cocotb.test(**LIMIT)
async def softmax_items_follow_without_a_gap(dut):
    """All slots full, items offered at once: each begins when its predecessor has been read."""
    await start(dut)
    for name, unit in of_type(Softmax):
        bench = SoftmaxBench(dut, name, unit, seed=8)
        for seed in range(3):
            items = bench.items(shapes_of(unit, 20, seed)[seed * 4 :][: unit.slots])
            for item in items:
                await bench.write(item)
            bench.done.clear()
            bench.accepted.clear()
            for item in items:
                await bench.offer(item)
            while len(bench.done) < len(items):
                await RisingEdge(dut.clk)
            begin = bench.accepted[0]
            for item, done in zip(items, bench.done, strict=True):
                assert done - begin == unit.cycles(item.rows, item.chunks), (
                    f"{name}: {item} of {items}"
                )
                begin += unit.interval(item.rows, item.chunks)
            for item in items:
                await bench.check(item)
        bench._task.cancel()


@cocotb.test(**LIMIT)
async def softmax_scores_while_items_run(dut):
    """A stream of items through few slots: scores of later ones are written meanwhile."""
    await start(dut)
    for name, unit in of_type(Softmax):
        for busy in (1.0, 0.5):
            bench = SoftmaxBench(dut, name, unit, seed=9)
            items = bench.items(shapes_of(unit, 30, seed=10))
            checked: list[Item] = []
            cocotb.start_soon(write_all(bench, items, busy, checked))
            for k, item in enumerate(items):
                while len(bench.done) <= k:
                    await RisingEdge(dut.clk)
                await bench.check(item)
                checked.append(item)
            bench._task.cancel()


async def write_all(
    bench: SoftmaxBench, items: list[Item], busy: float, checked: list[Item]
) -> None:
    """Write and offer all items, each when its slot's last item has been checked."""
    for k, item in enumerate(items):
        while k - len(checked) >= bench.unit.slots:
            await RisingEdge(bench.dut.clk)
        await bench.write(item, busy)
        await bench.offer(item)
