# SPDX-License-Identifier: Apache-2.0
"""The lines of source that a part of a netlist comes from, and how they read after a change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Place", "diff", "places", "rewritten", "text_of"]

_RANGE = re.compile(r"(?P<file>[^|]*?):(?P<l0>\d+)\.(?P<c0>\d+)-(?P<l1>\d+)\.(?P<c1>\d+)")


@dataclass(frozen=True)
class Place:
    """A range of a file: lines and columns from 1, the last column excluded."""

    file: str
    line: int
    column: int
    last_line: int
    last_column: int

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}"


def places(attribute: str) -> list[Place]:
    """The ranges of yosys's attribute ``src``, the narrowest first."""
    found = [
        Place(m["file"], int(m["l0"]), int(m["c0"]), int(m["l1"]), int(m["c1"]))
        for m in _RANGE.finditer(attribute)
    ]
    return sorted(found, key=lambda p: (p.last_line - p.line, p.last_column - p.column))


@cache
def _lines(file: str) -> tuple[str, ...]:
    try:
        return tuple(Path(file).read_text(encoding="utf-8", errors="replace").split("\n"))
    except OSError:
        return ()


def text_of(place: Place) -> str:
    """What stands there; nothing if it spans lines."""
    lines = _lines(place.file)
    if place.line != place.last_line or not 0 < place.line <= len(lines):
        return ""
    return lines[place.line - 1][place.column - 1 : place.last_column - 1]


def diff(place: Place, new: str | None, note: str) -> str:
    """A line of source before and after ``new`` stands in that place; with a note if that cannot be written."""
    lines = _lines(place.file)
    if not 0 < place.line <= len(lines):
        return f"@@ {place} @@\n+ // {note}"
    line = lines[place.line - 1]
    if new is None or place.line != place.last_line:
        return f"@@ {place} @@\n  {line.strip()}\n+ // {note}"
    after = line[: place.column - 1] + new + line[place.last_column - 1 :]
    return f"@@ {place} @@\n- {line.strip()}\n+ {after.strip()}"


def find(place: Place, pattern: str) -> Place | None:
    """The first match of a pattern within a range of lines."""
    for number in range(place.line, place.last_line + 1):
        lines = _lines(place.file)
        if number > len(lines):
            return None
        if found := re.search(pattern, lines[number - 1]):
            return Place(place.file, number, found.start() + 1, number, found.end() + 1)
    return None


def rewritten(text: str, old: str, new: str) -> str | None:
    """``text``, an expression whose outermost operator is ``old``, with ``new`` in its place.

    Of several it takes the last that stands in no parentheses: operators associate to the left.
    """
    depth, at = 0, None
    k = 0
    while k < len(text):
        if text[k] in "([{":
            depth += 1
        elif text[k] in ")]}":
            depth -= 1
        elif depth == 0 and text.startswith(old, k) and _stands_alone(text, k, old):
            at = k
            k += len(old) - 1
        k += 1
    return None if at is None else text[:at] + new + text[at + len(old) :]


def _stands_alone(text: str, at: int, operator: str) -> bool:
    """Whether no longer operator contains it: ``&`` in ``&&``, ``<`` in ``<=``."""
    before, after = text[at - 1 : at], text[at + len(operator) : at + len(operator) + 1]
    return before not in tuple("&|<>=!^~*") and after not in tuple("&|<>=^*")
