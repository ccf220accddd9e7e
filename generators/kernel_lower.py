"""From an integer kernel and its plan to what a core plays: phases, scratchpads, and the order of what it loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from designs.errors import DesignError
from designs.graph import GraphCard, TaskCard
from designs.quantised_kernel import FUNCTIONS, QuantKernel
from generators.kernel import KernelPlan
from hw.arrays import accumulator_bits
from hw.kernel.program import (
    CoreShape,
    Function,
    Pair,
    Phase,
    Program,
    RowsAt,
    RowsTo,
    Segment,
    Softmax,
    Store,
    Window,
    WordsTo,
)

__all__ = ["LoweredKernel", "check_tasks", "conv_window", "lower"]

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
class LoweredKernel:
    """A program with the core that plays it.

    Parameters
    ----------
    shape, program : see there.
    order : tasks, a phase each.
    sources : of each segment the task that it is for, and which of its tensors: ``x``, ``ring`` or ``rows``.
    """

    shape: CoreShape
    program: Program
    order: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


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
    """The program of a kernel on the one core of a plan.

    Raises
    ------
    DesignError
        If the machine cannot play it: which task, and why.
    """
    check_tasks(kernel.card)
    if len(plan.cores) != 1:
        raise DesignError(
            f"{kernel.card.name}: the plan has {len(plan.cores)} cores, RTL has one: take --policy sequential, or "
            "--backend hls"
        )
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
    kernel: QuantKernel
    plan: KernelPlan
    tensors: dict[tuple[str, Kind], _Tensor] = field(default_factory=dict)

    @property
    def card(self) -> GraphCard:
        return self.kernel.card

    def refuse(self, task: str, why: str) -> DesignError:
        return DesignError(f"{self.card.name}: task {task}: {why}")

    def lower(self) -> LoweredKernel:
        card, machine = self.card, self.card.machine
        size = self.plan.cores[0]
        self.t = size if machine.grow == "tokens" else machine.tokens
        self.o = size if machine.grow == "outputs" else machine.outputs
        self.r = machine.reduce
        starts = {run.task: run.start for run in self.plan.plan.runs}
        known = {name: k for k, name in enumerate(card.order)}
        self.order = tuple(sorted(card.order, key=lambda n: (starts[n], known[n])))
        self.at = {name: k for k, name in enumerate(self.order)}
        for name in self.order:
            self.check(name)
        self.left, self.right, self.groups = self.edges()
        for name in self.order:
            for number, tensor in enumerate(card.tasks[name].inputs):
                self.use(name, number, tensor)
            if card.tasks[name].kernel is not None:
                self.use_kernel(name)
        self.numbers = [key for key in self.tensors if key[1] == "rows"]
        for k, key in enumerate(self.numbers):
            self.tensors[key].number = k
        x_words = self.allocate(("x",))
        w_words = self.allocate(("w", "turned"))
        row_words = self.allocate(("rows",))
        segments, sources = self.segments()
        if len(segments) > MOST_SEGMENTS or max(x_words, w_words, row_words) > MOST_WORDS:
            raise DesignError(
                f"{card.name}: RTL has at most {MOST_SEGMENTS} tensors that are loaded and {MOST_WORDS:,} words of a "
                f"scratchpad, it needs {len(segments)} and {max(x_words, w_words, row_words):,}"
            )
        phases = tuple(self.phase(name, segments, sources) for name in self.order)
        shape = CoreShape(
            tokens=self.t, reduce=self.r, outputs=self.o, bits=self.kernel.bits, acc_bits=self.acc_bits(),
            x_words=x_words, w_words=w_words, row_words=row_words, groups=self.groups,
            left=self.left, right=self.right, ring_words=self.ring(phases), port_bytes=machine.bytes_per_cycle,
        )  # fmt: skip
        images = tuple(self.geometry(name)[1] for name, _ in self.numbers)
        return LoweredKernel(
            shape, Program(phases, tuple(segments), images), self.order, tuple(sources)
        )

    # ---- What the machine can do

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

    def acc_bits(self) -> int:
        bits, found = self.kernel.bits, 18
        for name in self.order:
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

    # ---- Tensors

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

    def use(self, task: str, number: int, tensor: str) -> None:
        op = self.card.tasks[task].op
        if op in ("matmul", "matmul_t") and number == 1:
            if self.given(tensor):
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
        beats = self.beats(task)
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
        first = -1 if self.given(tensor) else self.at[tensor]
        c, h, w = self.geometry(tensor)
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
        _, h, w = self.geometry(tensor)
        return -(-h // self.groups) * (-(-w // self.o) + 1)

    def rows_at(self, tensor: str) -> RowsAt:
        here = self.tensors[tensor, "rows"]
        _, h, w = self.geometry(tensor)
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

    # ---- Segments and phases

    def beats(self, name: str) -> int:
        task, product = self.card.tasks[name], self.card.product(name)
        assert product is not None
        if task.kernel is None:
            return -(-product.k // self.r)
        rows = conv_window(task, self.r)[0]
        return self.shape3(task.inputs[0])[0] * -(-task.kernel[1] // rows)

    def segments(self) -> tuple[list[Segment], list[tuple[str, str]]]:
        """What is loaded, in the order of first use."""
        segments: list[Segment] = []
        sources: list[tuple[str, str]] = []
        there: set[tuple[str, str]] = set()
        for name in self.order:
            task = self.card.tasks[name]
            wanted: list[tuple[str, Kind]] = []
            if task.kernel is not None:
                wanted.append((f"{name}.kernel", "x"))
            for number, tensor in enumerate(task.inputs):
                if not self.given(tensor):
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
                    product = self.card.product(name)
                    assert product is not None
                    segments.append(
                        Segment(tensor, "ring", -(-product.n // self.o) * self.beats(name))
                    )
                elif kind == "x":
                    here = self.tensors[tensor, "x"]
                    segments.append(Segment(tensor, "x", here.words, here.base))
                else:
                    at, c = self.rows_at(tensor), self.geometry(tensor)[0]
                    segments.append(Segment(tensor, at, at.height * c * at.tiles, channels=c))
        return segments, sources

    def ring(self, phases: Sequence[Phase]) -> int:
        need = 0
        for phase in phases:
            if phase.work == "ring":
                tile = 2 * phase.beats if phase.blocks(self.t) > 1 else 0
                need = max(need, FLIGHT, tile)
        return 1 << (need - 1).bit_length() if need else 0

    def phase(
        self, name: str, segments: Sequence[Segment], sources: Sequence[tuple[str, str]]
    ) -> Phase:
        card, task, quant = self.card, self.card.tasks[name], self.kernel.tasks[name]
        product = card.product(name)
        c, h, w = self.made(name)
        pool = "maxpool2" in task.then
        table = [f for f in quant.functions if f.name != "softmax"]
        function = Function(**vars(table[0])) if table else None  # type: ignore[arg-type]
        common = Phase(
            name=name, ys=h, ns=-(-w // self.o), cs=c, columns=w, by_columns=False, beats=1, work="ring",
            multiplier=quant.multipliers[0], shift=quant.shift, to=self.targets(name, c, h, w, pool),
            function=function, relu="relu" in task.then, pool=pool,
        )  # fmt: skip
        after, needed = 0, 0
        for k, (segment, (user, source)) in enumerate(zip(segments, sources, strict=True)):
            mine = user == name or segment.name in task.inputs
            if mine and source == "x":
                needed = k + 1
        if task.op in ("matmul", "matmul_t"):  # rows of the others come one by one
            after = max((self.at[t] + 1 for t in task.inputs if t in card.tasks), default=0)
        if task.kernel is not None:
            assert product is not None
            rows, top, left, _ = conv_window(task, self.r)
            tensor = task.inputs[0]
            window = Window(
                self.rows_at(tensor), self.geometry(tensor)[0], task.kernel[1], task.kernel[2], rows, top, left,
                "upsample2" in self.then(tensor),
            )  # fmt: skip
            base = self.tensors[f"{name}.kernel", "x"].base
            return replace(
                common,
                beats=self.beats(name),
                work=window,
                x_base=base,
                tail=self.r,
                after=after,
                segments=needed,
            )
        if product is not None:
            first, second = task.inputs
            kind: Kind = "turned" if task.op == "matmul" else "w"
            ring = self.given(second)
            return replace(
                common, by_columns=True, beats=self.beats(name), work="ring" if ring else "tensor",
                x_base=self.tensors[first, "x"].base,
                w_base=0 if ring else self.tensors[second, kind].base,
                tail=product.k - (self.beats(name) - 1) * self.r, after=after, segments=needed,
            )  # fmt: skip
        if task.op == "softmax":
            last = quant.functions[0]
            work = Softmax(
                self.rows_at(task.inputs[0]),
                w,
                quant.multipliers[0],
                quant.shift,
                last.multiplier,
                last.shift,
            )
            soft = [
                self.at[n] for n in self.order[: self.at[name]] if card.tasks[n].op == "softmax"
            ]
            return replace(common, work=work, after=max([0, *(k + 1 for k in soft)]))
        a, b = self.rows_at(task.inputs[0]), self.rows_at(task.inputs[-1])
        if task.op == "mul":
            return replace(common, work=Pair(a, b, "mul"))
        if task.op == "map":  # once, not twice, what the other reads
            return replace(common, work=Pair(a, b, "add", (1, 0)))
        both = (quant.multipliers[0], quant.multipliers[1])
        return replace(common, work=Pair(a, b, "add", both), multiplier=1)

    def made(self, name: str) -> tuple[int, int, int]:
        """Channels, rows and columns of a result before it is pooled."""
        task, product = self.card.tasks[name], self.card.product(name)
        if product is not None and product.row:
            return product.m, product.n // product.row, product.row
        if product is not None:
            return 1, product.m, product.n
        return self.shape3(task.inputs[0])

    def targets(
        self, name: str, c: int, h: int, w: int, pool: bool
    ) -> tuple[RowsTo | WordsTo | Store, ...]:
        found: list[RowsTo | WordsTo | Store] = []
        for here in self.tensors.values():
            kind = here.kind
            if here.name != name:
                continue
            if kind == "rows":
                found.append(RowsTo(self.rows_at(name)))
            else:
                memory: Literal["x", "w"] = "x" if kind == "x" else "w"
                found.append(WordsTo(memory, here.base, here.beats, kind == "turned"))
        if name in self.card.outputs:
            found.append(Store((h // 2 if pool else h) * -(-w // self.o) * c))
        if not found:
            raise self.refuse(name, "nobody reads its result")
        return tuple(found)
