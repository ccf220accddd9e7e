# SPDX-License-Identifier: Apache-2.0
"""A plan as a network of processes that only streams connect: what an HLS tool, and a C-simulation, can run.

- ``read`` brings a tensor from memory row by row; ``weights`` brings a core what is stationary, in the order in which
  the core takes it; ``write`` takes a tensor to memory, and tells by a token when it is there.
- ``hold`` has the scratchpad of one tensor: rows come in as they are made, and leave as a core or the special function
  unit takes them. A streamed tensor has as many rows there as must be there at once, one that is kept all of them. Of
  a tensor that is kept, consumers whose runs do not overlap take turns at one ``hold``.
- ``core`` multiplies, and changes from task to task; ``sfu`` too.

No two processes wait for each other: every core plays its tasks in the order of the plan, and a ``hold`` takes all
that the plan lets its producer make before a consumer begins.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise

from designs.errors import DesignError
from designs.graph import BYTES, GraphCard, Product
from designs.quantised_kernel import FUNCTIONS, QuantKernel
from generators.kernel import KernelPlan
from schedules.optimal.instance import Mode

__all__ = [
    "DEPTH", "Core", "Hold", "Network", "Part", "Read", "Serve", "SfuStage", "Special", "Stage", "Step", "Stream",
    "Tiling", "Weights", "WeightsEntry", "Write", "network_of",
]  # fmt: skip

DEPTH = 32
"""Words of a stream: a shift register of 32 costs a LUT a bit."""

MOST_DEPTH = 16384
MOST_WORD_BYTES = 64
SPATIAL = ("maxpool2", "upsample2")


@dataclass(frozen=True)
class Stream:
    """A stream of vectors of ``lanes`` elements; 0 lanes: of tokens. ``made``: of results on their way to a hold."""

    name: str
    lanes: int
    depth: int = DEPTH
    made: bool = False


@dataclass(frozen=True)
class Step:
    """What happens to one element: ``relu``, or a function with its constants, to ``bits``."""

    name: str
    fraction: int = 0
    multiplier: int = 0
    shift: int = 0
    bits: int = 0


@dataclass(frozen=True)
class Tiling:
    """How a group of cores walks through a product of m x k x n.

    Parameters
    ----------
    by_columns : outputs in the outer loop; so are pixels of an image.
    wide_m, wide_n, reduce : of a tile of the group, and of a beat.
    """

    product: Product
    by_columns: bool
    wide_m: int
    wide_n: int
    reduce: int

    @property
    def blocks_m(self) -> int:
        """Tiles along the rows."""
        return -(-self.product.m // self.wide_m)

    @property
    def blocks_n(self) -> int:
        """Tiles along the outputs."""
        return -(-self.product.n // self.wide_n)

    @property
    def outer(self) -> int:
        """Iterations of the outer loop."""
        return self.blocks_n if self.by_columns else self.blocks_m

    @property
    def inner(self) -> int:
        """Iterations of the inner loop."""
        return self.blocks_m if self.by_columns else self.blocks_n

    @property
    def beats(self) -> int:
        """Of a tile."""
        return -(-self.product.k // self.reduce)


@dataclass(frozen=True)
class Part:
    """A core's part of every tile: so many rows and columns from these offsets; its stream."""

    core: int
    m: int
    n: int
    rows: int
    columns: int
    stream: str


@dataclass(frozen=True)
class Serve:
    """How a hold's tensor leaves.

    Parameters
    ----------
    kind : ``rows`` (of a first factor), ``second`` or ``second_t`` (factor, by columns or rows), ``pixels`` (of a
        convolution), ``raster`` (row by row, to the special function unit or to memory).
    parts : of ``raster`` one, whose ``columns`` are its lanes.
    tiling, task : of the consumer, unless ``raster``.
    """

    kind: str
    task: str
    parts: tuple[Part, ...]
    tiling: Tiling | None = None


