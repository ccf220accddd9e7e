"""The integer operations: their error against float64, their corners, their saturation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.golden import gpt2, ops


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


class TestRequantise:
    def test_rounds_half_up(self) -> None:
        x = np.arange(-8, 9)
        assert ops.round_shift(x, 1).tolist() == [math.floor(v / 2 + 0.5) for v in x]
        assert ops.round_shift(x, 2).tolist() == [math.floor(v / 4 + 0.5) for v in x]

    @given(
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(0, 2**16 - 1),
        st.integers(1, 63),
        st.integers(2, 16),
    )
    def test_equals_exact_arithmetic(
        self, acc: int, bias: int, multiplier: int, shift: int, bits: int
    ) -> None:
        exact = ((acc + bias) * multiplier + (1 << (shift - 1))) >> shift  # Python: no overflow
        exact = min(max(exact, -(1 << (bits - 1))), (1 << (bits - 1)) - 1)
        found = ops.requantise(np.array([acc]), bias, multiplier, shift, bits)
        assert found.tolist() == [exact]

    def test_saturates_on_both_sides(self) -> None:
        acc = np.array([-(2**31), -(2**20), 0, 2**20, 2**31 - 1])
        assert ops.requantise(acc, 0, 2**15, 15, 8).tolist() == [-128, -128, 0, 127, 127]
        assert ops.requantise(acc, 0, 2**15, 15, 16).tolist() == [-32768, -32768, 0, 32767, 32767]

    def test_residual_add_saturates(self) -> None:
        x = np.array([32767, -32768, 100, -5])
        assert ops.residual_add(x, np.array([1, -1, -300, 5])).tolist() == [32767, -32768, -200, 0]


class TestActivation:
    Z = np.arange(-32768, 32768)
    """Every argument."""

    def exact(self) -> np.ndarray:
        z = self.Z / 2.0**ops.GATE_FRACTION
        return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    def test_error_before_requantisation(self) -> None:
        index = np.clip(((self.Z + 8) >> 4) + 512, 0, 1023)
        gated = ops.round_shift(self.Z * ops.GATE_TABLE["gelu"][index], 15) / 2.0**ops.GATE_FRACTION
        assert np.abs(gated - self.exact()).max() < 0.0025

    @pytest.mark.parametrize("step", [1 / 16, 1 / 32, 1 / 100])
    def test_error_of_the_result(self, step: float) -> None:
        multiplier = round(2**20 / 1024 / step)
        found = ops.gated_activation(self.Z, multiplier, 20)
        exact = np.clip(self.exact() / step, -128, 127)
        assert np.abs(found - exact).max() <= 0.51 + 0.0025 / step
        assert found.max() == 127

    def test_table_is_16_bits(self) -> None:
        table = ops.GATE_TABLE["gelu"]
        assert table.shape == (1024,)
        assert table.min() >= 0
        assert table.max() <= 2**16 - 1


class TestRsqrt:
    @pytest.mark.parametrize("scale", [0, 4, 20, 46])
    def test_error_for_every_mantissa(self, scale: int) -> None:
        value = np.arange(2**14, 2**16) << scale
        r, e = gpt2.rsqrt_rows(value)
        found = r * 2.0 ** (-23 - e)
        assert np.abs(found * np.sqrt(value.astype(np.float64)) - 1).max() < 2**-13
        assert r.max() < 2**16

    def test_corners(self) -> None:
        for value in (1, 2, 3, 255, 256, 2**14 - 1, 2**16 - 1, 2**16, 2**53 + 1, 2**62 - 1, 2**62):
            r, e = ops.rsqrt(value)
            assert abs(r * 2.0 ** (-23 - e) * math.sqrt(value) - 1) < 2**-13, value

    def test_rows_equal_the_scalar(self) -> None:
        edges = [2**i + d for i in range(1, 62) for d in (-1, 0, 1)]
        values = edges + [int(2**x) for x in draw().uniform(0, 62, 500)]
        r, e = gpt2.rsqrt_rows(np.array(values))
        assert list(zip(r.tolist(), e.tolist(), strict=True)) == [ops.rsqrt(v) for v in values]


class TestLayernorm:
    @pytest.mark.parametrize("deviation", [1, 30, 3000, 20000])
    @pytest.mark.parametrize("d", [16, 64, 1600])
    def test_error(self, deviation: float, d: int) -> None:
        x = np.clip(np.rint(draw(d).normal(200, deviation, (20, d))), -32768, 32767)
        x = x.astype(np.int64)
        gamma, beta = draw(1).integers(-20000, 20001, d), draw(2).integers(-9000, 9001, d)
        shift, epsilon = 7, 12345
        found = gpt2.layernorm_rows(x, gamma, beta, shift, epsilon)
        mean = x.mean(axis=1, keepdims=True)
        root = np.sqrt(x.var(axis=1, keepdims=True) + epsilon / d**2)
        exact = ((x - mean) / root * gamma + beta) / 2**shift
        # half a step of rounding, and what 10 fraction bits and the root lose times gamma
        bound = 0.51 + np.abs(gamma) / 2**shift * (2.0**-11 + 2.0**-13 * np.abs((x - mean) / root))
        assert (np.abs(found - np.clip(exact, -128, 127)) <= bound).all()
        assert (np.abs(found) > 60).any()

    def test_a_constant_row_is_beta(self) -> None:
        x = np.full(8, -32768)
        beta = np.arange(-4, 4) << 9
        assert ops.layernorm(x, np.full(8, 30000), beta, 9, 1).tolist() == list(range(-4, 4))

    def test_the_largest_rows(self) -> None:
        x = np.where(np.arange(16384) % 2, 32767, -32768)
        found = ops.layernorm(x, np.full(16384, 64 << 9), np.zeros(16384, np.int64), 9, 1)
        assert set(found.tolist()) == {-64, 64}

    def test_saturates(self) -> None:
        x = np.array([-1000, 1000] * 8)
        found = ops.layernorm(x, np.full(16, 32767), np.zeros(16, np.int64), 0, 1)
        assert set(found.tolist()) == {-128, 127}

    @pytest.mark.parametrize("epsilon", [1, 10**6, 2**56 - 1])
    def test_rows_equal_the_scalar(self, epsilon: int) -> None:
        x = draw(3).integers(-32768, 32768, (30, 48))
        x[0], x[1], x[2] = 7, -32768, np.arange(48)
        gamma, beta = draw(4).integers(-32768, 32768, (2, 48))
        for shift in (0, 7, 15):
            found = gpt2.layernorm_rows(x, gamma, beta, shift, epsilon)
            for row, each in zip(x, found, strict=True):
                np.testing.assert_array_equal(each, ops.layernorm(row, gamma, beta, shift, epsilon))


class TestSoftmax:
    def test_error_for_every_score(self) -> None:
        t = np.arange(0, 65536)
        p, total = ops.softmax_row(32767 - t)
        assert np.abs(p - 127 * 2.0 ** (-t / 256)).max() <= 0.51
        assert p[0] == 127
        assert total == p.sum()

    def test_table_is_15_bits(self) -> None:
        assert ops.EXP2_TABLE.shape == (256,)
        assert ops.EXP2_TABLE.max() < 2**15

    def test_rows_equal_the_scalar(self) -> None:
        scores = np.clip(np.rint(draw(5).normal(0, 1500, (40, 40))), -32768, 32767)
        scores = scores.astype(np.int64)
        scores[3], scores[4, ::2] = -32768, 32767
        visible = np.arange(1, 41)
        p, total = gpt2.softmax_rows(scores, visible)
        for i in range(40):
            row, sums = ops.softmax_row(scores[i, : visible[i]])
            assert p[i, : visible[i]].tolist() == row.tolist()
            assert not p[i, visible[i] :].any()
            assert total[i] == sums


class TestReciprocal:
    TOTALS = (*range(1, 300), 127, 127 * 1024, 2**24 - 1, 2**23, 2**23 - 1)

    @pytest.mark.parametrize("multiplier", [2**14, 20011, 2**15 - 1])
    def test_error(self, multiplier: int) -> None:
        for total in self.TOTALS:
            m, s = ops.reciprocal(total, multiplier, 20)
            assert 0 < m < 2**16
            assert abs(m / 2**s / (multiplier / 2**20 / total) - 1) < 2**-13

    def test_rows_equal_the_scalar(self) -> None:
        m, s = gpt2.reciprocal_rows(np.array(self.TOTALS), 30011, 17)
        expected = [ops.reciprocal(total, 30011, 17) for total in self.TOTALS]
        assert list(zip(m.tolist(), s.tolist(), strict=True)) == expected


def test_argmax_is_the_first() -> None:
    assert ops.argmax(np.array([-3, 7, 7, 1])) == 1
