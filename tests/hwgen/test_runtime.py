# SPDX-License-Identifier: Apache-2.0
"""One program on every back end: the golden model, the simulated RTL, and XRT with that RTL as its card."""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from designs import quantised, target
from designs.cards import ModelCard
from designs.progress import SilentProgress
from generators import design, plan
from generators.engine import EngineRequest, write_engine
from generators.image import write_image
from generators.quantise import random_quantised
from hw.arrays import parse_engine
from hwgen.runtime import Accelerator, DesignError, SimulationError, ToolError
from sim.built import load
from sim.compiler import find_compiler
from sim.model import compile_model
from sim.runner import Job, execute
from tests.hwgen import fake_pyxrt

CARD = ModelCard(name="small", layers=2, width=32, heads=2, ffn=64, vocabulary=128, context=40)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with random weights, two memory ports, and room for 40 tokens."""
    folder = tmp_path_factory.mktemp("small")
    board = target.load("sim-small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "CHUNK", 8)
        planned = plan.plan(CARD, board, parse_engine("tree:mac:2x8x8"))
    design.write_design(folder, CARD, board, planned, SilentProgress())
    model = random_quantised(CARD, seed=5)
    quantised.save(model, folder / "quantised.npz")
    write_image(model, planned.memory, folder / "weights.bin", CARD.layers, SilentProgress())
    (folder / "one.xclbin").write_text("the fake card reads it")
    return folder


@pytest.fixture(params=["golden", "sim", "xrt"])
def chip(request, built: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accelerator]:
    if request.param == "xrt":
        monkeypatch.setitem(sys.modules, "pyxrt", fake_pyxrt.module(built))
    with Accelerator.load(built, request.param) as found:
        yield found


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine alone, of odd sizes and widths."""
    out = tmp_path_factory.mktemp("engine") / "out"
    write_engine(EngineRequest("cube:opt1:2x2x3", x_bits=5, w_bits=6, k=40), out)
    return out


def program(chip: Accelerator) -> list[np.ndarray]:
    """What a user does: a prompt of several passes, going on, one without new tokens, a new text."""
    prompt = np.random.default_rng(7).integers(0, CARD.vocabulary, 11)
    found = [chip.generate(prompt, 4)]
    found.append(chip.generate([3, 5], 5, resume=True))
    found.append(chip.generate([], 2, resume=True))
    found.append(chip.generate([9], 0))
    found.append(chip.generate([1], 3, resume=True))
    return found


