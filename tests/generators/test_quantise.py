# SPDX-License-Identifier: Apache-2.0
"""From float to integers: every factor, every range, and what it costs in perplexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from designs.cards import Family, ModelCard, load_model_card
from designs.catalogue import ROOT
from designs.checkpoint import Checkpoint
from designs.errors import DesignError
from designs.quantised import (
    Activation,
    LazyLayers,
    QuantLinear,
    QuantModel,
    Ranges,
    Scaling,
    load,
    save,
)
from designs.tokenizer import ByteTokenizer
from designs.transformer import weight_shapes
from generators.quantise import (
    QuantiseOptions,
    quantise,
    random_quantised,
    rotary_angles,
    scaling,
    scalings,
)
from sim.calibrate import observe_ranges
from sim.golden import transformer
from sim.perplexity import compare_perplexity, golden_perplexity

CARD = ModelCard(name="small", layers=2, width=16, heads=2, ffn=24, vocabulary=29, context=24)
Weights = dict[str, np.ndarray]


def random_weights(seed: int = 0, card: ModelCard = CARD) -> Weights:
    draw, weights = np.random.default_rng(seed), {}
    for name, shape in weight_shapes(card).items():
        mean = 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0
        weights[name] = (mean + draw.normal(0, 0.3, shape)).astype(np.float32)
    return weights


def calibrate(weights: Weights, card: ModelCard = CARD) -> Ranges:
    return observe_ranges(weights, card, np.random.default_rng(9).integers(0, 29, 200))


def shipped(name: str) -> tuple[ModelCard, Weights, list[int], list[int]]:
    """A shipped model, its calibration text, and the start of the held-out text."""
    card = load_model_card(name)
    assert card.checkpoint_folder is not None
    texts = [
        ByteTokenizer(128).encode((ROOT / "texts" / f"kjv-{name}.txt").read_text())
        for name in ("calibration", "heldout")
    ]
    weights = dict(Checkpoint.open(card.checkpoint_folder).weights(card))
    return card, weights, texts[0][:4000], texts[1][:4000]


@pytest.fixture(scope="module")
def tiny() -> tuple[ModelCard, Weights, list[int], list[int]]:
    return shipped("tiny-gpt2")


class TestScaling:
    @pytest.mark.parametrize("bits", [15, 16])
    def test_closest_of_normalised(self, bits: int) -> None:
        factor = 2.0 ** np.random.default_rng(0).uniform(-40, 14, 2000)
        multiplier, shift = scalings(factor, "x", bits)
        assert multiplier.min() >= 2 ** (bits - 1)
        assert multiplier.max() < 2**bits
        assert np.abs(multiplier / 2.0**shift / factor - 1).max() <= 2.0**-bits

    def test_rounds_up_to_the_next_power(self) -> None:
        assert scaling(1 - 2.0**-20, "x") == Scaling(2**15, 15)
        assert scaling(1.0, "x", bits=15) == Scaling(2**14, 14)

    def test_reaches_both_ends_of_the_shift(self) -> None:
        assert scaling(2.0**14, "x").shift == 1
        assert scaling(2.0**-48, "x").shift == 63

    @pytest.mark.parametrize("factor", [2.0**15, 2.0**-49, 0.0, -1.0, np.nan, np.inf])
    def test_refuses(self, factor: float) -> None:
        with pytest.raises(DesignError, match=r"h3\.proj: the factor .* cannot be a 16-bit"):
            scaling(factor, "h3.proj")


class TestQuantise:
    weights = random_weights()
    ranges = calibrate(weights)
    model = quantise(weights, CARD, ranges, QuantiseOptions(smoothing=0))

    @staticmethod
    def real(part: QuantLinear, scale_in: float, scale_out: float) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias that the integers stand for, and the step of each weight."""
        step = part.multiplier / 2.0**part.shift * scale_out / scale_in
        return part.weight * step, part.bias * (step * scale_in)

    @pytest.mark.parametrize("name", ["k", "v", "q", "proj", "fc1", "fc2"])
    def test_linear_stands_for_the_float_one(self, name: str) -> None:
        scales, part = self.model.scales, getattr(self.model.layers[1], name)
        weight, bias = self.weights[f"h1.{name}.weight"], self.weights[f"h1.{name}.bias"]
        inputs = {"proj": "h1.context", "fc1": "h1.ln_2", "fc2": "h1.act"}
        outputs = {"proj": "residual", "fc2": "residual"}
        scale_in = scales[inputs.get(name, "h1.ln_1")]
        scale_out = 2.0**-10 if name == "fc1" else scales[outputs.get(name, f"h1.{name}")]
        found, found_bias = self.real(part, scale_in, scale_out)
        step = np.abs(weight).max(axis=0) / 127
        assert (np.abs(found - weight) <= step * 0.51).all()
        assert (np.abs(found_bias - bias) <= step * scale_in + 1e-4 * np.abs(bias)).all()
        assert (np.abs(part.weight).max(axis=0) == 127).all()

    def test_norm_stands_for_the_float_one(self) -> None:
        norm, scale = self.model.layers[0].ln_2, self.model.scales["h0.ln_2"]
        for name, found in (("weight", norm.gamma), ("bias", norm.beta)):
            real = self.weights[f"h0.ln_2.{name}"]
            np.testing.assert_allclose(found * scale / 2.0**norm.gamma_shift, real, atol=1e-4)
        peak = max(np.abs(norm.gamma).max(), np.abs(norm.beta).max())
        assert peak >= 2**14 or norm.gamma_shift == 15, "the shift could be larger"
        epsilon = 1e-5 * 16**2 / self.model.scales["residual"] ** 2
        assert norm.epsilon == max(1, round(epsilon))

    def test_attention_factors(self) -> None:
        scales, layer = self.model.scales, self.model.layers[0]
        score = scales["h0.q"] * scales["h0.k"] / np.sqrt(8) * np.log2(np.e) * 256
        assert layer.scores.factor == pytest.approx(score, rel=2**-16)
        assert layer.context.factor == pytest.approx(
            scales["h0.v"] / scales["h0.context"], rel=2**-15
        )
        assert 2**14 <= layer.context.multiplier < 2**15
        assert layer.activation.factor == pytest.approx(2.0**-10 / scales["h0.act"], rel=2**-16)

    def test_embeddings_and_residual_stream(self) -> None:
        step = self.model.scales["residual"]
        for name, table in (("wte", self.model.wte), ("wpe", self.model.wpe)):
            np.testing.assert_allclose(
                table * step, self.weights[f"{name}.weight"], atol=0.51 * step
            )
        stream = [s for n, s in self.ranges.tensors.items() if n == "embed" or ".add_" in n]
        assert len(stream) == 5
        assert max(s.peak for s in stream) * 1.25 == pytest.approx(step * 32767)

    def test_nothing_saturates_16_bits(self) -> None:
        seen: dict[str, int] = {}

        def observe(layer: int, name: str, value: np.ndarray) -> None:
            seen[name] = max(seen.get(name, 0), int(np.abs(value).max()))

        tokens = np.random.default_rng(9).integers(0, 29, 200)
        for start in range(0, 200, 24):
            cache = transformer.KVCache(self.model)
            x = transformer.forward(self.model, cache, tokens[start : start + 24], observe)
            transformer.next_token(self.model, x[-1], observe)
        for name in ("embed", "residual_1", "residual_2", "logits"):
            assert seen[name] < 32000, name
        assert seen["residual_2"] > 20000

    def test_a_large_bias_on_small_weights_fits(self) -> None:
        weights = dict(self.weights)
        weights["h0.fc2.weight"] = weights["h0.fc2.weight"].copy()
        weights["h0.fc2.weight"][:, 3] = 1e-9
        weights["h0.fc2.weight"][:, 4] = 0
        weights["h0.fc2.bias"] = np.full(16, 2.0, np.float32)
        weights["h0.fc2.bias"][5] = 0
        model = quantise(weights, CARD, calibrate(weights))
        part = model.layers[0].fc2
        _, bias = self.real(part, model.scales["h0.act"], model.scales["residual"])
        np.testing.assert_allclose(bias[[3, 4]], 2.0, rtol=1e-3)
        assert abs(bias[5]) < 1e-3

    def test_a_channel_of_zeros(self) -> None:
        weights = dict(self.weights)
        for kind in ("weight", "bias"):
            part = weights[f"h0.q.{kind}"].copy()
            part[..., 2] = 0
            weights[f"h0.q.{kind}"] = part
        q = quantise(weights, CARD, calibrate(weights)).layers[0].q
        assert not q.weight[:, 2].any()
        assert q.bias[2] == 0

    def test_large_matrices_are_quantised_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = random_weights()
        ranges = calibrate(weights)
        whole = quantise(weights, CARD, ranges)
        monkeypatch.setattr("generators.quantise._PART", 100)  # 6 outputs of 16 inputs
        assert quantise(weights, CARD, ranges) == whole

    def test_an_untied_head(self) -> None:
        card = CARD.model_copy(update={"tied_head": False})
        draw = np.random.default_rng(4)
        head = draw.normal(0, 1, (29, 16)).astype(np.float32)
        weights = {**self.weights, "lm_head.weight": head}
        ranges = observe_ranges(weights, card, draw.integers(0, 29, 100))
        found = quantise(weights, card, ranges, QuantiseOptions(smoothing=0)).head.weight
        expected = np.rint(head.T / np.abs(head.T).max(axis=0) * 127)
        np.testing.assert_array_equal(found, expected.astype(np.int8))

    def test_refuses(self) -> None:
        card = CARD.model_copy(update={"activation": "gelu"})
        with pytest.raises(DesignError, match="activation gelu; supported are gelu_new, relu, si"):
            quantise(self.weights, card, self.ranges)
        with pytest.raises(DesignError, match="calibration has not seen embed"):
            quantise(self.weights, CARD, Ranges(0, {}))
        for wrong in ({"clip": "sum"}, {"headroom": 0.5}, {"smoothing": 2}):
            with pytest.raises(DesignError, match=next(iter(wrong))):
                QuantiseOptions(**wrong)  # type: ignore[arg-type]


