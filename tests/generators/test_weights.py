# SPDX-License-Identifier: Apache-2.0
"""What the activations are calibrated on, and how integers are stored."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from designs.progress import SilentProgress
from designs.tokenizer import ByteTokenizer
from designs.transformer import weight_shapes
from designs.weight_format import INT8, WeightFormat
from generators.build import CALIBRATION
from generators.compress import Compression
from generators.image import memory_map
from generators.weights import (
    Calibrated,
    Calibration,
    calibrate_checkpoint,
    calibration_tokens,
    quantise_checkpoint,
    write_weights,
)
from sim.calibrate import observe_ranges

TINY = load_model_card("tiny-gpt2")


class TestTokens:
    def test_a_small_model_reads_the_whole_text(self) -> None:
        tokens, calibration = calibration_tokens(TINY, ByteTokenizer(), CALIBRATION)
        assert tokens == [ord(c) for c in CALIBRATION.read_text()]
        assert calibration.to_dict() == {"source": "kjv-calibration.txt", "tokens": len(tokens)}
        assert str(calibration) == f"{len(tokens):,} tokens of kjv-calibration.txt"

    @pytest.mark.parametrize(
        ("model", "least", "most"),
        [("gpt2-medium", 2000, 2100), ("gpt2-large", 900, 1000), ("gpt2-xl", 512, 512)],
    )
    def test_a_large_model_reads_its_beginning(self, model: str, least: int, most: int) -> None:
        tokens, calibration = calibration_tokens(
            load_model_card(model), ByteTokenizer(), CALIBRATION
        )
        assert least <= len(tokens) == calibration.tokens <= most
        assert tokens == [ord(c) for c in CALIBRATION.read_text()[: len(tokens)]]

    def test_without_a_tokenizer_they_are_random_and_it_says_so(self) -> None:
        tokens, calibration = calibration_tokens(TINY, None, CALIBRATION)
        assert calibration.is_random
        assert str(calibration) == "2,048 random token ids"
        assert (min(tokens), max(tokens)) == (0, 127)
        assert calibration_tokens(TINY, None, CALIBRATION)[0] == tokens
        assert calibration_tokens(TINY, None, CALIBRATION, seed=1)[0] != tokens

    def test_a_tokenizer_beyond_the_model(self) -> None:
        card = TINY.model_copy(update={"vocabulary": 100})
        with pytest.raises(DesignError, match=r"token id 1\d\d at position \d+ is not in"):
            calibration_tokens(card, ByteTokenizer(), CALIBRATION)


def test_an_unknown_activation_is_found_before_the_weights_are_read() -> None:
    card = ModelCard(
        name="s", layers=1, width=8, heads=1, ffn=8, vocabulary=9, context=8, activation="gelu"
    )

    def observe(*arguments: object, **options: object) -> None:
        raise AssertionError

    with pytest.raises(DesignError, match="model s has activation gelu; supported are gelu_new"):
        calibrate_checkpoint(Path("nowhere"), card, CALIBRATION, observe, SilentProgress())  # type: ignore


class TestStored:
    """Integers go to their file layer by layer, and from there into the image."""

    def given(self, layers: int) -> Calibrated:
        card = ModelCard(
            name="deep", layers=layers, width=128, heads=4, ffn=512, vocabulary=32, context=16
        )
        draw = np.random.default_rng(0)
        weights = {
            name: draw.normal(".ln_" in f".{name}", 0.1, shape).astype(np.float32)
            for name, shape in weight_shapes(card).items()
        }
        ranges = observe_ranges(weights, card, list(range(32)))
        return Calibrated(card, weights, ranges, Calibration("a text", 32), None)

    @pytest.mark.parametrize("form", [INT8, WeightFormat(4, 64, 2, 4, 2)], ids=str)
    def test_is_the_same_model(self, form: WeightFormat, tmp_path: Path) -> None:
        given, asked = self.given(2), Compression(form)
        stored = quantise_checkpoint(given, SilentProgress(), asked, tmp_path / "a.npz").model
        assert stored == quantise_checkpoint(given, SilentProgress(), asked).model
        assert set(stored.scales) >= {"h0.ln_1", "h1.act", "logits"}

    def test_memory_does_not_grow_with_layers(self, tmp_path: Path) -> None:
        """The peak of quantising and writing an image, which would grow by the integers of each layer."""
        given = {layers: self.given(layers) for layers in (2, 10)}
        peaks = {layers: self.peak(given[layers], tmp_path) for layers in (2, 2, 10)}
        one_layer = 4 * 128 * 128 + 2 * 128 * 512
        assert peaks[10] - peaks[2] < one_layer

    def peak(self, given: Calibrated, folder: Path) -> int:
        memory = memory_map(given.card, lanes=16, ports=2, port_bytes=16)
        tracemalloc.start()
        quantised = quantise_checkpoint(given, SilentProgress(), None, folder / "quantised.npz")
        write_weights(folder, quantised, memory, SilentProgress())
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found
