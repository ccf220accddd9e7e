# SPDX-License-Identifier: Apache-2.0
"""Sparse chains: how weights become beats, what synthesis makes of a chain, what is refused.

The engine table runs in tests/hw/test_dsp_packed.py.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.slices import map_unit
from benchmarks.sparse_chain import SkewedChains, engine_of, sparse_weights
from designs.weight_format import WeightFormat
from generators.weight_stream import encode, stream_shape
from hw.arrays import make_engine, parse_engine
from hw.arrays.chain import ChainArray
from hw.dsp.packed_dot import PackedDot
from hw.dsp.packing import weights
from hw.sparse.select import Select


def chain(sparsity: str = "2:4", **options: Any) -> ChainArray:
    shape = {"tokens": 1, "reduce": 16, "outputs": 4} | options
    found = make_engine("chain", "dsp_packed", sparsity, **shape)
    assert isinstance(found, ChainArray)
    return found


def product(engine: ChainArray, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """What the slots of all beats sum up to, by their definition."""
    outputs, cuts = w.shape[1], engine.cuts(w.shape[1])
    xs = np.pad(x, (0, engine.beats(len(x)) * engine.reduce - len(x)))
    sums = np.zeros(outputs, np.int64)
    blocks = engine.reduce // engine.m
    for at, values, positions in engine.schedule(w):
        for o in range(outputs):
            for s in range(engine.taps // cuts):
                block = s % blocks if engine.split > 1 else s // engine.n
                sums[o] += (
                    values[o, s] * xs[at + block * engine.m + positions[o // engine.share, s]]
                )
    return sums


class TestBeats:
    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_no_product_is_lost(self, data: st.DataObject) -> None:
        """Any weights: sparse, dense, empty blocks, any k; every product comes once."""
        engine = chain(
            data.draw(st.sampled_from(["1:2", "2:4", "1:4", "4:8", "2:8", "8:16"])),
            share=data.draw(st.sampled_from([1, 2])), outputs=data.draw(st.sampled_from([1, 3, 4])),
        )  # fmt: skip
        rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
        k = data.draw(st.integers(1, 40))
        w = rng.integers(-128, 128, (k, engine.outputs)) * (
            rng.random((k, engine.outputs)) < rng.random()
        )
        x = rng.integers(-128, 128, k)
        np.testing.assert_array_equal(product(engine, x, w), x @ w)

    @pytest.mark.parametrize(("kept", "beats"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)])
    def test_n_differs_from_block_to_block(self, kept: int, beats: int) -> None:
        """A beat takes as many turns as its fullest block needs: M / N if that is dense."""
        engine, w = chain(), np.zeros((32, 4), np.int64)
        w[8 : 8 + kept, 1] = 5  # one block of the first beat
        w[16:18] = 1
        assert len(engine.schedule(w)) == beats + 1 and engine.beats(32) == 2

    def test_blocks_without_a_weight_take_no_beat(self) -> None:
        engine, w = chain(), np.zeros((64, 4), np.int64)
        assert len(engine.schedule(w)) == 1  # a tile has to end
        w[20, 3] = w[50, 0] = 1
        assert [at for at, _, _ in engine.schedule(w)] == [16, 48]
        firsts = [payload >> engine.i.payload.shape()["first"].offset & 1
                  for payload in engine.pack(np.ones((1, 64), np.int64), w)]  # fmt: skip
        assert firsts == [1, 0]

    def test_pairs_share_positions(self) -> None:
        """Two outputs that keep different positions fill the slots of both."""
        w = np.zeros((16, 4), np.int64)
        w[[0, 1], 0] = w[[2, 3], 1] = 7
        assert len(chain().schedule(w)) == 2 and len(chain(share=1, tokens=2).schedule(w)) == 1

    def test_a_tile_that_overflows_is_refused(self) -> None:
        """In slices a tile ends before a field overflows; the longest one is exact at the extremes."""
        engine = chain(accumulate="dsp", w_bits=4, outputs=2, acc_bits=32)
        assert engine.longest == engine.packing.exact // 8 == 255
        x, w = np.full((1, 16 * 256), -128), np.full((16 * 256, 2), -8)
        w[2::4] = w[3::4] = 0
        assert len(engine.pack(x[:, : 16 * 255], w[: 16 * 255])) == 255
        with pytest.raises(
            ValueError, match=r"256 beats overflows .* at most 255 \(2040 products\)"
        ):
            engine.pack(x, w)

    def test_adjusted_weights_are_symmetric(self) -> None:
        engine = chain(adjusted=True)
        engine.pack(np.ones((1, 16)), np.full((16, 4), -127))
        with pytest.raises(ValueError, match="weights that are adjusted must be -127 or more"):
            engine.pack(np.ones((1, 16)), np.full((16, 4), -128))


@pytest.mark.parametrize("sparsity", ["2:4", "1:4", "2:8"])
@pytest.mark.parametrize("share", [1, 2])
def test_beats_of_a_compressed_stream_are_its_operands(sparsity: str, share: int) -> None:
    """Values and positions of the stream (docs/weight_format.md) are the fields of a payload as they are."""
    rng, r, k = np.random.default_rng(4), 16, 48
    engine = chain(sparsity, share=share, tokens=2, outputs=r)
    w = rng.integers(-127, 128, (k, r)) * (rng.random((k, r)) < 0.5)
    form = WeightFormat(n=engine.n, m=engine.m, share=share)
    w = np.where(_kept(w, form), w, 0).astype(np.int8)
    shape = stream_shape(form, lanes=r, stripe_bytes=32)
    beats = encode(w, form, shape)
    x = rng.integers(-128, 128, k)
    total, bits = np.zeros(r, np.int64), engine.index_bits
    for n in range(len(beats)):
        values = beats.values[n].view(np.int8).reshape(r, engine.taps)
        stored = int.from_bytes(beats.indices[n].tobytes(), "little")
        index = 0
        for slot in range(engine.groups * engine.taps):  # the upper bits of a position are 0: wires
            position = stored >> slot * shape.position_bits & (1 << shape.position_bits) - 1
            index |= position << slot * bits
        payload = {"w": int.from_bytes(beats.values[n].tobytes(), "little"), "index": index}
        for name, value in payload.items():
            assert value.bit_length() <= engine.i.payload.shape()[name].width
        for o in range(r):
            for s in range(engine.taps):
                at = index >> (o // share * engine.taps + s) * bits & (1 << bits) - 1
                total[o] += values[o, s].astype(np.int64) * x[n * r + s // engine.n * engine.m + at]
    np.testing.assert_array_equal(total, x @ w.astype(np.int64))
    # The same products as those that the engine's own packing makes.
    assert len(engine.pack(x[None], w.astype(np.int64))) == len(beats)


def _kept(w: np.ndarray, form: WeightFormat) -> np.ndarray:
    """The first N of M inputs that an output, or a pair, uses."""
    used = form.used(w).reshape(-1, form.m, w.shape[1])
    return (used & (used.cumsum(1) <= form.n)).reshape(w.shape)


class TestSynthesis:
    @pytest.mark.parametrize(
        ("sparsity", "most"),
        [
            ("dense", 1.0),
            ("2:4", 9.0),
            pytest.param("1:4", 9.0, marks=pytest.mark.slow),
            pytest.param("2:8", 17.0, marks=pytest.mark.slow),
        ],
    )
    def test_chains_take_the_luts_of_their_selections(self, sparsity: str, most: float) -> None:
        engine = engine_of(sparsity)
        mapped = map_unit(SkewedChains(engine))
        assert mapped.lut_per_slice <= most and set(mapped.chains) == {engine.taps}
        assert not {"CARRY4", "CARRY8"} & mapped.cells.keys()

    def test_an_engine_takes_what_it_estimates(self) -> None:
        engine = chain("2:8", tokens=2, reduce=32, outputs=8)
        mapped, estimate = map_unit(engine), engine.resources()
        assert mapped.resources.dsp == estimate.dsp == engine.macs // 2
        assert 0.8 < mapped.resources.lut / estimate.lut < 1.2
        assert 0.7 < mapped.resources.ff / estimate.ff < 1.3

    def test_a_chain_that_can_be_cut_stays_a_chain(self) -> None:
        """OPMODE alone cuts it: the cascade is there, and no adder."""
        mapped = map_unit(PackedDot(elements=16, packing=weights(2, 4, 8), segments=4), cut=True)
        assert mapped.chains == (16,) and "CARRY4" not in mapped.cells

    @pytest.mark.parametrize(("candidates", "luts"), [(2, 4), (4, 8), (8, 16), (16, 32)])
    def test_selection(self, candidates: int, luts: int) -> None:
        """Four candidates a LUT, two bits of two; wide multiplexers join them."""
        mapped = map_unit(Select(candidates=candidates, bits=8))
        assert mapped.resources.lut in (luts, 8) and mapped.cells.get("MUXF7", 0) == 8 * (
            candidates // 8
        )
        assert mapped.cells.get("MUXF8", 0) == 8 * (candidates // 16)


def test_sparse_weights_of_the_benchmark() -> None:
    engine = chain("2:8", outputs=6)
    w = sparse_weights(engine, 64, np.random.default_rng(0), -127)
    assert ((w != 0).reshape(8, 8, 3, 2).any(3).sum(1) <= 2).all() and (w != 0).any()


class TestNames:
    def test_parse(self) -> None:
        spec = parse_engine("chain:dsp_packed:2:4:1x64x64")
        assert (spec.sparsity, spec.reduce) == ("2:4", 64)
        assert str(spec) == "chain:dsp_packed:2:4:1x64x64"
        assert parse_engine("chain:dsp_packed:8:16").sparsity == "8:16"
        assert parse_engine("chain:dsp_packed:1x8x8").sparsity == "dense"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "chain:dsp_packed:4:2",
                r"keeps 4 of 2 weights: N must be at most M; use chain:dsp_packed:2:4",
            ),
            ("chain:dsp_packed:2:6", "M must be one of 2, 4, 8, 16, not 6"),
            ("chain:dsp_packed:3:4", r"has no sparsity '3:4' .*; use chain:dsp_packed:\d:4"),
            ("tree:dsp_packed:2:4", r"tree:dsp_packed has no sparsity '2:4' \(it has dense\)"),
            ("chain:mac", r"array 'chain' has no PE 'mac' .*; use chain:dsp_packed"),
        ],
    )
    def test_refuses(self, text: str, message: str) -> None:
        with pytest.raises(ValueError, match=message) as error:
            parse_engine(text)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"reduce": 18}, "sparsity 2:4: reduce must be a multiple of 4, not 18"),
            ({"share": 3}, "1 or 2 outputs share their positions, not 3"),
            ({"accumulate": "bram"}, "accumulate must be lut or dsp, not 'bram'"),
            ({"split": 2}, "split must be 1, or 2 or 4 that divides N, with accumulate dsp"),
            ({"split": 2, "accumulate": "dsp", "outputs": 3}, "outputs must be even, not 3"),
            (
                {"split": 2, "accumulate": "dsp", "reduce": 64, "w_bits": 8},
                "2 segments need one chain",
            ),
            ({"share": 1, "adjusted": True}, "weights are adjusted in pairs"),
            ({"x_bits": 16}, "do not share a DSP48E2 exactly"),
        ],
    )
    def test_refuses_parameters(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            chain(**options)

    def test_a_tile_with_too_many_outputs(self) -> None:
        with pytest.raises(ValueError, match="a tile has at most 4 outputs, not 5"):
            chain().pack(np.ones((1, 4)), np.ones((4, 5), np.int64))
