"""Text to ids and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from designs.cards import load_model_card
from designs.errors import DesignError
from designs.tokenizer import ByteTokenizer, encode_prompt, parse_ids, tokenizer_for


class TestByteTokenizer:
    @given(st.text(st.characters(max_codepoint=127)))
    def test_there_and_back(self, text: str) -> None:
        tokenizer = ByteTokenizer()
        assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_names_the_first_character_outside(self) -> None:
        with pytest.raises(DesignError, match=r"'\u00e9' \(U\+00E9\) at position 3 .* U\+007F"):
            ByteTokenizer().encode("caf\u00e9\u00e9")

    @pytest.mark.parametrize("token", [-1, 128])
    def test_decode_checks_the_vocabulary(self, token: int) -> None:
        with pytest.raises(DesignError, match=f"token id {token} .* 0 to 127"):
            ByteTokenizer().decode_token(token)

    @pytest.mark.parametrize("size", [0, 257])
    def test_vocabulary(self, size: int) -> None:
        with pytest.raises(DesignError, match="1 to 256"):
            ByteTokenizer(size)


class TestPrompts:
    def test_text(self) -> None:
        assert encode_prompt(load_model_card("tiny-gpt2"), "Go.") == [71, 111, 46]

    def test_ids(self) -> None:
        assert encode_prompt(load_model_card("gpt2"), "464, 3290,318") == [464, 3290, 318]
        assert tokenizer_for(load_model_card("gpt2")) is None

    def test_an_empty_prompt_is_refused(self) -> None:
        with pytest.raises(DesignError, match="prompt is empty"):
            encode_prompt(load_model_card("tiny-gpt2"), "")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("The dog", "gpt2 comes without a tokenizer.*entry 0 is 'The dog'"),
            ("1,,2", "entry 1 is ''"),
            ("1,-2", "entry 1 is '-2'"),
            ("1,\u0662", "entry 1 is"),
            ("1,50257", "token id 50257 at position 1 .* 0 to 50256"),
        ],
    )
    def test_bad_ids(self, text: str, message: str) -> None:
        with pytest.raises(DesignError, match=message):
            parse_ids(text, 50257, "gpt2")
