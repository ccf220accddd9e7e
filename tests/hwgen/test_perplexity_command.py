# SPDX-License-Identifier: Apache-2.0
"""``hwgen perplexity OUT``: the integers of a build beside the float model, in its report."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from designs.catalogue import ROOT
from generators import manifest, report
from hwgen import cli
from hwgen.evaluate import HELD_OUT


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("builds") / "tiny"
    assert cli.run(["build", "tiny-gpt2", "--target", "sim-small", "-o", str(out), "-q"]) == 0
    return out


def test_the_report_says_what_the_command_says(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "short.txt"
    text.write_text(HELD_OUT.read_text(encoding="utf-8")[:400], encoding="utf-8")
    assert report.load(built).accuracy is None
    assert "Not measured" in (built / "report.html").read_text()
    assert cli.run(["perplexity", str(built), "--text", str(text)]) == 0
    shown = capsys.readouterr().out
    facts = report.load(built).accuracy
    assert facts is not None and (facts.text, facts.tokens) == ("short.txt", 399)
    assert f"{facts.perplexity:.4f}" in shown and f"{facts.float_perplexity:.4f}" in shown
    assert abs(facts.perplexity / facts.float_perplexity - 1) < 0.05
    page = (built / "report.html").read_text()
    assert f"{facts.perplexity:.4f}" in page and "Not measured" not in page
    # The same figures as of the model by its name, and the build is still the one that it was.
    assert cli.run(["perplexity", "tiny-gpt2", "--text", str(text)]) == 0
    assert f"{facts.perplexity:.4f}" in capsys.readouterr().out
    key = json.loads((built / manifest.FILE).read_text())["fingerprint"]
    assert manifest.unchanged(built, key)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "int4"], "its weights are as they are"),
        (["--weights-from", str(ROOT / "checkpoints" / "tiny-llama")], "was not built from"),
        (["--text", "no-such-file"], "no-such-file cannot be read"),
    ],
)
def test_mistakes(
    built: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["perplexity", str(built), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_a_folder_that_is_no_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text('{"generator": "hwgen"}')
    assert cli.run(["perplexity", str(tmp_path)]) == 2
    assert "no design.json: give a folder that hwgen build wrote" in capsys.readouterr().err
