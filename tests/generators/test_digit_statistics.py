# SPDX-License-Identifier: Apache-2.0
"""Digit statistics against loops over single numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from designs.cards import ModelCard
from designs.errors import DesignError
from generators import digit_statistics
from generators.digit_statistics import Beat, Tally, mean, tally, tally_weights
from generators.quantise import random_quantised
from hw.arith.digits import ENCODINGS, digits

SOME_LANES = {"one": 1, "two": 2, "four": 4}


def cycles_of(
    rows: np.ndarray, beat: Beat, lengths: np.ndarray, encoding: str, lanes: int
) -> list[int]:
    """Cycles of every beat, one number at a time."""
    found = []
    for top in range(0, len(rows), beat.rows):
        group = range(top, min(top + beat.rows, len(rows)))
        for start in range(0, max(lengths[i] for i in group), beat.reduce):
            work = [0] * (beat.rows * lanes)
            for i in group:
                for r in range(min(beat.reduce, rows.shape[1] - start)):
                    number = digits(rows[i, start + r], 8, encoding=encoding)
                    work[(i - top) * lanes + r % lanes] += int(np.count_nonzero(number))
            found.append(max(beat.least, *work))
    return found


class TestTally:
    @settings(max_examples=30, deadline=None)
    @given(
        n=st.integers(1, 7),
        k=st.integers(1, 21),
        beat=st.builds(Beat, st.integers(1, 4), st.sampled_from([4, 8, 16]), st.integers(1, 3)),
        chunk=st.sampled_from([1, 100, 1 << 22]),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_equals_a_loop(self, n: int, k: int, beat: Beat, chunk: int, seed: int) -> None:
        draw = np.random.default_rng(seed)
        rows = np.clip(np.rint(draw.normal(0, draw.choice([1, 60]), (n, k))), -128, 127)
        rows, lengths = rows.astype(np.int8), draw.integers(1, k + 1, n)
        rows[np.arange(k) >= lengths[:, None]] = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(digit_statistics, "_CHUNK", chunk)
            patch.setattr(digit_statistics, "LANES", SOME_LANES)
            found = tally(rows, beat, lengths)
        taken = np.concatenate([row[:end] for row, end in zip(rows, lengths, strict=True)])
        assert found.elements == len(taken)
        assert found.zeros == pytest.approx(np.mean(taken == 0))
        assert found.ones == pytest.approx(np.unpackbits(taken.view(np.uint8)).sum() / len(taken))
        for encoding in ENCODINGS:
            counts = np.count_nonzero(digits(taken, 8, encoding=encoding), axis=1)
            assert found.digits(encoding) == pytest.approx(counts.mean())
            shares = np.bincount(counts, minlength=5) / len(taken)
            assert found.histogram(encoding) == pytest.approx(tuple(shares))
            for lanes in SOME_LANES.values():
                want = cycles_of(rows, beat, lengths, encoding, lanes)
                assert found.beats == len(want)
                assert found.cycles[encoding, lanes] == sum(want)
                each = np.mean(want) / (beat.reduce / lanes)
                assert found.cycles_per_operand(encoding, lanes) == pytest.approx(each)

    def test_all_lengths_if_there_are_none(self) -> None:
        rows = np.random.default_rng(1).integers(-128, 128, (5, 10), np.int8)
        whole, said = tally(rows, Beat(2, 4)), tally(rows, Beat(2, 4), np.full(5, 10))
        assert whole.cycles == said.cycles
        np.testing.assert_array_equal(whole.values, said.values)

    def test_long_lanes_do_not_overflow(self) -> None:
        rows = np.full((1, 4096), 85, np.int8)  # 1 + 4 + 16 + 64
        assert tally(rows, Beat(1, 4096)).cycles["csd", 1] == 4 * 4096

    def test_parts_add_up(self) -> None:
        rows = np.random.default_rng(2).integers(-128, 128, (8, 12), np.int8)
        beat = Beat(2, 8)
        whole, parts = tally(rows, beat), tally(rows[:4], beat) + tally(rows[4:], beat)
        assert (whole.beats, whole.cycles) == (parts.beats, parts.cycles)
        np.testing.assert_array_equal(whole.values, parts.values)
        with pytest.raises(ValueError, match="do not add up"):
            _ = whole + tally(rows, Beat(1, 8))

    def test_mean_is_weighted(self) -> None:
        beat = Beat(1, 4, least=1)
        none, four = (tally(np.full((1, 4), v, np.int8), beat) for v in (0, 85))
        assert mean([(none, 3), (four, 1)], lambda t: t.digits("csd")) == pytest.approx(1.0)
        assert mean([(none, 3), (four, 1)], lambda t: t.cycles_per_operand("csd", 1)) == (
            pytest.approx((3 * 0.25 + 4) / 4)
        )

    @pytest.mark.parametrize(
        ("rows", "reduce", "message"),
        [
            (0, 16, "rows must be at least 1, not 0"),
            (1, 6, "reduce must be a multiple of the 4 lanes of a PE, not 6"),
            (1, 0, "reduce must be a multiple of the 4 lanes of a PE, not 0"),
        ],
    )
    def test_refuses(self, rows: int, reduce: int, message: str) -> None:
        with pytest.raises(DesignError, match=message):
            Beat(rows, reduce)


def test_weights() -> None:
    card = ModelCard(name="mine", layers=2, width=8, heads=2, ffn=24, vocabulary=10, context=16)
    model, beat = random_quantised(card, 0), Beat(3, 4)
    found = tally_weights(model, beat)
    assert list(found)[5:7] == [(0, "fc2"), (1, "k")]
    assert list(found)[-1] == (2, "head")
    assert sum(t.elements for t in found.values()) == 2 * (4 * 64 + 2 * 8 * 24) + 80
    for (layer, name), one in found.items():
        part = model.head if name == "head" else getattr(model.layers[layer], name)
        lengths = np.full(part.weight.shape[1], part.weight.shape[0])
        assert isinstance(one, Tally)
        assert one.cycles["ent", 4] == sum(cycles_of(part.weight.T, beat, lengths, "ent", 4))
