# SPDX-License-Identifier: Apache-2.0
"""Sizes that depend on the pass: sums of whole numbers, L and P.

L is the number of tokens of a pass and P the number of tokens before it, so ``"P+L"`` is what attention sees.
"""

from __future__ import annotations

import re

from schedules.errors import ScheduleError

__all__ = ["Size", "check_size", "size_value"]

Size = int | str
"""A whole number, or a text such as ``"L"``, ``"P+L"`` or ``"2*L+4"``."""

_TERM = re.compile(r"(?:(\d+)\*)?([LP])|(\d+)")


def size_value(size: Size, tokens: int, past: int = 0) -> int:
    """The number that a size is in a pass of ``tokens`` tokens after ``past`` others.

    Raises
    ------
    ScheduleError
        If the size is neither a whole number nor such a sum.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise ScheduleError(f"A size must be a whole number or a sum of L and P, not {size!r}")
    if isinstance(size, int):
        return size
    total = 0
    for term in size.split("+"):
        found = _TERM.fullmatch(term.strip())
        if not found:
            raise ScheduleError(f"A size must be a whole number or a sum of L and P, not {size!r}")
        factor, symbol, constant = found.groups()
        total += int(constant) if constant else int(factor or 1) * (tokens, past)[symbol == "P"]
    return total


def check_size(size: Size) -> Size:
    """The size, if it is one and is at least 1 for every pass; raises ScheduleError otherwise."""
    if size_value(size, 1, 0) < 1:
        raise ScheduleError(f"A size must be at least 1 for a pass of one token, not {size!r}")
    return size