LLAMA = ModelCard(
    name="small", family="llama", layers=2, width=32, heads=4, kv_heads=2, ffn=40, vocabulary=29,
    context=24,
)  # fmt: skip


class TestLlama:
    weights = random_weights(card=LLAMA)
    ranges = calibrate(weights, LLAMA)
    model = quantise(weights, LLAMA, ranges, QuantiseOptions(smoothing=0))

    def test_a_pair_becomes_neighbours(self) -> None:
        """Feature i and i + half of every head of k and q, but of no other product."""
        scales, layer = self.model.scales, self.model.layers[1]
        order = [8 * head + 4 * half + i for head in range(4) for i in range(4) for half in (0, 1)]
        for name, columns in (("q", order), ("k", order[:16]), ("v", range(16))):
            part: QuantLinear = getattr(layer, name)
            real = self.weights[f"h1.{name}.weight"][:, list(columns)]
            out = scales[f"h1.{name}"] / (1 if name == "v" else 32)
            found, _ = TestQuantise.real(part, scales["h1.ln_1"], out)
            assert (np.abs(found - real) <= np.abs(real).max(axis=0) / 127 * 0.51).all(), name

    def test_gate_and_factor(self) -> None:
        scales, layer = self.model.scales, self.model.layers[0]
        assert layer.up is not None
        peak = self.ranges["h0.fc1"].maximum[40:].max()
        step = peak * 1.25 / 32767
        found, _ = TestQuantise.real(layer.up, scales["h0.ln_2"], step)
        real = self.weights["h0.up.weight"]
        assert (np.abs(found - real) <= np.abs(real).max(axis=0) / 127 * 0.51).all()
        # A step of u times a step of up times 2**15 is a step of the hidden values.
        u = 2.0**-10 / layer.activation.factor
        assert u * step * 2**15 == pytest.approx(scales["h0.act"], rel=1e-4)
        assert layer.activation.kind == "silu"

    def test_norm_has_no_beta(self) -> None:
        assert not self.model.ln_f.beta.any()
        gamma = self.weights["ln_f.weight"] / self.model.scales["ln_f"]
        np.testing.assert_allclose(
            self.model.ln_f.gamma / 2.0**self.model.ln_f.gamma_shift, gamma, atol=0.01
        )

    def test_angles(self) -> None:
        found = rotary_angles(50, 6, 100.0) / 2.0**14
        angle = np.arange(50)[:, None] / 100.0 ** (np.arange(3) / 3)
        assert np.abs(found[:, ::2] - np.cos(angle)).max() <= 2**-15
        assert np.abs(found[:, 1::2] - np.sin(angle)).max() <= 2**-15
        np.testing.assert_array_equal(self.model.wpe, rotary_angles(24, 8, 10_000.0))


