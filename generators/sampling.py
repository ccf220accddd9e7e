# SPDX-License-Identifier: Apache-2.0
"""What a large array of multipliers takes, from small ones of the same make.

yosys needs half a second for each multiplier of a flat array, so an array of thousands is not mapped
whole. Its cells are alike: what it takes is ``a + b*T + c*O + d*T*O`` for T token rows and O outputs.
Two sizes of each tell the four numbers, but for the little that logic optimisation scatters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hw.arrays import Engine, make_engine

__all__ = ["WHOLE", "Sample", "combine", "samples"]

WHOLE = 512
"""Multipliers up to which an array is mapped as it is."""

_PART = 256
"""Multipliers of the largest sample, where samples can be that small."""


_PART_OF_SLICES = 2048
"""The same, where multipliers are slices that yosys does not look into."""


@dataclass(frozen=True)
class Sample:
    """A small array, and how often it counts in the large one.

    Attributes
    ----------
    engine : the small array
    weight : may be negative
    """

    engine: Engine
    weight: int

    @property
    def shape(self) -> str:
        """Its size as engines are named by."""
        return f"{self.engine.tokens}x{self.engine.reduce}x{self.engine.outputs}"


def samples(engine: Engine) -> tuple[Sample, ...]:
    """Small arrays whose weighted sum is the array; none if it is small, or does not grow evenly.

    Whether it grows evenly (no registers in triangles, say) is asked of its own estimate. An array
    of parts that are modules of their own is small already: they are mapped once. Slices of FPGAs are such parts, but
    the operands that wait for them grow with the array.
    """
    if engine.macs <= (_PART_OF_SLICES if engine.sliced else WHOLE) or engine.grain is None:
        return ()
    tokens, outputs = _sizes(engine, engine.grain)
    found = tuple(
        Sample(_resized(engine, t, o), t_weight * o_weight)
        for t, t_weight in _weights(engine.tokens, tokens)
        for o, o_weight in _weights(engine.outputs, outputs)
    )
    return found if _even(engine, found) else ()


def combine(parts: Sequence[tuple[int, Mapping[str, int]]]) -> dict[str, int]:
    """The weighted sum of cells by type; what comes out below nothing is nothing."""
    kinds = sorted({kind for _, cells in parts for kind in cells})
    sums = {kind: sum(weight * cells.get(kind, 0) for weight, cells in parts) for kind in kinds}
    return {kind: count for kind, count in sums.items() if count > 0}


def _sizes(engine: Engine, grain: tuple[int, int]) -> tuple[int, int]:
    """The smaller size of both, in tokens and outputs; the larger one is its double.

    As large as the largest sample may be: the scatter of a cell then counts less.
    """

    def cells(size: tuple[int, int]) -> int:
        return min(2 * size[0], engine.tokens) * min(2 * size[1], engine.outputs)

    sizes = [
        (t, o) for t in _powers(engine.tokens, grain[0]) for o in _powers(engine.outputs, grain[1])
    ]
    part = _PART_OF_SLICES if engine.sliced else _PART
    small = [size for size in sizes if cells(size) * engine.reduce <= part]
    return max(small or [grain], key=lambda size: (cells(size), -abs(size[0] - size[1])))


def _powers(size: int, grain: int) -> list[int]:
    """Powers of two times the grain that divide a size, up to its half."""
    powers = (grain << k for k in range(size.bit_length()))
    return [p for p in powers if not size % p and 2 * p <= size] or [min(grain, size)]


def _weights(size: int, small: int) -> list[tuple[int, int]]:
    """Sizes and weights that make ``size`` of ``small`` and its double, on a straight line."""
    if size <= 2 * small:
        return [(size, 1)]
    return [(small, 2 - size // small), (2 * small, size // small - 1)]


def _resized(engine: Engine, tokens: int, outputs: int) -> Engine:
    return make_engine(
        engine.array,
        engine.pe,
        tokens=tokens,
        reduce=engine.reduce,
        outputs=outputs,
        x_bits=engine.x_bits,
        w_bits=engine.w_bits,
        acc_bits=engine.acc_bits,
        dsp=engine.dsp,
    )


def _even(engine: Engine, found: Sequence[Sample]) -> bool:
    """Whether the weighted sum of the estimates is the estimate."""
    whole = engine.resources()
    parts = [(sample.weight, sample.engine.resources()) for sample in found]
    return all(
        abs(sum(weight * getattr(part, kind) for weight, part in parts) - getattr(whole, kind))
        <= getattr(whole, kind) / 1000
        for kind in ("dsp", "lut", "ff", "bram")
    )
