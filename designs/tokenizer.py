# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back: by a Hugging Face tokenizer, or one token per ASCII character."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from designs.cards import ModelCard
from designs.errors import DesignError

if TYPE_CHECKING:
    import tokenizers

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
"""What a Hugging Face folder keeps its tokenizer in: the first, or the other two."""

END_OF_TEXT = "<|endoftext|>"
"""The token of GPT-2 that has a name; a vocab.json does not say that it is one."""

_BROKEN = "\ufffd"
"""What stands for bytes that are no character, or only the beginning of one."""

_UNFINISHED = 3
"""Most bytes of a character that is not complete."""


class Tokenizer(Protocol):
    """What every tokenizer does."""

    @property
    def vocabulary(self) -> int:
        """One more than the largest token id."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text; DesignError if it cannot be written in them."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; DesignError if one is outside the vocabulary."""
        ...

    def decode_token(self, token: int) -> str:
        """Return the text of one token id alone; `TextStream` is for one after the other."""
        ...


class ByteTokenizer:
    """One token per character; the id of a character is its code.

    Parameters
    ----------
    vocabulary : int
        Number of token ids: 128 for ASCII, at most 256.

    Raises
    ------
    DesignError
        If the vocabulary is not 1 to 256.
    """

    def __init__(self, vocabulary: int = 128) -> None:
        if not 1 <= vocabulary <= 256:
            raise DesignError(f"a byte tokenizer has 1 to 256 token ids, not {vocabulary}")
        self._vocabulary = vocabulary

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self._vocabulary

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text.

        Raises
        ------
        DesignError
            Names the first character outside the vocabulary, and where it is.
        """
        ids = [ord(character) for character in text]
        for position, code in enumerate(ids):
            if code >= self.vocabulary:
                raise DesignError(
                    f"character {text[position]!r} (U+{code:04X}) at position {position} is not in "
                    f"the vocabulary, which is the characters U+0000 to U+{self.vocabulary - 1:04X}"
                )
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids.

        Raises
        ------
        DesignError
            If an id is outside the vocabulary.
        """
        return "".join(self.decode_token(token) for token in ids)

    def decode_token(self, token: int) -> str:
        """Return the character of one token id.

        Raises
        ------
        DesignError
            If the id is outside the vocabulary.
        """
        check_ids([token], self.vocabulary)
        return chr(token)


class HuggingFaceTokenizer:
    """The tokenizer of a Hugging Face folder, run by the ``tokenizers`` library.

    Parameters
    ----------
    backend : tokenizers.Tokenizer
        Texts of any length are encoded whole: its truncation and padding are switched off.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._vocabulary = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Read a folder's tokenizer.json, or else vocab.json and merges.txt; None without them.

        Raises
        ------
        DesignError
            If a file is damaged, or one of the two is missing.
        """
        file, vocab, merges = (folder / name for name in TOKENIZER_FILES)
        if not file.is_file():
            if not vocab.is_file() and not merges.is_file():
                return None
            for here, other in ((vocab, merges), (merges, vocab)):
                if not here.is_file():
                    raise DesignError(f"{folder} has {other.name} but no {here.name}")
            file = vocab
        # Imported here: a build for a model without one does not wait for it.
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        try:
            if file is not vocab:
                return cls(Tokenizer.from_file(str(file)))
            backend = Tokenizer(models.BPE.from_file(str(vocab), str(merges)))
        except Exception as error:  # the library raises nothing more special
            raise DesignError(
                f"{file} is not a tokenizer: {' '.join(str(error).split())}"
            ) from None
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
        backend.decoder = decoders.ByteLevel()  # type: ignore
        if backend.token_to_id(END_OF_TEXT) is not None:
            backend.add_special_tokens([END_OF_TEXT])
        return cls(backend)

    @property
    def vocabulary(self) -> int:
        """One more than the largest token id, added tokens included."""
        return self._vocabulary

    @property
    def trained_vocabulary(self) -> int:
        """The same without the tokens that were added later: a model may not know those."""
        return 1 + max(self._backend.get_vocab(with_added_tokens=False).values(), default=-1)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a text, without special tokens around it.

        Raises
        ------
        DesignError
            If the text is not valid Unicode, or nothing of it is in the vocabulary.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DesignError(f"the text is not valid Unicode at position {error.start}") from None
        ids = self._backend.encode(text, add_special_tokens=False).ids
        if text and not ids:
            raise DesignError(f"the tokenizer knows nothing of the text {text[:40]!r}")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of token ids; bytes that are no character become U+FFFD.

        Raises
        ------
        DesignError
            If an id is outside the vocabulary.
        """
        ids = list(ids)
        check_ids(ids, self.vocabulary)
        return self._backend.decode(ids, skip_special_tokens=False)

    def decode_token(self, token: int) -> str:
        """Return the text of one token id; U+FFFD if it is only a part of a character.

        Raises
        ------
        DesignError
            If the id is outside the vocabulary.
        """
        return self.decode([token])

    def to_json(self) -> str:
        """Return the content of a tokenizer.json that `open` reads as this tokenizer."""
        return self._backend.to_str(pretty=False)


class TextStream:
    """Text of tokens as they come: the pieces joined are the text of all.

    A character whose bytes are spread over several tokens comes with the last of them.

    Parameters
    ----------
    tokenizer : Tokenizer, optional
        None shows ids; so are ids shown that the tokenizer does not know.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0

    def push(self, token: int) -> str:
        """Return the text that is certain now that this token has come; it may be empty."""
        if self._tokenizer is None or not 0 <= token < self._tokenizer.vocabulary:
            self._ids, self._shown = [], 0
            return f" {token}"
        self._ids.append(token)
        # A tokenizer may treat the first token of a text in another way, so all are decoded again.
        text = self._tokenizer.decode(self._ids)
        broken = len(text) - len(text.rstrip(_BROKEN))
        certain = len(text) - min(broken, _UNFINISHED)
        piece, self._shown = text[self._shown : certain], max(self._shown, certain)
        return piece


