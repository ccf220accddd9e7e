# SPDX-License-Identifier: Apache-2.0
"""Perplexity: every token counts once, and with the context it was promised."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.golden.perplexity import Perplexity, cross_entropy, perplexity

VOCABULARY = 11
TEXT = np.random.default_rng(3).integers(0, VOCABULARY, 100)


def uniform(ids: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.zeros((len(ids), VOCABULARY))


class TestPerplexity:
    @pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (8, 1), (99, 50), (500, 500)])
    def test_every_token_but_the_first_counts_once(self, window: int, stride: int) -> None:
        found = perplexity(uniform, TEXT, window=window, stride=stride)
        assert found.tokens == len(TEXT) - 1
        assert found.perplexity == pytest.approx(VOCABULARY)
        assert found.bits == pytest.approx(math.log2(VOCABULARY))

    @pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (8, 1), (16, 5)])
    def test_context(self, window: int, stride: int) -> None:
        """A model that knows the next token once it has seen `enough` tokens of a window."""
        enough = window - stride + 1
        next_of = dict(zip(range(99), TEXT[1:], strict=True))
        starts: list[int] = []

        def oracle(ids: NDArray[np.int64]) -> NDArray[np.float64]:
            begin = len(starts) * stride
            starts.append(begin)
            np.testing.assert_array_equal(ids, TEXT[begin : begin + len(ids)])
            rows = np.zeros((len(ids), VOCABULARY))
            for i in range(len(ids)):
                if begin == 0 or i + 1 >= enough:
                    rows[i, next_of[begin + i]] = 1000.0
            return rows

        assert perplexity(oracle, TEXT, window=window, stride=stride).nats == 0
        assert starts == list(range(0, starts[-1] + 1, stride))

    def test_progress(self) -> None:
        calls: list[tuple[int, int]] = []
        perplexity(uniform, TEXT, window=10, stride=10, progress=lambda i, n: calls.append((i, n)))
        assert calls == [(i, 10) for i in range(1, 11)]

    def test_the_text_ends_with_a_window(self) -> None:
        calls: list[int] = []
        perplexity(uniform, TEXT[:21], window=10, stride=10, progress=lambda i, n: calls.append(n))
        assert calls == [2, 2]

    @pytest.mark.parametrize(("window", "stride"), [(8, 0), (8, 9)])
    def test_stride(self, window: int, stride: int) -> None:
        with pytest.raises(ValueError, match="stride must be 1 to the window of 8"):
            perplexity(uniform, TEXT, window=window, stride=stride)

    def test_a_text_of_one_token(self) -> None:
        with pytest.raises(ValueError, match="at least 2 tokens"):
            perplexity(uniform, TEXT[:1], window=8, stride=8)

    def test_prints(self) -> None:
        text = str(Perplexity(10, math.log(4)))
        assert text == "perplexity 4.0000 (2.0000 bits/token over 10 tokens)"

    def test_cross_entropy(self) -> None:
        x = np.array([[0.0, math.log(3)], [1000.0, 0.0]])
        expected = [math.log(4 / 3), 1000.0]
        np.testing.assert_allclose(cross_entropy(x, np.array([1, 1])), expected)
