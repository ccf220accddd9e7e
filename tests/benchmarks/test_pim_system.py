# SPDX-License-Identifier: Apache-2.0
"""The benchmark of NPUs with memory that computes, on one point."""

from pathlib import Path

import pytest

from benchmarks import pim_system
from sim.pim.system import DESIGNS


def test_one_point(monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(pim_system, "SIZES", ("gpt3-7b",))
    monkeypatch.setattr(pim_system, "BATCHES", (256,))
    monkeypatch.setattr(pim_system, "DATASETS", {"alpaca": {}})
    pim_system.main(["--only", "ratios", "--draws", "1", "--plot", str(tmp_path)])
    shown = capsys.readouterr().out
    point = ("gpt3-7b", "alpaca", 256, 1)
    a, b = (pim_system.mean_cycles(DESIGNS[name], *point) for name in ("neupims", "improved"))
    assert f"improved over neupims           {a / b:7.2f}" in shown
    assert f"{b:13,.0f}" in shown.splitlines()[-3]
    assert (tmp_path / "pim_alpaca.svg").read_text().count("<rect") == 2 * 5


def test_every_mechanism_can_be_taken_away() -> None:
    designs = [make() for make in pim_system.ABLATIONS.values()]
    assert len({*designs, pim_system.BEST}) == len(designs) + 1
