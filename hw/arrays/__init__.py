# SPDX-License-Identifier: Apache-2.0
"""Arrays of multipliers behind one contract, and how to ask for one by name."""

import re
from dataclasses import dataclass
from typing import Any

from hw.arrays.chain import ChainArray
from hw.arrays.column import ColumnArray
from hw.arrays.cube import CubeArray
from hw.arrays.engine import (
    PE_ENCODINGS,
    Engine,
    Resources,
    accumulator_bits,
    check_encoding,
    nearest,
)
from hw.arrays.own_pe import DotPe
from hw.arrays.systolic_os import MatrixArray, SystolicOsArray
from hw.arrays.systolic_ws import SystolicWsArray
from hw.arrays.tree import TreeArray

__all__ = [
    "ENGINES",
    "PE_ENCODINGS",
    "DotPe",
    "Engine",
    "EngineSpec",
    "Resources",
    "accumulator_bits",
    "make_engine",
    "parse_engine",
]

ENGINES: dict[str, type[Engine]] = {
    cls.array: cls
    for cls in (
        TreeArray, CubeArray, SystolicOsArray, SystolicWsArray, MatrixArray, ColumnArray, ChainArray,
    )
}  # fmt: skip


@dataclass(frozen=True)
class EngineSpec:
    """An engine as a user asks for it; sizes may be left to whoever knows the target.

    Attributes
    ----------
    array, pe, sparsity : a legal combination of names
    tokens, reduce, outputs : sizes, all given or all None
    encoding : of the processing element; None: its default
    """

    array: str
    pe: str = "mac"
    sparsity: str = "dense"
    tokens: int | None = None
    reduce: int | None = None
    outputs: int | None = None
    encoding: str | None = None

    def __str__(self) -> str:
        sparsity = [] if self.sparsity == "dense" else [self.sparsity]
        shape = [] if self.tokens is None else [f"{self.tokens}x{self.reduce}x{self.outputs}"]
        pe = self.pe if self.encoding is None else f"{self.pe}.{self.encoding}"
        return ":".join([self.array, pe, *sparsity, *shape])


def _legal(array: str, pe: str, sparsity: str, encoding: str | None = None) -> type[Engine]:
    """The class of a combination; ValueError with the nearest legal one."""
    if array not in ENGINES:
        names = tuple(ENGINES)
        raise ValueError(
            f"array {array!r} is not known (known: {', '.join(names)}); "
            f"use {nearest(array, names)}:mac"
        )
    cls = ENGINES[array]
    if pe not in cls.known_pes():
        raise ValueError(
            f"array {array!r} has no PE {pe!r} (it has {', '.join(cls.known_pes())}); "
            f"use {array}:{nearest(pe, cls.known_pes())}"
        )
    cls.check_sparsity(pe, sparsity)
    check_encoding(pe, encoding)
    return cls


def make_engine(
    array: str,
    pe: str = "mac",
    sparsity: str = "dense",
    *,
    tokens: int,
    reduce: int,
    outputs: int,
    **options: Any,
) -> Engine:
    """An engine by name; ``options`` are the other parameters of its class.

    Raises
    ------
    ValueError
        For an illegal combination or size: the reason, and the nearest legal choice.
    """
    cls = _legal(array, pe, sparsity)
    if sparsity != "dense":
        options["sparsity"] = sparsity
    return cls(tokens=tokens, reduce=reduce, outputs=outputs, pe=pe, **options)


def parse_engine(text: str) -> EngineSpec:
    """Read ``array[:pe[.encoding][:sparsity]][:TxRxO]`` (PE ``mac`` unless said).

    For example ``cube:opt1.csd:2x64x64`` or ``chain:dsp_packed:2:4:1x64x64``.

    Raises
    ------
    ValueError
        For unknown names, illegal combinations, and shapes that are not three positive numbers.
    """
    names = text.strip().split(":")
    if len(names) > 3 and names[2].isdigit() and names[3].isdigit():  # N:M
        names[2:4] = [f"{names[2]}:{names[3]}"]
    shape: list[int | None] = [None, None, None]
    if len(names) > 1 and re.fullmatch(r"\d+(x\d+)*", names[-1]):
        sizes = [int(n) for n in names.pop().split("x")]
        if len(sizes) != 3 or min(sizes) < 1:
            raise ValueError(
                f"engine {text!r}: a shape is three positive numbers TxRxO, e.g. 2x64x64"
            )
        shape = [*sizes]
    if not 1 <= len(names) <= 3:
        raise ValueError(
            f"engine {text!r} is not array[:pe[:sparsity]][:TxRxO], e.g. tree:mac:2x64x64"
        )
    encoding = None
    if len(names) > 1 and "." in names[1]:
        names[1], encoding = names[1].split(".", 1)
    spec = EngineSpec(*names, tokens=shape[0], reduce=shape[1], outputs=shape[2], encoding=encoding)
    _legal(spec.array, spec.pe, spec.sparsity, encoding)
    return spec
