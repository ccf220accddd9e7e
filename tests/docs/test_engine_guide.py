# SPDX-License-Identifier: Apache-2.0
"""The text of docs/engines.md does what it says: an element of one's own in fewer than 50 lines."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hw.arrays import DotPe, Resources, make_engine
from hw.arrays.own_pe import OWN_PES
from tests.bench import ROOT
from tests.docs.guide import commands, defined, script


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command line of the chapter, by this interpreter and this checkout."""
    first, *rest = shlex.split(line)
    python = [sys.executable] if first == "python" else [sys.executable, "-m", "hwgen"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*python, *rest], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_it_is_short() -> None:
    assert len(script().splitlines()) < 50


@pytest.mark.slow
def test_commands(tmp_path: Path) -> None:
    """As they stand there, one after the other; a change of the element is another build."""
    (tmp_path / "my_pe.py").write_text(script())
    shown = ""
    for line in commands():
        done = run(line, tmp_path)
        assert done.returncode == 0, done.stderr
        shown = done.stdout
    assert "identical" in shown
    build = next(line for line in commands() if " build " in line)
    assert "up to date" in run(build, tmp_path).stdout
    (tmp_path / "my_pe.py").write_text(script() + "\n# changed\n")
    assert "up to date" not in run(build, tmp_path).stdout


def test_alone(tmp_path: Path) -> None:
    (tmp_path / "my_pe.py").write_text(script())
    listed, alone, *_ = commands()
    assert "tree:shift_add" in run(listed, tmp_path).stdout
    done = run(alone, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "build" / "alone" / "rtl" / "shift_add_l8_x8_w8.v").is_file()


def test_only_the_tree_has_it() -> None:
    with (
        defined() as element,
        pytest.raises(ValueError, match="array 'cube' has no PE 'shift_add'"),
    ):
        assert OWN_PES[element.name] is element
        make_engine("cube", "shift_add", tokens=1, reduce=4, outputs=1)


class TestRefused:
    def test_a_name_that_is_taken(self) -> None:
        with pytest.raises(TypeError, match="the name 'mac' is taken"):

            class Mac(DotPe):
                name = "mac"
                latency = 1

    @pytest.mark.parametrize("bad", ["Shift", "a-b", "", "x__y", None])
    def test_a_name_that_is_no_word(self, bad: str | None) -> None:
        with pytest.raises(TypeError, match="needs a name such as"):
            type("Bad", (DotPe,), {"name": bad, "latency": 1})

    def test_no_register(self) -> None:
        with pytest.raises(TypeError, match="latency must be at least 1, not 0"):
            type("Quick", (DotPe,), {"name": "quick", "latency": 0})
        assert "quick" not in OWN_PES


def test_its_resources_count_in_the_array() -> None:
    with defined():
        one = make_engine("tree", "shift_add", tokens=1, reduce=4, outputs=1).resources()
        four = make_engine("tree", "shift_add", tokens=2, reduce=4, outputs=2).resources()
    assert isinstance(one, Resources) and one.dsp == 0
    assert 3 * one.lut < four.lut < 5 * one.lut
