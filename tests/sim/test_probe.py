# SPDX-License-Identifier: Apache-2.0
"""Probes exist in simulation only."""

from importlib import import_module
from pathlib import Path

import pytest

from hw.probe import Probe


def test_a_synthesiser_sees_an_empty_module(tmp_path: Path) -> None:
    probe = Probe(2, 64)
    path = tmp_path / "probe.sv"
    path.write_text(probe.render())
    libyosys = import_module("pyosys.libyosys")  # made when it is loaded: no types
    design = libyosys.Design()
    libyosys.run_pass(f"tee -q -o {tmp_path}/log read_verilog -sv {path}", design)
    (module,) = design.modules_.values()
    assert module.name.str() == "\\" + probe.module_name == "\\probe_unit2_bits64"
    assert len(module.cells_) == 0 and len(module.processes) == 0


def test_ports_are_those_of_the_signature() -> None:
    probe = Probe(0, 128)
    names = [name for name, _, is_input in probe.ports() if is_input]
    assert names == ["valid", "phase", "layer", "row", "chunk", "data"]
    text = probe.render()
    assert all(f"{name}," in text or f"{name}\n" in text for name in ("clk", "rst", *names))
    assert "hwgen_probe_128(0, " in text


@pytest.mark.parametrize(("unit", "bits"), [(-1, 8), (256, 8), (0, 0), (0, 12)])
def test_wrong_parameters(unit: int, bits: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        Probe(unit, bits)
