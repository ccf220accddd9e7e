# SPDX-License-Identifier: Apache-2.0
"""A prompt through a layer of a GPT-2 on a grid of cores: two columns, a row for every die (InTAR's template).

Every die does the same on its heads and its slice of the hidden layer, so a column is one unit of what is scheduled.
Durations come from the engines, as in :mod:`generators.kernel`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from designs.cards import ModelCard
from designs.errors import DesignError
from generators.kernel import SFU_LATENCY, asked, engine_of
from schedules.optimal.instance import Edge, Instance, Load, Mode, Port, Task, Unit

__all__ = [
    "COLUMNS",
    "GRID",
    "Grid",
    "check_layer",
    "layer_instance",
    "layer_macs",
    "layer_weights",
]

COLUMNS = ("left", "right")
NORM, SOFTMAX = "norm", "softmax"


@dataclass(frozen=True)
class Grid:
    """Cores, scratchpads and ports; the values of InTAR's design for the VPK180 where it has them.

    Parameters
    ----------
    dies : rows of the grid, of two cores each.
    tokens, reduce, outputs : shape of a core's engine; theirs is 16 x 8 x 16, as many multipliers.
    sfu_lanes : elements a cycle of the softmax, and of the norm, of a die.
    spad_bytes : scratchpad of a core; theirs have 9.4 MiB together.
    bytes_per_cycle, latency : of the memory, two ports together.
    weight_bits : of a weight.
    reconf_cycles : from one task of a core to the next.
    """

    dies: int = 4
    tokens: int = 2
    reduce: int = 32
    outputs: int = 32
    sfu_lanes: int = 32
    spad_bytes: int = 1_228_800
    bytes_per_cycle: int = 128
    latency: int = 64
    weight_bits: int = 4
    reconf_cycles: int = 4

    @property
    def lanes(self) -> int:
        """Multipliers of all cores."""
        return 2 * self.dies * self.tokens * self.reduce * self.outputs


GRID = Grid()


def check_layer(card: ModelCard, tokens: int, grid: Grid) -> None:
    """Raise DesignError unless the grid can play a prompt of so many tokens."""
    if card.family != "gpt2":
        raise DesignError(f"the grid plays layers of gpt2 models; {card.name} is of {card.family}")
    for what, size in (("heads", card.heads), ("ffn", card.ffn)):
        if size % grid.dies:
            raise DesignError(f"{card.name}: {size} {what} cannot be dealt out to {grid.dies} dies")
    if not 1 <= tokens <= card.context:
        raise DesignError(f"{card.name} has prompts of 1 to {card.context} tokens, not {tokens}")


def layer_weights(card: ModelCard) -> int:
    """Weights of a layer's products."""
    return 4 * card.width**2 + 2 * card.width * card.ffn


def layer_macs(card: ModelCard, tokens: int) -> int:
    """Multiplications of a layer, masked ones left out."""
    return tokens * layer_weights(card) + tokens * (tokens + 1) * card.width


def layer_instance(card: ModelCard, tokens: int, grid: Grid = GRID, *, layers: int = 1) -> Instance:
    """The tasks of layers and their modes: on both columns, the left one, or the right one.

    Raises
    ------
    DesignError
        For another family, heads or a hidden layer that the dies cannot share, a prompt beyond the context, or more
        layers than the model has.
    """
    check_layer(card, tokens, grid)
    if not 1 <= layers <= card.layers:
        raise DesignError(f"{card.name} has 1 to {card.layers} layers, not {layers}")
    with asked():
        return _Layers(card, tokens, grid).instance(layers)


