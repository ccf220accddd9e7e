# SPDX-License-Identifier: Apache-2.0
"""Perplexity: how well a model foresees a text, in windows, for any model that gives logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Perplexity:
    """What `perplexity` measured: `tokens` predicted tokens at `nats` each, on average."""

    tokens: int
    nats: float

    @property
    def bits(self) -> float:
        """Bits per token."""
        return self.nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens that would be as hard to guess."""
        return math.exp(self.nats)

    def __str__(self) -> str:
        """Return ``perplexity 3.9012 (1.9639 bits/token over 24015 tokens)``."""
        return (
            f"perplexity {self.perplexity:.4f} ({self.bits:.4f} bits/token over "
            f"{self.tokens} tokens)"
        )


def perplexity(
    logits: Callable[[NDArray[np.int64]], NDArray[Any]],
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    *,
    window: int,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Measure the perplexity of a model over a text.

    Windows of `window` tokens start every `stride` tokens; each foresees the token after each of
    its tokens. A token counts once, in the first window that foresees it: the whole text but its
    first token, each with at least ``window - stride`` tokens before it (after the first window).

    Parameters
    ----------
    logits : callable
        ``logits(ids [L]) -> [L, vocabulary]``, in nats (an integer model scales its own).
    tokens : int [N]
        The text.
    window, stride : int
        ``1 <= stride <= window``.
    progress : callable, optional
        Called with the windows done and all windows.

    Raises
    ------
    ValueError
        If the text is shorter than two tokens, or the stride is not 1 to `window`.
    """
    ids = np.asarray(tokens, dtype=np.int64)
    if not 1 <= stride <= window:
        raise ValueError(f"stride must be 1 to the window of {window}, not {stride}")
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"a text must be at least 2 tokens, not shape {ids.shape}")
    last = len(ids) - 1
    windows = 1 + max(0, math.ceil((last - window) / stride))
    total, done = 0.0, 0
    for i in range(windows):
        begin, end = i * stride, min(i * stride + window, last)
        rows = np.asarray(logits(ids[begin:end]), dtype=np.float64)[done - begin :]
        total += float(cross_entropy(rows, ids[done + 1 : end + 1]).sum())
        done = end
        if progress is not None:
            progress(i + 1, windows)
    return Perplexity(last, total / last)


def cross_entropy(logits: NDArray[Any], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return ``-log softmax(logits)[target]`` of each row, in nats.

    Parameters
    ----------
    logits : float [N, vocabulary]
    targets : int [N]
    """
    x = np.asarray(logits, dtype=np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return np.log(np.exp(x).sum(axis=-1)) - x[np.arange(len(x)), targets]