class TestCalibrate:
    def test_sees_what_there_is(self) -> None:
        weights, tokens = random_weights(), np.arange(60) % 29
        ranges = observe_ranges(weights, CARD, tokens)
        assert ranges.tokens == 60
        rows = np.concatenate(
            [
                weights["wte.weight"][part] + weights["wpe.weight"][: len(part)]
                for part in np.split(tokens, [24, 48])
            ]
        )
        np.testing.assert_array_equal(ranges["embed"].maximum, np.abs(rows).max(axis=0))
        known = {tuple(row) for row in rows.tolist()}
        sample = ranges["embed"].rows
        assert 50 <= len(sample) <= 70
        assert all(tuple(row) in known for row in sample.tolist())
        assert not any("scores" in name or "softmax" in name for name in ranges.tensors)

    def test_an_empty_text(self) -> None:
        with pytest.raises(DesignError, match="the calibration text is empty"):
            observe_ranges(random_weights(), CARD, [])


class TestPerplexity:
    @pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
    def test_within_3_percent(self, name: str) -> None:
        card, weights, calibration, held_out = shipped(name)
        model = quantise(weights, card, observe_ranges(weights, card, calibration))
        told: list[tuple[int, int]] = []
        found = compare_perplexity(
            model, weights, card, held_out, stride=256, progress=lambda *at: told.append(at)
        )
        assert found.reference.tokens == found.golden.tokens == len(held_out) - 1
        assert found.reference.perplexity < 4.5
        assert abs(found.worse_percent) < 3
        assert found.worse_percent == pytest.approx(
            100 * (found.golden.perplexity / found.reference.perplexity - 1)
        )
        assert told[-1] == (32, 32)

    def test_smoothing_copes_with_outliers(self, tiny: Any) -> None:
        card, weights, calibration, held_out = tiny
        weights, draw = dict(weights), np.random.default_rng(0)
        for i in range(card.layers):
            for norm, readers in (("ln_1", "qkv"), ("ln_2", ("fc1",))):
                factor = np.ones(card.width, np.float32)  # the same function, with outliers
                factor[draw.choice(card.width, 3, replace=False)] = 30
                for kind in ("weight", "bias"):
                    weights[f"h{i}.{norm}.{kind}"] = weights[f"h{i}.{norm}.{kind}"] * factor
                for reader in readers:
                    name = f"h{i}.{reader}.weight"
                    weights[name] = weights[name] / factor[:, None]
        ranges = observe_ranges(weights, card, calibration)
        plain, smooth = (
            golden_perplexity(
                quantise(weights, card, ranges, QuantiseOptions(smoothing=alpha)),
                held_out[:2000], window=256, stride=256,
            ).perplexity
            for alpha in (0, 0.5)
        )  # fmt: skip
        assert smooth < 0.8 * plain

    def test_refuses(self, tiny: Any) -> None:
        card, weights, calibration, _ = tiny
        model = random_quantised(card, 0)
        with pytest.raises(DesignError, match="a text must have at least 2 tokens, not 1"):
            compare_perplexity(model, weights, card, [1])
        with pytest.raises(DesignError, match="window must be 1 to the context of 256"):
            compare_perplexity(model, weights, card, calibration, window=257)


