# SPDX-License-Identifier: Apache-2.0
"""RTL of whole kernels on one core and on several: bit for bit the golden model, in the cycles that were predicted."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from designs.graph import GraphCard, load_graph
from designs.progress import SilentProgress
from designs.quantised_kernel import load_kernel
from generators.kernel import KernelPlan, instance_of, schedule
from generators.kernel_build import build_kernel
from hwgen import cli
from hwgen.kernels import integer_inputs, quantised
from schedules.optimal.check import check_plan
from schedules.optimal.solve import Effort, solve
from sim import verilator
from sim.kernel_run import KernelResult, run_kernel
from tests.accelerator.random_kernels import random_kernel

GENERATED = ("-Wno-DECLFILENAME", "-Wno-UNUSEDSIGNAL", "-Wno-PROCASSINIT", "-Wno-SYMRSVDWORD")
"""Of modules that Amaranth wrote, and of the shell's port ``interrupt``."""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    cli.console = cli.Console()
    yield
    cli.console.close()


def agree(result: KernelResult) -> None:
    """Identical, no broken rule of the bus, cycles as promised, phases that follow each other at once."""
    assert not result.mismatch and not result.errors and result.values
    assert abs(result.predicted - result.cycles) <= max(32, result.cycles / 100)
    for phase in result.phases:
        assert abs(phase.predicted - phase.cycles) <= max(32, phase.cycles / 50), phase
        assert 0 <= phase.switch <= 4
    assert all(0 < most <= depth for most, depth in result.links.values())


def run(card: GraphCard, out: Path, policy: str = "sequential") -> KernelResult:
    kernel = quantised(card, 0)
    build_kernel(kernel, schedule(card, policy, Effort(10)), out, SilentProgress())
    return run_kernel(out, integer_inputs(kernel, 0))


