# SPDX-License-Identifier: Apache-2.0
"""The closed forms against rows that SCALE-Sim 3.0.0 itself printed, and published totals."""

import pytest

from benchmarks.scale_sim import Gemm, Gpt2, output_stationary, total, weight_stationary


@pytest.mark.parametrize(
    ("gemm", "side", "os", "ws"),
    [
        (Gemm(16, 16, 16), 16, 45, 61),
        (Gemm(64, 64, 64), 16, 1503, 1759),
        (Gemm(50, 40, 70), 16, 1199, 1439),
        (Gemm(50, 40, 70), 32, 527, 863),
        (Gemm(128, 128, 128), 32, 3039, 3551),
        (Gemm(128, 64, 128), 128, 381, 509),
    ],
)
def test_equals_the_tool(gemm: Gemm, side: int, os: int, ws: int) -> None:
    assert output_stationary(gemm, side, side) == os
    assert weight_stationary(gemm, side, side) == ws


@pytest.mark.parametrize(
    ("side", "dataflow", "prefill_128", "decode_1024"),
    [
        (128, output_stationary, 3_568_397, 4_767_245),
        (128, weight_stationary, 10_995_287, 10_615_895),
        (32, output_stationary, 42_525_977, 13_953_305),
        (16, weight_stationary, 218_985_247, 74_134_303),
    ],
)
def test_gpt2_medium(side: int, dataflow, prefill_128: int, decode_1024: int) -> None:
    network = Gpt2()
    assert total(network.prefill(128), dataflow, side, side) == prefill_128
    assert total(network.decode(1024), dataflow, side, side) == decode_1024


def test_prefill_1024_of_gpt2_medium() -> None:
    products = Gpt2().prefill(1024)
    assert total(products, output_stationary, 128, 128) == 34_628_237
    assert sum(g.macs for g in products) == pytest.approx(360.8e9, rel=1e-3)