@dataclass(frozen=True)
class _Layers:
    card: ModelCard
    tokens: int
    grid: Grid

    def instance(self, layers: int) -> Instance:
        grid = self.grid
        tasks: list[Task] = []
        edges: list[Edge] = []
        for n in range(layers):
            prefix = f"h{n}." if layers > 1 else ""
            tasks += [replace(task, name=prefix + task.name) for task in self._tasks()]
            edges += [
                replace(e, tensor=prefix + e.tensor, source=prefix + e.source, to=prefix + e.to)
                for e in self._edges()
            ]
            if n:
                between = self._edge("z", f"h{n - 1}.fc2", f"{prefix}ln1", 2 * self._row)
                edges.append(replace(between, tensor=f"{prefix}z"))
        units = [Unit(name, grid.spad_bytes * grid.dies, 4096) for name in COLUMNS]
        return Instance(
            f"{self.card.name}, {layers} layers of {self.tokens} tokens",
            (*units, Unit(NORM), Unit(SOFTMAX)),
            (Port("mem", grid.bytes_per_cycle, grid.latency),), tuple(tasks), tuple(edges),
            grid.reconf_cycles,
        )  # fmt: skip

    @property
    def _row(self) -> int:
        """Elements of all rows of the residual stream."""
        return self.tokens * self.card.width

    def _tasks(self) -> list[Task]:
        card, width = self.card, self.card.width
        slice_, hidden = width // self.grid.dies, card.ffn // self.grid.dies
        return [
            self._norm("ln1"),
            *(self._product(name, width, slice_) for name in ("q", "k", "v")),
            self._attention("scores", keys=True),
            self._softmax(),
            self._attention("context", keys=False),
            self._product("wo", slice_, width),
            self._norm("ln2"),
            self._product("fc1", width, hidden),
            self._product("fc2", hidden, width),
        ]

    def _edges(self) -> list[Edge]:
        card, rows, row = self.card, self.tokens, self._row
        scores, heads = card.heads * rows * rows, card.heads * rows
        return [
            *(self._edge("x1", "ln1", to, row) for to in ("q", "k", "v")),
            self._edge("q", "q", "scores", row, whole=True),
            self._edge("k", "k", "scores", row, whole=True),
            self._edge("s", "scores", "softmax", 4 * scores, pieces=heads),
            self._edge("p", "softmax", "context", scores, pieces=heads),
            self._edge("v", "v", "context", row, whole=True),
            self._edge("c", "context", "wo", row, whole=True),
            self._edge("y", "wo", "ln2", 2 * row),
            self._edge("x2", "ln2", "fc1", row),
            self._edge("h", "fc1", "fc2", rows * card.ffn),
        ]

    def _edge(
        self, tensor: str, source: str, to: str, size: int, *, pieces: int = 0, whole: bool = False
    ) -> Edge:
        grain = -(-size // (pieces or self.tokens))
        return Edge(
            tensor, source, to, size, grain, 2, ("onchip",) if whole else ("stream", "onchip")
        )

    def _blocks(self) -> list[int]:
        """Rows that the engine takes at a time."""
        whole, rest = divmod(self.tokens, self.grid.tokens)
        return [self.grid.tokens] * whole + [rest] * (rest > 0)

    def _interval(self, k: int, rows: int) -> int:
        grid = self.grid
        return engine_of("tree", grid.tokens, grid.reduce, grid.outputs, 8, k).interval(k, rows)

    def _latency(self, k: int) -> int:
        grid = self.grid
        return engine_of("tree", grid.tokens, grid.reduce, grid.outputs, 8, k).latency + grid.dies

    def _product(self, name: str, k: int, n: int) -> Task:
        """Rows by a weight ``[k, n]`` of each die: row after row, or all rows by a tile of weights as it comes."""
        grid, modes = self.grid, []
        weights, latency = k * n * grid.dies * grid.weight_bits // 8, self._latency(k)
        for units in (COLUMNS, COLUMNS[:1], COLUMNS[1:]):
            tiles = -(-n // (grid.outputs * len(units)))
            blocks = [self._interval(k, block) for block in self._blocks()]
            rows, column, tile = [tiles * t for t in blocks], sum(blocks), -(-weights // tiles)
            label, cycles = "+".join(units), tiles * column + latency
            late = Load("mem", weights, tile, sum(rows[1:]) + blocks[0] + latency, weights)
            soon = replace(late, rest=column + latency)
            modes += [
                Mode(
                    f"{label} columns", units, cycles, column + latency, cycles, (soon,), makes="columns",
                ),
                Mode(
                    f"{label} rows", units, cycles, rows[0] + latency, rows[-1] + latency, (late,),
                    takes="rows", makes="rows",
                ),
            ]  # fmt: skip
        return Task(name, tuple(modes))

    def _attention(self, name: str, *, keys: bool) -> Task:
        """Queries by keys, or probabilities by values: head by head, what is masked left out."""
        grid, head = self.grid, self.card.head_size
        times, seen = [], 0
        for block in self._blocks():
            seen += block
            words = -(-seen // grid.outputs) if keys else -(-seen // grid.reduce)
            if keys:
                times.append(words * self._interval(head, block))
            else:
                tiles = -(-head // grid.outputs)
                times.append(tiles * self._interval(words * grid.reduce, block))
        latency = self._latency(head if keys else self.tokens)
        heads, modes = self.card.heads // grid.dies, []
        for units in (COLUMNS, COLUMNS[:1], COLUMNS[1:]):
            cycles = -(-heads // len(units)) * sum(times) + latency
            modes.append(
                Mode(
                    "+".join(units), units, cycles, times[0] + latency, times[-1] + latency,
                    takes="heads", makes="heads",
                )
            )  # fmt: skip
        return Task(name, tuple(modes))

    def _softmax(self) -> Task:
        """A row is seen once for its maximum and once for its exponentials, row after row without a pause."""
        words = [-(-(row + 1) // self.grid.sfu_lanes) for row in range(self.tokens)]
        cycles = self.card.heads // self.grid.dies * sum(words) + SFU_LATENCY
        first = min(cycles, words[0] + SFU_LATENCY)
        last = min(cycles, 2 * words[-1] + SFU_LATENCY)
        mode = Mode(SOFTMAX, (SOFTMAX,), cycles, first, last, takes="heads", makes="heads")
        return Task(SOFTMAX, (mode,))

    def _norm(self, name: str) -> Task:
        """Dies take rows in turn."""
        words = -(-self.card.width // self.grid.sfu_lanes)
        cycles = words * -(-self.tokens // self.grid.dies) + words + SFU_LATENCY
        first = min(cycles, 2 * words + SFU_LATENCY)
        mode = Mode(name, (NORM,), cycles, first, first, takes="rows", makes="rows")
        return Task(name, (mode,))
