# SPDX-License-Identifier: Apache-2.0
"""The accelerator of the shipped model: from a build to text, and to every tensor."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from designs.cards import load_model_card
from designs.errors import DesignError
from designs.progress import SilentProgress, Step
from generators.build import BuildRequest, build
from generators.image import write_image
from generators.quantise import random_quantised
from hwgen.joins import joins
from sim import run as run_module
from sim.built import load
from sim.model import compile_model
from sim.run import SimResult, generate, run_layers

CARD = load_model_card("tiny-gpt2")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiny") / "out"
    build(BuildRequest(model="tiny-gpt2", target="sim-small", out=out), SilentProgress(), joins())
    return out


def layers(out: Path, count: int, tokens: int, past: int = 0, more: int = 0) -> SimResult:
    model = random_quantised(CARD, 5, count)
    return run_layers(
        out, count, tokens, past, 5, model=model, write_image=write_image, generate=more
    )


class TestText:
    def test_is_that_of_the_golden_model(self, tiny: Path) -> None:
        seen: list[tuple[int, str]] = []
        result = generate(
            tiny, "In the b", 6, on_token=lambda token, text: seen.append((token, text))
        )
        assert result.identical, result.mismatch
        assert result.text == "".join(text for _, text in seen)
        assert result.tokens == [token for token, _ in seen]
        assert result.values > 10_000
        assert len(result.token_cycles) == 6 and result.cycles > result.token_cycles[-1]
        assert result.cycles_per_token and 1000 < result.cycles_per_token < 20_000
        assert result.counters["generated"] == 6
        memory = load(tiny).map
        weights = memory.layers * memory.layer_stripes + memory.head_stripes
        assert result.counters["read_beats"] > 6 * weights * memory.ports  # all of them, each time

    def test_without_probes_it_is_the_same(self, tiny: Path) -> None:
        ids = [ord(c) for c in "And"]
        assert generate(tiny, ids, 2, probes=True).tokens == generate(tiny, "And", 2).tokens

    def test_waves_appear_when_they_are_complete(
        self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The compiled model with waves is large: the file is made by a stand-in."""

        def execute(program: Path, job: run_module.Job, **_: object) -> None:
            assert job.waves is not None and job.waves.parent == tmp_path
            job.waves.write_text("half of it")
            raise KeyboardInterrupt

        monkeypatch.setattr(run_module, "execute", execute)
        monkeypatch.setattr(run_module, "compile_model", lambda *a, **k: Path("simulator"))
        with pytest.raises(KeyboardInterrupt):
            generate(tiny, "And", 1, waves=tmp_path / "run.fst")
        assert list(tmp_path.iterdir()) == []
        assert not list((tiny / "sim").glob(".run-*"))