def tokenizer_for(card: ModelCard, folder: Path | None = None) -> Tokenizer | None:
    """Return the tokenizer that comes with a model, or None: then prompts are token ids.

    Parameters
    ----------
    card : ModelCard
    folder : Path, optional
        A Hugging Face folder or a build: its tokenizer files are used if the card names none.

    Raises
    ------
    DesignError
        If the folder's tokenizer is damaged, or has more token ids than the model.
    """
    if card.tokenizer == "bytes":
        return ByteTokenizer(card.vocabulary)
    found = None if folder is None else HuggingFaceTokenizer.open(folder)
    if found is not None and found.trained_vocabulary > card.vocabulary:
        raise DesignError(
            f"the tokenizer in {folder} has token ids 0 to {found.trained_vocabulary - 1}, but "
            f"model {card.name} has a vocabulary of {card.vocabulary}: it is another model's"
        )
    return found


def encode_prompt(card: ModelCard, prompt: str, folder: Path | None = None) -> list[int]:
    """Return the token ids of a prompt: text, or ids if the model comes without a tokenizer.

    Parameters
    ----------
    card : ModelCard
    prompt : str
    folder : Path, optional
        Where the model's tokenizer may be: see `tokenizer_for`.

    Raises
    ------
    DesignError
        If the prompt is empty, has a character outside the vocabulary, or is not a list of ids.
    """
    tokenizer = tokenizer_for(card, folder)
    if tokenizer is None:
        return parse_ids(prompt, card.vocabulary, card.name)
    if not prompt:
        raise DesignError("the prompt is empty; give at least one character")
    return tokenizer.encode(prompt)


def parse_ids(text: str, vocabulary: int, model: str = "the model") -> list[int]:
    """Read token ids written as numbers with commas between them: ``"464, 3290, 318"``.

    Raises
    ------
    DesignError
        Names the first entry that is not an id of the vocabulary, and its position.
    """
    ids = []
    for position, part in enumerate(text.split(",")):
        entry = part.strip()
        if not (entry.isascii() and entry.isdigit()):
            raise DesignError(
                f"{model} comes without a tokenizer, so a prompt is token ids with commas between "
                f"them (--ids 464,3290,318), but entry {position} is {entry[:40]!r}"
            )
        ids.append(int(entry))
    check_ids(ids, vocabulary)
    return ids


def check_ids(ids: Sequence[int], vocabulary: int) -> None:
    """Raise a DesignError that names the first id outside the vocabulary, if there is one."""
    for position, token in enumerate(ids):
        if not 0 <= token < vocabulary:
            raise DesignError(
                f"token id {token} at position {position} is not in the vocabulary; "
                f"ids are 0 to {vocabulary - 1}"
            )
