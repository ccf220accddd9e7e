# SPDX-License-Identifier: Apache-2.0
"""Sweeps from end to end: any number of workers, killed workers, killed masters, other folders."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest

from designs.errors import DesignError
from designs.progress import SilentProgress
from generators.files import locked
from generators.sweep.spec import Candidate, load_spec
from hwgen import cli, jobs
from hwgen.sweep import sweep
from hwgen.workers import LocalWorkers, open_workers
from sim.errors import ToolError

ROOT = Path(__file__).parents[2]
SPEC = """\
model: tiny-gpt2
space:
  target: sim-small
  engine: [tree:mac, cube:opt1]
  tokens: {from: 1, to: 8}
  lanes: 8
  weights: [int8, int4]
measure: {prompt: 4, context: 8}
objectives: [decode, lut]
limits: {lut: 36000}
search: {points: 6, batch: 2, seed: 3}
"""
POINTS = 6


class Inline:
    """Does jobs itself, the last one first."""

    name = "inline"

    def __init__(self):
        self.done = 0

    def run(self, work):
        for index in reversed(range(len(work))):
            self.done += 1
            yield index, jobs.run(work[index])


class Dying(Inline):
    """Is interrupted after a few jobs."""

    def __init__(self, jobs_left):
        super().__init__()
        self.left = jobs_left

    def run(self, work):
        for item in super().run(work):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield item


def spec_of(folder: Path, text: str = SPEC):
    path = folder / "spec.yaml"
    path.write_text(text)
    return load_spec(path)


def run(spec, out: Path, workers=None):
    sweep(spec, out, workers or Inline(), SilentProgress())
    return (out / "sweep.json").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a sweep that nobody disturbed."""
    out = tmp_path_factory.mktemp("sweep") / "whole"
    run(spec_of(out.parent), out)
    return out


def test_what_a_sweep_writes(folder):
    found = json.loads((folder / "sweep.json").read_text())
    names = [d["name"] for d in found["designs"]]
    assert len(names) == len(set(names)) == POINTS
    good = [d for d in found["designs"] if not d["reason"]]
    assert all(d["figures"]["lut"] <= 36000 for d in good)
    assert any("exceeds the limit" in d["reason"] for d in found["designs"])
    best = [d for d in good if d["best"]]
    assert best
    for d in best:
        assert not any(
            o["figures"]["decode"] < d["figures"]["decode"]
            and o["figures"]["lut"] < d["figures"]["lut"]
            for o in good
        )
    page = (folder / "sweep.html").read_text()
    assert "<svg" in page and "http" not in page and "<script" not in page
    assert all(d["build"] in page for d in found["designs"])
    assert (folder / "pareto-decode-lut.svg").read_text().count("<circle") == len(good)


def test_a_broken_off_sweep_ends_like_one_that_was_not(folder, tmp_path):
    spec, whole = spec_of(tmp_path), (folder / "sweep.json").read_bytes()
    dying = Dying(4)
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "parts", dying)
    rest = Inline()
    assert run(spec, tmp_path / "parts", rest) == whole
    assert rest.done == POINTS - 4
    again = Inline()
    assert run(spec, tmp_path / "parts", again) == whole
    assert again.done == 0


def test_more_points_may_be_asked_for_and_nothing_else(tmp_path):
    run(spec_of(tmp_path, SPEC.replace("points: 6", "points: 2")), tmp_path / "out")
    more = Inline()
    run(spec_of(tmp_path, SPEC.replace("points: 6", "points: 3")), tmp_path / "out", more)
    assert more.done == 1
    with pytest.raises(DesignError, match=r"is of another sweep: measure was .*; give another"):
        run(spec_of(tmp_path, SPEC.replace("prompt: 4", "prompt: 5")), tmp_path / "out")


