# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/tutorial.md, as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from designs.checkpoint import Checkpoint
from tests.bench import ROOT

TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
"""Language and text of each."""


def python() -> str:
    """The script that makes a checkpoint."""
    (text,) = (text for language, text in BLOCKS if language == "python")
    return text


def commands() -> list[str]:
    """Its commands; reading a whole text for the perplexity takes minutes, and other tests do it."""
    lines = [line for language, text in BLOCKS if not language for line in text.splitlines()]
    return [line for line in lines if not line.startswith("hwgen perplexity")]


def run(arguments: list[str], folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


def test_its_checkpoint_is_one(tmp_path: Path) -> None:
    (tmp_path / "make_model.py").write_text(python())
    run(["make_model.py"], tmp_path)
    checkpoint = Checkpoint.open(tmp_path / "my-llama")
    assert checkpoint.card.family == "llama" and checkpoint.card.kv_heads == 2
    checkpoint.weights(checkpoint.card)


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    (tmp_path / "make_model.py").write_text(python())
    run(["make_model.py"], tmp_path)
    shown = {}
    for line in commands():
        first, *rest = shlex.split(line)
        assert first == "hwgen"
        shown[line] = run(["-m", "hwgen", *rest], tmp_path)
    texts = [out for line, out in shown.items() if line.startswith("hwgen sim")]
    assert len(texts) == 2 and all("identical" in out for out in texts)
    assert (tmp_path / "build" / "vivado").is_dir()
