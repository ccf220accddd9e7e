# SPDX-License-Identifier: Apache-2.0
"""What a PIM channel computes, in numpy: its dot products bit by bit, and the attention of a request.

The bits of the three formats:

``int8``
    Signed 8-bit numbers, exact sums of 32 bits.
``bf16``
    Products of bfloat16 are exact in float32. The products of a step are added in pairs (0 + 1,
    2 + 3, ..., then pairs of pairs), the sum of the step to the running sum; each addition rounds to
    nearest even in float32, and what is below the normal numbers becomes +0. READRES rounds to
    bfloat16, to nearest even.
``bf16-block``
    The products of a step are shifted right to the largest exponent among them, cut off below (towards
    minus infinity) at 23 bits, and added exactly; the running sum has 24 bits and an exponent. There
    are neither infinities nor NaN: exponent 255 counts as a number. READRES rounds to nearest even.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Memory", "attention", "dot", "from_bf16", "softmax", "to_bf16"]

TINY = np.float32(2.0**-126)


def to_bf16(x: NDArray[np.floating]) -> NDArray[np.uint16]:
    """float32 to bfloat16, to nearest even; NaN is 0x7fc0."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    odd = bits >> np.uint32(16) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FC0), rounded)


def from_bf16(x: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 to float32, exactly."""
    return (np.asarray(x, np.uint32) << np.uint32(16)).view(np.float32)


def _flushed(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(np.abs(x) < TINY, np.float32(0), x)


def dot(fmt: str, a: NDArray, b: NDArray, lanes: int) -> NDArray:
    """Dot products along the last axis, as the multipliers of a bank compute them.

    Parameters
    ----------
    fmt : ``int8``, ``bf16`` or ``bf16-block``.
    a, b : ``[..., n]`` int8, or bfloat16 as uint16; n is padded with zeros to whole steps.
    lanes : numbers of a step.

    Returns
    -------
    ``[...]`` int32, or bfloat16 as uint16.
    """
    a, b = np.broadcast_arrays(a, b)
    pad = -a.shape[-1] % lanes
    width = [(0, 0)] * (a.ndim - 1) + [(0, pad)]
    a, b = np.pad(a, width), np.pad(b, width)
    a = a.reshape(*a.shape[:-1], -1, lanes)
    b = b.reshape(*b.shape[:-1], -1, lanes)
    if fmt == "int8":
        return np.asarray((a.astype(np.int32) * b).sum(axis=(-1, -2), dtype=np.int32))
    return _dot_float(a, b) if fmt == "bf16" else _dot_block(a, b)


def _dot_float(a: NDArray, b: NDArray) -> NDArray[np.uint16]:
    with np.errstate(all="ignore"):
        x, y = _flushed(from_bf16(a)), _flushed(from_bf16(b))
        exact = x.astype(np.float64) * y
        products = np.where(np.abs(exact) < TINY, 0, exact).astype(np.float32)
        while products.shape[-1] > 1:
            products = _flushed(products[..., 0::2] + products[..., 1::2])
        total = np.zeros(products.shape[:-2], np.float32)
        for step in range(products.shape[-2]):
            total = _flushed(total + products[..., step, 0])
        return to_bf16(total)


def _dot_block(a: NDArray, b: NDArray) -> NDArray[np.uint16]:
    lanes = a.shape[-1]
    levels = lanes.bit_length() - 1
    a, b = a.astype(np.int64), b.astype(np.int64)
    ea, eb = a >> 7 & 255, b >> 7 & 255
    zero = (ea == 0) | (eb == 0)
    e = np.where(zero, 0, ea + eb)
    m = np.where(zero, 0, (128 + (a & 127)) * (128 + (b & 127)))
    m = np.where((a ^ b) >> 15 & 1 == 1, -m, m)
    top = e.max(axis=-1)
    sums = ((m << 7) >> np.minimum(24, top[..., None] - e)).sum(axis=-1) >> levels
    exponents = np.where(top == 0, 0, top + levels)
    total = np.zeros(a.shape[:-2], np.int64)
    total_e = np.zeros(a.shape[:-2], np.int64)
    for step in range(a.shape[-2]):
        common = np.maximum(total_e, exponents[..., step])
        total = (total >> np.minimum(24, common - total_e)) + (
            sums[..., step] >> np.minimum(24, common - exponents[..., step])
        )
        over = (total >= 1 << 23) | (total < -(1 << 23))
        total, total_e = np.where(over, total >> 1, total), common + over
    # total * 2**(total_e - 275), rounded to 8 significant bits.
    sign, magnitude = total < 0, np.abs(total)
    lead = np.where(magnitude > 0, np.frexp(magnitude.astype(np.float64))[1] - 1, 0)
    normal = magnitude << (23 - lead)
    high, low = normal >> 16, normal & 0xFFFF
    high = high + ((low > 0x8000) | ((low == 0x8000) & (high & 1 == 1)))
    carry = high >> 8
    exponent = total_e + lead - 148 + carry
    fraction = np.where(carry == 1, 0, high & 127)
    bits = np.where(exponent >= 255, 0x7F80, (exponent << 7) | fraction) | sign.astype(np.int64) << 15  # fmt: skip
    return np.where((magnitude == 0) | (exponent <= 0), 0, bits).astype(np.uint16)


@dataclass
class Memory:
    """Banks, their rows for the multipliers, and the vector buffer; without timing.

    Attributes
    ----------
    fmt, lanes : of the multipliers.
    cells : ``[banks, rows, page]`` int8, or bfloat16 as uint16.
    vector : ``[entries, page]``, the vector buffer.
    """

    fmt: str
    lanes: int
    cells: NDArray
    vector: NDArray

    def __post_init__(self) -> None:
        self._parts: list[tuple[NDArray, NDArray]] = []

    def gwrite(self, entry: int, bank: int, row: int) -> None:
        """Copy a row of one bank into the vector buffer."""
        self.vector[entry] = self.cells[bank, row]

    def comp(
        self, row: int, col: int, entry: int, gcol: int, *, tail: int = 0, fresh: bool = True
    ) -> None:
        """One step of every bank: a column of its row times one of the vector."""
        if fresh:
            self._parts.clear()
        n = self.lanes
        a = self.cells[:, row, col * n : (col + 1) * n].copy()
        if tail:
            a[:, tail:] = 0
        self._parts.append((a, self.vector[entry, gcol * n : (gcol + 1) * n]))

    def readres(self) -> NDArray:
        """The sums of the banks since the last fresh step: ``[banks]``."""
        a = np.concatenate([a for a, _ in self._parts], axis=-1)
        b = np.concatenate([b for _, b in self._parts])
        return dot(self.fmt, a, b[None], self.lanes)

    def composite(
        self, row: int, col: int, entry: int, gcol: int, k: int, tail: int = 0
    ) -> NDArray:
        """``k`` steps and READRES."""
        for i in range(k):
            last = tail if i == k - 1 else 0
            self.comp(row, col + i, entry, gcol + i, tail=last, fresh=i == 0)
        return self.readres()


def softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the last axis, in float32, as the vector units beside the memory compute it."""
    shifted = np.exp((scores - scores.max(axis=-1, keepdims=True)).astype(np.float32))
    return (shifted / shifted.sum(axis=-1, keepdims=True, dtype=np.float32)).astype(np.float32)


def attention(
    fmt: str, q: NDArray, k: NDArray, v: NDArray, scale: float, *, lanes: int = 16, chunk: int = 512
) -> tuple[NDArray, NDArray, NDArray]:
    """Attention of one new token of a request on a channel and the vector units beside it.

    Parameters
    ----------
    fmt : of the multipliers.
    q : ``[heads, dk]``, the token's queries.
    k, v : ``[kv_heads, length, dk]``; ``heads // kv_heads`` query heads share each.
    scale : of the scores before the softmax, with the factors of int8 numbers in it.
    lanes : of the multipliers.
    chunk : positions of a row of values; sums of chunks are added outside.

    Returns
    -------
    scores, weights, context
        Scores as READRES gives them, ``[heads, length]``; weights as they go into the vector buffer
        (int8 of 1/127, or bfloat16); context ``[heads, dk]`` float32, in units of the values (times
        127 for int8).
    """
    group = q.shape[0] // k.shape[0]
    shared_k, shared_v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    scores = dot(fmt, shared_k, q[:, None, :], lanes)
    real = scores.astype(np.float32) if fmt == "int8" else from_bf16(scores)
    p = softmax(real * np.float32(scale))
    weights = np.rint(p * 127).astype(np.int8) if fmt == "int8" else to_bf16(p)
    context = np.zeros(q.shape, np.float32)
    for start in range(0, k.shape[1], chunk):
        part = dot(fmt, shared_v[:, start : start + chunk].swapaxes(1, 2),
                   weights[:, None, start : start + chunk], lanes)  # fmt: skip
        context = context + (part if fmt == "int8" else from_bf16(part))
    return scores, weights, context
