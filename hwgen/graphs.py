"""Kernels that a command names: a card by its name or file, or an ONNX model."""

from __future__ import annotations

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
