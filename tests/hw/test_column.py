"""Digit-serial arrays: the table of cocotb_arrays.py in a build of their own, and what only they have."""

from pathlib import Path

from tests.bench import run_bench
from tests.hw.cocotb_arrays import serial_devices


def test_simulation(tmp_path: Path) -> None:
    run_bench(serial_devices(), "cocotb_arrays", tmp_path, extra_env={"HWGEN_PES": "serial"})
