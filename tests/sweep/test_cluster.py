# SPDX-License-Identifier: Apache-2.0
"""Sweeps on a real Dask scheduler with real workers, one of which is killed; and on a batch system."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from generators.sweep.spec import Candidate
from hwgen.workers import open_workers
from sim.errors import ToolError

dask = pytest.importorskip("dask")
pytest.importorskip("dask_jobqueue")
pytest.importorskip("distributed")
ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    # Of dask: sockets and event loops that end with their scheduler.
    pytest.mark.filterwarnings("ignore"),
]


def cost_job(prompt: int = 4) -> dict[str, object]:
    candidate = asdict(Candidate("sim-small", "tree:mac:1x8x8"))
    return {"kind": "cost", "model": "tiny-gpt2", "candidate": candidate, "prompt": prompt, "context": 8}  # fmt: skip


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of Dask, from the folder of this hwgen."""
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + command[0], *command[1:]],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """The address of a scheduler without workers."""
    note = tmp_path / "scheduler.json"
    with started(
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(note)
    ):  # fmt: skip
        deadline = time.monotonic() + 120
        while not note.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield json.loads(note.read_text())["address"]


def worker(address: str):
    return started(
        "dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", "/tmp"
    )  # fmt: skip


def test_a_lost_worker(scheduler: str) -> None:
    with worker(scheduler) as victim, worker(scheduler):
        with open_workers(scheduler, None) as workers:
            assert scheduler in workers.name
            results = workers.run([cost_job(prompt) for prompt in range(2, 26)])
            first = next(results)
            victim.send_signal(signal.SIGKILL)
            rest = list(results)
    assert sorted(index for index, _ in (first, *rest)) == list(range(24))
    assert all("figures" in result for _, result in rest)


def test_another_version(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker(scheduler):
        monkeypatch.setattr("generators.manifest.fingerprint", lambda *_: {"sources": "other"})
        with pytest.raises(ToolError, match="has another version of hwgen"):
            open_workers(scheduler, None)


def test_no_worker(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwgen.workers.QUEUED", 5.0)
    with pytest.raises(ToolError, match=r"has no worker after 0\.5 s"):
        open_workers(scheduler, None)


SBATCH = """\
#!/bin/sh
# A batch system of one machine: starts the script at once.
for script; do :; done
cp "$script" {folder}/job.sh  # it is gone when we return
PYTHONPATH={root} nohup sh {folder}/job.sh > {folder}/job.log 2>&1 &
echo "Submitted batch job $!"
"""


def test_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sbatch").write_text(SBATCH.format(root=ROOT, folder=tmp_path))
    (tmp_path / "scancel").write_text('#!/bin/sh\nfor job; do :; done\nkill "$job"\n')
    for program in ("sbatch", "scancel"):
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hwgen.workers.QUEUED", 120.0)
    settings = {
        "cores": 1,
        "processes": 1,
        "memory": "1GiB",
        "interface": "lo",
        "death-timeout": 60,
    }
    with dask.config.set({f"jobqueue.slurm.{k}": v for k, v in settings.items()}):
        with open_workers("slurm", 1) as workers:
            found = dict(workers.run([cost_job(), cost_job(5)]))
    assert all("figures" in found[index] for index in range(2))


def test_slurm_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolError, match=r"--scheduler slurm: .*jobqueue\.yaml"):
        open_workers("slurm", 1)
