# SPDX-License-Identifier: Apache-2.0
"""Every array with every processing element in a whole accelerator: the same text, bit for bit."""

import json
from pathlib import Path

import pytest

from designs import target
from designs.cards import ModelCard
from designs.errors import DesignError
from designs.progress import SilentProgress
from designs.weight_format import INT8, WeightFormat
from generators import design, plan
from generators.compress import Compression
from generators.image import memory_map, write_image
from generators.machine import measure
from generators.quantise import random_quantised
from hw.arrays import ENGINES, EngineSpec
from schedules.cycles import play as play_schedule
from schedules.schedule import Schedule
from sim import run

CARD = ModelCard(
    name="engines", layers=1, width=16, heads=2, ffn=32, vocabulary=24, context=24
)  # fmt: skip
SPARSE_CARD = ModelCard(
    name="sparse", layers=1, width=64, heads=2, ffn=64, vocabulary=40, context=24
)  # fmt: skip
QUICK = {("tree", "dsp_packed")}
"""What the default tests run; a build takes a minute, so the others are slow."""

ALL = [
    pytest.param(array, pe, marks=[] if (array, pe) in QUICK else [pytest.mark.slow])
    for array, cls in ENGINES.items()
    if cls.in_core
    for pe in cls.pes
]


SPARSE = [
    pytest.param(
        "2:4",
        Compression(WeightFormat(4, 32, 2, 4, 2), tensors={"lm_head": INT8}),
        id="2:4",
        marks=pytest.mark.slow,
    ),
    *(
        pytest.param(f"{form.n}:{form.m}", Compression(form), id=str(form), marks=pytest.mark.slow)
        for form in (
            WeightFormat(8, n=1, m=4),
            WeightFormat(4, 32, 2, 8, 2),
            WeightFormat(8, n=4, m=8),
            WeightFormat(8, n=8, m=16, share=2),
        )
    ),
]
"""Weights of which the engine takes the kept ones: positions and masks, shared or not, terms of a dense matrix."""


SPANS = [
    pytest.param(
        EngineSpec("chain", "dsp_packed", "2:4", 2, 16, 8),
        Compression(
            WeightFormat(4, 32, 2, 4, 2),
            tensors={
                "lm_head": INT8,
                "h0.q": WeightFormat(4, 32),
                "h0.fc2": WeightFormat(8, n=2, m=4, share=2),
            },
        ),
        id="2:4",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        EngineSpec("chain", "dsp_packed", "1:4", 1, 32, 8),
        Compression(
            WeightFormat(4, 32, 1, 4), tensors={"h0.q": WeightFormat(8, n=1, m=4), "lm_head": INT8}
        ),
        id="1:4",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        EngineSpec("chain", "dsp_packed", "2:8", 2, 16, 8),
        Compression(
            WeightFormat(4, 32, 2, 8, 2),
            tensors={"lm_head": INT8, "h0.q": WeightFormat(8, n=2, m=8, share=2)},
        ),
        id="2:8, two at once",
    ),
    pytest.param(
        EngineSpec("chain", "dsp_packed", "4:8", 2, 32, 16),
        Compression(WeightFormat(8, n=4, m=8)),
        id="4:8",
        marks=pytest.mark.slow,
    ),
]
"""Kept weights of several beats at once: all parts of a beat of keys, or some; terms as many, fewer, more."""


BLOCKS = [
    pytest.param(
        EngineSpec("tree", "mac", "dense", 2, 8, 8),
        Compression(WeightFormat(block=16, keep=30), tensors={"q": INT8}),
        id="tree",
    ),
    pytest.param(
        EngineSpec("chain", "dsp_packed", "2:4", 2, 16, 16),
        Compression(
            WeightFormat(4, 32, 2, 4, 2, block=16, keep=50),
            tensors={"lm_head": INT8, "h0.fc2": WeightFormat(4, 32, block=16, keep=50)},
        ),
        id="chain",
        marks=pytest.mark.slow,
    ),
]
"""Weights of which whole blocks are left out, of one engine step or of several, and matrices that have all."""


