# SPDX-License-Identifier: Apache-2.0
"""Boolean functions as liberty files write them, computed bit by bit on whole words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["Function", "Words", "parse"]

Words = NDArray[np.uint64]
"""64 vectors in a word."""

_ONES = np.uint64(2**64 - 1)
_JOIN = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
_TOKENS = re.compile(r"\s*([A-Za-z_][\w\[\]]*|[01!'()*&+|^])")


@dataclass(frozen=True)
class Function:
    """A function of named pins, as a tree.

    Attributes
    ----------
    kind : ``"name"``, ``"not"``, ``"and"``, ``"or"``, ``"xor"`` or ``"constant"``
    parts : what it is a function of
    name : of the pin, or the constant ``0`` or ``1``
    """

    kind: str
    parts: tuple[Function, ...] = ()
    name: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The pins that it reads."""
        own = {self.name} if self.kind == "name" else set()
        return frozenset(own).union(*(part.names for part in self.parts))

    def __call__(self, values: Mapping[str, Words]) -> Words:
        """The function of the pins' values; a single word if it is constant."""
        if self.kind == "name":
            return values[self.name]
        if self.kind == "constant":
            return np.array(_ONES if self.name == "1" else np.uint64(0))
        found = self.parts[0](values)
        if self.kind == "not":
            return ~found
        for part in self.parts[1:]:
            found = _JOIN[self.kind](found, part(values))
        return found


@cache
def parse(text: str) -> Function:
    """Read a function: ``!`` or a ``'`` behind invert, then come ``^``, ``*`` (or a space), ``+``.

    Raises
    ------
    ValueError
        If it is no function, with what is wrong.
    """
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKENS.match(text, at)
        if match is None:
            raise ValueError(f"{text[at:].split()[0]!r} in the function {text!r} is not understood")
        tokens.append(match[1])
        at = match.end()
    reader = _Reader(text, tokens)
    found = reader.any()
    if reader.tokens:
        raise ValueError(f"{reader.tokens[0]!r} in the function {text!r} is out of place")
    return found


class _Reader:
    """Takes tokens from the front, one function of a precedence a method."""

    def __init__(self, text: str, tokens: list[str]) -> None:
        self.text, self.tokens = text, tokens

    def next(self, *wanted: str) -> bool:
        """Take the next token if it is one of those."""
        if self.tokens and self.tokens[0] in wanted:
            self.tokens.pop(0)
            return True
        return False

    def any(self) -> Function:
        parts = [self.all()]
        while self.next("+", "|"):
            parts.append(self.all())
        return _joined("or", parts)

    def all(self) -> Function:
        parts = [self.odd()]
        while self.next("*", "&") or (self.tokens and re.match(r"[\w(!]", self.tokens[0])):
            parts.append(self.odd())
        return _joined("and", parts)

    def odd(self) -> Function:
        parts = [self.one()]
        while self.next("^"):
            parts.append(self.one())
        return _joined("xor", parts)

    def one(self) -> Function:
        if self.next("!"):
            return Function("not", (self.one(),))
        if self.next("("):
            found = self.any()
            if not self.next(")"):
                raise ValueError(f"a parenthesis in the function {self.text!r} is not closed")
        elif self.tokens and re.match(r"\w", self.tokens[0]):
            name = self.tokens.pop(0)
            found = Function("constant" if name in ("0", "1") else "name", (), name)
        else:
            raise ValueError(f"the function {self.text!r} lacks an operand")
        while self.next("'"):
            found = Function("not", (found,))
        return found


def _joined(kind: str, parts: list[Function]) -> Function:
    return parts[0] if len(parts) == 1 else Function(kind, tuple(parts))
