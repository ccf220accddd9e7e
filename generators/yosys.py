# SPDX-License-Identifier: Apache-2.0
"""Runs of yosys, each a process of its own: yosys prints as it likes and ends on its first error."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

__all__ = ["Run", "SynthesisError", "finished", "read_verilog", "require", "start", "version"]

T = TypeVar("T")


class SynthesisError(Exception):
    """A synthesis tool is missing, or failed; one line."""

    exit_code = 3


def require() -> None:
    """Raise SynthesisError if there is no yosys with ABC."""
    if importlib.util.find_spec("pyosys") is None:
        raise SynthesisError("yosys is missing: pip install pyosys (hwgen doctor)")


def version() -> str:
    """Version of yosys."""
    return importlib.metadata.version("pyosys")


def read_verilog(path: Path, option: str = "") -> str:
    """The command that reads a file; ``-lib`` makes its modules black boxes."""
    dialect = " -sv" if path.suffix == ".sv" else ""
    return f'read_verilog{dialect}{option and " " + option} "{path}"'


@dataclass
class Run(Generic[T]):
    """yosys at work.

    Attributes
    ----------
    task : what it is for
    folder : where it runs; its output is the file ``log`` there
    process : the leader of its process group
    deadline : when it is stopped, on the clock of ``time.monotonic``
    late : whether it was stopped
    """

    task: T
    folder: Path
    process: subprocess.Popen[bytes]
    deadline: float
    late: bool = False

    @property
    def log(self) -> str:
        """All that it printed."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def failure(self) -> str:
        """Why there is no result."""
        errors = re.findall(r"\b(?:ERROR|Error): (.*)", self.log)
        return errors[-1].strip() if errors else "yosys ended without a result"

    def kill(self) -> None:
        """End it and what it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def start(
    task: T, lines: Sequence[str], *, folder: Path, limit: float, then: Sequence[str] = ()
) -> Run[T]:
    """Start yosys on a script in a folder; after it, in the same process, the command ``then``."""
    (folder / "script.ys").write_text("\n".join(lines) + "\n", encoding="utf-8")
    program = (
        "import ctypes, signal; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "  # it ends with us, however we do
        "from pyosys import libyosys as y; y.run_pass('script script.ys')"
    )
    if then:
        program += f"; import os; os.execv({then[0]!r}, {list(then)!r})"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Run(task, folder, process, time.monotonic() + limit)


def finished(waiting: list[T], begin: Callable[[T], Run[T]], jobs: int) -> Iterator[Run[T]]:
    """Begin what waits, ``jobs`` at a time, and yield each run as it ends.

    More may be put into ``waiting`` meanwhile. All are dead when the iterator is closed.
    """
    running: list[Run[T]] = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(begin(waiting.pop(0)))
            for run in list(running):
                working = run.process.poll() is None
                run.late = working and time.monotonic() > run.deadline
                if run.late or not working:
                    run.kill()
                    running.remove(run)
                    yield run
            time.sleep(0.01)
    finally:
        for run in running:
            run.kill()
