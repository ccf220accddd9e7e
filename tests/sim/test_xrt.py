# SPDX-License-Identifier: Apache-2.0
"""The exported host programs on the simulated RTL, through the registers that the exported files name."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from designs import quantised
from designs.progress import SilentProgress
from designs.tokenizer import ByteTokenizer
from generators.build import BuildRequest, build
from generators.export import Options, export
from hwgen.joins import joins
from sim.built import load
from sim.golden import transformer
from sim.xrt import compile_host
from tests.hwgen import fake_pyxrt

PROMPT, COUNT = "In the b", 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained tiny-gpt2 for a card with HBM."""
    out = tmp_path_factory.mktemp("tiny") / "out"
    build(BuildRequest("tiny-gpt2", "u50", out), SilentProgress(), joins())
    return out


@pytest.fixture(scope="module")
def project(built: Path) -> Path:
    return export(built, "vitis", None, Options(), SilentProgress()).folder


@pytest.fixture(scope="module")
def program(built: Path, project: Path) -> Path:
    return compile_host(built, project)


@pytest.fixture(scope="module")
def golden(built: Path) -> list[int]:
    model = quantised.load(built / "quantised.npz", keep=None)
    prompt = ByteTokenizer().encode(PROMPT)
    return transformer.generate(model, prompt, COUNT, chunk=load(built).chunk)


def run(program: Path, project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "kernel.xml", "weights.bin", *arguments], cwd=project, capture_output=True, text=True,
    )  # fmt: skip


class TestCpp:
    def test_text_is_that_of_the_golden_model(
        self, program: Path, project: Path, golden: list[int]
    ) -> None:
        done = run(program, project, "--prompt", PROMPT, "--tokens", str(COUNT))
        assert done.returncode == 0, done.stderr + done.stdout
        assert done.stdout == ByteTokenizer().decode(golden) + "\n"
        assert f"{len(PROMPT)} + {COUNT} tokens in " in done.stderr
        ids = ",".join(map(str, ByteTokenizer().encode(PROMPT)))
        again = run(program, project, "--ids", ids, "--tokens", str(COUNT))
        assert again.stdout == done.stdout

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--tokens", "3"], "the prompt is empty"),
            (["--ids", "1,2,200"], "token 200 is not in the vocabulary of 128"),
            (["--ids", "1,x"], '--ids must be a whole number, not "x"'),
            (["--prompt", "a", "--tokens", "257"], "do not fit the context of 256"),
            (["--prompt", "a", "--colour", "red"], "unknown option --colour"),
            (["--prompt", "a", "--device", "1"], "there is one device"),
        ],
    )
    def test_bad_input_is_one_line(
        self, program: Path, project: Path, arguments: list[str], said: str
    ) -> None:
        done = run(program, project, *arguments)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("file", "before", "after", "said"),
        [
            ("kernel.xml", 'offset="0x80"', 'offset="0x8C"', "the accelerator broke a rule"),
            ("kernel.xml", 'id="5" port="m_axi_g01"', 'id="5" port="m_axi_g02"', "has a buffer already"),
            ("link.cfg", "m_axi_g01:HBM[1]\n", "m_axi_g01:HBM[0]\n", "has a buffer already"),
            ("link.cfg", "sp=hwgen_top_1.m_axi_g01:HBM[1]\n", "", "is not connected to a memory"),
            ("kernel.xml", 'kernel name="hwgen_top"', 'kernel name="other"', "names the unit hwgen_top_1"),
        ],
    )  # fmt: skip
    def test_a_wrong_description_does_not_pass(
        self, program: Path, project: Path, tmp_path: Path, file: str, before: str, after: str, said: str,
    ) -> None:  # fmt: skip
        for name in ("kernel.xml", "link.cfg", "weights.bin"):
            shutil.copy(project / name, tmp_path / name)
        text = (tmp_path / file).read_text()
        assert before in text
        (tmp_path / file).write_text(text.replace(before, after))
        done = run(program, tmp_path, "--prompt", PROMPT, "--tokens", "2")
        assert done.returncode == 1 and said in done.stderr, done.stderr

    def test_memories_may_be_any(
        self, program: Path, project: Path, tmp_path: Path, golden: list[int]
    ) -> None:
        for name in ("kernel.xml", "link.cfg", "weights.bin"):
            shutil.copy(project / name, tmp_path / name)
        text = (tmp_path / "link.cfg").read_text()
        for one, other in (("g00:HBM[0]", "g00:HBM[31]"), ("g01:HBM[1]", "g01:HBM[0]")):
            text = text.replace(one, other)
        (tmp_path / "link.cfg").write_text(text)
        done = run(program, tmp_path, "--prompt", PROMPT, "--tokens", "4")
        assert done.stdout == ByteTokenizer().decode(golden[:4]) + "\n", done.stderr


class TestPython:
    def test_tokens_are_those_of_the_golden_model(
        self, built: Path, project: Path, golden: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host = self.load_host(built, project, monkeypatch)
        (project / "card.xclbin").write_text("the fake card reads it")
        prompt = ByteTokenizer().encode(PROMPT)
        tokens, cycles = host.generate(
            str(project / "card.xclbin"), str(project / "weights.bin"), prompt, COUNT
        )
        assert tokens == golden and cycles > 1000
        for wrong, count in (([], 1), ([200], 1), ([1], 257), ([1], 0)):
            with pytest.raises(SystemExit, match="error: "):
                host.generate(
                    str(project / "card.xclbin"), str(project / "weights.bin"), wrong, count
                )
        with pytest.raises(SystemExit, match="is not the image of this accelerator"):
            host.read_image(project / "kernel.xml")

    @staticmethod
    def load_host(built: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setitem(sys.modules, "pyxrt", fake_pyxrt.module(built))
        spec = importlib.util.spec_from_file_location("host", project / "host" / "host.py")
        assert spec is not None and spec.loader is not None
        host = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(host)
        return host
