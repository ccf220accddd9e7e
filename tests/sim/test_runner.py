# SPDX-License-Identifier: Apache-2.0
"""The C++ runner on an accelerator in miniature (tests/sim/copier.sv.j2)."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import jinja2
import numpy as np
import pytest

from designs.errors import DesignError
from designs.memory_map import MemoryMap
from hw.probe import Probe
from sim import model as model_module
from sim.built import Built, load
from sim.compare import read_log
from sim.errors import SimulationError, ToolError
from sim.model import compile_model
from sim.package import emit_package
from sim.runner import Event, Job, Outcome, execute

PORT_BYTES = 32
LONG, OUTSIDE, HANG, WLAST, CHANGE, READ_ONLY, ASSERT, RETREAT, OVERTAKE, SILENT = range(1, 11)

MAP = MemoryMap(
    ports=2,
    port_bytes=PORT_BYTES,
    lanes=8,
    layers=1,
    width=16,
    heads=1,
    kv_heads=1,
    ffn=32,
    vocabulary=128,
    context=64,
    tokens=0,
    weights=128,
    head=256,
    wte=384,
    wpe=512,
    k=640,
    v=768,
    layer_stripes=128,
    head_stripes=128,
    row_stripes=1,
    position_stripes=1,
    kv_head_stripes=128,
    kv_layer_stripes=128,
    total_stripes=896,
)


def write_build(folder: Path) -> Path:
    """A folder as ``hwgen build`` writes it, around the copier."""
    (folder / "rtl").mkdir(parents=True)
    probe, argmax = Probe(1, 64), Probe(3, 32)
    for unit in (probe, argmax):
        (folder / "rtl" / f"{unit.module_name}.sv").write_text(unit.render())
    template = jinja2.Template(
        (Path(__file__).parent / "copier.sv.j2").read_text(), undefined=jinja2.StrictUndefined
    )
    (folder / "rtl" / "hwgen_top.sv").write_text(
        template.render(
            pb=PORT_BYTES,
            size=PORT_BYTES.bit_length() - 1,
            probe=probe.module_name,
            argmax=argmax.module_name,
        )
    )
    design = {
        "top": "hwgen_top",
        "parameters": {"tokens": 2, "chunk": 8},
        "memory": {"latency_cycles": 40, "bytes_per_cycle": 64.0},
        "memory_map": MAP.to_dict(),
        "registers": {
            "prompt": 0x10,
            "generate": 0x18,
            "position": 0x20,
            "layers": 0x28,
            "generated": 0x30,
            "cycles": 0x38,
            "token": 0x40,
        },
        "model": {
            "name": "copier",
            "layers": 1,
            "width": 16,
            "heads": 1,
            "ffn": 32,
            "vocabulary": 128,
            "context": 64,
            "tokenizer": "bytes",
        },
        "phases": ["embed", "ln_1", "k", "v", "lm_head"],
        "compression": {},
    }
    (folder / "design.json").write_text(json.dumps(design))
    return folder


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_build(tmp_path_factory.mktemp("copier") / "out")


@pytest.fixture(scope="module")
def program(build: Path) -> Path:
    return compile_model(build, speed="fast-build")


@pytest.fixture(scope="module")
def built(build: Path) -> Built:
    return load(build)


def job(built: Built, folder: Path, prompt: str, tokens: int, *, fault: int = 0) -> Job:
    image = np.zeros(MAP.image_bytes, np.uint8)
    MAP.write_tokens(image, 0, [ord(c) for c in prompt])
    (folder / "image").write_bytes(image.tobytes())
    return Job(
        built,
        image=folder / "image",
        writes=[(0x10, len(prompt)), (0x18, tokens), (0x20, 0), (0x28, fault)],
        reads={"generated": 0x30, "cycles": 0x38, "token": 0x40},
        writable=[(len(prompt), 65)],
        tokens=(len(prompt), 65, 0),
    )


def decoded(outcome: Outcome) -> str:
    return "".join(chr(token) for _, _, token in outcome.tokens)


class TestRun:
    def test_streams_the_tokens_that_the_hardware_writes(
        self, program: Path, built: Built, tmp_path: Path
    ) -> None:
        events: list[Event] = []
        outcome = execute(program, job(built, tmp_path, "abc", 5), on_event=events.append)
        assert decoded(outcome) == "defgh"
        assert [position for _, position, _ in outcome.tokens] == [3, 4, 5, 6, 7]
        assert not outcome.errors
        assert outcome.registers["generated"] == 5 and outcome.registers["token"] == ord("h")
        assert abs(outcome.cycles - outcome.registers["cycles"]) <= 4
        assert [e["event"] for e in events if e["event"] != "progress"] == ["token"] * 5 + ["end"]
        assert outcome.transfers["read_beats"] == 3 and outcome.transfers["write_beats"] == 5

    def test_the_image_file_does_not_change_and_a_dump_shows_what_was_written(
        self, program: Path, built: Built, tmp_path: Path
    ) -> None:
        plan = job(built, tmp_path, "abc", 2)
        before = (tmp_path / "image").read_bytes()
        execute(program, replace(plan, dumps=[(0, MAP.image_bytes, tmp_path / "dump")]))
        assert (tmp_path / "image").read_bytes() == before
        memory = np.fromfile(tmp_path / "dump", np.uint8)
        assert MAP.read_tokens(memory, 0, 5).tolist() == [ord(c) for c in "abcde"]

    def test_pokes_lie_on_top_of_the_image(
        self, program: Path, built: Built, tmp_path: Path
    ) -> None:
        plan = job(built, tmp_path, "abc", 1)
        (tmp_path / "poke").write_bytes(b"z\0\0\0")
        at = 2 * MAP.stripe_bytes
        outcome = execute(program, replace(plan, pokes=[(at, tmp_path / "poke")]))
        assert decoded(outcome) == "{"

    def test_latency_counts(self, program: Path, built: Built, tmp_path: Path) -> None:
        def cycles(latency: int) -> int:
            timing = replace(built.timing, latency_cycles=latency)
            return execute(program, job(replace(built, timing=timing), tmp_path, "abc", 1)).cycles

        assert cycles(90) - cycles(40) == 2 * 50  # a read and the answer of a write

    @pytest.mark.parametrize("share", [Fraction(32), Fraction(16), Fraction(32, 3), Fraction(24)])
    def test_bandwidth_counts(
        self, program: Path, built: Built, tmp_path: Path, share: Fraction
    ) -> None:
        prompt = "abcdefghabcdefghabcdefgh"  # three bursts of eight beats
        timing = replace(built.timing, latency_cycles=1, bytes_per_cycle=share)
        plan = job(replace(built, timing=timing), tmp_path, prompt, 0)
        fast = replace(
            plan, built=replace(built, timing=replace(timing, bytes_per_cycle=Fraction(32)))
        )
        more = execute(program, plan).cycles - execute(program, fast).cycles
        waits = 24 - 3  # the first beat of a burst finds what the pause before it has saved
        assert more == pytest.approx(waits * (32 / share - 1), abs=1)

    def test_a_memory_that_stalls_changes_no_token(
        self, program: Path, built: Built, tmp_path: Path
    ) -> None:
        slow = replace(built, timing=replace(built.timing, stall_percent=60))
        plan = job(slow, tmp_path, "abcdefghij", 8)
        for seed in range(5):
            outcome = execute(program, replace(plan, seed=seed))
            assert decoded(outcome) == "klmnopqr" and not outcome.errors

    @pytest.mark.parametrize("poll", range(1, 9))
    def test_a_look_at_the_status_may_be_answered_with_done_as_the_interrupt_comes(
        self, program: Path, built: Built, tmp_path: Path, poll: int
    ) -> None:
        """Whenever the host looks, the end is found once; here some look meets the interrupt's cycle."""
        outcomes = [
            execute(program, replace(job(built, tmp_path, prompt, 1), poll=poll))
            for prompt in ("a", "ab", "abc", "abcd", "abcde")
        ]
        assert [outcome.errors for outcome in outcomes] == [[]] * 5

    def test_probes(self, program: Path, built: Built, tmp_path: Path) -> None:
        folder = tmp_path / "probes"
        folder.mkdir()
        execute(program, replace(job(built, tmp_path, "abc", 2), probes=folder))
        words = read_log(folder, 1)
        assert words["row"].tolist() == [0, 1, 2]
        assert (
            set(words["chunk"]) == {3} and set(words["phase"]) == {1} and set(words["layer"]) == {2}
        )
        assert words["data"][:, 0].tolist() == [ord(c) for c in "abc"]
        assert words["cycle"][0] > 40
        assert read_log(folder, 3)["data"].view("<u4").ravel().tolist() == [ord("d"), ord("e")]
        assert not len(read_log(folder, 0))


