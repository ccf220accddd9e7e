# SPDX-License-Identifier: Apache-2.0
"""What the Vitis project says of each card."""

from dataclasses import replace
from pathlib import Path

import pytest

from designs import target
from designs.errors import DesignError
from generators.export import FLOWS, Options
from generators.export import vitis as flow
from generators.export.project import AcceleratorProject, load


@pytest.fixture
def small(u280: Path) -> AcceleratorProject:
    project = load(u280)
    assert isinstance(project, AcceleratorProject)
    return project


def text(project: AcceleratorProject, name: str, **options: float) -> str:
    found = FLOWS["vitis"].files(project, Options(**options))[name]  # type: ignore[arg-type]
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize("card", ["u280", "u55c", "u50"])
def test_cards_with_hbm(small: AcceleratorProject, card: str) -> None:
    project = replace(small, target=target.load(card))
    link = text(project, "link.cfg")
    assert "sp=hwgen_top_1.m_axi_g00:HBM[0]\nsp=hwgen_top_1.m_axi_g01:HBM[1]\n" in link
    assert "slr=hwgen_top_1:SLR0\n" in link, "a small kernel goes beside the memory"
    assert f"PLATFORM ?= xilinx_{card}_" in text(project, "Makefile")
    assert "pblock" not in text(project, "floorplan.tcl")


def test_each_die_of_the_u250_has_a_memory(small: AcceleratorProject) -> None:
    project = replace(small, target=target.load("u250"))
    link = text(project, "link.cfg")
    assert "m_axi_g01:DDR[1]" in link and "slr=" not in link
    assert "place_on" not in text(project, "floorplan.tcl")


def test_a_kernel_larger_than_a_die(
    small: AcceleratorProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert flow.fits_a_die(small)
    dies = small.target.model_copy(update={"lut_usable": 1000})
    assert not flow.fits_a_die(replace(small, target=dies))
    monkeypatch.setattr(flow, "fits_a_die", lambda project: False)
    assert "slr=" not in text(small, "link.cfg")
    floorplan = text(small, "floorplan.tcl")
    assert "place_on SLR0 [list accelerator/memory accelerator/control_registers]" in floorplan


def test_the_clock(small: AcceleratorProject) -> None:
    assert "kernel_frequency=225\n" in text(small, "link.cfg")
    assert "kernel_frequency=180.5\n" in text(small, "link.cfg", clock_mhz=180.5)


def test_more_memory_than_a_channel_has(small: AcceleratorProject) -> None:
    memory = small.target.memory.model_copy(update={"bytes_per_port": 4096})
    project = replace(small, target=small.target.model_copy(update={"memory": memory}))
    with pytest.raises(DesignError, match=r"needs 2 x [\d,]+ bytes, and the card has 32 x 4,096"):
        FLOWS["vitis"].files(project, Options())
