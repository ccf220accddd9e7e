# SPDX-License-Identifier: Apache-2.0
"""``hwgen verify``: a whole run, its report, and one clear line for what was asked wrongly."""

import json
from pathlib import Path

import pytest

from hwgen import cli
from tests.sim.verify.designs import FIFO
from tests.sim.verify.model_server import chat, model_server

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
                 "--mutants", "60", "--cycles", "600", "--effort", "12", "--depth", "14", "--rounds", "1"]  # fmt: skip
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
    "provider": (["fifo.v", "--llm", "opnai:x"], '"opnai" is not known; did you mean openai'),
    "no model": (["fifo.v", "--llm", "openai"], "--llm openai names no model"),
    "no key": (["fifo.v", "--llm", "openai:x"], "needs its key in the environment variable OPENAI_API_KEY"),
    "empty folder": (["empty"], "empty: there is no Verilog in it"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
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


@pytest.mark.slow
def test_with_a_model(tmp_path, capsys):
    """A model proposes over a socket: what is right is proven, what is wrong is told back and refused."""
    (tmp_path / "fifo.v").write_text(FIFO)
    first = {"properties": [{"name": "bound", "property": "level <= 4"}, {"name": "typo", "property": "lvel < 9"},
                            {"name": "false", "property": "level <= 2"},
                            {"name": "same", "property": "level == level"}],
             "inputs": [{"in_valid": 1, "in_data": 17, "out_ready": 0}] * 6}  # fmt: skip
    with model_server([chat(first), chat("no"), chat({"properties": []})]) as server:
        arguments = ["verify", str(tmp_path / "fifo.v"), "-o", str(tmp_path / "r"), "--llm", "local:scripted",
                     "--llm-url", server.url, "--llm-record", str(tmp_path / "kept"), "--rounds", "2",
                     "--target", "100", "--mutants", "30", "--cycles", "300", "--effort", "2",
                     "--depth", "10"]  # fmt: skip
        assert cli.run(arguments) == 0
        assert "level <= 2: falsified" in json.dumps(server.asked[-1])
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    found = {
        p["name"]: p["status"] for p in report["properties"] if p["source"] == "local:scripted"
    }
    assert found == {
        "bound": "proven",
        "typo": "refused",
        "false": "falsified",
        "same": "tautology",
    }
    assert report["asked"]["spent"]["refused replies"] == 1
    again = [*arguments[:-12], "--llm-replay", str(tmp_path / "kept"), *arguments[-12:]]
    del again[again.index("--llm-record") : again.index("--llm-record") + 2]
    again[again.index("-o") + 1] = str(tmp_path / "r2")
    assert cli.run(again) == 0
    second = json.loads((tmp_path / "r2" / "report.json").read_text())
    for one in (report, second):
        one.pop("seconds")
        one["asked"].pop("spent")
    assert second == report


@pytest.mark.slow
def test_model_not_reachable(tmp_path, capsys):
    (tmp_path / "fifo.v").write_text(FIFO)
    arguments = ["verify", str(tmp_path / "fifo.v"), "-o", str(tmp_path / "r"), "--llm", "local:m", "--mutants", "5",
                 "--llm-url", "http://127.0.0.1:9/v1", "--cycles", "60"]  # fmt: skip
    assert cli.run(arguments) == 3
    assert "provider local is not reachable" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_build_part_by_part(tmp_path, capsys):
    """One report of all modules; what cannot be graded says why; what is changed by hand is caught."""
    from generators.verilog import emit
    from hw.memory.burst import BurstCutter
    from hw.sfu.product import GatedProduct

    rtl = tmp_path / "out" / "rtl"
    rtl.mkdir(parents=True)
    modules = []
    for unit in (GatedProduct(1), BurstCutter(limit=2)):
        emission = emit(unit)
        for name, text in emission.files.values():
            (rtl / name).write_text(text.replace("up_1 * u_1", "up_1 * u_1 + 1024"))
        modules += emission.modules()
    (rtl / "gate.v").write_text("module gate(input a, output b);\n  assign b = ~a;\nendmodule\n")
    modules.append({"name": "gate", "file": "gate.v", "count": 3})
    manifest = tmp_path / "out" / "design.json"
    manifest.write_text(json.dumps({"top": "burst_cutter_l2", "modules": modules}))
    arguments = ["verify", str(tmp_path / "out"), "--rounds", "1", "--mutants", "8", "--cycles", "80",
                 "--effort", "1", "--depth", "10"]  # fmt: skip
    assert cli.run(arguments) == 1  # the product disagrees with its golden model
    folder = tmp_path / "out.verify"
    report = json.loads((folder / "report.json").read_text())
    parts = {p["name"]: p for p in report["parts"]}
    assert "has no clock" in parts["gate"]["reason"] and parts["gate"]["count"] == 3
    product, cutter = parts["gated_product_l1"], parts["burst_cutter_l2"]
    assert product["violates"] and product["percent"] == 0
    passed, scenarios = cutter["golden"].split("/")
    assert passed == scenarios != "0" and not cutter["violates"] and cutter["percent"] > 50
    assert report["graded"] == 2 and report["worst"] == 0
    assert (
        "the golden model says" in (folder / "parts" / product["name"] / "report.json").read_text()
    )
    page = (folder / "report.html").read_text()
    assert "parts/burst_cutter_l2/report.html" in page and "not graded" in page
    shown = capsys.readouterr().out
    assert "2 of 3 modules graded" in " ".join(shown.split())

    (rtl / "gate.v").unlink()
    assert cli.run(arguments) == 2
    assert "there is no gate.v, which design.json lists" in " ".join(
        capsys.readouterr().err.split()
    )
