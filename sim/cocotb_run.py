# SPDX-License-Identifier: Apache-2.0
"""cocotb tests on Verilator, started from Python: build once, run one test module."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from cocotb_tools.runner import Verilator

from sim import verilator

__all__ = ["run"]

BUILD_ARGS = (
    "--no-timing", "--x-assign", "fast", "--assert", "-Wno-fatal", "-Wno-lint", "-Wno-style",
    "--output-split", "20000", "--output-split-cfuncs", "500",
)  # fmt: skip


class _Runner(Verilator):
    """Only the top's signals are public: with all of them, nothing is optimised and g++ takes four times as long."""

    def _build_command(self):
        return [
            [word for word in c if word != "--public-flat-rw"] for c in super()._build_command()
        ]


def run(
    sources: Sequence[Path],
    *,
    top: str,
    test_module: str,
    folder: Path,
    python_path: Sequence[Path] = (),
    extra_env: Mapping[str, str] | None = None,
    build_args: Sequence[str] = (),
    inside: bool = False,
) -> Path:
    """Build ``top`` from ``sources`` in ``folder`` and run every cocotb test of ``test_module``.

    ``inside`` : the tests reach into the instances of the top, whose signals then stay public.

    Returns
    -------
    Path
        The JUnit result file; ``cocotb_tools.check_results`` reads it.

    Raises
    ------
    RuntimeError
        If a test failed (the runner's own message).
    """
    before, path = dict(os.environ), list(sys.path)
    os.environ.update(verilator.environment())
    sys.path[:0] = map(str, python_path)  # the runner hands on sys.path, not PYTHONPATH
    try:
        folder.mkdir(parents=True, exist_ok=True)
        public = folder / "public.vlt"
        public.write_text(f'`verilator_config\npublic_flat_rw -module "{top}" -var "*"\n')
        runner = Verilator() if inside else _Runner()
        runner.build(
            sources=[public, *sources], hdl_toplevel=top, build_dir=folder, always=True,
            build_args=[*BUILD_ARGS, *build_args], log_file=folder / "build.log",
        )  # fmt: skip
        return runner.test(
            hdl_toplevel=top, test_module=test_module, build_dir=folder, test_dir=folder,
            extra_env=dict(extra_env or {}), results_xml=str(folder / "results.xml"),
        )  # fmt: skip
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path
