# SPDX-License-Identifier: Apache-2.0
"""Drawings for the report: numbers in, SVG out. Colours are CSS classes of the page around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = [
    "Area", "Bar", "Column", "Dot", "Drawing", "Part", "Span",
    "alone", "columns", "gantt", "meters", "roofline", "scatter", "stack",
]  # fmt: skip

WIDTH = 920


class Drawing:
    """Shapes of one picture, in the order in which they are painted."""

    def __init__(self, height: float, label: str, width: float = WIDTH) -> None:
        self._parts = [
            f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
        ]

    def rect(
        self, x: float, y: float, w: float, h: float, css: str, title: str = "", radius: float = 0
    ) -> None:
        rounded = f' rx="{radius:g}"' if radius else ""
        box = f'x="{x:.2f}" y="{y:.2f}" width="{max(w, 0):.2f}" height="{h:.2f}"{rounded}'
        self._add("rect", box, css, title)

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self._add("line", f'x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"', css)

    def path(self, points: Sequence[tuple[float, float]], css: str) -> None:
        self._add("path", 'd="M' + " L".join(f"{x:.2f} {y:.2f}" for x, y in points) + '"', css)

    def curve(
        self, points: Sequence[tuple[float, float]], css: str, title: str, thick: float
    ) -> None:
        """A cubic Bezier curve through its four control points."""
        (x, y), *rest = points
        way = f"M{x:.2f} {y:.2f} C" + " ".join(f"{x:.2f} {y:.2f}" for x, y in rest)
        self._add("path", f'd="{way}" stroke-width="{thick:.2f}"', css, title)

    def circle(self, x: float, y: float, r: float, css: str, title: str = "") -> None:
        self._add("circle", f'cx="{x:.2f}" cy="{y:.2f}" r="{r:g}"', css, title)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        css: str = "label",
        anchor: str = "start",
        turn: int = 0,
    ) -> None:
        turned = f' transform="rotate({turn} {x:.2f} {y:.2f})"' if turn else ""
        place = f'x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}"{turned}'
        self._parts.append(f'<text {place} class="{css}">{escape(text)}</text>')

    def open_view(self, x: float, y: float, w: float, h: float) -> None:
        """What follows is drawn in a window of its own, whose coordinates a page may stretch sideways."""
        box = f'x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" viewBox="0 0 {w:g} {h:g}"'
        self._parts.append(f'<svg {box} preserveAspectRatio="none" class="view">')

    def close_view(self) -> None:
        """The end of that."""
        self._parts.append("</svg>")

    def _add(self, tag: str, attributes: str, css: str, title: str = "") -> None:
        inner = f"><title>{escape(title)}</title></{tag}>" if title else "/>"
        self._parts.append(f'<{tag} {attributes} class="{css}"{inner}')

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>"])


@dataclass(frozen=True)
class Dot:
    """A point of the roofline plot: ``x`` operations a byte, ``y`` operations a second."""

    x: float
    y: float
    label: str
    css: str
    title: str


def roofline(dots: Sequence[Dot], *, peak: float, slope: float, unit: str) -> str:
    """Operations per second over operations per byte, logarithmic, below ``min(peak, slope * x)``.

    Parameters
    ----------
    dots : what was reached.
    peak : operations a second that the multipliers can do.
    slope : bytes a second that the memory grants.
    unit : what an operation is called.
    """
    ridge = peak / slope
    low_x = min([ridge / 4, *(d.x / 4 for d in dots)])
    high_x = max([ridge * 4, *(d.x * 3 for d in dots)])
    low_y = min([peak / 10, *(d.y / 3 for d in dots)])
    high_y = peak * 1.8
    left, right, top, bottom = 74, WIDTH - 18, 14, 326
    drawing = Drawing(376, "Roofline", WIDTH)

    def at_x(x: float) -> float:
        return left + (right - left) * math.log(x / low_x) / math.log(high_x / low_x)

    def at_y(y: float) -> float:
        return bottom - (bottom - top) * math.log(y / low_y) / math.log(high_y / low_y)

    for value in _decades(low_x, high_x):
        x = at_x(value)
        drawing.line(x, top, x, bottom, "grid")
        drawing.text(x, bottom + 18, _number(value).strip(), "label", "middle")
    for value in _decades(low_y, high_y):
        y = at_y(value)
        drawing.line(left, y, right, y, "grid")
        drawing.text(left - 8, y + 4, _number(value).strip(), "label", "end")
    start = max(low_x, low_y / slope)
    roof = [(at_x(start), at_y(slope * start)), (at_x(ridge), at_y(peak)), (right, at_y(peak))]
    drawing.path(roof, "roof")
    drawing.text(
        right - 4, at_y(peak) - 8, f"{_number(peak)}{unit}/s: all multipliers", "label", "end"
    )
    right_by, up_by = roof[1][0] - roof[0][0], roof[0][1] - roof[1][1]
    x, y = roof[0][0] + right_by / 4 - 6, roof[0][1] - up_by / 4 - 8
    angle = -round(math.degrees(math.atan2(up_by, right_by)))
    drawing.text(x, y, f"{_number(slope)}B/s: memory", "label", "start", angle)
    groups: list[list[Dot]] = []
    for dot in sorted(dots, key=lambda d: (d.css, d.x)):
        drawing.circle(at_x(dot.x), at_y(dot.y), 5.5, f"dot {dot.css}", dot.title)
        last = groups[-1][-1] if groups else dot
        near = abs(at_x(dot.x) - at_x(last.x)) < 26 and abs(at_y(dot.y) - at_y(last.y)) < 18
        if groups and last.css == dot.css and near:
            groups[-1].append(dot)
        else:
            groups.append([dot])
    for group in groups:
        labels = [d.label for d in sorted(group, key=lambda d: dots.index(d))]
        text = f"{labels[0]} to {labels[-1]}" if len(labels) > 2 else ", ".join(labels)
        xs, ys = [at_x(d.x) for d in group], [at_y(d.y) for d in group]
        if max(d.x for d in group) < ridge:  # below the slope there is room on the right
            drawing.text(max(xs) + 11, sum(ys) / len(ys) + 4, text, "label strong")
        else:
            drawing.text(sum(xs) / len(xs), max(ys) + 20, text, "label strong", "middle")
    drawing.text((left + right) / 2, bottom + 42, f"{unit} per byte from memory", "label", "middle")
    drawing.text(16, (top + bottom) / 2, f"{unit}/s", "label", "middle", -90)
    return str(drawing)


def scatter(dots: Sequence[Dot], *, x: str, y: str) -> str:
    """Dots of which less is better, on logarithmic axes; steps join the ones of class ``best`` that count here.

    Parameters
    ----------
    dots : with positive ``x`` and ``y``; those at 0 stand at the edge.
    x, y : names of the axes.
    """
    left, right, top, bottom = 74, WIDTH - 18, 14, 326
    drawing = Drawing(376, f"{y} over {x}")
    low_x, high_x = _ends([d.x for d in dots])
    low_y, high_y = _ends([d.y for d in dots])

    def at_x(value: float) -> float:
        part = math.log(max(value, low_x) / low_x) / math.log(high_x / low_x)
        return left + (right - left) * part

    def at_y(value: float) -> float:
        part = math.log(max(value, low_y) / low_y) / math.log(high_y / low_y)
        return bottom - (bottom - top) * part

    for value in _decades(low_x, high_x):
        drawing.line(at_x(value), top, at_x(value), bottom, "grid")
        drawing.text(at_x(value), bottom + 18, _short(value), "label", "middle")
    for value in _decades(low_y, high_y):
        drawing.line(left, at_y(value), right, at_y(value), "grid")
        drawing.text(left - 8, at_y(value) + 4, _short(value), "label", "end")
    steps: list[tuple[float, float]] = []
    best = sorted((d for d in dots if d.css == "best"), key=lambda d: (d.x, d.y))
    for dot in best:
        if not steps or at_y(dot.y) > steps[-1][1]:
            steps += [(at_x(dot.x), steps[-1][1])] if steps else []
            steps.append((at_x(dot.x), at_y(dot.y)))
    if len(steps) > 1:
        drawing.path(steps, "step")
    for dot in sorted(dots, key=lambda d: d.css == "best"):
        title = f"{dot.label}: {dot.title}, {dot.x:.4g}, {dot.y:.4g}"
        drawing.circle(at_x(dot.x), at_y(dot.y), 4.5, f"dot {dot.css}", title)
    drawing.text((left + right) / 2, bottom + 42, x, "label", "middle")
    drawing.text(16, (top + bottom) / 2, y, "label", "middle", -90)
    return str(drawing)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that holds all values above 0."""
    positive = [v for v in values if v > 0] or [1.0]
    return min(positive) / 1.3, max(positive) * 1.3


