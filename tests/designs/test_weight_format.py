# SPDX-License-Identifier: Apache-2.0
"""What a format holds, what it costs, and how it says what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from designs.errors import DesignError
from designs.weight_format import FACTORS, INT8, SPARSITIES, WeightFormat, least_factors


class TestFormat:
    def test_costs_of_the_reference(self) -> None:
        """Bits of a dense weight as ``sparse_dsp.md`` (section 5) has them, beside the factors' 4/128."""
        factors = 4 / 128
        for sparsity, share, bits in (
            ("dense", None, 4.0), ("2:4", 1, 3.0), ("2:4", 2, 2.5), ("1:4", 1, 1.5), ("1:4", 2, 1.25),
            ("8:16", 1, 3.0),  # one bit an input, not 4 a position
        ):  # fmt: skip
            found = WeightFormat.parse("int4", 128, sparsity, share)
            assert found.bits_per_weight() == pytest.approx(bits + factors), found
        assert INT8.bits_per_weight() == 8
        assert WeightFormat.parse("int8", None, "2:4", 2).bits_per_weight() == 4.5

    @pytest.mark.parametrize(("n", "m"), SPARSITIES)
    def test_a_beat_of_indices_is_whole_bytes(self, n: int, m: int) -> None:
        form = WeightFormat(8, n=n, m=m)
        assert form.index_bits & (form.index_bits - 1) == 0
        assert form.index_bits >= n * (m.bit_length() - 1) or form.index_bits == m

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"bits": 3}, "weights have 4 or 8 bits, not 3"),
            ({"bits": 4, "group": 48}, "a group must be 32, 64 or 128 inputs, not 48"),
            ({"bits": 8, "group": 64}, "int8 weights have no factors"),
            ({"n": 4, "m": 2}, "sparsity 4:2 keeps more than there are"),
            ({"n": 3, "m": 8}, "sparsity 3:8 is not known; known are dense, 2:4"),
            ({"n": 2, "m": 4, "share": 3}, "1 or, if weights are sparse, 2 outputs"),
            ({"share": 2}, "1 or, if weights are sparse, 2 outputs"),
            (
                {"block": 24, "keep": 50},
                "a block has 8, 16, 32, 64 or 128 inputs and outputs, not 24",
            ),
            ({"block": 16}, r"a part of 0\.01 to 0\.99 is kept, not 1; all of them: dense"),
            ({"keep": 50}, r"a part of 0\.01 to 0\.99 is kept, not 0\.5"),
        ],
    )
    def test_refuses(self, values: dict[str, int], message: str) -> None:
        with pytest.raises(DesignError, match=message):
            WeightFormat(**values)


class TestBlocks:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("block16:0.5", WeightFormat(block=16, keep=50)),
            ("block64:.25", WeightFormat(block=64, keep=25)),
            ("2:4+block8:0.29", WeightFormat(n=2, m=4, block=8, keep=29)),
            ("block8:0.3+1:4", WeightFormat(n=1, m=4, block=8, keep=30)),
        ],
    )
    def test_parse(self, text: str, found: WeightFormat) -> None:
        assert WeightFormat.parse("int8", sparsity=text) == found
        assert WeightFormat.parse("int8", sparsity=found.sparsity) == found

    @pytest.mark.parametrize(
        "text", ["block16", "block:0.5", "block16:2", "2:4+", "2:4+1:4", "block8:0.5+block8:0.5"]
    )
    def test_refuses(self, text: str) -> None:
        with pytest.raises(DesignError, match=r"sparsity is dense, or like 2:4, block16:0\.5 or"):
            WeightFormat.parse("int8", sparsity=text)

    def test_costs(self) -> None:
        assert WeightFormat(block=16, keep=25).bits_per_weight() == 2
        assert [WeightFormat(block=16, keep=30).kept_blocks(k) for k in (16, 64, 160)] == [1, 2, 3]
        assert WeightFormat(block=16, keep=30).kept_inputs(160) == 48
        assert INT8.kept_inputs(160) == 160

    def test_check(self) -> None:
        form = WeightFormat(block=8, keep=50)
        weight = np.zeros((32, 20), np.int8)
        weight[[0, 9], 17] = weight[25, 3] = 1
        form.check("q", weight)
        weight[31, 19] = 1
        with pytest.raises(
            DesignError, match=r"q is not block8:0\.5: rows 16 to 23 have 3 blocks .* 2 are kept"
        ):
            form.check("q", weight)
        with pytest.raises(
            DesignError, match="q has 36 inputs: blocks of 8 do not divide them; use"
        ):
            form.check_reduction("q", 36)


class TestCheck:
    def test_least_factors(self) -> None:
        weight = np.zeros((64, 5), np.int8)
        weight[:3, 0] = 7, -14, 21  # 7 * 3 is the most that a factor of 3 reaches
        weight[:2, 1] = 112, -32
        weight[40, 2] = 1
        weight[:2, 3] = 7, 8  # no factor but 1 divides 7, and 8 is more than 7
        weight[5, 4] = 113
        np.testing.assert_array_equal(
            least_factors(weight, 32), [[7, 16, 1, 0, 0], [1, 1, 1, 1, 1]]
        )

    def test_every_product_has_a_factor(self) -> None:
        w4, factor = np.meshgrid(np.arange(-7, 8), np.arange(1, FACTORS + 1))
        weight = np.repeat((w4 * factor).reshape(1, -1), 32, axis=0).astype(np.int8)
        least = least_factors(weight, 32)[0]
        assert (least >= 1).all()
        assert (least <= factor.reshape(-1)).all()
        assert (weight[0] % least == 0).all()

    def test_names_the_row_and_the_block(self) -> None:
        weight = np.zeros((64, 6), np.int8)
        weight[[32, 33], 4] = 100, 99
        form = WeightFormat(4, 32)
        with pytest.raises(DesignError, match=r"fc1: row 4, inputs 32 to 63 are not -7 to 7 times"):
            form.check("fc1", weight)
        weight[33, 4] = 60  # 100 and 60 have 20, but no factor up to 16 that 100 is 7 times of
        with pytest.raises(DesignError, match="row 4"):
            form.check("fc1", weight)
        weight[33, 4] = 0
        with pytest.raises(DesignError, match="row 4"):
            form.check("fc1", weight)  # 100 = 6.25 * 16
        weight[32, 4] = 96
        form.check("fc1", weight)

    def test_sparsity_of_rows_and_pairs(self) -> None:
        weight = np.zeros((16, 4), np.int8)
        weight[[8, 9], 2] = 1
        weight[[8, 10], 3] = 1
        WeightFormat(8, n=2, m=4).check("q", weight)
        with pytest.raises(DesignError, match=r"q is not 2:4: rows 2 and 3 together, block 2"):
            WeightFormat(8, n=2, m=4, share=2).check("q", weight)
        with pytest.raises(DesignError, match=r"q is not 1:4: row 2, block 2 \(inputs 8 to 11\)"):
            WeightFormat(8, n=1, m=4).check("q", weight)

    def test_reduction(self) -> None:
        with pytest.raises(
            DesignError, match="k has 96 inputs: groups of 64 do not divide them; use 32"
        ):
            WeightFormat(4, 64).check_reduction("k", 96)
        with pytest.raises(DesignError, match="k has 40 inputs: 8:16 needs a multiple of 16"):
            WeightFormat(8, n=8, m=16).check_reduction("k", 40)
