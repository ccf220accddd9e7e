# SPDX-License-Identifier: Apache-2.0
"""Pruning and rounding: always storable, and better the more a method knows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designs.cards import load_model_card
from designs.catalogue import ROOT
from designs.checkpoint import Checkpoint
from designs.errors import DesignError
from designs.quantised import load, save
from designs.tokenizer import ByteTokenizer
from designs.weight_format import INT8, SPARSITIES, WeightFormat
from generators.compress import METHODS, Compression, compress, matrices, stored_bytes
from generators.mixed import choose
from generators.quantise import quantise
from sim.calibrate import observe_ranges
from sim.perplexity import golden_perplexity

LEAST = np.full(6, 1e-9)
FORMATS = [
    WeightFormat(bits, group, n, m, share)
    for bits, group in ((8, 0), (4, 32), (4, 64))
    for n, m in ((1, 1), *SPARSITIES)
    for share in ((1, 2) if n < m else (1,))
]
BLOCKS = [
    WeightFormat(block=8, keep=50),
    WeightFormat(4, 32, block=16, keep=30),
    WeightFormat(4, 64, 2, 4, 2, block=8, keep=40),
]


def example(seed: int, k: int = 64, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and inputs that depend on each other and are of very different sizes."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(0, 1, (200, k)) @ draw.normal(0, 1, (k, k)) * draw.lognormal(0, 1, k)
    return draw.normal(0, 0.1, (k, n)), mixed


def output_error(weight: np.ndarray, inputs: np.ndarray, found: tuple) -> float:
    integers, scale = found
    return float(np.square(inputs @ (integers * scale - weight)).mean())


class TestCompress:
    @pytest.mark.parametrize("form", FORMATS + BLOCKS, ids=str)
    @pytest.mark.parametrize("method", ["gptq", "wanda", "magnitude"])
    def test_storable_and_near(self, form: WeightFormat, method: str) -> None:
        weight, inputs = example(1)
        integers, scale = compress("x", weight, form, method, inputs, LEAST)
        form.check("x", integers)
        assert np.abs(integers).max() <= form.limit
        kept = integers != 0
        assert kept.mean() <= form.n / form.m * (form.kept_inputs(64) / 64)
        if method == "gptq":
            return
        # What is kept is rounded: half a step of the largest factor, or cut off at 7 of them.
        error = np.abs(integers * scale - weight)[kept]
        assert error.max() <= (
            0.51 * scale.max() if form.bits == 8 else 0.25 * np.abs(weight).max()
        )

    @pytest.mark.parametrize("form", [f for f in FORMATS if f.share == 1] + BLOCKS[:2], ids=str)
    def test_methods_in_the_order_of_what_they_know(self, form: WeightFormat) -> None:
        if form == INT8:
            return
        errors = {"gptq": 0.0, "wanda": 0.0, "magnitude": 0.0}
        for seed in range(4):
            weight, inputs = example(seed)
            for method in errors:
                found = compress("x", weight, form, method, inputs, LEAST)
                errors[method] += output_error(weight, inputs, found)
        assert errors["gptq"] < 0.8 * min(errors["wanda"], errors["magnitude"])
        if form.sparse or form.block:
            assert errors["wanda"] < errors["magnitude"]

    @settings(max_examples=30, deadline=None)
    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from(FORMATS + BLOCKS),
        st.sampled_from([1.0, 0.3, 0.0]),
    )
    def test_any_weights_are_storable(self, seed: int, form: WeightFormat, share: float) -> None:
        """Also those with rows of zeros, outliers and odd numbers of outputs."""
        draw = np.random.default_rng(seed)
        weight = draw.standard_t(2, (64, 5)) * (draw.random((64, 5)) < share)
        inputs = draw.normal(0, 1, (20, 64)) * (draw.random(64) < 0.9)
        for method in ("gptq", "wanda", "magnitude"):
            integers, scale = compress("x", weight, form, method, inputs, LEAST[:5])
            form.check("x", integers)
            assert np.isfinite(scale).all()

    @pytest.mark.parametrize("method", sorted(METHODS))
    def test_a_sparse_checkpoint_keeps_its_zeros(self, method: str) -> None:
        weight, inputs = example(2)
        form = WeightFormat(8, n=2, m=4)
        weight *= np.arange(64)[:, None] % 4 < 2
        integers, _ = compress("x", weight, form, method, inputs, LEAST)
        assert (integers[weight == 0] == 0).all()
        assert (integers != 0).mean() > 0.45

    @pytest.mark.parametrize("method", sorted(METHODS))
    def test_a_checkpoint_keeps_its_blocks(self, method: str) -> None:
        weight, inputs = example(2)
        form = WeightFormat(block=16, keep=50)
        weight *= (
            np.arange(64)[:, None] % 32 < 16
        ) * 1e-3  # small ones, beside which there is nothing
        integers, _ = compress("x", weight, form, method, inputs, LEAST)
        assert (integers[weight == 0] == 0).all()
        assert (integers != 0).mean() > 0.45

    def test_second_order_drops_the_block_that_others_make_up_for(self) -> None:
        """Inputs of block 1 are those of block 0 once more: their weights can move there, larger ones cannot."""
        draw = np.random.default_rng(4)
        inputs = draw.normal(0, 1, (400, 24))
        inputs[:, 8:16] = inputs[:, :8] + 0.01 * draw.normal(0, 1, (400, 8))
        weight = np.repeat([1.0, 1.0, 0.5], 8)[:, None] * draw.normal(0, 1, (24, 6))
        form = WeightFormat(block=8, keep=50)  # two of three
        kept = {
            method: (compress("x", weight, form, method, inputs, LEAST)[0] != 0).any(axis=1)
            for method in ("gptq", "magnitude")
        }
        assert kept["magnitude"].reshape(3, 8).any(axis=1).tolist() == [True, True, False]
        assert kept["gptq"].reshape(3, 8).any(axis=1)[2]

    def test_blocks_that_are_kept_make_up_for_all_others(self) -> None:
        """Also for those behind them, whose inputs are theirs once more."""
        draw = np.random.default_rng(5)
        inputs = draw.normal(0, 1, (400, 16))
        inputs[:, 8:] = inputs[:, :8]
        weight = draw.normal(0, 1, (16, 6)) * np.repeat([1.0, 0.9], 8)[:, None]
        found = compress("x", weight, WeightFormat(block=8, keep=50), "gptq", inputs, LEAST)
        assert output_error(weight, inputs, found) < 1e-3 * np.square(inputs @ weight).mean()

    def test_keep_names_what_is_not_sparse(self) -> None:
        weight, inputs = example(2)
        weight[:40] *= (np.arange(40) % 4 < 2)[:, None]
        with pytest.raises(
            DesignError, match=r"h1\.q is not 2:4: row 0, block 10 \(inputs 40 to 43\)"
        ):
            compress("h1.q", weight, WeightFormat(8, n=2, m=4), "keep", inputs, LEAST)

    def test_8_bits_in_a_stream_of_4(self) -> None:
        weight, inputs = example(3)
        limit = INT8.limit_in(WeightFormat(4, 64))
        integers, _ = compress("x", weight, INT8, "gptq", inputs, LEAST, limit)
        assert np.abs(integers).max() == limit == 119


@pytest.fixture(scope="module")
def tiny():
    """The shipped model's weights, card and calibration, and what a compression makes of it."""
    card = load_model_card("tiny-gpt2")
    assert card.checkpoint_folder is not None
    weights = Checkpoint.open(card.checkpoint_folder).weights(card)
    known, text = (
        ByteTokenizer(128).encode((ROOT / "texts" / f"kjv-{name}.txt").read_text())
        for name in ("calibration", "heldout")
    )
    ranges = observe_ranges(weights, card, known[:4000])

    def run(compression: Compression | None):
        model = quantise(weights, card, ranges, compression=compression)
        return model, golden_perplexity(model, text[:3000], window=256, stride=128).perplexity

    return weights, card, ranges, run


