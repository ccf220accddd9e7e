# SPDX-License-Identifier: Apache-2.0
"""A decoder in floating point: what every integer version of it is compared with.

Reads from top to bottom like nanoGPT's model.py. Weights are a mapping from the Model's names
(`designs.transformer`) to arrays, as `designs.checkpoint.Checkpoint.weights` returns; linear
weights are ``[in, out]``. A weight is asked for when it is needed, and not kept. `L` is the number
of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from designs.cards import ModelCard
from sim.golden.perplexity import Perplexity
from sim.golden.perplexity import perplexity as measure

Floats = NDArray[np.floating[Any]]
Weights = Mapping[str, NDArray[Any]]
Observe = Callable[[str, Floats], None]
"""Called with the name and value of each tensor that a task makes: the names of
`designs.transformer.transformer_model`, from ``embed`` to ``lm_head`` (``h0.scores`` is minus
infinity where masked); in the shapes that the Model gives them, with C = L."""


def gelu_new(x: Floats) -> Floats:
    """Return the tanh form of GELU."""
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu(x: Floats) -> Floats:
    """Return GELU with the error function, in the dtype of `x`."""
    return (x * 0.5 * (1.0 + _ERF(x / math.sqrt(2.0)))).astype(x.dtype)


def relu(x: Floats) -> Floats:
    """Return the positive part."""
    return np.maximum(x, 0)


def silu(x: Floats) -> Floats:
    """Return x times its logistic function."""
    return x * 0.5 * (1.0 + np.tanh(0.5 * x))


_ERF = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "gelu_new": gelu_new,
    "gelu": gelu,
    "relu": relu,
    "silu": silu,
}
"""By the name that a card gives them."""


def layernorm(x: Floats, weight: Floats, bias: Floats, eps: float) -> Floats:
    """Return rows of mean 0 and variance 1, scaled and shifted; the variance is the biased one."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


