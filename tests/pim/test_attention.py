"""Attention on PIM channels alone: every product against numpy."""

from pathlib import Path

from hw.core.pim import PimAttention
from tests.bench import run_bench
from tests.pim.attention_devices import ACC_BITS, DEVICES


def test_products_are_exact(tmp_path: Path) -> None:
    devices = {name: PimAttention(c, ACC_BITS) for name, c in DEVICES.items()}
    quick = ("-MAKEFLAGS", "OPT_FAST=-O0")  # it compiles for longer than it runs
    run_bench(devices, "cocotb_attention", tmp_path, build_args=quick)
