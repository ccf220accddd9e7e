"""Text to token ids and back: one token per ASCII character, or ids written as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from designs.cards import ModelCard
from designs.errors import DesignError


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
        self.vocabulary = vocabulary

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


def tokenizer_for(card: ModelCard) -> ByteTokenizer | None:
    """Return the tokenizer that comes with a model, or None: then prompts are token ids."""
    return ByteTokenizer(card.vocabulary) if card.tokenizer == "bytes" else None


def encode_prompt(card: ModelCard, prompt: str) -> list[int]:
    """Return the token ids of a prompt: text, or ids if the model comes without a tokenizer.

    Raises
    ------
    DesignError
        If the prompt is empty, has a character outside the vocabulary, or is not a list of ids.
    """
    tokenizer = tokenizer_for(card)
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
                f"them (464,3290,318), but entry {position} is {entry[:40]!r}"
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
