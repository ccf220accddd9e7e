# SPDX-License-Identifier: Apache-2.0
"""Small random kernels that RTL can play: matrices and images, on machines of random shapes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from designs.errors import DesignError
from designs.graph import GraphCard
from designs.quantised_kernel import QuantKernel
from generators.kernel import KernelPlan, schedule
from generators.kernel_lower import lower
from hwgen.kernels import quantised
from schedules.optimal.solve import Effort

__all__ = ["random_kernel"]

FUNCTIONS = ("relu", "sigmoid", "silu", "exp")


def random_kernel(seed: int, *, several: bool = False) -> tuple[QuantKernel, KernelPlan]:
    """The first kernel that RTL can play of those that a seed gives; on ``several`` cores, or on one."""
    draw = random.Random(seed)
    while True:
        data = _images(draw) if draw.random() < 0.5 else _matrices(draw)
        machine = {
            "tokens": draw.choice((1, 2, 3, 4)), "reduce": draw.choice((1, 2, 3, 4, 6, 8, 9)),
            "outputs": draw.choice((1, 2, 3, 4, 5, 6, 8, 12)), "grow": "outputs", "cores": 1,
            "spad_bytes": 1 << 20, "bytes_per_cycle": draw.choice((16, 32, 64)),
        }  # fmt: skip
        policy = "sequential"
        if several:
            policy, grow = (
                draw.choice(("equal-cores", "dataflow")),
                draw.choice(("tokens", "outputs")),
            )
            count = draw.choice((2, 3))
            machine |= {"grow": grow, "cores": count, grow: machine[grow] * count}
        dtype = draw.choice(("i16", "i16", "i8"))
        try:
            card = GraphCard.model_validate(
                data | {"name": f"random{seed}", "machine": machine, "dtype": dtype}
            )
            if len(card.tasks) < 2 or card.macs > 60_000:
                continue
            with np.errstate(over="raise"):  # exponentials of exponentials
                kernel = quantised(card, seed)
            plan = schedule(card, policy, Effort(2))
            if several != (len(lower(kernel, plan).cores) > 1):
                continue
        except (DesignError, ValueError, FloatingPointError):
            continue
        return kernel, plan


def _finished(data: dict[str, Any]) -> dict[str, Any]:
    """With the results that nobody reads as outputs."""
    read = {tensor for task in data["tasks"].values() for tensor in task["inputs"]}
    return data | {"outputs": [name for name in data["tasks"] if name not in read]}


def _then(draw: random.Random) -> list[str]:
    return [draw.choice(FUNCTIONS)] if draw.random() < 0.5 else []


def _matrices(draw: random.Random) -> dict[str, Any]:
    shapes = {"x": (draw.randint(1, 9), draw.randint(1, 24))}
    inputs, weights, tasks = dict(shapes), {}, {}
    for k in range(draw.randint(2, 6)):
        name, first = f"t{k}", draw.choice(list(shapes))
        m, n = shapes[first]
        alike = [t for t, s in shapes.items() if s == (m, n)]
        seconds = [t for t, s in shapes.items() if s[0] == n and t in tasks]
        transposed = [t for t, s in shapes.items() if s[1] == n and t in tasks]
        kind = draw.choice(("matmul", "matmul", "softmax", "pair", "map", "product", "transposed"))
        if kind == "matmul":
            weights[f"w{k}"] = (n, draw.randint(1, 24))
            tasks[name] = {"op": "matmul", "inputs": [first, f"w{k}"], "then": _then(draw)}
            shapes[name] = (m, weights[f"w{k}"][1])
        elif kind == "softmax":
            tasks[name] = {"op": "softmax", "inputs": [first], "scale": 2.0}
            shapes[name] = (m, n)
        elif kind == "pair":
            second = draw.choice(alike)
            tasks[name] = {
                "op": draw.choice(("mul", "add")),
                "inputs": [first, second],
                "then": _then(draw),
            }
            shapes[name] = (m, n)
        elif kind == "map":
            tasks[name] = {"op": "map", "inputs": [first], "then": [draw.choice(FUNCTIONS)]}
            shapes[name] = (m, n)
        elif kind == "product" and seconds:
            second = draw.choice(seconds)
            tasks[name] = {"op": "matmul", "inputs": [first, second], "then": _then(draw)}
            shapes[name] = (m, shapes[second][1])
        elif kind == "transposed" and transposed:
            second = draw.choice(transposed)
            tasks[name] = {"op": "matmul_t", "inputs": [first, second], "scale": 0.5}
            shapes[name] = (m, shapes[second][0])
    return _finished({"inputs": inputs, "weights": weights, "tasks": tasks})


def _images(draw: random.Random) -> dict[str, Any]:
    shapes = {"x": (draw.randint(1, 3), draw.randint(3, 10), draw.randint(3, 20))}
    inputs, tasks = dict(shapes), {}
    for k in range(draw.randint(2, 5)):
        name, first = f"t{k}", draw.choice(list(shapes)[-2:])
        c, h, w = shapes[first]
        alike = [t for t, s in shapes.items() if s == (c, h, w)]
        kind = draw.choice(("conv", "conv", "conv", "deconv", "pair", "map"))
        then = _then(draw)
        if kind in ("conv", "deconv"):
            o, kh, kw = draw.randint(1, 4), draw.randint(1, 4), draw.randint(1, 4)
            task: dict[str, Any] = {"op": kind, "inputs": [first], "kernel": [o, kh, kw]}
            h, w = (h - kh + 1, w - kw + 1) if kind == "conv" else (h + kh - 1, w + kw - 1)
            if kind == "conv" and draw.random() < 0.5:
                task["padding"] = "same"
                _, h, w = shapes[first]
            step = draw.choice(("", "", "maxpool2", "upsample2"))
            if step:
                then.append(step)
                h, w = (h // 2, w // 2) if step == "maxpool2" else (h * 2, w * 2)
            if min(h, w) < 1:
                continue
            tasks[name], shapes[name] = task | {"then": then}, (o, h, w)
        elif kind == "pair":
            op = draw.choice(("mul", "add"))
            tasks[name] = {"op": op, "inputs": [first, draw.choice(alike)], "then": then}
            shapes[name] = (c, h, w)
        else:
            tasks[name] = {"op": "map", "inputs": [first], "then": [draw.choice(FUNCTIONS)]}
            shapes[name] = (c, h, w)
    return _finished({"inputs": inputs, "tasks": tasks})
