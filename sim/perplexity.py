# SPDX-License-Identifier: Apache-2.0
"""What quantisation costs: the perplexity of the integers beside that of the float model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.quantised import QuantModel
from sim.golden import float_transformer, transformer
from sim.golden.perplexity import Perplexity
from sim.golden.perplexity import perplexity as measure

__all__ = ["Comparison", "compare_perplexity", "golden_perplexity"]


@dataclass(frozen=True)
class Comparison:
    """The perplexity of a float model and of its integers, over the same windows of a text."""

    reference: Perplexity
    golden: Perplexity

    @property
    def worse_percent(self) -> float:
        """By how many percent the integers' perplexity is higher; negative if it is lower."""
        return 100 * (self.golden.perplexity / self.reference.perplexity - 1)

    def __str__(self) -> str:
        return (
            f"float {self.reference.perplexity:.4f}, integers "
            f"{self.golden.perplexity:.4f}: {self.worse_percent:+.2f} % over "
            f"{self.golden.tokens} tokens"
        )


def golden_perplexity(
    model: QuantModel,
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    *,
    window: int,
    stride: int,
    progress: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """The perplexity of the integer model, see ``sim.golden.perplexity.perplexity``."""
    step = model.scales["logits"]

    def logits(ids: NDArray[np.int64]) -> NDArray[Any]:
        return (
            transformer.logits(model, transformer.forward(model, transformer.KVCache(model), ids))
            * step
        )

    return measure(logits, tokens, window=window, stride=stride, progress=progress)


def compare_perplexity(
    model: QuantModel,
    weights: Mapping[str, NDArray[Any]],
    card: ModelCard,
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    *,
    window: int | None = None,
    stride: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure both models over a text.

    Parameters
    ----------
    model, weights, card : the integers, and the float model they came from.
    tokens : the text, at least two tokens.
    window : tokens of one pass, the model's context if None.
    stride : from one window to the next, half a window if None.
    progress : called with windows done and all windows, of both models together.

    Raises
    ------
    DesignError
        If the text is too short, or the window does not fit the context.
    """
    window = card.context if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if len(tokens) < 2:
        raise DesignError(f"a text must have at least 2 tokens, not {len(tokens)}")
    if not 1 <= stride <= window <= card.context:
        raise DesignError(
            f"window must be 1 to the context of {card.context} and stride 1 to the window, "
            f"not {window} and {stride}"
        )

    def half(first: bool) -> Callable[[int, int], None]:
        def report(done: int, total: int) -> None:
            if progress is not None:
                progress(done if first else total + done, 2 * total)

        return report

    reference = measure(
        lambda ids: float_transformer.forward(weights, card, ids),
        tokens, window=window, stride=stride, progress=half(True),
    )  # fmt: skip
    golden = golden_perplexity(model, tokens, window=window, stride=stride, progress=half(False))
    return Comparison(reference, golden)
