"""What the engine is fed: the activations of every product that the integer model computes over a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.quantised import QuantModel
from sim.golden import gpt2
from sim.golden.ops import Ints

__all__ = ["Operand", "observe_operands"]


@dataclass(frozen=True)
class Operand:
    """The activations of one product: its left operand.

    Attributes
    ----------
    layer : of the model; the number of layers for the head
    name : ``ln_1`` (of k, v and q), ``q`` (of the scores), ``p`` (probabilities, of the context),
        ``context`` (of proj), ``ln_2`` (of fc1), ``hidden`` (of fc2), ``ln_f`` (of the head)
    rows : int8 [n, k], one token a row; of ``q`` and ``p`` those of one attention head
    lengths : int64 [n]: of row ``i`` the product takes the first ``lengths[i]`` elements; the
        others are 0
    macs : multiply-accumulates of the product, without those that causality hides
    """

    layer: int
    name: str
    rows: NDArray[np.int8]
    lengths: NDArray[np.int64]
    macs: int


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
    outputs = {
        "ln_1": 3 * shape.width,
        "context": shape.width,
        "ln_2": shape.ffn,
        "hidden": shape.width,
        "ln_f": shape.vocabulary,
    }
    done = 0
    last: dict[str, Ints] = {}  # what the attention of a layer starts from

    def observe(layer: int, name: str, value: Ints) -> None:
        nonlocal done
        if name in ("k", "q"):
            last[name] = value
        if name == "context":  # its own operands came before it
            _attention(model, layer, last["q"], last["k"], see)
        if name in outputs:
            n, k = value.shape
            lengths = np.full(n, k, np.int64)
            see(Operand(layer, name, value.astype(np.int8), lengths, n * k * outputs[name]))
        if name == "residual_2":
            done += 1
            progress(done, len(starts) * shape.layers)

    for start in starts:
        window = ids[start : start + shape.context]
        x = gpt2.forward(model, gpt2.KVCache(model), window, observe)
        gpt2.logits(model, x, observe)


def _attention(
    model: QuantModel, layer: int, q: Ints, k: Ints, see: Callable[[Operand], object]
) -> None:
    """The operands of one layer's attention, of a text that starts at position 0."""
    n, width = q.shape
    visible = np.arange(n) + 1
    keys = k.astype(np.int8)
    macs = int(visible.sum()) * model.shape.head_size
    for head in np.split(np.arange(width), model.shape.heads):
        row = np.full(n, len(head), np.int64)
        see(Operand(layer, "q", q[:, head].astype(np.int8), row, macs))
        p, _ = gpt2.probabilities(model.layers[layer], q[:, head], keys[:, head], visible)
        see(Operand(layer, "p", p.astype(np.int8), visible, macs))
