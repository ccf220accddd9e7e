# SPDX-License-Identifier: Apache-2.0
"""``hwgen accuracy``: integers beside float64, with weights of a file, and what is said of wrong ones."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from designs.graph import load_graph
from generators.quantise_kernel import random_parameters
from hwgen import cli


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


def test_weights_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["accuracy", "vae"]) == 0
    shown = capsys.readouterr().out
    assert "dec2    2x28x28" in shown and "signal to noise" in shown
    path = tmp_path / "w.npz"
    np.savez(path, **random_parameters(load_graph("vae"), 0))  # type: ignore[arg-type]
    assert cli.run(["accuracy", "vae", "--weights-from", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[-5:] == shown.splitlines()[-5:]


def test_wrong_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.npz"
    np.savez(path, enc1=np.ones((2, 2, 8, 7)))
    assert cli.run(["accuracy", "vae", "--weights-from", str(path)]) == 2
    assert "vae: enc1 must be [2, 2, 8, 8], but is [2, 2, 8, 7]" in capsys.readouterr().err
    path.write_text("no")
    assert cli.run(["accuracy", "vae", "--weights-from", str(path)]) == 2
    assert "is no .npz file of weights" in capsys.readouterr().err