class TestModel:
    """The shipped model: what each choice costs."""

    def test_perplexity(self, tiny) -> None:
        measure = tiny[-1]
        _, int8 = measure(None)
        _, four = measure(Compression(WeightFormat(4, 32), "gptq"))
        _, nearest = measure(Compression(WeightFormat(4, 32), "magnitude"))
        assert int8 < four < nearest < 1.2 * int8
        assert four < 1.08 * int8

    def test_formats_travel_with_the_model(self, tiny, tmp_path) -> None:
        measure = tiny[-1]
        sparse = WeightFormat(4, 64, 2, 4, 2)
        mixed = Compression(sparse, "wanda", {"lm_head": INT8, "h1.fc2": WeightFormat(4, 64)})
        model, _ = measure(mixed)
        formats = {name: part.format for name, part in matrices(model)}
        assert formats["lm_head"] == INT8
        assert formats["h1.fc2"] == WeightFormat(4, 64)
        assert formats["h0.fc2"] == formats["h3.k"] == sparse
        each = (
            2.5 + 4 / 64
        )  # in a sparse stream, four beats of it for an int8 step and two for a dense one
        beats = 128 * 64 * 4 + 64 * 256 * 2 + 4 * 12 * 64 * 64 - 64 * 256
        assert stored_bytes(model, sparse) == pytest.approx(beats * each / 8)
        save(model, tmp_path / "model.npz")
        assert load(tmp_path / "model.npz") == model


