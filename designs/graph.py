# SPDX-License-Identifier: Apache-2.0
"""Task-graph cards: a kernel of several tasks and the machine that it is scheduled for (designs/graphs/*.yaml)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from designs import catalogue
from designs.errors import DesignError

__all__ = ["GraphCard", "Product", "TaskCard", "list_graphs", "load_graph"]

Dimension = Annotated[int, Field(ge=1, le=1 << 20)]
Shape = Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=3)]
Border = Annotated[int, Field(ge=0, le=1 << 10)]
BYTES = {"i8": 1, "i16": 2}


class TaskCard(BaseModel):
    """One operation.

    Parameters
    ----------
    op : str
        ``matmul`` ``[m, k] @ [k, n]``, ``matmul_t`` ``[m, k] @ [n, k].T``, ``conv`` of ``[c, h, w]`` by a ``kernel``,
        ``deconv`` (its transpose), ``softmax`` of rows, ``layernorm``: rows of mean 0 and variance 1, ``mul`` or
        ``add`` of two tensors, ``map``: only what ``then`` says. The first factor of a ``matmul`` may be an image: one
        row of its elements, channel by channel.
    inputs : list of str
        Inputs, weights, or tasks, whose results bear their names.
    kernel : [o, kh, kw], optional
        Of ``conv`` and ``deconv``; its weights have no name.
    padding : str
        Of ``conv``: ``same`` (of an even kernel the larger half comes behind), ``valid``, or rows and columns of zeros
        ``[top, left, bottom, right]``. Of ``deconv``: ``valid``, or what is cut off its result on these sides.
    stride : int
        Of ``conv``: every so many rows and columns. Of ``deconv``: pixels of the input are so far apart in the result;
        the zeros between them are multiplied.
    bias : bool
        Of products: a number for each output (column of a matrix, channel of an image) is added. Like the weights of
        ``conv`` they have no name.
    scale : float
        The result (of ``softmax`` its input) is multiplied by it, before anything else happens to it.
    causal : bool
        Of ``softmax``: the last row sees all columns, each one before it one less.
    epsilon : float
        Of ``layernorm``: what is added to the variance.
    then : list of str
        What happens to the result on its way: ``relu``, ``silu``, ``gelu`` (its tanh form), ``sigmoid``, ``exp``,
        ``upsample2``, ``maxpool2``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    op: Literal["matmul", "matmul_t", "conv", "deconv", "softmax", "layernorm", "mul", "add", "map"]
    inputs: tuple[str, ...] = Field(min_length=1, max_length=2)
    kernel: tuple[Dimension, Dimension, Dimension] | None = None
    padding: Literal["same", "valid"] | tuple[Border, Border, Border, Border] = "valid"
    stride: Annotated[int, Field(ge=1, le=1 << 10)] = 1
    bias: bool = False
    scale: PositiveFloat = 1.0
    causal: bool = False
    epsilon: PositiveFloat = 1e-5
    then: tuple[
        Literal["relu", "silu", "gelu", "sigmoid", "exp", "upsample2", "maxpool2"], ...
    ] = ()

    @model_validator(mode="after")
    def _check(self) -> TaskCard:
        count = 1 if self.op in ("conv", "deconv", "softmax", "layernorm", "map") else 2
        if len(self.inputs) != count:
            raise ValueError(f"{self.op} takes {count} inputs, not {len(self.inputs)}")
        if (self.kernel is not None) != (self.op in ("conv", "deconv")):
            raise ValueError("kernel is for conv and deconv, which must have it")
        if self.kernel is None and (self.padding != "valid" or self.stride != 1):
            raise ValueError(f"padding and stride are for conv and deconv, not for {self.op}")
        if self.op == "deconv" and self.padding == "same":
            raise ValueError(
                "deconv has no padding same: say what is cut off, [top, left, bottom, right]"
            )
        if self.bias and self.op in ("softmax", "layernorm", "mul", "add", "map"):
            raise ValueError(f"{self.op} has no bias")
        if self.causal and self.op != "softmax":
            raise ValueError(f"causal is for softmax, not for {self.op}")
        if self.op == "layernorm" and self.scale != 1.0:
            raise ValueError("layernorm has no scale: its result does not depend on one")
        if self.op == "map" and (not self.then or self.scale != 1.0):
            raise ValueError("map must have a then, and no scale")
        return self

    @property
    def borders(self) -> tuple[int, int, int, int]:
        """Rows and columns ``top, left, bottom, right`` of :attr:`padding`, of a task with a kernel."""
        if self.padding == "same" and self.kernel is not None:
            _, kh, kw = self.kernel
            return (kh - 1) // 2, (kw - 1) // 2, kh // 2, kw // 2
        return (0, 0, 0, 0) if isinstance(self.padding, str) else self.padding