class TestLayers:
    @pytest.mark.parametrize(
        ("count", "tokens", "past", "more"),
        [(1, 1, 0, 0), (2, 5, 0, 0), (1, 3, 100, 0), (1, 130, 7, 0), (4, 2, 9, 2)],
    )
    def test_every_tensor(self, tiny: Path, count: int, tokens: int, past: int, more: int) -> None:
        result = layers(tiny, count, tokens, past, more)
        assert result.identical, result.mismatch
        assert result.values >= count * tokens * 12 * 64
        assert len(result.tokens) == more

    def test_the_whole_context(self, tiny: Path) -> None:
        result = layers(tiny, 1, 2, 254, 1)
        assert result.identical, result.mismatch

    def test_wrong_weights_are_found(self, tiny: Path) -> None:
        def broken(model: object, memory: object, path: Path, count: int, progress: object) -> None:
            write_image(random_quantised(CARD, 5, count), memory, path, count)  # type: ignore[arg-type]
            image = np.fromfile(path, np.uint8)
            at = (memory.weights + memory.layer_stripes // 2) * memory.stripe_bytes  # type: ignore[attr-defined]
            image[at : at + memory.stripe_bytes] ^= 0x40  # type: ignore[attr-defined]
            image.tofile(path)

        model = random_quantised(CARD, 5, 1)
        result = run_layers(tiny, 1, 2, 0, 5, model=model, write_image=broken)
        assert not result.identical
        assert result.mismatch is not None and "h.0." in result.mismatch
        assert "expected" in result.mismatch and "at cycle" in result.mismatch

    def test_progress_ends_at_the_total(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[tuple[int, int]] = []

        class Watch(SilentProgress):
            @contextmanager
            def step(self, name: str, detail: str = ""):
                calls.clear()
                yield Step(name, detail)

            def advance(self, done: int, total: int, note: str = "") -> None:
                assert 0 <= done <= total
                calls.append((done, total))

        model = random_quantised(CARD, 5, 4)
        run_layers(
            tiny, 4, 200, 0, 5, model=model, write_image=write_image, progress=Watch(), probes=True
        )


class TestBadInput:
    @pytest.mark.parametrize(
        ("prompt", "tokens", "said"),
        [
            ("", 3, "the prompt is empty"),
            ([], 3, "the prompt is empty"),
            (
                "a" * 300,
                1,
                "300 of the prompt and 1 to generate need 300 positions, but the context",
            ),
            ("a" * 250, 20, "with this prompt at most 7 can be generated"),
            ("caf\u00e9", 3, "character 'é'"),
            ([5, 128], 3, "token id 128 at position 1 is not in the vocabulary; ids are 0 to 127"),
            ([5, -1], 3, "token id -1 at position 1"),
            ("a", -1, "must not be negative"),
        ],
    )
    def test_one_line(self, tiny: Path, prompt: str | list[int], tokens: int, said: str) -> None:
        with pytest.raises(DesignError) as caught:
            generate(tiny, prompt, tokens)
        assert said in str(caught.value) and "\n" not in str(caught.value)

    def test_layers(self, tiny: Path) -> None:
        with pytest.raises(DesignError, match="layers must be 1 to 4, not 5"):
            layers(tiny, 5, 1)
        with pytest.raises(DesignError, match="at least one token"):
            layers(tiny, 1, 0)
        with pytest.raises(DesignError, match="250 in the cache and 10 of the prompt"):
            layers(tiny, 1, 10, 250)

    def test_no_weights(self, tiny: Path, tmp_path: Path) -> None:
        (tmp_path / "design.json").write_text((tiny / "design.json").read_text())
        with pytest.raises(DesignError, match="has no weights to generate text with"):
            generate(tmp_path, "a", 1)

    def test_no_folder_for_waves(self, tiny: Path, tmp_path: Path) -> None:
        with pytest.raises(DesignError, match="its folder does not exist"):
            generate(tiny, "a", 1, waves=tmp_path / "none" / "run.fst")

    @pytest.mark.parametrize("text", ["", "{}", "[1]", "{broken"])
    def test_a_damaged_design(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "design.json").write_text(text)
        with pytest.raises(DesignError, match=r"design\.json"):
            compile_model(tmp_path)


class TestPackage:
    def test_vectors_are_those_of_the_golden_model(self, tiny: Path) -> None:
        vectors = json.loads((tiny / "sim" / "vectors.json").read_text())
        (case,) = vectors["cases"]
        result = generate(tiny, case["prompt"], len(case["tokens"]))
        assert result.tokens == case["tokens"]
        # every layer, K and V, position and word; the last token is not read again
        positions = len(case["prompt"]) + len(case["tokens"]) - 1
        assert len(case["memory"]) == 4 * 2 * positions * 64 // load(tiny).map.lanes

    @pytest.mark.slow
    def test_runs_by_itself(self, tiny: Path, tmp_path: Path) -> None:
        run = subprocess.run(
            [sys.executable, "-I", str(tiny / "sim" / "run.py")],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
        assert "2 of 2 tests passed" in run.stdout
