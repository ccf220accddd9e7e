"""Every array with every processing element in a whole accelerator: the same text, bit for bit."""

from pathlib import Path

import pytest

from designs import target
from designs.cards import ModelCard
from designs.errors import DesignError
from designs.progress import SilentProgress
from generators import design, plan
from generators.image import write_image
from generators.machine import measure
from generators.quantise import random_quantised
from hw.arrays import ENGINES, EngineSpec
from schedules.cycles import play as play_schedule
from schedules.schedule import Schedule
from sim import run

CARD = ModelCard(
    name="engines", layers=1, width=16, heads=2, ffn=32, vocabulary=24, context=24
)  # fmt: skip
QUICK = {("systolic_ws", "opt1"), ("column", "opt4e"), ("tree", "dsp_packed")}
"""What the default tests run; a build takes a minute, so the others are slow."""

ALL = [
    pytest.param(array, pe, marks=[] if (array, pe) in QUICK else [pytest.mark.slow])
    for array, cls in ENGINES.items()
    if cls.in_core
    for pe in cls.pes
]


@pytest.mark.parametrize(("array", "pe"), ALL)
def test_generates_the_same_text(
    array: str, pe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts around the rows of the engine, then generation; cycles as the cycle model says."""
    board = target.load("sim-small")
    if pe == "dsp_packed":  # with the latency of slices
        board = board.model_copy(update={"dsp_kind": "dsp48e2"})
    monkeypatch.setattr(plan, "CHUNK", 8)
    monkeypatch.setattr(plan, "SLOTS", 4)
    encoding = "csd" if pe == "opt1" else None  # the others' defaults are in their own tests
    planned = plan.plan(CARD, board, EngineSpec(array, pe, "dense", 2, 8, 8, encoding))
    assert planned.config.encoding == (encoding or "")
    design.write_design(tmp_path, CARD, board, planned, SilentProgress())
    schedule = Schedule.from_yaml((tmp_path / "schedule.yaml").read_text())
    machine = measure(planned.config, board)
    for prompt in (1, 7, 11):
        result = run.run_layers(
            tmp_path, 1, prompt, 0, seed=3, model=random_quantised(CARD, seed=5),
            write_image=write_image, generate=3,
        )  # fmt: skip
        assert result.identical, result.mismatch
        predicted = play_schedule(
            schedule, machine, prompt=prompt, generate=3, position=0, repeat=1
        )
        cycles = result.counters["cycles"]
        if array == "column":  # its beats take as long as the data say: the prediction is the most
            assert cycles <= predicted.cycles
        else:
            assert predicted.cycles == pytest.approx(cycles, rel=0.01)


def test_an_engine_that_runs_alone_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES["column"], "in_core", False)
    with pytest.raises(
        DesignError, match=r"'column' runs alone .*; use one of tree, cube, systolic_os"
    ):
        plan.plan(CARD, target.load("sim-small"), EngineSpec("column", "opt4e", "dense", 2, 8, 8))
