# SPDX-License-Identifier: Apache-2.0
"""A layer of a GPT-2 as a kernel: tasks for each head, and float weights for its parameters.

Scales and shifts of the norms go into the products after them, and the heads' shares of the output projection are
summed one by one, so that nothing has to be cut or joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.graph import GraphCard, MachineCard

__all__ = ["layer_kernel", "layer_parameters"]


def layer_kernel(model: ModelCard, tokens: int, machine: MachineCard) -> GraphCard:
    """One layer over ``tokens`` tokens that attend to each other and to those before them.

    Raises
    ------
    DesignError
        If the model is not of GPT-2's kind, or has a shorter context.
    """
    if (model.norm, model.gated, model.position, model.activation) != (
        "layernorm",
        False,
        "learned",
        "gelu_new",
    ):
        raise DesignError(f"{model.name}: only layers like those of GPT-2 can be a kernel")
    if not 1 <= tokens <= model.context:
        raise DesignError(f"{model.name}: tokens must be 1 to {model.context}, not {tokens}")
    width, size = model.width, model.head_size
    weights: dict[str, tuple[int, int]] = {"w_fc1": (width, model.ffn), "w_fc2": (model.ffn, width)}
    tasks: dict[str, dict[str, Any]] = {}

    def product(
        name: str, source: str, shape: tuple[int, int], *, bias: bool = True, **more: Any
    ) -> None:
        weights[f"w_{name}"] = shape
        tasks[name] = {"op": "matmul", "inputs": (source, f"w_{name}"), "bias": bias} | more

    norm = {"op": "layernorm", "epsilon": model.norm_eps}
    tasks["ln1"] = norm | {"inputs": ("x",)}
    stream = "x"
    for h in range(model.heads):
        for part in ("q", "k", "v"):
            product(f"{part}{h}", "ln1", (width, size))
        tasks[f"scores{h}"] = {"op": "matmul_t", "inputs": (f"q{h}", f"k{h}")}
        tasks[f"p{h}"] = {
            "op": "softmax", "inputs": (f"scores{h}",), "scale": size**-0.5, "causal": True
        }  # fmt: skip
        tasks[f"context{h}"] = {"op": "matmul", "inputs": (f"p{h}", f"v{h}")}
        product(f"proj{h}", f"context{h}", (size, width), bias=h == 0)
        tasks[f"sum{h}"] = {"op": "add", "inputs": (stream, f"proj{h}")}
        stream = f"sum{h}"
    tasks["ln2"] = norm | {"inputs": (stream,)}
    product("fc1", "ln2", (width, model.ffn), then=("gelu",))
    product("fc2", "fc1", (model.ffn, width))
    tasks["y"] = {"op": "add", "inputs": (stream, "fc2")}
    return GraphCard.model_validate(
        {
            "name": f"{model.name}-layer-{tokens}", "description": f"a layer of {model.name}, {tokens} tokens",
            "inputs": {"x": (tokens, width)}, "weights": weights, "tasks": tasks, "outputs": ("y",),
            "machine": machine,
        }
    )  # fmt: skip


def layer_parameters(
    model: ModelCard, weights: Mapping[str, NDArray[Any]], layer: int
) -> dict[str, NDArray[np.float32]]:
    """Float weights by the names of ``layer_kernel(...).parameters()``.

    Parameters
    ----------
    weights : of the whole model, as :meth:`designs.checkpoint.Checkpoint.weights` returns them.
    """
    h, size = f"h{layer}", model.head_size
    made: dict[str, NDArray[Any]] = {}

    def of(name: str) -> NDArray[np.float64]:
        return np.asarray(weights[f"{h}.{name}"], np.float64)

    def after_norm(norm: str, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        weight = of(f"{name}.weight")
        return of(f"{norm}.weight")[:, None] * weight, of(f"{norm}.bias") @ weight + of(
            f"{name}.bias"
        )

    for part in ("q", "k", "v"):
        weight, bias = after_norm("ln_1", part)
        for head in range(model.heads):
            own = slice(head * size, (head + 1) * size)
            made[f"w_{part}{head}"], made[f"{part}{head}.bias"] = weight[:, own], bias[own]
    for head in range(model.heads):
        made[f"w_proj{head}"] = of("proj.weight")[head * size : (head + 1) * size]
    made["proj0.bias"] = of("proj.bias")
    made["w_fc1"], made["fc1.bias"] = after_norm("ln_2", "fc1")
    made["w_fc2"], made["fc2.bias"] = of("fc2.weight"), of("fc2.bias")
    return {name: np.ascontiguousarray(value, np.float32) for name, value in made.items()}
