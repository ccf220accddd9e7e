# SPDX-License-Identifier: Apache-2.0
"""Text to ids and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from designs.tokenizer import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    TextStream,
    encode_prompt,
    parse_ids,
    tokenizer_for,
)

CARD = ModelCard(name="small", layers=1, width=8, heads=1, ffn=8, vocabulary=300, context=8)
TEXT = "In the beginning God created the heaven and the earth. And the earth was without form. "


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with vocab.json and merges.txt, as GPT-2 has them."""
    folder = tmp_path_factory.mktemp("bpe")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=270,  # 256 bytes, 13 merges and the end of a text
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    tokenizer.model.save(str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["merges.txt", "vocab.json"]
    return folder


def open_folder(folder: Path) -> HuggingFaceTokenizer:
    tokenizer = HuggingFaceTokenizer.open(folder)
    assert tokenizer is not None
    return tokenizer


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


class TestHuggingFace:
    @settings(deadline=None)  # the library is loaded by the first one
    @given(text=st.text())
    def test_there_and_back(self, bpe: Path, text: str) -> None:
        tokenizer = open_folder(bpe)
        assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_merges_and_special_tokens(self, bpe: Path) -> None:
        tokenizer = open_folder(bpe)
        ids = tokenizer.encode("the earth<|endoftext|>")
        assert len(ids) < len("the earth")
        assert tokenizer.decode_token(ids[-1]) == "<|endoftext|>"
        assert tokenizer.vocabulary == tokenizer.trained_vocabulary == 270

    def test_both_forms_of_a_folder_are_the_same(self, bpe: Path, tmp_path: Path) -> None:
        tokenizer = open_folder(bpe)
        (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        again = open_folder(tmp_path)
        assert again.encode(TEXT) == tokenizer.encode(TEXT)
        assert again.to_json() == tokenizer.to_json()

    def test_the_library_reads_a_text_as_it_does_by_itself(self, bpe: Path) -> None:
        """Decoder and pre-tokenizer of GPT-2 are what the library calls ByteLevelBPETokenizer."""
        from tokenizers import ByteLevelBPETokenizer

        peer = ByteLevelBPETokenizer.from_file(str(bpe / "vocab.json"), str(bpe / "merges.txt"))
        assert open_folder(bpe).encode(f"{TEXT} it's 1,234 \n\n\u20ac") == (
            peer.encode(f"{TEXT} it's 1,234 \n\n\u20ac").ids
        )

    def test_truncation_and_padding_of_the_file_are_off(self, bpe: Path, tmp_path: Path) -> None:
        data = json.loads(open_folder(bpe).to_json())
        data["truncation"] = {
            "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0,
        }  # fmt: skip
        (tmp_path / "tokenizer.json").write_text(json.dumps(data))
        assert open_folder(tmp_path).encode(TEXT) == open_folder(bpe).encode(TEXT)

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        assert HuggingFaceTokenizer.open(tmp_path) is None

    @pytest.mark.parametrize("text", ["", "{}", "[1]", "{broken"])
    def test_a_damaged_file(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(DesignError, match=r"tokenizer.json is not a tokenizer: \w+"):
            HuggingFaceTokenizer.open(tmp_path)

    @pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
    def test_half_of_the_files(self, bpe: Path, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes((bpe / name).read_bytes())
        with pytest.raises(DesignError, match=f"has {name} but no "):
            HuggingFaceTokenizer.open(tmp_path)

    def test_text_that_is_none(self, bpe: Path) -> None:
        with pytest.raises(DesignError, match="not valid Unicode at position 2"):
            open_folder(bpe).encode("ab\udce9")

    def test_text_of_which_nothing_is_known(self, tmp_path: Path) -> None:
        backend = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
        (tmp_path / "tokenizer.json").write_text(backend.to_str())
        with pytest.raises(DesignError, match="knows nothing of the text 'xyz'"):
            open_folder(tmp_path).encode("xyz")

    @pytest.mark.parametrize("token", [-1, 270])
    def test_decode_checks_the_vocabulary(self, bpe: Path, token: int) -> None:
        with pytest.raises(DesignError, match=f"token id {token} .* 0 to 269"):
            open_folder(bpe).decode_token(token)

    def test_that_of_another_model(self, bpe: Path) -> None:
        assert tokenizer_for(CARD, bpe) is not None  # fewer: some models pad their vocabulary
        card = CARD.model_copy(update={"vocabulary": 269})
        with pytest.raises(DesignError, match=r"0 to 269, but model small has a vocabulary of 269"):
            tokenizer_for(card, bpe)

    def test_the_card_goes_before_the_folder(self, bpe: Path) -> None:
        assert isinstance(tokenizer_for(load_model_card("tiny-gpt2"), bpe), ByteTokenizer)


class TestStream:
    @settings(deadline=None)  # the library is loaded by the first one
    @given(text=st.text())
    def test_pieces_are_the_text(self, bpe: Path, text: str) -> None:
        tokenizer = open_folder(bpe)
        stream = TextStream(tokenizer)
        pieces = [stream.push(token) for token in tokenizer.encode(text + ".")]
        assert "".join(pieces) == text + "."

    def test_a_character_comes_whole(self, bpe: Path) -> None:
        tokenizer = open_folder(bpe)
        stream = TextStream(tokenizer)
        ids = tokenizer.encode("\u20ac!")
        assert [stream.push(token) for token in ids] == ["", "", "\u20ac", "!"]

    @settings(deadline=None)  # the library is loaded by the first one
    @given(ids=st.lists(st.integers(0, 269)))
    def test_whatever_comes_it_is_what_decode_says(self, bpe: Path, ids: list[int]) -> None:
        tokenizer = open_folder(bpe)
        stream = TextStream(tokenizer)
        point = tokenizer.encode(".")
        pieces = [stream.push(token) for token in [*ids, *point]]
        assert "".join(pieces) == tokenizer.decode([*ids, *point])

    def test_ids_where_there_is_no_text(self, bpe: Path) -> None:
        assert TextStream(None).push(17) == " 17"
        stream = TextStream(open_folder(bpe))
        (letter,) = open_folder(bpe).encode("a")
        assert [stream.push(token) for token in (letter, 299, letter)] == ["a", " 299", "a"]


class TestPrompts:
    def test_of_a_folder(self, bpe: Path) -> None:
        ids = encode_prompt(CARD, "the earth", bpe)
        assert open_folder(bpe).decode(ids) == "the earth"
        with pytest.raises(DesignError, match="prompt is empty"):
            encode_prompt(CARD, "", bpe)

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
            ("The dog", "gpt2 comes without a tokenizer.*--ids 464.*entry 0 is 'The dog'"),
            ("1,,2", "entry 1 is ''"),
            ("1,-2", "entry 1 is '-2'"),
            ("1,\u0662", "entry 1 is"),
            ("1,50257", "token id 50257 at position 1 .* 0 to 50256"),
        ],
    )
    def test_bad_ids(self, text: str, message: str) -> None:
        with pytest.raises(DesignError, match=message):
            parse_ids(text, 50257, "gpt2")
