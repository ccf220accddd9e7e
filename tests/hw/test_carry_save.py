"""Arrays of opt1 and opt2: the table of test_arrays.py, in a build of their own."""

from pathlib import Path

from tests.bench import run_bench
from tests.hw.cocotb_arrays import devices


def test_simulation(tmp_path: Path) -> None:
    run_bench(
        devices(carry_save=True), "cocotb_arrays", tmp_path, extra_env={"HWGEN_PES": "carry_save"}
    )
