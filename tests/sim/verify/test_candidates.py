# SPDX-License-Identifier: Apache-2.0
"""Candidates against a reference: right, subtly wrong, plainly wrong, unreadable; and the pairs they make."""

import json

import pytest

from hwgen import cli
from tests.sim.verify.designs import MAC

CANDIDATES = {
    "same.v": MAC,
    # the same function, written otherwise
    "other.v": MAC.replace("first ? {{4{product[15]}}, product} : acc + product",
                           "{first ? {4{product[15]}} : 4'd0, product} + (first ? 20'd0 : acc)"),
    "unsigned.v": MAC.replace("wire signed [15:0] product = a * b",
                              "wire [15:0] product = $unsigned(a) * $unsigned(b)"),
    # differs only for one pair of operands
    "rare.v": MAC.replace("product = a * b", "product = (a == 8'sd77 && b == -8'sd93) ? 16'sd0 : a * b"),
    "broken.v": MAC.replace("endmodule", ""),
    "ports.v": MAC.replace("output reg done,", "output reg ready, output reg done,"),
    "bound.v": MAC.replace("count == 4'd9) ? 4'd0", "count == 4'd10) ? 4'd0"),
}  # fmt: skip


PROSE = "A multiplier that accumulates; count goes from 0 to 9."


@pytest.mark.slow
def test_ranking_and_pairs(tmp_path, capsys):
    folder = tmp_path / "candidates"
    folder.mkdir()
    for name, text in CANDIDATES.items():
        assert name == "same.v" or text != MAC
        (folder / name).write_text(text)
    (tmp_path / "mac.v").write_text(MAC)
    arguments = ["verify", str(tmp_path / "mac.v"), "--candidates", str(folder), "-o", str(tmp_path / "out"),
                 "--spec", f"{PROSE}\nassert: count <= 9", "--effort", "4"]  # fmt: skip
    assert cli.run(arguments) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    scores = {c["name"]: c["score"] for c in report["candidates"]}
    facts = {c["name"]: c for c in report["candidates"]}
    assert scores["same.v"] == scores["other.v"] == 100
    assert facts["other.v"]["proof"] == "equivalent"
    assert (
        scores["rare.v"] == 90 and facts["rare.v"]["proof"] == "different"
    )  # it passed every scenario
    assert (
        scores["bound.v"] < scores["rare.v"]
        and facts["bound.v"]["properties"]["count <= 9"] == "falsified"
    )
    assert scores["broken.v"] == scores["ports.v"] == 0
    assert "syntax error" in facts["broken.v"]["error"] and "ports" in facts["ports.v"]["error"]
    lines = [
        json.loads(line) for line in (tmp_path / "out" / "pairs.jsonl").read_text().splitlines()
    ]
    names = {text: name for name, text in CANDIDATES.items()}
    made = {(names[line["chosen"]], names[line["rejected"]]) for line in lines}
    assert ("other.v", "rare.v") in made and ("rare.v", "bound.v") in made
    assert not {("same.v", "other.v"), ("other.v", "same.v"), ("broken.v", "ports.v")} & made
    assert all(line["score_chosen"] - line["score_rejected"] >= 5 for line in lines)
    assert {line["prompt"] for line in lines} == {PROSE}
    assert all("assert" not in line["prompt"] for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--candidates", "absent", "--spec", "x"], "absent: there is no such folder"),
        (["--candidates", "."], "--candidates needs --spec"),
        (["--candidates", "empty", "--spec", "x"], "empty: there is no Verilog in it"),
    ],
)
def test_asked_wrongly(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mac.v").write_text(MAC)
    (tmp_path / "empty").mkdir()
    cli.console = cli.Console()
    assert cli.run(["verify", "mac.v", *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
