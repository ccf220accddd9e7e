# SPDX-License-Identifier: Apache-2.0
"""The authors' own schedule of a GPT-2 layer (InTAR, FCCM 2025), with the cadences of their RTL: the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence

from designs.cards import ModelCard
from designs.errors import DesignError
from generators.kernel import asked
from generators.layer_grid import COLUMNS, GRID, Grid, check_layer
from schedules.optimal.instance import Edge, Instance, Load, Mode, Port, Task, Unit
from schedules.optimal.plan import LoadTime, Place, Plan, Run, links_of

__all__ = ["INTAR", "hand_intar"]

INTAR = {64: 140_900, 128: 213_900, 256: 369_300, 512: 716_600, 1024: 1_557_600}
"""Cycles of a layer of GPT-2 medium by tokens: cadences in the authors' RTL put together, without memory stalls."""

CADENCE = {"q": 150.4, "v": 150.4, "k": 159.9, "scores": 47.7, "wo": 71.0, "fc": 167.0}
"""Cycles of a tile of 16 x 16 outputs in their RTL, inputs always ready."""
CONTEXT_TILE = 39.7
"""Of a tile of the context, beside its beats: what a tile of scores takes beside its 8."""
PORT_BYTES = 63
"""A port's 64 bytes come in 128 of 130 cycles."""
FITTED = (4950.0, 21.6)
"""Cycles a layer and a token that the stages' own runs do not show (norms, drains, starts): fitted to the totals."""


def hand_intar(card: ModelCard, tokens: int) -> tuple[Instance, Plan]:
    """The authors' schedule of a layer: rounds of a head a die, weights loaded before each stage, and their cadences.

    Q on the left column and V on the right; K on both; scores on the left stream through softmax to the context on the
    right; the projection on both; the hidden layer on the left streams to the output on the right.

    Raises
    ------
    DesignError
        For a model, heads or a prompt that the grid cannot take, or if the tokens are not a multiple of 32.
    """
    grid = GRID
    check_layer(card, tokens, grid)
    if tokens % 32:
        raise DesignError(f"InTAR takes prompts of multiples of 32 tokens, not {tokens}")
    with asked():
        return _Hand(card, tokens, grid).build()


class _Hand:
    """Tasks one after the other, each as early as the authors' stages allow."""

    def __init__(self, card: ModelCard, tokens: int, grid: Grid) -> None:
        self.card, self.rows, self.grid = card, tokens // 16, grid
        self.tasks: list[Task] = []
        self.edges: list[Edge] = []
        self.runs: list[Run] = []
        self.places: list[Place] = []
        self.loads: list[LoadTime] = []
        self.ports = {name: Port(name, PORT_BYTES, 4) for name in ("w0", "w1")}
        self.now = 0

    def build(self) -> tuple[Instance, Plan]:
        card, rows = self.card, self.rows
        columns = card.head_size // 16  # tiles of a head
        slice_ = card.width // 16
        for r in range(card.heads // self.grid.dies):
            self._together(
                {
                    f"q{r}": (COLUMNS[:1], rows * columns * CADENCE["q"], card.width * 64),
                    f"v{r}": (COLUMNS[1:], rows * columns * CADENCE["v"], card.width * 64),
                }
            )
            self._together({f"k{r}": (COLUMNS, rows * columns / 2 * CADENCE["k"], card.width * 64)})
            self._stream(
                f"scores{r}", [CADENCE["scores"] * (i + 1) for i in range(rows)],
                f"context{r}", [columns * (2 * (i + 1) + CONTEXT_TILE) for i in range(rows)],
            )  # fmt: skip
        # Both columns hold the whole slice of a die.
        self._together(
            {
                "wo": (
                    COLUMNS,
                    rows / 2 * slice_ * CADENCE["wo"],
                    2 * card.width**2 // self.grid.dies,
                )
            }
        )
        line = slice_ * CADENCE["fc"]
        weights = card.width * card.ffn // self.grid.dies
        self._stream("fc1", [line] * rows, "fc2", [line] * rows, weights)
        self._together({"norms": (COLUMNS, FITTED[0] + FITTED[1] * 16 * rows, 0)})
        units = tuple(Unit(name, 1 << 30) for name in COLUMNS)
        instance = Instance(
            f"{card.name}, layer of {16 * rows} tokens by hand", units, tuple(self.ports.values()),
            tuple(self.tasks), tuple(self.edges),
        )  # fmt: skip
        modes = {t.name: t.modes[0] for t in self.tasks}
        places = {(p.tensor, p.to): p for p in self.places}
        plan = Plan(
            instance.name, "hand-intar", tuple(self.runs), tuple(self.places), tuple(self.loads),
            (), self.now, sum(m.bytes for m in modes.values()),
            len(links_of(instance, modes, places)), self.now, False,
        )  # fmt: skip
        return instance, plan

    def _loads(self, units: Sequence[str], per_die: int, rest: int) -> tuple[Load, ...]:
        """int4 weights of all dies: a column has its port, two columns share what they load."""
        size = per_die * self.grid.dies // 2 // len(units)
        ports = [f"w{COLUMNS.index(unit)}" for unit in units]
        return tuple(Load(port, size, size, rest, size) for port in ports if size)

    def _add(self, name: str, mode: Mode, start: int, end: int, begun: int) -> None:
        self.tasks.append(Task(name, (mode,)))
        self.runs.append(Run(name, mode.name, start, end))
        self.loads += [LoadTime(name, n, begun) for n in range(len(mode.loads))]

    def _arrive(self, loads: Sequence[Load]) -> int:
        return self.now + max(
            (self.ports[x.port].cycles(x.bytes) + self.ports[x.port].latency for x in loads),
            default=0,
        )

    def _together(self, tasks: dict[str, tuple[Sequence[str], float, int]]) -> None:
        """Load, then run side by side."""
        ends = []
        for name, (units, cycles, weights) in tasks.items():
            time = math.ceil(cycles)
            loads = self._loads(units, weights, time)
            start = self._arrive(loads)
            ends.append(start + time)
            mode = Mode("+".join(units), tuple(units), time, loads=loads)
            self._add(name, mode, start, ends[-1], self.now)
        self.now = max(ends)

    def _stream(
        self, one: str, pieces: Sequence[float], two: str, others: Sequence[float], weights: int = 0
    ) -> None:
        """Row blocks of one task on the left go to another on the right, which takes each when it has come."""
        first, last = math.ceil(pieces[0]), math.ceil(others[-1])
        time, other = math.ceil(sum(pieces)), math.ceil(sum(others))
        came = taken = 0.0
        for piece, rest in zip(pieces, others, strict=True):
            came += piece
            taken = max(taken, came) + rest
        loads = self._loads(COLUMNS[:1], weights, time)
        start = self._arrive(loads)
        self._add(
            one,
            Mode("left", ("left",), time, first, loads=loads, makes="rows"),
            start,
            start + time,
            self.now,
        )
        later = start + first
        end = max(math.ceil(start + taken), later + other, start + time + last)
        loads = self._loads(COLUMNS[1:], weights, other)
        self._add(
            two,
            Mode("right", ("right",), other, last=last, loads=loads, takes="rows"),
            later,
            end,
            self.now,
        )
        size = len(pieces) * 256
        self.edges.append(Edge(one, one, two, size, 256, len(pieces), ("stream",)))
        self.places.append(Place(one, two, "stream"))
        self.now = end
