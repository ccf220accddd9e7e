# SPDX-License-Identifier: Apache-2.0
"""Cycles of a decoded token with keys and values in PIM channels and in the external memory, at growing context.

``python -m benchmarks.pim_decode [--context C] [--no-rtl] [--output FILE]``

Two cores play the same network, one with the engine's rings, one with channels. The RTL of both generates C tokens of
a small network with random weights, all values compared with the golden model, and every token's cycles are counted;
beside them, what the cycle model predicts. Then gpt2-medium on u280 and u280-pim, predicted.
"""

import argparse
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from designs import target
from designs.cards import ModelCard, load_model_card
from designs.target import TargetCard
from designs.transformer import transformer_model
from generators.design import write_design
from generators.image import write_image
from generators.lower import lower
from generators.machine import measure
from generators.plan import Plan, best_plan
from generators.quantise import random_quantised
from hwgen.console import Console
from schedules.cycles import play
from schedules.machine import Machine
from schedules.schedule import Schedule
from schedules.sequential import sequential
from sim.run import run_layers

__all__ = ["Side", "main", "predicted"]

SMALL = ModelCard(
    name="pim-decode", layers=1, width=128, heads=4, ffn=128, vocabulary=64, context=384
)
"""One layer whose keys and values outgrow its weights."""


@dataclass(frozen=True)
class Side:
    """A network on a target: its schedule and machine."""

    card: ModelCard
    board: TargetCard
    planned: Plan
    machine: Machine
    schedule: Schedule

    @staticmethod
    def of(card: ModelCard, name: str) -> "Side":
        """Plan and schedule it."""
        board = target.load(name)
        planned = best_plan(card, board)
        machine = measure(planned.config, board)
        schedule = sequential(
            lower(transformer_model(card)), machine, clock_mhz=board.clock_mhz, passes=()
        )
        return Side(card, board, planned, machine, schedule)


def predicted(side: Side, context: int, tokens: int = 0) -> tuple[int, int]:
    """Cycles of a token that sees so many, and those of its attention; of a run of so many tokens, if that is told."""
    if tokens:
        timed = play(side.schedule, side.machine, prompt=1, generate=tokens).passes[context - 1]
    else:
        run = play(side.schedule, side.machine, prompt=1, generate=2, position=context - 2)
        timed = run.passes[-1]
    phases = {name: count.cycles for name, _, _, count in timed.phases}
    return timed.cycles, phases["attention"]


def measured(side: Side, tokens: int, console: Console) -> list[int]:
    """Cycles between tokens in RTL: the first one belongs to a context of two.

    Raises
    ------
    SystemExit
        If a value differs from the golden model's.
    """
    with tempfile.TemporaryDirectory(prefix="hwgen-pim.") as name:
        write_design(Path(name), side.card, side.board, side.planned, console)
        result = run_layers(
            Path(name), side.card.layers, 1, seed=1, model=random_quantised(side.card, 1),
            write_image=write_image, generate=tokens, progress=console,
        )  # fmt: skip
    if not result.identical:
        raise SystemExit(f"{side.board.name}: {result.mismatch}")
    at = result.token_cycles
    return [b - a for a, b in pairwise(at)]


def lines(tokens: int, rtl: bool, console: Console) -> Iterator[str]:
    """The tables, row by row."""
    card = SMALL.model_copy(update={"context": tokens})
    sides = [Side.of(card, name) for name in ("sim-small", "tiny-pim")]
    counted = [measured(side, tokens, console) if rtl else [] for side in sides]
    c = sides[0].planned.config
    yield (
        f"one layer of width {card.width}, {card.heads} heads of {card.head_size}, on sim-small and tiny-pim "
        f"({c.engine_name}, {c.stripe_bytes} bytes a cycle; {sides[1].planned.limits[-1]})"
    )
    contexts = [n for n in (2, 16, 64, 128, 256, 384, 512) if n < tokens] + [tokens - 1]
    yield from _table(sides, counted, contexts)
    medium = load_model_card("gpt2-medium")
    sides = [Side.of(medium, name) for name in ("u280", "u280-pim")]
    yield ""
    yield f"gpt2-medium on u280 and u280-pim ({sides[1].planned.limits[-1]}), predicted"
    yield from _table(sides, [[], []], [64, 128, 256, 512, 1024])


def _table(sides: list[Side], counted: list[list[int]], contexts: list[int]) -> Iterator[str]:
    yield (
        f"{'context':>8}" + "".join(f"{s.board.name:>12}{'predicted':>11}{'attention':>11}" for s in sides)
        + f"{'gain':>7}{'of attention':>14}"
    )  # fmt: skip
    for context in contexts:
        row, totals, attentions = f"{context:8,}", [], []
        for side, cycles in zip(sides, counted, strict=True):
            total, attention = predicted(side, context, len(cycles) + 1 if cycles else 0)
            got = cycles[context - 2] if cycles else None
            totals.append(got or total)
            attentions.append(attention)
            row += f"{'-' if got is None else format(got, ','):>12}{total:11,}{attention:11,}"
        yield row + f"{totals[0] / totals[1]:7.2f}{attentions[0] / attentions[1]:14.2f}"


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--context", type=int, default=SMALL.context, help="tokens that the RTL generates"
    )
    parser.add_argument("--no-rtl", action="store_true", help="predict only")
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", UnusedElaboratable)
    text = "\n".join(lines(chosen.context, not chosen.no_rtl, Console())) + "\n"
    print(text, end="")
    if chosen.output:
        chosen.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