def _short(value: float) -> str:
    """A number of an axis."""
    return (
        _number(value).strip() if value >= 1 else f"{value:.0e}" if value < 1e-3 else f"{value:g}"
    )


@dataclass(frozen=True)
class Span:
    """A row of a Gantt chart, from ``start`` to ``end``.

    Attributes
    ----------
    label : of the row
    css : class of the bar
    upper, lower : parts of the span, 0 to 1, that the upper and the lower stripe inside fill
    note : at the end of the row
    title : shown under the pointer
    """

    label: str
    start: float
    end: float
    css: str
    upper: float
    lower: float
    note: str
    title: str


@dataclass(frozen=True)
class Area:
    """A layer of the area below a Gantt chart: values, 0 to 1 of the height, of equal parts of the time."""

    label: str
    values: Sequence[float]
    css: str


def gantt(spans: Sequence[Span], *, unit: str, areas: Sequence[Area] = ()) -> str:
    """One row for each span, on a common axis that begins with the first one; areas stacked below.

    What lies on the axis of time is drawn in a view of its own (class ``view``), and each number of
    the axis has the class ``tick``, so that the page around it can zoom.
    """
    begin = min(s.start for s in spans)
    length = max(s.end for s in spans) - begin or 1
    left, right, row, band = 96, WIDTH - 190, 26, 74 if areas else 0
    rows = 8 + row * len(spans)
    bottom = rows + band
    drawing = Drawing(bottom + 40, "Schedule")
    scale = (right - left) / length
    step = _step(length)
    ticks = [k * step for k in range(int(length / step) + 1)]
    for value in ticks:
        drawing.text(left + value * scale, bottom + 16, f"{value:,.0f}", "label tick", "middle")
    drawing.text(right, bottom + 34, unit, "label", "end")
    for k, span in enumerate(spans):
        y = 6 + row * k
        drawing.text(left - 10, y + 14, span.label, "label strong", "end")
        drawing.text(right + 12, y + 14, span.note, "label")
    for k, area in enumerate(areas):
        drawing.rect(right + 12, rows + 14 + 18 * k, 11, 11, area.css)
        drawing.text(right + 29, rows + 24 + 18 * k, area.label, "label")
    if areas:
        drawing.text(left - 10, rows + band / 2 + 4, "memory", "label strong", "end")
    drawing.open_view(left, 0, right - left, bottom)
    for value in ticks:
        drawing.line(value * scale, 4, value * scale, bottom, "grid")
    for k, span in enumerate(spans):
        x, y = (span.start - begin) * scale, 6 + row * k
        w = max((span.end - span.start) * scale, 1.5)
        half = (row - 8) / 2
        drawing.rect(x, y, w, 2 * half, f"{span.css} pale", span.title)
        for top, part, css in ((1, span.upper, "engine"), (half + 0.5, span.lower, "memory")):
            drawing.rect(x, y + top, w * min(part, 1), half - 1.5, css, span.title)
    _stacked(drawing, areas, right - left, rows + 8, bottom)
    drawing.close_view()
    return str(drawing)


