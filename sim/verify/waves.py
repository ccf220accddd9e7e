# SPDX-License-Identifier: Apache-2.0
"""Waveforms of counterexamples: read from yosys's VCD, drawn as SVG."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Wave", "draw", "read_vcd"]

_VARIABLE = re.compile(r"\$var \w+ (\d+) (\S+) (\S+)(?: \[\d+(?::\d+)?\])? \$end")
_PERIOD = 10
"""Time of a cycle; what yosys writes at its half is the clock's other edge."""

STEP, ROW, LABEL = 46, 26, 190


@dataclass(frozen=True)
class Wave:
    """Signals of consecutive cycles; ``values`` by name, each a number for each cycle."""

    cycles: int
    widths: Mapping[str, int]
    values: Mapping[str, tuple[int, ...]]

    def first(self, cycles: int) -> Wave:
        """Its first cycles."""
        return Wave(cycles, self.widths, {n: v[:cycles] for n, v in self.values.items()})

    def only(self, names: Sequence[str]) -> Wave:
        """With these signals alone, in this order; those that are not there are left out."""
        kept = [name for name in names if name in self.values]
        return Wave(
            self.cycles, {n: self.widths[n] for n in kept}, {n: self.values[n] for n in kept}
        )


def read_vcd(path: Path) -> Wave:
    """A VCD of yosys's ``sim``: the values of each cycle, before the edge that ends it."""
    codes: dict[str, tuple[str, int]] = {}
    names: dict[str, list[str]] = {}
    now: dict[str, int] = {}
    rows: list[dict[str, int]] = []
    time = None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if found := _VARIABLE.match(line):
            codes[found[2]] = (found[3], int(found[1]))
            names.setdefault(found[2], []).append(found[3])
        elif line.startswith("#"):
            if time is not None and time % _PERIOD == 0:
                rows.append(dict(now))
            time = int(line[1:])
        elif line.startswith("b"):
            bits, code = line[1:].split()
            now[code] = int(re.sub("[^01]", "0", bits), 2)
    if time is not None and time % _PERIOD == 0:
        rows.append(dict(now))
    widths = {name: codes[c][1] for c in codes for name in names[c]}
    values = {name: tuple(row.get(c, 0) for row in rows) for c in codes for name in names[c]}
    return Wave(len(rows), widths, values)


def draw(wave: Wave, mark: int | None = None) -> str:
    """An SVG of the signals, one row each; the cycle ``mark`` is shaded."""
    width, height = LABEL + STEP * wave.cycles + 10, ROW * (len(wave.values) + 1) + 8
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    parts = [f'{head} font-family="monospace" font-size="11">']
    if mark is not None:
        parts.append(
            f'<rect x="{LABEL + STEP * mark}" y="0" width="{STEP}" height="{height}" fill="#fbd5d0"/>'
        )
    for cycle in range(wave.cycles):
        x = LABEL + STEP * cycle
        parts.append(
            f'<text x="{x + STEP / 2}" y="14" text-anchor="middle" fill="#777">{cycle}</text>'
        )
        parts.append(f'<path d="M{x} 18V{height}" stroke="#ddd"/>')
    for row, (name, values) in enumerate(wave.values.items(), 1):
        top = ROW * row
        parts.append(f'<text x="4" y="{top + 16}">{html.escape(_short(name))}</text>')
        parts += _bit(values, top) if wave.widths[name] == 1 else _word(values, top)
    return "".join([*parts, "</svg>"])


def _short(name: str) -> str:
    return name if len(name) <= 26 else "…" + name[-25:]


def _bit(values: Sequence[int], top: int) -> list[str]:
    path = ""
    for cycle, value in enumerate(values):
        x, y = LABEL + STEP * cycle, top + (4 if value else 20)
        path += f"{'L' if path else 'M'}{x} {y}H{x + STEP}"
    return [f'<path d="{path}" fill="none" stroke="#1b5e9a" stroke-width="1.5"/>']


def _word(values: Sequence[int], top: int) -> list[str]:
    parts, start = [], 0
    for cycle in range(1, len(values) + 1):
        if cycle < len(values) and values[cycle] == values[start]:
            continue
        x, end = LABEL + STEP * start, LABEL + STEP * cycle
        shape = f"M{x} {top + 12}l4 -8H{end - 4}l4 8l-4 8H{x + 4}z"
        parts.append(f'<path d="{shape}" fill="#eef4fb" stroke="#1b5e9a"/>')
        text = f"{values[start]:x}"
        room = max(3, (end - x) // 7 - 1)
        text = text if len(text) <= room else text[: room - 1] + "…"
        parts.append(f'<text x="{(x + end) / 2}" y="{top + 16}" text-anchor="middle">{text}</text>')
        start = cycle
    return parts
