# SPDX-License-Identifier: Apache-2.0
"""How close a prompt and a generated token come to the ideal, and what a systolic array would take.

``python -m benchmarks.prefill_decode [MODEL] [--target T] [--engine E] [--tokens N] [--no-rtl]``

Ours is measured in RTL on random weights, the head included, in two runs: of a prompt with 1 and 2
layers, of a token with 5 and 6 (prefetching takes some layers to settle). Every tensor is compared
with the golden model. What the last layer adds stands for all that follow. In the ideal all
multipliers or all bandwidth are busy, whichever takes longer. SCALE-Sim's figures are its closed
forms (``benchmarks.scale_sim``): attention unmasked, no bound of memory, cycles at our clock. An
engine with more multipliers than the target has is only for counting cycles.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from benchmarks.scale_sim import Gpt2, output_stationary, total, weight_stationary
from designs import target
from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from designs.progress import Progress, SilentProgress
from designs.target import TargetCard
from designs.transformer import transformer_model
from designs.weight_format import WeightFormat
from generators.compress import Compression
from generators.design import write_design
from generators.image import write_image
from generators.lower import lower
from generators.machine import measure as measure_machine
from generators.plan import Plan, best_plan, plan
from generators.quantise import random_quantised
from generators.report import predict_points
from generators.report_facts import Point
from hw.arrays import EngineSpec, parse_engine
from hw.core.accelerator import make_core_engine
from hwgen.console import Console
from schedules.cycles import play
from schedules.sequential import sequential
from sim.errors import SimulationError, ToolError
from sim.run import run_layers

__all__ = ["Measured", "design_folder", "main", "measure"]

GOAL = 0.85
"""Of the multipliers over a layer of a prompt, and of the bandwidth while decoding: at least."""


@dataclass(frozen=True)
class Measured:
    """A pass in RTL.

    Attributes
    ----------
    cycles, bytes : of all layers and the head
    layer_cycles, layer_bytes : of the last layer of the longer run
    runs : cycles of the two runs, by their layers
    values : compared with the golden model, all equal
    """

    cycles: int
    bytes: int
    layer_cycles: int
    layer_bytes: int
    runs: dict[int, int]
    values: int


def measure(
    out: Path, card: ModelCard, planned: Plan, tokens: int, past: int, progress: Progress
) -> Measured:
    """Run some layers of a build, and one more, with the head, on random weights.

    Raises
    ------
    RuntimeError
        If a value differs from the golden model.
    """
    few = min(1 if tokens > 1 else 5, card.layers - 1)
    found = []
    for layers in (few, few + 1):
        model = random_quantised(card, 1, layers, planned.compression)
        run = run_layers(
            out, layers, tokens, past, seed=1,
            model=model, write_image=write_image, generate=1, progress=progress,
        )  # fmt: skip
        if not run.identical:
            raise RuntimeError(f"{layers} layers of {tokens} tokens after {past}: {run.mismatch}")
        beats = run.counters["read_beats"] + run.counters["write_beats"]
        found.append((run.cycles, beats * planned.config.port_bytes, run.values))
    (short, short_bytes, _), (long, long_bytes, values) = found
    more = card.layers - few
    return Measured(
        cycles=short + more * (long - short),
        bytes=short_bytes + more * (long_bytes - short_bytes),
        layer_cycles=long - short,
        layer_bytes=long_bytes - short_bytes,
        runs={few: short, few + 1: long},
        values=values,
    )


@dataclass(frozen=True)
class _Row:
    name: str
    cycles: int
    lanes: int
    bytes: float = 0.0


def _table(title: str, rows: Sequence[_Row], point: Point, granted: float, clock_mhz: float) -> str:
    """Rows of one pass: cycles, and what they are of the ideal of as many multipliers."""
    heads = ("cycles", "ms", "tokens/s", "of ideal", "lanes busy", "bandwidth")
    lines = [title, f"  {'':<44}" + "".join(f"{head:>12}" for head in heads)]
    for row in rows:
        busy = point.macs / row.lanes / row.cycles
        cells = (
            f"{row.cycles:,}",
            f"{row.cycles / clock_mhz / 1e3:.2f}",
            f"{point.tokens * clock_mhz * 1e6 / row.cycles:,.1f}",
            f"{max(busy, point.memory_cycles / row.cycles):.1%}",
            f"{busy:.1%}",
            f"{row.bytes / granted / row.cycles:.1%}" if row.bytes else "",
        )
        lines.append(f"  {row.name:<44}" + "".join(f"{cell:>12}" for cell in cells).rstrip())
    return "\n".join(lines)


def _peers(card: ModelCard, lanes: int, tokens: int, context: int) -> list[_Row]:
    """Systolic arrays of as many multipliers and of 128 x 128, each in its better dataflow."""
    network = Gpt2(card.layers, card.width, card.heads, card.ffn, card.vocabulary)
    products = tuple(network.products(tokens, context))
    side = 1 << (lanes.bit_length() - 1) // 2
    found: dict[int, _Row] = {}
    for rows, columns in ((side, lanes // side), (lanes // side, side), (128, 128)):
        for name, dataflow in (("OS", output_stationary), ("WS", weight_stationary)):
            cycles, size = total(products, dataflow, rows, columns), rows * columns
            if size not in found or cycles < found[size].cycles:
                label = f"SCALE-Sim {name} {rows}x{columns} ({size:,} multipliers)"
                found[size] = _Row(label, cycles, size)
    return list(found.values())


def _planned(
    card: ModelCard, board: TargetCard, spec: EngineSpec | None, compression: Compression
) -> tuple[Plan, TargetCard, bool]:
    """A plan with as many multipliers as the engine asks for, and whether the target lacks them."""
    if spec is None:
        return best_plan(card, board, compression), board, False
    try:
        return plan(card, board, spec, compression), board, False
    except DesignError:
        if spec.tokens is None:
            raise
    wide = board.model_copy(update={"dsp": 1 << 20, "dsp_usable": 1 << 20})
    return plan(card, wide, spec, compression), wide, True


def design_folder(
    parent: Path, card: ModelCard, board: TargetCard, planned: Plan, progress: Progress
) -> Path:
    """The design's RTL and schedule, where a simulator of the same RTL is found again."""
    c = planned.config
    engine = c.engine_name.replace(":", "-")
    weights = re.sub(r"\W+", "-", str(planned.compression.stream))
    folder = parent / f"{card.name}-{board.name}-{engine}-{weights}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "rtl", ignore_errors=True)
    write_design(folder, card, board, planned, progress)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if a goal is missed or a value differs, 2 if asked wrongly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefill_decode")
    parser.add_argument("model", nargs="?", default="gpt2-medium")
    parser.add_argument("--target", default="u280")
    parser.add_argument("--engine", help="array:pe[:TxRxO]; as a build chooses it")
    parser.add_argument("--weights", default="int8", help="int8 or int4")
    parser.add_argument("--group", type=int, help="inputs that share a factor, of int4")
    parser.add_argument("--sparsity", default="dense", help="dense or N:M")
    parser.add_argument("--share", type=int, help="outputs that keep weights of the same inputs")
    parser.add_argument("--tokens", type=int, default=128, help="of the prompt, one pass at most")
    parser.add_argument("--contexts", type=int, nargs="*", default=[128, 1024], help="of decoding")
    parser.add_argument("--no-rtl", dest="rtl", action="store_false", help="predictions only")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for designs")
    parser.add_argument("--quiet", action="store_true", help="tables only")
    options = parser.parse_args(arguments)
    progress: Progress = SilentProgress() if options.quiet else Console()
    warnings.simplefilter("ignore", UnusedElaboratable)  # units that only say their latencies
    try:
        return _compare(options, progress)
    except (DesignError, ValueError, RuntimeError, SimulationError, ToolError) as error:
        print(f"error: {error}", file=sys.stderr)
        wrong = isinstance(error, DesignError | ValueError)
        return 2 if wrong else getattr(error, "exit_code", 1)