class TestGenerate:
    def test_every_back_end_gives_the_same_tokens(self, chip: Accelerator, built: Path) -> None:
        with Accelerator.load(built, "golden") as golden:
            wanted = program(golden)
        got = program(chip)
        assert [tokens.tolist() for tokens in got] == [tokens.tolist() for tokens in wanted]
        assert [len(tokens) for tokens in got] == [4, 5, 2, 0, 3]
        assert all(tokens.dtype == np.int64 for tokens in got)
        assert len({token for tokens in got for token in tokens.tolist()}) > 3

    def test_going_on_is_the_same_as_one_text(self, built: Path) -> None:
        with Accelerator.load(built, "golden") as chip:
            whole = chip.generate([5, 6, 7], 9)
            first = chip.generate([5, 6, 7], 4)
            rest = chip.generate([], 5, resume=True)
        assert whole.tolist() == [*first.tolist(), *rest.tolist()]

    def test_what_a_simulation_forgets(self, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keys and values in PIM channels end with the simulation: going on is refused, beginning anew is not."""
        with Accelerator.load(built, "sim") as chip:
            chip.generate([1, 2], 2)
            device = chip._decoder._device  # type: ignore[union-attr]
            monkeypatch.setattr(device, "_built", replace(device._built, pim_channels=2))
            with pytest.raises(DesignError, match="keeps keys and values in PIM channels"):
                chip.generate([3], 1, resume=True)
            assert len(chip.generate([1, 2], 1)) == 1

    def test_counters_are_those_of_the_last_call(self, built: Path) -> None:
        with Accelerator.load(built, "sim") as chip:
            assert chip.counters == {}
            chip.generate([1, 2, 3], 3)
            long = chip.counters
            tokens = chip.generate([1], 2)
            assert chip.counters["generated"] == 2 and chip.counters["token"] == tokens[-1]
            assert 0 < chip.counters["cycles"] < long["cycles"]
            assert {name for name in long if name.endswith("_cycles")}
        with Accelerator.load(built, "golden") as chip:
            chip.generate([1], 2)
            assert chip.counters == {}

    def test_text(self, tmp_path: Path, built: Path) -> None:
        with Accelerator.load(built, "golden") as chip:
            with pytest.raises(DesignError, match="has no tokenizer"):
                chip.text([1])
            with pytest.raises(DesignError, match="tokenizer"):
                chip.generate("And", 1)


class TestXrt:
    def test_the_register_sequence(self, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = fake_pyxrt.module(built)
        monkeypatch.setitem(sys.modules, "pyxrt", fake)
        with Accelerator.load(built, "xrt") as chip:
            chip.generate([1, 2, 3], 2)
            chip.generate([4], 1, resume=True)
            assert chip.counters == {}
            with pytest.raises(DesignError, match="use the back end sim or golden"):
                chip.matmul(np.eye(2, dtype=int), np.eye(2, dtype=int))
        base = "0x80=0x0 0x84=0x40 0x8c=0x0 0x90=0x41"
        assert fake.log == [
            f"0x10=0x3 0x18=0x2 0x20=0x0 0x28=0x2 {base}",
            f"0x10=0x2 0x18=0x1 0x20=0x4 0x28=0x2 {base}",
        ]

    @pytest.mark.parametrize(
        ("fault", "said"),
        [("timeout", "did not complete in 0.5 s: XRT says ERT_CMD_STATE_TIMEOUT"),
         ("bank", "XRT: a buffer of 36864 bytes for memory port 0: failed to allocate buffer")],
    )  # fmt: skip
    def test_what_xrt_refuses(self, fault, said, built: Path, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "pyxrt", fake_pyxrt.module(built, frozenset({fault})))
        with pytest.raises(ToolError, match=said):
            Accelerator.load(built, "xrt", timeout_s=0.5).generate([1], 1)

    def test_no_pyxrt_no_card_no_kernel(self, built: Path, tmp_path: Path, monkeypatch) -> None:
        monkeypatch.setitem(sys.modules, "pyxrt", None)
        with pytest.raises(ToolError, match=r"needs pyxrt .*source its setup.sh"):
            Accelerator.load(built, "xrt")
        monkeypatch.setitem(sys.modules, "pyxrt", fake_pyxrt.module(built))
        with pytest.raises(ToolError, match="XRT: card 3: Could not open device"):
            Accelerator.load(built, "xrt", device=3)
        with pytest.raises(DesignError, match=r"nothing.xclbin is not a file"):
            Accelerator.load(built, "xrt", xclbin=tmp_path / "nothing.xclbin")
        (built / "two.xclbin").write_text("")
        try:
            with pytest.raises(DesignError, match="has 2 xclbin files, name one"):
                Accelerator.load(built, "xrt")
        finally:
            (built / "two.xclbin").unlink()


class TestMatmul:
    @pytest.mark.parametrize("shape", [(1, 1, 1), (5, 7, 8)])
    def test_an_engine_alone(self, engine: Path, shape: tuple[int, int, int]) -> None:
        draw = np.random.default_rng(shape)
        x = draw.integers(-16, 16, shape[:2])
        w = draw.integers(-32, 32, shape[1:], np.int8)
        products = []
        for backend in ("golden", "sim"):
            with Accelerator.load(engine, backend) as chip:
                products.append(chip.matmul(x, w))
                counters = chip.counters
        assert (products[0] == products[1]).all() and (products[0] == x @ w).all()
        assert products[1].dtype == np.int64
        tiles = -(-shape[2] // 3)
        assert counters["rows"] == tiles * shape[0]
        assert counters["beats"] == tiles * -(-shape[0] // 2) * -(-shape[1] // 2)
        assert counters["cycles"] >= counters["beats"]

    def test_the_extremes(self, engine: Path) -> None:
        x, w = np.full((2, 40), -16), np.full((40, 3), -32)
        for backend in ("golden", "sim"):
            with Accelerator.load(engine, backend) as chip:
                assert (chip.matmul(x, w) == 40 * 16 * 32).all()

    @pytest.mark.slow
    def test_the_engine_of_an_accelerator(self, built: Path) -> None:
        draw = np.random.default_rng(1)
        x, w = (draw.integers(-128, 128, shape, np.int8) for shape in ((3, 20), (20, 11)))
        for backend in ("golden", "sim"):
            with Accelerator.load(built, backend) as chip:
                assert (chip.matmul(x, w) == x.astype(int) @ w.astype(int)).all()

    @pytest.mark.parametrize(
        ("x", "w", "said"),
        [
            (np.zeros((2, 3), int), np.zeros((4, 2), int), "x has 3 columns, but w has 4 rows"),
            (np.zeros(3, int), np.zeros((3, 2), int), r"x must be a matrix .* shape \(3,\)"),
            (np.zeros((1, 0), int), np.zeros((0, 2), int), "x must be a matrix with elements"),
            (np.zeros((2, 3)), np.zeros((3, 2), int), "x must hold integers, not float64"),
            (np.full((1, 1), 16), np.ones((1, 1), int), r"x must be within -16 and 15 \(5 bits\)"),
            (np.ones((1, 1), int), np.full((1, 1), -33), "w must be within -32 and 31 .* holds -33"),
            (np.ones((1, 64), int), np.ones((64, 1), int), "k = 64 products may overflow .* hold 63"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_multiplied(self, x, w, said: str, engine: Path) -> None:
        for backend in ("golden", "sim"):
            with Accelerator.load(engine, backend) as chip, pytest.raises(DesignError, match=said):
                chip.matmul(x, w)

    def test_a_tile_that_a_chain_cannot_hold(self, tmp_path: Path) -> None:
        request = EngineRequest("chain:dsp_packed:2:4:1x8x2", accumulate="dsp")
        write_engine(request, tmp_path / "out")
        x, w = np.ones((1, 64), int), np.ones((64, 2), int)
        for backend in ("golden", "sim"):
            with Accelerator.load(tmp_path / "out", backend) as chip:
                with pytest.raises(DesignError, match="a tile of 16 beats overflows the fields"):
                    chip.matmul(x, w)

    def test_what_an_engine_cannot(self, engine: Path) -> None:
        with Accelerator.load(engine, "golden") as chip:
            with pytest.raises(DesignError, match="multiplies, and generates nothing"):
                chip.generate([1], 1)
        with pytest.raises(DesignError, match="no AXI ports"):
            Accelerator.load(engine, "xrt")

    def test_an_edited_engine(self, engine: Path, tmp_path: Path) -> None:
        text = (engine / "engine.json").read_text()
        (tmp_path / "engine.json").write_text(text.replace("2x2x3", "2x2x4"))
        with pytest.raises(DesignError, match="another version of hwgen: write it again"):
            Accelerator.load(tmp_path, "golden")
        (tmp_path / "engine.json").write_text("{}")
        with pytest.raises(DesignError, match=r"engine.json is not valid"):
            Accelerator.load(tmp_path, "golden")


class TestBadInput:
    def test_load(self, built: Path, tmp_path: Path) -> None:
        with pytest.raises(DesignError, match=r'"glden" is not known; did you mean golden\?'):
            Accelerator.load(built, "glden")
        with pytest.raises(DesignError, match=r"has no design.json"):
            Accelerator.load(tmp_path, "sim")
        with pytest.raises(DesignError, match="timeout_s is of the back end xrt, not of golden"):
            Accelerator.load(built, "golden", timeout_s=1)

    def test_a_build_without_weights(self, built: Path, tmp_path: Path, monkeypatch) -> None:
        (tmp_path / "design.json").write_bytes((built / "design.json").read_bytes())
        with Accelerator.load(tmp_path, "golden") as chip:
            with pytest.raises(DesignError, match=r"no weights .* build it with --weights-from"):
                chip.generate([1], 1)
            assert chip.matmul(np.eye(2, dtype=int), np.eye(2, dtype=int)).tolist() == [
                [1, 0],
                [0, 1],
            ]
        (tmp_path / "a.xclbin").write_text("")
        with pytest.raises(DesignError, match="no weights"):
            Accelerator.load(tmp_path, "xrt")

    @pytest.mark.parametrize(
        ("tokens", "count", "said"),
        [
            ([], 1, "the prompt is empty"),
            ([128], 1, "128"),
            ([1.5], 1, "whole numbers in one row, not float64"),
            ([[1, 2]], 1, r"one row, not int64 of shape \(1, 2\)"),
            ([1] * 39, 3, "need 41 positions, but the context has 40"),
            ([1], -1, "must not be negative"),
        ],
    )
    def test_generate(self, tokens, count: int, said: str, chip: Accelerator) -> None:
        with pytest.raises(DesignError, match=said):
            chip.generate(tokens, count)

    def test_closed(self, built: Path) -> None:
        with Accelerator.load(built, "golden") as chip:
            chip.generate([1], 1)
        chip.close()
        for call in (lambda: chip.generate([1], 1), lambda: chip.matmul([[1]], [[1]])):  # type: ignore[arg-type]
            with pytest.raises(DesignError, match="is closed: load it again"):
                call()

    def test_a_failed_call_leaves_nothing_to_go_on_from(self, built: Path, monkeypatch) -> None:
        with Accelerator.load(built, "sim") as chip:
            chip.generate([1, 2], 3)
            device = chip._decoder._device  # type: ignore[union-attr]
            monkeypatch.setattr(device, "run", lambda arguments: {})  # ends, and writes nothing
            with pytest.raises(SimulationError, match="token 0 of 2 is not in its memory"):
                chip.generate([], 2, resume=True)
            monkeypatch.undo()
            with pytest.raises(DesignError, match="the prompt is empty"):
                chip.generate([], 2, resume=True)


class TestHeader:
    def test_offsets_are_those_of_the_rtl(self, built: Path, tmp_path: Path) -> None:
        """A C program prints the offsets; what is written there is read back from the simulated registers."""
        header = (built / "hwgen_registers.h").read_text()
        rows = re.findall(r"/\* (\d+) bits, (.*?):.*\n#define (HWGEN_\w+) 0x", header)
        prints = "".join(f'printf("{name} %u\\n", {name});' for _, _, name in rows)
        (tmp_path / "main.c").write_text(
            f'#include <stdio.h>\n#include "hwgen_registers.h"\nint main(void) {{ {prints} return 0; }}'
        )
        command = [find_compiler("a header"), "-x", "c", "-std=c99", f"-I{built}"]
        subprocess.run([*command, tmp_path / "main.c", "-o", tmp_path / "main"], check=True)
        said = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
        offsets = {
            name: int(value) for name, value in (line.split() for line in said.stdout.splitlines())
        }
        found = load(built)
        assert {name[6:].lower(): at for name, at in offsets.items()} == found.registers
        wanted = {"HWGEN_PROMPT": 2, "HWGEN_GENERATE": 1, "HWGEN_POSITION": 3, "HWGEN_LAYERS": 1}
        reads = {name: offsets[name] for _, kind, name in rows if kind != "handshake"}
        reads |= {f"{name}_HIGH": offsets[name] + 4 for bits, _, name in rows if bits == "64"}
        job = Job(
            found,
            image=built / "weights.bin",
            writes=[(offsets[name], value) for name, value in wanted.items()],
            reads=reads,
        )
        outcome = execute(compile_model(built, speed="fast-build", probes=False), job)
        assert outcome.errors == []
        got = outcome.registers
        assert {name: got[name] for name in wanted} == wanted
        assert got["HWGEN_GENERATED"] == 1 and got["HWGEN_TOKEN"] < CARD.vocabulary
        assert got["HWGEN_CYCLES"] == pytest.approx(outcome.cycles, abs=20)
        for port in range(2):
            low, high = got[f"HWGEN_MEMORY_{port}"], got[f"HWGEN_MEMORY_{port}_HIGH"]
            assert low | high << 32 == found.base(port)
        busy = {name: value for name, value in got.items() if name.endswith("_CYCLES")}
        assert len(busy) > 3 and 0 < sum(busy.values()) <= 2 * outcome.cycles