def _stacked(
    drawing: Drawing, areas: Sequence[Area], width: float, top: float, bottom: float
) -> None:
    """Areas on top of each other, from ``bottom``; a line at ``top`` is 1."""
    if not areas:
        return
    drawing.line(0, top, width, top, "grid")
    below = [0.0] * len(areas[0].values)
    each = width / len(below)
    for area in areas:
        above = [low + value for low, value in zip(below, area.values, strict=True)]

        def steps(heights: Sequence[float]) -> list[tuple[float, float]]:
            return [
                (each * k, bottom - (bottom - top) * height)
                for n, height in enumerate(heights)
                for k in (n, n + 1)
            ]

        if any(area.values):
            drawing.path(steps(above) + steps(below)[::-1], area.css)
        below = above


@dataclass(frozen=True)
class Bar:
    """A row of `meters`: ``used`` of ``available``."""

    label: str
    used: float
    available: float


def meters(bars: Sequence[Bar]) -> str:
    """How much of each thing is used; a bar that goes beyond its frame is too much."""
    left, right, row = 70, WIDTH - 250, 34
    drawing = Drawing(row * len(bars) + 6, "Resources")
    for k, bar in enumerate(bars):
        y = 6 + row * k
        part = bar.used / bar.available if bar.available else (math.inf if bar.used else 0)
        over = part > 1
        drawing.text(left - 12, y + 16, bar.label, "label strong", "end")
        drawing.rect(left, y, right - left, row - 10, "frame", radius=3)
        css = "bad" if over else "good"
        drawing.rect(left, y, (right - left) * min(part, 1), row - 10, css, radius=3)
        share = "none there" if math.isinf(part) else f"{100 * part:.1f} %"
        note = f"{bar.used:,.0f} of {bar.available:,.0f}  ({share})"
        drawing.text(right + 12, y + 16, note, "label warn" if over else "label")
    return str(drawing)


@dataclass(frozen=True)
class Part:
    """A piece of `stack`."""

    label: str
    size: float
    css: str
    title: str


def stack(parts: Sequence[Part]) -> str:
    """One bar cut into pieces as wide as their sizes; the small ones have no label."""
    total = sum(p.size for p in parts) or 1
    drawing = Drawing(48, "Memory map")
    x = 0.0
    for part in parts:
        w = WIDTH * part.size / total
        drawing.rect(x, 4, w, 40, f"{part.css} part", part.title)
        if w > 9 * len(part.label) + 8:
            drawing.text(x + w / 2, 29, part.label, "inside", "middle")
        x += w
    return str(drawing)