class MachineCard(BaseModel):
    """Lanes, scratchpads and memory that a kernel may use.

    Parameters
    ----------
    array : str
        Of the engines.
    tokens, reduce, outputs : int
        Shape of all lanes together, as one engine.
    grow : str
        The dimension along which lanes are dealt out to cores.
    cores : int
        Into how many equal cores the authors divide the lanes.
    sfu_lanes : int
        Elements a cycle of the special function units.
    spad_bytes, bank_bytes : int
        All scratchpads together, dealt out with the lanes, and their granularity.
    bytes_per_cycle, latency, memory_bytes : int
        Of the memory, all ports together.
    reconf_cycles : int
        From one task of a core to the next.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    array: str = "tree"
    tokens: PositiveInt
    reduce: PositiveInt
    outputs: PositiveInt
    grow: Literal["tokens", "outputs"] = "tokens"
    cores: PositiveInt = 2
    sfu_lanes: PositiveInt = 16
    spad_bytes: PositiveInt
    bank_bytes: PositiveInt = 4096
    bytes_per_cycle: PositiveInt
    latency: int = Field(default=64, ge=0)
    memory_bytes: PositiveInt = 1 << 33
    reconf_cycles: int = Field(default=4, ge=0)

    @model_validator(mode="after")
    def _check(self) -> MachineCard:
        if self.granules % self.cores:
            raise ValueError(f"{self.grow} must be a multiple of cores, {self.cores}")
        return self

    @property
    def granules(self) -> int:
        """Pieces in which lanes are dealt out."""
        return getattr(self, self.grow)

    @property
    def lanes(self) -> int:
        """Multipliers of all cores."""
        return self.tokens * self.reduce * self.outputs


class Published(BaseModel):
    """What others reached with the same lanes: cycles, and where that is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cycles: PositiveInt
    goal: PositiveInt
    source: str


@dataclass(frozen=True)
class Product:
    """A task as a product of matrices: ``m`` rows, ``k`` to sum, ``n`` outputs.

    Of an image the rows are output channels and the outputs pixels. ``row`` is how many pixels make a row of the image
    (0 for matrices), ``reach`` how many rows of the input a row of the result needs, and ``tail`` how many rows of the
    result need the last row of the input.
    """

    m: int
    k: int
    n: int
    row: int = 0
    reach: int = 1
    tail: int = 1

    @property
    def macs(self) -> int:
        """Multiplications."""
        return self.m * self.k * self.n


