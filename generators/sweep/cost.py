# SPDX-License-Identifier: Apache-2.0
"""What a candidate costs, by the cycle model and the estimate of resources; nothing is built.

A design's cycles are linear in its layers and in the tiles of its vocabulary, so three small networks with
the core of the large one give its line: one layer, two layers, and one with more words. Tests hold the result
against the cycle model of the whole network: layers differ by how full the rings are, by 1 or 2 percent.
"""

from __future__ import annotations

from typing import Any

from designs import target
from designs.cards import ModelCard
from designs.transformer import transformer_model
from generators.compress import Compression
from generators.lower import lower
from generators.machine import measure
from generators.plan import Plan, best_plan, plan
from generators.report import needed_weight_bytes
from generators.resources import KINDS, available, estimate, total
from generators.sweep.spec import Candidate
from hw.arrays import parse_engine
from schedules.cycles import Pass, predict
from schedules.machine import Machine
from schedules.sequential import sequential

__all__ = ["evaluate", "planned"]

FEW_TILES = 32
"""Tiles of the small vocabulary; the other small one has twice as many."""


def planned(card: ModelCard, candidate: Candidate) -> Plan:
    """The core of a candidate.

    Raises
    ------
    DesignError
        If it cannot be built: why.
    """
    board = target.load(candidate.target)
    compression = Compression(candidate.format)
    if candidate.engine is None:
        return best_plan(card, board, compression)
    return plan(card, board, parse_engine(candidate.engine), compression)


def evaluate(card: ModelCard, candidate: Candidate, *, prompt: int, context: int) -> dict[str, Any]:
    """The figures of a candidate, by the names of `METRICS`, and ``engine``: its shape.

    Parameters
    ----------
    card, candidate : what would be built.
    prompt, context : tokens of the prompt; tokens that a generated one sees, itself included; at most the
        model's context.

    Raises
    ------
    DesignError
        If it cannot be built: why.
    """
    board = target.load(candidate.target)
    found = planned(card, candidate)
    c = found.config
    machine = measure(c, board)
    prompt, context = min(prompt, card.context), min(context, card.context)
    prefill, decode = _cycles(card, machine, prompt, context)
    used, have = total(estimate(c, board)).rounded(), available(board).rounded()
    hertz = board.clock_mhz * 1e6
    return {
        "engine": c.engine_name,
        "decode": decode / hertz,
        "prefill": prefill / hertz,
        "decode_cycles": decode,
        "prefill_cycles": prefill,
        "use": round(max(used[kind] / have[kind] for kind in KINDS if used[kind]), 6),
        **{kind: used[kind] for kind in KINDS},
        "weight_bytes": needed_weight_bytes(c, answer=True),
    }


def _cycles(card: ModelCard, machine: Machine, prompt: int, context: int) -> tuple[int, int]:
    """Cycles of a prompt, and of a token."""
    few = min(FEW_TILES * machine.lanes, card.vocabulary)
    more = min(2 * few, card.vocabulary)
    one = _small(card, machine, 1, few, prompt, context)
    result = list(one)
    if card.layers > 1:
        two = _small(card, machine, 2, few, prompt, context)
        for k in range(2):
            result[k] += (card.layers - 1) * (two[k] - one[k])
    if card.vocabulary > few:
        wide = _small(card, machine, 1, more, prompt, context)
        for k in range(2):
            result[k] += (card.vocabulary - few) * (wide[k] - one[k]) // (more - few)
    return result[0], result[1]


def _small(
    card: ModelCard, machine: Machine, layers: int, vocabulary: int, prompt: int, context: int
) -> tuple[int, int]:
    small = card.model_copy(update={"layers": layers, "vocabulary": vocabulary})
    schedule = sequential(lower(transformer_model(small)), machine, clock_mhz=1.0)  # cycles only
    passes = [
        Pass(min(machine.chunk, prompt - past), past, past + machine.chunk >= prompt)
        for past in range(0, prompt, machine.chunk)
    ]
    return (
        sum(predict(schedule, machine, each).total for each in passes),
        predict(schedule, machine, Pass(1, context - 1, True)).total,
    )