class TestRandom:
    @pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
    def test_activations_neither_vanish_nor_saturate(self, family: Family) -> None:
        card = ModelCard(
            name=family, family=family, layers=12, width=128, heads=4, kv_heads=2, ffn=512,
            vocabulary=29, context=64,
        )  # fmt: skip
        model = random_quantised(card, seed=7)

        def observe(layer: int, name: str, value: np.ndarray) -> None:
            low, high = (-32768, 32767) if "residual" in name or name == "logits" else (-128, 127)
            ends = ((value == low) | (value == high)).mean()
            if name in ("ln_1", "k", "v", "q", "context", "ln_2", "hidden"):
                assert 8 < value.std() < 64, (layer, name)
                assert ends < 0.02, (layer, name)
            elif "residual" in name:
                assert 1000 < value.std() < 8000, (layer, name)
                assert ends == 0, (layer, name)
            elif name == "logits":
                assert value.std() > 1000

        tokens = np.random.default_rng(0).integers(0, 29, 64)
        x = transformer.forward(model, transformer.KVCache(model), tokens, observe)
        transformer.next_token(model, x[-1], observe)
        alike = np.asarray(np.corrcoef(x))[~np.eye(64, dtype=bool)]
        assert np.abs(alike).mean() < 0.5, "all tokens look the same"

    def test_layers_come_from_the_seed_and_their_number(self) -> None:
        model, again = random_quantised(CARD, 3), random_quantised(CARD, 3, layers=2)
        assert model.layers[1] == again.layers[1]
        assert model.layers[0] != model.layers[1]
        assert model.layers[0] != random_quantised(CARD, 4).layers[0]
        assert random_quantised(CARD, 3, layers=1).layers[0] == model.layers[0]
        assert model == again

    def test_refuses(self) -> None:
        with pytest.raises(DesignError, match="a seed is 0 or more, not -1"):
            random_quantised(CARD, -1)
        with pytest.raises(DesignError, match="layers must be 1 to 2, not 3"):
            random_quantised(CARD, 0, layers=3)


