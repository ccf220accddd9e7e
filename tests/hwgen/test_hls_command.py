# SPDX-License-Identifier: Apache-2.0
"""``hwgen build --backend hls`` and ``hwgen sim`` of what it wrote: files, comparison, and what is said of mistakes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwgen import cli
from tests.designs.onnx_models import perceptron, save


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


def test_build_and_simulate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path / "net.onnx", perceptron())
    out = tmp_path / "out"
    asked = [
        "build",
        str(model),
        "--backend",
        "hls",
        "--style",
        "tapa",
        "--lanes",
        "1x4x4",
        "--dim",
        "batch=2",
    ]
    assert cli.run([*asked, "-o", str(out)]) == 0
    assert "tapa C++ of net" in capsys.readouterr().out
    assert cli.run(["sim", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "identical to the golden model (34 values compared)" in shown
    assert cli.run(["sim", str(out), "--prompt", "a"]) == 2
    assert "it takes no --prompt" in capsys.readouterr().err
    golden = out / "data" / "golden_out_z.bin"
    golden.write_bytes(b"\x01" + golden.read_bytes()[1:])
    assert cli.run(["sim", str(out)]) == 1
    assert "1 of 34 values differ" in capsys.readouterr().err
    golden.unlink()
    assert cli.run(["sim", str(out)]) == 1
    assert "golden_out_z.bin cannot be read" in capsys.readouterr().err


def test_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert cli.run(["build", "vae", "--backend", "hls", "-p", "sequential", "-o", str(out)]) == 0
    monkeypatch.setenv("CXX", "no-such-compiler")
    capsys.readouterr()
    assert cli.run(["sim", str(out)]) == 3
    error = capsys.readouterr().err
    assert "no-such-compiler is not on PATH" in error and error.count("\n") == 1
    monkeypatch.delenv("CXX")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.delenv("XILINX_HLS", raising=False)
    assert cli.run(["sim", str(out)]) == 3
    assert "ap_int.h is not found" in capsys.readouterr().err
    (out / "src" / "ops.h").unlink()
    assert cli.run(["sim", str(out)]) == 2
    assert "ops.h is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vae", "--backend", "hsl"], 'backend "hsl" is not known; did you mean hls?'),
        (["vae", "--backend", "hls", "--style", "vivado"], 'style "vivado" is not known'),
        (["vae", "--backend", "hls", "-p", "fast"], 'policy "fast" is not known'),
        (["vae", "--backend", "hls", "-t", "u28"], "did you mean u280"),
        (["vea", "--backend", "hls"], "did you mean vae"),
        (["vae", "--backend", "hls", "--plan", "absent.yaml"], "absent.yaml: No such file"),
        (
            ["vae", "--backend", "hls", "--lanes", "2x8x1", "-p", "dataflow"],
            "needs at least 4 outputs",
        ),
        (["tiny-gpt2"], "Missing option '--target'"),
    ],
)
def test_mistakes(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.run(["build", *arguments, "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not out.exists()
