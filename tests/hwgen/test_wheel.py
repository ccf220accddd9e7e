# SPDX-License-Identifier: Apache-2.0
"""The wheel: one name in site-packages, with every file that the wings read."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hwgen

ROOT = Path(__file__).parents[2]
WINGS = ["hw", "generators", "hls_templates", "sim", "schedules", "designs"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    assert path.name.startswith(f"hwgen-{hwgen.__version__}-")
    return path


def test_every_file_of_the_wings_is_in_it(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"hwgen/lib/{path.relative_to(ROOT)}"
        for wing in WINGS
        for path in (ROOT / wing).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(expected) > 20
    assert expected - inside == set()


def test_nothing_else_is_in_it(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hwgen"}


def test_it_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    program = (
        "import sys, hwgen, designs.target, hwgen.cli;"
        "assert designs.__file__.startswith(sys.argv[1]), designs.__file__;"
        "sys.exit(hwgen.cli.run(['list', 'targets']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(site)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "u280" in done.stdout
