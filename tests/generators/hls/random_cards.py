# SPDX-License-Identifier: Apache-2.0
"""Random kernels in which every operation, place and way of walking may occur."""

from __future__ import annotations

import random
from typing import Any

from pydantic import ValidationError

from designs.graph import GraphCard

__all__ = ["random_card"]


def random_card(seed: int) -> GraphCard:
    """A kernel of three to six tasks on images and matrices, always the same for a seed."""
    draw = random.Random(seed)
    while True:
        try:
            return GraphCard.model_validate(_fields(draw, seed))
        except ValidationError:  # shapes that do not chain: the next one
            continue


def _fields(draw: random.Random, seed: int) -> dict[str, Any]:
    image = draw.random() < 0.6
    first = (
        [draw.randint(1, 3), draw.randint(6, 12), draw.randint(6, 12)]
        if image
        else [draw.randint(1, 9), draw.randint(3, 12)]
    )
    inputs, weights, tasks = {"x": first}, {}, {}
    shapes = {"x": first}
    grow, granules = draw.choice(["tokens", "outputs"]), draw.randint(2, 4)
    machine = {
        "tokens": draw.randint(1, 3), "reduce": draw.randint(1, 5), "outputs": draw.randint(1, 3),
        "grow": grow, grow: granules, "cores": granules, "sfu_lanes": draw.choice([1, 3, 4]),
        "spad_bytes": draw.choice([1024, 2048, 16384]), "bank_bytes": 64, "bytes_per_cycle": draw.choice([4, 16, 64]),
    }  # fmt: skip
    for number in range(draw.randint(3, 6)):
        name = f"t{number}"
        task = _task(draw, name, shapes, weights, inputs)
        if task is None:
            continue
        tasks[name] = task
        partial = {
            "name": "partial", "inputs": inputs, "weights": weights, "tasks": tasks, "outputs": [name],
            "machine": machine,
        }  # fmt: skip
        shapes[name] = list(GraphCard.model_validate(partial).shape(name))
    used = {n for t in tasks.values() for n in t["inputs"]}
    return {
        "name": f"random{seed}", "inputs": {n: s for n, s in inputs.items() if n in used}, "machine": machine,
        "weights": {n: s for n, s in weights.items() if n in used}, "tasks": tasks,
        "dtype": draw.choice(["i16", "i8"]),
        "outputs": [n for n in tasks if n not in used or draw.random() < 0.15],
    }  # fmt: skip


def _task(
    draw: random.Random, name: str, shapes: dict[str, list[int]], weights: dict[str, list[int]], inputs: dict[str, Any]
) -> dict[str, Any] | None:  # fmt: skip
    latest = list(shapes)[-2:]
    source = draw.choice(latest)
    shape = shapes[source]
    task: dict[str, Any] = {"inputs": [source], "then": _steps(draw, len(shape) == 3)}
    kinds = (
        ["conv", "deconv", "map", "mul", "add"]
        if len(shape) == 3
        else ["matmul", "matmul", "matmul_t", "softmax", "layernorm", "mul", "add"]
    )
    kind = task["op"] = draw.choice(kinds)
    if len(shape) == 3 and draw.random() < 0.25:
        kind = task["op"] = "matmul"
    if kind in ("conv", "deconv"):
        task |= {
            "kernel": [draw.randint(1, 4), draw.randint(1, 4), draw.randint(1, 4)],
            "bias": draw.random() < 0.5,
        }
        task |= {"stride": draw.choice([1, 1, 2, 3])}
        task["padding"] = [draw.randint(0, 2) for _ in range(4)] if draw.random() < 0.5 else "valid"
    elif kind in ("matmul", "matmul_t"):
        k = shape[1] if len(shape) == 2 else shape[0] * shape[1] * shape[2]
        others = [
            n for n, s in shapes.items() if len(s) == 2 and s[0 if kind == "matmul" else 1] == k
        ]
        if len(shape) == 2 and others and draw.random() < 0.6:
            task["inputs"] = [source, draw.choice(others)]
        else:
            n = draw.randint(1, 11)
            weights[f"w{name}"] = [k, n] if kind == "matmul" else [n, k]
            task["inputs"] = [source, f"w{name}"]
        task |= {"bias": draw.random() < 0.5}
        task["then"] = [s for s in task["then"] if s not in ("maxpool2", "upsample2")]
    elif kind in ("mul", "add"):
        others = [n for n, s in shapes.items() if s == shape]
        if draw.random() < 0.3:
            given = f"c{name}"
            (weights if draw.random() < 0.5 else inputs)[given] = shape
            others = [given]
        task["inputs"] = [source, draw.choice(others)]
    elif kind == "map" and not task["then"]:
        return None
    if kind == "softmax":
        task["then"] = [s for s in task["then"] if s == "relu"]
        task["causal"] = len(shape) == 2 and shape[0] <= shape[1] and draw.random() < 0.5
    if len(shape) == 2:
        task["then"] = [s for s in task["then"] if s not in ("maxpool2", "upsample2")]
    return task


def _steps(draw: random.Random, image: bool) -> list[str]:
    names = ["relu", "relu", "sigmoid", draw.choice(["silu", "gelu", "gelu", "exp"])] + (
        ["maxpool2", "upsample2"] * 2 if image else []
    )
    return [*dict.fromkeys(draw.sample(names, draw.choice([0, 1, 1, 2, 3])))]