@pytest.mark.parametrize(("array", "pe"), ALL)
def test_generates_the_same_text(
    array: str, pe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts around the rows of the engine, then generation; cycles as the cycle model says."""
    encoding = "csd" if pe == "opt1" else None  # the others' defaults are in their own tests
    spec = EngineSpec(array, pe, "dense", 2, 8, 8, encoding)
    generates_the_same_text(spec, CARD, tmp_path, monkeypatch)


@pytest.mark.parametrize(("sparsity", "compression"), SPARSE)
def test_takes_kept_weights(
    sparsity: str, compression: Compression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with weights as they are stored; keys and values take several beats in the place of one."""
    spec = EngineSpec("chain", "dsp_packed", sparsity, 2, 16, 16)
    generates_the_same_text(spec, SPARSE_CARD, tmp_path, monkeypatch, compression)


@pytest.mark.parametrize(("spec", "compression"), SPANS)
def test_takes_several_beats_at_once(
    spec: EngineSpec, compression: Compression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same: words of the operand side by side, or one for all terms of a matrix; keys and values in fewer turns."""
    counted = generates_the_same_text(spec, SPARSE_CARD, tmp_path, monkeypatch, compression)
    span = (spec.reduce or 0) // (spec.outputs or 1)
    groups = {1: 11, 2: 6}[
        spec.tokens or 0
    ] + 2  # of a prompt of 11 in chunks of 8, and of two tokens more
    assert counted["fc1_beats"] == groups * (64 // (spec.outputs or 1)) ** 2 // span


@pytest.mark.parametrize(("spec", "compression"), BLOCKS)
def test_skips_blocks(
    spec: EngineSpec, compression: Compression, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same; beats of blocks that are zero are neither stored nor fed."""
    counted = generates_the_same_text(spec, SPARSE_CARD, tmp_path, monkeypatch, compression)
    lanes, form = spec.outputs or 0, compression.stream
    kept = form.kept_blocks(64) * form.block // lanes
    groups = 6 + 2  # of a prompt of 11 in chunks of 8, two rows each, and of two tokens more
    assert kept < 64 // lanes
    assert counted["fc1_beats"] == groups * 64 // lanes * kept
    memory = memory_map(
        SPARSE_CARD, lanes=lanes, ports=2, port_bytes=16, compression=Compression(INT8)
    )
    facts = json.loads((tmp_path / "design.json").read_text())
    assert facts["parameters"]["layer_stripes"] < memory.layer_stripes


def generates_the_same_text(
    spec: EngineSpec,
    card: ModelCard,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    compression: Compression | None = None,
) -> dict[str, int]:
    """Run the design of a card; what it counted in the longest run."""
    board = target.load("sim-small")
    if spec.pe == "dsp_packed":  # with the latency of slices
        board = board.model_copy(update={"dsp_kind": "dsp48e2"})
    if spec.outputs == 16:
        board = board.model_copy(update={"dsp_usable": 4096, "dsp": 4096})
    monkeypatch.setattr(plan, "CHUNK", 8)
    monkeypatch.setattr(plan, "SLOTS", 4)
    planned = plan.plan(card, board, spec, compression)
    assert planned.config.engine_name == str(spec)
    design.write_design(out, card, board, planned, SilentProgress())
    schedule = Schedule.from_yaml((out / "schedule.yaml").read_text())
    machine = measure(planned.config, board)
    counted: dict[str, int] = {}
    for prompt in (1, 7, 11):
        result = run.run_layers(
            out, 1, prompt, 0, seed=3, write_image=write_image, generate=3,
            model=random_quantised(card, seed=5, compression=compression),
        )  # fmt: skip
        assert result.identical, result.mismatch
        predicted = play_schedule(
            schedule, machine, prompt=prompt, generate=3, position=0, repeat=1
        )
        counted = result.counters
        cycles = counted["cycles"]
        if spec.array == "column":  # its beats take as long as the data say: the most
            assert cycles <= predicted.cycles
        else:
            assert predicted.cycles == pytest.approx(cycles, rel=0.01)
    return counted


def test_an_engine_that_runs_alone_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES["column"], "in_core", False)
    with pytest.raises(
        DesignError, match=r"'column' runs alone .*; use one of tree, cube, systolic_os"
    ):
        plan.plan(CARD, target.load("sim-small"), EngineSpec("column", "opt4e", "dense", 2, 8, 8))