class GraphCard(BaseModel):
    """A kernel: tensors given, tasks, and the machine.

    Parameters
    ----------
    name, description : str
        What the user calls it, and what it is.
    dtype : str
        Of all tensors.
    inputs, weights : mapping of names to shapes
        What is given; ``[rows, columns]`` or ``[channels, height, width]``.
    tasks : mapping of names to TaskCard
        In any order.
    outputs : list of str
        Tasks whose results are written to memory.
    machine : MachineCard
        What it may use.
    published : optional
        Figures to compare with.

    Raises
    ------
    pydantic.ValidationError
        For names that are unknown or used twice, tasks that wait for each other, or shapes that do not chain.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    description: str = ""
    dtype: Literal["i8", "i16"] = "i16"
    inputs: dict[str, Shape]
    weights: dict[str, Shape] = {}
    tasks: dict[str, TaskCard] = Field(min_length=1)
    outputs: tuple[str, ...] = Field(min_length=1)
    machine: MachineCard
    published: Published | None = None

    @model_validator(mode="after")
    def _check(self) -> GraphCard:
        given = [*self.inputs, *self.weights, *self.tasks]
        for name in given:
            if given.count(name) > 1:
                raise ValueError(f"{name} names more than one tensor")
        for name in self.outputs:
            if name not in self.tasks:
                raise ValueError(catalogue.unknown("output", name, list(self.tasks)))
        for name, task in self.tasks.items():
            for tensor in task.inputs:
                if tensor not in given:
                    what = catalogue.unknown("tensor", tensor, given)
                    raise ValueError(f"task {name}: {what}")
        for name in self.order:
            if 0 in self.shape(name):
                raise ValueError(
                    f"task {name}: nothing is left of its result, {list(self.shape(name))}"
                )
        for name in (*self.inputs, *self.weights, *self.order):
            if self.bytes(name) > self.machine.memory_bytes:
                raise ValueError(
                    f"{name} has {self.bytes(name):,} bytes, the memory {self.machine.memory_bytes:,}"
                )
        return self

    @property
    def order(self) -> tuple[str, ...]:
        """Tasks, producers before consumers."""
        left, done = list(self.tasks), []
        while left:
            ready = [n for n in left if not set(self.tasks[n].inputs) & set(left)]
            if not ready:
                raise ValueError(f"tasks {', '.join(left)} wait for each other in a cycle")
            done += ready
            left = [n for n in left if n not in ready]
        return tuple(done)

    def bytes(self, tensor: str) -> int:
        """Bytes of a tensor."""
        return math.prod(self.shape(tensor)) * BYTES[self.dtype]

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of an input, a weight or a task's result."""
        given = self.inputs.get(tensor) or self.weights.get(tensor)
        if given is not None:
            return given
        shape = self.made(tensor)
        for step in self.tasks[tensor].then:
            if step in ("upsample2", "maxpool2"):
                if len(shape) != 3:
                    raise ValueError(
                        f"task {tensor}: {step} needs an image [channels, height, width]"
                    )
                c, h, w = shape
                shape = (c, h * 2, w * 2) if step == "upsample2" else (c, h // 2, w // 2)
        return shape

    def made(self, name: str) -> tuple[int, ...]:
        """Shape of a task's result before what happens to it on its way."""
        task = self.tasks[name]
        shapes = [self.shape(t) for t in task.inputs]
        first = shapes[0]
        wrong = f"task {name}: {task.op} cannot take {' and '.join(map(str, map(list, shapes)))}"
        if task.op in ("matmul", "matmul_t"):
            if task.op == "matmul":
                first = _row(first)
            if len(first) != 2 or len(shapes[1]) != 2:
                raise ValueError(f"{wrong}: it takes two matrices")
            k, n = shapes[1] if task.op == "matmul" else shapes[1][::-1]
            if first[1] != k:
                raise ValueError(f"{wrong}: {first[1]} columns meet {k} rows")
            return first[0], n
        if task.kernel is not None:
            if len(first) != 3:
                raise ValueError(f"{wrong}: it takes an image [channels, height, width]")
            o, kh, kw = task.kernel
            top, left, bottom, right = task.borders
            _, h, w = first
            if task.op == "deconv":
                size = (
                    (h - 1) * task.stride + kh - top - bottom,
                    (w - 1) * task.stride + kw - left - right,
                )
                if min(size) < 1:
                    raise ValueError(f"{wrong}: all of the result is cut off")
                return o, *size
            h, w = h + top + bottom, w + left + right
            if kh > h or kw > w:
                raise ValueError(f"{wrong}: the kernel {kh}x{kw} is larger than the image {h}x{w}")
            return o, (h - kh) // task.stride + 1, (w - kw) // task.stride + 1
        if task.op == "layernorm" and len(first) != 2:
            raise ValueError(f"{wrong}: it takes a matrix")
        if task.causal and (len(first) != 2 or first[0] > first[1]):
            raise ValueError(f"{wrong}: a causal one takes a matrix with no more rows than columns")
        if task.op in ("mul", "add") and first != shapes[1]:
            raise ValueError(f"{wrong}: their shapes differ")
        return first

    def product(self, name: str) -> Product | None:
        """A task as a product of matrices; None if it is none."""
        task = self.tasks[name]
        if task.op in ("matmul", "matmul_t"):
            (m, k), n = _row(self.shape(task.inputs[0])), self.made(name)[1]
            return Product(m, k, n)
        if task.kernel is not None:
            o, kh, kw = task.kernel
            c, rows, _ = self.shape(task.inputs[0])
            _, h, w = self.made(name)
            top, step = task.borders[0], task.stride
            if task.op == "deconv":
                return Product(
                    o, c * kh * kw, h * w, w, -(-kh // step), h - ((rows - 1) * step - top)
                )
            spared = max(
                0, -(-(rows - kh + top) // step)
            )  # rows that end above the last of the input
            return Product(o, c * kh * kw, h * w, w, kh, max(1, h - spared))
        return None

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what is constant: weights by name, those of images ``[o, c, kh, kw]`` by the name of their task,
        and biases by ``TASK.bias``."""
        found: dict[str, tuple[int, ...]] = dict(self.weights)
        for name, task in self.tasks.items():
            product = self.product(name)
            if task.kernel is not None:
                o, kh, kw = task.kernel
                found[name] = (o, self.shape(task.inputs[0])[0], kh, kw)
            if task.bias and product is not None:
                found[f"{name}.bias"] = (product.m if product.row else product.n,)
        return found

    @property
    def macs(self) -> int:
        """Multiplications of all tasks."""
        return sum(p.macs for p in map(self.product, self.tasks) if p is not None)


def _row(shape: tuple[int, ...]) -> tuple[int, ...]:
    """An image as one row of a matrix."""
    return (1, math.prod(shape)) if len(shape) == 3 else shape


def list_graphs() -> list[str]:
    """Return the names of all task-graph cards, sorted."""
    return catalogue.names("graphs")


def load_graph(name: str) -> GraphCard:
    """Load a task-graph card by its name, or from a file that ends with ``.yaml``.

    Raises
    ------
    DesignError
        If there is no such card (with the nearest match), or its file is not a valid card.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise DesignError(f"task graph {name} does not exist")
        return catalogue.load_file(path, GraphCard, name=path.stem)
    return catalogue.load("graphs", "task graph", name, GraphCard)
