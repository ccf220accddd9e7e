# SPDX-License-Identifier: Apache-2.0
"""Functions of task-graph kernels: their error against float64 over all arguments, and their corners."""

import numpy as np
import pytest

from generators.quantise import scaling
from sim.golden import kernel_ops as ops

ARGUMENTS = np.arange(-(2**15), 2**15)
FRACTIONS = range(8, 13)


def logistic(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_gate_is_within_its_bound(fraction: int) -> None:
    exact = 2**15 * logistic(ARGUMENTS / 2**fraction)
    assert np.abs(ops.gate(ARGUMENTS, fraction) - exact).max() < 1.3


def test_power_is_within_its_bound() -> None:
    m, whole = ops.power(np.arange(-(2**17), 2**17))
    assert m.min() == 2**15 and m.max() <= 2**16
    exact = 2.0 ** (np.arange(-(2**17), 2**17) / 2**12 - whole + 15)
    assert np.abs(m - exact).max() < 1


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_functions_are_within_a_step_and_their_table(fraction: int, bits: int) -> None:
    """Half a step for rounding, and what a gate's 1.3 of 2**15 is in steps."""
    z, top = ARGUMENTS / 2**fraction, 2 ** (bits - 1) - 1
    for function, exact, unit in (
        (ops.sigmoid, logistic(z), 2.0**-15),
        (ops.silu, z * logistic(z), 2.0 ** (-15 - fraction)),
    ):
        scale = np.abs(exact).max() / top
        made = scaling(unit / scale, "test")
        found = function(ARGUMENTS, fraction, made.multiplier, made.shift, bits)
        slack = 1.3 * 2**-15 * (np.abs(z) if function is ops.silu else 1) / scale + 2**-15 * top
        assert (np.abs(found - exact / scale) <= 0.5 + slack).all()


@pytest.mark.parametrize("fraction", FRACTIONS)
def test_exp_is_relative_and_saturates(fraction: int) -> None:
    exact = 2.0 ** (ARGUMENTS / 2**fraction)
    scale = 2.0**3 / 32767
    made = scaling(2.0**-15 / scale, "test")
    found = ops.exp(ARGUMENTS, fraction, made.multiplier, made.shift)
    wanted = np.minimum(exact / scale, 32767)
    assert (np.abs(found - wanted) <= 0.5 + wanted * 2**-14).all()
    assert found.max() == 32767 and found.min() >= 0


@pytest.mark.parametrize("columns", [1, 2, 3, 256, 1000])
@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_softmax(columns: int, spread: float) -> None:
    draw = np.random.default_rng(columns)
    x = np.clip(np.rint(draw.normal(0, spread, (7, columns)) * 2**10), -(2**15), 2**15 - 1)
    weight = np.exp((x - x.max(axis=1, keepdims=True)) / 2**10)
    exact = weight / weight.sum(axis=1, keepdims=True)
    scale = float(exact.max()) / 32767
    to_power = scaling(2.0**2 * np.log2(np.e), "test")
    back = scaling(2.0**-16 / scale, "test")
    found = ops.softmax(
        x.astype(np.int64), to_power.multiplier, to_power.shift, back.multiplier, back.shift
    )
    # rounding of the argument (2**-13 of a factor 2) and of the table, both twice for the sum, and of the reciprocal;
    # half of 2**-15 of the largest for each exponential, here and in the sum
    relative = 2 * (2.0**-13 * np.log(2) + 2.0**-15) + 2.0**-15
    wanted, top = exact / scale, exact.max(axis=1, keepdims=True)
    bound = 0.5 + wanted * (relative + columns * top * 2**-16) + top / scale * 2**-16
    assert (np.abs(found - wanted) <= bound).all()


def test_softmax_of_one_far_ahead_is_one() -> None:
    back = scaling(0.5, "test")
    found = ops.softmax(np.array([[-32768, 32767, -32768]]), 2**15, 1, back.multiplier, back.shift)
    assert found.tolist() == [[0, 32767, 0]]


def test_weighted_sum_rounds_once() -> None:
    a, b = np.array([1, -1, 3, 32767]), np.array([0, 0, 1, 32767])
    assert ops.weighted_sum(a, b, (1, 1), 1, 16).tolist() == [1, 0, 2, 32767]
    assert ops.weighted_sum(a, b, (4, 4), 1, 8).tolist() == [2, -2, 8, 127]


def test_pooling_and_repetition() -> None:
    x = np.arange(15).reshape(1, 3, 5)
    assert ops.maxpool2(x).tolist() == [[[6, 8]]]
    assert ops.upsample2(x[:, :1, :2]).tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]]


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_gelu_is_within_a_step_and_its_table(fraction: int, bits: int) -> None:
    z, top = ARGUMENTS / 2**fraction, 2 ** (bits - 1) - 1
    exact = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    scale = np.abs(exact).max() / top
    made = scaling(2.0 ** (-15 - fraction) / scale, "test")
    found = ops.gelu(ARGUMENTS, fraction, made.multiplier, made.shift, bits)
    slack = 2.5 * 2**-15 * np.minimum(np.abs(z), 8) / scale + 2**-15 * top
    assert (np.abs(found - exact / scale) <= 0.5 + slack).all()


@pytest.mark.parametrize("columns", [1, 2, 7, 1024, 16384])
def test_layernorm(columns: int) -> None:
    draw = np.random.default_rng(columns)
    rows = np.stack([
        draw.integers(-32768, 32768, columns), np.full(columns, 32767), draw.integers(-3, 4, columns),
        np.where(np.arange(columns) == 0, 32767, -32768),
    ])  # fmt: skip
    epsilon = max(1, round(1e-5 * columns**2 / 2.0**-20))
    made = scaling(2.0**-12 / 2.0**-11, "test")
    found = ops.layernorm(rows, epsilon, made.multiplier, made.shift) * 2.0**-11
    centred = rows - rows.mean(axis=1, keepdims=True)
    deviation = np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + epsilon / columns**2)
    exact = np.clip(centred / deviation, -16, 16)
    assert np.abs(found - exact).max() <= 2.0**-12 + 16 * 2.0**-13


def test_a_causal_softmax_is_that_of_what_is_seen() -> None:
    x = np.random.default_rng(0).integers(-2000, 2000, (3, 5))
    made, back = scaling(2.0, "test"), scaling(0.5, "test")
    whole = ops.softmax(x, made.multiplier, made.shift, back.multiplier, back.shift, causal=True)
    for i, row in enumerate(whole):
        seen = i + 3
        part = ops.softmax(
            x[i : i + 1, :seen], made.multiplier, made.shift, back.multiplier, back.shift
        )
        assert np.array_equal(row[:seen], part[0]) and not row[seen:].any()
