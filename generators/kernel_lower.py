# SPDX-License-Identifier: Apache-2.0
"""From an integer kernel and its plan to what cores play: phases, scratchpads, links, and the order of what is loaded.

A task that cores share is cut into parts: tiles of columns of a matrix, bands of rows of an image. Every core keeps a
copy of all that its tasks read, from the beginning if it comes from another core. A core begins a task as soon as what
it needs is there; the plan says which cores play it, and in which order each core plays its tasks. That order is one in
which producers come first, and copies have room for whole tensors, so that no two cores can wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from designs.errors import DesignError
from designs.graph import GraphCard, TaskCard
from designs.quantised_kernel import FUNCTIONS, QuantKernel
from generators.kernel import KernelPlan
from hw.arrays import accumulator_bits
from hw.kernel.program import (
    CoreShape,
    Function,
    Inlet,
    Pair,
    Phase,
    Program,
    RowsAt,
    RowsTo,
    Segment,
    Send,
    Softmax,
    Store,
    Window,
    WordsTo,
)
from schedules.optimal.instance import Instance

__all__ = ["LoweredCore", "LoweredKernel", "Part", "check_tasks", "conv_window", "lower"]

Kind = Literal["x", "w", "turned", "rows", "ring"]

FLIGHT = 128
"""Words that the ring has at least: what memory sends while it answers."""

MOST_ACC_BITS = 47

MOST_PHASES = 51
"""Tasks whose counters find room among the registers."""

MOST_SEGMENTS = 255
MOST_ROWS, MOST_WORDS = 1 << 15, 1 << 24
"""Rows and tiles of columns of a tensor; words of a scratchpad."""

PORTS = tuple(1 << k for k in range(2, 8))
"""Bytes that a word of AXI4 may have here."""


@dataclass(frozen=True)
class Part:
    """What a core plays of a task: from tile of columns (of an image: row) ``first`` on, ``count`` of them."""

    task: str
    core: int
    first: int
    count: int


@dataclass(frozen=True)
class LoweredCore:
    """A program with the core that plays it.

    Parameters
    ----------
    shape, program : see there.
    parts : of each phase.
    sources : of each segment the task that it is for, and which of its tensors: ``x``, ``ring`` or ``rows``.
    """

    shape: CoreShape
    program: Program
    parts: tuple[Part, ...]
    sources: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class LoweredKernel:
    """All cores.

    Parameters
    ----------
    cores : each.
    turns : core and phase, in an order in which what a phase reads is made before.
    """

    cores: tuple[LoweredCore, ...]
    turns: tuple[tuple[int, int], ...]

    @property
    def hardware(self) -> tuple[tuple[Program, CoreShape], ...]:
        """What the machine is made of."""
        return tuple((core.program, core.shape) for core in self.cores)

    @property
    def scratchpad_bytes(self) -> int:
        """Of all cores."""
        return sum(core.shape.scratchpad_bytes for core in self.cores)


def conv_window(task: TaskCard, reduce: int) -> tuple[int, int, int, int]:
    """Of a convolution: kernel rows in a beat; rows and columns of zeros before the image, columns behind it.

    Raises
    ------
    ValueError
        If a row of the kernel has more columns than a beat elements.
    """
    assert task.kernel is not None
    _, kh, kw = task.kernel
    if kw > reduce:
        raise ValueError(
            f"a kernel of {kw} columns needs an engine with a reduction of at least {kw}, not {reduce}"
        )
    top, left, _, _ = task.borders
    if task.op == "deconv":
        top, left = kh - 1 - top, kw - 1 - left
    if min(top, left) < 0:
        raise ValueError(
            "RTL cannot cut off more of a transposed convolution than its kernel reaches over the image"
        )
    return min(kh, reduce // kw), top, left, max(0, kw - 1 - left)


def check_tasks(card: GraphCard) -> None:
    """Whether RTL has what the tasks of a kernel need, whatever its lanes.

    Raises
    ------
    DesignError
        If not: which task, and what is missing.
    """
    machine = card.machine
    if machine.array != "tree":
        raise DesignError(f"{card.name}: RTL of kernels has the array tree, not {machine.array}")
    if machine.bytes_per_cycle not in PORTS:
        raise DesignError(
            f"{card.name}: bytes_per_cycle of RTL must be one of {', '.join(map(str, PORTS))}, "
            f"not {machine.bytes_per_cycle}"
        )
    if len(card.tasks) > MOST_PHASES:
        raise DesignError(
            f"{card.name}: RTL counts the cycles of at most {MOST_PHASES} tasks, it has {len(card.tasks)}"
        )
    for name in card.order:
        why = _missing(card, name)
        if why:
            raise DesignError(f"{card.name}: task {name}: {why}")


def _missing(card: GraphCard, name: str) -> str:
    """Why RTL cannot play a task, or ""."""
    task = card.tasks[name]
    steps: list[str] = list(task.then)
    if task.op == "layernorm" or task.causal or "gelu" in steps:
        what = "gelu" if "gelu" in steps else "causal softmax" if task.causal else "layernorm"
        return f"RTL has no {what}; --backend hls has"
    if task.op in ("matmul", "matmul_t") and len(card.shape(task.inputs[0])) == 3:
        return "RTL cannot take an image as a row of a matrix; --backend hls can"
    if task.stride != 1:
        return f"RTL has no strides, it has {task.stride}; --backend hls can"
    if task.bias:
        return "RTL has no biases; --backend hls has"
    tables = [s for s in steps if s in FUNCTIONS]
    if len(tables) > 1:
        return f"RTL has one of {', '.join(tables)} behind a result, not {len(tables)}"
    if tables and "relu" in steps[: steps.index(tables[0])]:
        return f"RTL has no relu before {tables[0]}"
    if "maxpool2" in steps and "silu" in steps[steps.index("maxpool2") :]:
        return "RTL pools behind silu, not before it, which is not the same"
    moved = [s for s in steps if s in ("maxpool2", "upsample2")]
    if len(moved) > 1:
        return f"RTL has one of {' and '.join(moved)} behind a result"
    if "upsample2" in steps:
        readers = [t for t in card.tasks.values() if name in t.inputs]
        if name in card.outputs or any(t.kernel is None for t in readers):
            return "RTL upsamples where a convolution reads, so only these may read the result"
    return ""


def lower(kernel: QuantKernel, plan: KernelPlan) -> LoweredKernel:
    """The programs of a kernel on the cores of a plan. What is no product has a core of its own if there are more.

    Raises
    ------
    DesignError
        If the machine cannot play it: which task, and why.
    """
    check_tasks(kernel.card)
    return _Lowering(kernel, plan).lower()


@dataclass
class _Tensor:
    """A copy of a tensor in one kind of scratchpad."""

    name: str
    kind: Kind
    words: int
    first: int
    last: int
    base: int = 0
    beats: int = 0
    number: int = 0


@dataclass
class _Lowering:
    """All cores of a plan."""

    kernel: QuantKernel
    plan: KernelPlan

    @property
    def card(self) -> GraphCard:
        return self.kernel.card

    def refuse(self, task: str, why: str) -> DesignError:
        return DesignError(f"{self.card.name}: task {task}: {why}")

    def lower(self) -> LoweredKernel:
        card, machine, sizes = self.card, self.card.machine, self.plan.cores
        if machine.grow == "outputs" and len(set(sizes)) > 1:
            raise DesignError(
                f"{card.name}: its cores have {', '.join(map(str, sizes))} outputs; RTL links only cores that have as "
                "many: take --policy dataflow, equal-cores or sequential, or --backend hls"
            )
        self.r, self.o = machine.reduce, sizes[0] if machine.grow == "outputs" else machine.outputs
        self.tokens = list(sizes) if machine.grow == "tokens" else [machine.tokens] * len(sizes)
        starts = {run.task: run.start for run in self.plan.plan.runs}
        known = {name: k for k, name in enumerate(card.order)}
        self.order = tuple(sorted(card.order, key=lambda n: (starts[n], known[n])))
        for name in self.order:
            self.check(name)
        self.left, self.right, self.groups = self.edges()
        self.parts = {name: self.split(name, self.units(name)) for name in self.order}
        count = 1 + max(part.core for parts in self.parts.values() for part in parts)
        self.tokens += [1] * (count - len(self.tokens))
        playing = [
            [part for name in self.order for part in self.parts[name] if part.core == k]
            for k in range(count)
        ]
        # Cores without a task are left out.
        kept = [k for k, parts in enumerate(playing) if parts]
        self.tokens = [self.tokens[k] for k in kept]
        self.parts = {
            name: [replace(part, core=kept.index(part.core)) for part in parts]
            for name, parts in self.parts.items()
        }
        cores = [
            _Core(self, n, [replace(part, core=n) for part in playing[k]])
            for n, k in enumerate(kept)
        ]
        for core in cores:
            core.place()
        ports = sum(core.uses_memory for core in cores)
        self.port_bytes = 1 << (max(1, machine.bytes_per_cycle // ports).bit_length() - 1)
        if self.port_bytes not in PORTS:
            raise DesignError(
                f"{card.name}: {ports} cores with memory ports share {machine.bytes_per_cycle} bytes a cycle, RTL "
                f"needs at least {PORTS[0]} for each"
            )
        for core in cores:
            core.connect(cores)
        if sum(len(core.parts) for core in cores) > MOST_PHASES:
            raise DesignError(
                f"{card.name}: RTL counts the cycles of at most {MOST_PHASES} phases, its cores have "
                f"{sum(len(core.parts) for core in cores)}"
            )
        turns = [
            (part.core, cores[part.core].at[name])
            for name in self.order
            for part in self.parts[name]
        ]
        return LoweredKernel(tuple(core.lowered(cores) for core in cores), tuple(turns))

    # ---- Who plays what

    def units(self, name: str) -> list[int]:
        """Cores that play a task."""
        sizes, product = self.plan.cores, self.card.product(name)
        if len(sizes) == 1:
            return [0]
        if product is None:
            return [len(sizes)]
        ids = {f"c{k}": k for k in range(len(sizes))}
        return sorted(ids[unit] for unit in self.plan.plan.mode(self.instance, name).units)

    @cached_property
    def instance(self) -> Instance:
        return self.plan.instance(self.card)

    def stored(self, part: Part) -> tuple[int, int]:
        """First row and end of an image's part after pooling."""
        half = 2 if "maxpool2" in self.card.tasks[part.task].then else 1
        return part.first // half, (part.first + part.count) // half

    def split(self, name: str, cores: Sequence[int]) -> list[Part]:
        """Neighbouring pieces, so large that all cores end about together."""
        c, h, w = self.made(name)
        product = self.card.product(name)
        image = self.card.tasks[name].kernel is not None
        total = h if image else -(-w // self.o)
        if len(cores) == 1 or product is None:
            return [Part(name, cores[0], 0, h if product is None else total)]
        # Whole words of X and W, whole rounds of banks.
        unit = 2 * self.groups if image else math.lcm(self.o, self.r) // self.o
        blocks = [-(-(c if image else h) // self.tokens[k]) for k in cores]
        given = [0] * len(cores)
        for _ in range(-(-total // unit)):
            first = min(range(len(cores)), key=lambda k: ((given[k] + 1) * blocks[k], k))
            given[first] += 1
        parts, at = [], 0
        for core, units in zip(cores, given, strict=True):
            count = min(units * unit, total - at)
            if count > 0:
                parts.append(Part(name, core, at, count))
            at += count
        return parts

    def check(self, name: str) -> None:
        """What depends on the lanes."""
        task = self.card.tasks[name]
        moved = [s for s in task.then if s in ("maxpool2", "upsample2")]
        if moved and self.o % 2:
            raise self.refuse(
                name, f"{moved[0]} needs an even number of outputs, the core has {self.o}"
            )
        if task.kernel is not None:
            try:
                conv_window(task, self.r)
            except ValueError as error:
                raise self.refuse(name, str(error)) from None
        _, h, w = self.made(name)
        for what, size in (("rows", h), ("tiles of columns", -(-w // self.o))):
            if size >= MOST_ROWS:
                raise self.refuse(name, f"RTL counts to {MOST_ROWS - 1:,} {what}, it has {size:,}")

    def edges(self) -> tuple[int, int, int]:
        """Neighbours beside words of rows, and banks."""
        left = right = 0
        groups, halves = 1, any("maxpool2" in t.then for t in self.card.tasks.values())
        for name, task in self.card.tasks.items():
            if task.kernel is None:
                continue
            rows, _, before, behind = conv_window(task, self.r)
            if "upsample2" in self.then(task.inputs[0]):
                before, behind = (before + 1) // 2, (behind + 1) // 2
            left, right, groups = max(left, before), max(right, behind), max(groups, rows)
            room = self.o // 2 if halves else self.o
            if max(before, behind) > room:
                raise self.refuse(
                    name, f"a kernel of {task.kernel[2]} columns reads {max(before, behind)} neighbours of a word, "
                    f"the core's words have {room}"
                )  # fmt: skip
        return left, right, groups

    def then(self, tensor: str) -> Sequence[str]:
        return self.card.tasks[tensor].then if tensor in self.card.tasks else ()

    def shape3(self, tensor: str) -> tuple[int, int, int]:
        """Channels, rows, columns; of a matrix one channel."""
        shape = self.card.shape(tensor)
        c, h, w = (1,) * (3 - len(shape)) + shape
        return c, h, w

    def geometry(self, tensor: str) -> tuple[int, int, int]:
        """Channels, rows and columns as they are kept: not upsampled."""
        c, h, w = self.shape3(tensor)
        return (c, h // 2, w // 2) if "upsample2" in self.then(tensor) else (c, h, w)

    def given(self, tensor: str) -> bool:
        return tensor in self.card.inputs or tensor in self.card.weights

    def beats(self, name: str) -> int:
        task, product = self.card.tasks[name], self.card.product(name)
        assert product is not None
        if task.kernel is None:
            return -(-product.k // self.r)
        rows = conv_window(task, self.r)[0]
        return self.shape3(task.inputs[0])[0] * -(-task.kernel[1] // rows)

    def made(self, name: str) -> tuple[int, int, int]:
        """Channels, rows and columns of a result before it is pooled."""
        task, product = self.card.tasks[name], self.card.product(name)
        if product is not None and product.row:
            return product.m, product.n // product.row, product.row
        if product is not None:
            return 1, product.m, product.n
        return self.shape3(task.inputs[0])


@dataclass
class _Core:
    """One of them."""

    all: _Lowering
    index: int
    parts: list[Part]
    tensors: dict[tuple[str, Kind], _Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.kernel, self.card = self.all.kernel, self.all.card
        self.t, self.o, self.r = self.all.tokens[self.index], self.all.o, self.all.r
        self.at = {part.task: k for k, part in enumerate(self.parts)}

    def refuse(self, task: str, why: str) -> DesignError:
        return self.all.refuse(task, why)

    def place(self) -> None:
        """What it keeps, and where."""
        for part in self.parts:
            task = self.card.tasks[part.task]
            for number, tensor in enumerate(task.inputs):
                self.use(part.task, number, tensor)
            if task.kernel is not None:
                self.use_kernel(part.task)
        self.numbers = [key for key in self.tensors if key[1] == "rows"]
        for k, key in enumerate(self.numbers):
            self.tensors[key].number = k
        self.x_words = self.allocate(("x",))
        self.w_words = self.allocate(("w", "turned"))
        self.row_words = self.allocate(("rows",))
        self.segments, self.sources = self.load()
        most = max(self.x_words, self.w_words, self.row_words)
        if len(self.segments) > MOST_SEGMENTS or most > MOST_WORDS:
            raise DesignError(
                f"{self.card.name}: RTL has at most {MOST_SEGMENTS} tensors that are loaded and {MOST_WORDS:,} words "
                f"of a scratchpad, core {self.index} needs {len(self.segments)} and {most:,}"
            )

    @property
    def uses_memory(self) -> bool:
        return bool(self.segments) or any(part.task in self.card.outputs for part in self.parts)

    def connect(self, cores: Sequence[_Core]) -> None:
        """Which parts come from other cores, in order, and which rows of each."""
        wanted = {name for name, _ in self.tensors}
        self.rows_of = {
            part: rows for core in cores if core.index != self.index
            for part in core.parts if part.task in wanted and (rows := self.rows_needed(part))
        }  # fmt: skip
        self.sources_of: dict[int, list[Part]] = {}
        for part in self.rows_of:
            self.sources_of.setdefault(part.core, []).append(part)

    def reach(self, tensor: str) -> range:
        """Rows of a tensor that this core's tasks read, from the first one of a round of banks on."""
        height = self.all.geometry(tensor)[1]
        low, high = height, 0
        for part in self.parts:
            task = self.card.tasks[part.task]
            if tensor not in task.inputs:
                continue
            if task.kernel is None:
                return range(height)
            _, top, _, _ = conv_window(task, self.r)
            double = "upsample2" in self.all.then(tensor)
            first, end = part.first - top, part.first + part.count - 1 - top + task.kernel[1]
            low = min(low, max(0, first) >> double)
            high = max(high, min(height, (end + double) >> double))
        return range(low // self.all.groups * self.all.groups, high)

    def rows_needed(self, part: Part) -> range:
        """Rows of a part's result, after pooling, that this core needs; of a matrix all."""
        if self.card.tasks[part.task].kernel is None:
            return range(self.all.geometry(part.task)[1])
        first, end = self.all.stored(part)
        reach = self.reach(part.task)
        return range(max(first, reach.start) - first, min(end, reach.stop) - first)

    def lowered(self, cores: Sequence[_Core]) -> LoweredCore:
        phases = tuple(self.phase(part, cores) for part in self.parts)
        inlets = tuple(
            Inlet(
                k,
                tuple(cores[k].sent(part, self.rows_of[part], self.kept(part)) for part in parts),
            )
            for k, parts in self.sources_of.items()
        )
        shape = CoreShape(
            tokens=self.t, reduce=self.r, outputs=self.o, bits=self.kernel.bits, acc_bits=self.acc_bits(),
            x_words=self.x_words, w_words=self.w_words, row_words=self.row_words, groups=self.all.groups,
            left=self.all.left, right=self.all.right, ring_words=self.ring(phases), port_bytes=self.all.port_bytes,
        )  # fmt: skip
        images = tuple(self.all.geometry(name)[1] for name, _ in self.numbers)
        program = Program(phases, tuple(self.segments), images, inlets)
        return LoweredCore(shape, program, tuple(self.parts), tuple(self.sources))

    def acc_bits(self) -> int:
        bits, found = self.kernel.bits, 18
        for name in self.at:
            product = self.card.product(name)
            if product is not None:
                k = -(-product.k // self.r) * self.r
                found = max(found, accumulator_bits(k, bits, bits))
            elif self.card.tasks[name].op != "softmax":
                found = max(found, bits + 18)
        found = max(found, accumulator_bits(self.r, bits, bits))
        if found > MOST_ACC_BITS:
            raise DesignError(
                f"{self.card.name}: its sums need {found} bits, RTL has {MOST_ACC_BITS}"
            )
        return found

    def use(self, task: str, number: int, tensor: str) -> None:
        op = self.card.tasks[task].op
        if op in ("matmul", "matmul_t") and number == 1:
            if self.all.given(tensor):
                return  # of the ring
            self.want(tensor, "turned" if op == "matmul" else "w", task)
        elif op in ("matmul", "matmul_t"):
            self.want(tensor, "x", task)
        else:
            self.want(tensor, "rows", task)

    def use_kernel(self, task: str) -> None:
        """The weights of a convolution are activations of the engine."""
        product = self.card.product(task)
        assert product is not None
        blocks = -(-product.m // self.t)
        key = (f"{task}.kernel", "x")
        beats = self.all.beats(task)
        self.tensors[key] = _Tensor(key[0], "x", blocks * beats, -1, self.at[task], beats=beats)

    def want(self, tensor: str, kind: Kind, task: str) -> None:
        known = self.tensors.get((tensor, kind))
        last = self.at[task]
        if known is not None:
            known.last = max(known.last, last)
            return
        other = {"w": "turned", "turned": "w"}.get(kind)
        if other and (tensor, other) in self.tensors:
            raise self.refuse(
                task, f"{tensor} is the second factor of matmul and of matmul_t: RTL keeps it once"
            )
        alone = {part.core for part in self.all.parts.get(tensor, ())} == {self.index}
        first = self.at[tensor] if alone else -1
        c, h, w = self.all.geometry(tensor)
        if kind == "x":
            beats = -(-w // self.r)
            words = -(-h // self.t) * beats
        elif kind == "w":
            beats = -(-w // self.r)
            words = -(-h // self.o) * beats
        elif kind == "turned":
            beats = -(-h // self.r)
            words = -(-w // self.o) * beats
        else:
            beats = 0
            words = c * self.stride(tensor)
        self.tensors[tensor, kind] = _Tensor(tensor, kind, words, first, last, beats=beats)

    def stride(self, tensor: str) -> int:
        """Words of a bank for a channel."""
        _, h, w = self.all.geometry(tensor)
        return -(-h // self.all.groups) * (-(-w // self.o) + 1)

    def rows_at(self, tensor: str) -> RowsAt:
        here = self.tensors[tensor, "rows"]
        _, h, w = self.all.geometry(tensor)
        return RowsAt(here.number, here.base, -(-w // self.o), self.stride(tensor), h)

    def allocate(self, kinds: Sequence[Kind]) -> int:
        """Give tensors of these kinds their places, those that live at the same time apart; the words it takes."""
        placed: list[_Tensor] = []
        mine = [t for t in self.tensors.values() if t.kind in kinds]
        for tensor in sorted(mine, key=lambda t: (-t.words, t.first, t.name)):
            others = sorted(
                (o for o in placed if o.first <= tensor.last and tensor.first <= o.last),
                key=lambda o: o.base,
            )
            base = 0
            for other in others:
                if base + tensor.words <= other.base:
                    break
                base = max(base, other.base + other.words)
            tensor.base = base
            placed.append(tensor)
        return max((t.base + t.words for t in placed), default=0)

    def load(self) -> tuple[list[Segment], list[tuple[str, str]]]:
        """What is loaded, in the order of first use."""
        segments: list[Segment] = []
        sources: list[tuple[str, str]] = []
        there: set[tuple[str, str]] = set()
        for part in self.parts:
            name = part.task
            task = self.card.tasks[name]
            wanted: list[tuple[str, Kind]] = []
            if task.kernel is not None:
                wanted.append((f"{name}.kernel", "x"))
            for number, tensor in enumerate(task.inputs):
                if not self.all.given(tensor):
                    continue
                second = task.op in ("matmul", "matmul_t") and number == 1
                first = task.op in ("matmul", "matmul_t")
                wanted.append((tensor, "ring" if second else "x" if first else "rows"))
            for tensor, kind in wanted:
                if kind != "ring" and (tensor, kind) in there:
                    continue
                there.add((tensor, kind))
                sources.append((name, kind))
                if kind == "ring":
                    beats = self.all.beats(name)
                    segments.append(
                        Segment(tensor, "ring", part.count * beats, first=part.first * beats)
                    )
                elif kind == "x":
                    here = self.tensors[tensor, "x"]
                    segments.append(Segment(tensor, "x", here.words, here.base))
                else:
                    at, c = self.rows_at(tensor), self.all.geometry(tensor)[0]
                    reach = self.reach(tensor)
                    base = at.base + reach.start // self.all.groups * (at.tiles + 1)
                    here_at, row = replace(at, base=base, height=len(reach)), c * at.tiles
                    segments.append(
                        Segment(
                            tensor, here_at, len(reach) * row, channels=c, first=reach.start * row
                        )
                    )
        return segments, sources

    def ring(self, phases: Sequence[Phase]) -> int:
        need = 0
        for phase in phases:
            if phase.work == "ring":
                tile = 2 * phase.beats if phase.blocks(self.t) > 1 else 0
                need = max(need, FLIGHT, tile)
        return 1 << (need - 1).bit_length() if need else 0

    def common(self, part: Part) -> Phase:
        """What is the same for the core that plays a phase and for those that get its results."""
        name, task, quant = part.task, self.card.tasks[part.task], self.kernel.tasks[part.task]
        c, h, w = self.all.made(name)
        columns = w
        if self.card.product(name) is not None and task.kernel is None:
            columns = min(part.count * self.o, w - part.first * self.o)
        else:
            h = part.count
        table = [f for f in quant.functions if f.name != "softmax"]
        return Phase(
            name=name, ys=h, ns=-(-columns // self.o), cs=c, columns=columns,
            by_columns=task.op in ("matmul", "matmul_t"), beats=1, work="ring",
            multiplier=quant.multipliers[0], shift=quant.shift, to=(),
            function=Function(**vars(table[0])) if table else None,  # type: ignore[arg-type]
            relu="relu" in task.then, pool="maxpool2" in task.then,
        )  # fmt: skip

    def sent(self, part: Part, rows: range, to: Sequence[RowsTo | WordsTo]) -> Phase:
        """A phase as another core sees it that gets some of its rows."""
        phase = replace(self.common(part), to=tuple(to))
        if self.card.tasks[part.task].kernel is None:
            return phase
        return replace(phase, ys=len(rows) * (2 if phase.pool else 1))

    def waits(self, tensors: Sequence[str]) -> tuple[int, tuple[int, ...]]:
        """How many results of its own, and of each inlet, must be there so that all of these are whole."""
        after, awaits = 0, [0] * len(self.sources_of)
        for tensor in tensors:
            if any(part.core == self.index for part in self.all.parts.get(tensor, ())):
                after = max(after, self.at[tensor] + 1)
            for k, parts in enumerate(self.sources_of.values()):
                for n, part in enumerate(parts):
                    if part.task == tensor:
                        awaits[k] = max(awaits[k], n + 1)
        return after, tuple(awaits)

    def phase(self, part: Part, cores: Sequence[_Core]) -> Phase:
        name, card = part.task, self.card
        task, quant, product = card.tasks[name], self.kernel.tasks[name], card.product(name)
        common = replace(self.common(part), to=self.targets(part, cores))
        needed = 0
        for k, (segment, (user, source)) in enumerate(
            zip(self.segments, self.sources, strict=True)
        ):
            if (user == name or segment.name in task.inputs) and source == "x":
                needed = k + 1
        # Rows come one by one, but not those of a tensor that several cores make.
        matrix = task.op in ("matmul", "matmul_t")
        whole = [t for t in task.inputs if matrix or len(self.all.parts.get(t, ())) > 1]
        after, awaits = self.waits(whole)
        common = replace(common, after=after, awaits=awaits, segments=needed)
        if task.kernel is not None:
            rows, top, left, _ = conv_window(task, self.r)
            tensor = task.inputs[0]
            window = Window(
                self.rows_at(tensor), self.all.geometry(tensor)[0], task.kernel[1], task.kernel[2], rows,
                top - part.first, left, "upsample2" in self.all.then(tensor), self.absent(tensor),
            )  # fmt: skip
            base = self.tensors[f"{name}.kernel", "x"].base
            return replace(
                common, beats=self.all.beats(name), work=window, x_base=base, tail=self.r
            )
        if product is not None:
            first, second = task.inputs
            kind: Kind = "turned" if task.op == "matmul" else "w"
            ring, beats = self.all.given(second), self.all.beats(name)
            return replace(
                common, beats=beats, work="ring" if ring else "tensor", x_base=self.tensors[first, "x"].base,
                w_base=0 if ring else self.tensors[second, kind].base + part.first * beats,
                tail=product.k - (beats - 1) * self.r,
            )  # fmt: skip
        if task.op == "softmax":
            last = quant.functions[0]
            work = Softmax(
                self.rows_at(task.inputs[0]), common.columns, quant.multipliers[0], quant.shift, last.multiplier,
                last.shift,
            )  # fmt: skip
            # One at a time.
            soft = [
                k + 1
                for n, k in self.at.items()
                if k < self.at[name] and card.tasks[n].op == "softmax"
            ]
            return replace(common, work=work, after=max([after, *soft]))
        a, b = self.rows_at(task.inputs[0]), self.rows_at(task.inputs[-1])
        if task.op == "mul":
            return replace(common, work=Pair(a, b, "mul"))
        if task.op == "map":  # once, not twice, what the other reads
            return replace(common, work=Pair(a, b, "add", (1, 0)))
        both = (quant.multipliers[0], quant.multipliers[1])
        return replace(common, work=Pair(a, b, "add", both), multiplier=1)

    def absent(self, tensor: str) -> int:
        """Rows of an image that are not waited for one by one."""
        parts = self.all.parts.get(tensor, [])
        if not parts:
            return self.reach(tensor).start
        if len(parts) > 1:
            return self.all.geometry(tensor)[1]
        return self.rows_of[parts[0]].start if parts[0] in self.rows_of else 0

    def kept(self, part: Part) -> list[RowsTo | WordsTo]:
        """Where this core keeps what it reads of a part's result."""
        found: list[RowsTo | WordsTo] = []
        task = self.card.tasks[part.task]
        for here in self.tensors.values():
            if here.name != part.task:
                continue
            if here.kind == "rows":
                at = self.rows_at(part.task)
                if task.kernel is not None:  # whole rounds of banks
                    first, end = self.all.stored(part)
                    rows = self.rows_of.get(part, range(end - first))
                    base = at.base + (first + rows.start) // self.all.groups * (at.tiles + 1)
                    found.append(RowsTo(replace(at, base=base, height=len(rows))))
                else:
                    found.append(RowsTo(replace(at, base=at.base + part.first)))
            elif here.kind == "turned":
                found.append(
                    WordsTo("w", here.base + part.first * here.beats, here.beats, turned=True)
                )
            else:
                memory: Literal["x", "w"] = "x" if here.kind == "x" else "w"
                word = part.first * self.o // self.r
                found.append(WordsTo(memory, here.base + word, here.beats))
        return found

    def targets(
        self, part: Part, cores: Sequence[_Core]
    ) -> tuple[RowsTo | WordsTo | Store | Send, ...]:
        found: list[RowsTo | WordsTo | Store | Send] = [*self.kept(part)]
        for core in cores:
            if part in core.rows_of:
                rows = core.rows_of[part]
                found.append(Send(core.index, rows.start, len(rows)))
        phase = self.common(part)
        if part.task in self.card.outputs:
            found.append(Store((phase.ys // 2 if phase.pool else phase.ys) * phase.ns * phase.cs))
        if not found:
            raise self.refuse(part.task, "nobody reads its result")
        return tuple(found)
