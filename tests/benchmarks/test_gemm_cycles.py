# SPDX-License-Identifier: Apache-2.0
"""The formula of a whole product, and the tiles that it counts."""

import numpy as np
import pytest

from benchmarks.gemm_cycles import SHAPES, formula, tiles_of
from benchmarks.scale_sim import Gemm
from hw.arrays import make_engine


@pytest.mark.parametrize("array", SHAPES)
def test_tiles_make_the_product(array: str) -> None:
    tokens, reduce, outputs = SHAPES[array]
    engine = make_engine(array, tokens=tokens, reduce=reduce, outputs=outputs)
    rng = np.random.default_rng(1)
    x, w = rng.integers(-128, 128, (37, 29)), rng.integers(-128, 128, (29, 23))
    rows = -(-37 // tokens)
    sums = [engine.golden(*tile) for tile in tiles_of(engine, x, w)]
    columns = [np.concatenate(sums[n : n + rows]) for n in range(0, len(sums), rows)]
    np.testing.assert_array_equal(np.concatenate(columns, axis=1)[:, :23], x @ w)


def test_formula_counts_what_the_rtl_took() -> None:
    """Figures of a run of the benchmark."""
    for array, gemm, cycles in (
        ("systolic_os", Gemm(16, 16, 256), 291),
        ("systolic_ws", Gemm(50, 70, 40), 786),
        ("tree", Gemm(128, 64, 1024), 32_774),
    ):
        tokens, reduce, outputs = SHAPES[array]
        engine = make_engine(array, tokens=tokens, reduce=reduce, outputs=outputs)
        assert formula(engine, gemm) == cycles
