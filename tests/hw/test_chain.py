"""Sparse chains: the engine table on both bodies."""

from pathlib import Path

from hw.dsp.dsp48e2 import MODEL
from hw.sparse.select import LUT_MODELS
from tests.bench import run_bench
from tests.hw.cocotb_arrays import chain_devices


def test_both_bodies_in_simulation(tmp_path: Path) -> None:
    """Each keeps the contract, and they drive the same ports to the same values in every cycle."""
    traces = []
    for body, models, arguments in (
        ("slices", [MODEL, LUT_MODELS], ("-DHWGEN_CELLS",)),
        ("plain", [], ()),
    ):
        trace = tmp_path / f"{body}.txt"
        run_bench(
            chain_devices(), "cocotb_arrays", tmp_path / body,
            extra_env={"HWGEN_PES": "chain", "HWGEN_TRACE": str(trace)},
            models=models, build_args=arguments,
        )  # fmt: skip
        traces.append(trace.read_text())
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) == len(chain_devices())
