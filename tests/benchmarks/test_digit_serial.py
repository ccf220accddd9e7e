# SPDX-License-Identifier: Apache-2.0
"""Digit-serial elements: what the benchmark counts, against the paper's averages and the formula's bounds."""

import numpy as np
import pytest

from benchmarks.digit_serial import activations, cycles_per_operand, element
from hw.arith.digits import nonzero


@pytest.mark.parametrize(
    ("data", "ent"), [("N(0,10)", 1.76), ("N(0,30)", 2.33), ("N(0,50)", 2.61), ("uniform", 2.92)]
)
def test_draws_as_the_paper_does(data: str, ent: float) -> None:
    assert nonzero(activations(data, 400, 512), 8, encoding="ent").mean() == pytest.approx(
        ent, abs=0.02
    )


def test_waiting_costs_cycles() -> None:
    ideal = float(nonzero(activations("N(0,20)", 800, 128), 8, encoding="csd").mean())
    alone = cycles_per_operand("opt4c", "csd", "N(0,20)", tokens=1, reduce=8, k=128)
    rows = cycles_per_operand("opt4c", "csd", "N(0,20)", tokens=4, reduce=8, k=128)
    lanes = cycles_per_operand("opt4e", "csd", "N(0,20)", tokens=4, reduce=8, k=128)
    longer = cycles_per_operand("opt4e", "csd", "N(0,20)", tokens=4, reduce=32, k=128)
    assert alone == pytest.approx(ideal, rel=0.02)
    assert ideal < rows < longer < lanes < 4


def test_lanes_share_a_sum() -> None:
    one, four = element("opt4c", 2, 2), element("opt4e", 2, 2)
    assert one.word == four.word and np.diff([one.latency, four.latency]) == [1]