def rmsnorm(x: Floats, weight: Floats, eps: float) -> Floats:
    """Return rows of mean square 1, scaled."""
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def softmax(x: Floats) -> Floats:
    """Return the softmax of each row; the maximum is subtracted first."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rotary(x: Floats, heads: int, theta: float) -> Floats:
    """Turn features i and i + half of every head by ``position / theta**(i / half)``, ``[L, n]``."""
    rows, width = x.shape
    half = width // heads // 2
    angle = np.arange(rows)[:, None] * theta ** (-np.arange(half) / half)
    c, s = (f(angle)[:, None].astype(x.dtype) for f in (np.cos, np.sin))
    a, b = np.split(x.reshape(rows, heads, 2 * half), 2, axis=-1)
    return np.concatenate([a * c - b * s, a * s + b * c], axis=-1).reshape(rows, width)


class _Network:
    """The layers of a card: its weights in one dtype, and who sees its tensors."""

    def __init__(self, weights: Weights, card: ModelCard, dtype: DTypeLike, see: Observe) -> None:
        self.card, self.see = card, see
        self._weights, self._dtype = weights, dtype

    def weight(self, name: str) -> Floats:
        return np.asarray(self._weights[name], dtype=self._dtype)

    def linear(self, name: str, x: Floats) -> Floats:
        """Return a product of rows, plus its bias if the model has any."""
        y = x @ self.weight(f"{name}.weight")
        return y + self.weight(f"{name}.bias") if self.card.biases else y

    def norm(self, name: str, x: Floats) -> Floats:
        weight, eps = self.weight(f"{name}.weight"), self.card.norm_eps
        if self.card.norm == "rmsnorm":
            y = rmsnorm(x, weight, eps)
        else:
            y = layernorm(x, weight, self.weight(f"{name}.bias"), eps)
        self.see(name, y)
        return y

    def embed(self, ids: NDArray[np.integer[Any]]) -> Floats:
        table = self._weights["wte.weight"]
        x = np.asarray(table[ids], dtype=self._dtype)
        if self.card.position == "learned":
            x = x + self.weight("wpe.weight")[: len(ids)]
        self.see("embed", x)
        return x

    def attention(self, h: str, x: Floats) -> Floats:
        """Return causal self-attention of the normalised stream, ``[L, width]``."""
        card, tokens = self.card, len(x)
        heads = {"q": card.heads, "k": card.kv_heads, "v": card.kv_heads}
        parts = {}
        for name, count in heads.items():
            y = self.linear(f"{h}.{name}", x)
            self.see(f"{h}.{name}", y)
            if card.position == "rotary" and name != "v":
                y = rotary(y, count, card.rope_theta)
                self.see(f"{h}.{name}_rotary", y)
            y = y.reshape(tokens, count, -1).transpose(1, 0, 2)
            parts[name] = np.repeat(y, card.heads // count, axis=0)
        scores = (parts["q"] @ parts["k"].transpose(0, 2, 1)) * card.head_size**-0.5
        hidden = np.triu(np.ones((tokens, tokens), dtype=bool), k=1)
        scores = np.where(hidden, scores.dtype.type(-np.inf), scores)
        self.see(f"{h}.scores", scores)
        p = softmax(scores)
        self.see(f"{h}.softmax", p)
        context = (p @ parts["v"]).transpose(1, 0, 2).reshape(tokens, card.width)
        self.see(f"{h}.context", context)
        return self.linear(f"{h}.proj", context)

    def mlp(self, h: str, x: Floats) -> Floats:
        """Return the feed-forward half of a block, ``[L, width]``."""
        act = ACTIVATIONS[self.card.activation]
        y = self.linear(f"{h}.fc1", x)
        if self.card.gated:
            up = x @ self.weight(f"{h}.up.weight")
            self.see(f"{h}.fc1", np.concatenate([y, up], axis=-1))
            y = act(y) * up
        else:
            self.see(f"{h}.fc1", y)
            y = act(y)
        self.see(f"{h}.act", y)
        return self.linear(f"{h}.fc2", y)

    def block(self, h: str, x: Floats) -> Floats:
        """Return the residual stream after a layer, ``[L, width]``."""
        y = self.attention(h, self.norm(f"{h}.ln_1", x))
        self.see(f"{h}.proj", y)
        x = x + y
        self.see(f"{h}.add_1", x)
        y = self.mlp(h, self.norm(f"{h}.ln_2", x))
        self.see(f"{h}.fc2", y)
        x = x + y
        self.see(f"{h}.add_2", x)
        return x


def forward(
    weights: Weights,
    card: ModelCard,
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    *,
    dtype: DTypeLike = np.float32,
    observe: Observe | None = None,
) -> Floats:
    """Return the logits after each token of a full pass.

    Parameters
    ----------
    weights : mapping of str to array
        Cast to `dtype` as they are used.
    card : ModelCard
    tokens : int [L]
        The positions are 0 to L - 1.
    dtype : numpy dtype
        float32 or float64: in what everything is computed.
    observe : callable, optional
        Sees each tensor that a task makes: `Observe`.

    Returns
    -------
    float [L, vocabulary]

    Raises
    ------
    ValueError
        If there are no tokens, more than the context, or one outside the vocabulary.
    """
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not 1 <= len(ids) <= card.context:
        raise ValueError(f"a pass takes 1 to {card.context} tokens in a row, not shape {ids.shape}")
    if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() >= card.vocabulary:
        raise ValueError(f"token ids must be integers from 0 to {card.vocabulary - 1}")
    see: Observe = observe if observe is not None else lambda name, value: None
    network = _Network(weights, card, dtype, see)
    x = network.embed(ids)
    for layer in range(card.layers):
        x = network.block(f"h{layer}", x)
    x = network.norm("ln_f", x)
    x = x @ network.weight("wte.weight" if card.tied_head else "lm_head.weight").T
    see("lm_head", x)
    return x


def logits(
    weights: Weights,
    card: ModelCard,
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    *,
    dtype: DTypeLike = np.float32,
) -> Floats:
    """Return the logits after each token: `forward` without an observer. ``[L, vocabulary]``."""
    return forward(weights, card, tokens, dtype=dtype)


def perplexity(
    weights: Weights,
    card: ModelCard,
    tokens: Sequence[int] | NDArray[np.integer[Any]],
    *,
    window: int,
    stride: int,
    dtype: DTypeLike = np.float32,
) -> Perplexity:
    """Return the perplexity over a text, by full passes; see `sim.golden.perplexity.perplexity`."""
    return measure(
        lambda ids: forward(weights, card, ids, dtype=dtype), tokens, window=window, stride=stride
    )


def greedy(
    weights: Weights,
    card: ModelCard,
    prompt: Sequence[int],
    count: int,
    *,
    dtype: DTypeLike = np.float32,
) -> list[int]:
    """Return the `count` tokens that follow a prompt, each the likeliest (of equals the first).

    Raises
    ------
    ValueError
        If the prompt is empty, or it and the new tokens do not fit in the context.
    """
    if not prompt or len(prompt) + count > card.context:
        raise ValueError(
            f"a prompt and its continuation are 1 to {card.context} tokens, not "
            f"{len(prompt)} and {count}"
        )
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(forward(weights, card, ids, dtype=dtype)[-1].argmax()))
    return ids[len(prompt) :]
