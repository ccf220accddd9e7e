# SPDX-License-Identifier: Apache-2.0
"""The files of an HLS design: C++ for Vitis HLS or TAPA, a test bench, scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from designs.graph import GraphCard
from designs.target import TargetCard
from generators.hls.data import layout
from generators.hls.network import Core, Hold, Network, Serve, pieces
from generators.kernel import KernelPlan
from hw.templates import environment

__all__ = ["STYLES", "Tables", "files", "plan_memory"]

STYLES = ("vitis", "tapa")
PART = "xcu280-fsvh2892-2L-e"
"""For targets that are no real part."""

TEMPLATES = Path(__file__).parent.parent.parent / "hls_templates"
GATES, POWERS = ("silu", "sigmoid"), ("exp", "softmax")

ONE_UNIT = "// Both at once, which compiles in half the time.\n#include <src/kernel.cpp>\n#include <src/host.cpp>\n"

Tables = Mapping[str, NDArray[np.int64]]
"""``gate_table``, ``gate_slope``, likewise of ``gelu`` and ``power``, and ``rsqrt_table`` of the golden model."""


@dataclass(frozen=True)
class _Ports:
    """Streams of a core by what they are for."""

    weights: list[str]
    forwards: list[str]
    operands: list[str]
    seconds: list[str]
    results: list[tuple[str, ...]]
    pixels: list[str]
    streamed: bool
    matrices: bool

    @property
    def inputs(self) -> list[str]:
        return [*self.weights, *self.operands, *self.seconds]

    @property
    def outputs(self) -> list[str]:
        return [*self.forwards, *(dict.fromkeys(s for names in self.results for s in names))]


@dataclass(frozen=True)
class _View:
    """What a hold's text needs and is not a decision."""

    served: list[str]
    rows_apart: int
    columns_apart: int
    pools: list[tuple[int, tuple[int]]]
    pieces: int
    have: str
    needs: list[str]


@dataclass(frozen=True)
class _Call:
    name: str
    arguments: list[str]
    memory: bool
    late: bool = False


def files(
    net: Network,
    card: GraphCard,
    kernel: KernelPlan,
    style: Literal["vitis", "tapa"],
    tables: Tables,
    board: TargetCard,
) -> dict[str, str]:
    """All text files by their path; ``board`` gives part, clock and memory banks to the scripts."""
    templates = environment(TEMPLATES)
    used = _functions(net)
    context: dict[str, Any] = {
        "net": net, "card": card, "style": style, "policy": kernel.plan.policy, "makespan": kernel.plan.makespan,
        "streams": {s.name: s for s in net.streams}, "sfu": net.special, "layout": layout(net),
        "core_ports": {c.name: _ports(c) for c in net.cores}, "sfu_ports": _sfu_ports(net),
        "views": {h.name: _view(h, card) for h in net.holds}, "calls": _calls(net),
        "gates": bool(used & {*GATES}), "powers": bool(used & {*POWERS}), "sizes": _sizes(net),
        "gelus": "gelu" in used, "roots": "layernorm" in used,
        "part": board.part or PART, "period": f"{1000 / board.clock_mhz:.2f}",
        "bank": "HBM" if board.memory.kind.startswith("hbm") else "DDR", "banks": board.memory.ports,
        **{name: table.tolist() for name, table in tables.items()},
    }  # fmt: skip
    context["arguments"] = ", ".join(_argument(net, b, style) for b in net.buffers)
    made = {
        f"src/{name}": templates.get_template(f"{name}.j2").render(context)
        for name in ("ops.h", "kernel.h", "kernel.cpp", "host.cpp")
    }
    scripts = ("run_hls.tcl", "hls.cfg", "link.cfg") if style == "vitis" else ("tapa.sh",)
    made |= {name: templates.get_template(f"{name}.j2").render(context) for name in scripts}
    headers = ("hls_stream.h", "hls_task.h", "hls_vector.h") if style == "vitis" else ("tapa.h",)
    for name in ("fibers.h", *headers):
        made[f"csim/{name}"] = (TEMPLATES / "csim" / name).read_text(encoding="utf-8")
    made["csim/all.cpp"] = ONE_UNIT
    made["plan.yaml"] = kernel.to_yaml()
    made["design.json"] = json.dumps(_design(net, kernel, style), indent=1) + "\n"
    return made


def _design(net: Network, kernel: KernelPlan, style: str) -> dict[str, Any]:
    """What `hwgen sim` and readers need to know."""
    return {
        "backend": "hls", "style": style, "kernel": net.name, "policy": kernel.plan.policy,
        "predicted_cycles": kernel.plan.makespan, "processes": [c.name for c in _calls(net)],
        "buffers": net.buffers, "word_bytes": net.word_bytes, "element_bits": net.bits,
        "memory_bytes": plan_memory(net),
    }  # fmt: skip


def plan_memory(net: Network) -> int:
    """Bytes of all holds, kept weights and streams."""
    element = net.bits // 8
    held = sum(h.elements for h in net.holds) + sum(c.kept * c.weight_lanes for c in net.cores)
    return element * (held + sum(s.lanes * s.depth for s in net.streams))


def _functions(net: Network) -> set[str]:
    steps = [s for h in net.holds for s in h.steps]
    steps += [s for c in net.cores for chain in c.chains for s in chain]
    stages = net.special.stages if net.special else ()
    return {s.name for s in (*steps, *(s for t in stages for s in t.steps))} | {
        t.op for t in stages
    }


def _argument(net: Network, buffer: str, style: str) -> str:
    constant = "const " if net.buffers[buffer] in ("input", "weights") else ""
    if style == "vitis":
        return f"{constant}word_t *{buffer}"
    return f"tapa::mmap<{constant}word_t> {buffer}"


