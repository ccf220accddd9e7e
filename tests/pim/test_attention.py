# SPDX-License-Identifier: Apache-2.0
"""Attention on PIM channels alone: every product against numpy."""

from pathlib import Path

import pytest

from hw.core.pim import PimAttention
from tests.bench import run_bench
from tests.pim.attention_devices import ACC_BITS, DEVICES


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "join" else [pytest.mark.slow]) for n in DEVICES]
)
def test_products_are_exact(name: str, tmp_path: Path) -> None:
    """Contexts around the ends of banks, of rows of keys and values, of lanes; passes of several tokens."""
    run_bench(
        {"attention": PimAttention(DEVICES[name], ACC_BITS)}, "cocotb_attention", tmp_path,
        extra_env={"DEVICE": name},
        build_args=("-MAKEFLAGS", "OPT_FAST=-O0"),  # it compiles for longer than it runs
    )  # fmt: skip
