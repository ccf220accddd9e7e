# SPDX-License-Identifier: Apache-2.0
"""A block diagram of a module: its parts in columns, and the data between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from generators.blocks import Blocks
from generators.charts import WIDTH, Drawing

__all__ = ["Box", "draw", "merged"]

_WIDE = 64
"""Bits from which on a link is drawn as data; fewer are commands, addresses and answers."""

_GAP, _HIGH, _STEP = 46.0, 40.0, 58.0

_SWEEPS = 8


@dataclass(frozen=True)
class Box:
    """What is written in the box of a part: a line, and a softer one below."""

    label: str
    note: str = ""


def merged(blocks: Blocks, groups: Mapping[str, str]) -> dict[tuple[str, str], int]:
    """Links as ``(source, sink) -> bits``, the parts that ``groups`` names put together under their group."""
    links: dict[tuple[str, str], int] = {}
    for link in blocks.links:
        pair = groups.get(link.source, link.source), groups.get(link.sink, link.sink)
        if pair[0] != pair[1]:
            links[pair] = links.get(pair, 0) + link.bits
    return links


def draw(
    links: Mapping[tuple[str, str], int], boxes: Mapping[str, Box], data: str, control: str
) -> str:
    """The diagram: what commands above, what data goes through below.

    Parameters
    ----------
    links : bits from part to part.
    boxes : what stands in the box of each part.
    data : the part that data comes from; each part that it reaches is as many columns behind it as links of data.
    control : the part that commands come from; columns of the rest by links of any width.
    """
    wide_links = {pair for pair, bits in links.items() if bits >= _WIDE}
    through = _distances(data, wide_links)
    commands = _distances(control, {pair for pair in links if not through.keys() & set(pair)})
    rest = {name: 1 for name in boxes if name not in through and name not in commands}
    bands = [
        _ordered(depths, links) for depths in (commands | rest, through) if depths
    ]  # fmt: skip
    count = max(map(len, bands))
    wide = (WIDTH - _GAP * (count - 1) - 2) / count
    place: dict[str, tuple[float, float]] = {}
    top = 6.0
    for band in bands:
        rows = max(map(len, band))
        for c, column in enumerate(band):
            first = top + (rows - len(column)) * _STEP / 2
            for r, name in enumerate(column):
                place[name] = (1 + c * (wide + _GAP), first + r * _STEP)
        top += rows * _STEP + 14
    drawing = Drawing(top, "Block diagram")
    for (source, sink), bits in sorted(links.items(), key=lambda item: (item[1], item[0])):
        css = "wire data" if (source, sink) in wide_links else "wire"
        title = f"{boxes[source].label} to {boxes[sink].label}: {bits:,} bits"
        points = _route(place[source], place[sink], wide)
        drawing.curve(points, css, title, 0.6 + 0.42 * max(0.0, math.log2(bits) - 4))
    for name, (x, y) in place.items():
        box, middle = boxes[name], x + wide / 2
        drawing.rect(x, y, wide, _HIGH, "box", box.note, 5)
        drawing.text(middle, y + (17 if box.note else 24), box.label, "label strong", "middle")
        if box.note:
            drawing.text(middle, y + 32, box.note, "label small", "middle")
    return str(drawing)


def _distances(root: str, links: Iterable[tuple[str, str]]) -> dict[str, int]:
    """How many links, in their direction, each part is away from a root; those that it does not reach are left out."""
    found, edge = {root: 0}, {root}
    while edge:
        edge = {sink for source, sink in links if source in edge and sink not in found}
        found |= dict.fromkeys(edge, max(found.values()) + 1)
    return found


def _ordered(depths: Mapping[str, int], links: Mapping[tuple[str, str], int]) -> list[list[str]]:
    """Columns by depth; each in the order of the mean height of what its parts are linked to, by width."""
    columns = [sorted(n for n in depths if depths[n] == d) for d in range(max(depths.values()) + 1)]
    weight: dict[str, dict[str, float]] = {name: {} for name in depths}
    for (source, sink), bits in links.items():
        if source in depths and sink in depths:
            for one, other in ((source, sink), (sink, source)):
                weight[one][other] = weight[one].get(other, 0) + math.log2(bits + 1)
    for _ in range(_SWEEPS):
        height = {
            name: (r + 0.5) / len(column) for column in columns for r, name in enumerate(column)
        }

        def mean(name: str, height: Mapping[str, float] = height) -> tuple[float, str]:
            near = weight[name]
            return sum(height[o] * w for o, w in near.items()) / (sum(near.values()) or 1), name

        for column in columns:
            column.sort(key=mean)
    return columns


def _route(
    a: tuple[float, float], b: tuple[float, float], wide: float
) -> tuple[tuple[float, float], ...]:
    """Four points of a curve from one box to another: forwards from side to side, backwards a little lower."""
    (ax, ay), (bx, by) = (a[0], a[1] + _HIGH / 2 - 5), (b[0], b[1] + _HIGH / 2 - 5)
    if bx > ax:
        start, end, bend = (ax + wide, ay), (bx, by), (bx - ax - wide) / 2
    elif bx < ax:
        start, end, bend = (ax, ay + 12), (bx + wide, by + 12), (bx - ax + wide) / 2
    else:
        start, end = (ax + wide, ay), (bx + wide, by + 12)
        return start, (start[0] + _GAP / 2, ay), (end[0] + _GAP / 2, end[1]), end
    return start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end