class TestBrokenRules:
    @pytest.mark.parametrize(
        ("fault", "said"),
        [
            (LONG, "m_axi_g01: read burst: 64 bytes at 0x4100000fe0 cross a 4 KiB boundary"),
            (OUTSIDE, "are outside 0x4100000000 to 0x4100007000 (answered with DECERR)"),
            (WLAST, "wlast is 0 on a beat that is the last of its burst"),
            (CHANGE, "write data: changed while it waited"),
            (RETREAT, "write data: valid fell before the transfer"),
            (READ_ONLY, "write to stripe 128, where the accelerator must not write"),
            (OVERTAKE, "read burst of stripe 3 may overtake an unanswered write of stripe 3"),
            (SILENT, "done is set in CTRL, but no interrupt came"),
        ],
    )
    def test_is_named(
        self, program: Path, built: Built, tmp_path: Path, fault: int, said: str
    ) -> None:
        plan = replace(job(built, tmp_path, "abc", 1, fault=fault), cycle_limit=2000)
        assert any(said in error for error in execute(program, plan).errors)

    def test_a_hang_is_found_and_shows_every_port(
        self, program: Path, built: Built, tmp_path: Path
    ) -> None:
        outcome = execute(
            program, replace(job(built, tmp_path, "abc", 1, fault=HANG), idle_limit=500)
        )
        assert "no transfer on any memory port for 500 cycles" in outcome.errors[0]
        assert "m_axi_g00: 1 reads" in outcome.errors[1] and "r 1/0" in outcome.errors[1]

    def test_an_assertion_of_the_rtl_is_an_error(
        self, program: Path, built: Built, tmp_path: Path
    ) -> None:
        with pytest.raises(SimulationError, match=r"the RTL stopped the simulation"):
            execute(program, job(built, tmp_path, "abc", 1, fault=ASSERT))

    def test_a_job_that_cannot_run(self, program: Path, built: Built, tmp_path: Path) -> None:
        plan = replace(job(built, tmp_path, "abc", 1), image=tmp_path / "nothing")
        with pytest.raises(ToolError, match=r"cannot read .*nothing"):
            execute(program, plan)


