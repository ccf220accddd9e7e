# SPDX-License-Identifier: Apache-2.0
"""Adder trees with registers: which operands every register adds."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Stage", "radix_4", "tree"]


@dataclass(frozen=True)
class Stage:
    """One row of registers of an adder tree.

    Attributes
    ----------
    name, source : of this row, and of the row it adds up.
    bits : width of one register, wide enough for its sum.
    groups : for every register, the indices of its operands in ``source``.
    """

    name: str
    source: str
    bits: int
    groups: list[list[int]]


def tree(name: str, count: int, bits: int, radices: Sequence[int]) -> list[Stage]:
    """Stages ``name_1`` ... that add ``count`` operands ``name_0`` of ``bits`` bits."""
    stages = []
    for k, radix in enumerate(radices):
        groups = [list(range(g, min(g + radix, count))) for g in range(0, count, radix)]
        bits += (len(groups[0]) - 1).bit_length()
        count = len(groups)
        stages.append(Stage(f"{name}_{k + 1}", f"{name}_{k}", bits, groups))
    return stages


def radix_4(count: int) -> int:
    """Stages of radix 4 that leave one sum of ``count`` operands."""
    return ((count - 1).bit_length() + 1) // 2
