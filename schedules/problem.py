# SPDX-License-Identifier: Apache-2.0
"""What has to be done: operations with sizes, the tensors between them, and what repeats.

A problem says nothing about a machine. It is one value for all passes: sizes are in L and P
(:mod:`schedules.sizes`), and the layers of a network, being alike, are one section that repeats.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from schedules.errors import ScheduleError
from schedules.sizes import Size, check_size, size_value

__all__ = ["OPERATIONS", "Carry", "Problem", "Section", "Task", "Tensor", "nearest"]

DTYPES = {"i8": 1, "i16": 2, "i32": 4, "u32": 4}
"""Bytes of an element."""

TENSOR_KINDS = ("input", "weight", "activation", "cache", "carry")

OPERATIONS = {
    "embedding": "rows of tables",
    "layernorm": "rows normalised",
    "rmsnorm": "rows normalised, their mean left as it is",
    "matmul": "[m, k] by a weight [k, n]",
    "scores": "by head, [m, k] by a cache [n, k]",
    "softmax": "rows of scores",
    "context": "by head, [m, k] by a cache [k, n]",
    "activation": "element by element; if it makes half of what it takes, times the other half",
    "rotary": "by head, pairs of a row turned by its position",
    "add": "element by element, to the first input",
    "argmax": "first maximum of a row",
}
"""What a task may do. matmul, scores and context are for an engine, the others for special units."""

ENGINE_OPERATIONS = ("matmul", "scores", "context")


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean x?"``, if one of the known names is close."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def unique(what: str, names: Iterable[str]) -> None:
    """Raise ScheduleError if a name comes twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ScheduleError(f"Two {what} are called {name}")
        seen.add(name)


@dataclass(frozen=True)
class Tensor:
    """Something that is read or made.

    Parameters
    ----------
    name : its name.
    shape : its dimensions.
    dtype : one of ``i8``, ``i16``, ``i32``, ``u32``.
    kind : ``input`` (given), ``weight`` (constant), ``activation`` (of one pass), ``cache`` (kept between passes;
        the task that makes it adds the rows of this pass) or ``carry`` (see :class:`Carry`).
    """

    name: str
    shape: tuple[Size, ...]
    dtype: str = "i8"
    kind: str = "activation"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ScheduleError(
                f"Tensor {self.name}: dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}"
            )
        if self.kind not in TENSOR_KINDS:
            raise ScheduleError(
                f"Tensor {self.name}: kind must be one of {', '.join(TENSOR_KINDS)}, not {self.kind!r}"
            )
        for size in self.shape:
            try:
                check_size(size)
            except ScheduleError as error:
                raise ScheduleError(f"Tensor {self.name}: {error}") from error

    def elements(self, tokens: int, past: int = 0) -> int:
        """Elements in a pass."""
        return math.prod(size_value(size, tokens, past) for size in self.shape)

    def bytes(self, tokens: int, past: int = 0) -> int:
        """Bytes in a pass."""
        return self.elements(tokens, past) * DTYPES[self.dtype]


