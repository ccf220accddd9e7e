# SPDX-License-Identifier: Apache-2.0
"""Traces: every tile is a piece of one product, in the engine's order."""

import numpy as np
import pytest

from designs.cards import ModelCard
from designs.errors import DesignError
from generators.quantise import random_quantised
from sim.operands import Operand, observe_operands
from sim.traces import Tile, Trace, model_trace, random_trace

CARD = ModelCard(name="mine", layers=1, width=16, heads=2, ffn=64, vocabulary=50, context=12)


def counted(n: int, k: int, m: int, lengths: list[int], outputs: list[int]) -> Operand:
    """A product of which every number tells its place."""
    rows = np.arange(n * k).reshape(n, k) + 1
    rows[np.arange(k) >= np.array(lengths)[:, None]] = 0
    columns = -(np.arange(k * m).reshape(k, m) + 1)
    return Operand(
        0,
        "test",
        rows.astype(np.int8),
        columns.astype(np.int8),
        np.array(lengths),
        np.array(outputs),
    )


class TestModelTrace:
    @pytest.mark.parametrize("tile", [Tile(), Tile(2, 4, 3), Tile(5, 16, 16)])
    def test_tiles_are_products(self, tile: Tile) -> None:
        """Accumulating a tile gives the product of its rows and columns."""
        operands: list[Operand] = []
        observe_operands(random_quantised(CARD, 1), list(range(12)), operands.append)
        trace = model_trace(operands, tile, cycles=100, streams=8, seed=3)
        products = [o.rows.astype(int) @ o.columns.astype(int) for o in operands]
        known = {int(v) for product in products for v in product.reshape(-1)} | {0}
        tiles = 0
        for stream in range(8):
            assert trace.first[0, stream]
            total = np.zeros((tile.tokens, tile.outputs), int)
            for cycle in range(100):
                x = trace.x[cycle, stream].reshape(tile.tokens, tile.reduce).astype(int)
                w = trace.w[cycle, stream].reshape(tile.outputs, tile.reduce).astype(int)
                total = x @ w.T + (0 if trace.first[cycle, stream] else total)
                if trace.last[cycle, stream]:
                    tiles += 1
                    assert {int(v) for v in total.reshape(-1)} <= known
                    assert cycle == 99 or trace.first[cycle + 1, stream]
        assert tiles > 20

    def test_order_and_padding(self) -> None:
        operand = counted(3, 5, 2, [5, 5, 5], [2, 2, 2])
        trace = model_trace([operand], Tile(2, 4, 3), cycles=2, streams=20)
        found = {tuple(trace.x[0, s]): trace.x[1, s].tolist() for s in range(20)}
        assert found[1, 2, 3, 4, 6, 7, 8, 9] == [5, 0, 0, 0, 10, 0, 0, 0]
        assert found[11, 12, 13, 14, 0, 0, 0, 0] == [15, 0, 0, 0, 0, 0, 0, 0]
        assert trace.w[0, 0].tolist() == [-1, -3, -5, -7, -2, -4, -6, -8, 0, 0, 0, 0]
        assert trace.w[1, 0].tolist() == [-9, 0, 0, 0, -10, 0, 0, 0, 0, 0, 0, 0]

    def test_what_causality_hides_is_not_played(self) -> None:
        operand = counted(4, 4, 4, [1, 2, 3, 4], [1, 2, 3, 4])
        trace = model_trace([operand], Tile(), cycles=1, streams=500)
        pairs = set(zip(trace.x[0, :, 0].tolist(), trace.w[0, :, 0].tolist(), strict=True))
        assert pairs == {(4 * i + 1, -(j + 1)) for i in range(4) for j in range(i + 1)}

    def test_is_reproducible(self) -> None:
        operand = counted(4, 4, 4, [4] * 4, [4] * 4)
        one, same, other = (
            model_trace([operand], Tile(), cycles=9, streams=9, seed=seed) for seed in (1, 1, 2)
        )
        np.testing.assert_array_equal(one.x, same.x)
        assert (one.x != other.x).any()


class TestRandomTrace:
    @pytest.mark.parametrize(("deviation", "measured"), [(10, 10), (30, 30), (None, 73.9)])
    def test_distribution(self, deviation: float | None, measured: float) -> None:
        trace: Trace = random_trace(deviation, Tile(2, 8, 4), cycles=128, streams=64, beats=16)
        for side in (trace.x, trace.w):
            assert side.astype(float).mean() == pytest.approx(0, abs=1)
            assert side.astype(float).std() == pytest.approx(measured, rel=0.03)
        assert np.flatnonzero(trace.first[:, 5]).tolist() == list(range(0, 128, 16))
        assert np.flatnonzero(trace.last[:, 5]).tolist() == list(range(15, 128, 16))
        assert trace.description.startswith("uniform" if deviation is None else f"N(0,{deviation})")


def test_refuses() -> None:
    with pytest.raises(DesignError, match="there are no operands to trace"):
        model_trace([], Tile(), cycles=1, streams=1)
    with pytest.raises(DesignError, match="a tile has at least 1x1x1, not 1x0x1"):
        Tile(1, 0, 1)
