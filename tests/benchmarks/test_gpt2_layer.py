# SPDX-License-Identifier: Apache-2.0
"""The comparison with InTAR's GPT-2, by predictions alone."""

import re

import pytest

from benchmarks import gpt2_layer
from designs.cards import load_model_card
from generators.layer_by_hand import INTAR


@pytest.mark.slow
def test_every_goal_is_reached(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr(gpt2_layer, "INTAR", {n: INTAR[n] for n in (64, 128)})
    assert gpt2_layer.main(["--quiet"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    for row, tokens in zip(rows, (64, 128), strict=True):
        cells = [int(c.replace(",", "")) for c in re.findall(r"(?<![\d.,])[\d,]+(?![\d.,%x])", row)]
        asked, floor, ours, eight, published, hand, goal = cells
        assert asked == tokens and floor < ours < goal < published
        assert floor < eight < goal and abs(hand / published - 1) < 0.02


def test_passes_are_the_whole_prompt() -> None:
    assert gpt2_layer.passes(300, 128) == [(128, 0), (128, 128), (44, 256)]
    assert gpt2_layer.passes(64, 128) == [(64, 0)]


def test_floor() -> None:
    card = load_model_card("gpt2-medium")
    assert gpt2_layer.floor_cycles(card, 1, 1 << 30, 128.0) == 12 * 1024**2 // 2 // 128
    assert gpt2_layer.floor_cycles(card, 2, 1024, 1e9) == 2 * 12 * 1024 + 6
