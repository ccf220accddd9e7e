# SPDX-License-Identifier: Apache-2.0
"""The bytes of a weight stream: writer and reader, as ``docs/weight_format.md`` says.

A matrix becomes **terms**: int8 matrices that a beat of the stream can hold and that add up to it. One
term is the matrix itself, if its format is that of the stream; a matrix of 8 bits, or with all its
weights, takes two or four in a stream of fewer (`split`). Each term becomes **beats** (`encode`), of
which `interleave` makes periods. `parse` and `decode` go back. Of a matrix in blocks `kept_words` says which
beats are stored, `words_as_bytes` how the headers of its tiles say so; `words_from_bytes` and `place` go back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.weight_format import BLOCKS, WeightFormat, least_factors
from generators.compress import terms
from hw.core.weights import WeightStream

__all__ = [
    "Beats", "decode", "encode", "interleave", "kept_words", "parse", "place", "raw", "split", "stream_shape",
    "words_as_bytes", "words_from_bytes",
]  # fmt: skip

Bytes = NDArray[np.uint8]
HIGH = 16
"""Factor of the upper half of a weight of 8 bits in a stream of 4."""


@dataclass(frozen=True)
class Beats:
    """Consecutive beats of a stream.

    Parameters
    ----------
    values : uint8 [beats, value bytes]
    indices : uint8 [beats, index bytes]
    factors : uint8 [beats, factor bytes]
    """

    values: Bytes
    indices: Bytes
    factors: Bytes

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, end: int) -> Beats:
        """Some of them."""
        return Beats(self.values[start:end], self.indices[start:end], self.factors[start:end])

    def only(self, kept: NDArray[np.bool_]) -> Beats:
        """Those that are kept."""
        return Beats(self.values[kept], self.indices[kept], self.factors[kept])

    @classmethod
    def join(cls, parts: list[Beats]) -> Beats:
        """One after the other."""
        return cls(*(np.concatenate([getattr(p, f) for p in parts]) for f in _FIELDS))

    @classmethod
    def alternate(cls, parts: list[Beats]) -> Beats:
        """The first of each, then the second of each, ..."""
        stacked = (np.stack([getattr(p, f) for p in parts], axis=1) for f in _FIELDS)
        return cls(*(s.reshape(s.shape[0] * s.shape[1], s.shape[2]) for s in stacked))


_FIELDS = ("values", "indices", "factors")


def stream_shape(form: WeightFormat, lanes: int, stripe_bytes: int) -> WeightStream:
    """The sizes of a stream of a format.

    Raises
    ------
    DesignError
        If the lanes are too few for it, or more than a block has.
    """
    if form.block % lanes:
        raise DesignError(
            f"weights {form}: a block must be whole engine steps of {lanes} x {lanes} weights; "
            f"use block{max(lanes, BLOCKS[0])}, or an engine of {form.block} lanes at most"
        )
    try:
        return WeightStream(
            lanes=lanes, stripe_bytes=stripe_bytes, bits=form.bits, group=form.group, n=form.n,
            m=form.m, share=form.share,
            position_bits=form.position_bits if form.by_position else 0,
        )  # fmt: skip
    except ValueError as error:
        raise DesignError(f"weights {form}: {error}") from None


def split(
    weight: NDArray[np.int8], form: WeightFormat, stream: WeightFormat
) -> Iterator[tuple[NDArray[np.int8], int | None]]:
    """The terms of a matrix int8 [k, n], and the factor of all of a term's weights if it is given."""
    count = terms(form, stream)
    if count == 1:
        yield weight, None
        return
    halves: list[tuple[NDArray[np.int8], int | None]] = [(weight, None)]
    if form.bits > stream.bits:
        low = ((weight.astype(np.int16) + 8) & 15) - 8
        high = (weight - low) // HIGH
        if high.size and high.max() > 7:
            raise DesignError(
                f"a weight of {weight.max()} does not fit twice 4 bits: the most is 119"
            )
        halves = [((high * HIGH).astype(np.int8), HIGH), (low.astype(np.int8), 1)]
    parts = count // len(halves)
    place = np.arange(len(weight)) % stream.m // stream.n
    for half, factor in halves:
        for part in range(parts):
            yield half if parts == 1 else np.where((place == part)[:, None], half, 0), factor


