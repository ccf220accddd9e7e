# SPDX-License-Identifier: Apache-2.0
"""Simulation by yosys's C++ back end: traces of a design, and many mutants of it in one program."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.compiler import find_compiler
from sim.errors import ToolError
from sim.verify.checker import Checker, start_module
from sim.verify.evaluate import Trace, Values
from sim.verify.formal import attachment
from sim.verify.stimulus import PICK, Stimulus, Stream
from sim.verify.subject import Subject
from sim.verify.tools import cxxrtl_include, run, run_worker

__all__ = ["Kill", "Simulator", "build_simulator", "record"]


@dataclass(frozen=True)
class Kill:
    """What happened to a mutant (0 is the design itself).

    Parameters
    ----------
    difference : the first cycle in which an output differs from the design's, or None.
    violated : property -> the first cycle in which it is violated.
    """

    mutant: int
    difference: int | None
    violated: dict[int, int]


@dataclass(frozen=True)
class Simulator:
    """A compiled design.

    Parameters
    ----------
    watch : signals that it can record.
    properties : how many its checker has.
    """

    subject: Subject
    folder: Path
    watch: tuple[str, ...]
    properties: int
    mutants: int

    def run(
        self, stimulus: Stimulus, streams: Sequence[Stream], *, seconds: float = 300,
        enough: int = 0,
    ) -> tuple[list[Kill], Path]:  # fmt: skip
        """Play a stimulus to the design and then to each mutant.

        Parameters
        ----------
        enough : a mutant is played no longer once its outputs differ and one of the first so many
            properties is violated.

        Returns
        -------
        (list of Kill, Path)
            One for the design and each mutant that was played in time; the recorded trace.
        """
        names = [n for n in stimulus.names if n != PICK or self.properties]
        held = [
            (names.index(s.valid), s.ready, [names.index(n) for n in (s.valid, *s.payload)])
            for s in streams if s.into
        ]  # fmt: skip
        subject = self.subject
        lines = [
            f"clock {subject.clock} {subject.edge}",
            f"cycles {stimulus.cycles}",
            f"properties {self.properties}",
            *([f"reset {subject.reset.name} {subject.reset.level}"] if subject.reset else []),
            *([f"mutants hwgen_mutant 0 {self.mutants}"] if self.mutants else []),
            f"enough {enough}",
            *(["asynchronous"] if subject.asynchronous else []),
            *([] if stimulus.paced is None else [f"paced {stimulus.paced}"]),
            *(f"input {name}" for name in names),
            *(
                f"hold {valid} {ready} {' '.join(map(str, inputs))}"
                for valid, ready, inputs in held
            ),
            *(f"compare {port.name}" for port in subject.outputs),
            *(f"watch hwgen_t{k}" for k in range(len(self.watch))),
        ]
        (self.folder / "config").write_text("\n".join(lines) + "\n")
        words = stimulus.words
        if PICK in stimulus.names and PICK not in names:
            words = np.delete(words, _column_of(stimulus, subject, PICK), axis=1)
        (self.folder / "stimulus").write_bytes(np.ascontiguousarray(words).tobytes())
        code, text = run(
            [self.folder / "driver", "config", "stimulus", "trace"],
            self.folder, seconds=seconds, log="driver.log",
        )  # fmt: skip
        if code not in (0, None):
            raise ToolError(f"the simulation of {subject.top} failed: {text.strip()[-200:]}")
        return [
            _kill(line) for line in text.splitlines() if line[:1].isdigit()
        ], self.folder / "trace"


def _column_of(stimulus: Stimulus, subject: Subject, name: str) -> int:
    widths = {p.name: p.width for p in subject.ports} | {PICK: 1}
    at = 0
    for column in stimulus.names:
        if column == name:
            return at
        at += -(-widths[column] // 32)
    raise ValueError(name)


def _kill(line: str) -> Kill:
    mutant, difference, _, *violated = line.split()
    pairs = (entry.split(":") for entry in violated)
    first = int(difference)
    return Kill(int(mutant), None if first < 0 else first, {int(k): int(t) for k, t in pairs})


def build_simulator(
    subject: Subject, folder: Path, *, watch: Sequence[str] = (), checker: Checker | None = None,
    design: Path | None = None, mutants: int = 0,
) -> Simulator:  # fmt: skip
    """Compile a design, perhaps with a checker, perhaps with mutants in it.

    Parameters
    ----------
    design : netlist to take instead of the subject's; has an input ``hwgen_mutant`` if there are mutants.

    Raises
    ------
    ToolError
        If there is no C++ compiler, or it fails.
    """
    compiler = find_compiler("the simulator of a design")
    folder.mkdir(parents=True, exist_ok=True)
    job = {
        "job": "cxxrtl", "design": str((subject.folder / "flat.il").resolve()), "checker": None,
        "clock": subject.clock, "edge": subject.edge, "watch": list(watch), "output": "design.cc",
        "keep_outputs": True,
    }  # fmt: skip
    if checker is not None:
        (folder / "checker.v").write_text(checker.text)
        (folder / "start.v").write_text(start_module(subject.edge))
        job |= attachment(subject, checker) | {
            "checker": "checker.v", "formal": False, "outputs": ["bad", "hit"],
        }  # fmt: skip
    if design is not None:
        job["design"] = str(design.resolve())
    run_worker(job, folder, name="cxxrtl")
    shutil.copy(Path(__file__).with_name("driver.cc"), folder / "driver.cc")
    command = [
        compiler,
        "-std=c++17",
        "-O1",
        "-w",
        "-DCXXRTL_NDEBUG",  # a read beyond an array is 0, as in Verilator; it does not end the process
        f"-I{cxxrtl_include()}",
        "driver.cc",
        "-o",
        "driver",
    ]
    code, text = run(command, folder, seconds=600, log="compile.log")
    if code:
        raise ToolError(
            f"{compiler} failed: {text.strip()[-200:]} (all of it: {folder / 'compile.log'})"
        )
    count = len(checker.properties) if checker else 0
    return Simulator(subject, folder, tuple(watch), count, mutants)


def record(simulator: Simulator, stimulus: Stimulus, streams: Sequence[Stream]) -> Trace:
    """Play a stimulus to the design alone and return what it watches."""
    _, path = simulator.run(stimulus, streams)
    subject = simulator.subject
    known = {p.name: p.width for p in subject.ports}
    widths = [known.get(n) or subject.signals[n].width for n in simulator.watch]
    raw = np.fromfile(path, dtype="<u4").reshape(stimulus.cycles, -1)
    values: dict[str, Values] = {}
    at = 0
    for name, width in zip(simulator.watch, widths, strict=True):
        count = -(-width // 32)
        values[name] = _joined(raw[:, at : at + count], width)
        at += count
    pick = stimulus.words[:, _column_of(stimulus, subject, PICK)].astype(bool)
    reset = np.zeros(stimulus.cycles, dtype=bool)
    if subject.reset:
        column = stimulus.words[:, _column_of(stimulus, subject, subject.reset.name)]
        reset = column == subject.reset.level
    return Trace(values, dict(zip(simulator.watch, widths, strict=True)), reset, pick)


def _joined(words: np.ndarray, width: int) -> Values:
    if width <= 63:
        value = np.zeros(len(words), dtype=np.uint64)
        for k in range(words.shape[1]):
            value |= words[:, k].astype(np.uint64) << np.uint64(32 * k)
        return value
    wide = np.zeros(len(words), dtype=object)
    for k in range(words.shape[1]):
        wide |= words[:, k].astype(object) << (32 * k)
    return wide
