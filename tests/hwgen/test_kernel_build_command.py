# SPDX-License-Identifier: Apache-2.0
"""``hwgen build GRAPH``: what is said of wrong ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwgen import cli


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "vae", "--policy", "sequentail"], 'policy "sequentail"'),
        (["build", "nix.yaml"], "task graph nix.yaml does not exist"),
        (["build", "mlp", "--policy", "dataflow-sized"], "RTL links only cores that have as many"),
    ],
)
def test_wrong_requests(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*arguments, "-o", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("no")
    assert cli.run(["build", "vae", "-o", str(tmp_path)]) == 2
    assert "was not written by hwgen" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "no"


CARD = """
inputs: {x: [4, 8]}
tasks: {p: {op: softmax, inputs: [x]}}
outputs: [p]
machine: {tokens: 2, reduce: 4, outputs: 4, cores: 1, spad_bytes: 65536, bytes_per_cycle: 32}
"""


def test_what_else_takes_no_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "card.yaml").write_text(CARD)
    out = str(tmp_path / "out")
    assert cli.run(["build", str(tmp_path / "card.yaml"), "-o", out]) == 0
    for arguments, message in (
        (["sim", out, "--prompt", "a"], "is a kernel: it takes no --prompt"),
        (["synth", out], "is a kernel: synth counts"),
        (
            ["export", out, "--flow", "vivado", "-o", out + "2"],
            "is a kernel: export writes projects",
        ),
    ):
        assert cli.run(arguments) == 2
        assert message in capsys.readouterr().err