def encode(
    weight: NDArray[np.int8], stream: WeightFormat, shape: WeightStream, factor: int | None = None
) -> Beats:
    """One term [k, n] as beats: output tile by output tile, and k/R beats of each.

    Parameters
    ----------
    weight : int8 [k, n]; k and n are multiples of the lanes.
    factor : of all weights, the least one of each group if None.

    Raises
    ------
    DesignError
        If the format does not hold it.
    """
    k, n = weight.shape
    r = shape.lanes
    tiles, words = n // r, k // r
    if stream.bits == 4:
        if factor is None:
            group = min(stream.group, k)
            found = least_factors(weight, group)
            if not found.all():
                stream.check("a matrix", weight)
            found = found.repeat(group, axis=0)
        else:
            found = np.full((k, n), factor, np.uint8)
        weight = (weight // found.astype(np.int8)).astype(np.int8)
        step = r // shape.factors
        of_beat = found[::step].reshape(words, shape.factors, tiles, r).transpose(2, 0, 3, 1) - 1
        factors = _pack(of_beat.reshape(tiles * words, -1), 4)
    else:
        factors = np.zeros((tiles * words, 0), np.uint8)
    # [tile, word, output, input]
    dense = weight.reshape(words, r, tiles, r).transpose(2, 0, 3, 1)
    if not stream.sparse:
        kept, indices = dense, np.zeros((tiles * words, 0), np.uint8)
    else:
        positions = _positions(dense, stream)
        blocks = dense.reshape(*dense.shape[:3], r // stream.m, stream.m)
        kept = np.take_along_axis(blocks, positions, axis=-1)
        own = positions[:, :, :: stream.share].reshape(tiles * words, -1, stream.n)
        if shape.position_bits:
            indices = _pack(own.reshape(tiles * words, -1).astype(np.uint8), shape.position_bits)
        else:
            mask = np.zeros((*own.shape[:2], stream.m), np.uint8)
            np.put_along_axis(mask, own, 1, axis=-1)
            indices = _pack(mask.reshape(tiles * words, -1), 1)
    values = _pack(kept.reshape(tiles * words, -1).view(np.uint8), stream.bits)
    return Beats(values, indices, factors)


def _positions(dense: NDArray[np.int8], stream: WeightFormat) -> NDArray[np.intp]:
    """Which N of M inputs of each block are kept, ascending; int [tile, word, output, block, N]."""
    used = dense != 0
    if stream.share == 2:
        pairs = used.reshape(*used.shape[:2], -1, 2, used.shape[3]).any(axis=3)
        used = pairs.repeat(2, axis=2)
    blocks = used.reshape(*used.shape[:3], -1, stream.m)
    if (blocks.sum(axis=-1) > stream.n).any():
        raise DesignError(
            f"a block has more than {stream.n} of {stream.m} weights that are not zero"
        )
    # Those that are not zero, and the first of the others to make N.
    order = np.argsort(~blocks, axis=-1, kind="stable")[..., : stream.n]
    return np.sort(order, axis=-1)


def raw(data: Bytes, shape: WeightStream) -> Beats:
    """Bytes that are no weights (headers, parameters of a norm) as beats: whole rows."""
    count = len(data) // shape.value_bytes
    return Beats(
        data.reshape(count, shape.value_bytes),
        np.zeros((count, shape.index_bytes), np.uint8),
        np.zeros((count, shape.factor_bytes), np.uint8),
    )


def interleave(parts: Iterable[Beats], shape: WeightStream) -> Iterator[Bytes]:
    """Periods of a stream: factors, indices, values. The last one is filled up with zeros."""
    held: list[Beats] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        if count >= max(shape.period_beats, _HELD_BYTES // shape.value_bytes):
            beats = Beats.join(held)
            whole = count // shape.period_beats * shape.period_beats
            yield _periods(beats.part(0, whole), shape)
            held = [beats.part(whole, count)]
            count -= whole
    if count:
        missing = -count % shape.period_beats
        yield _periods(
            Beats.join([*held, raw(np.zeros(missing * shape.value_bytes, np.uint8), shape)]), shape
        )


_HELD_BYTES = 1 << 22


def _periods(beats: Beats, shape: WeightStream) -> Bytes:
    count = len(beats) // shape.period_beats
    sides = [getattr(beats, f).reshape(count, -1) for f in ("factors", "indices", "values")]
    return np.concatenate(sides, axis=1).reshape(-1)


def parse(stream: Bytes, shape: WeightStream) -> Beats:
    """The beats of whole periods of a stream."""
    size = shape.period_stripes * shape.stripe_bytes
    periods = stream.reshape(-1, size)
    ends = np.cumsum([shape.factor_stripes, shape.index_stripes]) * shape.stripe_bytes
    factors, indices, values = np.split(periods, ends, axis=1)
    count = len(periods) * shape.period_beats
    return Beats(values.reshape(count, -1), indices.reshape(count, -1), factors.reshape(count, -1))


def decode(beats: Beats, shape: WeightStream) -> NDArray[np.int8]:
    """What the engine multiplies with, int8 [beats, output, input]."""
    r, count = shape.lanes, len(beats)
    values = _unpack(beats.values, shape.bits).astype(np.int16)
    if shape.bits == 4:
        values = np.where(values > 7, values - 16, values)
        factors = _unpack(beats.factors, 4).reshape(count, r, shape.factors).astype(np.int16) + 1
        kept = values.reshape(count, r, shape.factors, -1)
        values = (kept * factors[..., None]).reshape(count, -1)
    else:
        values = values.astype(np.uint8).view(np.int8).astype(np.int16)
    if shape.m == 1:
        return values.reshape(count, r, r).astype(np.int8)
    blocks = (count, r // shape.share, r // shape.m)
    if shape.position_bits:
        positions = _unpack(beats.indices, shape.position_bits).reshape(*blocks, shape.n)
    else:
        mask = _unpack(beats.indices, 1).reshape(*blocks, shape.m)
        positions = np.argsort(mask == 0, axis=-1, kind="stable")[..., : shape.n]
    positions = positions.astype(np.intp).repeat(shape.share, axis=1)
    dense = np.zeros((count, r, r // shape.m, shape.m), np.int8)
    kept = values.reshape(count, r, r // shape.m, shape.n).astype(np.int8)
    np.put_along_axis(dense, positions, kept, axis=-1)
    return dense.reshape(count, r, r)


def kept_words(weight: NDArray[np.int8], form: WeightFormat, lanes: int) -> NDArray[np.bool_]:
    """For each tile of outputs the words of the operand that beats are stored for; bool [tile, k / lanes].

    As many for every tile as the format says: those whose weights are not all zero, and the first others to make them
    up. A matrix without blocks has all.

    Parameters
    ----------
    weight : int8 [k, n]; k is a multiple of the lanes.

    Raises
    ------
    DesignError
        If more are not zero.
    """
    k, n = weight.shape
    words, tiles = k // lanes, -(-n // lanes)
    if not form.block:
        return np.ones((tiles, words), np.bool_)
    padded = np.pad(weight, ((0, 0), (0, tiles * lanes - n)))
    used = padded.reshape(words, lanes, tiles, lanes).any(axis=(1, 3)).T
    count = form.kept_inputs(k) // lanes
    if (used.sum(axis=1) > count).any():
        raise DesignError(f"a matrix in {form} has more blocks that are not zero")
    kept = np.zeros_like(used)
    np.put_along_axis(kept, np.argsort(~used, axis=1, kind="stable")[:, :count], True, axis=1)
    return kept


def words_as_bytes(words: NDArray[np.bool_], lanes: int) -> Bytes:
    """A bit for each word, the first one lowest, in the last bytes of a tile's headers; uint8 [tile, lanes]."""
    packed = np.packbits(words, axis=1, bitorder="little")
    return np.pad(packed, ((0, 0), (0, lanes - packed.shape[1])))


def words_from_bytes(packed: Bytes, words: int) -> NDArray[np.bool_]:
    """What `words_as_bytes` packed; bool [tile, words]."""
    return np.unpackbits(packed, axis=1, count=words, bitorder="little").astype(np.bool_)


def place(found: NDArray[np.int8], words: NDArray[np.bool_]) -> NDArray[np.int8]:
    """The matrix int8 [k, n] of the beats int8 [beats, output, input] that are stored for these words."""
    tiles, count = words.shape
    lanes = found.shape[1]
    dense = np.zeros((tiles, count, lanes, lanes), np.int8)
    dense[words] = found
    return dense.transpose(1, 3, 0, 2).reshape(count * lanes, tiles * lanes)


def _pack(values: NDArray[np.uint8], bits: int) -> Bytes:
    """Fields of 1, 2, 4 or 8 bits [rows, count] as bytes, the first one lowest."""
    per_byte = 8 // bits
    if per_byte == 1:
        return values
    parts = values.reshape(len(values), -1, per_byte) & ((1 << bits) - 1)
    out = np.zeros(parts.shape[:2], np.uint8)
    for i in range(per_byte):
        out |= parts[..., i] << (bits * i)
    return out


def _unpack(packed: Bytes, bits: int) -> NDArray[np.uint8]:
    """What `_pack` packed."""
    if bits == 8:
        return packed
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    parts = (packed[..., None] >> shifts) & ((1 << bits) - 1)
    return parts.astype(np.uint8).reshape(len(packed), -1)
