# SPDX-License-Identifier: Apache-2.0
"""A layer of GPT-2 medium on as many multipliers and memory ports as InTAR's design for the VPK180 has.

``python -m benchmarks.gpt2_layer [--rtl N ...]``. 16,384 multipliers as one core (theirs: 8 cores of 2,048), two ports
of 64 bytes a cycle (theirs: two for weights alone, three more for activations), int4 weights. Ours is what a layer
in the midst of the network adds to a run, K and V written, both norms in; prompts beyond a pass's 128 tokens take
several passes. ``--rtl N`` runs one layer and two of a prompt of N tokens in RTL, on random weights, every tensor
compared with the golden model. "8 cores" is the proven optimum of a layer on their grid of eight cores, predicted
(``hwgen schedule gpt2-medium``); "by hand" is their schedule with their cadences, judged by our checker. InTAR's
figures are these cadences put together from the authors' RTL: they leave out memory stalls. The floor is the longer
of all multipliers busy on causal products, and all weights read once.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from amaranth.hdl import UnusedElaboratable

from benchmarks.prefill_decode import design_folder, measure
from designs import target
from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from designs.progress import Progress, SilentProgress
from designs.target import TargetCard
from designs.transformer import transformer_model
from designs.weight_format import WeightFormat
from generators.compress import Compression
from generators.layer_by_hand import INTAR
from generators.layer_grid import layer_macs, layer_weights
from generators.layer_plans import schedule_layers
from generators.lower import lower
from generators.machine import measure as measure_machine
from generators.plan import plan
from hw.arrays import parse_engine
from hwgen.console import Console
from schedules.cycles import play
from schedules.machine import Machine
from schedules.optimal.check import check_plan
from schedules.schedule import Schedule
from schedules.sequential import sequential
from sim.errors import SimulationError, ToolError

__all__ = ["floor_cycles", "layer_cycles", "main"]

ENGINE = "tree:mac:4x64x64"
GOAL = {64: 60_000, 128: 125_000, 256: 236_000, 512: 482_000, 1024: 1_003_000}


def ports_of_intar() -> TargetCard:
    """The VPK180 with the weight ports of InTAR's design, and multipliers enough for one a product."""
    card = target.load("vpk180")
    memory = card.memory.model_copy(
        update={"ports": 2, "port_bits": 512, "latency_cycles": 64, "bandwidth_gbps": 30.72}
    )
    return card.model_copy(
        update={"clock_mhz": 240.0, "dsp": 1 << 15, "dsp_usable": 1 << 15, "memory": memory}
    )


def passes(tokens: int, chunk: int) -> list[tuple[int, int]]:
    """Tokens of each pass of a prompt, and those before them."""
    return [(min(chunk, tokens - past), past) for past in range(0, tokens, chunk)]


def layer_cycles(schedule: Schedule, machine: Machine, tokens: int, past: int) -> int:
    """What one more layer adds to a run of a pass, predicted."""
    one, two = (
        play(schedule, machine, prompt=tokens, position=past, repeat=layers).cycles
        for layers in (1, 2)
    )
    return two - one


def floor_cycles(card: ModelCard, tokens: int, lanes: int, bytes_per_cycle: float) -> int:
    """No schedule of a layer is shorter: every multiplier always busy, or every int4 weight read once."""
    reading = -int(-layer_weights(card) / 2 // bytes_per_cycle)
    return max(-(-layer_macs(card, tokens) // lanes), reading)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 if a goal is missed or a value differs, 2 if asked wrongly."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpt2_layer")
    parser.add_argument("--rtl", type=int, nargs="*", default=[], metavar="N", choices=list(INTAR))
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="folder for designs")
    parser.add_argument("--quiet", action="store_true", help="table only")
    options = parser.parse_args(arguments)
    progress: Progress = SilentProgress() if options.quiet else Console()
    warnings.simplefilter("ignore", UnusedElaboratable)  # units that only say their latencies
    try:
        return _compare(options, progress)
    except (DesignError, RuntimeError, SimulationError, ToolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, DesignError) else getattr(error, "exit_code", 1)


def _compare(options: argparse.Namespace, progress: Progress) -> int:
    card, board = load_model_card("gpt2-medium"), ports_of_intar()
    stream = Compression(WeightFormat.parse("int4", None, "dense", None))
    planned = plan(card, board, parse_engine(ENGINE), stream)
    c = planned.config
    machine = measure_machine(c, board)
    schedule = sequential(lower(transformer_model(card)), machine, clock_mhz=board.clock_mhz)
    lanes, rate = machine.multipliers, float(machine.bytes_per_cycle)
    print(f"{card.name}, cycles a layer: {ENGINE}, {lanes:,} multipliers, {rate:g} bytes a cycle")
    print(
        f"{'tokens':>6}{'floor':>12}{'hwgen':>12}{'RTL':>12}{'8 cores':>12}{'InTAR':>12}"
        f"{'by hand':>12}{'to reach':>12}{'lanes busy':>12}{'over InTAR':>12}"
    )
    folder = design_folder(options.out, card, board, planned, progress) if options.rtl else None
    missed = False
    for tokens, published in INTAR.items():
        pieces = passes(tokens, c.chunk)
        ours = sum(layer_cycles(schedule, machine, n, past) for n, past in pieces)
        counted = None
        if folder is not None and tokens in options.rtl:
            counted = sum(
                measure(folder, card, planned, n, past, progress).layer_cycles for n, past in pieces
            )
        best = counted or ours
        missed |= best > GOAL[tokens]
        least = floor_cycles(card, tokens, lanes, rate)
        grid = [schedule_layers(card, tokens, policy) for policy in ("optimal", "hand-intar")]
        for instance, found in grid:
            check_plan(instance, found)
        eight, hand = (found.makespan for _, found in grid)
        print(
            f"{tokens:>6}{least:>12,}{ours:>12,}{f'{counted:,}' if counted else '':>12}{eight:>12,}"
            f"{published:>12,}{hand:>12,}{GOAL[tokens]:>12,}"
            f"{layer_macs(card, tokens) / lanes / best:>12.1%}{published / best:>11.2f}x",
            flush=True,
        )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
