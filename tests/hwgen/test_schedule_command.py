"""``hwgen schedule``: a plan, its files, and what is said of wrong ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwgen import cli


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
        (["schedule", "mlp", "-p", "sequentail"], "did you mean sequential"),
        (["schedule", "absent.yaml"], "absent.yaml does not exist"),
        (["schedule", "mlp", "--check", "absent.yaml"], "absent.yaml: No such file"),
        (["schedule", "mlp", "--seconds", "0"], "--seconds"),
        (["schedule", "self-attn", "-p", "dataflow"], "needs at least 5 tokens, the machine has 2"),
    ],
)
def test_mistakes(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and error.count("\n") == 1
