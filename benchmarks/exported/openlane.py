# SPDX-License-Identifier: Apache-2.0
"""A project of ``--flow openlane``: keys that LibreLane knows, files and ports that exist, RTL that yosys reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.exported.rtl import Rtl

__all__ = ["check"]

_KEYS: dict[str, type | tuple[type, ...]] = {
    "DESIGN_NAME": str, "VERILOG_FILES": list, "VERILOG_DEFINES": list, "CLOCK_PORT": str,
    "CLOCK_PERIOD": (int, float), "FP_CORE_UTIL": (int, float), "PL_TARGET_DENSITY_PCT": (int, float),
}  # fmt: skip
"""Variables that LibreLane 3.0.17 declares (its steps and its flow), with their types; those that we use."""

_SECTIONS = ("pdk::sky130*", "pdk::ihp-sg13g2*")


def check(project: Path, rtl: Rtl) -> Iterator[str]:
    """What is wrong with a project, one sentence each."""
    config: dict[str, Any] = json.loads((project / "config.json").read_text())
    if config.pop("meta", None) != {"version": 2}:
        yield "config.json: meta must say version 2"
    sections = [key for key in config if key.startswith("pdk::")]
    for section in sections:
        if section not in _SECTIONS:
            yield f"config.json: no process {section}"
        yield from _check_keys(config[section], f"{section}: ")
        if not 0.1 <= config[section].get("CLOCK_PERIOD", 0) <= 1000:
            yield f"config.json: {section} needs a CLOCK_PERIOD in ns"
    if not sections:
        yield "config.json: no process has a clock"
    plain = {key: value for key, value in config.items() if key not in sections}
    yield from _check_keys(plain)
    if config.get("DESIGN_NAME") != rtl.top:
        yield f"config.json: the top is {rtl.top}, not {config.get('DESIGN_NAME')}"
    if config.get("CLOCK_PORT") not in rtl.ports:
        yield f"config.json: no port {config.get('CLOCK_PORT')} in the RTL"
    files = [project / name.removeprefix("dir::") for name in config.get("VERILOG_FILES", ())]
    for file in files:
        if not file.is_file():
            yield f"config.json: {file.name} is missing"
    if {file.name for file in files} != {path.name for path in (project / "rtl").iterdir()}:
        yield "config.json: not every file is named"
    yield from _yosys(files, config.get("VERILOG_DEFINES", []), rtl.top)


def _check_keys(values: dict[str, Any], where: str = "") -> Iterator[str]:
    for key, value in values.items():
        if key not in _KEYS:
            yield f"config.json: {where}LibreLane has no variable {key}"
        elif not isinstance(value, _KEYS[key]):
            yield f"config.json: {where}{key} must not be {value!r}"


def _yosys(files: list[Path], defines: list[str], top: str) -> Iterator[str]:
    """Read the files as LibreLane's synthesis does; every module must be there."""
    macros = " ".join(f"-D{name}" for name in defines)
    script = "; ".join(
        [f"read_verilog -sv {macros} {file}" for file in files] + [f"hierarchy -check -top {top}"]
    )
    run = subprocess.run(
        [sys.executable, "-c", f"from pyosys import libyosys as y; y.run_pass({script!r})"],
        capture_output=True, text=True,
    )  # fmt: skip
    if run.returncode:
        errors = [
            line for line in run.stdout.splitlines() + run.stderr.splitlines() if "ERROR" in line
        ]
        yield f"yosys: {errors[0] if errors else run.stderr[-200:]}"
