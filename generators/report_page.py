# SPDX-License-Identifier: Apache-2.0
"""``report.html``: a report as one page that needs nothing else, made from ``report.json`` alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2

from generators import charts, diagram, resources
from generators.report_facts import Point, Report, ResourceFacts, Timeline

__all__ = ["pictures", "render"]


def render(report: Report) -> str:
    """The report as one page of HTML that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(("j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    formats: Mapping[str, Callable[..., str]] = {
        "whole": lambda value: f"{value:,.0f}",
        "percent": lambda value: f"{100 * value:.1f} %",
        "size": _size,
        "duration": _duration,
        "rate": lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
    }
    environment.filters.update(formats)
    return environment.get_template("report.html.j2").render(
        r=report,
        roofline=_roofline(report),
        gantts=[(t, _gantt(t)) for t in report.timelines],
        shares=[_shares(report, p) for p in _shown(report)],
        diagram=_diagram(report),
        meters=_meters(report.resources),
        regions=_regions(report),
        best=report.decode[-1],
        prompt=_shown(report)[0],
    )


def pictures(report: Report) -> dict[str, str]:
    """The page's drawings as SVG files, by name; ``blocks`` only if the accelerator was emitted."""
    drawn = {"roofline": _roofline(report), "resources": _meters(report.resources)}
    drawn |= {line.name: _gantt(line) for line in report.timelines}
    drawn |= {"blocks": _diagram(report), "memory": str(_regions(report)["chart"])}
    return {name: charts.alone(svg) for name, svg in drawn.items() if svg}


def _shown(report: Report) -> tuple[Point, Point]:
    """A prompt that fills one pass, and a token at the longest context."""
    full = [p for p in report.prefill if p.passes == 1]
    return (full or report.prefill)[-1], report.decode[-1]


def _roofline(report: Report) -> str:
    hertz = report.clock_mhz * 1e6
    dots = [
        charts.Dot(
            x=p.macs / p.needed_bytes,
            y=p.macs * hertz / p.cycles,
            label=str(p.tokens if css == "prefill" else p.context),
            css=css,
            title=f"{name}: {100 * p.roofline_fraction:.1f} % of the roofline, {p.cycles:,} cycles",
        )
        for css, points in (("prefill", report.prefill), ("decode", report.decode))
        for p in points
        for name in [
            f"prompt of {p.tokens}" if css == "prefill" else f"one token at context {p.context}"
        ]
    ]
    peak, slope = report.lanes * hertz, report.memory.bytes_per_cycle * hertz
    return charts.roofline(dots, peak=peak, slope=slope, unit="MAC")


def _meters(facts: ResourceFacts) -> str:
    bars = [
        charts.Bar(kind.upper(), facts.used[kind], facts.available[kind])
        for kind in resources.KINDS
    ]
    return charts.meters([bar for bar in bars if bar.used or bar.available])


def _gantt(timeline: Timeline) -> str:
    return charts.gantt(
        [
            charts.Span(
                label=m.phase,
                start=m.start,
                end=m.end,
                css=m.bound,
                upper=m.lanes_busy,
                lower=m.bandwidth_used,
                note=f"{m.end - m.start:,}  {m.bound}",
                title=(
                    f"{m.phase}: cycles {m.start:,} to {m.end:,}; "
                    f"lanes {100 * m.lanes_busy:.1f} % busy, "
                    f"memory {100 * m.bandwidth_used:.1f} %; bound by {m.bound}"
                ),
            )
            for m in timeline.phases
        ],
        unit="cycles",
        areas=[
            charts.Area("weights", timeline.reads.weights, "area weights"),
            charts.Area("keys, values", timeline.reads.keys_values, "area caches"),
            charts.Area("embeddings", timeline.reads.embeddings, "area rows"),
        ],
    )


_PORTS = re.compile(r"m_axi_g\d+")


def _diagram(report: Report) -> str:
    """The parts of the accelerator and what they take; buses of one kind are one box."""
    if report.blocks is None:
        return ""
    ports = [part.name for part in report.blocks.parts if _PORTS.fullmatch(part.name)]
    memory = f"{len(ports)} AXI4 port{'s' if len(ports) > 1 else ''}"
    links = diagram.merged(report.blocks, dict.fromkeys(ports, memory) | {"interrupt": "control"})
    boxes = {memory: diagram.Box(memory, f"{report.memory.port_bytes * 8} bits each")}
    for part in report.blocks.parts:
        if part.name in ports or not any(part.name in pair for pair in links):
            continue
        if part.module is None:
            boxes[part.name] = diagram.Box(part.name, "AXI4-Lite")
        else:
            boxes[part.name] = diagram.Box(
                part.name.replace("_", " "), _taken(report.resources, part.module)
            )
    return diagram.draw(links, boxes, data=memory, control="control")


def _taken(facts: ResourceFacts, module: str) -> str:
    """What the block of a module takes, of the two kinds of which it takes the largest parts of the target."""
    for block in facts.blocks:
        if block.owns(module):
            parts = {
                kind: getattr(block.used, kind) / facts.available[kind]
                for kind in resources.KINDS
                if facts.available[kind]
            }
            most = max(parts, key=lambda kind: parts[kind])
            return f"{block.name}: {getattr(block.used, most):,.0f} {most.upper()}"
    return ""


def _shares(report: Report, point: Point) -> dict[str, object]:
    """The phases of a point and the part of its cycles that each takes."""
    one = point.tokens == 1
    return {
        "title": f"one token at context {point.context}" if one else f"prompt of {point.tokens}",
        "rows": [(phase, phase.cycles / point.cycles) for phase in point.phases],
        "point": point,
    }


_REGIONS = {
    "tokens": "token ids in and out",
    "weights": "weight stream of the layers",
    "head": "final norm and language-model head",
    "wte": "token embeddings",
    "wpe": "position embeddings, or the angles of positions",
    "k": "keys",
    "v": "values",
}


def _regions(report: Report) -> dict[str, object]:
    regions = report.memory.regions
    return {
        "chart": charts.stack(
            [
                charts.Part(r.name, r.bytes, f"c{k}", f"{r.name}: {_size(r.bytes)}")
                for k, r in enumerate(regions)
            ]
        ),
        "rows": [(r, f"c{k}", _REGIONS.get(r.name, "")) for k, r in enumerate(regions)],
    }


def _size(value: float) -> str:
    """Bytes with a binary prefix."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1024
    return f"{value:,.2f} GiB"


def _duration(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    return ""