@dataclass(frozen=True)
class Column:
    """A bar of a group in `columns`; bars of one name have one colour."""

    name: str
    value: float


SHADES = ("#9aa5b1", "#d0781a", "#e8b54d", "#2563b8", "#1f8a5b", "#7d3c98")


def columns(groups: Sequence[tuple[str, Sequence[Column]]], label: str) -> str:
    """Groups of standing bars from 0, with a line at each whole value and the names on top."""
    most = max(column.value for _, bars in groups for column in bars)
    names = list(dict.fromkeys(column.name for _, bars in groups for column in bars))
    left, right, top, bottom = 40, WIDTH - 10, 40, 300
    drawing = Drawing(360, label)
    step = _step(most)
    for k in range(int(most / step) + 1):
        y = bottom - (bottom - top) * k * step / most
        drawing.line(left, y, right, y, "grid")
        drawing.text(left - 6, y + 4, f"{k * step:g}", "label", "end")
    wide = (right - left) / len(groups)
    for g, (name, bars) in enumerate(groups):
        thin = wide * 0.8 / len(bars)
        for i, column in enumerate(bars):
            x, high = left + wide * (g + 0.1) + thin * i, (bottom - top) * column.value / most
            css = f"shade{names.index(column.name) % len(SHADES)}"
            title = f"{name}, {column.name}: {column.value:.2f}"
            drawing.rect(x, bottom - high, thin * 0.9, high, css, title)
        drawing.text(left + wide * (g + 0.5) + 4, bottom + 8, name, "label", "end", -60)
    for i, name in enumerate(names):
        drawing.rect(left + 130 * i, 8, 12, 12, f"shade{i % len(SHADES)}")
        drawing.text(left + 130 * i + 18, 18, name, "label")
    drawing.text(right, 32, label, "label", "end")
    return str(drawing)


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten of a range, with 2 and 5 times them if there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = (1, 2, 5) if high / low < 1000 else (1,)
    return [f * 10.0**p for p in powers for f in fine if low <= f * 10.0**p <= high]


def _step(length: float) -> float:
    """A round distance of about eight to a length."""
    power = 10 ** math.floor(math.log10(length / 8 or 1)) if length > 8 else 1
    return next(power * f for f in (1, 2, 5, 10) if length / (power * f) <= 10)


def _number(value: float) -> str:
    """A number with a metric prefix: ``1.8 T``; the unit follows without a space."""
    if value < 1000:
        return f"{value:g} " if value >= 1 else f"{value:g}"
    for prefix in ("k", "M", "G", "T", "P"):
        value /= 1000
        if value < 1000:
            return f"{value:.4g} {prefix}"
    return f"{value:.4g} E"


_ALONE = """
svg { background: #ffffff; } svg.view { background: none; }
text { font: 12px system-ui, "Segoe UI", Roboto, Arial, sans-serif; } text.small { font-size: 10.5px; }
.label { fill: #5b6570; } .strong { fill: #1b1f24; } .inside { fill: #ffffff; } .warn { fill: #c6362c; }
.grid { stroke: #dde1e6; vector-effect: non-scaling-stroke; } .roof { fill: none; stroke: #1b1f24; stroke-width: 2; }
.engine, .compute { fill: #2563b8; } .memory { fill: #d0781a; } .latency { fill: #7d8590; } .pale { fill-opacity: .28; }
.weights { fill: #d0781a; } .caches { fill: #2f8a57; } .rows { fill: #b5538f; }
.dot.prefill { fill: #2563b8; } .dot.decode { fill: #d0781a; }
.dot.other { fill: #7d8590; fill-opacity: .45; } .dot.best { fill: #2563b8; }
.step { fill: none; stroke: #2563b8; stroke-width: 1.5; }
.box, .frame { fill: #ffffff; stroke: #7d8590; } .good { fill: #2f8a57; } .bad { fill: #c6362c; }
.wire { fill: none; stroke: #7d8590; stroke-opacity: .45; } .wire.data { stroke: #2563b8; }
"""


def alone(svg: str) -> str:
    """A picture as a file of its own, with the colours that a page would give it."""
    regions = ("#7d8590", "#2563b8", "#4a90d9", "#2f8a57", "#74a84a", "#d0781a", "#b5538f")
    named = [f".shade{i} {{ fill: {colour}; }}" for i, colour in enumerate(SHADES)]
    named += [f".c{i} {{ fill: {colour}; }}" for i, colour in enumerate(regions)]
    head, rest = svg.split(">", 1)
    style = _ALONE + " ".join(named)
    return f'{head} xmlns="http://www.w3.org/2000/svg">\n<style>{style}\n</style>{rest}\n'
