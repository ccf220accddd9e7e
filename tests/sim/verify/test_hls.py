# SPDX-License-Identifier: Apache-2.0
"""Seeded bugs of HLS kernels: where they are, and that the C-simulation shows them."""

import json
import subprocess

import pytest

from hwgen import cli
from sim.verify.hls import find_bugs, seeded

KERNEL = """#include "kernel.h"
void kernel(int n, int shift) {
  elem_t held[1][4][8];
  acc_t acc[4];
  for (int i = 0; i < n; i++) {
    int total = 0;
    acc[i] = 0;
    for (int k = 0; k < 8; k++) held[0][i][k] = (elem_t)wide;
    acc[i] = k == 0 ? (acc_t)sum : (acc_t)(acc[i] + sum);
  }
}
"""
OPS = "static inline int f(int x, int shift) { return ((x >> (shift - 1)) + 1) >> 1; }\n"


@pytest.fixture
def design(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "kernel.cpp").write_text(KERNEL)
    (tmp_path / "src" / "ops.h").write_text(OPS)
    return tmp_path


def test_bugs_of_every_kind(design):
    bugs = find_bugs(design, 100, 0)
    assert bugs == find_bugs(design, 100, 0)
    shown = "\n".join(b.diff for b in bugs)
    for line in (
        "+ for (int i = 0; i < n - 1; i++) {", "- acc[i] = 0;", "held[0][k][i] = (elem_t)wide;",
        "held[0][i][k] = (elem_t)(int8_t)wide;", "return ((x >> (shift - 1 + 1)) + 1) >> 1;",
        "+ acc[i] = false ? (acc_t)sum",
    ):  # fmt: skip
        assert line in shown, (line, shown)
    assert "held[1]" not in "".join(b.right for b in bugs)  # not the declaration
    assert {b.kind for b in bugs} == {
        "off-by-one", "missing-reset", "wrong-width", "swapped-indices", "wrong-shift",
    }  # fmt: skip


def test_a_seeded_source_is_the_source_when_no_bug_is_chosen(design):
    bugs = [b for b in find_bugs(design, 100, 0) if b.file == "ops.h"]
    program = "#include <cstdio>\nstatic int chosen = 0; int hwgen_mutant() { return chosen; }\n"
    program += (
        seeded(OPS, bugs)
        + 'int main() { for (chosen = 0; chosen < 9; chosen++) printf("%d ", f(1000, 3)); }'
    )
    (design / "a.cpp").write_text(program)
    subprocess.run(["g++", "a.cpp", "-o", "a"], cwd=design, check=True)
    said = subprocess.run(["./a"], cwd=design, capture_output=True, text=True).stdout.split()
    number = next(b.number for b in bugs if b.kind == "wrong-shift")
    assert [k for k, value in enumerate(said) if value != "125"] == [number]


@pytest.mark.slow
def test_a_kernel_is_graded(tmp_path):
    out = tmp_path / "mlp"
    cli.console = cli.Console()
    assert cli.run(["build", "mlp", "--backend", "hls", "-o", str(out)]) == 0
    before = {p: p.read_bytes() for p in (out / "src").iterdir()}
    assert cli.run(["verify", str(out), "--mutants", "10", "-o", str(tmp_path / "r")]) == 0
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["grade"]["available"] == 50
    fates = [m["fate"] for m in report["mutants"]]
    assert len(fates) == 10 and fates.count("killed") >= 7
    assert {p: p.read_bytes() for p in (out / "src").iterdir()} == before
