# SPDX-License-Identifier: Apache-2.0
"""A task-graph kernel in integers: what the golden model, RTL and HLS of it all compute."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.graph import GraphCard

__all__ = [
    "BITS",
    "FUNCTIONS",
    "Function",
    "QuantKernel",
    "QuantTask",
    "load_kernel",
    "save_kernel",
]

BITS = {"i8": 8, "i16": 16}
"""Bits of an element by the card's dtype."""

FUNCTIONS = ("silu", "gelu", "sigmoid", "exp")
"""Steps of ``then`` that are tables: their argument is int16 in a scale of their own."""


@dataclass(frozen=True)
class Function:
    """A table on the way of a result, see ``sim.golden.kernel_ops``.

    Parameters
    ----------
    name : ``silu``, ``gelu``, ``sigmoid`` or ``exp``; ``softmax``, whose only function it is.
    fraction : fraction bits of its argument, 8 to 12 (of ``exp`` and ``softmax`` the logarithm to base 2).
    multiplier, shift : requantise its result, to the next function's argument or to the task's result.
    """

    name: str
    fraction: int
    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        if self.name not in (*FUNCTIONS, "softmax") or not 8 <= self.fraction <= 12:
            raise DesignError(f"{self.name} with {self.fraction} fraction bits is no function")
        _check_scaling(self.name, (self.multiplier,), self.shift)


@dataclass(frozen=True)
class QuantTask:
    """How a task's sum or product is requantised, and the tables that follow.

    Parameters
    ----------
    multipliers : one of 16 bits; of ``add`` two, one for each input.
    shift : 1 to 63. Of ``softmax`` both make a difference of inputs to a power of two with 12 fraction bits.
    functions : steps of ``then`` that are tables, in their order; what makes the result of ``softmax``.
    epsilon : of ``layernorm``: times the squares of its columns and over that of its scale, at least 1.
    """

    multipliers: tuple[int, ...]
    shift: int
    functions: tuple[Function, ...] = ()
    epsilon: int = 0

    def __post_init__(self) -> None:
        _check_scaling("a task", self.multipliers, self.shift)
        if not 0 <= self.epsilon < 2**60:
            raise DesignError(f"a task: epsilon must be 0 to 2**60 - 1, not {self.epsilon}")


@dataclass(frozen=True, eq=False)
class QuantKernel:
    """A kernel with integer weights and static symmetric scales.

    Parameters
    ----------
    card : what it computes.
    scales : of every input, weight and task: a number is its integer times this.
    tensors : the integers of ``card.parameters()``: weights int16 (int8), symmetric; biases int64, below 2**45, in the
        scale of the products.
    tasks : of every task.

    Raises
    ------
    DesignError
        If something is missing or of another shape or type.
    """

    card: GraphCard
    scales: dict[str, float]
    tensors: dict[str, NDArray[Any]]
    tasks: dict[str, QuantTask]

    def __post_init__(self) -> None:
        card, top = self.card, 2 ** (self.bits - 1) - 1
        for name, shape in card.parameters().items():
            value, bias = self.tensors.get(name), name.endswith(".bias")
            kind, most = (
                (np.dtype(np.int64), 2**45) if bias else (np.dtype(f"i{self.bits // 8}"), top)
            )
            if value is None or value.shape != shape or value.dtype != kind:
                have = "nothing" if value is None else f"{value.dtype} {list(value.shape)}"
                raise DesignError(f"{card.name}: {name} must be {kind} {list(shape)}, not {have}")
            if value.size and max(-int(value.min()), int(value.max())) > most:
                raise DesignError(f"{card.name}: {name} must be -{most} to {most}")
        for name in card.tasks:
            if name not in self.tasks:
                raise DesignError(f"{card.name}: task {name} is not quantised")
            columns = card.shape(card.tasks[name].inputs[0])[-1]
            if card.tasks[name].op == "layernorm" and columns > 2**14:
                raise DesignError(
                    f"{card.name}: task {name} has rows of {columns}, more than 16384 cannot be normalised"
                )
            product = card.product(name)
            if product is not None and product.k > 2**15:
                raise DesignError(
                    f"{card.name}: task {name} sums {product.k} products, more than 32768 of them do not fit"
                )
        for name in (*card.inputs, *card.weights, *card.tasks):
            if name not in self.scales:
                raise DesignError(f"{card.name}: {name} has no scale")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantKernel):
            return NotImplemented
        mine, theirs = self.tensors, other.tensors
        return (
            (self.card, self.scales, self.tasks) == (other.card, other.scales, other.tasks)
            and mine.keys() == theirs.keys()
            and all(np.array_equal(mine[name], theirs[name]) for name in mine)
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def bits(self) -> int:
        """Of an element."""
        return BITS[self.card.dtype]

    def integers(self, tensor: str, values: NDArray[Any]) -> NDArray[np.int64]:
        """Real numbers in a tensor's scale, rounded to nearest and saturated."""
        top = 2 ** (self.bits - 1) - 1
        return np.clip(np.rint(values / self.scales[tensor]), -top, top).astype(np.int64)


def save_kernel(kernel: QuantKernel, path: Path) -> None:
    """Write a kernel to one ``.npz`` file; the same kernel gives the same bytes."""
    head = {
        "card": kernel.card.model_dump(mode="json"),
        "scales": kernel.scales,
        "tasks": {name: asdict(task) for name, task in kernel.tasks.items()},
    }
    text = np.frombuffer(json.dumps(head, sort_keys=True).encode(), np.uint8)
    tensors = {f"tensor/{name}": kernel.tensors[name] for name in sorted(kernel.tensors)}
    with path.open("wb") as file:
        np.savez(file, **{"kernel": text, **tensors})


def load_kernel(path: Path) -> QuantKernel:
    """Read what :func:`save_kernel` wrote.

    Raises
    ------
    DesignError
        If the file is missing or is none.
    """
    try:
        with np.load(path) as archive:
            head = json.loads(archive["kernel"].tobytes())
            tensors = {
                name.removeprefix("tensor/"): archive[name]
                for name in archive.files
                if name != "kernel"
            }
    except (OSError, KeyError, ValueError) as error:
        raise DesignError(f"{path} is not a quantised kernel: {error}") from error
    tasks = {
        name: QuantTask(
            tuple(task["multipliers"]),
            task["shift"],
            tuple(Function(**f) for f in task["functions"]),
            task["epsilon"],
        )
        for name, task in head["tasks"].items()
    }
    return QuantKernel(GraphCard.model_validate(head["card"]), head["scales"], tensors, tasks)


def _check_scaling(what: str, multipliers: tuple[int, ...], shift: int) -> None:
    if not multipliers or not all(0 <= m < 2**16 for m in multipliers) or not 1 <= shift <= 63:
        raise DesignError(
            f"{what}: multipliers of 16 bits and a shift of 1 to 63, not {multipliers} and {shift}"
        )
