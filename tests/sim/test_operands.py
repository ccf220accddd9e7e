# SPDX-License-Identifier: Apache-2.0
"""The operands of a text are those whose products the golden model computes."""

import numpy as np
import pytest

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.quantised import QuantModel
from generators.quantise import random_quantised
from sim.golden import ops, transformer
from sim.operands import Operand, observe_operands

CARD = ModelCard(name="mine", layers=2, width=16, heads=2, ffn=64, vocabulary=50, context=12)


@pytest.fixture(scope="module")
def model() -> QuantModel:
    return random_quantised(CARD, 3)


def seen(model: QuantModel, tokens: list[int]) -> list[Operand]:
    found: list[Operand] = []
    observe_operands(model, tokens, found.append)
    return found


def test_products_are_those_of_the_golden_model(model: QuantModel) -> None:
    tokens = np.random.default_rng(0).integers(0, 50, 12).tolist()
    golden: dict[tuple[int, str], np.ndarray] = {}
    x = transformer.forward(
        model, transformer.KVCache(model), tokens, lambda i, n, v: golden.update({(i, n): v})
    )
    operands = seen(model, tokens)
    assert [o.name for o in operands if o.layer == 1] == [
        "ln_1", "q", "p", "q", "p", "context", "ln_2", "hidden",
    ]  # fmt: skip
    head = 0
    last = operands.pop()
    assert (last.layer, last.name) == (2, "ln_f")
    found = transformer.linear(last.rows.astype(np.int64), model.head, 16)
    np.testing.assert_array_equal(found, transformer.logits(model, x))
    for o in operands:
        assert o.rows.dtype == o.columns.dtype == np.int8
        layer, rows = model.layers[o.layer], o.rows.astype(np.int64)
        if o.name == "ln_1":
            for name in "kvq":
                found = transformer.linear(rows, getattr(layer, name), 8)
                np.testing.assert_array_equal(found, golden[o.layer, name])
        elif o.name == "q":
            part = slice(8 * (head % 2), 8 * (head % 2) + 8)
            np.testing.assert_array_equal(o.rows, golden[o.layer, "q"][:, part])
        elif o.name == "p":
            part = slice(8 * (head % 2), 8 * (head % 2) + 8)
            head += 1
            total = rows.sum(axis=1)
            m, s = transformer.reciprocal_rows(total, layer.context.multiplier, layer.context.shift)
            acc = transformer.matmul(rows, golden[o.layer, "v"][:, part])
            found = ops.requantise(acc, 0, m[:, None], s[:, None], 8)
            np.testing.assert_array_equal(found, golden[o.layer, "context"][:, part])
            assert not o.rows[np.arange(12) >= o.lengths[:, None]].any()
            assert o.lengths.tolist() == list(range(1, 13))
        elif o.name == "ln_2":
            np.testing.assert_array_equal(transformer.mlp(layer, rows), golden[o.layer, "hidden"])
        else:
            before, after, part = {
                "context": ("embed" if o.layer == 0 else "residual_2", "residual_1", layer.proj),
                "hidden": ("residual_1", "residual_2", layer.fc2),
            }[o.name]
            source = o.layer - (before == "residual_2" and o.name == "context")
            found = ops.residual_add(golden[source, before], transformer.linear(rows, part, 16))
            np.testing.assert_array_equal(found, golden[o.layer, after])


def test_multiply_accumulates(model: QuantModel) -> None:
    operands = seen(model, [1] * 5)
    weights = 5 * (2 * (4 * 16 * 16 + 2 * 16 * 64) + 16 * 50)
    attention = 2 * 2 * 16 * (1 + 2 + 3 + 4 + 5)
    assert sum(o.macs for o in operands) == weights + attention


def test_a_long_text_is_cut_into_windows(model: QuantModel) -> None:
    tokens = np.random.default_rng(1).integers(0, 50, 17).tolist()
    whole, parts = seen(model, tokens), seen(model, tokens[:12]) + seen(model, tokens[12:])
    assert len(whole) == len(parts)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)


def test_refuses(model: QuantModel) -> None:
    with pytest.raises(DesignError, match="the text is empty"):
        seen(model, [])
    with pytest.raises(DesignError, match="token 50 is not in the vocabulary of 50"):
        seen(model, [50])
