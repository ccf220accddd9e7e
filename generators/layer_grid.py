"""A prompt through a layer of a GPT-2 on a grid of cores: two columns, a row for every die (InTAR's template).

Every die does the same on its heads and its slice of the hidden layer, so a column is one unit of what is scheduled.
Durations come from the engines, as in :mod:`generators.kernel`. :func:`hand_intar` is the authors' own schedule with
the cadences of their RTL: the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from designs import catalogue
from designs.cards import ModelCard
from designs.errors import DesignError
from generators.kernel import asked, engine_of
from schedules.errors import ScheduleError
from schedules.optimal.instance import Edge, Instance, Load, Mode, Port, Task, Unit
from schedules.optimal.plan import LoadTime, Place, Plan, Run, links_of
from schedules.optimal.solve import EFFORT, Effort, improve, solve

__all__ = [
    "GRID", "INTAR", "POLICIES", "Grid", "hand_intar", "layer_instance", "layer_macs", "schedule_layers",
]  # fmt: skip

POLICIES = ("optimal", "sequential", "hand-intar")
"""``sequential``: both columns work on every product. ``hand-intar``: the authors' schedule, with their cadences."""

INTAR = {64: 140_900, 128: 213_900, 256: 369_300, 512: 716_600, 1024: 1_557_600}
"""Cycles of a layer of GPT-2 medium by tokens: cadences in the authors' RTL put together, without memory stalls."""


COLUMNS = ("left", "right")
NORM, SOFTMAX = "norm", "softmax"
SFU_LATENCY = 16
"""Cycles of a special function unit from a row's last element to its first result."""


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


def _check(card: ModelCard, tokens: int, grid: Grid) -> None:
    if card.family != "gpt2":
        raise DesignError(f"the grid plays layers of gpt2 models; {card.name} is of {card.family}")
    for what, size in (("heads", card.heads), ("ffn", card.ffn)):
        if size % grid.dies:
            raise DesignError(f"{card.name}: {size} {what} cannot be dealt out to {grid.dies} dies")
    if not 1 <= tokens <= card.context:
        raise DesignError(f"{card.name} has prompts of 1 to {card.context} tokens, not {tokens}")


def layer_macs(card: ModelCard, tokens: int) -> int:
    """Multiplications of a layer, masked ones left out."""
    weights = 4 * card.width**2 + 2 * card.width * card.ffn
    return tokens * weights + tokens * (tokens + 1) * card.width


def schedule_layers(
    card: ModelCard, tokens: int, policy: str = "optimal", effort: Effort = EFFORT, layers: int = 1
) -> tuple[Instance, Plan]:
    """The best plan of a policy for some layers, one after the other.

    Raises
    ------
    DesignError
        For an unknown policy, more than one layer by hand, or as :func:`layer_instance` and :func:`hand_intar`.
    """
    if policy not in POLICIES:
        raise DesignError(catalogue.unknown("policy", policy, list(POLICIES)))
    if policy == "hand-intar":
        if layers != 1:
            raise DesignError(f"hand-intar plays one layer, not {layers}")
        return hand_intar(card, tokens)
    instance = layer_instance(card, tokens, layers=layers)
    together = _only(instance, lambda mode: len(mode.units) != 1 or mode.units[0] not in COLUMNS)
    with asked():
        if policy == "sequential":
            return instance, solve(together, effort, policy=policy)
        # A good plan of fewer modes comes soon, and cuts the search among all of them short.
        best: Plan | None = None
        for few in (together, _only(instance, lambda mode: mode.makes != "columns")):
            with suppress(ScheduleError):
                found = solve(few, effort, policy=policy)
                best = found if best is None or found.makespan < best.makespan else best
        if best is None:
            return instance, solve(instance, effort, policy=policy)
        better, bound = improve(instance, best, effort)
        if better is None:
            proven = bound is None
            better = replace(best, bound=best.makespan if proven else bound or 0, proven=proven)
        return instance, better


def _only(instance: Instance, wanted: Callable[[Mode], bool]) -> Instance:
    """The same tasks with some of their modes."""
    tasks = [replace(t, modes=tuple(filter(wanted, t.modes))) for t in instance.tasks]
    return replace(instance, tasks=tuple(tasks))


def layer_instance(card: ModelCard, tokens: int, grid: Grid = GRID, *, layers: int = 1) -> Instance:
    """The tasks of layers and their modes: on both columns, the left one, or the right one.

    Raises
    ------
    DesignError
        For another family, heads or a hidden layer that the dies cannot share, a prompt beyond the context, or more
        layers than the model has.
    """
    _check(card, tokens, grid)
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


# InTAR, FCCM 2025: cycles of a tile of 16 x 16 outputs in the authors' RTL, inputs always ready.
CADENCE = {"q": 150.4, "v": 150.4, "k": 159.9, "scores": 47.7, "wo": 71.0, "fc": 167.0}
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
        As :func:`layer_instance`, or if the tokens are not a multiple of 32.
    """
    grid = GRID
    _check(card, tokens, grid)
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
