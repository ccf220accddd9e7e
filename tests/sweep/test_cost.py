# SPDX-License-Identifier: Apache-2.0
"""The cost model of a sweep beside the reports of builds, and which designs it calls best."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from designs import target
from designs.cards import load_model_card
from designs.errors import DesignError
from designs.transformer import transformer_model
from generators.lower import lower
from generators.machine import measure
from generators.report import predict_points
from generators.resources import estimate, total
from generators.sweep.cost import evaluate, planned
from generators.sweep.pareto import front, spread
from generators.sweep.spec import Candidate
from schedules.sequential import sequential


@pytest.mark.parametrize(
    ("model", "candidate"),
    [
        ("tiny-gpt2", Candidate("sim-small", "tree:mac:2x8x8")),
        ("tiny-llama", Candidate("kv260", "cube:opt1:4x8x8", "int4", 32, "2:4")),
        ("gpt2-medium", Candidate("u280", None, "int4", 64)),
    ],
)
def test_few_layers_and_words_tell_the_cycles_of_all(model, candidate):
    card, board = load_model_card(model), target.load(candidate.target)
    plan = planned(card, candidate)
    schedule = sequential(
        lower(transformer_model(card)), measure(plan.config, board), clock_mhz=board.clock_mhz
    )
    prefill, decode = predict_points(plan.config, board, schedule, prompts=[48], contexts=[64])
    found = evaluate(card, candidate, prompt=48, context=64)
    assert found["prefill_cycles"] == pytest.approx(prefill[0].cycles, rel=0.015)
    assert found["decode_cycles"] == pytest.approx(decode[0].cycles, rel=0.015)
    assert found["decode"] == found["decode_cycles"] / (board.clock_mhz * 1e6)
    assert found["lut"] == total(estimate(plan.config, board)).rounded()["lut"]


def test_a_design_that_cannot_be_is_refused_with_the_reason():
    card = load_model_card("tiny-gpt2")
    with pytest.raises(DesignError, match="multipliers"):
        evaluate(card, Candidate("sim-small", "tree:mac:8x8x8"), prompt=8, context=16)


@given(st.lists(st.tuples(*[st.integers(0, 5)] * 3), max_size=30))
def test_the_front_is_what_nothing_beats(points):
    def beats(a, b):
        return a != b and all(x <= y for x, y in zip(a, b, strict=True))

    found = [points[i] for i in front(points)]
    assert found == sorted({p for p in points if not any(beats(q, p) for q in points)})


def test_a_spread_has_both_ends():
    for size, count in itertools.product(range(1, 12), range(2, 6)):
        found = spread(range(size), count)
        assert found[0] == 0 and found[-1] == size - 1
        assert len(found) == len(set(found)) == min(size, count)
    assert spread([4, 5], 0) == []