class TestCompile:
    def test_the_second_time_costs_nothing(self, build: Path, program: Path) -> None:
        began = time.monotonic()
        assert compile_model(build, speed="fast-build") == program
        assert time.monotonic() - began < 0.5

    def test_other_verilog_is_another_model(
        self, build: Path, program: Path, tmp_path: Path
    ) -> None:
        other = write_build(tmp_path / "out")
        top = other / "rtl" / "hwgen_top.sv"
        top.write_text(top.read_text().replace("token + 1", "token + 2"))
        changed = compile_model(other, speed="fast-build")
        assert changed.parent.name != program.parent.name
        assert decoded(execute(changed, job(load(other), tmp_path, "a", 2))) == "ce"
        assert [p.name for p in (other / "sim" / "model").iterdir()] == [changed.parent.name]

    def test_no_compiler(
        self, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        with pytest.raises(ToolError, match=r"g\+\+ is not on PATH.*apt install g\+\+") as caught:
            compile_model(build, speed="fast-run")
        assert caught.value.exit_code == 3

    def test_a_failing_tool_leaves_its_log_and_nothing_else(self, tmp_path: Path) -> None:
        broken = write_build(tmp_path / "out")
        (broken / "rtl" / "more.v").write_text("module more(;\n")
        with pytest.raises(ToolError, match=r"Verilator failed: %Error.*compile.log"):
            compile_model(broken)
        assert [p.name for p in (broken / "sim" / "model").iterdir()] == ["compile.log"]
        assert "%Error" in (broken / "sim" / "model" / "compile.log").read_text()

    def test_no_build(self, tmp_path: Path) -> None:
        with pytest.raises(DesignError, match=r"has no design\.json"):
            compile_model(tmp_path)

    def test_a_cache_that_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HWGEN_CACHE", "/proc/nothing")
        seen: list[Path] = []

        def run_all(commands: list[model_module.Command], *, folder: Path, **_: object) -> None:
            seen.append(folder)
            raise ToolError("stop here")

        monkeypatch.setattr(model_module, "run_all", run_all)
        monkeypatch.setattr(Path, "replace", lambda self, target: None)
        out = write_build(tmp_path / "out")
        with pytest.raises(ToolError, match=r"stop here"):
            compile_model(out)
        assert out in seen[0].parents


WORK = """
import signal, sys
from pathlib import Path
from sim.model import compile_model
from sim.package import emit_package
def stop(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
compile_model(Path(sys.argv[1]), speed="fast-run")
"""


class TestInterruption:
    def test_leaves_nothing_half_written_and_no_process(self, tmp_path: Path) -> None:
        out = write_build(tmp_path / "out")
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", WORK, str(out)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert process.stdout and process.stdout.readline() == b"ready\n"
        model = out / "sim" / "model"
        while not list(model.glob(".making-*/cpp/main.cpp")) and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.5)  # the compiler is at work
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode not in (0, -signal.SIGTERM)
        assert list(model.iterdir()) == []
        assert not _processes_with(str(out))

    def test_a_run_is_killed(self, program: Path, built: Built, tmp_path: Path) -> None:
        """A program that never ends, stopped from the callback as Ctrl-C would stop it."""
        plan = replace(job(built, tmp_path, "abc", 1, fault=HANG), idle_limit=10**15)

        def stop(event: Event) -> None:
            raise KeyboardInterrupt

        threads = threading.active_count()
        with pytest.raises(KeyboardInterrupt):
            execute(program, plan, on_event=stop)
        assert threading.active_count() == threads
        assert not _processes_with(str(program))


