"""GPT-2 in floating point: what every integer version of it is compared with.

Reads from top to bottom like nanoGPT's model.py. Weights are a mapping from Hugging Face names
without the ``transformer.`` prefix to arrays, as `designs.checkpoint.Checkpoint.weights` returns;
linear weights are ``[in, out]``. `L` is the number of tokens.
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
`designs.gpt2.gpt2_model`, which are ``embed``, ``h0.ln_1``, ``h0.q``, ``h0.k``, ``h0.v``,
``h0.scores`` (minus infinity where masked), ``h0.softmax``, ``h0.context``, ``h0.proj``,
``h0.add_1``, ``h0.ln_2``, ``h0.fc1``, ``h0.gelu``, ``h0.fc2``, ``h0.add_2``, the same for ``h1``
and so on, ``ln_f`` and ``lm_head``; in the shapes that the Model gives them, with C = L."""


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


def softmax(x: Floats) -> Floats:
    """Return the softmax of each row; the maximum is subtracted first."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(x: Floats, w: Weights, card: ModelCard, layer: int, see: Observe) -> Floats:
    """Return causal self-attention of the normalised stream, ``[L, width]``."""
    tokens, h, source = len(x), f"h{layer}", f"h.{layer}.attn"
    qkv = x @ w[f"{source}.c_attn.weight"] + w[f"{source}.c_attn.bias"]
    q, k, v = np.split(qkv, 3, axis=-1)
    for name, value in (("q", q), ("k", k), ("v", v)):
        see(f"{h}.{name}", value)
    q, k, v = (t.reshape(tokens, card.heads, -1).transpose(1, 0, 2) for t in (q, k, v))
    scores = (q @ k.transpose(0, 2, 1)) * card.head_size**-0.5
    hidden = np.triu(np.ones((tokens, tokens), dtype=bool), k=1)
    scores = np.where(hidden, scores.dtype.type(-np.inf), scores)
    see(f"{h}.scores", scores)
    p = softmax(scores)
    see(f"{h}.softmax", p)
    context = (p @ v).transpose(1, 0, 2).reshape(tokens, card.width)
    see(f"{h}.context", context)
    return context @ w[f"{source}.c_proj.weight"] + w[f"{source}.c_proj.bias"]


def mlp(x: Floats, w: Weights, card: ModelCard, layer: int, see: Observe) -> Floats:
    """Return the feed-forward half of a block, ``[L, width]``."""
    h, source = f"h{layer}", f"h.{layer}.mlp"
    x = x @ w[f"{source}.c_fc.weight"] + w[f"{source}.c_fc.bias"]
    see(f"{h}.fc1", x)
    x = ACTIVATIONS[card.activation](x)
    see(f"{h}.gelu", x)
    return x @ w[f"{source}.c_proj.weight"] + w[f"{source}.c_proj.bias"]


def block(x: Floats, w: Weights, card: ModelCard, layer: int, see: Observe) -> Floats:
    """Return the residual stream after a layer, ``[L, width]``."""
    h, source, eps = f"h{layer}", f"h.{layer}", card.layernorm_eps
    n = layernorm(x, w[f"{source}.ln_1.weight"], w[f"{source}.ln_1.bias"], eps)
    see(f"{h}.ln_1", n)
    y = attention(n, w, card, layer, see)
    see(f"{h}.proj", y)
    x = x + y
    see(f"{h}.add_1", x)
    n = layernorm(x, w[f"{source}.ln_2.weight"], w[f"{source}.ln_2.bias"], eps)
    see(f"{h}.ln_2", n)
    y = mlp(n, w, card, layer, see)
    see(f"{h}.fc2", y)
    x = x + y
    see(f"{h}.add_2", x)
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
        Cast to `dtype` first.
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
    w = {name: np.asarray(value, dtype=dtype) for name, value in weights.items()}
    see: Observe = observe if observe is not None else lambda name, value: None
    x: Floats = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    see("embed", x)
    for layer in range(card.layers):
        x = block(x, w, card, layer, see)
    x = layernorm(x, w["ln_f.weight"], w["ln_f.bias"], card.layernorm_eps)
    see("ln_f", x)
    x = x @ w["wte.weight" if card.tied_head else "lm_head.weight"].T
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
