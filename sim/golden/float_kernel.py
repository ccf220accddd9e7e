# SPDX-License-Identifier: Apache-2.0
"""Task-graph kernels in float64: what the integers approximate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.graph import GraphCard, TaskCard
from sim.golden.float_transformer import gelu_new, layernorm, silu, softmax
from sim.golden.kernel_ops import maxpool2, upsample2

__all__ = ["Observe", "Tensors", "convolve", "forward", "peaks", "transposed"]

Tensors = Mapping[str, NDArray[Any]]

Observe = Callable[[str, NDArray[Any]], None]
"""Called with the name of a tensor, and with ``TASK:i`` for the argument of a task's function i."""


Borders = tuple[int, int, int, int]
"""Rows and columns at the top, left, bottom and right."""


def convolve(x: NDArray[Any], w: NDArray[Any], borders: Borders, stride: int = 1) -> NDArray[Any]:
    """``[c, h, w]`` by ``[o, c, kh, kw]``, not mirrored, in float64 (exact for integers below 2**53)."""
    kh, kw = w.shape[2:]
    top, left, bottom, right = borders
    x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    height, width = (x.shape[1] - kh) // stride + 1, (x.shape[2] - kw) // stride + 1
    image, weights = x.astype(np.float64), w.astype(np.float64)
    out = np.zeros((w.shape[0], height * width))
    for i in range(kh):
        for j in range(kw):
            rows = image[:, i : i + (height - 1) * stride + 1 : stride]
            part = rows[:, :, j : j + (width - 1) * stride + 1 : stride]
            out += weights[:, :, i, j] @ part.reshape(x.shape[0], -1)
    return out.reshape(-1, height, width)


def transposed(x: NDArray[Any], w: NDArray[Any], borders: Borders, stride: int = 1) -> NDArray[Any]:
    """The transpose of a convolution: pixel [y, x] of ``[c, h, w]`` adds ``w[o, c, i, j]`` to pixel
    ``[y * stride + i, x * stride + j]``, and ``borders`` are cut off."""
    kh, kw = w.shape[2:]
    c, height, width = x.shape
    apart = np.zeros((c, (height - 1) * stride + 1, (width - 1) * stride + 1), x.dtype)
    apart[:, ::stride, ::stride] = x
    whole = convolve(apart, w[:, :, ::-1, ::-1], (kh - 1, kw - 1, kh - 1, kw - 1))
    top, left, bottom, right = borders
    return whole[:, top : whole.shape[1] - bottom, left : whole.shape[2] - right]


def forward(
    card: GraphCard,
    parameters: Tensors,
    inputs: Tensors,
    observe: Observe = lambda name, value: None,
) -> dict[str, NDArray[Any]]:
    """All tensors of a kernel, by name; inputs included.

    Parameters
    ----------
    parameters : by the names of ``card.parameters()``.
    inputs : by name.
    """
    values: dict[str, NDArray[Any]] = {n: np.asarray(inputs[n], np.float64) for n in card.inputs}
    for name, value in values.items():
        observe(name, value)
    for name in card.order:
        task = card.tasks[name]
        parts = [values[t] if t in values else parameters[t] for t in task.inputs]
        result = _operation(task, parts, parameters.get(name))
        if task.bias:
            bias = parameters[f"{name}.bias"]
            result = result + (bias[:, None, None] if result.ndim == 3 else bias)
        if task.op != "softmax":
            result = result * task.scale
        number = 0
        for step in task.then:
            if step in _FUNCTIONS:
                observe(f"{name}:{number}", result)
                number += 1
            result = _STEPS[step](result)
        values[name] = result
        observe(name, result)
    return values


def _operation(
    task: TaskCard, parts: list[NDArray[Any]], kernel: NDArray[Any] | None
) -> NDArray[Any]:
    a = parts[0]
    match task.op:
        case "matmul":
            a = a.reshape(1, -1) if a.ndim == 3 else a
            return a @ parts[1].astype(a.dtype)
        case "matmul_t":
            return a @ parts[1].T.astype(a.dtype)
        case "conv":
            assert kernel is not None
            return convolve(a, kernel, task.borders, task.stride)
        case "deconv":
            assert kernel is not None
            return transposed(a, kernel, task.borders, task.stride)
        case "softmax":
            rows, columns = a.shape[-2:]
            hidden = ~np.tri(rows, columns, columns - rows, dtype=bool) & task.causal
            return softmax(np.where(hidden, -np.inf, a * task.scale))
        case "layernorm":
            return layernorm(a, np.ones(1), np.zeros(1), task.epsilon)
        case "mul":
            return a * parts[1]
        case "add":
            return a + parts[1]
        case "map":
            return a


_FUNCTIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "silu": silu, "gelu": gelu_new, "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "exp": np.exp,
}  # fmt: skip
_STEPS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    **_FUNCTIONS, "relu": lambda x: np.maximum(x, 0), "maxpool2": maxpool2, "upsample2": upsample2,
}  # fmt: skip


def peaks(card: GraphCard, parameters: Tensors, samples: list[Tensors]) -> dict[str, float]:
    """The largest magnitude of every tensor and argument of a function (:data:`Observe`) over some inputs."""
    found: dict[str, float] = {}

    def see(name: str, value: NDArray[Any]) -> None:
        found[name] = max(found.get(name, 0.0), float(np.abs(value).max()))

    for sample in samples:
        forward(card, parameters, sample, see)
    return found
