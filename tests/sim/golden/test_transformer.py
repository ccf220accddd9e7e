# SPDX-License-Identifier: Apache-2.0
"""The golden model: it equals the operations one number at a time, however a text is cut."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.quantised import QuantLinear, QuantModel, QuantNorm
from designs.transformer import weight_shapes
from generators.quantise import quantise, random_quantised
from sim.calibrate import observe_ranges
from sim.golden import float_transformer, ops, transformer

CARD = ModelCard(name="small", layers=2, width=16, heads=2, ffn=24, vocabulary=29, context=24)
MODEL = random_quantised(CARD, seed=5)
LLAMA = ModelCard(
    name="llama", family="llama", layers=2, width=16, heads=4, kv_heads=2, ffn=24, vocabulary=29,
    context=24,
)  # fmt: skip
OPT = ModelCard(
    name="opt", family="opt", layers=2, width=16, heads=2, ffn=24, vocabulary=29, context=24
)
MODELS = {card.name: random_quantised(card, seed=5) for card in (CARD, LLAMA, OPT)}
TOKENS = [int(t) for t in np.random.default_rng(2).integers(0, CARD.vocabulary, CARD.context)]

LAYER_NAMES = (
    "ln_1", "k", "v", "q", "context", "residual_1", "ln_2", "hidden", "residual_2",
)  # fmt: skip


class Seen:
    """Keeps what a run observes, passes one after another."""

    def __init__(self) -> None:
        self.parts: dict[tuple[int, str], list[np.ndarray]] = defaultdict(list)

    def __call__(self, layer: int, name: str, value: np.ndarray) -> None:
        assert value.dtype == np.int64, name
        self.parts[layer, name].append(value.copy())

    def joined(self) -> dict[tuple[int, str], np.ndarray]:
        return {key: np.concatenate(parts) for key, parts in self.parts.items()}


def slow_linear(x: list[int], part: QuantLinear, bits: int) -> list[int]:
    """One row, in Python's integers."""
    out = []
    for n in range(part.weight.shape[1]):
        acc = sum(a * int(w) for a, w in zip(x, part.weight[:, n], strict=True))
        y = (acc + int(part.bias[n])) * int(part.multiplier[n])
        y = (y + (1 << (int(part.shift[n]) - 1))) >> int(part.shift[n])
        out.append(max(-(1 << (bits - 1)), min((1 << (bits - 1)) - 1, y)))
    return out


def slow_norm(x: np.ndarray, part: QuantNorm, kind: str = "layernorm") -> list[int]:
    """One row."""
    if kind == "rmsnorm":
        return ops.rmsnorm(x, part.gamma.astype(np.int64), part.gamma_shift, part.epsilon).tolist()
    gamma, beta = part.gamma.astype(np.int64), part.beta.astype(np.int64)
    return ops.layernorm(x, gamma, beta, part.gamma_shift, part.epsilon).tolist()


def slow_rotary(y: list[int], row: np.ndarray, size: int) -> list[int]:
    """One row, pair after pair, in Python's integers."""
    out = []
    for i in range(0, len(y), 2):
        a, b, c, s = y[i], y[i + 1], int(row[i % size]), int(row[i % size + 1])
        pair = (a * c - b * s, a * s + b * c)
        out += [max(-128, min(127, (turned + (1 << 18)) >> 19)) for turned in pair]
    return out


