# SPDX-License-Identifier: Apache-2.0
"""What the documents name is there: files behind links, benchmarks, commands, paths in the repository."""

import re
from pathlib import Path

import pytest
import typer.main

from hwgen import cli
from tests.bench import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
TOP = (
    "benchmarks",
    "designs",
    "docs",
    "generators",
    "hls_templates",
    "hw",
    "hwgen",
    "schedules",
    "sim",
    "tests",
)
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(TOP)})/[\w./-]*\w")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"link to {link}"
    for name in re.findall(r"python3? -m benchmarks\.([a-z]\w*)", text):
        assert (ROOT / "benchmarks" / f"{name}.py").is_file(), f"benchmark {name}"
    for path in re.findall(r"`([^`\n]+)`", text):
        if PATH.fullmatch(path):
            assert (ROOT / path).exists(), f"path {path}"


def test_every_benchmark_has_a_page() -> None:
    """Helpers of benchmarks, which print nothing, are those without a main program."""
    shown = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        if "__main__" in path.read_text(encoding="utf-8"):
            assert re.search(rf"\b{path.stem}\b", shown), f"no page names benchmark {path.stem}"


def test_commands_exist() -> None:
    group = typer.main.get_command(cli.app)
    known = set(group.commands)  # type: ignore[attr-defined]
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
        for name in re.findall(r"^hwgen (\w+)", "".join(text for _, text in blocks), re.MULTILINE):
            assert name in known, f"{page.name}: hwgen {name}"
