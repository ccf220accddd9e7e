# SPDX-License-Identifier: Apache-2.0
"""The table of clock against area: engines that can be compared, and rows that add up."""

import warnings
from pathlib import Path

import pytest
from amaranth.hdl import UnusedElaboratable

from benchmarks import ecp5
from generators.engine import load_engine, write_engine
from generators.place import PlacedResult, Seed
from generators.synth import Resources


def test_families_are_compared_at_the_same_throughput(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnusedElaboratable)
        made = []
        for number, case in enumerate(ecp5.CASES):
            write_engine(case.request, tmp_path / str(number))
            made.append(load_engine(tmp_path / str(number)))
    assert {engine.macs for engine in made} == {ecp5.PRODUCTS}
    assert len({engine.module_name for engine in made}) == len(ecp5.CASES)
    assert {case.family for case in ecp5.CASES} == {"dense", "bit-weight", "sparse"}
    for family in ("dense", "bit-weight"):  # more registers are more cycles
        trees = [
            engine.latency
            for engine, case in zip(made, ecp5.CASES, strict=True)
            if case.family == family and case.request.spec.startswith("tree")
        ]
        assert trees == sorted(set(trees)) and len(trees) > 1


def test_a_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = PlacedResult(
        top="t", part="p", tool="tool 1", asked_mhz=200, fmax_mhz=125.0, seed=2,
        seeds=(Seed(seed=1, fmax_mhz=100.0), Seed(seed=2, fmax_mhz=125.0)),
        used=Resources(lut=1500, ff=700, dsp=16), available=Resources(lut=9, ff=9, dsp=9),
        harness=Resources(lut=500, ff=300), logic_ns=3, routing_ns=5, path=("a", "b"),
        bitstream_bytes=1, bitstream_sha256="",
    )  # fmt: skip
    asked = []

    def measure(cases, seeds, clock_mhz):
        asked.append((len(cases), list(seeds), clock_mhz))
        yield cases[0], result

    monkeypatch.setattr(ecp5, "measure", measure)
    monkeypatch.setattr("sys.argv", ["ecp5", "--only", "dense", "--seeds", "3"])
    ecp5.main()
    lines = capsys.readouterr().out.splitlines()
    assert asked == [(3, [1, 2, 3], 200.0)]
    assert lines[0] == "p, tool 1, aimed at 200 MHz"
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert len(cells) == ecp5.HEAD[0].count("|") - 1
    # 16 products at 125 MHz are 2 G/s, on 1,000 LUTs of its own.
    assert cells[3:] == ["100.0, 125.0", "125.0", "1,000", "400", "16", "2.00", "2.00"]