def slow_forward(model: QuantModel, tokens: list[int]) -> tuple[list[list[int]], int]:
    """The residual stream behind each token, and the token after the last: one token at a time."""
    past: list[list[tuple[list[int], list[int]]]] = [[] for _ in model.layers]
    stream, token, size = [], 0, model.shape.head_size
    norm, rotary = model.shape.norm, model.shape.position == "rotary"
    ratio = model.shape.heads // model.shape.kv_heads
    for position, now in enumerate(tokens):
        x, row = model.wte[now].astype(np.int64), model.wpe[position]
        if not rotary:
            x = ops.residual_add(x, row.astype(np.int64))
        for i, layer in enumerate(model.layers):
            h = slow_norm(x, layer.ln_1, norm)
            k, q = (slow_linear(h, part, 16 if rotary else 8) for part in (layer.k, layer.q))
            if rotary:
                k, q = (slow_rotary(y, row, size) for y in (k, q))
            past[i].append((k, slow_linear(h, layer.v, 8)))
            context = []
            for head in range(model.shape.heads):
                own = slice(head * size, (head + 1) * size)
                span = slice(head // ratio * size, (head // ratio + 1) * size)
                dots = [
                    sum(a * b for a, b in zip(q[own], k[span], strict=True)) for k, _ in past[i]
                ]
                m, s = layer.scores.multiplier, layer.scores.shift
                p, total = ops.softmax_row(ops.requantise(np.array(dots), 0, m, s, 16))
                m, s = ops.reciprocal(total, layer.context.multiplier, layer.context.shift)
                values = np.array([v[span] for _, v in past[i]])
                context += ops.requantise(p @ values, 0, m, s, 8).tolist()
            x = ops.residual_add(x, np.array(slow_linear(context, layer.proj, 16)))
            h = slow_norm(x, layer.ln_2, norm)
            act, z = layer.activation, np.array(slow_linear(h, layer.fc1, 16))
            bits = 8 if layer.up is None else 16
            hidden = ops.gated_activation(z, act.multiplier, act.shift, act.kind, bits).tolist()
            if layer.up is not None:
                up = slow_linear(h, layer.up, 16)
                products = ((u * v + (1 << 14)) >> 15 for u, v in zip(hidden, up, strict=True))
                hidden = [max(-128, min(127, product)) for product in products]
            x = ops.residual_add(x, np.array(slow_linear(hidden, layer.fc2, 16)))
        h = slow_norm(x, model.ln_f, norm)
        token = ops.argmax(np.array(slow_linear(h, model.head, 16)))
        stream.append(x.tolist())
    return stream, token


class TestForward:
    @pytest.mark.parametrize("name", MODELS)
    def test_equals_the_operations_one_by_one(self, name: str) -> None:
        tokens, model = TOKENS[:12], MODELS[name]
        stream, token = slow_forward(model, tokens)
        x = transformer.forward(model, transformer.KVCache(model), tokens)
        assert x.tolist() == stream
        assert transformer.next_token(model, x[-1]) == token

    @settings(max_examples=30, deadline=None)
    @given(st.sampled_from(sorted(MODELS)), st.lists(st.integers(1, 9), min_size=1, max_size=24))
    def test_passes_change_no_integer(self, name: str, cuts: list[int]) -> None:
        whole, cut, model = Seen(), Seen(), MODELS[name]
        transformer.forward(model, transformer.KVCache(model), TOKENS, whole)
        cache, rest = transformer.KVCache(model), TOKENS
        for size in [*cuts, len(TOKENS)]:
            if rest:
                transformer.forward(model, cache, rest[:size], cut)
                rest = rest[size:]
        a, b = whole.joined(), cut.joined()
        assert a.keys() == b.keys()
        for key, value in a.items():
            np.testing.assert_array_equal(value, b[key], err_msg=str(key))
        assert cache.length == len(TOKENS)

    def test_later_tokens_change_nothing(self) -> None:
        a = transformer.forward(MODEL, transformer.KVCache(MODEL), TOKENS[:10])
        b = transformer.forward(
            MODEL, transformer.KVCache(MODEL), [*TOKENS[:9], (TOKENS[9] + 1) % 29]
        )
        np.testing.assert_array_equal(a[:9], b[:9])
        assert (a[9] != b[9]).any()

    def test_observes_everything_in_its_format(self) -> None:
        seen = Seen()
        x = transformer.forward(MODEL, transformer.KVCache(MODEL), TOKENS[:5], seen)
        transformer.next_token(MODEL, x[-1], seen)
        expected = [(0, "embed")]
        expected += [(i, name) for i in range(2) for name in LAYER_NAMES]
        expected += [(2, "ln_f"), (2, "logits"), (2, "token")]
        assert list(seen.parts) == expected
        for (layer, name), (value,) in seen.parts.items():
            wide = name in ("embed", "residual_1", "residual_2", "logits")
            assert np.abs(value).max() <= (32768 if wide else 128), (layer, name)
            shape = {"logits": (29,), "token": (), "ln_f": (1, 16), "hidden": (5, 24)}
            assert value.shape == shape.get(name, (5, 16)), name
        np.testing.assert_array_equal(seen.parts[1, "residual_2"][0], x)

    def test_the_cache_holds_keys_and_values(self) -> None:
        seen, cache = Seen(), transformer.KVCache(MODEL)
        transformer.forward(MODEL, cache, TOKENS[:5], seen)
        for i in range(2):
            np.testing.assert_array_equal(cache.k[i, :5], seen.parts[i, "k"][0])
            np.testing.assert_array_equal(cache.v[i, :5], seen.parts[i, "v"][0])
            assert not cache.k[i, 5:].any()

    def test_first_layers_only(self) -> None:
        seen = Seen()
        transformer.forward(MODEL, transformer.KVCache(MODEL), TOKENS[:5], seen)
        x = transformer.forward(MODEL, transformer.KVCache(MODEL, 1), TOKENS[:5], layers=1)
        np.testing.assert_array_equal(x, seen.parts[0, "residual_2"][0])

    @pytest.mark.parametrize(
        ("tokens", "message"),
        [
            ([], "a pass needs at least one token"),
            ([3, 29], "token 29 is not in the vocabulary of 29"),
            ([-1], "token -1 is not in the vocabulary of 29"),
            ([0] * 25, "25 tokens do not fit into a context of 24"),
        ],
    )
    def test_refuses(self, tokens: list[int], message: str) -> None:
        with pytest.raises(DesignError, match=message):
            transformer.forward(MODEL, transformer.KVCache(MODEL), tokens)


class TestGenerate:
    def test_equals_full_passes(self) -> None:
        tokens = list(TOKENS[:6])
        for _ in range(8):
            x = transformer.forward(MODEL, transformer.KVCache(MODEL), tokens)
            tokens.append(transformer.next_token(MODEL, x[-1]))
        found = transformer.generate(MODEL, TOKENS[:6], 8)
        assert found == tokens[6:]
        assert len(set(found)) > 2, "a model that repeats itself tests nothing"
        for chunk in (1, 4, 100):
            assert transformer.generate(MODEL, TOKENS[:6], 8, chunk=chunk) == found

    def test_continues_a_cache(self) -> None:
        cache = transformer.KVCache(MODEL)
        first = transformer.generate(MODEL, TOKENS[:6], 3, cache=cache)
        assert cache.length == 8
        second = transformer.generate(MODEL, first[-1:], 5, cache=cache)
        assert first + second == transformer.generate(MODEL, TOKENS[:6], 8)

    def test_nothing_to_generate_fills_the_cache(self) -> None:
        cache = transformer.KVCache(MODEL)
        assert transformer.generate(MODEL, TOKENS[:6], 0, cache=cache) == []
        assert cache.length == 6

    def test_fits_exactly(self) -> None:
        assert len(transformer.generate(MODEL, TOKENS[:20], 5)) == 5
        with pytest.raises(DesignError, match="25 tokens do not fit into a context of 24"):
            transformer.generate(MODEL, TOKENS[:20], 6)


class TestMatmul:
    @pytest.mark.parametrize("k", [1, 1024, 1025, 4095])
    def test_exact_at_the_extremes(self, k: int) -> None:
        x = np.full((3, k), -128)
        x[1], x[2] = 127, np.random.default_rng(k).integers(-128, 128, k)
        w = np.full((k, 3), -128, np.int8)
        w[:, 1] = 127
        w[:, 2] = np.random.default_rng(k + 1).integers(-128, 128, k)
        np.testing.assert_array_equal(transformer.matmul(x, w), x @ w.astype(np.int64))


@pytest.mark.parametrize("card", [CARD, LLAMA, OPT], ids=lambda card: card.name)
def test_close_to_the_float_model(card: ModelCard) -> None:
    draw, card = np.random.default_rng(0), card.model_copy(update={"width": 32, "ffn": 64})
    weights = {}
    for name, shape in weight_shapes(card).items():
        norm = ".ln_" in f".{name}"
        mean = 1.0 if norm and name.endswith("weight") else 0.0
        weights[name] = (mean + draw.normal(0, 0.2, shape)).astype(np.float32)
    tokens = draw.integers(0, card.vocabulary, 24)
    ranges = observe_ranges(weights, card, draw.integers(0, card.vocabulary, 24 * 8))
    model = quantise(weights, card, ranges)
    seen, real = Seen(), {}
    x = transformer.forward(model, transformer.KVCache(model), tokens, seen)
    float_transformer.forward(weights, card, tokens, observe=lambda name, v: real.update({name: v}))

    def error(found: np.ndarray, exact: np.ndarray) -> float:
        return math.sqrt(np.square(found - exact).mean() / np.square(exact).mean())

    limit = 0.08 if card.gated else 0.05  # products of two have longer tails
    assert error(transformer.logits(model, x) * model.scales["logits"], real["lm_head"]) < limit
    for i in range(2):
        for name, source in (("residual_1", "add_1"), ("residual_2", "add_2")):
            value = seen.parts[i, name][0] * model.scales["residual"]
            assert error(value, real[f"h{i}.{source}"]) < limit
        for name in ("k", "v", "q", "context", "hidden"):
            source = "act" if name == "hidden" else name
            value = seen.parts[i, name][0] * model.scales[f"h{i}.{source}"]
            exact = real[f"h{i}.{source}"]
            if card.position == "rotary" and name in "kq":  # pairs are neighbours in the integers
                exact = real[f"h{i}.{source}_rotary"].reshape(24, -1, 2, card.head_size // 2)
                exact = exact.swapaxes(2, 3).reshape(24, -1)
            assert error(value, exact) < limit, (i, name)
