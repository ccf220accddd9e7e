# SPDX-License-Identifier: Apache-2.0
"""The DSP48E2: its model against the reference in Python, its attributes, and what yosys makes of an instance."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from generators.verilog import emit
from hw.dsp.dsp48e2 import INPUTS, MODEL, Dsp48e2, State, opmode
from tests.bench import ROOT, Bench, run_bench
from tests.hw.cocotb_dsp import SLICES

PINS = dict.fromkeys(INPUTS, 0)


def test_model_equals_the_reference(tmp_path: Path) -> None:
    run_bench(SLICES, "cocotb_dsp", tmp_path, models=[MODEL])


@pytest.mark.vendor
@pytest.mark.skipif(
    not (os.environ.get("HWGEN_UNISIM") and shutil.which("iverilog")),
    reason="HWGEN_UNISIM (folder of the vendor's unisims and glbl.v) and iverilog are needed",
)
def test_reference_equals_the_vendor(tmp_path: Path) -> None:
    """The same vectors on the vendor's own ``DSP48E2.v``."""
    from cocotb_tools.runner import get_runner

    folder = Path(os.environ["HWGEN_UNISIM"])
    glbl = next(p for p in (folder / "glbl.v", folder.parent / "glbl.v") if p.is_file())
    emission, sources = emit(Bench(SLICES)), [folder / "DSP48E2.v", glbl]
    for name, text in emission.files.values():
        sources.append(tmp_path / name)
        sources[-1].write_text(text)
    runner = get_runner("icarus")
    runner.build(
        sources=sources, hdl_toplevel=emission.top, build_dir=tmp_path, build_args=["-s", "glbl"],
        timescale=("1ns", "1ps"), always=True,
    )  # fmt: skip
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent), *sys.path])
    runner.test(
        hdl_toplevel=emission.top, test_module="cocotb_dsp", build_dir=tmp_path, test_dir=tmp_path,
        extra_env={"PYTHONPATH": path},
    )  # fmt: skip


def played(cell: Dsp48e2, cycles: list[dict[str, int]]) -> list[int]:
    """P in each cycle; enables are high, other pins low unless named."""
    enables = {port: 1 for port in INPUTS if port.startswith("CE")}
    state, found = State(cell), []
    for pins in cycles:
        outputs, state = state.step(PINS | enables | pins)
        found.append(outputs["P"])
    return found


class TestReference:
    def test_multiplies_after_its_latency(self) -> None:
        cell = Dsp48e2()
        pins = {"A": 7, "B": -5 & 0x3FFFF, "OPMODE": opmode()}
        found = played(cell, [pins] * 5)
        assert cell.latency == 3 and found[:3] == [0, 0, 0] and found[3] == -35 & (1 << 48) - 1

    def test_adds_before_it_multiplies(self) -> None:
        """A + D, then by B, whose second register balances that of the sum."""
        cell = Dsp48e2(amultsel="AD", breg=2)
        pins = {"A": 1 << 18, "D": 3, "B": 11, "OPMODE": opmode(), "INMODE": 0b00100}
        assert cell.latency == 4 and played(cell, [pins] * 6)[5] == (11 << 18) + 33

    def test_starts_with_a_constant_and_accumulates(self) -> None:
        cell = Dsp48e2(rnd=1000, opmodereg=0)
        modes = [opmode(w="RND")] * 4 + [opmode(w="P")] * 3
        found = played(cell, [{"A": 2, "B": 3, "OPMODE": mode} for mode in modes])
        assert found[4:] == [1006, 1012, 1018]

    @pytest.mark.parametrize(
        ("pins", "message"),
        [({"OPMODE": 1}, "OPMODE 000000001 is not modelled"), ({"ALUMODE": 4}, "ALUMODE 0100")],
    )
    def test_refuses_what_it_does_not_model(self, pins: dict[str, int], message: str) -> None:
        cell = Dsp48e2(opmodereg=0, alumodereg=0)
        with pytest.raises(ValueError, match=message):
            played(cell, [pins])


class TestAttributes:
    @pytest.mark.parametrize(
        ("attributes", "message"),
        [
            ({"areg": 3}, "AREG must be one of 0, 1, 2, not 3"),
            ({"mreg": 2}, "MREG must be one of 0, 1, not 2"),
            ({"amultsel": "D"}, "AMULTSEL must be one of A, AD, not 'D'"),
            ({"areg": 1, "acascreg": 2}, "ACASCREG must be one of 1, not 2"),
            ({"rnd": 1 << 48}, "RND must be 48 bits"),
            ({"use_mult": "NONE"}, "MREG must be 0 where USE_MULT is NONE"),
        ],
    )
    def test_refuses(self, attributes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Dsp48e2(**attributes)

    def test_refuses_an_unknown_port(self) -> None:
        with pytest.raises(ValueError, match="a DSP48E2 has no port 'Q'"):
            Dsp48e2().instance("x", Q="q")


def test_yosys_keeps_it_a_black_box(tmp_path: Path) -> None:
    """Without the model, synthesis leaves every slice as it is, and adds nothing around it."""
    emission = emit(Bench(SLICES))
    script = []
    for name, text in emission.files.values():
        (tmp_path / name).write_text(text)
        script.append(f"read_verilog -sv {name}")
    script += [
        f"synth_xilinx -family xcup -flatten -noiopad -noclkbuf -top {emission.top}",
        f"select -assert-count {len(SLICES)} t:DSP48E2",
        "select -assert-none t:* t:DSP48E2 %d t:$scopeinfo %d",
    ]
    (tmp_path / "s.ys").write_text("\n".join(script) + "\n")
    run = subprocess.run(
        [sys.executable, "-c", "from pyosys import libyosys as y; y.run_pass('script s.ys')"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, (run.stdout + run.stderr)[-2000:]
