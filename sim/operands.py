# SPDX-License-Identifier: Apache-2.0
"""What the engine is fed: both sides of every product that the integer model computes over a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.quantised import QuantModel
from sim.golden import transformer
from sim.golden.ops import Ints

__all__ = ["Operand", "observe_operands"]


@dataclass(frozen=True)
class Operand:
    """One product: activations times weights, or of attention, activations times activations.

    Attributes
    ----------
    layer : of the model; the number of layers for the head
    name : of the activations: ``ln_1`` (for k, v and q), ``q`` (for the scores), ``p``
        (probabilities, for the context), ``context`` (for proj), ``ln_2`` (for fc1 and, of a gated
        model, up), ``hidden`` (for fc2), ``ln_f`` (for the head)
    rows : int8 [n, k], one token a row; of ``q`` and ``p`` those of one attention head
    columns : int8 [k, m], what they are multiplied with
    lengths : int64 [n]: row i has ``lengths[i]`` elements, the others are 0
    outputs : int64 [n]: row i is multiplied with the first ``outputs[i]`` columns
    """

    layer: int
    name: str
    rows: NDArray[np.int8]
    columns: NDArray[np.int8]
    lengths: NDArray[np.int64]
    outputs: NDArray[np.int64]

    @property
    def macs(self) -> int:
        """Multiply-accumulates, without those that causality hides."""
        return int(self.lengths @ self.outputs)


def observe_operands(
    model: QuantModel,
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    see: Callable[[Operand], object],
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Run the golden model over a text, in windows of its context side by side.

    Parameters
    ----------
    model : the integers.
    tokens : the text, at least one token. The head runs for every one of them.
    see : called with each operand, in the order of computation.
    progress : told how many layers are done, of how many.

    Raises
    ------
    DesignError
        If there are no tokens, or one is not in the vocabulary.
    """
    ids = np.asarray(tokens, np.int64)
    if not ids.size:
        raise DesignError("the text is empty")
    shape = model.shape
    starts = range(0, ids.size, shape.context)
    done = 0
    last: dict[str, Ints] = {}  # what the attention of a layer starts from

    def observe(layer: int, name: str, value: Ints) -> None:
        nonlocal done
        if name in ("k", "v", "q"):
            last[name] = value
        if name == "context":  # its own operands came before it
            _attention(model, layer, last, see)
        if name in ("ln_1", "context", "ln_2", "hidden", "ln_f"):
            columns, n = _weights(model, layer, name), len(value)
            k, m = (np.full(n, size, np.int64) for size in columns.shape)
            see(Operand(layer, name, value.astype(np.int8), columns, k, m))
        if name == "residual_2":
            done += 1
            progress(done, len(starts) * shape.layers)

    for start in starts:
        window = ids[start : start + shape.context]
        x = transformer.forward(model, transformer.KVCache(model), window, observe)
        transformer.logits(model, x, observe)


def _weights(model: QuantModel, layer: int, name: str) -> NDArray[np.int8]:
    """What the named activations are multiplied with, [k, m]."""
    if name == "ln_f":
        return model.head.weight
    of = model.layers[layer]
    if name == "ln_1":
        return np.concatenate([of.k.weight, of.v.weight, of.q.weight], axis=1)
    if name == "ln_2" and of.up is not None:
        return np.concatenate([of.fc1.weight, of.up.weight], axis=1)
    return {"context": of.proj, "ln_2": of.fc1, "hidden": of.fc2}[name].weight


def _attention(
    model: QuantModel, layer: int, made: Mapping[str, Ints], see: Callable[[Operand], object]
) -> None:
    """The products of one layer's attention, of a text that starts at position 0."""
    q, k, v = made["q"], made["k"].astype(np.int8), made["v"].astype(np.int8)
    n, width = q.shape
    visible = np.arange(n) + 1
    heads = transformer.head_columns(width, k.shape[1], model.shape.heads)
    size = np.full(n, model.shape.head_size, np.int64)
    for head, shared in heads:
        see(Operand(layer, "q", q[:, head].astype(np.int8), k[:, shared].T, size, visible))
        p, _ = transformer.probabilities(model.layers[layer], q[:, head], k[:, shared], visible)
        see(Operand(layer, "p", p.astype(np.int8), v[:, shared], visible, size))