def test_folders_of_others_are_left_alone(tmp_path, monkeypatch):
    spec = spec_of(tmp_path, SPEC.replace("points: 6", "points: 1"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with pytest.raises(DesignError, match="is not of a sweep"):
        run(spec, other)
    (other / "sweep.db").write_text("mine, too" * 200)
    with pytest.raises(DesignError, match="is not the file of a sweep"):
        run(spec, other)
    with pytest.raises(DesignError, match="exists and is not a folder"):
        run(spec, other / "thesis.tex")
    with locked(tmp_path / "busy"), pytest.raises(DesignError, match="by another hwgen"):
        run(spec, tmp_path / "busy")
    run(spec, tmp_path / "out")
    monkeypatch.setattr(jobs, "sources", lambda: "other")
    with pytest.raises(DesignError, match="another version of hwgen"):
        run(spec, tmp_path / "out")


def test_a_design_that_fails_does_not_end_the_sweep(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("generators.sweep.cost.evaluate", fail)
    found = json.loads(
        run(spec_of(tmp_path, SPEC.replace("points: 6", "points: 2")), tmp_path / "out")
    )
    assert {d["reason"] for d in found["designs"]} == {"failed: ZeroDivisionError: by zero"}


CONFIRM = "confirm: {candidates: 2, layers: 1, limit: 60}\n"


def test_the_best_are_checked_once(tmp_path, monkeypatch):
    """Jobs of checks stand in for yosys and the simulator here; the slow test below has the real ones."""
    asked = []

    def synth(job):
        asked.append(("synth", job["candidate"]["engine"], job["limit"]))
        if sum(kind == "synth" for kind, *_ in asked) == 1:
            raise MemoryError("too large")
        return {
            "lut": 77777,
            "ff": 1,
            "dsp": 2,
            "bram": 3,
            "uram": 0,
            "unfinished": [],
            "seconds": 1.0,
        }

    def simulate(job):
        asked.append(("sim", job["candidate"]["engine"], job["layers"]))
        return {
            "layers": 1,
            "prefill_cycles": 44444,
            "decode_cycles": 5,
            "identical": True,
            "mismatch": None,
        }

    monkeypatch.setattr(jobs, "_synth", synth)
    monkeypatch.setattr(jobs, "_sim", simulate)
    spec = spec_of(tmp_path, SPEC + CONFIRM)
    found = json.loads(run(spec, tmp_path / "out"))
    best = [d for d in found["designs"] if d["best"]]
    assert len(best) >= 2
    assert len(asked) == 4  # both checks of two designs, of which one failed
    checked = [d for d in best if d["sim"]]
    assert len(checked) == 2
    assert sorted("failed" in d["synth"] for d in checked) == [False, True]
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "77,777" in page and "44,444" in page and "MemoryError: too large" in page
    # What failed is tried again, and nothing else.
    found = json.loads(run(spec, tmp_path / "out"))
    assert len(asked) == 5 and asked[-1][0] == "synth"
    assert not any("failed" in (d["synth"] or {}) for d in found["designs"])
    # Other options are other checks.
    run(spec_of(tmp_path, SPEC + CONFIRM.replace("limit: 60", "limit: 61")), tmp_path / "out")
    assert [kind for kind, *_ in asked[5:]] == ["synth", "synth"]


def test_rtl_that_differs_is_an_exit_code(tmp_path, monkeypatch, capsys):
    def simulate(job):
        return {
            "layers": 1,
            "prefill_cycles": 4,
            "decode_cycles": 5,
            "identical": False,
            "mismatch": "y[3] is 4",
        }

    monkeypatch.setattr(jobs, "_sim", simulate)
    monkeypatch.setattr("hwgen.workers.open_workers", lambda *_: nullcontext(Inline()))
    path = tmp_path / "spec.yaml"
    path.write_text(
        SPEC.replace("points: 6", "points: 2") + "confirm: {candidates: 1, synth: false}\n"
    )
    assert cli.run(["sweep", str(path), "-o", str(tmp_path / "out")]) == 1
    shown = capsys.readouterr()
    assert "differs: y[3] is 4" in shown.out
    assert "differs from the golden model" in shown.err


@pytest.mark.slow
def test_the_best_are_synthesised_and_simulated(tmp_path):
    text = SPEC.replace("points: 6", "points: 1").replace("sim-small", "ecp5-85k")
    spec = spec_of(
        tmp_path, text.replace("limits: {lut: 36000}\n", "") + "confirm: {candidates: 1}\n"
    )
    found = json.loads(run(spec, tmp_path / "out"))
    (design,) = found["designs"]
    assert design["sim"]["identical"] is True
    assert design["sim"]["prefill_cycles"] > design["sim"]["decode_cycles"] > 0
    assert design["synth"]["unfinished"] == []
    assert design["synth"]["dsp"] == design["figures"]["dsp"]
    assert 0.5 < design["synth"]["lut"] / design["figures"]["lut"] < 2


def cost_job(**more):
    candidate = asdict(Candidate("sim-small", "tree:mac:1x8x8"))
    job = {"kind": "cost", "model": "tiny-gpt2", "candidate": candidate, "prompt": 4, "context": 8}
    return {**job, **more}


def test_the_job_of_a_lost_worker_is_done_by_another_one():
    with LocalWorkers(1) as workers:
        results = workers.run([cost_job(), cost_job(prompt=100, context=128), cost_job()])
        first = next(results)
        (pid,) = workers.pids  # it is at work on the second job
        os.kill(pid, signal.SIGKILL)
        rest = list(results)
        assert pid not in workers.pids
        last = workers.pids
    assert first[0] == 0 and sorted(i for i, _ in rest) == [1, 2]
    assert all("figures" in result for _, result in rest)
    with pytest.raises(ProcessLookupError):
        os.kill(last[0], 0)


@pytest.mark.slow
def test_a_job_that_takes_its_workers_with_it_is_given_up(monkeypatch):
    monkeypatch.setattr("hwgen.workers.LIVES", 1)
    with LocalWorkers(1) as workers:
        results = workers.run([cost_job(prompt=100, context=128), cost_job()])
        assert workers.pids == []
        monkeypatch.setattr("hwgen.workers.wait", _killing(workers))
        found = dict(results)
    assert "failed" in found[0] and "died over it" in found[0]["failed"]
    assert "figures" in found[1]


def _killing(workers):
    """A wait that kills the first worker while it works."""
    from multiprocessing.connection import wait

    victims = []

    def killing(pipes):
        if not victims:
            victims.extend(workers.pids)
            os.kill(victims[0], signal.SIGKILL)
        return wait(pipes)

    return killing


def outcomes(database: Path) -> int:
    """Finished designs, as the file says."""
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            query = "select count(*) from trial_user_attributes where key = 'outcome'"
            return connection.execute(query).fetchone()[0]
    except sqlite3.Error:
        return 0


def lives(pid: str) -> bool:
    """Whether a process runs; one that nobody has buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_master_loses_nothing_and_its_workers_end(folder, tmp_path):
    """And two workers, whose jobs end in any order, find what one finds."""
    spec, whole = spec_of(tmp_path), (folder / "sweep.json").read_bytes()
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hwgen", "sweep", str(tmp_path / "spec.yaml"), "-o", str(out)]
    with subprocess.Popen([*command, "--workers", "2"], cwd=ROOT, stdout=subprocess.PIPE) as master:
        deadline = time.monotonic() + 300
        while outcomes(out / "sweep.db") < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        listed = Path(f"/proc/{master.pid}/task/{master.pid}/children").read_text().split()
        master.kill()
    kept = outcomes(out / "sweep.db")
    assert kept >= 3
    assert len(listed) >= 2
    while any(map(lives, listed)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(lives, listed))
    rest = Inline()
    assert run(spec, out, rest) == whole
    assert rest.done == POINTS - kept


def test_schedulers_that_are_not_there(monkeypatch):
    monkeypatch.setattr("hwgen.workers.PATIENCE", 0.5)
    with pytest.raises(ToolError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler answers there"):
        open_workers("tcp://127.0.0.1:9", None)
    with pytest.raises(DesignError, match="is not an address like tcp://host:8786"):
        open_workers("127.0.0.1:9", None)
    with pytest.raises(DesignError, match="--workers is of this machine"):
        open_workers("tcp://127.0.0.1:9", 3)
