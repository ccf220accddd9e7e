# SPDX-License-Identifier: Apache-2.0
"""A decoder in integers, top to bottom: what every byte that the hardware writes must equal.

A pass pushes any number of new tokens through the layers; how a text is cut into passes changes no
integer. Sums of products run in floating point, exactly, because BLAS is fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from designs.cards import Norm
from designs.errors import DesignError
from designs.quantised import QuantLayer, QuantLinear, QuantModel, QuantNorm
from sim.golden import ops
from sim.golden.ops import Ints

__all__ = [
    "KVCache", "Observe", "attention", "block", "embed", "forward", "generate", "head_columns",
    "layernorm_rows", "linear", "logits", "matmul", "mlp", "next_token", "norm", "probabilities",
    "projections", "reciprocal_rows", "rmsnorm_rows", "rsqrt_rows", "softmax_rows",
]  # fmt: skip

Observe = Callable[[int, str, Ints], None]
"""Called as ``observe(layer, name, value)`` with every tensor that hardware writes, int64.

``embed`` (layer 0); in each layer ``ln_1``, ``k``, ``v``, ``q``, ``context``, ``residual_1``,
``ln_2``, ``hidden``, ``residual_2``, all [L, features]; after the last of n layers, as layer n,
``ln_f`` [L, d] (L is 1 in :func:`next_token`), ``logits`` [V] and ``token`` [].
"""


def _ignore(layer: int, name: str, value: Ints) -> None:
    pass


class KVCache:
    """Keys and values of the tokens seen so far, int8 [layers, context, kv width].

    Parameters
    ----------
    model : whose keys and values.
    layers : how many layers, all of them if None.
    """

    def __init__(self, model: QuantModel, layers: int | None = None) -> None:
        shape = model.shape
        size = (shape.layers if layers is None else layers, shape.context, shape.kv_width)
        self.k, self.v = np.zeros(size, np.int8), np.zeros(size, np.int8)
        self.length = 0

    @property
    def context(self) -> int:
        """Tokens that fit."""
        return self.k.shape[1]

    def write(self, layer: int, k: Ints, v: Ints) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """Put those of the new tokens [L, kv width] behind the old ones; return all."""
        end = self.length + k.shape[0]
        self.k[layer, self.length : end] = k
        self.v[layer, self.length : end] = v
        return self.k[layer, :end], self.v[layer, :end]


def forward(
    model: QuantModel,
    cache: KVCache,
    tokens: Sequence[int] | Ints,
    observe: Observe | None = None,
    layers: int | None = None,
) -> Ints:
    """Push new tokens through the layers, and their keys and values into the cache.

    Parameters
    ----------
    tokens : L ids, at least one.
    observe : gets every tensor that hardware writes, see :data:`Observe`.
    layers : run only the first ``layers`` layers.

    Returns
    -------
    The residual stream behind the last layer, int64 [L, d].

    Raises
    ------
    DesignError
        If an id is not in the vocabulary, or the context is too short.
    """
    observe = observe or _ignore
    count = len(model.layers) if layers is None else layers
    x = embed(model, tokens, cache.length)
    observe(0, "embed", x)
    for i in range(count):
        x = block(model, cache, i, x, observe)
    cache.length += x.shape[0]
    return x


def embed(model: QuantModel, tokens: Sequence[int] | Ints, past: int) -> Ints:
    """The embedding, int16 [L, d]: token, plus position if that is learned."""
    ids = np.asarray(tokens, np.int64).reshape(-1)
    if not ids.size:
        raise DesignError("a pass needs at least one token")
    if ids.min() < 0 or ids.max() >= model.shape.vocabulary:
        wrong = ids[(ids < 0) | (ids >= model.shape.vocabulary)][0]
        raise DesignError(f"token {wrong} is not in the vocabulary of {model.shape.vocabulary}")
    if past + ids.size > model.shape.context:
        raise DesignError(
            f"{past + ids.size} tokens do not fit into a context of {model.shape.context}"
        )
    rows = model.wte[ids]
    if model.shape.position == "rotary":
        return rows.astype(np.int64)
    positions = model.wpe[past : past + ids.size]
    return ops.residual_add(rows.astype(np.int64), positions.astype(np.int64))


def block(
    model: QuantModel, cache: KVCache, index: int, x: Ints, observe: Observe = _ignore
) -> Ints:
    """One transformer block: the residual stream [L, d] behind it."""
    layer = model.layers[index]
    h = norm(layer.ln_1, x, model.shape.norm)
    observe(index, "ln_1", h)
    k, v, q = projections(model, layer, h, cache.length)
    observe(index, "k", k)
    observe(index, "v", v)
    observe(index, "q", q)
    keys, values = cache.write(index, k, v)
    y = attention(layer, model.shape.heads, q, keys, values)
    observe(index, "context", y)
    x = ops.residual_add(x, linear(y, layer.proj, 16))
    observe(index, "residual_1", x)

    h = norm(layer.ln_2, x, model.shape.norm)
    observe(index, "ln_2", h)
    h = mlp(layer, h)
    observe(index, "hidden", h)
    x = ops.residual_add(x, linear(h, layer.fc2, 16))
    observe(index, "residual_2", x)
    return x


def projections(model: QuantModel, layer: QuantLayer, h: Ints, past: int) -> tuple[Ints, ...]:
    """Keys, values and queries of rows [L, d] at positions past .. past + L - 1, int8."""
    if model.shape.position == "learned":
        k, v, q = (linear(h, part, 8) for part in (layer.k, layer.v, layer.q))
        return k, v, q
    angles = model.wpe[past : past + h.shape[0]].astype(np.int64)
    k, q = (ops.rotary(linear(h, part, 16), angles) for part in (layer.k, layer.q))
    return k, linear(h, layer.v, 8), q


def attention(
    layer: QuantLayer, heads: int, q: Ints, keys: NDArray[np.int8], values: NDArray[np.int8]
) -> Ints:
    """Causal attention of the last L positions over all, int8 [L, d].

    Parameters
    ----------
    q : int8 [L, d], positions past .. past + L - 1.
    keys, values : int8 [past + L, kv width]; heads side by side share one head of them, if it is
        narrower than d.
    """
    rows, width = q.shape
    visible = np.arange(keys.shape[0] - rows, keys.shape[0]) + 1  # a row sees up to itself
    y = np.empty((rows, width), np.int64)
    for head, shared in head_columns(width, keys.shape[1], heads):
        p, total = probabilities(layer, q[:, head], keys[:, shared], visible)
        m, s = reciprocal_rows(total, layer.context.multiplier, layer.context.shift)
        y[:, head] = ops.requantise(matmul(p, values[:, shared]), 0, m[:, None], s[:, None], 8)
    return y


def head_columns(width: int, kv_width: int, heads: int) -> Iterator[tuple[slice, slice]]:
    """Of each head: its columns of the queries, and its columns of keys and values."""
    size, ratio = width // heads, width // kv_width
    for head in range(heads):
        shared = head // ratio
        yield (
            slice(head * size, (head + 1) * size),
            slice(shared * size, (shared + 1) * size),
        )


def probabilities(
    layer: QuantLayer, q: Ints, keys: NDArray[np.int8], visible: Ints
) -> tuple[Ints, Ints]:
    """Unnormalised probabilities of one head and their sums, see :func:`softmax_rows`.

    Parameters
    ----------
    q : int8 [L, head size]
    keys : int8 [columns, head size]
    visible : int64 [L]: each row sees so many columns, the first ones.
    """
    acc = matmul(q, keys.T)
    scores = ops.requantise(acc, 0, layer.scores.multiplier, layer.scores.shift, 16)
    return softmax_rows(scores, visible)


def mlp(layer: QuantLayer, h: Ints) -> Ints:
    """The hidden values of the feed-forward half, int8 [L, ffn]."""
    z, act = linear(h, layer.fc1, 16), layer.activation
    if layer.up is None:
        return ops.gated_activation(z, act.multiplier, act.shift, act.kind)
    u = ops.gated_activation(z, act.multiplier, act.shift, act.kind, bits=16)
    return ops.gated_product(u, linear(h, layer.up, 16))


def logits(
    model: QuantModel, x: Ints, observe: Observe | None = None, layers: int | None = None
) -> Ints:
    """Logits [L, V] of rows of the residual stream [L, d], int16 in one scale."""
    h = norm(model.ln_f, x, model.shape.norm)
    if observe is not None:
        observe(len(model.layers) if layers is None else layers, "ln_f", h)
    return linear(h, model.head, 16)


def next_token(
    model: QuantModel, x: Ints, observe: Observe | None = None, layers: int | None = None
) -> int:
    """The greedy choice behind one row of the residual stream [d]: the first largest logit."""
    row = logits(model, np.reshape(x, (1, -1)), observe, layers)[0]
    token = ops.argmax(row)
    if observe is not None:
        count = len(model.layers) if layers is None else layers
        observe(count, "logits", row)
        observe(count, "token", np.asarray(token, np.int64))
    return token


def generate(
    model: QuantModel,
    prompt: Sequence[int],
    count: int,
    *,
    chunk: int | None = None,
    observe: Observe | None = None,
    layers: int | None = None,
    cache: KVCache | None = None,
) -> list[int]:
    """Continue a prompt by ``count`` tokens, greedily.

    Parameters
    ----------
    prompt : ids, at least one.
    count : tokens to generate; 0 only fills the cache.
    chunk : tokens of one prompt pass, all of them if None; changes what ``observe`` sees at once,
        and no integer.
    cache : to continue from; a new one if None. Afterwards it lacks the last generated token.

    Raises
    ------
    DesignError
        If prompt and generated tokens (but the last) do not fit into the context.
    """
    cache = cache or KVCache(model, layers)
    need = cache.length + len(prompt) + max(count - 1, 0)
    if need > cache.context:
        raise DesignError(f"{need} tokens do not fit into a context of {cache.context}")
    step = chunk or max(len(prompt), 1)
    x = np.empty((0, model.shape.width), np.int64)
    for start in range(0, max(len(prompt), 1), step):
        x = forward(model, cache, prompt[start : start + step], observe, layers)
    found: list[int] = []
    while len(found) < count:
        found.append(next_token(model, x[-1], observe, layers))
        if len(found) < count:
            x = forward(model, cache, found[-1:], observe, layers)
    return found


# ---- The arithmetic of ops.py, on many rows at once ----------------------------------------------

_EXACT_TERMS = 1024  # 1024 * 128 * 128 = 2**24: float32 adds that many int8 products exactly


def matmul(x: NDArray[np.integer], w: NDArray[np.integer]) -> Ints:
    """``x @ w`` of int8 values, exact, int64.

    No partial sum of 1024 products exceeds 2**24, so float32 never rounds, in whatever order.
    """
    total = np.zeros((x.shape[0], w.shape[1]), np.int64)
    for start in range(0, x.shape[1], _EXACT_TERMS):
        part = slice(start, start + _EXACT_TERMS)
        total += (x[:, part].astype(np.float32) @ w[part].astype(np.float32)).astype(np.int64)
    return total


def linear(x: Ints, part: QuantLinear, bits: int) -> Ints:
    """A linear layer on rows [L, k], requantised to ``bits`` bits [L, n]."""
    acc = matmul(x, part.weight)
    return ops.requantise(
        acc,
        part.bias.astype(np.int64),
        part.multiplier.astype(np.int64),
        part.shift.astype(np.int64),
        bits,
    )


def norm(part: QuantNorm, x: Ints, kind: Norm = "layernorm") -> Ints:
    """A normalisation of rows [L, d], int8."""
    if kind == "rmsnorm":
        return rmsnorm_rows(x, part.gamma, part.gamma_shift, part.epsilon)
    return layernorm_rows(x, part.gamma, part.beta, part.gamma_shift, part.epsilon)


def layernorm_rows(
    x: Ints, gamma: NDArray[np.integer], beta: NDArray[np.integer], gamma_shift: int, epsilon: int
) -> Ints:
    """:func:`ops.layernorm` of every row of x [L, d]."""
    x = np.asarray(x, np.int64)
    d = x.shape[1]
    total, squares = x.sum(axis=1), (x * x).sum(axis=1)
    r, e = rsqrt_rows(d * squares - total * total + epsilon)
    n = ops.round_shift((d * x - total[:, None]) * r[:, None], 13 + e[:, None])
    product = n * gamma.astype(np.int64) + (beta.astype(np.int64) << 10)
    return ops.clamp(ops.round_shift(product, gamma_shift + 10), 8)


def rmsnorm_rows(x: Ints, gamma: NDArray[np.integer], gamma_shift: int, epsilon: int) -> Ints:
    """:func:`ops.rmsnorm` of every row of x [L, d]."""
    x = np.asarray(x, np.int64)
    d = x.shape[1]
    r, e = rsqrt_rows(d * (x * x).sum(axis=1) + epsilon)
    n = ops.round_shift(d * x * r[:, None], 13 + e[:, None])
    return ops.clamp(ops.round_shift(n * gamma.astype(np.int64), gamma_shift + 10), 8)


def rsqrt_rows(value: Ints) -> tuple[Ints, Ints]:
    """:func:`ops.rsqrt` of every element."""
    shift = _bit_length(value) - 16
    shift += shift & 1
    v = np.where(shift >= 0, value >> np.maximum(shift, 0), value << np.maximum(-shift, 0))
    guess = ops.RSQRT_TABLE[(v >> 8) - 64]
    t = (v * guess * guess) >> 24
    r = (guess * (3 * (1 << 22) - t) + (1 << 22)) >> 23
    return np.minimum(r, 65535), shift >> 1


def softmax_rows(scores: Ints, visible: Ints) -> tuple[Ints, Ints]:
    """:func:`ops.softmax_row` of the first ``visible[i]`` columns of each row i; the rest is 0.

    Returns
    -------
    probabilities : int64 [L, columns], 0 to 127
    total : int64 [L]
    """
    seen = np.arange(scores.shape[1]) < visible[:, None]
    top = np.where(seen, scores, -(2**15)).max(axis=1, keepdims=True)
    t = np.where(seen, top - scores, 0)
    p = ops.round_shift(ops.EXP2_TABLE[t & 255], np.minimum(t >> ops.SCORE_FRACTION, 15) + 8)
    p = np.where(seen, p, 0)
    return p, p.sum(axis=1)


def reciprocal_rows(total: Ints, multiplier: int, shift: int) -> tuple[Ints, Ints]:
    """:func:`ops.reciprocal` of every element."""
    length = _bit_length(total)
    numerator = multiplier << ops.RECIPROCAL_BITS
    return numerator // (total << (ops.RECIPROCAL_BITS - length)), shift + length


def _bit_length(value: Ints) -> Ints:
    """``int.bit_length`` of every element of a positive array."""
    length = np.frexp(value.astype(np.float64))[1].astype(np.int64)
    return length - (value < (np.int64(1) << (length - 1)))  # conversion may have rounded up
