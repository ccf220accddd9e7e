# SPDX-License-Identifier: Apache-2.0
"""Units of the core alone, in Amaranth's simulator; together they run in tests/accelerator."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from designs import target
from designs.cards import ModelCard
from designs.transformer import transformer_model
from generators.image import memory_map
from generators.lower import lower, program
from generators.machine import measure
from hw.core.config import CoreConfig
from hw.core.counters import EVENTS, StepCounters
from hw.core.embed import Embed
from hw.core.kv import HeadFetch, KeyValueWriter
from hw.core.program import Destination, Op, Program, Step
from hw.core.sequencer import Sequencer
from schedules.sequential import sequential
from sim.golden import ops

CARD = ModelCard(name="core", layers=3, width=48, heads=3, ffn=64, vocabulary=37, context=40)
MAP = memory_map(CARD, lanes=8, ports=2, port_bytes=16)
SIZES: dict[str, Any] = {
    "tokens": 2, "lanes": 8, "width": 48, "heads": 3, "kv_heads": 3, "head_size": 16, "ffn": 64,
    "vocabulary": 37, "context": 40, "layers": 3, "chunk": 8, "slots": 4, "ports": 2, "port_bytes": 16,
    "w_depth": 64, "k_depth": 16, "v_depth": 16,
    "tokens_at": MAP.tokens, "weights_at": MAP.weights, "layer_stripes": MAP.layer_stripes, "head_at": MAP.head,
    "head_stripes": MAP.head_stripes, "wte_at": MAP.wte, "wpe_at": MAP.wpe, "row_stripes": MAP.row_stripes,
    "position_stripes": MAP.position_stripes,
    "k_at": MAP.k, "v_at": MAP.v, "kv_layer_stripes": MAP.kv_layer_stripes, "kv_head_stripes": MAP.kv_head_stripes,
}  # fmt: skip
CONFIG = CoreConfig(**SIZES)
KEPT = {
    "array": "chain",
    "pe": "dsp_packed",
    "sparsity": "2:4",
    "w_n": 2,
    "w_m": 4,
    "w_position_bits": 2,
    "span": 2,
}


def simulate(dut, *benches: Callable) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    for bench in benches:
        simulator.add_testbench(bench)
    simulator.run()


class TestCoreConfig:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tokens": 3}, "tokens must be a power of two"),
            ({"lanes": 4}, "lanes must be a power of two, at least 8"),
            ({"width": 44}, "width must be a multiple of the 8 lanes"),
            ({"head_size": 24, "heads": 2}, "head_size must be a power of two times 8"),
            ({"kv_heads": 2}, "heads must be a multiple of kv_heads, not 3 for 2"),
            ({"chunk": 7}, "chunk must be a multiple of 2 tokens"),
            ({"port_bytes": 64}, "a beat of 64 bytes must be a whole number of stripes of 128"),
            (
                {"k_depth": 8},
                "k_depth must hold one head's context, 10 beats: of 8 beats a reader can hold 6",
            ),
            (
                {"w_depth": 8},
                "w_depth must hold the longest tile, 8 beats: of 8 beats a reader can hold 6",
            ),
            ({"span": 2}, "sparsity dense takes a power of two of beats at once, at most 1, not 2"),
            (KEPT | {"span": 4}, "sparsity 2:4 takes a power of two of beats at once, at most 2"),
            (KEPT | {"w_masks": True}, "words of blocks that are left out are not side by side"),
            (KEPT | {"ffn": 72}, "ffn must be a multiple of 2 words of 8 lanes, not 9 of them"),
        ],
    )
    def test_init_wrong(self, change, message) -> None:
        with pytest.raises(ValueError, match=message):
            CoreConfig(**(SIZES | change))


class TestKeyValueWriter:
    @pytest.mark.parametrize(("idle", "stall"), [(0.0, 0.0), (0.5, 0.0), (0.0, 0.7), (0.4, 0.4)])
    def test_writes_where_the_memory_map_says(self, idle, stall) -> None:
        draw = random.Random(7)
        dut = KeyValueWriter(CONFIG)
        past, layer = 19, 2
        rows = [
            (draw.randrange(2), draw.randrange(8), draw.randrange(6), draw.randbytes(8))
            for _ in range(200)
        ]
        memory = np.zeros(MAP.total_bytes, np.uint8)

        async def send(ctx) -> None:
            ctx.set(dut.past, past)
            ctx.set(dut.offset, layer * MAP.kv_layer_stripes)
            for value, token, chunk, data in rows:
                while draw.random() < idle:
                    await ctx.tick()
                payload = {
                    "value": value,
                    "token": token,
                    "chunk": chunk,
                    "data": int.from_bytes(data, "little"),
                }
                ctx.set(dut.rows.payload, payload | {"phase": 0})
                ctx.set(dut.rows.valid, 1)
                await ctx.tick().until(dut.rows.ready)
                ctx.set(dut.rows.valid, 0)

        async def receive(ctx) -> None:
            for _ in rows:
                while draw.random() < stall:
                    await ctx.tick()
                ctx.set(dut.write.ready, 1)
                stripe, data, strobe = (
                    await ctx.tick()
                    .sample(dut.write.p.stripe, dut.write.p.data, dut.write.p.strobe)
                    .until(dut.write.valid)
                )
                ctx.set(dut.write.ready, 0)
                for byte in range(MAP.stripe_bytes):
                    if strobe >> byte & 1:
                        memory[stripe * MAP.stripe_bytes + byte] = data >> (8 * byte) & 255

        simulate(dut, send, receive)
        expected = np.zeros_like(memory)
        for value, token, chunk, data in rows:
            at = MAP.kv_offset("v" if value else "k", layer, chunk // 2, past + token, chunk % 2)
            expected[at : at + 8] = np.frombuffer(data, np.uint8)
        np.testing.assert_array_equal(memory, expected)


class TestHeadFetch:
    @pytest.mark.parametrize(("stall", "heads"), [(0.0, 3), (0.6, 3), (0.3, 1)])
    def test_one_descriptor_a_head_of_keys(self, stall, heads) -> None:
        draw, found = random.Random(3), []
        dut = HeadFetch(CoreConfig(**(SIZES | {"kv_heads": heads})))

        async def bench(ctx) -> None:
            ctx.set(dut.start, 1)
            ctx.set(dut.stripe, 100)
            ctx.set(dut.count, 12)
            await ctx.tick()
            ctx.set(dut.start, 0)
            for _ in range(heads):
                while draw.random() < stall:
                    await ctx.tick()
                ctx.set(dut.descriptor.ready, 1)
                found.append(
                    await ctx.tick()
                    .sample(dut.descriptor.p.stripe, dut.descriptor.p.count)
                    .until(dut.descriptor.valid)
                )
                ctx.set(dut.descriptor.ready, 0)
            await ctx.tick()
            assert not ctx.get(dut.descriptor.valid)

        simulate(dut, bench)
        assert found == [(100 + h * MAP.kv_head_stripes, 12) for h in range(heads)]


class TestEmbed:
    @pytest.mark.parametrize("rotary", [False, True])
    @pytest.mark.parametrize(("prompt", "idle"), [(True, 0.0), (True, 0.6), (False, 0.3)])
    def test_rows_are_saturating_sums(self, prompt, idle, rotary) -> None:
        """Of a rotary network: the token's rows, and the angles beside them."""
        draw = np.random.default_rng(5)
        sizes = SIZES | {"rotary": rotary, "position_stripes": 1 if rotary else MAP.row_stripes}
        dut = Embed(CoreConfig(**sizes))
        wte = draw.integers(-(1 << 15), 1 << 15, (CARD.vocabulary, CARD.width))
        wpe = draw.integers(-(1 << 15), 1 << 15, (CARD.context, CARD.width))
        position, length = 11, 5 if prompt else 1
        ids = [3, 36, 40, 0, 12] if prompt else [22]  # 40 is outside the vocabulary: read as 0
        found, angles = (np.zeros((length, n), np.int64) for n in (CARD.width, 16))
        bad = 0

        def words(stripe: int) -> list[int]:
            """The two words of 8 int16 in a stripe of 32 bytes."""
            row = np.zeros(16, np.int64)
            if stripe < MAP.weights:
                row[0] = ids[stripe - MAP.tokens - position]
            else:
                table, at = (wpe, MAP.wpe) if stripe >= MAP.wpe else (wte, MAP.wte)
                which, part = divmod(
                    stripe - at, MAP.row_stripes if at == MAP.wte else sizes["position_stripes"]
                )
                row[: min(16, CARD.width - 16 * part)] = table[which, 16 * part :][:16]
            packed = [int(x) & 0xFFFF for x in row]
            return [sum(v << (16 * k) for k, v in enumerate(packed[w : w + 8])) for w in (0, 8)]

        queue: list[int] = []

        async def ask(ctx) -> None:
            ctx.set(dut.length, length)
            ctx.set(dut.position, position)
            ctx.set(dut.prompt, prompt)
            ctx.set(dut.token, ids[0])
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            while ctx.get(dut.busy):
                ctx.set(dut.descriptor.ready, int(draw.random() >= idle))
                *_, valid, ready, stripe, count = await ctx.tick().sample(
                    dut.descriptor.valid,
                    dut.descriptor.ready,
                    dut.descriptor.p.stripe,
                    dut.descriptor.p.count,
                )
                if valid and ready:
                    assert count == 1
                    queue.extend(words(stripe))

        async def answer(ctx) -> None:
            while True:
                offered = bool(queue) and draw.random() >= idle
                ctx.set(dut.words.valid, offered)
                if offered:
                    ctx.set(dut.words.payload, queue[0])
                *_, ready = await ctx.tick().sample(dut.words.ready)
                if offered and ready:
                    queue.pop(0)

        def split(data: int) -> list[int]:
            values = [(data >> (16 * k) & 0xFFFF) for k in range(8)]
            return [v - ((v >> 15) << 16) for v in values]

        async def watch_angles(ctx) -> None:
            while True:
                *_, enable, address, data = await ctx.tick().sample(
                    dut.t_wen, dut.t_waddr, dut.t_wdata
                )
                if enable:
                    angles[address // 2, 8 * (address % 2) :][:8] = split(data)

        async def watch(ctx) -> None:
            nonlocal bad
            while True:
                *_, enable, address, data, row, chunk, wrong = await ctx.tick().sample(
                    dut.x_wen, dut.x_waddr, dut.x_wdata, dut.x_row, dut.x_chunk, dut.bad_token
                )
                bad += wrong
                if enable:
                    assert address == row * 6 + chunk
                    found[row, 8 * chunk :][:8] = split(data)

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(ask)
        simulator.add_testbench(answer, background=True)
        simulator.add_testbench(watch, background=True)
        if rotary:
            simulator.add_testbench(watch_angles, background=True)
        simulator.run()
        known = [i if i < CARD.vocabulary else 0 for i in ids]
        if rotary:
            np.testing.assert_array_equal(angles, wpe[position : position + length, :16])
            np.testing.assert_array_equal(found, wte[known])
        else:
            expected = ops.residual_add(wte[known], wpe[position : position + length])
            np.testing.assert_array_equal(found, expected)
        assert bad == (1 if prompt else 0)


class TestStepCounters:
    def test_counts_by_step_and_event(self) -> None:
        draw, dut = random.Random(1), StepCounters(3)
        expected = np.zeros((3, len(EVENTS)), np.int64)

        async def bench(ctx) -> None:
            for _ in range(300):
                step, events = draw.randrange(3), draw.getrandbits(len(EVENTS))
                ctx.set(dut.step, step)
                ctx.set(dut.events, events)
                expected[step] += [events >> k & 1 for k in range(len(EVENTS))]
                await ctx.tick()
            ctx.set(dut.events, 0)
            values = ctx.get(dut.values)
            for k, count in enumerate(expected.reshape(-1)):
                assert values >> (32 * k) & 0xFFFFFFFF == count
            ctx.set(dut.clear, 1)
            await ctx.tick()
            assert ctx.get(dut.values) == 0

        simulate(dut, bench)


class TestSequencer:
    @pytest.mark.parametrize(
        ("prompt", "generate", "layers"), [(1, 0, 3), (5, 1, 3), (8, 2, 2), (9, 2, 1), (19, 3, 3)]
    )
    def test_plays_every_pass_and_layer(self, prompt, generate, layers) -> None:
        """The order of steps, the weight stream, and at most 4 cycles from what a step waits for to its start."""
        board = target.load("sim-small")
        schedule = sequential(
            lower(transformer_model(CARD)), measure(CONFIG, board), clock_mhz=board.clock_mhz
        )
        steps = program(schedule, CONFIG)
        dut = Sequencer(CONFIG, steps)
        names, started, weights, answers, switches = steps.names, [], [], [], []
        draw = random.Random(11)
        busy = {"feeder": 0, "norm": 0, "embed": 0}
        state = {"done": False, "fetched": 0}

        async def host(ctx) -> None:
            ctx.set(dut.prompt, prompt)
            ctx.set(dut.generate, generate)
            ctx.set(dut.position, 4)
            ctx.set(dut.layers, layers)
            ctx.set(dut.start, 1)
            ctx.set(dut.writes_idle, 1)
            ctx.set(dut.weights.ready, 1)
            ctx.set(dut.answer.ready, 1)
            await ctx.tick().until(dut.ready)
            ctx.set(dut.start, 0)
            quiet_for = 0
            while not state["done"]:
                for unit in busy:
                    busy[unit] -= busy[unit] > 0
                ctx.set(dut.feeder_busy, busy["feeder"] > 0)
                ctx.set(dut.norm_busy, busy["norm"] > 0)
                ctx.set(dut.embed_busy, busy["embed"] > 0)
                ctx.set(dut.step.ready, busy["feeder"] == 0)
                ctx.set(dut.norm_ready, busy["norm"] == 0)
                ctx.set(dut.result.valid, 1)
                ctx.set(dut.result.payload, len(answers) + 20)
                sampled = await ctx.tick().sample(
                    dut.step.valid, dut.step.ready, dut.step.p.phase, dut.embed_start, dut.layer, dut.length,
                    dut.past, dut.done, dut.fetch, dut.answer.valid, dut.answer.p, dut.weights.valid,
                    dut.weights.p.stripe, dut.weights.p.count, dut.kv_offset, dut.norm_last,
                )  # fmt: skip
                (*_, valid, ready, phase, embed, layer, length, past, done, fetch, answered, answer, asked,
                 stripe, count, offset, last) = sampled  # fmt: skip
                quiet = not any(busy.values())
                quiet_for = quiet_for + 1 if quiet else 0
                state["done"] = bool(done)
                state["fetched"] += fetch
                assert offset == layer * MAP.kv_layer_stripes
                if embed or (valid and ready):
                    name = "embed" if embed else names[phase]
                    step = steps.steps[names.index(name)]
                    started.append((name, layer, length, past))
                    if step.wait and len(started) > 1 and started[-2][0] not in ("lm_head", "fc2"):
                        switches.append(quiet_for)
                    if step.wait:
                        assert quiet
                    quiet_for = 0
                    busy["embed" if embed else "feeder"] = draw.randrange(2, 9)
                    if step.op == Op.NORM:
                        busy["norm"] = draw.randrange(2, 9)
                        assert last == step.last_token
                if asked:
                    weights.append((stripe, count))
                if answered:
                    answers.append((answer.position, answer.token))

        simulate(dut, host)
        passes, left, past = [], prompt, 4
        while left:
            passes.append((min(left, 8), past, left <= 8 and generate > 0))
            past, left = past + min(left, 8), max(0, left - 8)
        for _ in range(generate - 1):
            passes.append((1, past, True))
            past += 1
        expected, stream = [], []
        for length, before, head in passes:
            expected.append(("embed", 0, length, before))
            body = [s.name for s in steps.steps[1:] if not s.head]
            expected += [(name, i, length, before) for i in range(layers) for name in body]
            stream.append((MAP.weights, layers * MAP.layer_stripes))
            if head:
                expected += [(s.name, layers - 1, length, before) for s in steps.steps if s.head]
                stream.append((MAP.head, MAP.head_stripes))
        assert started == expected
        assert weights == stream
        assert state["fetched"] == layers * len(passes)
        heads = [(length, before) for length, before, head in passes if head]
        assert answers == [(before + length, 20 + k) for k, (length, before) in enumerate(heads)]
        assert max(switches) <= 4

    @pytest.mark.parametrize("landed", range(1, 12))
    def test_keys_and_values_are_fetched_once(self, landed) -> None:
        """Whenever the last of them lands: also in the cycle in which a later step starts."""
        steps = Program(
            (
                Step(name="kv", op=Op.MATMUL, fetch=True, destination=Destination.VALUE),
                Step(name="q", op=Op.MATMUL, wait=False),
                Step(name="next", op=Op.MATMUL, wait=False),
                Step(name="end", op=Op.MATMUL, wait=False, layer_end=True),
            ),
            layer_start=0,
        )
        dut, fetched, started = Sequencer(CONFIG, steps), [], []

        async def host(ctx) -> None:
            ctx.set(dut.prompt, 1)
            ctx.set(dut.layers, 1)
            ctx.set(dut.start, 1)
            await ctx.tick().until(dut.ready)
            ctx.set(dut.start, 0)
            busy, since = 0, 0
            for cycle in range(60):
                ctx.set(dut.step.ready, busy == 0)
                ctx.set(dut.feeder_busy, busy > 0)
                ctx.set(dut.writes_idle, since >= landed)
                valid, ready, fetch = (
                    await ctx.tick().sample(dut.step.valid, dut.step.ready, dut.fetch)
                )[-3:]
                if valid and ready:
                    started.append(cycle)
                since += bool(started)
                busy = 3 if valid and ready else max(0, busy - 1)
                if fetch:
                    fetched.append(cycle)

        simulate(dut, host)
        assert len(started) == len(steps.steps)
        assert len(fetched) == 1
