# SPDX-License-Identifier: Apache-2.0
"""Boolean functions against Python's own operators."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from generators.boolean import parse


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("!(A*B)", lambda a, b, c: not (a and b)),
        ("!A*B", lambda a, b, c: not a and b),
        ("(A+B)'", lambda a, b, c: not (a or b)),
        ("A' B'", lambda a, b, c: not a and not b),
        ("A B + C", lambda a, b, c: (a and b) or c),
        ("A | B & C", lambda a, b, c: a or (b and c)),
        ("A & B ^ C", lambda a, b, c: a and (b != c)),
        ("A ^ B ^ C", lambda a, b, c: (a + b + c) % 2),
        ("!A''", lambda a, b, c: not a),
        ("(A !B)", lambda a, b, c: a and not b),
        ("1", lambda a, b, c: True),
        ("0 + C", lambda a, b, c: c),
    ],
)
def test_value(text: str, meaning: Callable[[int, int, int], object]) -> None:
    rows = list(itertools.product((0, 1), repeat=3))
    words = [
        np.array([sum(row[n] << k for k, row in enumerate(rows))], np.uint64) for n in range(3)
    ]
    found = parse(text)(dict(zip("ABC", words, strict=True)))
    want = [int(bool(meaning(*row))) for row in rows]
    assert [int(found.reshape(-1)[0]) >> k & 1 for k in range(8)] == want


def test_names() -> None:
    assert parse("!(A1*q_2) + RST[0] + 1").names == {"A1", "q_2", "RST[0]"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A + ", "'A \\+ ' lacks an operand"),
        ("", "'' lacks an operand"),
        ("(A", "a parenthesis in the function '\\(A' is not closed"),
        ("A)", "'\\)' in the function 'A\\)' is out of place"),
        ("A % B", "'%' in the function 'A % B' is not understood"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
