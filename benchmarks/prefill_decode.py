"""How close a prompt and a generated token come to the ideal, and what a systolic array would take.

``python -m benchmarks.prefill_decode [MODEL] [--target T] [--engine E] [--tokens N] [--no-rtl]``

Ours is measured in RTL on random weights: the first layer alone, and the first two; every tensor
is compared with the golden model. The second layer stands for all that follow: a pass of L layers
takes the one-layer run and L - 1 times what the second layer adds. In the ideal all multipliers or
all bandwidth are busy, whichever takes longer. SCALE-Sim's figures are its closed forms
(``benchmarks.scale_sim``): attention unmasked, no bound of memory, cycles at our clock. An engine
with more multipliers than the target has is only for counting cycles.
"""

from __future__ import annotations

import argparse
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
from generators.design import write_design
from generators.image import write_image
from generators.machine import measure as memory_machine
from generators.plan import Plan, plan
from generators.quantise import random_quantised
from generators.report import Point, predict_points
from hw.arrays import EngineSpec, parse_engine
from hwgen.console import Console
from schedules.schedule import Schedule
from sim.run import run_layers

__all__ = ["Measured", "main", "measure"]

GOAL = 0.85
"""Of the multipliers over a layer of a prompt, and of the bandwidth while decoding: at least."""


@dataclass(frozen=True)
class Measured:
    """A pass in RTL.

    Attributes
    ----------
    cycles, bytes : of all layers and the head
    layer_cycles, layer_bytes : of the second layer
    values : compared with the golden model, all equal
    """

    cycles: int
    bytes: int
    layer_cycles: int
    layer_bytes: int
    values: int


def measure(
    out: Path, card: ModelCard, port_bytes: int, tokens: int, past: int, progress: Progress
) -> Measured:
    """Run one and two layers of a build, with the head, on random weights.

    Raises
    ------
    RuntimeError
        If a value differs from the golden model.
    """
    runs = []
    for layers in (1, 2):
        model = random_quantised(card, 1, layers)
        run = run_layers(
            out, layers, tokens, past, seed=1,
            model=model, write_image=write_image, generate=1, progress=progress,
        )  # fmt: skip
        if not run.identical:
            raise RuntimeError(f"{layers} layers of {tokens} tokens after {past}: {run.mismatch}")
        beats = run.counters["read_beats"] + run.counters["write_beats"]
        runs.append((run.cycles, beats * port_bytes, run.values))
    (one, one_bytes, _), (two, two_bytes, values) = runs
    more = card.layers - 1
    return Measured(
        cycles=one + more * (two - one),
        bytes=one_bytes + more * (two_bytes - one_bytes),
        layer_cycles=two - one,
        layer_bytes=two_bytes - one_bytes,
        values=values,
    )


@dataclass(frozen=True)
class _Row:
    name: str
    cycles: int
    lanes: int
    bytes: float = 0.0


class _Table:
    """Rows of one pass: cycles beside the ideal."""

    def __init__(self, title: str, point: Point, bytes_per_cycle: float, clock_mhz: float) -> None:
        self._point, self._granted, self._clock = point, bytes_per_cycle, clock_mhz
        print(f"\n{title}")
        heads = ("cycles", "ms", "of ideal", "lanes busy", "bandwidth")
        print(f"  {'':<44}" + "".join(f"{head:>12}" for head in heads))

    def add(self, row: _Row) -> None:
        busy = self._point.macs / row.lanes / row.cycles
        ideal = max(busy, self._point.memory_cycles / row.cycles)
        used = row.bytes / self._granted / row.cycles
        cells = [
            f"{row.cycles:,}",
            f"{row.cycles / self._clock / 1e3:.2f}",
            f"{ideal:.1%}",
            f"{busy:.1%}",
            f"{used:.1%}" if row.bytes else "",
        ]
        print(f"  {row.name:<44}" + "".join(f"{cell:>12}" for cell in cells), flush=True)


