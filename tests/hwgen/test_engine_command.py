# SPDX-License-Identifier: Apache-2.0
"""``hwgen engine``: an array alone, in any width."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hw.arrays import make_engine
from hw.arrays.chain import ChainArray
from hwgen import cli
from sim import verilator


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


def written(out: Path, *arguments: str) -> dict[str, Any]:
    assert cli.run(["engine", *arguments, "-o", str(out)]) == 0
    return json.loads((out / "engine.json").read_text())


class TestWrites:
    def test_what_is_asked_for(self, tmp_path: Path) -> None:
        facts = written(
            tmp_path / "e", "systolic_ws:opt1.ent:4x3x2", "--x-bits", "5", "--w-bits", "6",
            "--k", "100", "--group", "3", "--adder", "sklansky",
        )  # fmt: skip
        assert (facts["x_bits"], facts["w_bits"], facts["encoding"]) == (5, 6, "ent")
        assert facts["longest_k"] >= 100 and facts["beat_cycles"] == {"1": 4, "4": 4}
        assert facts["input"]["w"] == {"offset": 4 * 3 * 5, "bits": 2 * 3 * 6}
        names = [str(tmp_path / "e" / "rtl" / module["file"]) for module in facts["modules"]]
        lint = subprocess.run(
            ["verilator", "--lint-only", "-Wno-lint", "-Wno-style", "--top", facts["top"], *names],
            env=verilator.environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert lint.returncode == 0, lint.stderr

    @pytest.mark.parametrize("dsp", ["dsp48e2", "generic"])
    def test_sparse_chains_of_slices_or_of_multipliers(self, dsp: str, tmp_path: Path) -> None:
        facts = written(tmp_path / "e", "chain:dsp_packed:2:4:1x16x4", "--dsp", dsp)
        assert facts["input"]["index"]["bits"] == 2 * 8 * 2 and facts["macs"] == 8 * 4
        text = "".join(path.read_text() for path in (tmp_path / "e" / "rtl").iterdir())
        assert ("DSP48E2 #(" in text) == (dsp == "dsp48e2")
        assert facts["resources"]["dsp"] == (16 if dsp == "dsp48e2" else 32)

    def test_chains_that_a_tile_may_cut(self, tmp_path: Path) -> None:
        """Slices that accumulate, cut by OPMODE, weights packed offline: the class's parameters reach the RTL."""
        facts = written(
            tmp_path / "e", "chain:dsp_packed:4:8:1x16x4", "--w-bits", "4", "--accumulate", "dsp", "--split", "4",
            "--adjusted",
        )  # fmt: skip
        engine = make_engine(
            "chain", "dsp_packed", "4:8", tokens=1, reduce=16, outputs=4, w_bits=4, acc_bits=facts["acc_bits"],
            accumulate="dsp", split=4, adjusted=True,
        )  # fmt: skip
        assert isinstance(engine, ChainArray)
        assert facts["top"] == engine.module_name and facts["input"]["split"]["bits"] == 2
        assert facts["output"]["acc"]["bits"] == 16 * facts["acc_bits"]
        chain = facts["chain"]
        assert (chain["taps"], chain["longest_beats"]) == (8, engine.longest)
        # Every output of a tile has an accumulator of its own, the last part's the lowest ones.
        assert chain["outputs"]["1"] == [0, 1, 2, 3]
        assert sorted(chain["outputs"]["4"]) == list(range(16)) and chain["outputs"]["4"][0] == 12

    @pytest.mark.parametrize(("share", "positions"), [("1", 4), ("2", 2)])
    def test_chains_whose_outputs_share_positions(
        self, share: str, positions: int, tmp_path: Path
    ) -> None:
        facts = written(
            tmp_path / "e", "chain:dsp_packed:2:4:2x16x4", "--share", share, "--dsp", "generic"
        )
        assert facts["input"]["index"]["bits"] == positions * 8 * 2

    @pytest.mark.parametrize(
        ("spec", "option", "latency"),
        [
            ("tree:mac:1x4x4", ["--registers", "inside"], 4),
            ("tree:mac:1x4x4", ["--stages", "5"], 6),
            ("matrix:mac:2x4x2", ["--stages", "3"], None),
            ("tree:opt1:1x4x4", ["--cut", "1"], None),
        ],
    )
    def test_pipelines(
        self, spec: str, option: list[str], latency: int | None, tmp_path: Path
    ) -> None:
        plain = written(tmp_path / "plain", spec)
        deep = written(tmp_path / "deep", spec, *option)
        assert deep["latency"] > plain["latency"]
        assert latency is None or deep["latency"] == latency
        assert deep["top"] != plain["top"]

    def test_the_same_again(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            written(tmp_path / name, "column:opt4e:2x4x2")
        one, two = (
            {p.name: p.read_bytes() for p in sorted((tmp_path / name).rglob("*")) if p.is_file()}
            for name in ("one", "two")
        )
        assert one == two

    def test_over_an_old_one(self, tmp_path: Path) -> None:
        written(tmp_path / "e", "tree:mac:1x4x4")
        assert written(tmp_path / "e", "matrix:opt2:2x1x2")["engine"] == "matrix:opt2:2x1x2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tree:mac:1x4x4", "--x-bits", "17"], "x_bits must be 2 to 16 .*, not 17"),
        (["cube:mac:1x2x2", "--registers", "inside"], "--registers is of the arrays tree, not of cube"),
        (["chain:dsp_packed:2:4:1x8x2", "--cut", "2"], "--cut is of the arrays tree, cube, .*, not of chain"),
        (["tree:mac:1x4x4", "--stages", "0"], "stages must be at least 1, not 0"),
        (["tree:mac:1x4x4", "--w-bits", "1"], "w_bits must be 2 to 16 .*, not 1"),
        (["tree:opt2.array:1x4x4"], r"PE 'opt2' takes no encoding 'array' \(it takes booth, csd, ent\)"),
        (["tree:mac.csd:1x4x4"], r"PE 'mac' takes no encoding 'csd' \(it takes none\)"),
        (["cube:opt4c:1x4x4"], r"array 'cube' has no PE 'opt4c' \(it has mac, opt1\); use cube:opt1"),
        (["cube:opt1"], "needs a shape, e.g. cube:opt1:16x1x16"),
        (["tree:mac:1x4x4", "--acc-bits", "17"], "acc_bits must be at least 18 for one beat, not 17"),
        (["tree:mac:1x4x4", "--k", "64", "--acc-bits", "20"], "acc_bits must be at least 22 for k=64, not 20"),
        (["tree:mac:1x4x4", "--k", "0"], "k must be at least 1, not 0"),
        (["tree:opt1:1x4x4", "--adder", "fast"], "adder 'fast' is not known .*kogge_stone"),
        (["tree:opt1:1x4x4", "--group", "0"], "group must be at least 1, not 0"),
        (["tree:dsp_packed:1x4x4", "--dsp", "dsp48"], "dsp must be one of dsp48e2, generic, not 'dsp48'"),
        (["tree:dsp_packed:1x4x4", "--x-bits", "16"], "two products of 8 by 16 bits do not share a DSP48E2"),
        (["tree:dsp_packed:1x4x4", "--split", "2"], "--split is of chain:dsp_packed, not of tree"),
        (["chain:dsp_packed:2:4:1x16x4", "--split", "2"], "split must be 1, or 2 or 4 .* with accumulate dsp"),
        (["chain:dsp_packed:2:4:1x16x4", "--share", "3"], "1 or 2 outputs share their positions, not 3"),
        (["chain:dsp_packed:5:4:1x8x8"], "keeps 5 of 4 weights: N must be at most M"),
        (["chain:dsp_packed:2:4:1x10x8"], "sparsity 2:4: reduce must be a multiple of 4, not 10"),
    ],
)  # fmt: skip
def test_bad_input(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["engine", *arguments, "-o", str(tmp_path / "e")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(message, said), said
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("")
    assert cli.run(["engine", "tree:mac:1x4x4", "-o", str(tmp_path)]) == 2
    assert "was not written by hwgen" in capsys.readouterr().err
