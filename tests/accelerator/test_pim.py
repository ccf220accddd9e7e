# SPDX-License-Identifier: Apache-2.0
"""Whole accelerators with keys and values in PIM channels: the same text, in the cycles that are predicted."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from designs import target
from designs.cards import ModelCard
from designs.progress import SilentProgress
from designs.target import TargetCard
from generators import build, design, plan
from generators.image import write_image
from generators.machine import measure
from generators.quantise import random_quantised
from hw.arrays import parse_engine
from hw.core.config import CoreConfig
from hwgen.joins import joins
from hwgen.pim import note_run
from schedules.cycles import play as play_schedule
from schedules.schedule import Schedule
from sim import run, verilator

pytestmark = pytest.mark.slow  # a simulator of channels takes a minute to compile

CASES: dict[str, tuple[dict[str, Any], str]] = {
    # A head in each channel, two token rows.
    "gpt2": ({"heads": 4}, "tree:mac:2x8x8"),
    # Two query heads share keys and values, which are turned; sequences that open a row twice; one token row.
    "llama": ({"family": "llama", "heads": 4, "kv_heads": 2}, "tree:mac:1x8x8"),
    # Three heads in the one channel; rows of keys and values that end before the context.
    "one-channel": ({"heads": 3, "width": 48}, "tree:mac:4x16x16"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_generates_the_same_text(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, engine = CASES[name]
    base: dict[str, Any] = {"layers": 2, "width": 64, "ffn": 64, "vocabulary": 40, "context": 150}
    card, board = ModelCard(name=name, **base | sizes), target.load("tiny-pim")
    board = board.model_copy(update={"dsp_usable": 4096, "dsp": 4096})
    monkeypatch.setattr(plan, "CHUNK", 8)
    planned = plan.plan(card, board, parse_engine(engine))
    design.write_design(tmp_path, card, board, planned, SilentProgress())
    model = random_quantised(card, seed=5)
    facts = json.loads((tmp_path / "design.json").read_text())
    machine = measure(CoreConfig(**facts["parameters"]), TargetCard.model_validate(facts["target"]))
    schedule = Schedule.from_yaml((tmp_path / "schedule.yaml").read_text())
    for prompt, generate in ((1, 2), (7, 3), (20, 1), (100, 45)):
        result = run.run_layers(
            tmp_path, card.layers, prompt, 0, seed=3, write_image=write_image, generate=generate, model=model,
        )  # fmt: skip
        assert result.identical, result.mismatch
        predicted = play_schedule(schedule, machine, prompt=prompt, generate=generate)
        assert predicted.cycles == pytest.approx(result.counters["cycles"], rel=0.005)
        attention = result.counters["attention_cycles"]
        assert predicted.counts["attention"].cycles == pytest.approx(attention, rel=0.01)
        assert predicted.counts["attention"].beats == result.counters["pim_multiplied"]
    lint = subprocess.run(
        ["verilator", "--lint-only", "-Wno-style", "-Wno-UNUSED", "-Wno-SYMRSVDWORD", "--top", "hwgen_top",
         *sorted(str(p) for p in (tmp_path / "rtl").iterdir())],
        capture_output=True, text=True, env=verilator.environment(),
    )  # fmt: skip
    assert lint.returncode == 0, lint.stderr[:2000]


def test_the_tiny_model_writes_the_same(tmp_path: Path) -> None:
    """The trained network's text, and what the report keeps of the run."""
    request = build.BuildRequest("tiny-gpt2", "tiny-pim", tmp_path / "out")
    build.build(request, SilentProgress(), joins())
    result = run.generate(tmp_path / "out", "In the beginning", 24)
    assert result.identical, result.mismatch
    assert result.text == " of the LORD thy God hat"
    noted = note_run(tmp_path / "out", result)
    assert noted.cycles_predicted == pytest.approx(noted.cycles, rel=0.01)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["pim"]["measured"]["attention"] == result.counters["attention_cycles"]
