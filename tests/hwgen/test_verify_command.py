"""``hwgen verify``: a whole run, its report, and one clear line for what was asked wrongly."""

import json
from pathlib import Path

import pytest

from hwgen import cli
from tests.sim.verify.designs import FIFO

SPEC = """A queue of four bytes. What is offered waits until it is taken.
assert room: level <= 4
assume: !(in_data == 255)
cover full: level == 4
assert wrong: level <= 3
"""


@pytest.fixture(autouse=True)
def _fresh():
    cli.console = cli.Console()
    yield
    cli.console.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[int, Path]:
    folder = tmp_path_factory.mktemp("verify")
    (folder / "fifo.v").write_text(FIFO)
    (folder / "spec.txt").write_text(SPEC)
    arguments = ["verify", str(folder / "fifo.v"), "--spec", str(folder / "spec.txt"), "-o", str(folder / "r"),
                 "--mutants", "60", "--cycles", "600", "--effort", "3", "--depth", "14", "--rounds", "1"]  # fmt: skip
    return cli.run(arguments), folder / "r"


def test_report(run):
    code, folder = run
    assert code == 1  # the specification has a property that does not hold
    report = json.loads((folder / "report.json").read_text())
    by_name = {p["name"]: p for p in report["properties"]}
    assert by_name["room"]["status"] == "proven"
    assert by_name["full"]["hits"] > 0
    wrong = by_name["wrong"]
    assert wrong["status"] == "falsified" and wrong["counterexample"]["level"][-1] == 4
    terms = {t["name"]: t for t in report["grade"]["terms"]}
    assert terms["golden"]["points"] is None and report["grade"]["available"] == 85
    assert sum(t["points"] or 0 for t in terms.values()) == pytest.approx(
        report["grade"]["points"], abs=0.1
    )
    mutants = terms["mutants"]
    assert mutants["total"] == 60 == len(report["mutants"])
    fates = [m["fate"] for m in report["mutants"]]
    assert (
        fates.count("killed") == mutants["killed"]
        and fates.count("equivalent") == mutants["equivalent"]
    )
    assert mutants["by_properties"] >= 0.8 * mutants["killed"]
    assert terms["coverage"]["toggle_covered"] > 100
    for mutant in report["mutants"]:
        assert mutant["diff"].startswith("@@ fifo.v:")


def test_page_needs_nothing_else(run):
    page = (run[1] / "report.html").read_text()
    assert "<svg" in page and "level &lt;= 3" in page
    assert (
        "http://" not in page.replace("http://www.w3.org/2000/svg", "") and "https://" not in page
    )
    assert "<script" not in page and "src=" not in page


def test_checker_is_verilog(run, tmp_path):
    from sim.verify.tools import run_worker

    job = {"job": "free", "stem": "c", "checker": str(run[1] / "checker.v"), "output": "bad"}
    run_worker(job, tmp_path, name="free")


WRONG = {
    "no file": (["absent.v"], "absent.v: there is no such file"),
    "not Verilog": (["broken.v"], "broken.v:3: syntax error"),
    "no such top": (["fifo.v", "--top", "fifi"], '"fifi" is not known; did you mean fifo?'),
    "no clock": (["gate.v"], "gate has no clock"),
    "empty spec": (["fifo.v", "--spec", " "], "the specification is empty"),
    "no spec file": (["fifo.v", "--spec", "absent.txt"], "absent.txt: there is no such file"),
    "wrong property": (["fifo.v", "--spec", "x\nassert: lvel < 3"], "line 2: column 1: there is no signal lvel"),
    "no budget": (["fifo.v", "--budget", "0"], "--budget 0 leaves no time"),
    "parameter": (["fifo.v", "-p", "W"], "--parameter W is not NAME=NUMBER"),
    "clock": (["fifo.v", "--clock", "rst"], "rst is no clock of fifo; its clock is clk"),
    "reset": (["fifo.v", "--reset", "rts"], '"rts" is not known; did you mean rst?'),
    "output": (["fifo.v", "-o", "full"], "full exists and is no report of hwgen verify"),
    "empty folder": (["empty"], "empty: there is no Verilog in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fifo.v").write_text(FIFO)
    (tmp_path / "broken.v").write_text(
        "module m(input clk);\n  reg q;\n  always @(posedge clk q <= 1;\nendmodule\n"
    )
    (tmp_path / "gate.v").write_text(
        "module gate(input a, output b);\n  assign b = ~a;\nendmodule\n"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("")
    (tmp_path / "empty").mkdir()
    arguments, message = WRONG[case]
    before = sorted(tmp_path.rglob("*"))
    assert cli.run(["verify", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before