def _ports(core: Core) -> _Ports:
    stages = core.stages
    return _Ports(
        weights=_unique(s.weights for s in stages),
        forwards=_unique(s.forward for s in stages),
        operands=_unique(s.operand for s in stages),
        seconds=_unique(s.second for s in stages),
        results=list(dict.fromkeys(s.results for s in stages)),
        pixels=[s.operand for s in stages if s.tiling.product.row],
        streamed=any(s.weights and not s.second for s in stages),
        matrices=any(not s.tiling.product.row and not s.second for s in stages),
    )


def _unique(names: Any) -> list[str]:
    return [n for n in dict.fromkeys(names) if n]


def _sfu_ports(net: Network) -> dict[str, Any]:
    stages = net.special.stages if net.special else ()
    lanes = net.special.lanes if net.special else 1
    words = {s.task: -(-s.columns // lanes) for s in stages if s.op in ("softmax", "layernorm")}
    powers = [words[s.task] for s in stages if s.op == "softmax"]
    return {
        "inputs": _unique(o for s in stages for o in s.operands),
        "outputs": _unique(r for s in stages for r in s.results),
        "row_words": max(words.values(), default=0),
        "power_words": max(powers, default=0),
    }


def _view(hold: Hold, card: GraphCard) -> _View:
    pools, (height, columns) = [], hold.made[1:]
    level = 0
    have = "piece"
    if hold.tiling is not None and hold.tiling.product.row:
        have = f"(piece == {hold.tiling.outer} ? {hold.tiling.product.n} : piece * {hold.tiling.wide_n}) / {columns}"
    elif hold.tiling is not None:
        have = f"(piece == {hold.tiling.outer} ? {height} : piece * {hold.tiling.wide_m})"
    for step in hold.steps:
        if step.name == "maxpool2":
            pools.append((level, (max(1, columns // 2),)))
            height, columns = height // 2, columns // 2
            have = f"{have} / 2"
        elif step.name == "upsample2":
            height, columns = height * 2, columns * 2
            have = f"{have} * 2"
        else:
            continue
        level += 1
    return _View(
        [p.stream for s in hold.serves for p in s.parts], *_apart(hold, card), pools, pieces(hold), have,
        [_need(hold, s, card) for s in hold.serves],
    )  # fmt: skip


def _apart(hold: Hold, card: GraphCard) -> tuple[int, int]:
    """How many neighbouring rows, and columns, of a hold are read or written in a cycle: as many banks are needed."""
    lines = [(p.rows, p.columns) for p in hold.parts]
    for serve in hold.serves:
        g = serve.tiling
        if g is None:
            lines.append((1, serve.parts[0].columns))
        elif serve.kind == "rows":
            lines.append((sum({p.m: p.rows for p in serve.parts}.values()), g.reduce))
        else:
            columns = sum({p.n: p.columns for p in serve.parts}.values())
            if serve.kind == "pixels":
                kernel = card.tasks[serve.task].kernel
                assert kernel is not None
                lines.append(
                    (
                        min(kernel[1], -(-g.reduce // kernel[2])),
                        columns + min(g.reduce, kernel[2]) - 1,
                    )
                )
            else:
                lines.append(
                    (columns, g.reduce) if serve.kind == "second_t" else (g.reduce, columns)
                )
    rows, columns = (max(sizes) for sizes in zip(*lines, strict=True))
    return min(rows, hold.window), min(columns, hold.shape[2])


def _need(hold: Hold, serve: Serve, card: GraphCard) -> str:
    """Rows that must be there before a turn of a consumer, as C++; the same as ``network.reach``."""
    height = hold.shape[1]
    g = serve.tiling
    if g is None:
        return "outer + 1"
    if serve.kind == "rows" and g.product.k == hold.shape[2] and not g.by_columns:
        return f"outer == {g.outer - 1} ? {height} : (outer + 1) * {g.wide_m}"
    if serve.kind != "pixels":
        return str(height)
    task = card.tasks[serve.task]
    assert task.kernel is not None
    top, step, taps = task.borders[0], task.stride, task.kernel[1]
    last = f"((outer == {g.outer - 1} ? {g.product.n} : (outer + 1) * {g.wide_n}) - 1) / {g.product.row}"
    high = (
        f"({last} + {top}) / {step} + 1"
        if task.op == "deconv"
        else f"{last} * {step} + {taps - top}"
    )
    return f"{high} > {height} ? {height} : {high}"


def _calls(net: Network) -> list[_Call]:
    """All processes: memory that is there first, memory that is written last."""
    calls = [_Call(r.name, [r.buffer, *r.results], True) for r in net.reads if not r.token]
    calls += [_Call(w.name, [w.buffer, w.stream], True) for w in net.weights]
    for hold in net.holds:
        served = [p.stream for s in hold.serves for p in s.parts]
        calls.append(_Call(hold.name, [*(p.stream for p in hold.parts), *served], False))
    for core in net.cores:
        ports = _ports(core)
        calls.append(_Call(core.name, [*ports.inputs, *ports.outputs], False))
    if net.special:
        ports = _sfu_ports(net)
        calls.append(_Call(net.special.name, [*ports["inputs"], *ports["outputs"]], False))
    for write in net.writes:
        calls.append(_Call(write.name, [write.buffer, write.source, *write.tokens], True, True))
        for read in net.reads:
            if read.token in write.tokens:
                calls.append(_Call(read.name, [read.buffer, read.token, *read.results], True, True))
    return calls


def _sizes(net: Network) -> dict[str, int]:
    """Words of what the kernel writes."""
    return {w.buffer: w.shape[0] * w.shape[1] * net.row_words(w.shape[2]) for w in net.writes}
