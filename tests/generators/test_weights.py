"""What the activations are calibrated on."""

from pathlib import Path

import pytest

from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from designs.progress import SilentProgress
from designs.tokenizer import ByteTokenizer
from generators.build import CALIBRATION
from generators.weights import calibration_tokens, quantise_checkpoint

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
        quantise_checkpoint(Path("nowhere"), card, CALIBRATION, observe, SilentProgress())  # type: ignore
