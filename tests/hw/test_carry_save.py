# SPDX-License-Identifier: Apache-2.0
"""Arrays of opt1 and opt2: the table of test_arrays.py, in a build of their own."""

from pathlib import Path

import pytest

from tests.bench import run_bench
from tests.hw.cocotb_arrays import share


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_simulation(every: int, tmp_path: Path) -> None:
    run_bench(
        share("carry_save", every), "cocotb_arrays", tmp_path,
        extra_env={"HWGEN_PES": "carry_save", "HWGEN_EVERY": str(every)},
    )  # fmt: skip
