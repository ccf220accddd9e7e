# SPDX-License-Identifier: Apache-2.0
"""The whole accelerator in RTL against the golden model: every tensor, every token, bit for bit.

Each design is compiled once and then runs many jobs: prompt lengths around the chunk, decoding to the end of
the context, a cache from before, fewer layers, and a memory that withholds its ready and valid at random.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from designs import target
from designs.cards import ModelCard
from designs.progress import SilentProgress
from designs.target import TargetCard
from designs.weight_format import INT8, WeightFormat
from generators import design, plan
from generators.compress import Compression
from generators.image import write_image
from generators.machine import measure
from generators.quantise import random_quantised
from generators.weight_stream import stream_shape
from hw.arrays import parse_engine
from hw.core.config import CoreConfig
from schedules.cycles import play as play_schedule
from schedules.schedule import Schedule
from sim import run

CASES: dict[str, tuple[dict[str, Any], dict[str, int], str, int]] = {
    # One token row, one narrow port, four stripes a beat, sizes that are no powers of two.
    "one-row": (
        {"layers": 2, "width": 48, "heads": 3, "ffn": 104, "vocabulary": 101, "context": 44},
        {"ports": 1, "port_bits": 128}, "tree:mac:1x8x8", 8,
    ),
    # Two rows, two blocks of features in a head, eight stripes a beat, two headers in a beat.
    "wide": (
        {"layers": 2, "width": 64, "heads": 2, "ffn": 128, "vocabulary": 50, "context": 48},
        {"ports": 2, "port_bits": 128}, "tree:mac:2x16x16", 16,
    ),
    # A systolic array, more rows than fit the last group.
    "systolic": (
        {"layers": 2, "width": 32, "heads": 2, "ffn": 64, "vocabulary": 40, "context": 40},
        {"ports": 2, "port_bits": 128}, "systolic_os:mac:4x8x8", 16,
    ),
    # Partial sums that hop along a chain.
    "cube": (
        {"layers": 1, "width": 32, "heads": 4, "ffn": 64, "vocabulary": 33, "context": 32},
        {"ports": 2, "port_bits": 256}, "cube:mac:2x8x8", 8,
    ),
    # Compressed weights, two of whose beats fill a stripe; matrices that take two or four beats a step, and layers
    # that differ in this.
    "packed": (
        {"layers": 2, "width": 64, "heads": 2, "ffn": 128, "vocabulary": 50, "context": 48},
        {"ports": 4, "port_bits": 256}, "tree:mac:2x16x16", 16,
    ),
    # Bits instead of positions, phases that end within a row.
    "masks": (
        {"layers": 2, "width": 48, "heads": 3, "ffn": 80, "vocabulary": 40, "context": 40},
        {"ports": 2, "port_bits": 256}, "tree:mac:2x16x16", 8,
    ),
    # RMSNorm, turned pairs, gate and factor; two query heads share keys and values; one token row.
    "llama": (
        {
            "family": "llama", "layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "ffn": 104,
            "vocabulary": 50, "context": 44,
        },
        {"ports": 1, "port_bits": 128}, "tree:mac:1x8x8", 8,
    ),
    # All four heads share one of two blocks; a row of angles of two stripes; short tiles.
    "llama-wide": (
        {
            "family": "llama", "layers": 2, "width": 128, "heads": 4, "kv_heads": 1, "ffn": 48,
            "vocabulary": 60, "context": 48, "tied_head": True,
        },
        {"ports": 2, "port_bits": 128}, "tree:mac:2x16x16", 16,
    ),
    # ReLU.
    "opt": (
        {
            "family": "opt", "layers": 2, "width": 32, "heads": 2, "ffn": 64, "vocabulary": 40,
            "context": 40,
        },
        {"ports": 2, "port_bits": 128}, "tree:mac:2x8x8", 8,
    ),
}  # fmt: skip

SPARSE = WeightFormat(4, 32, 2, 4, 2)
COMPRESSED = {
    "packed": Compression(SPARSE, tensors={
        "lm_head": INT8, "fc2": WeightFormat(4, 64), "q": WeightFormat(8, n=2, m=4, share=2),
        "h1.k": INT8, "h1.fc2": SPARSE,
    }),
    "masks": Compression(WeightFormat(8, n=8, m=16)),
}  # fmt: skip
"""How weights are stored, where it is not int8."""


SLOW = ("cube", "masks", "wide")
"""Whose shapes others have too, or whose array tests/accelerator/test_engines.py runs."""


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in sorted(CASES)],
)
def built(request, tmp_path_factory) -> tuple[Path, ModelCard]:
    sizes, ports, engine, chunk = CASES[request.param]
    card = ModelCard(name=request.param, **sizes)
    board = target.load("sim-small")
    memory = board.memory.model_copy(update={**ports, "latency_cycles": 23})
    board = board.model_copy(update={"memory": memory, "dsp_usable": 4096, "dsp": 4096})
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "CHUNK", chunk)
        patch.setattr(plan, "SLOTS", 4)
        if request.param in ("one-row", "systolic", "llama"):  # rings just hold what a reader needs
            patch.setattr(plan, "THRIFT", ((1, 2, 1),))
        planned = plan.plan(card, board, parse_engine(engine), COMPRESSED.get(request.param))
    assert planned.config.chunk == chunk
    design.write_design(folder, card, board, planned, SilentProgress())
    return folder, card


def play(built: tuple[Path, ModelCard], tokens: int, generate: int = 0, **options) -> run.SimResult:
    folder, card = built
    model = random_quantised(card, seed=5, compression=COMPRESSED.get(card.name))
    layers = options.pop("layers", card.layers)
    return run.run_layers(
        folder, layers, tokens, options.pop("past", 0), seed=3,
        model=model, write_image=write_image, generate=generate, **options,
    )  # fmt: skip


def predicted(built: tuple[Path, ModelCard], tokens: int, generate: int = 0, past: int = 0) -> int:
    """Cycles of a run by the cycle model, from what the build says about itself."""
    folder, card = built
    facts = json.loads((folder / "design.json").read_text())
    machine = measure(CoreConfig(**facts["parameters"]), TargetCard.model_validate(facts["target"]))
    schedule = Schedule.from_yaml((folder / "schedule.yaml").read_text())
    run = play_schedule(
        schedule, machine, prompt=tokens, generate=generate, position=past, repeat=card.layers
    )
    return run.cycles


class TestAccelerator:
    @pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 15, 16, 17, 25])
    def test_prompt_of_any_length(self, built, length) -> None:
        result = play(built, length, generate=2)
        assert result.identical, result.mismatch
        assert result.values > 0 and len(result.tokens) == 2
        cycles = predicted(built, length, generate=2)
        assert cycles == pytest.approx(result.counters["cycles"], rel=0.01)

    def test_to_the_end_of_the_context(self, built) -> None:
        context = built[1].context
        result = play(built, 5, generate=context - 4)
        assert result.identical, result.mismatch
        assert len(result.tokens) == context - 4

    @pytest.mark.parametrize(("length", "past"), [(1, 1), (1, 17), (3, 8), (9, 15), (16, 16)])
    def test_cache_from_before(self, built, length, past) -> None:
        result = play(built, length, past=past)
        assert result.identical, result.mismatch
        cycles = predicted(built, length, past=past)
        assert cycles == pytest.approx(result.counters["cycles"], rel=0.01)

    def test_some_layers(self, built) -> None:
        result = play(built, 4, generate=1, layers=1)
        assert result.identical, result.mismatch

    @pytest.mark.parametrize("percent", [10, 60])
    def test_memory_that_stalls(self, built, percent, monkeypatch) -> None:
        load = run.load

        def slow(out: Path):
            found = load(out)
            return replace(found, timing=replace(found.timing, stall_percent=percent))

        monkeypatch.setattr(run, "load", slow)
        result = play(built, 13, generate=3)
        assert result.identical, result.mismatch

    def test_a_broken_weight_is_found(self, built) -> None:
        """The comparison sees one wrong bit of one weight."""
        folder, card = built

        def wrong(model, memory, path, layers, progress) -> None:
            write_image(model, memory, path, layers, progress)
            data = bytearray(path.read_bytes())
            # The first tile of k, behind the norm's constant, its parameters and the tile's header.
            stream = stream_shape(memory.weight_format, memory.lanes, memory.stripe_bytes)
            channel = 4 if card.norm == "layernorm" else 2
            parameters = -(-channel * memory.width // stream.row_bytes)
            period, row = divmod(2 + parameters, stream.period_rows)
            stripe = period * stream.period_stripes + stream.side_stripes + row * stream.row_stripes
            data[(memory.weights + stripe) * memory.stripe_bytes] ^= 0x40
            path.write_bytes(bytes(data))

        result = run.run_layers(
            folder, 1, 9, 0, seed=3, write_image=wrong,
            model=random_quantised(card, seed=5, compression=COMPRESSED.get(card.name)),
        )  # fmt: skip
        assert not result.identical
        assert result.mismatch is not None and "h.0.k" in result.mismatch
