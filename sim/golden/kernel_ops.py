# SPDX-License-Identifier: Apache-2.0
"""The integers of task-graph kernels, beside those of ``sim.golden.ops``: functions of int16 arguments.

Everything is exact integer arithmetic on ``int64``. An argument has 8 to 12 fraction bits, as many as its range
allows, and is brought to 12. Tables are read with linear interpolation. Bounds on errors are measured in
tests/sim/golden/test_kernel_ops.py.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.golden.ops import Ints, clamp, requantise, round_shift, rsqrt

__all__ = [
    "ARGUMENT_FRACTION", "GATE_SLOPE", "GATE_TABLE", "GELU_SLOPE", "GELU_TABLE", "POWER_SLOPE", "POWER_TABLE",
    "deepest_shift", "exp", "gate", "gelu", "layernorm", "matmul", "maxpool2", "power", "relu", "sigmoid", "silu",
    "softmax", "upsample2", "weighted_sum",
]  # fmt: skip

Number = TypeVar("Number", bound=np.generic)

ARGUMENT_FRACTION = 12
"""Fraction bits at which tables are read."""

_GATES: Ints = np.round(2**15 / (1 + np.exp(-(np.arange(1025) - 512) / 32))).astype(np.int64)
GATE_TABLE, GATE_SLOPE = _GATES[:-1], np.diff(_GATES)
"""``2**15 / (1 + exp(-z))`` for z from -16 to 16 in steps of 1/32, and what the next entry is more (0 to 256)."""

_Z = (np.arange(1025) - 512) / 64
_GELUS: Ints = np.round(2**14 * (1 + np.tanh(np.sqrt(2 / np.pi) * (_Z + 0.044715 * _Z**3)))).astype(
    np.int64
)
GELU_TABLE, GELU_SLOPE = _GELUS[:-1], np.diff(_GELUS)
"""What GELU multiplies z by, times 2**15, for z from -8 to 8 in steps of 1/64, and what the next entry is more."""

_POWERS: Ints = np.round(2 ** (15 + np.arange(257) / 256)).astype(np.int64)
POWER_TABLE, POWER_SLOPE = _POWERS[:-1], np.diff(_POWERS)
"""``2**(15 + f)`` for f from 0 to 1 in steps of 1/256 (16 bits), and what the next entry is more (8 bits)."""

_LEAST = 40
"""A right shift that leaves nothing of 32 bits."""

_FAR = 17 << ARGUMENT_FRACTION
"""So far below the largest of a row nothing is left of its exponential."""


def matmul(x: NDArray[np.integer], w: NDArray[np.integer]) -> Ints:
    """``x @ w`` of int16 matrices, exact: float64, which BLAS multiplies, holds sums of up to 2**22 products."""
    if x.shape[-1] > 1 << 22:
        raise ValueError(f"{x.shape[-1]} products do not sum exactly")
    return (x.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)


def gate(z: Ints, fraction: int) -> Ints:
    """``2**15 / (1 + exp(-z))`` of an int16 argument with ``fraction`` fraction bits; 0 to 2**15, within 1.3."""
    t = np.asarray(z, np.int64) << (ARGUMENT_FRACTION - fraction)
    index = np.clip((t >> 7) + 512, 0, 1023)
    return GATE_TABLE[index] + round_shift(GATE_SLOPE[index] * (t & 127), 7)


def sigmoid(z: Ints, fraction: int, multiplier: int, shift: int, bits: int = 16) -> Ints:
    """The logistic function of an argument with ``fraction`` fraction bits, requantised once."""
    return requantise(gate(z, fraction), 0, multiplier, shift, bits)


def silu(z: Ints, fraction: int, multiplier: int, shift: int, bits: int = 16) -> Ints:
    """``z * sigmoid(z)`` of an argument with ``fraction`` fraction bits, requantised once."""
    return requantise(np.asarray(z, np.int64) * gate(z, fraction), 0, multiplier, shift, bits)


def gelu(z: Ints, fraction: int, multiplier: int, shift: int, bits: int = 16) -> Ints:
    """GELU in its tanh form of an argument with ``fraction`` fraction bits, requantised once."""
    z = np.asarray(z, np.int64)
    t = z << (ARGUMENT_FRACTION - fraction)
    index = np.clip((t >> 6) + 512, 0, 1023)
    gates = GELU_TABLE[index] + round_shift(GELU_SLOPE[index] * (t & 63), 6)
    return requantise(z * gates, 0, multiplier, shift, bits)


def power(t: Ints) -> tuple[Ints, Ints]:
    """``2**t`` of an argument with 12 fraction bits as ``m * 2**(whole - 15)``; m is 2**15 to 2**16, within 1."""
    t = np.asarray(t, np.int64)
    index = (t >> 4) & 255
    return POWER_TABLE[index] + round_shift(POWER_SLOPE[index] * (t & 15), 4), t >> 12


def deepest_shift(shift: Ints) -> Ints:
    """A right shift of less than 1 saturates what it meets; one of more than 40 leaves nothing of 32 bits."""
    return np.minimum(shift, _LEAST)


def exp(t: Ints, fraction: int, multiplier: int, shift: int, bits: int = 16) -> Ints:
    """``2**t`` of an argument with ``fraction`` fraction bits: ``m * multiplier / 2**(shift - whole)``, see `power`.

    What a shift below 1 would make saturates.
    """
    m, whole = power(np.asarray(t, np.int64) << (ARGUMENT_FRACTION - fraction))
    by = deepest_shift(shift - whole)
    top = (1 << (bits - 1)) - 1
    return np.where(by < 1, top, clamp(round_shift(m * multiplier, np.maximum(by, 1)), bits))


def softmax(
    x: Ints,
    multiplier: int,
    shift: int,
    out_multiplier: int,
    out_shift: int,
    bits: int = 16,
    *,
    causal: bool = False,
) -> Ints:
    """Softmax of rows (the last axis, at most 32,768 columns) of int16 numbers.

    ``multiplier / 2**shift`` makes a difference of x to a power of two with 12 fraction bits; the largest of a row
    counts 2**15. ``out_multiplier / 2**out_shift`` (of 16 bits, at least 2**15) makes 1/65536 to a step of the result:
    it is part of the reciprocal of the row's sum, rounded down: ``(out_multiplier << length) // sum``, of 17 bits.
    """
    x = np.asarray(x, np.int64)
    rows, columns = np.atleast_2d(x).shape[-2:]
    seen = np.tri(rows, columns, columns - rows if causal else columns, dtype=bool)
    largest = np.where(seen, x, x.min()).max(axis=-1, keepdims=True)
    t = np.clip(round_shift((largest - x) * multiplier, shift), 0, _FAR)
    m, whole = power(-t)
    e = np.where(seen, round_shift(m << 1, 1 - whole), 0)
    total = e.sum(axis=-1, keepdims=True)
    length = np.frexp(total.astype(np.float64))[1].astype(np.int64)
    return requantise(e, 0, (out_multiplier << length) // total, length + out_shift - 16, bits)


def layernorm(x: Ints, epsilon: int, multiplier: int, shift: int, bits: int = 16) -> Ints:
    """Rows of mean 0 and variance 1, of int16 numbers, at most 16,384 columns.

    With exact sums ``S`` of x and ``Q`` of its squares, ``(d*x - S) / sqrt(d*Q - S*S + epsilon)`` has 12 fraction bits,
    and is requantised. The inverse root is that of ``sim.golden.ops.rsqrt``, within 2**-13.
    """
    x = np.asarray(x, np.int64)
    d, made = x.shape[-1], np.empty_like(x)
    for row, out in zip(x, made, strict=True):
        total = int(row.sum())
        r, e = rsqrt(d * int((row * row).sum()) - total * total + epsilon)
        out[:] = round_shift((d * row - total) * r, 11 + e)
    return requantise(made, 0, multiplier, shift, bits)


def weighted_sum(a: Ints, b: Ints, multipliers: tuple[int, int], shift: int, bits: int) -> Ints:
    """``(a * multipliers[0] + b * multipliers[1]) / 2**shift``, rounded once, half up, and saturated."""
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    return clamp(round_shift(a * multipliers[0] + b * multipliers[1], shift), bits)


def relu(x: Ints) -> Ints:
    """Negative numbers become 0."""
    return np.maximum(x, 0)


def maxpool2(x: NDArray[Number]) -> NDArray[Number]:
    """The largest of every 2x2 pixels of an image [c, h, w]; an odd last row or column is left out."""
    c, h, w = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(c, h // 2, 2, w // 2, 2).max(axis=(2, 4))


def upsample2(x: NDArray[Number]) -> NDArray[Number]:
    """Every pixel of an image [c, h, w] four times."""
    return x.repeat(2, axis=1).repeat(2, axis=2)
