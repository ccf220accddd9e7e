# SPDX-License-Identifier: Apache-2.0
"""Arrays of packed products: the table of test_arrays.py on slices and on the plain body, and what synthesis makes."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.slices import map_unit
from generators.verilog import emit
from hw.arrays import make_engine
from hw.dsp.dsp48e2 import MODEL
from hw.dsp.packed_dot import PackedDot
from hw.dsp.packing import weights
from hw.sparse.select import LUT_MODELS
from sim import verilator
from tests.bench import Bench, run_bench
from tests.hw.cocotb_arrays import chain_devices, packed_devices, share

CELLS = ("-DHWGEN_CELLS",)
TABLES = {"packed": packed_devices, "chain": chain_devices}
MODELS = [MODEL, LUT_MODELS]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("table", TABLES)
def test_both_bodies_in_simulation(table: str, every: int, tmp_path: Path) -> None:
    """Each keeps the contract, and they drive the same ports to the same values in every cycle."""
    traces, devices = [], share(table, every)
    for body, models, arguments in (("slices", MODELS, CELLS), ("plain", [], ())):
        trace = tmp_path / f"{body}.txt"
        run_bench(
            devices, "cocotb_arrays", tmp_path / body,
            extra_env={"HWGEN_PES": table, "HWGEN_EVERY": str(every), "HWGEN_TRACE": str(trace)},
            models=models, build_args=arguments,
        )  # fmt: skip
        traces.append(trace.read_text())
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) == len(devices)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("body", ["slices", "plain"])
def test_lint(body: str, table: str, tmp_path: Path) -> None:
    """Neither body has a warning; sizes that only the other one uses are left out of it."""
    emission = emit(Bench(TABLES[table]()))
    files = []
    for name, text in emission.files.values():
        (tmp_path / name).write_text(text)
        files.append(name)
    if body == "slices":
        files = ["-DHWGEN_CELLS", "-Wno-UNUSEDPARAM", "-Wno-PINMISSING", *files, *map(str, MODELS)]
    lint = subprocess.run(
        ["verilator", "--lint-only", "-Wall", "-Wno-fatal", "--top", emission.top, *files],
        env=verilator.environment(), capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert lint.returncode == 0, lint.stderr[:2000]
    ours = [
        n for n in lint.stderr.splitlines() if n.startswith("%Warning") and ".sv:" in n
    ]  # not of the model
    assert not ours, ours[:5]


class TestSynthesis:
    @pytest.mark.parametrize(("elements", "chains"), [(8, (8,)), (17, (6, 6, 5)), (20, (7, 7, 6))])
    def test_every_inner_tap_is_fed_by_the_cascade(
        self, elements: int, chains: tuple[int, ...]
    ) -> None:
        unit = PackedDot(elements=elements, packing=weights(2, 8, 8))
        mapped = map_unit(unit)
        assert mapped.chains == chains
        if len(chains) == 1:
            assert mapped.resources.lut == 0 and mapped.resources.ff == 0

    @pytest.mark.parametrize("array", ["tree", pytest.param("systolic_os", marks=pytest.mark.slow)])
    def test_an_array_takes_what_it_estimates(self, array: str) -> None:
        engine = make_engine(array, "dsp_packed", tokens=2, reduce=16, outputs=8, acc_bits=28)
        mapped, estimate = map_unit(engine), engine.resources()
        assert mapped.resources.dsp == estimate.dsp == 2 * 16 * 8 // 2
        assert 0.6 < mapped.resources.lut / estimate.lut < 1.2
        assert 0.7 < mapped.resources.ff / estimate.ff < 1.2  # some tags become shift registers

    def test_neighbours_that_share_slices_share_an_activation(self) -> None:
        shape: dict[str, Any] = {"tokens": 2, "reduce": 4, "outputs": 8}
        with pytest.raises(
            ValueError, match="hop must be a multiple of the 2 outputs that share a slice, not 3"
        ):
            make_engine("systolic_os", "dsp_packed", **shape, hop=3)
        assert make_engine("systolic_os", "dsp_packed", **shape).resources().dsp == 2 * 4 * 8 // 2
        assert (
            make_engine("systolic_os", "dsp_packed", **shape, w_bits=3).resources().dsp == 2 * 4 * 3
        )
        odd = make_engine("matrix", "dsp_packed", tokens=2, reduce=4, outputs=7)
        assert odd.resources().dsp == 2 * 4 * 4

    def test_dot_refuses(self) -> None:
        with pytest.raises(ValueError, match="elements must be at least 1, not 0"):
            PackedDot(elements=0, packing=weights(2, 8, 8))
