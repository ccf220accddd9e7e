# SPDX-License-Identifier: Apache-2.0
"""Golden models drive and judge the units of hwgen: they agree with what is right, and see what is wrong."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import UnusedElaboratable

from benchmarks.verify_grades import ENGINES, UNITS
from generators.engine import EngineRequest, write_engine
from generators.verilog import emit
from hw.memory.buffers import Queue
from hw.unit import Unit
from sim.verify.evaluate import Trace
from sim.verify.references import Reference, find_reference, reference_of, segments
from sim.verify.simulate import build_simulator, record
from sim.verify.stimulus import Stimulus, draw_stimulus, find_streams, followed
from sim.verify.subject import elaborate

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
CYCLES = 400
QUICK = ("requantise", "burst cutter")


def play(
    files: list[Path], top: str, reference: Reference, folder: Path
) -> tuple[Trace, Stimulus, int]:
    """A trace of the ports, what was offered, and where the scenarios begin."""
    subject = elaborate(files, folder / "n", top=top)
    random = np.random.default_rng(1)
    scenarios = [reference.play(random, n, k) for k, n in enumerate(reference.lengths(CYCLES))]
    stimulus = followed(subject, draw_stimulus(subject, CYCLES, 1), scenarios, 1)
    simulator = build_simulator(subject, folder / "s", watch=[p.name for p in subject.ports])
    return record(simulator, stimulus, find_streams(subject)), stimulus, CYCLES


def judged(trace: Trace, reference: Reference) -> tuple[int, list[str]]:
    """Values that were compared, and what was wrong."""
    ports = list(trace.widths.keys() - {"after_reset"})
    outcomes = [reference.compare(s) for s in segments(trace, ports, CYCLES)]
    return sum(o.compared for o in outcomes), [o.note for o in outcomes if o.wrong is not None]


def written(unit: Unit, folder: Path, *change: str) -> tuple[list[Path], str]:
    """Verilog of a unit, in which ``change[0]`` has become ``change[1]``."""
    emission, files = emit(unit), []
    for name, text in emission.files.values():
        if change and name.startswith(emission.top):
            assert change[0] in text
            text = text.replace(change[0], change[1])
        (folder / name).write_text(text)
        files.append(folder / name)
    return files, emission.top


def known(unit: Unit) -> Reference:
    reference = reference_of(unit)
    assert reference is not None
    return reference


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.slow) for n in UNITS if n not in QUICK)]
)
def test_unit_agrees(name, tmp_path):
    unit = UNITS[name]()
    files, top = written(unit, tmp_path)
    trace, _, _ = play(files, top, known(unit), tmp_path)
    compared, wrong = judged(trace, known(unit))
    assert compared > 50 and not wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_engine_agrees(name, tmp_path):
    """By the manifest of its output."""
    request = EngineRequest(ENGINES[name], x_bits=4, w_bits=4, k=8)
    facts = write_engine(request, tmp_path / "e")
    reference = find_reference(tmp_path / "e" / "rtl", facts["top"])
    assert reference is not None
    files = sorted((tmp_path / "e" / "rtl").iterdir())
    trace, _, _ = play(files, facts["top"], reference, tmp_path)
    compared, wrong = judged(trace, reference)
    assert compared > 50 and not wrong


WRONG = {
    "requantise": ("33'(acc) + 33'(bias)", "33'(acc) + 33'(bias) + 33'sd1"),
    "gated product": ("up_1 * u_1", "up_1 * {u_1[15:1], 1'b0}"),
    "ring memory": ("if (rd_en) word", "word"),
}


@pytest.mark.parametrize(
    "name", [n if n == "requantise" else pytest.param(n, marks=pytest.mark.slow) for n in WRONG]
)
def test_sees_what_is_wrong(name, tmp_path):
    unit = UNITS[name]()
    files, top = written(unit, tmp_path, *WRONG[name])
    trace, _, _ = play(files, top, known(unit), tmp_path)
    _, wrong = judged(trace, known(unit))
    assert wrong and "the golden model says" in wrong[0]


def test_nothing_offered_is_left_out(tmp_path):
    """What waits at a stream does not swallow what its source wants to offer next."""
    unit = Queue(bits=8, depth=2)
    files, top = written(unit, tmp_path)
    trace, stimulus, start = play(files, top, known(unit), tmp_path)
    column = stimulus.names.index("i__payload")
    valid, waited = stimulus.names.index("i__valid"), False
    for segment in segments(trace, ["i__valid", "i__ready", "i__payload"], start):
        moved = segment.bits("i__valid") & segment.bits("i__ready")
        if segment.planned:
            waited |= bool((segment.bits("i__valid") & ~segment.bits("i__ready")).any())
            stop = segment.start + segment.cycles
            offered = stimulus.words[segment.start : stop]
            wanted = offered[offered[:, valid] == 1][:, column]
            taken = segment.values["i__payload"][moved]
            np.testing.assert_array_equal(taken, wanted[: len(taken)])
            assert len(taken) > 10
    assert waited


def test_only_what_a_manifest_lists(tmp_path):
    unit = UNITS["requantise"]()
    entry = {"name": unit.module_name, **(unit.origin or {})}
    note = tmp_path / "design.json"

    def found(**change: object) -> Reference | None:
        note.write_text(json.dumps({"modules": [entry | change]}))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnusedElaboratable)
            return find_reference(tmp_path / "rtl", unit.module_name)

    assert type(found()) is type(reference_of(unit))
    assert found(name="other") is None
    assert found(unit="os.system") is None
    assert found(arguments={"lanes": 3, "acc_bits": 16, "tag_bits": 2}) is None  # of another module
    assert found(arguments={"lanes": 0}) is None
    note.write_text("{")
    assert find_reference(tmp_path / "rtl", unit.module_name) is None
