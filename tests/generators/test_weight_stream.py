# SPDX-License-Identifier: Apache-2.0
"""Weight streams: whatever is written is read back, and every byte is where the document says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designs.errors import DesignError
from designs.weight_format import BLOCKS, INT8, SPARSITIES, WeightFormat
from generators.compress import terms
from generators.weight_stream import (
    Beats,
    decode,
    encode,
    interleave,
    kept_words,
    parse,
    place,
    raw,
    split,
    stream_shape,
    words_as_bytes,
    words_from_bytes,
)

STREAMS = [
    WeightFormat(bits, group, n, m, share)
    for bits, group in ((8, 0), (4, 32), (4, 64), (4, 128))
    for n, m in ((1, 1), *SPARSITIES)
    for share in ((1, 2) if n < m else (1,))
]


def representable(draw: np.random.Generator, form: WeightFormat, k: int, n: int) -> np.ndarray:
    """Random integers that a format holds."""
    if form.bits == 8:
        weight = draw.integers(-119, 120, (k, n))
    else:
        factor = draw.integers(1, 17, (k // form.group, n)).repeat(form.group, axis=0)
        weight = draw.integers(-7, 8, (k, n)) * factor
    if form.block:
        score = draw.random((k // form.block, -(-n // form.block)))
        weight *= form.in_blocks(score.argsort(axis=0) < form.kept_blocks(k), n)
    if form.sparse:
        score = draw.random((k // form.m, form.m, -(-n // form.share)))
        kept = (score.argsort(axis=1) < form.n).repeat(form.share, axis=2)[:, :, :n]
        weight *= kept.reshape(k, n)
    return weight.astype(np.int8)


class TestRoundTrip:
    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from(STREAMS),
        st.sampled_from([8, 16, 32]),
        st.sampled_from([32, 64, 128, 512]),
        st.sampled_from([1, 2, 3]),
    )
    def test_beats(
        self, seed: int, form: WeightFormat, lanes: int, stripe: int, tiles: int
    ) -> None:
        if lanes % form.m or lanes**2 % stripe:
            return
        shape = stream_shape(form, lanes, stripe)
        weight = representable(np.random.default_rng(seed), form, 256, tiles * lanes)
        form.check("x", weight)
        beats = encode(weight, form, shape)
        assert len(beats) == tiles * 256 // lanes
        stream = np.concatenate(list(interleave([beats], shape)))
        assert stream.size % (shape.period_stripes * stripe) == 0
        found = decode(parse(stream, shape), shape)
        assert not found[len(beats) :].any()
        found = found[: len(beats)].reshape(tiles, -1, lanes, lanes)  # tile, word, output, input
        np.testing.assert_array_equal(found.transpose(1, 3, 0, 2).reshape(256, -1), weight)

    @settings(max_examples=60, deadline=None)
    @given(
        st.integers(0, 2**32 - 1),
        st.sampled_from(STREAMS),
        st.sampled_from([8, 16, 32]),
        st.sampled_from(BLOCKS),
        st.integers(1, 99),
        st.integers(1, 100),
    )
    def test_blocks(
        self, seed: int, stream: WeightFormat, lanes: int, block: int, keep: int, n: int
    ) -> None:
        """Only beats of blocks that are kept are stored, as many for every tile."""
        if lanes % stream.m or block % lanes:
            return
        form = replace(stream, block=block, keep=keep)
        shape = stream_shape(form, lanes, 64)
        weight = representable(np.random.default_rng(seed), form, 256, n)
        form.check("x", weight)
        words = kept_words(weight, form, lanes)
        tiles = -(-n // lanes)
        assert (words.sum(axis=1) == form.kept_inputs(256) // lanes).all()
        padded = np.pad(weight, ((0, 0), (0, tiles * lanes - n)))
        beats = encode(padded, form, shape).only(words.reshape(-1))
        assert len(beats) == tiles * form.kept_inputs(256) // lanes
        stream_bytes = np.concatenate(list(interleave([beats], shape)))
        found = decode(parse(stream_bytes, shape), shape)[: len(beats)]
        again = words_from_bytes(words_as_bytes(words, lanes), 256 // lanes)
        np.testing.assert_array_equal(place(found, again)[:, :n], weight)

    def test_too_many_blocks(self) -> None:
        form = WeightFormat(block=8, keep=50)
        weight = np.zeros((32, 8), np.int8)
        weight[[0, 9, 31]] = 1
        with pytest.raises(DesignError, match=r"in int8 block8:0\.5 has more blocks"):
            kept_words(weight, form, 8)

    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.sampled_from(STREAMS), st.booleans(), st.booleans())
    def test_other_formats_as_terms(
        self, seed: int, stream: WeightFormat, eight: bool, dense: bool
    ) -> None:
        form = WeightFormat(
            8 if eight else stream.bits, 0 if eight else stream.group,
            *((1, 1, 1) if dense else (stream.n, stream.m, stream.share)),
        )  # fmt: skip
        shape = stream_shape(stream, 16, 64)
        weight = representable(np.random.default_rng(seed), form, 128, 16)
        parts = list(split(weight, form, stream))
        assert len(parts) == terms(form, stream)
        found = [decode(encode(part, stream, shape, factor), shape) for part, factor in parts]
        total = np.sum([f.astype(np.int64) for f in found], axis=0)
        np.testing.assert_array_equal(total.transpose(0, 2, 1).reshape(128, 16), weight)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.sampled_from(STREAMS), st.lists(st.integers(1, 40)))
    def test_pieces_of_any_length(self, seed: int, form: WeightFormat, sizes: list[int]) -> None:
        shape = stream_shape(form, 16, 256)
        draw = np.random.default_rng(seed)
        parts = [
            Beats(*(
                draw.integers(0, 256, (size, width), np.uint8)
                for width in (shape.value_bytes, shape.index_bytes, shape.factor_bytes)
            ))
            for size in sizes
        ]  # fmt: skip
        found = list(interleave(parts, shape))
        if not parts:
            assert not found
            return
        beats, wanted = parse(np.concatenate(found), shape), Beats.join(parts)
        for name in ("values", "indices", "factors"):
            np.testing.assert_array_equal(
                getattr(beats, name)[: len(wanted)], getattr(wanted, name)
            )


class TestLayout:
    def test_of_u280(self) -> None:
        """64 lanes, stripes of 2048 bytes: the sizes that the document gives."""
        shape = stream_shape(WeightFormat(4, 64, 2, 4, 2), 64, 2048)
        assert (shape.value_bytes, shape.index_bytes, shape.factor_bytes) == (1024, 256, 32)
        assert (shape.row_beats, shape.period_beats) == (4, 64)
        assert (shape.factor_stripes, shape.index_stripes, shape.period_stripes) == (1, 8, 41)
        dense = stream_shape(INT8, 64, 2048)
        assert not dense.compressed
        assert (dense.row_beats, dense.period_beats, dense.period_stripes) == (1, 1, 2)

    def test_every_byte_of_a_beat(self) -> None:
        form = WeightFormat(4, 32, 2, 4)
        shape = stream_shape(form, 8, 32)
        weight = np.zeros((32, 8), np.int8)
        weight[0, 3], weight[2, 3], weight[7, 3] = 7 * 5, -3 * 5, 2 * 5  # output 3, blocks 0 and 1
        beats = encode(weight, form, shape)
        first = beats.part(0, 1)
        values = np.zeros(16, np.uint8)
        values[3 * 2 : 3 * 2 + 2] = [0x07 | 0xD << 4, 0x00 | 0x2 << 4]  # the second of block 1
        np.testing.assert_array_equal(first.values[0], values)
        indices = np.full(8, 0b0100_0100, np.uint8)  # positions 0 and 1 where nothing is kept
        indices[3] = (0 | 2 << 2) | (0 | 3 << 2) << 4
        np.testing.assert_array_equal(first.indices[0], indices)
        assert list(beats.factors[0]) == [0, (5 - 1) << 4, 0, 0]
        np.testing.assert_array_equal(beats.factors, beats.factors[:1].repeat(4, axis=0))

    def test_masks_where_they_are_shorter(self) -> None:
        form = WeightFormat(8, n=4, m=8, share=2)
        shape = stream_shape(form, 8, 32)
        assert shape.position_bits == 0 and shape.index_bytes == 4
        weight = np.zeros((8, 8), np.int8)
        weight[[1, 6], 2], weight[[1, 4], 3] = [5, 6], [-1, -2]
        beats = encode(weight, form, shape)
        assert list(beats.indices[0]) == [
            0x0F,
            0b0101_0011,
            0x0F,
            0x0F,
        ]  # 1, 4, 6 and the first other
        assert list(beats.values[0, 8:16].view(np.int8)) == [0, 5, 0, 6, 0, -1, -2, 0]

    def test_rows_that_are_no_weights(self) -> None:
        shape = stream_shape(WeightFormat(4, 32, 2, 4), 8, 32)
        data = np.arange(64, dtype=np.uint8)
        beats = raw(data, shape)
        assert len(beats) == shape.row_beats == 4
        stream = np.concatenate(list(interleave([beats], shape)))
        at = shape.side_stripes * 32
        np.testing.assert_array_equal(stream[at : at + 64], data)


class TestRefuses:
    def test_too_few_lanes(self) -> None:
        with pytest.raises(DesignError, match=r"int8 8:16: 8:16 sparsity needs at least 16 lanes"):
            stream_shape(WeightFormat(8, n=8, m=16), 8, 32)

    def test_what_the_stream_does_not_hold(self) -> None:
        shape = stream_shape(WeightFormat(4, 32), 8, 32)
        with pytest.raises(DesignError, match="row 1, inputs 32 to 63 are not -7 to 7 times"):
            weight = np.zeros((64, 8), np.int8)
            weight[40, 1] = 97
            encode(weight, WeightFormat(4, 32), shape)
        sparse = WeightFormat(8, n=2, m=4)
        with pytest.raises(DesignError, match="more than 2 of 4"):
            encode(np.ones((8, 8), np.int8), sparse, stream_shape(sparse, 8, 32))
        with pytest.raises(
            DesignError, match=r"fc1 in int4 g64 cannot travel in a stream of int8 2:4"
        ):
            terms(WeightFormat(4, 64), sparse, "fc1")
        with pytest.raises(DesignError, match="a weight of 120 does not fit"):
            list(split(np.full((32, 8), 120, np.int8), INT8, WeightFormat(4, 32)))
