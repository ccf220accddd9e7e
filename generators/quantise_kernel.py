# SPDX-License-Identifier: Apache-2.0
"""Task-graph kernels: float weights and observed ranges to integers, and seeded random kernels and inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.graph import GraphCard
from designs.quantised_kernel import BITS, FUNCTIONS, Function, QuantKernel, QuantTask
from generators.quantise import scaling

__all__ = ["check_parameters", "quantise_kernel", "random_inputs", "random_parameters"]

Floats = Mapping[str, NDArray[Any]]


def random_inputs(card: GraphCard, seed: int) -> dict[str, NDArray[np.float64]]:
    """Inputs of a standard normal distribution, always the same for a seed."""
    draw = np.random.default_rng([seed, 1])
    return {name: draw.standard_normal(shape) for name, shape in card.inputs.items()}


def random_parameters(card: GraphCard, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights of variance ``1 / k`` and biases of 0.1, always the same for a seed."""
    draw = np.random.default_rng([seed, 0])
    made: dict[str, NDArray[np.float32]] = {}
    for name, shape in card.parameters().items():
        k = math.prod(shape[1:]) if len(shape) == 4 else max(shape[:1])
        spread = 0.1 if name.endswith(".bias") else 1 / math.sqrt(k)
        made[name] = draw.standard_normal(shape, np.float32) * np.float32(spread)
    return made


def quantise_kernel(card: GraphCard, parameters: Floats, peaks: Mapping[str, float]) -> QuantKernel:
    """Integers of a kernel, all scales static and symmetric.

    Parameters
    ----------
    parameters : by the names of ``card.parameters()``.
    peaks : the largest magnitude of every input, task, and argument of a function, from calibration
        (``sim.golden.float_kernel.peaks``).

    Raises
    ------
    DesignError
        If a weight is missing or of another shape, or a scale is out of proportion.
    """
    check_parameters(card, parameters)
    return _Quantiser(card, parameters, peaks).kernel()


def check_parameters(card: GraphCard, parameters: Floats) -> None:
    """Whether weights and biases are there and have the card's shapes.

    Raises
    ------
    DesignError
        If not: which one.
    """
    for name, shape in card.parameters().items():
        have = parameters.get(name)
        if have is None or have.shape != shape:
            what = "is missing" if have is None else f"is {list(have.shape)}"
            raise DesignError(f"{card.name}: {name} must be {list(shape)}, but {what}")


class _Quantiser:
    def __init__(self, card: GraphCard, parameters: Floats, peaks: Mapping[str, float]) -> None:
        self.card, self.parameters, self.peaks = card, parameters, peaks
        self.bits = BITS[card.dtype]
        self.top = 2 ** (self.bits - 1) - 1
        self.scales: dict[str, float] = {}
        self.tensors: dict[str, NDArray[Any]] = {}

    def kernel(self) -> QuantKernel:
        card = self.card
        for name in card.parameters():
            have = self.parameters[name]
            if not name.endswith(".bias"):
                scale = self.scales[name] = (float(np.abs(have).max()) or 1.0) / self.top
                self.tensors[name] = np.rint(have / scale).astype(f"i{self.bits // 8}")
        kernels = {name: self.scales.pop(name) for name in card.tasks if name in self.scales}
        for name in card.inputs:
            self.scales[name] = self.scale(name)
        tasks = {name: self.task(name, kernels.get(name)) for name in card.order}
        return QuantKernel(card, self.scales, self.tensors, tasks)

    def scale(self, name: str) -> float:
        return (self.peaks[name] or 1.0) / self.top

    def task(self, name: str, kernel_scale: float | None) -> QuantTask:
        task = self.card.tasks[name]
        scales = [self.scales[t] for t in task.inputs]
        names = [step for step in task.then if step in FUNCTIONS]
        if task.op == "softmax":
            if names:
                raise DesignError(
                    f"{self.card.name}: {names[0]} cannot follow the softmax of {name}"
                )
            result = self.scales[name] = self.scale(name)
            made = scaling(scales[0] * task.scale * math.log2(math.e) * 2**12, name)
            back = scaling(2.0**-16 / result, name)
            last = Function("softmax", 12, back.multiplier, back.shift)
            return QuantTask((made.multiplier,), made.shift, (last,))
        self.scales[name] = self.scale(name)
        functions = self.functions(name, names)
        target = self.argument(names[0], functions[0].fraction) if names else self.scales[name]
        if task.op == "layernorm":
            columns = self.card.shape(task.inputs[0])[-1]
            epsilon = min(max(1, round(task.epsilon * (columns / scales[0]) ** 2)), 2**60 - 1)
            made = scaling(2.0**-12 / target, name)
            return QuantTask((made.multiplier,), made.shift, functions, epsilon)
        if task.op == "add":
            factors = [s * task.scale / target for s in scales]
            larger = scaling(max(factors), name)
            both = tuple(min(2**16 - 1, round(f * 2.0**larger.shift)) for f in factors)
            return QuantTask(both, larger.shift, functions)
        factors = scales if kernel_scale is None else [*scales, kernel_scale]
        product = math.prod(factors)  # of `map` there is only one
        if task.bias:
            bias = np.rint(self.parameters[f"{name}.bias"].astype(np.float64) / product)
            if np.abs(bias).max() > 2**45:
                raise DesignError(
                    f"{self.card.name}: the bias of {name} does not fit the sum of its products"
                )
            self.tensors[f"{name}.bias"] = bias.astype(np.int64)
        made = scaling(product * task.scale / target, name)
        return QuantTask((made.multiplier,), made.shift, functions)

    def fraction(self, name: str, peak: float) -> int:
        """As many fraction bits as the range of a function's argument allows."""
        reach = peak * (math.log2(math.e) if name == "exp" else 1.0)
        reach = min(reach, 16.0) if name == "sigmoid" else reach  # beyond it saturates, as it may
        found = next((f for f in (12, 11, 10, 9, 8) if reach * 2**f <= 32767), None)
        if found is None:
            raise DesignError(
                f"{self.card.name}: the argument of {name} reaches {peak:.3g}, more than it takes"
            )
        return found

    @staticmethod
    def argument(name: str, fraction: int) -> float:
        """The scale of a function's argument."""
        return 2.0**-fraction * (math.log(2) if name == "exp" else 1.0)

    def functions(self, task: str, names: list[str]) -> tuple[Function, ...]:
        fractions = [self.fraction(n, self.peaks[f"{task}:{i}"]) for i, n in enumerate(names)]
        made = []
        for i, (name, fraction) in enumerate(zip(names, fractions, strict=True)):
            more = i + 1 < len(names)
            target = self.argument(names[i + 1], fractions[i + 1]) if more else self.scales[task]
            unit = 2.0**-15 * (2.0**-fraction if name in ("silu", "gelu") else 1.0)
            part = scaling(unit / target, f"{task} {name}")
            made.append(Function(name, fraction, part.multiplier, part.shift))
        return tuple(made)
