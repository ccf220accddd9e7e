# SPDX-License-Identifier: Apache-2.0
"""A task-graph kernel in integers, task by task: what RTL and HLS must equal bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.quantised_kernel import Function, QuantKernel
from sim.golden import kernel_ops as ops
from sim.golden.float_kernel import convolve, transposed
from sim.golden.ops import Ints, requantise

__all__ = ["forward", "run_task"]


def forward(kernel: QuantKernel, inputs: Mapping[str, NDArray[np.integer]]) -> dict[str, Ints]:
    """All tensors by name, inputs included, int64 in the range of the card's dtype."""
    values = {name: np.asarray(inputs[name], np.int64) for name in kernel.card.inputs}
    for name in kernel.card.order:
        values[name] = run_task(kernel, name, values)
    return values


def run_task(kernel: QuantKernel, name: str, values: Mapping[str, Ints]) -> Ints:
    """The result of one task from the tensors that it reads.

    The sum of products (exact), the product or the weighted sum is requantised once: to int16 if a function follows,
    else to an element. ``relu``, ``maxpool2`` and ``upsample2`` keep the scale.
    """
    task, quant = kernel.card.tasks[name], kernel.tasks[name]
    parts: list[NDArray[Any]] = [
        values[t] if t in values else kernel.tensors[t] for t in task.inputs
    ]
    multiplier, shift = quant.multipliers[0], quant.shift
    functions, widths = list(quant.functions), [16] * len(quant.functions) + [kernel.bits]
    if task.op == "softmax":
        last = functions.pop(0)
        widths.pop(0)
        value = ops.softmax(
            parts[0],
            multiplier,
            shift,
            last.multiplier,
            last.shift,
            widths.pop(0),
            causal=task.causal,
        )
    elif task.op == "layernorm":
        value = ops.layernorm(parts[0], quant.epsilon, multiplier, shift, widths.pop(0))
    elif task.op == "add":
        value = ops.weighted_sum(
            parts[0], parts[1], (multiplier, quant.multipliers[1]), shift, widths.pop(0)
        )
    else:
        bias: Ints | int = 0
        if task.bias:
            bias = kernel.tensors[f"{name}.bias"]
            bias = bias[:, None, None] if task.kernel is not None else bias
        value = requantise(_sums(kernel, name, parts), bias, multiplier, shift, widths.pop(0))
    for step in task.then:
        if step == "relu":
            value = ops.relu(value)
        elif step == "maxpool2":
            value = ops.maxpool2(value)
        elif step == "upsample2":
            value = ops.upsample2(value)
        else:
            value = _function(functions.pop(0), value, widths.pop(0))
    return value.astype(np.int64)


def _sums(kernel: QuantKernel, name: str, parts: list[NDArray[Any]]) -> Ints:
    task = kernel.card.tasks[name]
    match task.op:
        case "matmul":
            x = parts[0].reshape(1, -1) if parts[0].ndim == 3 else parts[0]
            return ops.matmul(x, parts[1])
        case "matmul_t":
            return ops.matmul(parts[0], parts[1].T)
        case "conv":
            return convolve(parts[0], kernel.tensors[name], task.borders, task.stride).astype(
                np.int64
            )
        case "deconv":
            return transposed(parts[0], kernel.tensors[name], task.borders, task.stride).astype(
                np.int64
            )
        case "map":
            return parts[0].astype(np.int64)
        case _:
            return parts[0].astype(np.int64) * parts[1]


def _function(function: Function, value: Ints, bits: int) -> Ints:
    made = {"silu": ops.silu, "gelu": ops.gelu, "sigmoid": ops.sigmoid, "exp": ops.exp}[
        function.name
    ]
    return made(value, function.fraction, function.multiplier, function.shift, bits)
