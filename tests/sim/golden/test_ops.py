# SPDX-License-Identifier: Apache-2.0
"""The integer operations: their error against float64, their corners, their saturation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generators.quantise import rotary_angles
from sim.golden import ops, transformer


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


ERROR = {"gelu": 0.0025, "silu": 0.004, "relu": 0.008}
"""Largest error of an activation before requantisation."""


class TestActivation:
    Z = np.arange(-32768, 32768)
    """Every argument."""

    def exact(self, gate: str) -> np.ndarray:
        z = self.Z / 2.0**ops.GATE_FRACTION
        if gate == "gelu":
            return 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        return z / (1 + np.exp(-z)) if gate == "silu" else np.maximum(z, 0)

    @pytest.mark.parametrize("gate", ops.GATE_TABLE)
    def test_error_before_requantisation(self, gate: str) -> None:
        index = np.clip(((self.Z + 8) >> 4) + 512, 0, 1023)
        gated = ops.round_shift(self.Z * ops.GATE_TABLE[gate][index], 15) / 2.0**ops.GATE_FRACTION
        assert np.abs(gated - self.exact(gate)).max() < ERROR[gate]

    @pytest.mark.parametrize("gate", ops.GATE_TABLE)
    @pytest.mark.parametrize(
        ("step", "bits"), [(1 / 16, 8), (1 / 32, 8), (1 / 100, 8), (1 / 900, 16)]
    )
    def test_error_of_the_result(self, step: float, bits: int, gate: str) -> None:
        multiplier, top = round(2**15 / 1024 / step), 2 ** (bits - 1)
        found = ops.gated_activation(self.Z, multiplier, 15, gate, bits)
        exact = np.clip(self.exact(gate) / step, -top, top - 1)
        # The rounded multiplier is within 2**-9, of what does not saturate.
        assert np.abs(found - exact).max() <= 0.51 + ERROR[gate] / step + top / 2**9
        assert found.max() == min(top - 1, round(32 / step) - 1)

    def test_gated_product(self) -> None:
        u, up = draw(7).normal(0, 3000, (2, 10_000)).round().astype(np.int64)
        found, exact = ops.gated_product(u, up), np.clip(u * up / 2.0**15, -128, 127)
        assert np.abs(found - exact).max() <= 0.5
        wrong = ops.gated_product(u + draw(8).uniform(-0.5, 0.5, 10_000).round(0).astype(int), up)
        assert np.abs(wrong - exact).max() <= 0.5 + np.abs(up).max() / 2**16
        assert ops.gated_product(np.array([-32768]), np.array([-32768])).tolist() == [127]

    @pytest.mark.parametrize("gate", ops.GATE_TABLE)
    def test_table_is_16_bits(self, gate: str) -> None:
        table = ops.GATE_TABLE[gate]
        assert table.shape == (1024,)
        assert table.min() >= 0
        assert table.max() <= 2**16 - 1


class TestRsqrt:
    @pytest.mark.parametrize("scale", [0, 4, 20, 46])
    def test_error_for_every_mantissa(self, scale: int) -> None:
        value = np.arange(2**14, 2**16) << scale
        r, e = transformer.rsqrt_rows(value)
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
        r, e = transformer.rsqrt_rows(np.array(values))
        assert list(zip(r.tolist(), e.tolist(), strict=True)) == [ops.rsqrt(v) for v in values]


class TestLayernorm:
    @pytest.mark.parametrize("deviation", [1, 30, 3000, 20000])
    @pytest.mark.parametrize("d", [16, 64, 1600])
    def test_error(self, deviation: float, d: int) -> None:
        x = np.clip(np.rint(draw(d).normal(200, deviation, (20, d))), -32768, 32767)
        x = x.astype(np.int64)
        gamma, beta = draw(1).integers(-20000, 20001, d), draw(2).integers(-9000, 9001, d)
        shift, epsilon = 7, 12345
        found = transformer.layernorm_rows(x, gamma, beta, shift, epsilon)
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
            found = transformer.layernorm_rows(x, gamma, beta, shift, epsilon)
            for row, each in zip(x, found, strict=True):
                np.testing.assert_array_equal(each, ops.layernorm(row, gamma, beta, shift, epsilon))


class TestRmsnorm:
    @pytest.mark.parametrize("deviation", [1, 30, 3000, 20000])
    @pytest.mark.parametrize("d", [16, 64, 4096])
    def test_error(self, deviation: float, d: int) -> None:
        x = np.clip(np.rint(draw(d).normal(200, deviation, (20, d))), -32768, 32767)
        x = x.astype(np.int64)
        gamma, shift, epsilon = draw(1).integers(-20000, 20001, d), 7, 12345
        found = transformer.rmsnorm_rows(x, gamma, shift, epsilon)
        root = np.sqrt((x * x).mean(axis=1, keepdims=True) + epsilon / d**2)
        exact = x / root * gamma / 2**shift
        bound = 0.51 + np.abs(gamma) / 2**shift * (2.0**-11 + 2.0**-13 * np.abs(x / root))
        assert (np.abs(found - np.clip(exact, -128, 127)) <= bound).all()
        assert (np.abs(found) > 60).any()

    def test_the_largest_rows(self) -> None:
        x = np.full(16384, -32768)
        assert set(ops.rmsnorm(x, np.full(16384, 64 << 9), 9, 1).tolist()) == {-64}

    @pytest.mark.parametrize("epsilon", [1, 10**6, 2**56 - 1])
    def test_rows_equal_the_scalar(self, epsilon: int) -> None:
        x = draw(3).integers(-32768, 32768, (30, 48))
        x[0], x[1], x[2] = 7, -32768, 0
        gamma = draw(4).integers(-32768, 32768, 48)
        for shift in (0, 7, 15):
            found = transformer.rmsnorm_rows(x, gamma, shift, epsilon)
            for row, each in zip(x, found, strict=True):
                np.testing.assert_array_equal(each, ops.rmsnorm(row, gamma, shift, epsilon))


class TestRotary:
    def test_error(self) -> None:
        y = draw(6).integers(-4000, 4001, (50, 24))
        angles = rotary_angles(50, 8, 10_000.0).astype(np.int64)
        angle = np.arange(50)[:, None, None] / 10_000.0 ** (np.arange(4) / 4)
        a, b = (part.reshape(50, 3, 4) for part in (y[:, ::2] / 32, y[:, 1::2] / 32))
        turned = [a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)]
        exact = np.clip(np.stack(turned, axis=-1).reshape(50, 24), -128, 127)
        length = np.repeat(np.hypot(a, b).reshape(50, 12), 2, axis=1)
        assert (np.abs(ops.rotary(y, angles) - exact) <= 0.5 + 2.0**-14 * length).all()

    def test_the_largest_pairs(self) -> None:
        half = np.full((1, 2), round(2**14 * math.sqrt(0.5)))
        assert ops.rotary(np.full((1, 2), -32768), half).tolist() == [[0, -128]]
        assert ops.rotary(np.full((1, 2), 32767), half).tolist() == [[0, 127]]

    def test_position_0_only_narrows(self) -> None:
        y = np.array([[-4096, -33, -16, -15, 15, 16, 47, 4080]])
        angles = rotary_angles(1, 4, 10_000.0).astype(np.int64)
        assert ops.rotary(y, angles).tolist() == [[-128, -1, 0, 0, 0, 1, 1, 127]]


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
        p, total = transformer.softmax_rows(scores, visible)
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
        m, s = transformer.reciprocal_rows(np.array(self.TOTALS), 30011, 17)
        expected = [ops.reciprocal(total, 30011, 17) for total in self.TOTALS]
        assert list(zip(m.tolist(), s.tolist(), strict=True)) == expected


def test_argmax_is_the_first() -> None:
    assert ops.argmax(np.array([-3, 7, 7, 1])) == 1
