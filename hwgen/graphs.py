# SPDX-License-Identifier: Apache-2.0
"""Kernels that a command names: a card by its name or file, an ONNX model, or a layer of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import ValidationError

from designs import catalogue
from designs.errors import DesignError
from designs.graph import GraphCard, load_graph
from designs.graph_machine import MachineOptions

__all__ = ["open_graph", "sizes"]


def sizes(pairs: Iterable[str]) -> dict[str, int]:
    """``name=size`` of symbolic dimensions.

    Raises
    ------
    DesignError
        If one has another form.
    """
    found = {}
    for pair in pairs:
        name, _, size = pair.partition("=")
        if not name or not size.isdecimal() or not 1 <= int(size) <= 1 << 20:
            raise DesignError(f"--dim must be NAME=SIZE, 1 to {1 << 20:,}, not {pair}")
        found[name] = int(size)
    return found


def open_graph(
    name: str,
    options: MachineOptions,
    *,
    dtype: Literal["i8", "i16"] | None = None,
    dims: Iterable[str] = (),
) -> tuple[GraphCard, dict[str, NDArray[Any]] | None]:
    """A kernel with the machine that the options say, and its float weights if it brings them.

    Raises
    ------
    DesignError
        If there is no such kernel, or something of it is wrong.
    """
    if name.endswith(".onnx"):
        from designs.onnx_graph import load_onnx  # onnx is slow to import

        made = load_onnx(Path(name), options.machine, dtype=dtype or "i16", dims=sizes(dims))
        return made.card, made.parameters
    layer = re.fullmatch(r"(.+)@(\d{1,7})(?::(\d{1,5}))?", name)
    if layer is not None:
        return _layer(layer[1], int(layer[2]), int(layer[3] or 0), options, dtype, dims)
    card = load_graph(name)
    if options.target is not None or list(dims):
        raise DesignError(
            f"--target and --dim are of ONNX models; the card {card.name} says its machine"
        )
    changes: dict[str, object] = {"machine": options.change(card.machine)}
    if dtype is not None:
        changes["dtype"] = dtype
    try:
        return GraphCard.model_validate(card.model_dump() | changes), None
    except ValidationError as error:
        raise DesignError(f"{card.name}: {catalogue.explain(error, GraphCard)}") from error


def _layer(
    name: str,
    tokens: int,
    layer: int,
    options: MachineOptions,
    dtype: str | None,
    dims: Iterable[str],
) -> tuple[GraphCard, dict[str, NDArray[Any]] | None]:
    """A layer of a GPT-2 over some tokens, with its weights if the model comes with any."""
    from designs.checkpoint import Checkpoint, find_model
    from designs.transformer_layer import layer_kernel, layer_parameters

    model, folder = find_model(name)
    if not layer < model.layers:
        raise DesignError(
            f"{model.name} has {model.layers} layers, 0 to {model.layers - 1}, not {layer}"
        )
    if list(dims) or dtype == "i8":
        raise DesignError(f"{name}@{tokens}: a layer is of i16, and --dim is of ONNX models")
    card = layer_kernel(model, tokens, options.machine(tokens))
    if folder is None:
        return card, None
    weights = Checkpoint.open(folder).weights(model)
    return card, dict(layer_parameters(model, weights, layer))