class TestTensors:
    """Matrices in formats of their own."""

    stream = WeightFormat(4, 64, 2, 4, 2)

    def test_parse(self) -> None:
        found = Compression.parse_tensors("lm_head=int8,h3.fc2=int4, q=int8:2:4", self.stream)
        assert found == {
            "lm_head": INT8, "h3.fc2": WeightFormat(4, 64), "q": WeightFormat(8, n=2, m=4, share=2),
        }  # fmt: skip
        asked = Compression(self.stream, tensors=found)
        assert asked.of("fc2", 3) == asked.of("h3.fc2") == WeightFormat(4, 64)
        assert asked.of("fc2", 2) == asked.of("fc2") == self.stream
        assert asked.of("h1.q") == asked.of("q", 1) == found["q"]
        assert Compression.parse_tensors(asked.option(), self.stream) == found
        assert Compression.from_dict(asked.to_dict()) == asked
        assert asked.layered(4) and not Compression(self.stream).layered(4)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("head=int8", r'--tensors takes parts like lm_head=int8, .*, not "head=int8"'),
            ("fc2", 'not "fc2"'),
            ("fc2=int16", "weights are int8 or int4"),
            ("fc2=int8:1:4", "fc2 in int8 1:4/2 cannot travel in a stream of int4 g64 2:4/2"),
        ],
    )
    def test_parse_wrong(self, text: str, message: str) -> None:
        with pytest.raises(DesignError, match=message):
            Compression.parse_tensors(text, self.stream)

    def test_a_layer_that_is_not_there(self) -> None:
        asked = Compression(self.stream, tensors={"h4.q": INT8})
        with pytest.raises(DesignError, match=r"names layer 4, but the model has 4: h0 to h3"):
            asked.layered(4)


class TestChoose:
    def test_spends_the_budget_where_it_helps(self, tiny) -> None:
        weights, card, ranges, measure = tiny
        stream = WeightFormat(4, 64, 2, 4)
        alone = Compression(stream)
        found = choose(weights, card, ranges, alone, 4.5)
        assert found.tensors
        model, better = measure(found)
        assert stored_bytes(model, stream) * 8 <= 4.5 * 204_800
        assert stored_bytes(model, stream) * 8 > 4.3 * 204_800
        _, plain = measure(alone)
        names = list(found.tensors)
        # As many matrices again, of the same sizes, but those that were not chosen.
        others = [n for n, p in matrices(model) if n not in names and p.weight.shape == (64, 64)]
        worse = {
            new: found.tensors[old]
            for new, old in zip(others, [n for n in names if "fc" not in n], strict=False)
        }
        assert better < plain
        assert better < measure(Compression(stream, tensors=worse))[1]

    def test_keeps_what_is_fixed(self, tiny) -> None:
        weights, card, ranges, _ = tiny
        asked = Compression(WeightFormat(4, 64), tensors={"lm_head": INT8})
        found = choose(weights, card, ranges, asked, 4.7)
        assert found.tensors["lm_head"] == INT8
        with pytest.raises(DesignError, match="a budget of 4 bits a weight is not enough for int4"):
            choose(weights, card, ranges, asked, 4.0)
