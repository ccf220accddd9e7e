# SPDX-License-Identifier: Apache-2.0
"""``hwgen schedule``: a plan, its files, and what is said of wrong ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwgen import cli
from tests.designs.onnx_models import classifier, perceptron, save


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


def test_a_plan_and_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mlp"
    assert cli.run(["schedule", "mlp", "--policy", "sequential", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "predicted (proven optimal)" in shown and "140,957 (InTAR on U280)" in shown
    first = (out / "plan.yaml").read_bytes(), (out / "gantt.svg").read_bytes()
    assert cli.run(["schedule", "mlp", "--policy", "sequential", "-o", str(out)]) == 0
    assert first == ((out / "plan.yaml").read_bytes(), (out / "gantt.svg").read_bytes())
    assert cli.run(["schedule", "mlp", "--check", str(out / "plan.yaml")]) == 0


def test_an_illegal_edit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mlp"
    assert cli.run(["schedule", "mlp", "--policy", "sequential", "-o", str(out)]) == 0
    edited = tmp_path / "edited.yaml"
    edited.write_text((out / "plan.yaml").read_text().replace("home: c0", "home: sfu", 1))
    capsys.readouterr()
    assert cli.run(["schedule", "mlp", "--check", str(edited)]) == 2
    assert "Scratchpad of sfu" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["schedule", "mpl"], "did you mean mlp"),
        (["schedule", "mlp", "-n", "64"], "--tokens is of a layer of a model"),
        (["schedule", "gpt2-medium", "--lanes", "1x8x4"], "a layer's grid is given"),
        (["schedule", "gpt2-medium", "-n", "48", "-p", "hand-intar"], "multiples of 32 tokens"),
        (["schedule", "mlp", "-p", "sequentail"], "did you mean sequential"),
        (["schedule", "absent.yaml"], "absent.yaml does not exist"),
        (["schedule", "mlp", "--check", "absent.yaml"], "absent.yaml: No such file"),
        (["schedule", "mlp", "--seconds", "0"], "--seconds"),
        (["schedule", "tiny-gpt@8"], "did you mean tiny-gpt2"),
        (["schedule", "tiny-gpt2@8:4"], "tiny-gpt2 has 4 layers, 0 to 3, not 4"),
        (["schedule", "tiny-llama@8"], "only layers like those of GPT-2"),
        (["schedule", "tiny-gpt2@8", "--dtype", "i8"], "a layer is of i16"),
        (["schedule", "self-attn", "-p", "dataflow"], "needs at least 5 tokens, the machine has 2"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and error.count("\n") == 1


def test_an_onnx_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = save(tmp_path / "net.onnx", classifier())
    out = tmp_path / "plan"
    asked = ["schedule", str(model), "--lanes", "1x9x4", "-p", "sequential"]
    assert cli.run([*asked, "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "c0 4 of 4 outputs, 36 lanes" in shown and "proven optimal" in shown
    assert cli.run([*asked, "--check", str(out / "plan.yaml")]) == 0
    assert cli.run(["schedule", str(model), "--target", "zcu104", "--seconds", "2"]) == 0
    assert "lanes in all" in capsys.readouterr().out
    assert cli.run(["accuracy", str(model)]) == 0
    assert "conv_1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lanes", "8"], "--lanes must be TOKENSxREDUCExOUTPUTS"),
        (["--lanes", "1x8x3", "--cores", "2"], "must be a multiple of cores"),
        (["--grow", "rows"], "grow"),
        (["--target", "u820"], "did you mean u280"),
        (["--target", "ice40up5k"], "a machine needs at least 16"),
        (["--dim", "batch"], "--dim must be NAME=SIZE"),
        (["--dim", "size=2"], "no symbolic dimension size; it has batch"),
        (["--dtype", "f16"], "--dtype must be i8 or i16"),
    ],
)
def test_mistakes_about_a_model(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path / "net.onnx", perceptron())
    assert cli.run(["schedule", str(model), *more]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_damaged_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not a model")
    assert cli.run(["schedule", str(path)]) == 2
    assert "net.onnx is not an ONNX model" in capsys.readouterr().err
    assert cli.run(["schedule", str(tmp_path / "absent.onnx")]) == 2
    assert "absent.onnx: No such file" in capsys.readouterr().err