class TestLazyLayers:
    def test_makes_what_is_asked_for_and_keeps_the_last(self) -> None:
        real, made = random_quantised(CARD, 1).layers, []
        layers = LazyLayers(2, lambda i: made.append(i) or real[i], keep=1)
        assert len(layers) == 2
        assert made == []
        assert layers[0] == real[0]
        assert layers[0] == real[0]
        assert made == [0]
        assert layers[-1] == real[1]
        assert layers[0] == real[0]
        assert made == [0, 1, 0]
        assert list(layers[1:]) == [real[1]]
        with pytest.raises(IndexError):
            layers[2]


class TestQuantModel:
    def test_file_round_trip(self, tmp_path: Path) -> None:
        weights = random_weights()
        for name, model in (
            ("real", quantise(weights, CARD, calibrate(weights))),
            ("random", random_quantised(CARD, 1)),
        ):
            file = tmp_path / f"{name}.npz"
            save(model, file)
            again = load(file, keep=1)
            assert again == model
            save(again, tmp_path / "again.npz")
            assert file.read_bytes() == (tmp_path / "again.npz").read_bytes()
            tokens = [1, 2, 3, 4]
            a, b = (transformer.forward(m, transformer.KVCache(m), tokens) for m in (model, again))
            np.testing.assert_array_equal(a, b)

    def test_difference_is_seen(self) -> None:
        a, b = random_quantised(CARD, 1), random_quantised(CARD, 1)
        head = a.head.weight.copy()
        head[0, 0] ^= 1
        changed = QuantLinear(head, b.head.bias, b.head.multiplier, b.head.shift)
        assert a == b
        assert a != QuantModel(**{**vars(b), "head": changed})

    def test_refuses_other_files(self, tmp_path: Path) -> None:
        file = tmp_path / "model.npz"
        with pytest.raises(DesignError, match=r"model\.npz is not a quantised model"):
            load(file)
        np.savez(file, a=np.zeros(3))
        with pytest.raises(DesignError, match=r"model\.npz is not a quantised model"):
            load(file)

    def test_refuses_bad_integers(self) -> None:
        model = random_quantised(CARD, 1)
        good = vars(model.head)
        for change, message in (
            ({"weight": good["weight"].astype(np.int16)}, r"weight must be int8 \[\*, \*\]"),
            (
                {"weight": np.full_like(good["weight"], -128)},
                "weight must be -127 to 127, not -128",
            ),
            ({"bias": good["bias"][:-1]}, r"bias must be int32 \[29\], not int32 \[28\]"),
            ({"bias": np.full_like(good["bias"], 2**31 - 1)}, "more than 32 bits"),
            ({"shift": np.zeros_like(good["shift"])}, "shift must be 1 to 63, not 0"),
        ):
            with pytest.raises(DesignError, match=message):
                QuantLinear(**{**good, **change})
        with pytest.raises(DesignError, match="multiplier must be 0 to 65535, not 65536"):
            Scaling(65536, 3)
        with pytest.raises(DesignError, match='activation "tanh" is not known'):
            Activation(1, 1, "tanh")
        with pytest.raises(DesignError, match='format "w4a8" is not known; known are w8a8'):
            QuantModel(**{**vars(model), "format": "w4a8"})
        with pytest.raises(DesignError, match=r"wte must be int16 \[29, 16\]"):
            QuantModel(**{**vars(model), "wte": model.wte[:-1]})
