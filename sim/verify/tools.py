# SPDX-License-Identifier: Apache-2.0
"""The programs behind a verification: yosys, ABC and g++, each limited in time, memory and environment."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sim.errors import ToolError
from sim.processes import started

__all__ = ["ToolFailure", "abc", "cxxrtl_include", "run", "run_worker"]

_GIGABYTE = 1 << 30
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "CXX", "CCACHE_DIR", "OPENBLAS_CORETYPE")
"""All of the environment that a tool sees: no keys of anybody's."""


class ToolFailure(ToolError):
    """A tool ended with an error; ``reason`` is its own words."""

    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(f"{tool} failed: {reason}")
        self.reason = reason


def _limits(gigabytes: int) -> None:
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (gigabytes * _GIGABYTE, gigabytes * _GIGABYTE))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * _GIGABYTE, 2 * _GIGABYTE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(
    command: Sequence[str | Path],
    folder: Path,
    *,
    seconds: float,
    log: str,
    extra: Mapping[str, str] | None = None,
    gigabytes: int = 8,
) -> tuple[int | None, str]:
    """Run a program in a folder; its output goes to the file ``log`` there.

    Parameters
    ----------
    extra : variables of its environment, beside the few that every tool gets.
    gigabytes : of addresses that it may use.

    Returns
    -------
    (int or None, str)
        Its exit code, None if it was stopped after ``seconds``; and what it printed.
    """
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
    environment |= extra or {}
    path = folder / log
    with path.open("wb") as output:
        with started(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment, preexec_fn=lambda: _limits(gigabytes),
        ) as process:  # fmt: skip
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                code = None
    return code, path.read_text(encoding="utf-8", errors="replace")


def run_worker(job: dict[str, Any], folder: Path, *, name: str, seconds: float = 300) -> str:
    """Do one job of `sim.verify.worker` in a folder; returns what yosys printed.

    Raises
    ------
    ToolFailure
        If it fails: ``reason`` is yosys's message, one line.
    """
    path = folder / f"{name}.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    worker = Path(__file__).with_name("worker.py")
    code, text = run(
        [sys.executable, worker, path.name], folder, seconds=seconds, log=f"{name}.log"
    )
    if code is None:
        raise ToolFailure("yosys", f"not done in {seconds:.0f} s")
    if code:
        found = re.findall(r"^(?:(\S+:\d+): )?ERROR:\s*(.*(?:\n(?=\s).*)?)", text, re.M)
        place, what = found[-1] if found else ("", _last_line(text))
        raise ToolFailure("yosys", f"{place}: {what}" if place else what)
    return text


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _pyosys() -> Path:
    found = importlib.util.find_spec("pyosys")
    if found is None or found.origin is None:
        raise ToolError("yosys is missing: pip install pyosys (hwgen doctor)")
    return Path(found.origin).parent


def abc(script: str, folder: Path, *, seconds: float, name: str) -> str:
    """What ABC prints for a script; it is stopped after ``seconds``, with what it had printed by then."""
    command = [_pyosys() / "yosys-abc", "-c", script]
    if line_wise := shutil.which("stdbuf"):  # so that what it printed is there when it is stopped
        command = [line_wise, "-oL", *command]
    code, text = run(command, folder, seconds=seconds, log=f"{name}.log")
    if code not in (0, None) and not text.strip():
        raise ToolFailure("yosys-abc", _last_line(text))
    return text


def cxxrtl_include() -> Path:
    """Folder of the headers of yosys's C++ simulator."""
    return _pyosys() / "share" / "include" / "backends" / "cxxrtl" / "runtime"
