# SPDX-License-Identifier: Apache-2.0
"""Designs that are read and simulated once for all tests of verification."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from sim.verify.evaluate import Trace
from sim.verify.simulate import build_simulator, record
from sim.verify.stimulus import Stimulus, Stream, draw_stimulus, find_streams
from sim.verify.subject import Subject, elaborate
from tests.sim.verify import designs


@dataclass(frozen=True)
class Known:
    """A design with a trace of all its signals."""

    subject: Subject
    streams: tuple[Stream, ...]
    stimulus: Stimulus
    trace: Trace


def _known(name: str, text: str, folder: Path) -> Known:
    path = folder / f"{name}.v"
    path.write_text(text)
    subject = elaborate([path], folder / "netlist")
    stimulus, streams = draw_stimulus(subject, 1000, 1), find_streams(subject)
    simulator = build_simulator(subject, folder / "simulator", watch=list(subject.signals))
    return Known(subject, streams, stimulus, record(simulator, stimulus, streams))


@pytest.fixture(scope="session")
def fifo(tmp_path_factory) -> Known:
    """A queue of four bytes."""
    return _known("fifo", designs.FIFO, tmp_path_factory.mktemp("fifo"))


@pytest.fixture(scope="session")
def mac(tmp_path_factory) -> Known:
    """A multiplier that accumulates."""
    return _known("mac", designs.MAC, tmp_path_factory.mktemp("mac"))