def test_vae_whole_by_its_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "vae"
    assert cli.run(["build", "vae", "-o", str(out)]) == 0
    assert cli.run(["sim", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "identical to the golden model (1,568 values compared)" in shown
    kernel = load_kernel(out / "kernel.npz")
    result = run_kernel(out, integer_inputs(kernel, 5))
    agree(result)
    published = kernel.card.published
    assert published is not None and result.cycles <= published.goal

    stalled = run_kernel(out, integer_inputs(kernel, 5), stall_percent=40, seed=3)
    assert not stalled.mismatch and not stalled.errors and stalled.cycles > result.cycles

    image = bytearray((out / "image.bin").read_bytes())
    image[7] ^= 0x40  # of a weight that is used everywhere
    (out / "image.bin").write_bytes(bytes(image))
    assert cli.run(["sim", str(out)]) == 1
    assert "differs from the golden model: dec2[" in capsys.readouterr().err


SMALL = {
    "inputs": {"x": [13, 20]},
    "weights": {"wq": [20, 24], "wk": [20, 24], "wv": [20, 22]},
    "tasks": {
        "q": {"op": "matmul", "inputs": ["x", "wq"], "then": ["silu"]},
        "k": {"op": "matmul", "inputs": ["x", "wk"]},
        "v": {"op": "matmul", "inputs": ["x", "wv"]},
        "scores": {"op": "matmul_t", "inputs": ["q", "k"], "scale": 0.25},
        "p": {"op": "softmax", "inputs": ["scores"]},
        "context": {"op": "matmul", "inputs": ["p", "v"]},
        "out": {"op": "mul", "inputs": ["context", "v"], "then": ["sigmoid"]},
    },
    "outputs": ["context", "out"],
    "machine": {
        "tokens": 4, "reduce": 8, "outputs": 4, "cores": 1, "spad_bytes": 1 << 20, "bytes_per_cycle": 32,
    },
}  # fmt: skip


def test_attention_with_a_gate(tmp_path: Path) -> None:
    """Softmax, products of tensors, tables, two results; rows and columns that do not fill words."""
    card = GraphCard.model_validate(SMALL | {"name": "small"})
    agree(run(card, tmp_path / "small"))
    folder = tmp_path / "small" / "rtl"
    lint = subprocess.run(
        ["verilator", "--lint-only", "-Wall", *GENERATED, "--top", "hwgen_top",
         *sorted(path.name for path in folder.iterdir())],
        env=verilator.environment(), capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert lint.returncode == 0 and "%Warning" not in lint.stderr, lint.stderr[:2000]
    strict = subprocess.run(
        ["verilator", "--lint-only", "-Wall", "-Wno-fatal", "--top", "hwgen_top",
         *sorted(path.name for path in folder.iterdir())],
        env=verilator.environment(), capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    ours = [line for line in strict.stderr.splitlines() if line.startswith("%") and ".sv:" in line]
    assert not [line for line in ours if "hwgen_top" not in line]


@pytest.mark.slow
def test_results_that_are_read_and_stored(tmp_path: Path) -> None:
    """Stores wait for a narrow port while the same rows go to X and W words; words come in many pieces."""
    machine = SMALL["machine"] | {"bytes_per_cycle": 4}
    outputs = ["q", "k", "context", "out"]
    card = GraphCard.model_validate(SMALL | {"name": "s", "machine": machine, "outputs": outputs})
    result = run(card, tmp_path / "k")
    assert not result.mismatch and not result.errors and result.values == 13 * (24 + 24 + 22 + 22)


BANDS = {
    "inputs": {"x": [2, 13, 16]},
    "tasks": {
        "a": {"op": "conv", "inputs": ["x"], "kernel": [2, 3, 3], "padding": "same", "then": ["upsample2"]},
        "b": {"op": "conv", "inputs": ["a"], "kernel": [3, 3, 3], "padding": "same", "then": ["maxpool2"]},
        "c": {"op": "conv", "inputs": ["b"], "kernel": [2, 3, 2]},
    },
    "outputs": ["b", "c"],
    "machine": {
        "tokens": 4, "reduce": 9, "outputs": 4, "grow": "tokens", "spad_bytes": 1 << 20, "bytes_per_cycle": 32,
    },
}  # fmt: skip


def shared_by_all(card: GraphCard) -> KernelPlan:
    """A plan by hand: both cores work on every task."""
    instance = instance_of(card, (2, 2))
    both = [
        replace(task, modes=tuple(m for m in task.modes if m.units[0] != "c0" or len(m.units) == 2))
        for task in instance.tasks
    ]
    both = [replace(t, modes=tuple(m for m in t.modes if m.units != ("c1",))) for t in both]
    plan = solve(replace(instance, tasks=tuple(both)), Effort(5))
    check_plan(instance, plan)
    return KernelPlan(card.name, (2, 2), False, plan)


@pytest.mark.slow
def test_links_that_wait(tmp_path: Path) -> None:
    """Own rows and those of two other cores want the write port at once; links are full. Cycles are not predicted."""
    result = run(load_graph("cnn-4l"), tmp_path / "k", "equal-cores")
    assert not result.mismatch and not result.errors
    assert max(most for most, _ in result.links.values()) == 16


@pytest.mark.slow
def test_bands_of_images(tmp_path: Path) -> None:
    """Rows of one core come to another while that writes its own; halos, upsampled and pooled bands."""
    card = GraphCard.model_validate(BANDS | {"name": "bands"})
    kernel = quantised(card, 0)
    build_kernel(kernel, shared_by_all(card), tmp_path / "k", SilentProgress())
    for seed, stalls in ((0, 0), (1, 40)):
        inputs = integer_inputs(kernel, seed)
        result = run_kernel(tmp_path / "k", inputs, stall_percent=stalls, seed=1)
        assert not result.mismatch and not result.errors
        assert {(p.core, p.name) for p in result.phases} == {(k, t) for k in (0, 1) for t in "abc"}
        assert all(0 < most <= depth for most, depth in result.links.values()) and result.links


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cnn-4l", "self-attn", "gating-net"])
def test_the_others_whole(name: str, tmp_path: Path) -> None:
    card = load_graph(name)
    result = run(card, tmp_path / name)
    agree(result)
    assert abs(result.predicted - result.cycles) <= result.cycles / 100
    assert card.published is not None and result.cycles <= card.published.goal


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "policy"), [("mlp", "equal-cores"), ("mlp", "dataflow"), ("cnn-4l", "dataflow")]
)
def test_several_cores_whole(name: str, policy: str, tmp_path: Path) -> None:
    result = run(load_graph(name), tmp_path / name, policy)
    agree(result)
    assert abs(result.predicted - result.cycles) <= result.cycles / 100 and result.links


def _kernels(one: int, several: int) -> list[Any]:
    """Seeds, and whether on several cores; one of those always runs."""
    slow = [(False, seed) for seed in range(1, one + 1)] + [
        (True, s) for s in range(2, several + 1)
    ]
    return [(True, 1), *(pytest.param(*case, marks=pytest.mark.slow) for case in slow)]


@pytest.mark.parametrize(("several", "seed"), _kernels(51, 31))
def test_random_kernels(several: bool, seed: int, tmp_path: Path) -> None:
    kernel, plan = random_kernel(seed, several=several)
    build_kernel(kernel, plan, tmp_path / "k", SilentProgress())
    inputs = integer_inputs(kernel, seed)
    agree(run_kernel(tmp_path / "k", inputs))
    draw, most = np.random.default_rng(seed), 2 ** (kernel.bits - 1) - 1
    corners = {
        name: draw.choice([-most - 1, -most, -1, 0, 1, most], x.shape) for name, x in inputs.items()
    }
    stalled = run_kernel(tmp_path / "k", corners, stall_percent=30, seed=seed)
    assert not stalled.mismatch and not stalled.errors


def test_a_build_is_reproducible(tmp_path: Path) -> None:
    for name in ("a", "b"):
        card = GraphCard.model_validate(SMALL | {"name": "small"})
        plan = schedule(card, "sequential", Effort(10))
        build_kernel(quantised(card, 0), plan, tmp_path / name, SilentProgress())
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert files and all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )
    facts = json.loads((tmp_path / "a" / "design.json").read_text())
    assert np.prod([facts["cores"][0][k] for k in ("tokens", "reduce", "outputs")]) == 128
