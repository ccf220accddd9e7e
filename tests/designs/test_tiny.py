# SPDX-License-Identifier: Apache-2.0
"""The checkpoint and texts that come with hwgen, and the script that made them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from designs.catalogue import ROOT
from designs.tokenizer import ByteTokenizer

FOLDERS = [ROOT / "checkpoints/tiny-gpt2", ROOT / "checkpoints/tiny-llama"]
TEXTS = ROOT / "texts"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("torch", reason="the script needs PyTorch (the extra `hf`)")
    pytest.importorskip("safetensors", reason="the script needs safetensors (the extra `hf`)")
    file = ROOT / "checkpoints/train_tiny.py"
    spec = importlib.util.spec_from_file_location("train_tiny", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestShipped:
    def test_small(self) -> None:
        files = [file for folder in (*FOLDERS, TEXTS) for file in folder.iterdir()]
        assert sum(file.stat().st_size for file in files) < 1_500_000

    @pytest.mark.parametrize("name", ["kjv-heldout.txt", "kjv-calibration.txt"])
    def test_texts_are_in_the_vocabulary(self, name: str) -> None:
        text = (TEXTS / name).read_bytes().decode("utf-8")
        assert 8_000 < len(ByteTokenizer(128).encode(text)) < 32_000

    def test_the_calibration_text_is_not_the_held_out_one(self) -> None:
        held_out, calibration = (
            {line for line in (TEXTS / name).read_text().splitlines() if len(line) > 40}
            for name in ("kjv-heldout.txt", "kjv-calibration.txt")
        )
        assert len(calibration) > 40
        assert not held_out & calibration

    @pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
    def test_the_readme_has_the_facts_of_the_run(self, folder: Path) -> None:
        facts = json.loads((folder / "training.json").read_text())
        readme = (folder / "README.md").read_text()
        for key in ("text_sha256", "steps", "seed", "held_out_bits_per_character"):
            assert str(facts[key]) in readme, key


class TestScript:
    def test_prose(self, script: ModuleType) -> None:
        text = "Ge1:1 In the  beginning.\nGe1:2 And the earth.\n2Jn1:1 The elder.\n"
        assert script.prose(text) == "In the beginning.\nAnd the earth.\n\nThe elder.\n"
        with pytest.raises(SystemExit, match="not a labelled verse: 'In the"):
            script.prose("In the beginning.\n")

    def test_passages_are_whole_verses(self, script: ModuleType) -> None:
        verses = [f"verse {i}." for i in range(200)]
        found = script.passages("\n".join(verses) + "\n", 3, 40).splitlines()
        assert set(found) <= {*verses, ""}
        assert found.count("") == 2
        assert len(found) < 30

    def test_rate(self, script: ModuleType) -> None:
        rates = [script.rate_at(step, 1000, 1.0) for step in range(1000)]
        assert max(rates) == 1.0 == rates[script.WARM_UP]
        assert 0 < rates[0] < 0.01
        assert rates[-1] == pytest.approx(script.LAST_RATE, abs=1e-4)