def _arrays(lanes: int) -> list[tuple[int, int]]:
    """Shapes of systolic arrays to compare with: as many multipliers, both ways, and 128 x 128."""
    rows = 1 << (lanes.bit_length() - 1) // 2
    return list(dict.fromkeys([(rows, lanes // rows), (lanes // rows, rows), (128, 128)]))


def _peers(card: ModelCard, lanes: int, tokens: int, context: int) -> list[_Row]:
    """The better dataflow of each shape of array."""
    network = Gpt2(card.layers, card.width, card.heads, card.ffn, card.vocabulary)
    products = tuple(network.products(tokens, context))
    found: dict[int, _Row] = {}
    for rows, columns in _arrays(lanes):
        for name, dataflow in (("OS", output_stationary), ("WS", weight_stationary)):
            cycles, size = total(products, dataflow, rows, columns), rows * columns
            if size not in found or cycles < found[size].cycles:
                label = f"SCALE-Sim {name} {rows}x{columns} ({size:,} multipliers)"
                found[size] = _Row(label, cycles, size)
    return list(found.values())


def _planned(card: ModelCard, board: TargetCard, spec: EngineSpec) -> tuple[Plan, TargetCard, bool]:
    """A plan, with as many multipliers as the engine asks for."""
    try:
        return plan(card, board, spec), board, False
    except DesignError:
        if spec.tokens is None:
            raise
    wide = board.model_copy(update={"dsp": 1 << 20, "dsp_usable": 1 << 20})
    return plan(card, wide, spec), wide, True


def _folder(
    parent: Path, card: ModelCard, board: TargetCard, planned: Plan, progress: Progress
) -> Path:
    """The design's RTL and schedule, where a simulator of the same RTL is found again."""
    c = planned.config
    folder = parent / f"{card.name}-{board.name}-{c.array}-{c.pe}-{c.tokens}x{c.lanes}x{c.lanes}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "rtl", ignore_errors=True)
    write_design(folder, card, board, planned, progress)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefill_decode")
    parser.add_argument("model", nargs="?", default="gpt2-medium")
    parser.add_argument("--target", default="u280")
    parser.add_argument("--engine", default="tree:mac", help="array:pe[:TxRxO]")
    parser.add_argument("--tokens", type=int, default=128, help="of the prompt, one pass at most")
    parser.add_argument("--contexts", type=int, nargs="*", default=[128, 1024], help="of decoding")
    parser.add_argument("--no-rtl", dest="rtl", action="store_false", help="predictions only")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for designs")
    parser.add_argument("--quiet", action="store_true", help="tables only")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", UnusedElaboratable)  # units that only say their latencies
    progress: Progress = SilentProgress() if options.quiet else Console()
    try:
        return _compare(options, progress)
    except (DesignError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, DesignError | ValueError) else 1


def _compare(options: argparse.Namespace, progress: Progress) -> int:
    card, board = load_model_card(options.model), target.load(options.target)
    planned, board, beyond = _planned(card, board, parse_engine(options.engine))
    c = planned.config
    for context in (options.tokens, *options.contexts):
        if not 2 <= context <= c.context:
            raise DesignError(f"{card.name} has contexts of 2 to {c.context}, not {context}")
    if options.tokens > c.chunk:
        raise DesignError(f"a pass holds {c.chunk} tokens, not {options.tokens}")
    folder = _folder(options.out, card, board, planned, progress)
    schedule = Schedule.from_yaml((folder / "schedule.yaml").read_text(encoding="utf-8"))
    prompt, tokens = predict_points(
        c, board, schedule, prompts=[options.tokens], contexts=options.contexts
    )
    lanes, granted = c.tokens * c.lanes**2, float(memory_machine(c, board).bytes_per_cycle)
    print(
        f"{card.name} on {board.name}, {c.array}:{c.pe}:{c.tokens}x{c.lanes}x{c.lanes}: "
        f"{lanes:,} multipliers, {granted:.0f} bytes per cycle, {board.clock_mhz:g} MHz assumed"
        + (f"; beyond the DSP slices of {board.name}: for cycles only" if beyond else "")
    )
    goals: list[tuple[str, float]] = []
    for point in (*prompt, *tokens):
        one = point.tokens == 1
        title = (
            f"one token at context {point.context}" if one else f"prompt of {point.tokens} tokens"
        )
        print_at = _Table(
            f"{title}: {card.layers} layers and head", point, granted, board.clock_mhz
        )
        bound = f"ideal: {'all bandwidth' if point.bound == 'memory' else 'all multipliers'} busy"
        print_at.add(
            _Row(bound, max(point.compute_cycles, point.memory_cycles), lanes, point.needed_bytes)
        )
        print_at.add(_Row("hwgen, predicted", point.cycles, lanes, point.traffic.total))
        layer = _layer(point)
        if options.rtl:
            past = point.context - point.tokens
            found = measure(folder, card, c.port_bytes, point.tokens, past, progress)
            print_at.add(
                _Row("hwgen, RTL (layers 1 and 2, and the head)", found.cycles, lanes, found.bytes)
            )
            off = point.cycles / found.cycles - 1
            print(f"  {found.values:,} values equal the golden model; prediction off by {off:+.2%}")
            layer = (found.layer_cycles, found.layer_bytes)
        for row in _peers(card, lanes, point.tokens, point.context):
            print_at.add(row)
        cycles, moved = layer
        basis = "RTL" if options.rtl else "predicted"
        if one:
            goals.append((f"bandwidth over a layer, {title} ({basis})", moved / granted / cycles))
        else:
            macs = sum(phase.macs for phase in point.phases if phase.runs > 1) / card.layers
            goals.append((f"lanes busy over a layer, {title} ({basis})", macs / lanes / cycles))
    print()
    for name, reached in goals:
        print(
            f"{name}: {reached:.1%} (at least {GOAL:.0%}) {'ok' if reached >= GOAL else 'MISSED'}"
        )
    return int(any(reached < GOAL for _, reached in goals))


def _layer(point: Point) -> tuple[int, int]:
    """Cycles and bytes of one layer of a prediction, on average."""
    phases = [phase for phase in point.phases if phase.runs > 1]
    runs = max(phase.runs for phase in phases)
    return sum(p.cycles for p in phases) // runs, sum(p.bytes for p in phases) // runs


if __name__ == "__main__":
    sys.exit(main())
