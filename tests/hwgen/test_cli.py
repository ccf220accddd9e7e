# SPDX-License-Identifier: Apache-2.0
"""The command line: a mistake is one line and an exit code; a command calls its function."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import hwgen
from designs.errors import DesignError
from hwgen import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a module with the given names in place of a wing's, which may need a minute to run."""

    def put(name: str, **members: Any) -> None:
        module = ModuleType(name)
        vars(module).update(members)
        package, _, last = name.rpartition(".")
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(f"{package}.{last}", module, raising=False)

    return put


@dataclass
class Result:
    """As of sim.run."""

    tokens: list[int]
    text: str = ""
    cycles: int = 1000
    wall_seconds: float = 2.0
    cycles_per_token: float = 250.0
    cycles_per_second: float = 500.0
    values: int = 4096
    identical: bool = True
    mismatch: str | None = None
    counters: tuple[str, ...] = ()


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error; nothing may be on standard output."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix("error: ").strip()


class TestList:
    def test_models(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["list", "models"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(line.split()[:3] == ["gpt2-medium", "355", "M"] for line in lines)
        assert any(line.startswith("tiny-gpt2") for line in lines)

    def test_targets(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["list", "targets"]) == 0
        out = capsys.readouterr().out
        assert all(name in out for name in ("u280", "kv260", "sim-small", "8 GiB"))

    def test_engines(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["list", "engines"]) == 0
        assert "tree:mac" in capsys.readouterr().out

    def test_unknown(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["list", "target"]) == 2
        assert error_line(capsys) == 'list "target" is not known; did you mean targets?'


class TestAskedWrongly:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["biuld"], "No such command 'biuld'. Did you mean 'build'?"),
            (["build"], "Missing argument 'MODEL'"),
            (["build", "tiny-gpt2"], "Missing option '--target'"),
            (["build", "tiny-gpt2", "--taget", "u280"], "No such option"),
            (["sim", "x"], "give one of --prompt, --ids or --layers"),
            (["sim", "x", "--prompt", "a", "--ids", "1"], "give one of"),
            (["sim", "x", "--prompt", "a", "--layers", "1"], "takes no --prompt"),
            (["sim", "x", "--prompt", "a", "--random"], "--random needs --layers"),
            (["sim", "x", "--ids", "1,b"], "--ids must be whole numbers like 1,2,3, not '1,b'"),
            (["sim", "x", "--prompt", "a", "--tokens", "0"], "Invalid value for '--tokens'"),
            (["report", "no-such-folder"], "no-such-folder has no report.json"),
            (["synth", "no-such-folder"], "no-such-folder has no design.json"),
            (["synth", "x", "--flow", "asci"], 'flow "asci" is not known; did you mean asic?'),
            (["synth", "x", "--flow", "asic"], "needs a library: --liberty FILE or --pdk ihp-"),
            (["synth", "x", "--liberty", "a.lib"], "--liberty is of --flow asic"),
            (["synth", "x", "--pdk", "sky130"], "--pdk is of --flow asic"),
            (
                ["synth", "x", "--flow", "asic", "--liberty", "no.lib"],
                "no.lib cannot be read: No such file or directory",
            ),
            (["synth", "x", "--flow", "asic", "--liberty", __file__], "is not a liberty file"),
            (
                ["synth", "x", "--flow", "asic", "--liberty", "a", "--pdk", "sky130"],
                "give --liberty or --pdk, not both",
            ),
            (["synth", "x", "--flow", "asic", "--pdk", "sky13"], "--pdk sky13 is not known"),
            (
                ["synth", "x", "--flow", "asic", "--pdk", "sky130", "--period", "2,fast"],
                "--period 2,fast is not a list of ns such as 2.5,4",
            ),
            (
                ["synth", "x", "--flow", "asic", "--pdk", "sky130", "--period", "0"],
                "--period 0 is not a list of ns such as 2.5,4",
            ),
            (
                ["build", "tiny-gpt2", "--target", "u280", "--budget", "5"],
                "--budget is of --weights int4 and of --sparsity",
            ),
            (
                ["build", "gpt2", "--target", "u280", "--weights", "int4", "--budget", "5"],
                "gpt2 has none; give one by --weights-from",
            ),
            (["perplexity", "tiny-gtp2"], "did you mean tiny-gpt2?"),
            (["perplexity", "gpt2"], "model gpt2 comes without a tokenizer"),
            (["perplexity", "tiny-gpt2", "--weights", "int5"], "weights are int8 or int4, not"),
            (
                ["perplexity", "tiny-gpt2", "--sparsity", "4:2"],
                "sparsity 4:2 keeps more than there",
            ),
            (
                ["perplexity", "tiny-gpt2", "--sparsity", "3:4"],
                "sparsity 3:4 is not known; known are",
            ),
            (
                ["perplexity", "tiny-gpt2", "--sparsity", "half"],
                "sparsity is dense, or like 2:4, block16:0.5 or",
            ),
            (["perplexity", "tiny-gpt2", "--group", "64"], "int8 weights have no factors"),
            (
                ["perplexity", "tiny-gpt2", "--sparsity", "2:4", "--method", "gtpq"],
                "did you mean gptq?",
            ),
            (["digits", "tiny-gtp2"], "did you mean tiny-gpt2?"),
            (["digits", "gpt2"], "model gpt2 comes without weights; give a folder by --weights-"),
            (
                ["digits", "tiny-gpt2", "--reduce", "18"],
                "a multiple of the 4 lanes of a PE, not 18",
            ),
            (["digits", "tiny-gpt2", "--rows", "0"], "Invalid value for '--rows'"),
        ],
    )
    def test_one_line_and_exit_code_2(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(arguments) == 2
        assert message in error_line(capsys)

    def test_no_command_shows_the_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run([]) == 2
        out, err = capsys.readouterr()
        assert "Usage" in out + err
        assert "error:" not in err

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.run(["--version"]) == 0
        assert capsys.readouterr().out == f"hwgen {hwgen.__version__}\n"


class ToolError(Exception):
    exit_code = 3


class TestExitCodes:
    @pytest.mark.parametrize(
        ("error", "code", "line"),
        [
            (DesignError("model is\nwrong"), 2, "model is wrong"),
            (ToolError("g++ is missing"), 3, "g++ is missing"),
            (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "/x: Permission denied"),
            (OSError(errno.ENOSPC, "No space left on device", "/x"), 3, "/x: No space left"),
            (ModuleNotFoundError("no", name="pyosys"), 3, "the package pyosys is missing"),
            (KeyError("a"), 1, "internal error: KeyError: 'a' (-v shows where)"),
            (KeyboardInterrupt(), 130, "interrupted"),
        ],
    )
    def test_an_error_of_a_wing(
        self,
        error: BaseException,
        code: int,
        line: str,
        provide: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def fail(*arguments: object) -> None:
            raise error

        provide("generators.build", build=fail, BuildRequest=lambda **fields: fields)
        provide("hwgen.joins", joins=lambda: None)
        assert cli.run(["build", "tiny-gpt2", "--target", "u280"]) == code
        assert error_line(capsys).startswith(line)

    @pytest.mark.parametrize("arguments", [["-v", "report", "x"], ["report", "x", "-v"]])
    def test_verbose_adds_the_traceback(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("Traceback")
        assert err.splitlines()[-1].startswith("error: x has no report.json")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_cleans_up_and_exits_130(self, number: signal.Signals, tmp_path: Path) -> None:
        program = (
            "import sys, time, types, pathlib\n"
            "import generators, hwgen.cli\n"
            "m = types.ModuleType('generators.build')\n"
            "m.BuildRequest = lambda **fields: fields\n"
            "def build(request, progress, joins):\n"
            "    with progress.step('emit'):\n"
            "        try:\n"
            "            pathlib.Path(sys.argv[0], 'started').touch()\n"
            "            time.sleep(60)\n"
            "        finally:\n"
            "            pathlib.Path(sys.argv[0], 'cleaned').touch()\n"
            "m.build = build\n"
            "sys.modules['generators.build'] = m\n"
            "sys.modules['hwgen.joins'] = types.ModuleType('hwgen.joins')\n"
            "sys.modules['hwgen.joins'].joins = lambda: None\n"
            "sys.argv = [sys.argv[1], 'build', 'tiny-gpt2', '--target', 'u280']\n"
            "hwgen.cli.main()\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err == "error: interrupted\n"
        assert out.split()[:2] == ["emit", "interrupted"]
        assert (tmp_path / "cleaned").exists()


class TestBuild:
    def test_request(self, provide: Callable[..., None], tmp_path: Path) -> None:
        seen: list[dict[str, Any]] = []

        def build(request: dict[str, Any], progress: object, joins: object) -> SimpleNamespace:
            seen.append(request)
            return SimpleNamespace(fresh=False, summary="x is up to date")

        provide("generators.build", build=build, BuildRequest=lambda **fields: fields)
        provide("hwgen.joins", joins=lambda: None)
        assert cli.run(["build", "gpt2", "-t", "u280", "--weights-from", "w", "-e", "tree"]) == 0
        assert cli.run(["build", "gpt2", "-t", "u280", "-o", str(tmp_path), "--seed", "7"]) == 0
        assert seen[0] == {
            "model": "gpt2",
            "target": "u280",
            "out": Path("build/gpt2-u280"),
            "engine": "tree",
            "weights_from": Path("w"),
            "seed": 0,
            "compression": None,
            "budget": None,
        }
        assert seen[1]["out"] == tmp_path
        assert seen[1]["seed"] == 7


class TestSim:
    def test_streams_the_text(
        self, provide: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def generate(out: Path, **options: Any) -> Result:
            assert options["prompt"] == "In the"
            assert options["tokens"] == 2
            for token, text in ((1, " beg"), (2, "inning")):
                options["on_token"](token, text)
            return Result([1, 2], "beginning")

        provide("sim.run", generate=generate)
        assert cli.run(["sim", "x", "--prompt", "In the", "--tokens", "2"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "In the beginning"
        assert "cycles per token  250" in lines
        assert lines[-1] == "identical to the golden model (4,096 values compared)"

    def test_ids(self, provide: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
        def generate(out: Path, **options: Any) -> Result:
            assert options["prompt"] == [464, 3290]
            return Result([1])

        provide("sim.run", generate=generate)
        assert cli.run(["sim", "x", "--ids", "464, 3290"]) == 0

    def test_a_mismatch_is_exit_code_1(
        self, provide: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run_random_layers(out: Path, layers: int, **options: Any) -> Result:
            assert (layers, options["length"], options["past"]) == (1, 8, 16)
            return Result([], identical=False, mismatch="h0.fc1 [3, 17]: expected 5, got 6")

        provide("hwgen.layers", run_random_layers=run_random_layers)
        arguments = ["--layers", "1", "--random", "--past", "16", "--length", "8"]
        assert cli.run(["sim", "x", *arguments]) == 1
        out, err = capsys.readouterr()
        assert err.endswith("golden model: h0.fc1 [3, 17]: expected 5, got 6\n")
        assert "identical" not in out


def test_listing_does_not_wait_for_the_wings() -> None:
    program = (
        "import sys, hwgen.cli; code = hwgen.cli.run(['list', 'targets']);"
        "heavy = {'amaranth', 'numpy', 'cocotb', 'pyosys', 'jinja2'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ.copy())
    assert done.returncode == 0