@dataclass(frozen=True)
class Hold:
    """The scratchpad of a tensor ``[channels, rows, columns]``.

    Parameters
    ----------
    made : shape before ``steps``.
    steps : what happens on arrival: spatial steps and those after them.
    tiling, parts : of the product that makes it; without tiling it comes row by row.
    window : rows that it has room for.
    whole : all of it comes in before anything leaves.
    serves : one after the other.
    """

    name: str
    tensor: str
    made: tuple[int, int, int]
    shape: tuple[int, int, int]
    steps: tuple[Step, ...]
    tiling: Tiling | None
    parts: tuple[Part, ...]
    window: int
    whole: bool
    serves: tuple[Serve, ...]

    @property
    def elements(self) -> int:
        """Room."""
        return self.shape[0] * self.window * self.shape[2]


@dataclass(frozen=True)
class Stage:
    """A task on a core.

    Parameters
    ----------
    weights : stream of what is stationary, "" if another task makes it.
    keep : 0: every beat comes; 1: they come in the first outer iteration; 2: in the first inner one of each outer.
    forward : stream to the next core of the group, "".
    operand : stream of the other factor; ``second``: that of a second factor that another task makes.
    bias : numbers of them, 0.
    bias_step, bias_offset : number of the first of a tile: tile times step, and offset.
    multiplier, shift, bits : requantise the sum.
    chain : index of what happens to the result then.
    results : streams.
    """

    task: str
    tiling: Tiling
    weights: str
    keep: int
    forward: str
    operand: str
    second: str
    bias: int
    bias_beats: int
    bias_step: int
    bias_offset: int
    multiplier: int
    shift: int
    bits: int
    chain: int
    results: tuple[str, ...]


@dataclass(frozen=True)
class Core:
    """A core of ``tokens x reduce x outputs`` multipliers and its program."""

    name: str
    tokens: int
    reduce: int
    outputs: int
    stages: tuple[Stage, ...]
    chains: tuple[tuple[Step, ...], ...]

    @property
    def kept(self) -> int:
        """Beats of weights that it keeps at once."""
        sizes = [0]
        for s in self.stages:
            tiles = s.tiling.blocks_m if s.tiling.product.row else s.tiling.blocks_n
            sizes.append((0, tiles * s.tiling.beats, s.tiling.beats)[s.keep])
        return max(sizes)

    @property
    def biases(self) -> int:
        """Numbers that it keeps at once."""
        return max((s.bias for s in self.stages), default=0)

    @property
    def weight_lanes(self) -> int:
        """Elements of the widest beat of weights."""
        widths = [weight_lanes(self, s) for s in self.stages if s.weights]
        return max(widths, default=0)


def weight_lanes(core: Core, stage: Stage) -> int:
    """Elements of a beat of a stage's weights."""
    return core.reduce * (core.tokens if stage.tiling.product.row else core.outputs)


@dataclass(frozen=True)
class SfuStage:
    """A task of the special function unit: rows of words.

    Parameters
    ----------
    multipliers, shift, bits, epsilon : see QuantTask; of softmax there is ``last`` too.
    rows, columns : of its operands; rows of an image once for each channel.
    """

    task: str
    op: str
    rows: int
    columns: int
    multipliers: tuple[int, ...]
    shift: int
    bits: int
    last: Step | None
    steps: tuple[Step, ...]
    operands: tuple[str, ...]
    results: tuple[str, ...]
    causal: bool = False
    epsilon: int = 0


@dataclass(frozen=True)
class Special:
    """The special function unit."""

    name: str
    lanes: int
    stages: tuple[SfuStage, ...]


@dataclass(frozen=True)
class Read:
    """A tensor from memory, row by row, to all these streams; after a token, if another process writes it first."""

    name: str
    tensor: str
    buffer: str
    shape: tuple[int, int, int]
    results: tuple[str, ...]
    token: str = ""


@dataclass(frozen=True)
class Write:
    """A tensor to memory, row by row; then a token to everyone who waits."""

    name: str
    tensor: str
    buffer: str
    shape: tuple[int, int, int]
    source: str
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightsEntry:
    """Beats of a stage from memory: ``bias`` says which constants, ``repeats`` how often."""

    task: str
    bias: bool
    lanes: int
    beats: int
    repeats: int


@dataclass(frozen=True)
class Weights:
    """What is stationary, for a core, in the order of its stages."""

    name: str
    core: int
    buffer: str
    entries: tuple[WeightsEntry, ...]
    stream: str
    lanes: int


