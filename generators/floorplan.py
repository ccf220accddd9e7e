# SPDX-License-Identifier: Apache-2.0
"""Which block goes on which die of a part that has several: few bits between dies, nothing too full.

A hint: nothing is placed. Blocks are those of the report, links those of the RTL. The engine can be cut between its
outputs, every other block is on one die. HBM is beside die 0, so with it the memory ports are there. Solved by CP-SAT:
first the largest excess of any die, then bits times dies crossed, then the fullest die.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from designs.target import TargetCard
from generators import resources
from generators.blocks import Blocks
from generators.report_facts import BlockFacts, DieFacts, FloorplanFacts

__all__ = ["block_links", "floorplan"]

_KINDS = ("lut", "dsp", "bram", "uram")
_ENGINE, _PORTS, _REST = "engine", "memory ports", "control"
_PERMILLE = 1000
_SECONDS = 5.0
"""Most time of each search, as CP-SAT counts work: the same on every machine."""


def floorplan(
    board: TargetCard, facts: Sequence[BlockFacts], blocks: Blocks, outputs: int
) -> FloorplanFacts | None:
    """A die for every block; None if the part has one die.

    Parameters
    ----------
    board : the target.
    facts : blocks and what they take, the engine among them.
    blocks : the parts of the accelerator and their links.
    outputs : of the engine: the equal pieces into which it can be cut.
    """
    if board.dies == 1:
        return None
    left = _left(board)
    found, crossing = _solve(left, facts, block_links(facts, blocks), outputs, board)
    dies = []
    for d, available in enumerate(left):
        used = {k: sum(getattr(f.used, k) * found[f.name][d] for f in facts) for k in _KINDS}
        dies.append(
            DieFacts(
                used={kind: round(count) for kind, count in used.items()},
                available=dict(available),
                blocks={f.name: found[f.name][d] for f in facts if found[f.name][d]},
            )
        )
    return FloorplanFacts(dies=tuple(dies), crossing_bits=crossing)


def block_links(facts: Sequence[BlockFacts], blocks: Blocks) -> dict[tuple[str, str], int]:
    """Bits between blocks of the report, in both directions together, by the links of their parts."""
    owner = {}
    for part in blocks.parts:
        # A bus of the accelerator ends in the block that serves it.
        owner[part.name] = _PORTS if part.name.startswith("m_axi") else _REST
        for f in facts:
            if part.module is not None and f.owns(part.module):
                owner[part.name] = f.name
    names = {f.name for f in facts}
    found: dict[tuple[str, str], int] = {}
    for link in blocks.links:
        one, two = sorted((owner[link.source], owner[link.sink]))
        if one != two and {one, two} <= names:
            found[one, two] = found.get((one, two), 0) + link.bits
    return found


def _left(board: TargetCard) -> list[Mapping[str, int]]:
    """What each die has for a design."""
    if board.each_die:
        return [{kind: getattr(die, kind) for kind in _KINDS} for die in board.each_die]
    whole = resources.available(board).rounded()
    return [{kind: whole[kind] // board.dies for kind in _KINDS}] * board.dies


def _solve(
    left: Sequence[Mapping[str, int]],
    facts: Sequence[BlockFacts],
    links: Mapping[tuple[str, str], int],
    outputs: int,
    board: TargetCard,
) -> tuple[dict[str, list[float]], int]:
    """The share of each block on each die, and bits times the dies that they cross."""
    from ortools.sat.python import cp_model  # takes a second; only parts of several dies need it

    model, dies = cp_model.CpModel(), range(len(left))
    count = {f.name: outputs if f.name == _ENGINE else 1 for f in facts}
    on = {
        f.name: [model.new_int_var(0, count[f.name], f"{f.name} {d}") for d in dies] for f in facts
    }
    for name, parts in on.items():
        model.add(sum(parts) == count[name])
    if _PORTS in on and board.memory.kind.startswith("hbm"):
        model.add(on[_PORTS][0] == 1)
    most = 1000 * _PERMILLE
    excess, fullest = (model.new_int_var(0, most, name) for name in ("excess", "fullest"))
    for d in dies:
        for kind in _KINDS:
            parts = [
                (f, round(_PERMILLE * getattr(f.used, kind) / max(left[d][kind], 1))) for f in facts
            ]
            load = sum(part * (outputs // count[f.name]) * on[f.name][d] for f, part in parts)
            model.add(load <= outputs * (_PERMILLE + excess))
            model.add(load <= outputs * fullest)
    cost = []
    for (one, two), bits in sorted(links.items()):
        cut, whole = (one, two) if count[one] > 1 else (two, one)
        for a in dies:
            for b in dies:
                if a != b:  # pieces of one on a, while the other is on b
                    apart = model.new_int_var(0, count[cut], f"{cut} {a} {whole} {b}")
                    model.add(apart >= on[cut][a] - count[cut] * (1 - on[whole][b]))
                    cost.append(bits * abs(a - b) * (outputs // count[cut]) * apart)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    solver.parameters.max_deterministic_time = _SECONDS
    crossing = sum(cost)
    for objective in (excess, crossing, fullest):
        model.minimize(objective)
        if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            raise RuntimeError("a floorplan without limits has a solution")
        model.add(objective <= round(solver.objective_value))
        model.clear_hints()
        for parts in on.values():
            for part in parts:
                model.add_hint(part, solver.value(part))
    shares = {
        name: [round(solver.value(part) / count[name], 4) for part in parts]
        for name, parts in on.items()
    }
    return shares, solver.value(crossing) // outputs
