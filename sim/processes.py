# SPDX-License-Identifier: Apache-2.0
"""Programs that hwgen starts: each in its own process group; none outlives an interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sim.errors import ToolError

__all__ = ["Command", "run_all", "started"]


@contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A running program; it and its children are dead when the ``with`` is left."""
    process = subprocess.Popen([str(part) for part in command], start_new_session=True, **options)
    try:
        yield process
    finally:
        _kill(process)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def _kill(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass(frozen=True)
class Command:
    """One call of a compiler: what to start, and what people call it."""

    name: str
    arguments: Sequence[str]


def run_all(
    commands: Sequence[Command],
    *,
    folder: Path,
    log: Path,
    jobs: int = 1,
    environment: Mapping[str, str] | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> None:
    """Run commands, ``jobs`` at a time, in the order given; all output goes to the end of ``log``.

    Raises
    ------
    ToolError
        If one of them fails: with its last words, and where the log is. The others are stopped.
    """
    waiting, running, done = list(commands), [], 0
    with log.open("ab") as output:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    command = waiting.pop(0)
                    running.append((command, _start(command, folder, output, environment)))
                time.sleep(0.01)
                for entry in [item for item in running if item[1].poll() is not None]:
                    running.remove(entry)
                    command, process = entry
                    if process.returncode:
                        raise ToolError(
                            f"{command.name} failed: {_last_words(log)} (all of it: {log})"
                        )
                    done += 1
                    on_done(done)
        finally:
            for _, process in running:
                _kill(process)


def _start(
    command: Command, folder: Path, output: IO[bytes], environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    output.write(f"$ {' '.join(command.arguments)}\n".encode())
    output.flush()
    return subprocess.Popen(
        list(command.arguments),
        cwd=folder,
        env=None if environment is None else dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if "error" in line.lower() and not line.startswith("$ ")]
    return (errors or lines or ["it said nothing"])[0 if errors else -1].strip()[:300]