@dataclass(frozen=True)
class Network:
    """All of it.

    Parameters
    ----------
    bits : of an element.
    word_bytes : of the memory.
    buffers : of memory, each an argument of the kernel: its name and what it is.
    """

    name: str
    bits: int
    word_bytes: int
    cores: tuple[Core, ...]
    special: Special | None
    holds: tuple[Hold, ...]
    reads: tuple[Read, ...]
    weights: tuple[Weights, ...]
    writes: tuple[Write, ...]
    streams: tuple[Stream, ...]
    buffers: dict[str, str] = field(default_factory=dict)

    @property
    def made_bits(self) -> int:
        """Of a result on its way to a hold: 16 if functions wait for it there, their argument has as many."""
        return 16 if any(s.bits for h in self.holds for s in h.steps) else self.bits

    @property
    def word_lanes(self) -> int:
        """Elements of a word of the memory."""
        return self.word_bytes * 8 // self.bits

    def row_words(self, columns: int) -> int:
        """Words of a row: each begins in one of its own."""
        return -(-columns // self.word_lanes)


def network_of(quant: QuantKernel, kernel: KernelPlan) -> Network:
    """The processes of a plan.

    Raises
    ------
    DesignError
        If a core has no part of a task that the plan gives it.
    """
    return _Builder(quant, kernel).network()


class _Builder:
    def __init__(self, quant: QuantKernel, kernel: KernelPlan) -> None:
        self.quant, self.card, self.kernel = quant, quant.card, kernel
        self.instance, self.plan = kernel.instance(quant.card), kernel.plan
        self.streams: dict[str, Stream] = {}
        self.names: set[str] = set()
        self.ids = {
            name: self.identifier(name)
            for name in (*self.card.inputs, *self.card.weights, *self.card.tasks)
        }
        machine = self.card.machine
        word = 1 << (min(machine.bytes_per_cycle, MOST_WORD_BYTES).bit_length() - 1)
        self.word_bytes = max(4, word)
        self.lanes = self.word_bytes * 8 // quant.bits
        self.feeds: dict[str, list[tuple[str, ...]]] = {}  # streams of a tensor's holds
        self.holds: list[Hold] = []
        self.reads: list[Read] = []
        self.writes: list[Write] = []
        self.buffers: dict[str, str] = {}
        self.operands: dict[tuple[str, int], dict[int, str]] = {}  # of a task's input, by core
        self.fetched = [self.identifier(f"weights_to_c{n}") for n in range(len(kernel.cores))]
        self.forwarded: dict[tuple[int, int], str] = {}  # streams of weights from core to core

    # Names and sizes.

    def identifier(self, name: str) -> str:
        """A name for C++ that nothing else has."""
        base = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "t"
        base = base if base[0].isalpha() else f"t{base}"
        for number in count():
            made = f"{base}{number or ''}"
            if made not in self.names and "fifo" not in made:  # TAPA's reports trip over it
                self.names.add(made)
                return made
            base = base.replace("fifo", "queue")
        raise AssertionError

    def stream(self, name: str, lanes: int, depth: int = DEPTH, made: bool = False) -> str:
        name = self.identifier(name)
        self.streams[name] = Stream(name, lanes, depth, made)
        return name

    def size(self, core: int) -> tuple[int, int]:
        """Rows and outputs of a core."""
        machine, share = self.card.machine, self.kernel.cores[core]
        if machine.grow == "tokens":
            return share, machine.outputs
        return machine.tokens, share

    def mode(self, task: str) -> Mode:
        return self.plan.mode(self.instance, task)

    def group(self, task: str) -> tuple[int, ...]:
        """Cores that work on a product."""
        return tuple(int(unit[1:]) for unit in self.mode(task).units)

    def tiling(self, task: str) -> Tiling:
        product, sizes = self.card.product(task), [self.size(c) for c in self.group(task)]
        assert product is not None
        tokens = self.card.machine.grow == "tokens"
        by_columns = bool(product.row) or self.mode(task).makes == "columns"
        return Tiling(
            product, by_columns,
            sum(m for m, _ in sizes) if tokens else sizes[0][0],
            sizes[0][1] if tokens else sum(n for _, n in sizes),
            self.card.machine.reduce,
        )  # fmt: skip

    def offsets(self, task: str) -> dict[int, tuple[int, int]]:
        """First row and output of each core in a tile."""
        found, m, n = {}, 0, 0
        for core in self.group(task):
            found[core] = m, n
            rows, columns = self.size(core)
            m, n = (m + rows, n) if self.card.machine.grow == "tokens" else (m, n + columns)
        return found

    def image(self, shape: Sequence[int]) -> tuple[int, int, int]:
        return (1, *shape) if len(shape) == 2 else tuple(shape)  # type: ignore[return-value]

    # Steps.

    def steps(self, task: str) -> tuple[tuple[int, ...], tuple[Step, ...], tuple[Step, ...]]:
        """Bits of the requantised sum, steps of the unit that makes a result, and steps where it is held."""
        functions = list(self.quant.tasks[task].functions)
        if self.card.tasks[task].op == "softmax":
            functions.pop(0)
        widths = [16] * len(functions) + [self.quant.bits]
        first, made = widths.pop(0), []
        for name in self.card.tasks[task].then:
            if name in FUNCTIONS:
                f = functions.pop(0)
                made.append(Step(name, f.fraction, f.multiplier, f.shift, widths.pop(0)))
            else:
                made.append(Step(name))
        cut = next((i for i, s in enumerate(made) if s.name in SPATIAL), len(made))
        return (first,), tuple(made[:cut]), tuple(made[cut:])

    # Tensors on their way.

    def rows_of(self, pixels: int, width: int, steps: Sequence[Step]) -> tuple[int, int]:
        """Rows that are complete, and that are begun, when so many elements (of each channel) came."""
        whole, begun = pixels // width, -(-pixels // width)
        for step in steps:
            if step.name == "maxpool2":
                whole, begun = whole // 2, begun // 2
            elif step.name == "upsample2":
                whole, begun = whole * 2, begun * 2
        return whole, begun

    def window(self, hold: Hold) -> int:
        """Rows that are there at once, if rows come only when they are needed."""
        (serve,), (_, height, _) = hold.serves, hold.shape
        arrived = [self.arrived(hold, piece) for piece in range(pieces(hold))]
        most, piece = 0, -1
        for turn in range(turns(hold, serve)):
            low, need = reach(self.card, hold, serve, turn)
            while piece < 0 or arrived[piece][0] < need:
                piece += 1
            most = max(most, arrived[piece][1] - low)
        return min(height, most)

    def arrived(self, hold: Hold, piece: int) -> tuple[int, int]:
        _, height, width = hold.made
        if hold.tiling is None:
            pixels = (piece + 1) * width
        elif hold.tiling.product.row:
            pixels = min((piece + 1) * hold.tiling.wide_n, height * width)
        else:
            pixels = min((piece + 1) * hold.tiling.wide_m, height) * width
        return self.rows_of(pixels, width, hold.steps)

    def hold(self, tensor: str, serves: Sequence[Serve], whole: bool, made_by: str) -> None:
        """A hold, and the streams from who makes its tensor; ``made_by`` memory or a task."""
        task = self.card.tasks.get(tensor)
        name = self.identifier(f"hold_{self.ids[tensor]}")
        shape = self.image(self.card.shape(tensor))
        made, steps, tiling = shape, (), None
        parts: tuple[Part, ...]
        if task is not None and made_by == "task":
            steps = self.steps(tensor)[2]
            made = self.image(self.card.made(tensor))
        if task is None or made_by != "task":
            stream = self.stream(f"{name}_in", self.lanes)
            parts = (Part(-1, 0, 0, 1, self.lanes, stream),)
        elif self.card.product(tensor) is None:
            lanes = self.card.machine.sfu_lanes
            parts = (Part(-1, 0, 0, 1, lanes, self.stream(f"{name}_in", lanes, made=True)),)
        else:
            tiling = self.tiling(tensor)
            found = []
            for core, (m, n) in self.offsets(tensor).items():
                rows, columns = self.size(core)
                stream = self.stream(f"{name}_in_c{core}", rows * columns, made=True)
                found.append(Part(core, m, n, rows, columns, stream))
            parts = tuple(found)
            whole |= self.mode(tensor).makes == "columns"
        hold = Hold(name, tensor, made, shape, steps, tiling, parts, shape[1], whole, tuple(serves))
        if not whole:
            hold = Hold(
                name,
                tensor,
                made,
                shape,
                steps,
                tiling,
                parts,
                self.window(hold),
                False,
                hold.serves,
            )
        self.holds.append(hold)
        self.feeds.setdefault(tensor if made_by == "task" else f"{tensor} from memory", []).append(
            tuple(p.stream for p in parts)
        )

    def serve(self, tensor: str, task: str, index: int) -> Serve:
        """How a task takes its input ``index``, with the streams for it."""
        card = self.card.tasks[task]
        product = self.card.product(task)
        stem = f"{self.ids[tensor]}_to_{self.ids[task]}{index or ''}"
        if product is None:
            lanes = self.card.machine.sfu_lanes
            stream = self.stream(stem, lanes)
            self.operands[task, index] = {-1: stream}
            return Serve("raster", task, (Part(-1, 0, 0, 1, lanes, stream),))
        kind = "pixels" if product.row else "rows"
        if index:
            kind = "second_t" if card.op == "matmul_t" else "second"
        parts = []
        for core, (m, n) in self.offsets(task).items():
            rows, columns = self.size(core)
            width = (rows if kind == "rows" else columns) * self.card.machine.reduce
            stream = self.stream(f"{stem}_c{core}", width)
            self.operands.setdefault((task, index), {})[core] = stream
            parts.append(Part(core, m, n, rows, columns, stream))
        return Serve(kind, task, tuple(parts), self.tiling(task))

    def consumers(self, tensor: str) -> list[tuple[str, int]]:
        """Tasks that read a tensor, and as which input, in the order of the plan."""
        order = sorted(
            self.card.order, key=lambda t: (self.plan.run(t).start, self.card.order.index(t))
        )
        return [
            (t, i)
            for t in order
            for i, n in enumerate(self.card.tasks[t].inputs)
            if n == tensor and (n not in self.card.weights or self.card.product(t) is None)
        ]

    def tensor(self, tensor: str) -> None:
        """Holds of a tensor that a task makes, or that is in memory."""
        given, kept = tensor not in self.card.tasks, []
        spilled: list[tuple[str, int]] = []
        for task, index in self.consumers(tensor):
            place = "stream" if tensor in self.card.weights else self.plan.place(tensor, task).place
            if place == "onchip":
                kept.append((task, index))
            elif place == "offchip":
                spilled.append((task, index))
            else:
                self.hold(
                    tensor, [self.serve(tensor, task, index)], False, "memory" if given else "task"
                )
        for chain in self.chains(kept):
            serves = [self.serve(tensor, t, i) for t, i in chain]
            self.hold(tensor, serves, True, "memory" if given else "task")
        if spilled:
            tokens = [self.spill_read(tensor, t, i) for t, i in spilled]
            self.write(tensor, f"spill_{self.ids[tensor]}", tuple(tokens))
        if tensor in self.card.outputs:
            self.write(tensor, f"out_{self.ids[tensor]}")

    def chains(self, kept: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
        """Consumers in as few rows as possible, in which each begins when the one before has ended."""
        rows: list[list[tuple[str, int]]] = []
        for task, index in kept:
            start = self.plan.run(task).start
            free = next((r for r in rows if self.plan.run(r[-1][0]).end <= start), None)
            if free is None:
                rows.append([(task, index)])
            else:
                free.append((task, index))
        return rows

    def write(self, tensor: str, buffer: str, tokens: tuple[str, ...] = ()) -> None:
        name = self.identifier(f"write_{buffer}")
        stream = self.stream(f"{name}_in", self.lanes)
        serve = Serve("raster", "", (Part(-1, 0, 0, 1, self.lanes, stream),))
        self.hold(tensor, [serve], False, "task")
        self.buffers[buffer] = "output" if buffer.startswith("out_") else "spill"
        self.writes.append(
            Write(name, tensor, buffer, self.image(self.card.shape(tensor)), stream, tokens)
        )

    def spill_read(self, tensor: str, task: str, index: int) -> str:
        """One who reads a tensor back; the token it waits for."""
        before = len(self.feeds.get(f"{tensor} from memory", []))
        self.hold(tensor, [self.serve(tensor, task, index)], False, "memory")
        results = self.feeds[f"{tensor} from memory"][before]
        name = self.identifier(f"read_{self.ids[tensor]}")
        token = self.stream(f"{name}_token", 0, 2)
        shape = self.image(self.card.shape(tensor))
        self.reads.append(Read(name, tensor, f"spill_{self.ids[tensor]}", shape, results, token))
        return token

    # Units.

    def forwards(self, task: str) -> dict[int, tuple[str, str]]:
        """By core: where weights come from, and where they go on to; "" is its own process or nowhere."""
        group, product = self.group(task), self.card.product(task)
        assert product is not None
        alike = self.card.machine.grow == ("outputs" if product.row else "tokens")
        found: dict[int, tuple[str, str]] = dict.fromkeys(group, ("", ""))
        if alike:  # all cores of the group need the same weights
            for one, two in pairwise(group):
                stream = self.forwarded.get((one, two))
                if stream is None:
                    stream = self.forwarded[one, two] = self.identifier(f"weights_c{one}_to_c{two}")
                found[one] = found[one][0], stream
                found[two] = stream, ""
        return found

    def cores(self) -> tuple[list[Core], list[Weights]]:
        cores, weights = [], []
        for number in range(len(self.kernel.cores)):
            rows, columns = self.size(number)
            name, chains = f"c{number}", []
            stages, entries, depth = [], [], DEPTH
            runs = sorted(self.plan.runs, key=lambda r: r.start)
            for run in runs:
                if name not in self.mode(run.task).units:
                    continue
                stage, new = self.stage(number, run.task, chains)
                stages.append(stage)
                entries += new
                if new:
                    depth = max(depth, self.prefetched(run.task, new[-1].lanes, new[-1].beats))
            if not stages:
                continue
            core = Core(name, rows, self.card.machine.reduce, columns, tuple(stages), tuple(chains))
            cores.append(core)
            if entries:
                stream = self.fetched[number]
                self.streams[stream] = Stream(stream, core.weight_lanes, depth)
                buffer = f"weights_{name}"
                self.buffers[buffer] = "weights"
                weights.append(
                    Weights(
                        f"fetch_{name}", number, buffer, tuple(entries), stream, core.weight_lanes
                    )
                )
        widths = {c.name: c.weight_lanes for c in cores}
        for (one, two), stream in self.forwarded.items():
            if widths[f"c{one}"] != widths[f"c{two}"]:
                raise DesignError(
                    f"{self.card.name}: c{one} and c{two} take weights of different widths"
                )
            self.streams[stream] = Stream(stream, widths[f"c{one}"])
        return cores, weights

    def prefetched(self, task: str, lanes: int, beats: int) -> int:
        """Beats that the plan brings before the task begins."""
        run = self.plan.run(task)
        ahead = [run.start - x.start for x in self.plan.loads if x.task == task]
        element = BYTES[self.card.dtype]
        early = max([0, *ahead]) * self.card.machine.bytes_per_cycle // (lanes * element)
        return max(1, min(early, beats, MOST_DEPTH))

    def stage(
        self, core: int, task: str, chains: list[tuple[Step, ...]]
    ) -> tuple[Stage, list[WeightsEntry]]:
        card, quant, tiling = self.card.tasks[task], self.quant.tasks[task], self.tiling(task)
        product, mode = tiling.product, self.mode(task)
        rows, columns = self.size(core)
        m, n = self.offsets(task)[core]
        constant = bool(product.row) or card.inputs[1] in self.card.weights
        lanes = self.card.machine.reduce * (rows if product.row else columns)
        blocks = tiling.blocks_m if product.row else tiling.blocks_n
        source, forward = self.forwards(task)[core] if constant or card.bias else ("", "")
        keep, repeats = 0, 1
        if constant and (product.row or not tiling.by_columns):
            if not mode.loads[0].resident:
                repeats = tiling.outer
            elif tiling.outer > 1:
                keep = 1
        elif constant and tiling.inner > 1:
            keep = 2
        bias = bias_beats = 0
        if card.bias:
            bias = blocks * (tiling.wide_m if product.row else tiling.wide_n)
            bias_beats = -(-bias * (64 // self.quant.bits) // lanes)
        entries = []
        if not source and card.bias:
            entries.append(WeightsEntry(task, True, lanes, bias_beats, 1))
        if not source and constant:
            entries.append(WeightsEntry(task, False, lanes, blocks * tiling.beats, repeats))
        (bits,), chain, _ = self.steps(task)
        if chain not in chains:
            chains.append(chain)
        place = {p.core: i for i, p in enumerate(self.holds_parts(task))}
        return Stage(
            task, tiling,
            (source or self.fetched[core]) if constant or card.bias else "",
            keep, forward, self.operands[task, 0][core],
            "" if constant else self.operands[task, 1][core],
            bias, bias_beats,
            tiling.wide_m if product.row else tiling.wide_n, m if product.row else n,
            quant.multipliers[0], quant.shift, bits, chains.index(chain),
            tuple(feed[place[core]] for feed in self.feeds[task]),
        ), entries  # fmt: skip

    def holds_parts(self, task: str) -> tuple[Part, ...]:
        return next(h.parts for h in self.holds if h.tensor == task and h.tiling is not None)

    def special(self) -> Special | None:
        stages = []
        for run in sorted(self.plan.runs, key=lambda r: r.start):
            if run.task not in self.card.tasks or self.card.product(run.task) is not None:
                continue
            card, quant = self.card.tasks[run.task], self.quant.tasks[run.task]
            (bits,), steps, _ = self.steps(run.task)
            last = None
            if card.op == "softmax":
                f = quant.functions[0]
                last = Step("softmax", f.fraction, f.multiplier, f.shift, bits)
            shape = self.card.shape(card.inputs[0])
            stages.append(
                SfuStage(
                    run.task, card.op, math.prod(shape[:-1]), shape[-1], quant.multipliers, quant.shift, bits, last,
                    steps, tuple(self.operands[run.task, i][-1] for i in range(len(card.inputs))),
                    tuple(feed[0] for feed in self.feeds[run.task]), card.causal, quant.epsilon,
                )
            )  # fmt: skip
        return Special("sfu", self.card.machine.sfu_lanes, tuple(stages)) if stages else None

    def network(self) -> Network:
        card = self.card
        loaded = {t for n in card.tasks if card.product(n) is None for t in card.tasks[n].inputs}
        given = [*card.inputs, *(w for w in card.weights if w in loaded)]
        for name in (*given, *card.order):
            self.tensor(name)
        for name in given:
            feeds = self.feeds.get(f"{name} from memory", [])
            if feeds:
                buffer = f"in_{self.ids[name]}"
                self.buffers[buffer] = "input"
                self.reads.append(
                    Read(
                        self.identifier(f"read_{self.ids[name]}"), name, buffer, self.image(card.shape(name)),
                        tuple(s for feed in feeds for s in feed),
                    )
                )  # fmt: skip
        cores, weights = self.cores()
        return Network(
            self.identifier(card.name), self.quant.bits, self.word_bytes, tuple(cores), self.special(),
            tuple(self.holds), tuple(self.reads), tuple(weights), tuple(self.writes),
            tuple(self.streams.values()), dict(sorted(self.buffers.items())),
        )  # fmt: skip


def pieces(hold: Hold) -> int:
    """Pieces in which a tensor comes: a row, a block of rows or of pixels, or all."""
    return hold.made[1] if hold.tiling is None else hold.tiling.outer


def turns(hold: Hold, serve: Serve) -> int:
    """Pieces in which it leaves."""
    return hold.shape[1] if serve.tiling is None else serve.tiling.outer


def reach(card: GraphCard, hold: Hold, serve: Serve, turn: int) -> tuple[int, int]:
    """The first row that a turn of a consumer needs, and the row after the last."""
    _, height, _ = hold.shape
    if serve.kind == "raster":
        return turn, turn + 1
    assert serve.tiling is not None
    product = serve.tiling.product
    if serve.kind == "rows" and product.k == hold.shape[2] and not serve.tiling.by_columns:
        return turn * serve.tiling.wide_m, min(height, (turn + 1) * serve.tiling.wide_m)
    if serve.kind != "pixels":
        return 0, height
    wide = serve.tiling.wide_n
    first, last = turn * wide // product.row, (min(product.n, (turn + 1) * wide) - 1) // product.row
    task = card.tasks[serve.task]
    assert task.kernel is not None
    top, step, taps = task.borders[0], task.stride, task.kernel[1]
    if task.op == "deconv":
        low, high = -(-(first + top - taps + 1) // step), (last + top) // step
    else:
        low, high = first * step - top, last * step - top + taps - 1
    return min(max(low, 0), height), min(max(high + 1, 0), height)
