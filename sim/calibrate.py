# SPDX-License-Identifier: Apache-2.0
"""Calibration: what the tensors of the float model hold over a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.quantised import Observed, Ranges
from sim.golden import float_transformer

__all__ = ["observe_ranges"]

SKIPPED = ("scores", "softmax", "proj", "fc1", "fc2")
"""Tensors whose scale does not come from calibration, but for fc1 of a gated model."""

SAMPLE_ELEMENTS = 1 << 19
"""At most so many values of a tensor are kept."""

SAMPLE_ROWS = 1024


def observe_ranges(
    weights: Mapping[str, NDArray[Any]],
    card: ModelCard,
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    window: int | None = None,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Ranges:
    """Run the float model over a text, in windows side by side, and note what its tensors hold.

    Parameters
    ----------
    weights : by the Model's names, as ``Checkpoint.weights`` returns.
    card : the model.
    tokens : the calibration text, at least one token.
    window : tokens of one pass, the model's context if None.
    progress : told how many layers are done, of how many.

    Returns
    -------
    Ranges, by the names of ``designs.transformer``: ``embed``, ``h0.ln_1``, ..., ``ln_f``, ``lm_head``.

    Raises
    ------
    DesignError
        If there are no tokens.
    """
    ids = np.asarray(tokens)
    if not ids.size:
        raise DesignError("the calibration text is empty")
    window = min(window or card.context, card.context)
    maximum: dict[str, NDArray[np.float32]] = {}
    rows: dict[str, list[NDArray[np.float32]]] = {}
    draw = np.random.default_rng(0)
    starts = range(0, ids.size, window)
    done = 0

    def see(name: str, value: NDArray[Any]) -> None:
        nonlocal done
        if name.endswith(".add_2"):
            done += 1
            progress(done, len(starts) * card.layers)
        kind = name.rpartition(".")[2]
        if kind in SKIPPED and not (kind == "fc1" and card.gated):
            return
        top = np.abs(value).max(axis=0).astype(np.float32)
        maximum[name] = np.maximum(maximum[name], top) if name in maximum else top
        count = min(SAMPLE_ROWS, max(1, SAMPLE_ELEMENTS // value.shape[1]))
        share = min(len(value), -(-count * len(value) // ids.size))
        chosen = np.sort(draw.choice(len(value), share, replace=False))
        rows.setdefault(name, []).append(value[chosen].astype(np.float32))

    for start in starts:
        float_transformer.forward(weights, card, ids[start : start + window], observe=see)
    return Ranges(
        tokens=int(ids.size),
        tensors={name: Observed(maximum[name], np.concatenate(rows[name])) for name in maximum},
    )
