# SPDX-License-Identifier: Apache-2.0
"""The benchmarks of packed and sparse products: what they print, and when they fail."""

import pytest

from benchmarks import dsp_packing, sparse_chain
from hw.dsp.packing import weights


def test_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert dsp_packing.main(["--no-rtl"]) == 0
    table = capsys.readouterr().out
    assert table.count("True, False") == len(dsp_packing.LAYOUTS)


def test_a_constant_of_half_the_range_disagrees() -> None:
    packing = weights(2, 8, 8)
    assert not dsp_packing.agree(packing, 8, 1 << 17, 0)
    assert dsp_packing.agree(packing, 8, packing.constant(8), packing.carry(8))


@pytest.mark.slow
def test_a_sparse_chain_in_rtl(capsys: pytest.CaptureFixture[str]) -> None:
    assert sparse_chain.main(["2:4", "--no-synth"]) == 0
    table = capsys.readouterr().out
    assert "all gates met" in table and "1x64x76" in table
    assert sparse_chain.main(["1:4", "--taps", "8", "--no-synth"]) == 1  # a tile has 128 beats
    assert "missed: 1:4: a tile alone 92.1% busy" in capsys.readouterr().out
    assert sparse_chain.main(["2:4", "--k", "64", "--no-synth"]) == 1  # too short to be busy
    assert "missed: 2:4" in capsys.readouterr().out