@dataclass(frozen=True)
class Task:
    """One operation on whole tensors.

    Parameters
    ----------
    name : its name.
    op : a key of :data:`OPERATIONS`.
    inputs, outputs : names of tensors; the second input of matmul, scores and context is the stationary one.
    m, k, n : rows, reduction and outputs of a product (of one head); m rows of n elements for the others.
    heads : products side by side.
    shared : heads that share a head of the cache, a divisor of ``heads``.
    causal : row i sees the first ``P + i + 1`` columns only.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    m: Size
    n: Size
    k: Size = 1
    heads: int = 1
    causal: bool = False
    shared: int = 1

    def __post_init__(self) -> None:
        if self.op not in OPERATIONS:
            raise ScheduleError(
                f"Task {self.name}: operation {self.op} is not known{nearest(self.op, OPERATIONS)}"
            )
        if self.heads < 1:
            raise ScheduleError(f"Task {self.name}: heads must be at least 1, not {self.heads!r}")
        if self.shared < 1 or self.heads % self.shared:
            raise ScheduleError(
                f"Task {self.name}: shared must divide the {self.heads} heads, not {self.shared!r}"
            )
        if not self.outputs:
            raise ScheduleError(f"Task {self.name} must make a tensor")
        for size in (self.m, self.k, self.n):
            try:
                check_size(size)
            except ScheduleError as error:
                raise ScheduleError(f"Task {self.name}: {error}") from error

    @property
    def on_engine(self) -> bool:
        """Whether it is a product of matrices."""
        return self.op in ENGINE_OPERATIONS

    def macs(self, tokens: int, past: int = 0) -> int:
        """Multiply-accumulates in a pass; causal work is counted once."""
        if not self.on_engine:
            return 0
        m, k, n = (size_value(size, tokens, past) for size in (self.m, self.k, self.n))
        if not self.causal:
            return self.heads * m * k * n
        other = k if self.op == "scores" else n
        return self.heads * other * (m * past + m * (m + 1) // 2)


@dataclass(frozen=True)
class Carry:
    """A tensor that a repeated section hands to itself.

    Parameters
    ----------
    tensor : what its tasks read, of kind ``carry``.
    first : what it is in the first repetition, made by an earlier section.
    following : what it is in the others, made by the section itself.
    """

    tensor: str
    first: str
    following: str


@dataclass(frozen=True)
class Section:
    """Tasks that run one or more times in a row.

    Parameters
    ----------
    name : its name.
    tasks : their names, in an order that respects precedence.
    repeat : how many times in a pass.
    answer : only in a pass that yields a token.
    carries : what a repetition takes from the one before.
    """

    name: str
    tasks: tuple[str, ...]
    repeat: int = 1
    answer: bool = False
    carries: tuple[Carry, ...] = ()

    def __post_init__(self) -> None:
        if self.repeat < 1:
            raise ScheduleError(
                f"Section {self.name} must repeat at least once, not {self.repeat!r} times"
            )
        if not self.tasks:
            raise ScheduleError(f"Section {self.name} must have a task")


@dataclass(frozen=True)
class Problem:
    """Tasks in sections, and their tensors.

    Parameters
    ----------
    name : of the network.
    tensors, tasks : all of them.
    sections : in the order in which they run; every task is in one.

    Raises
    ------
    ScheduleError
        If a name is not known or not unique, a tensor has more or less than one producer (inputs, weights and
        carries have none), or something is read before it is made.
    """

    name: str
    tensors: tuple[Tensor, ...]
    tasks: tuple[Task, ...]
    sections: tuple[Section, ...]

    def __post_init__(self) -> None:
        unique("tensors", (t.name for t in self.tensors))
        unique("tasks", (t.name for t in self.tasks))
        unique("sections", (s.name for s in self.sections))
        check_dataflow(self.tensors, self.tasks, self.sections)

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        return {t.name: t for t in self.tasks}

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {t.name: t for t in self.tensors}

    def task(self, name: str) -> Task:
        """The task of this name."""
        if name not in self._tasks:
            raise ScheduleError(f"There is no task {name}{nearest(name, self._tasks)}")
        return self._tasks[name]

    def tensor(self, name: str) -> Tensor:
        """The tensor of this name."""
        if name not in self._tensors:
            raise ScheduleError(f"There is no tensor {name}{nearest(name, self._tensors)}")
        return self._tensors[name]

    def producer(self, tensor: str) -> Task | None:
        """The task that makes a tensor."""
        return next((t for t in self.tasks if tensor in t.outputs), None)

    def consumers(self, tensor: str) -> tuple[Task, ...]:
        """The tasks that read a tensor under this name."""
        return tuple(t for t in self.tasks if tensor in t.inputs)

    def macs(self, tokens: int, past: int = 0, *, answer: bool = True) -> int:
        """Multiply-accumulates of a pass."""
        return sum(
            section.repeat * self.task(name).macs(tokens, past)
            for section in self.sections
            for name in section.tasks
            if answer or not section.answer
        )


def check_dataflow(
    tensors: tuple[Tensor, ...], tasks: tuple[Task, ...], sections: tuple[Section, ...]
) -> None:
    """Raise ScheduleError unless tasks read what exists and every tensor has the producers of its kind."""
    kinds = {t.name: t.kind for t in tensors}
    by_name = {t.name: t for t in tasks}
    producers: dict[str, str] = {}
    for task in tasks:
        for name in (*task.inputs, *task.outputs):
            if name not in kinds:
                raise ScheduleError(
                    f"Task {task.name}: tensor {name} does not exist{nearest(name, kinds)}"
                )
        for name in task.outputs:
            if kinds[name] not in ("activation", "cache"):
                raise ScheduleError(
                    f"Task {task.name} makes {name}, but that is of kind {kinds[name]}"
                )
            if name in producers:
                raise ScheduleError(
                    f"Tensor {name} is made by {producers[name]} and by {task.name}; it must have one producer"
                )
            producers[name] = task.name
    ready = {t.name for t in tensors if t.kind in ("input", "weight")}
    placed: dict[str, str] = {}
    for section in sections:
        for carry in section.carries:
            if kinds.get(carry.tensor) != "carry":
                raise ScheduleError(
                    f"Section {section.name}: {carry.tensor} must be a tensor of kind carry"
                )
            if carry.first not in ready:
                raise ScheduleError(
                    f"Section {section.name}: carry {carry.tensor} starts with {carry.first}, "
                    f"which no earlier section makes"
                )
            ready.add(carry.tensor)
        for name in section.tasks:
            if name not in by_name:
                raise ScheduleError(
                    f"Section {section.name}: task {name} does not exist{nearest(name, by_name)}"
                )
            if name in placed:
                raise ScheduleError(
                    f"Task {name} is in sections {placed[name]} and {section.name}; it must be in one"
                )
            placed[name] = section.name
            for tensor in by_name[name].inputs:
                if tensor not in ready:
                    raise ScheduleError(f"Task {name} reads {tensor}, which no earlier task makes")
            ready.update(by_name[name].outputs)
        for carry in section.carries:
            made = producers.get(carry.following)
            if made is None or placed.get(made) != section.name:
                raise ScheduleError(
                    f"Section {section.name}: carry {carry.tensor} continues with {carry.following}, "
                    f"which the section does not make"
                )
    for task in tasks:
        if task.name not in placed:
            raise ScheduleError(f"Task {task.name} is in no section")
    for tensor in tensors:
        if tensor.name not in ready:
            raise ScheduleError(f"Tensor {tensor.name} of kind {tensor.kind} has no producer")