def _compare(options: argparse.Namespace, progress: Progress) -> int:
    card, board = load_model_card(options.model), target.load(options.target)
    engine = parse_engine(options.engine) if options.engine else None
    stream = WeightFormat.parse(options.weights, options.group, options.sparsity, options.share)
    planned, board, beyond = _planned(card, board, engine, Compression(stream))
    c = planned.config
    for context in (options.tokens, *options.contexts):
        if not 2 <= context <= c.context:
            raise DesignError(f"{card.name} has contexts of 2 to {c.context}, not {context}")
    if options.tokens > c.chunk:
        raise DesignError(f"a pass holds {c.chunk} tokens, not {options.tokens}")
    machine = measure_machine(c, board)
    schedule = sequential(lower(transformer_model(card)), machine, clock_mhz=board.clock_mhz)
    prompts, tokens = predict_points(
        c, board, schedule, prompts=[options.tokens], contexts=options.contexts
    )
    folder = design_folder(options.out, card, board, planned, progress) if options.rtl else None
    lanes, granted = machine.multipliers, float(machine.bytes_per_cycle)
    slices = make_core_engine(c).resources().dsp
    print(
        f"{card.name} on {board.name}, {c.engine_name}: {lanes:,} multipliers"
        + (f", {c.sparsity} of them" if c.sparsity != "dense" else "")
        + f" on {slices:,} DSP, {granted:g} bytes per cycle, "
        f"{board.clock_mhz:g} MHz assumed, weights {stream}"
        + (f"; beyond the DSP slices of {board.name}: for cycles only" if beyond else "")
    )
    goals: list[tuple[str, float]] = []
    for point in (*prompts, *tokens):
        one = point.tokens == 1
        past = point.context - point.tokens
        name = f"one token at context {point.context}" if one else f"prompt of {point.tokens}"
        busy = "bandwidth" if point.bound == "memory" else "multipliers"
        least = max(point.compute_cycles, point.memory_cycles)
        rows = [
            _Row(f"ideal: all {busy} busy", least, lanes, point.needed_bytes),
            _Row("hwgen, predicted", point.cycles, lanes, point.traffic.total),
        ]
        cycles, moved = _layer(point)
        notes = []
        if folder is not None:
            found = measure(folder, card, planned, point.tokens, past, progress)
            cycles, moved = found.layer_cycles, found.layer_bytes
            played = " and ".join(map(str, found.runs))
            rows.append(_Row(f"hwgen, RTL ({played} layers)", found.cycles, lanes, found.bytes))
            for layers, counted in found.runs.items():
                run = play(schedule, machine, prompt=point.tokens, position=past, repeat=layers)
                off = run.cycles / counted - 1
                what = "1 layer" if layers == 1 else f"{layers} layers"
                notes.append(f"{what} {counted:,} cycles, prediction off by {off:+.3%}")
            notes.append(f"{found.values:,} values equal the golden model's")
        rows += _peers(card, lanes, point.tokens, point.context)
        title = f"\n{name}, {card.layers} layers and head"
        print(_table(title, rows, point, granted, board.clock_mhz))
        if notes:
            print(f"  RTL: {'; '.join(notes)}", flush=True)
        basis = "RTL" if folder else "predicted"
        if one:
            goals.append((f"bandwidth over a layer, {name} ({basis})", moved / granted / cycles))
        else:
            macs = sum(phase.macs for phase in point.phases if phase.runs > 1) / card.layers
            goals.append((f"lanes busy over a layer, {name} ({basis})", macs / lanes / cycles))
    print()
    for name, reached in goals:
        verdict = "ok" if reached >= GOAL else "MISSED"
        print(f"{name}: {reached:.1%} (at least {GOAL:.0%}) {verdict}")
    return int(any(reached < GOAL for _, reached in goals))


def _layer(point: Point) -> tuple[int, int]:
    """Cycles and bytes of one layer of a prediction, on average."""
    phases = [phase for phase in point.phases if phase.runs > 1]
    runs = max(phase.runs for phase in phases)
    return sum(p.cycles for p in phases) // runs, sum(p.bytes for p in phases) // runs


if __name__ == "__main__":
    sys.exit(main())
