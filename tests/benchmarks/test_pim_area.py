# SPDX-License-Identifier: Apache-2.0
"""The model of the array that areas of a bank are compared with."""

import pytest

from benchmarks.pim_area import Array, smallest_flip_flop
from generators.liberty import Liberty
from tests.generators.tiny_library import sg13g2


def test_array() -> None:
    array = Array(rows=1024, page_bits=1000, feature_um=0.1, fill=0.5)
    assert array.bank_um2 == pytest.approx(6 * 0.01 * 1024 * 1000 / 0.5)
    assert array.sense_um2 == pytest.approx(400 * 0.01 * 1000)


def test_flip_flop() -> None:
    name, area = smallest_flip_flop(Liberty.load(sg13g2()))
    assert name == "sg13g2_dfrbp_1" and area == pytest.approx(47.1744)