def _processes_with(text: str) -> list[str]:
    """Command lines of running programs that hold the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and "pytest" not in line:
            found.append(line)
    return found


class TestPackage:
    """The cocotb testbench of ``OUT/sim``, around the copier."""

    def test_without_weights_it_tries_the_registers(self, build: Path) -> None:
        files = emit_package(build)
        vectors = json.loads(files["vectors.json"])
        assert vectors["cases"] == [] and vectors["bases"] == [0x40_0000_0000, 0x41_0000_0000]
        assert all("hwgen." not in files[name] for name in ("run.py", "test_accelerator.py"))
        assert all("import sim" not in text and "from sim" not in text for text in files.values())

    def test_runs_by_itself(self, tmp_path: Path) -> None:
        out = write_build(tmp_path / "out")
        files = emit_package(out)
        vectors = json.loads(files["vectors.json"])
        image = np.zeros(MAP.image_bytes, np.uint8)
        (out / "weights.bin").write_bytes(image.tobytes())
        vectors["layers"] = 0  # no fault
        good = {"prompt": [5, 6, 7], "tokens": [8, 9], "memory": [[0, "05000000"]]}
        vectors["cases"] = [good, good | {"tokens": [8, 10]}]
        (out / "sim").mkdir()
        for name, content in (files | {"vectors.json": json.dumps(vectors)}).items():
            (out / "sim" / name).write_text(content)
        run = subprocess.run(
            [sys.executable, "-I", str(out / "sim" / "run.py")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        said = run.stdout[-2000:] + run.stderr[-2000:]
        assert "2 of 3 tests passed" in run.stdout, said
        assert "[8, 9] == [8, 10]" in run.stdout
        assert run.returncode == 1


class TestWaves:
    def test_fst_can_be_read(self, build: Path, built: Built, tmp_path: Path) -> None:
        program = compile_model(build, speed="fast-build", waves=True)
        waves = tmp_path / "run.fst"
        outcome = execute(program, replace(job(built, tmp_path, "abc", 5), waves=waves))
        assert decoded(outcome) == "defgh"
        blocks = list(_fst_blocks(waves.read_bytes()))
        assert blocks[0] == 0  # the header
        assert {3, 7} & set(blocks)  # geometry; hierarchy in gzip or LZ4 follows
        assert 8 in blocks or 5 in blocks or 1 in blocks  # value changes


def _fst_blocks(raw: bytes):
    """Types of the blocks of an FST file; each block says its length after its type."""
    at = 0
    while at < len(raw):
        yield raw[at]
        at += 1 + int.from_bytes(raw[at + 1 : at + 9], "big")
    assert at == len(raw), "the last block is cut off"
