# SPDX-License-Identifier: Apache-2.0
"""The integers of every operation: what the hardware must equal bit for bit.

Everything here is exact integer arithmetic on numpy ``int64``; nothing sees the hardware. The formats are
those of ``docs/architecture.md``. Sources: requantisation by integer multiplier and shift is that of Jacob
et al., CVPR 2018, section 2.2; the base-2 softmax follows I-BERT/ITA practice with a table that is complete
at the resolution of its input; the inverse square root is one Newton step from a 192-entry table.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ANGLE_FRACTION", "EXP2_TABLE", "GATE_FRACTION", "GATE_TABLE", "PRODUCT_FRACTION",
    "RECIPROCAL_BITS", "ROTARY_FRACTION", "RSQRT_TABLE", "SCORE_FRACTION", "affine", "argmax", "clamp",
    "gated_activation", "gated_product", "layernorm", "reciprocal", "requantise", "residual_add",
    "rmsnorm", "rotary", "round_shift", "rsqrt", "softmax_row",
]  # fmt: skip

Ints = NDArray[np.int64]

SCORE_FRACTION = 8
"""Fraction bits of an attention score: a score is ``log2`` of an unnormalised probability, in 1/256."""

GATE_FRACTION = 10
"""Fraction bits of the argument of a gated activation (int16, so about +-32)."""

PRODUCT_FRACTION = 15
"""By how much the product of an activated value and its factor is shifted to int8."""

ROTARY_FRACTION = 5
"""Fraction bits of a query or key before it is turned, in steps of the int8 that it becomes: int16 then
reaches eight times as far, so that what saturates before would do so behind."""

ANGLE_FRACTION = 14
"""Fraction bits of a cosine and a sine."""

RECIPROCAL_BITS = 24
"""Width to which the sum of a softmax row is normalised before it divides."""

EXP2_TABLE: Ints = np.round(127 * 256 * 2.0 ** (-np.arange(256) / 256)).astype(np.int64)
"""``127 * 2**8 * 2**(-f/256)``, 15 bits: complete at the 8 fraction bits of a score."""

RSQRT_TABLE: Ints = np.round(2.0**23 / np.sqrt((np.arange(64, 256) << 8) + 128.0)).astype(np.int64)
"""First guess of ``2**23 / sqrt(v)``, 16 bits, for ``v`` in ``[2**14, 2**16)`` by its top eight bits."""


def _gelu_gate(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (z + 0.044715 * z**3)))


def _gate(values: NDArray[np.float64]) -> Ints:
    """Gates as integers; beyond the table an activation is 0 or its argument."""
    values[0], values[-1] = 0.0, 1.0
    return np.round(2**15 * values).astype(np.int64)


_Z = (np.arange(1024) - 512) / 64.0

GATE_TABLE: dict[str, Ints] = {
    "gelu": _gate(_gelu_gate(_Z)),
    "relu": _gate(np.where(_Z > 0, 1.0, 0.0)),
    "silu": _gate(1.0 / (1.0 + np.exp(-_Z))),
}
"""``gate(z)`` of each activation ``z * gate(z)``, scaled by 2**15 (16 bits, unsigned), for ``z`` from -8 to
8 in steps of 1/64."""


def clamp(x: Ints, bits: int) -> Ints:
    """Saturate to a signed integer of ``bits`` bits."""
    return np.clip(x, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def round_shift(x: Ints, shift: Ints | int) -> Ints:
    """``floor(x / 2**shift + 1/2)``: round half up; ``shift`` is at least 1."""
    return ((x >> (shift - 1)) + 1) >> 1


def requantise(
    acc: Ints, bias: Ints | int, multiplier: Ints | int, shift: Ints | int, bits: int
) -> Ints:
    """``clamp(round_half_up((acc + bias) * multiplier / 2**shift))``.

    Parameters
    ----------
    acc : int64 array, exact accumulators of at most 32 bits.
    bias : int32, in the scale of the accumulator.
    multiplier : 0 to 2**16 - 1.
    shift : 1 to 63.
    bits : width of the signed result, at most 16.
    """
    return clamp(round_shift((np.asarray(acc, np.int64) + bias) * multiplier, shift), bits)


def residual_add(x: Ints, delta: Ints) -> Ints:
    """Saturating int16 sum."""
    return clamp(np.asarray(x, np.int64) + delta, 16)


def gated_activation(
    z: Ints, multiplier: int, shift: int, gate: str = "gelu", bits: int = 8
) -> Ints:
    """``z * gate(z)`` of an int16 argument with 10 fraction bits, requantised to ``bits`` bits.

    The gate is read at the nearest 1/64, so the product before requantisation is within 0.004 of GELU and
    SiLU and within 0.008 of ReLU (tests/sim/golden/test_ops.py measures it).
    """
    z = np.asarray(z, np.int64)
    index = np.clip(((z + 8) >> 4) + 512, 0, 1023)
    gated = round_shift(z * GATE_TABLE[gate][index], 15)
    return requantise(gated, 0, multiplier, shift, bits)


def gated_product(u: Ints, up: Ints) -> Ints:
    """``u * up / 2**15`` as int8: activated values (int16) times their factors (int16), as in SwiGLU.

    With exact factors it is within half a step; an error of half a step in each of them adds at most
    ``(|u| + |up|) / 2**16``.
    """
    return clamp(round_shift(np.asarray(u, np.int64) * up, PRODUCT_FRACTION), 8)


def rotary(y: Ints, angles: Ints) -> Ints:
    """Turn pairs of adjacent features and narrow them to int8.

    Parameters
    ----------
    y : int16, shape [..., n]: with ``ROTARY_FRACTION`` fraction bits; n is a multiple of the head size.
    angles : int16, shape [..., head size]: cosine and sine of each pair, with ``ANGLE_FRACTION`` fraction bits.

    Notes
    -----
    ``(a cos - b sin, a sin + b cos)`` is summed exactly and rounded once: within 0.5 steps, plus 2**-15 of
    the pair's length for the angles.
    """
    y = np.asarray(y, np.int64)
    pairs = y.reshape(*y.shape[:-1], -1, angles.shape[-1])
    a, b = pairs[..., ::2], pairs[..., 1::2]
    cosine, sine = angles[..., None, ::2], angles[..., None, 1::2]
    turned = np.stack([a * cosine - b * sine, a * sine + b * cosine], axis=-1)
    return clamp(round_shift(turned.reshape(y.shape), ROTARY_FRACTION + ANGLE_FRACTION), 8)


def rsqrt(value: int) -> tuple[int, int]:
    """``(r, e)`` with ``1 / sqrt(value)`` about ``r * 2**(-23 - e)``, ``r`` of 16 bits.

    ``value`` is from 1 to 2**62; ``e`` may be negative. Relative error under 2**-13.
    """
    shift = value.bit_length() - 16
    shift += shift & 1
    v = value >> shift if shift >= 0 else value << -shift
    guess = int(RSQRT_TABLE[(v >> 8) - 64])
    t = (v * guess * guess) >> 24
    r = (guess * (3 * (1 << 22) - t) + (1 << 22)) >> 23
    return min(r, 65535), shift // 2


def layernorm(x: Ints, gamma: Ints, beta: Ints, gamma_shift: int, epsilon: int) -> Ints:
    """Normalise one row and requantise it to int8.

    Parameters
    ----------
    x : int16, shape [d].
    gamma, beta : int16, shape [d]: the affine parameters over the output scale, times ``2**gamma_shift``.
    gamma_shift : 0 to 15.
    epsilon : ``eps * d**2 / scale(x)**2`` rounded, at least 1, below 2**56.

    Notes
    -----
    With exact ``S = sum x`` and ``Q = sum x*x`` the row's ``(x - mean) / sqrt(var + eps)`` equals
    ``(d*x - S) / sqrt(d*Q - S*S + epsilon)`` with no rounding before the inverse root.
    """
    x = np.asarray(x, np.int64)
    d = x.shape[0]
    total, squares = int(x.sum()), int((x * x).sum())
    r, e = rsqrt(d * squares - total * total + epsilon)
    return affine(d * x - total, r, e, gamma, np.asarray(beta, np.int64), gamma_shift)


def affine(
    centred: Ints, r: Ints | int, e: Ints | int, gamma: Ints, beta: Ints | int, gamma_shift: int
) -> Ints:
    """The end of a normalisation: ``centred`` times the inverse root ``(r, e)``, times gamma, plus beta, int8."""
    n = round_shift(centred * r, 13 + e)  # 10 fraction bits, within 18 bits for d up to 16384
    return clamp(round_shift(n * gamma + (beta << 10), gamma_shift + 10), 8)


def rmsnorm(x: Ints, gamma: Ints, gamma_shift: int, epsilon: int) -> Ints:
    """:func:`layernorm` without a mean and without beta: the row over the root of its mean square.

    With exact ``Q = sum x*x`` the row's ``x / sqrt(mean square + eps)`` equals
    ``d*x / sqrt(d*Q + epsilon)``. The parameters are those of :func:`layernorm`.
    """
    x = np.asarray(x, np.int64)
    d = x.shape[0]
    r, e = rsqrt(d * int((x * x).sum()) + epsilon)
    return affine(d * x, r, e, gamma, 0, gamma_shift)


def softmax_row(scores: Ints) -> tuple[Ints, int]:
    """Unnormalised probabilities (0 to 127; the largest is 127) of one row of int16 scores, and their sum.

    The division by the sum is left to the requantisation of probabilities times values, see
    :func:`reciprocal`: a long row of equal scores loses nothing.
    """
    t = int(np.max(scores)) - np.asarray(scores, np.int64)
    whole, fraction = np.minimum(t >> SCORE_FRACTION, 15), t & 255
    p = round_shift(EXP2_TABLE[fraction], whole + 8)
    return p, int(p.sum())


def reciprocal(total: int, multiplier: int, shift: int) -> tuple[int, int]:
    """``(m, s)`` so that requantising by ``m / 2**s`` is ``multiplier / 2**shift / total``.

    ``multiplier`` is from 2**14 to 2**15 - 1, so that ``m`` has 16 bits; ``total`` is from 1 to 2**24 - 1.
    """
    length = total.bit_length()
    return (multiplier << RECIPROCAL_BITS) // (total << (RECIPROCAL_BITS - length)), shift + length


def argmax(logits: Ints) -> int:
    """The first index of the largest value."""
    return int(np.argmax(logits))
