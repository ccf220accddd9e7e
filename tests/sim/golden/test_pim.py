# SPDX-License-Identifier: Apache-2.0
"""The golden model of a PIM channel against float64 and against itself, command by command."""

import numpy as np
import pytest

from sim.golden.pim import Memory, attention, dot, from_bf16, softmax, to_bf16


def bf16(rng: np.random.Generator, *shape: int, spread: float = 4.0) -> np.ndarray:
    x = rng.normal(size=shape) * 2.0 ** rng.normal(size=shape, scale=spread)
    return to_bf16(x.astype(np.float32))


class TestDot:
    def test_integers_are_exact(self) -> None:
        rng = np.random.default_rng(1)
        a, b = rng.integers(-128, 128, (2, 50, 130)).astype(np.int8)
        expected = (a.astype(np.int64) * b).sum(axis=-1)
        np.testing.assert_array_equal(dot("int8", a, b, 16), expected)

    @pytest.mark.parametrize(("fmt", "bound"), [("bf16", 2.0**-8), ("bf16-block", 2.0**-8)])
    def test_floats_are_near(self, fmt: str, bound: float) -> None:
        """Within half a step of bfloat16 and of 130 roundings at the size of the largest product."""
        rng = np.random.default_rng(2)
        a, b = bf16(rng, 200, 130), bf16(rng, 200, 130)
        products = from_bf16(a).astype(np.float64) * from_bf16(b)
        exact, size = products.sum(axis=-1), np.abs(products).sum(axis=-1)
        got = from_bf16(dot(fmt, a, b, 16)).astype(np.float64)
        assert (np.abs(got - exact) <= bound * np.abs(exact) + 2.0**-16 * size).all()

    def test_special_numbers(self) -> None:
        one, inf, nan, small = 0x3F80, 0x7F80, 0x7FC0, 0x0001

        def of(*a: int) -> int:
            vector = np.array([*a, *[0] * (16 - len(a))], np.uint16)
            return int(dot("bf16", vector, np.full(16, one, np.uint16), 16))

        assert of(inf, one) == inf and of(inf, inf | 0x8000) == nan and of(nan) == nan
        assert of(small, small) == 0 and of(one, one) == 0x4000

    def test_rounds_to_even(self) -> None:
        x = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -1 - 2.0**-8, 3.4e38], np.float32)
        assert [hex(v) for v in to_bf16(x)] == ["0x3f80", "0x3f82", "0xbf80", "0x7f80"]


@pytest.mark.parametrize("fmt", ["int8", "bf16", "bf16-block"])
def test_commands_give_what_attention_says(fmt: str) -> None:
    rng = np.random.default_rng(3)

    def some(*shape: int) -> np.ndarray:
        return rng.integers(-9, 9, shape).astype(np.int8) if fmt == "int8" else bf16(rng, *shape, spread=1)  # fmt: skip

    q, k, v = some(2, 32), some(1, 21, 32), some(1, 21, 32)
    scores, weights, context = attention(fmt, q, k, v, 0.1)
    memory = Memory(fmt, 16, some(32, 4, 64), some(1, 64))
    memory.cells[:21, 0, :32] = k[0]
    memory.cells[:, 1, :21] = v[0].T
    for head in range(2):
        memory.cells[3, 2, :32], memory.cells[5, 3, :21] = q[head], weights[head]
        memory.gwrite(0, 3, 2)
        np.testing.assert_array_equal(memory.composite(0, 0, 0, 0, 2)[:21], scores[head])
        memory.gwrite(0, 5, 3)
        got = memory.composite(1, 0, 0, 0, 2, tail=5)
        got = got.astype(np.float32) if fmt == "int8" else from_bf16(got)
        np.testing.assert_array_equal(got, context[head])


def test_attention_is_near_float64() -> None:
    rng = np.random.default_rng(4)
    q, k, v = rng.normal(size=(8, 64)), rng.normal(size=(2, 300, 64)), rng.normal(size=(2, 300, 64))
    q16, k16, v16 = (to_bf16(x.astype(np.float32)) for x in (q, k, v))
    *_, context = attention("bf16", q16, k16, v16, 64**-0.5)
    x, y, z = (from_bf16(part).astype(np.float64) for part in (q16, k16, v16))
    scores = np.einsum("gqd,gld->gql", x.reshape(2, 4, 64), y) / 8
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    exact = np.einsum("gql,gld->gqd", p / p.sum(axis=-1, keepdims=True), z).reshape(8, 64)
    assert np.abs(context - exact).max() < 0.02
    assert np.allclose(softmax(np.zeros((1, 4), np.float32)), 0.25)
