# SPDX-License-Identifier: Apache-2.0
"""A layer on InTAR's grid: their schedule by hand, and ours on the same multipliers and ports."""

import pytest

from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from generators.layer_by_hand import INTAR, hand_intar
from generators.layer_grid import GRID, Grid, layer_instance, layer_macs
from generators.layer_plans import schedule_layers
from hw.arrays import make_engine
from schedules.optimal.check import check_plan
from schedules.optimal.plan import Plan
from schedules.optimal.solve import Effort

MEDIUM = load_model_card("gpt2-medium")
TINY = load_model_card("tiny-gpt2")


@pytest.mark.parametrize("tokens", sorted(INTAR))
def test_by_hand_it_takes_the_cycles_of_the_authors(tokens: int) -> None:
    instance, plan = hand_intar(MEDIUM, tokens)
    check_plan(instance, plan)
    assert abs(plan.makespan / INTAR[tokens] - 1) < 0.02
    unseen = plan.run("norms")
    # Nine tenths of it are cadences that were measured, not fitted.
    assert unseen.end - unseen.start < 0.1 * plan.makespan


def test_durations_are_the_engines() -> None:
    instance = layer_instance(MEDIUM, 128)
    engine = make_engine(
        "tree", tokens=GRID.tokens, reduce=GRID.reduce, outputs=GRID.outputs, acc_bits=32
    )
    (both,) = (m for m in instance.task("fc1").modes if m.name == "left+right rows")
    tiles = 64 * (4096 // 4 // 64)
    assert both.cycles == tiles * engine.interval(1024, 2) + engine.latency + GRID.dies
    (load,) = both.loads
    assert load.bytes == 1024 * 4096 // 2
    scores = instance.task("scores").modes[0]
    causal = sum(-(-(2 * block + 2) // 32) for block in range(64))
    assert scores.cycles == 2 * causal * engine.interval(64, 2) + engine.latency + GRID.dies


def best_and_sequential(model: ModelCard, tokens: int) -> tuple[Plan, Plan]:
    instance, best = schedule_layers(model, tokens, effort=Effort(10))
    check_plan(instance, best)
    other, sequential = schedule_layers(model, tokens, "sequential", Effort(10))
    check_plan(other, sequential)
    assert best.proven and best.makespan <= sequential.makespan
    return best, sequential


def test_the_best_plan_is_no_longer_than_the_sequential_one() -> None:
    best_and_sequential(TINY, 32)


@pytest.mark.slow
def test_the_best_plan_of_a_layer_reaches_the_goal() -> None:
    best, _ = best_and_sequential(MEDIUM, 64)
    floor = max(layer_macs(MEDIUM, 64) / GRID.lanes, 12 * 1024**2 / 2 / GRID.bytes_per_cycle)
    assert floor <= best.makespan <= 60_000


def test_layers_follow_each_other() -> None:
    instance, plan = schedule_layers(TINY, 16, "sequential", Effort(5), layers=2)
    check_plan(instance, plan)
    assert plan.run("h1.ln1").start >= plan.run("h0.fc2").start
    _, one = schedule_layers(TINY, 16, "sequential", Effort(5))
    assert one.makespan < plan.makespan < 2 * one.makespan


@pytest.mark.parametrize(
    ("model", "tokens", "policy", "layers", "message"),
    [
        ("tiny-llama", 16, "optimal", 1, "layers of gpt2 models; tiny-llama is of llama"),
        ("gpt2-medium", 2048, "optimal", 1, "prompts of 1 to 1024 tokens, not 2048"),
        ("gpt2-medium", 48, "hand-intar", 1, "multiples of 32 tokens, not 48"),
        ("gpt2-medium", 64, "hand-intra", 1, "did you mean hand-intar"),
        ("gpt2-medium", 64, "hand-intar", 2, "plays one layer, not 2"),
        ("tiny-gpt2", 64, "optimal", 9, "has 1 to 4 layers, not 9"),
    ],
)
def test_asked_wrongly(model: str, tokens: int, policy: str, layers: int, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        schedule_layers(load_model_card(model), tokens, policy, layers=layers)


def test_heads_that_dies_cannot_share() -> None:
    with pytest.raises(DesignError, match="16 heads cannot be dealt out to 3 dies"):
        layer_instance(MEDIUM, 64, Grid(dies=3))
