# SPDX-License-Identifier: Apache-2.0
"""HLS designs: their C-simulation equals the golden model; files are the plan's and always the same."""

import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from designs.errors import DesignError
from designs.graph import GraphCard, load_graph
from designs.graph_machine import MachineOptions
from designs.onnx_graph import load_onnx
from designs.progress import SilentProgress
from generators.hls.network import Hold, network_of, pieces, reach, turns
from generators.kernel import schedule
from hwgen.graphs import open_graph
from hwgen.hls import HlsRequest, build
from hwgen.kernels import quantised
from schedules.optimal.solve import Effort
from sim import hls
from sim.compiler import find_compiler
from sim.errors import SimulationError
from tests.designs.onnx_models import classifier, save
from tests.generators.hls.random_cards import random_card

EFFORT = Effort(seconds=5)
QUIET = SilentProgress()


def request(card: GraphCard, out: Path, policy: str, style: str, **changes: Any) -> HlsRequest:
    given: dict[str, Any] = {
        "parameters": None, "plan": None, "board": None, "seed": 0, "effort": EFFORT
    } | changes  # fmt: skip
    return HlsRequest(card, out=out, style=style, policy=policy, **given)


def check(card: GraphCard, out: Path, policy: str, style: str, **changes: Any) -> None:
    """Build, C-simulate, and compare all outputs."""
    build(request(card, out, policy, style, **changes), QUIET)
    found = hls.simulate(out, QUIET)
    assert found.identical, found.lines
    assert found.values == sum(math.prod(card.shape(n)) for n in card.outputs)


def resized(name: str, inputs: dict[str, Any], weights: dict[str, Any] | None = None) -> GraphCard:
    fields = load_graph(name).model_dump()
    return GraphCard.model_validate(
        fields | {"inputs": inputs, "weights": weights or fields["weights"]}
    )


GATING = {"up": [96, 172], "gate": [96, 172], "down": [172, 96]}
KERNELS = [
    ("mlp", load_graph("mlp"), "dataflow-sized", "vitis"),
    ("cnn-4l", load_graph("cnn-4l"), "dataflow-sized", "tapa"),
    ("vae", load_graph("vae"), "optimal", "tapa"),
    ("self-attn, 8 rows", resized("self-attn", {"x": [8, 1024]}), "equal-cores", "vitis"),
    ("gating-net, narrow", resized("gating-net", {"x": [5, 96]}, GATING), "dataflow", "vitis"),
]


@pytest.mark.parametrize(("name", "card", "policy", "style"), KERNELS, ids=[k[0] for k in KERNELS])
def test_kernels(name: str, card: GraphCard, policy: str, style: str, tmp_path: Path) -> None:
    check(card, tmp_path / "out", policy, style)


def test_an_onnx_model(tmp_path: Path) -> None:
    """Biases, strides, padding, a dense end, in int8; and what a wrong result looks like."""
    options = MachineOptions(lanes="2x4x6", cores=2, grow="outputs")
    kernel = load_onnx(save(tmp_path / "net.onnx", classifier()), options.machine, dtype="i8")
    out = tmp_path / "out"
    check(kernel.card, out, "equal-cores", "vitis", parameters=kernel.parameters)
    golden = out / "data" / "golden_out_y.bin"
    content = bytearray(golden.read_bytes())
    content[2] ^= 1
    golden.write_bytes(content)
    found = hls.simulate(out, QUIET)
    assert (found.wrong, found.values) == (1, 5)
    assert "first: row 0, column 2" in found.lines[0]


def test_a_layer_of_gpt2(tmp_path: Path) -> None:
    """Norms, causal attention of four heads, GELU: the trained weights of tiny-gpt2."""
    options = MachineOptions(lanes="2x4x8", grow="outputs", cores=2)
    card, parameters = open_graph("tiny-gpt2@6:2", options)
    assert parameters is not None
    effort = Effort(0.2)
    check(card, tmp_path / "out", "sequential", "vitis", parameters=parameters, effort=effort)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_random_kernels(seed: int, tmp_path: Path) -> None:
    """Any plan of any kernel: groups of cores, streams, tensors that are kept or leave the chip and return."""
    policy = ("dataflow", "equal-cores", "sequential", "optimal", "dataflow-sized")[seed % 5]
    try:
        check(random_card(seed), tmp_path / "out", policy, ("vitis", "tapa")[seed // 5 % 2])
    except DesignError as error:
        assert any(
            w in str(error)
            for w in ("needs at least", "more than it takes", "has no mode", "has no schedule")
        ), error
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["sequential", "equal-cores"])
def test_self_attention_whole(policy: str, tmp_path: Path) -> None:
    check(load_graph("self-attn"), tmp_path / "out", policy, "tapa")


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    card = load_graph("vae")
    for name in ("one", "two"):
        build(request(card, tmp_path / name, "dataflow", "vitis"), QUIET)
    files = sorted(
        p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()
    )
    assert {str(f) for f in files} >= {
        "src/kernel.cpp", "src/kernel.h", "src/ops.h", "src/host.cpp", "run_hls.tcl", "hls.cfg", "link.cfg",
        "plan.yaml", "design.json", "data/in_image.bin", "data/golden_out_dec2.bin", "data/weights_c0.bin",
    }  # fmt: skip
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), (
            file
        )
    again = build(request(card, tmp_path / "one", "dataflow", "vitis"), QUIET)
    assert again.endswith("is up to date")


def test_a_plan_by_hand(tmp_path: Path) -> None:
    """A plan.yaml instead of a policy is played as it is; one that is not legal is not."""
    card = load_graph("vae")
    build(request(card, tmp_path / "one", "dataflow", "tapa"), QUIET)
    plan = tmp_path / "one" / "plan.yaml"
    build(request(card, tmp_path / "two", "optimal", "tapa", plan=plan), QUIET)
    assert (tmp_path / "two" / "src" / "kernel.cpp").read_text() == (
        tmp_path / "one" / "src" / "kernel.cpp"
    ).read_text()
    edited = tmp_path / "edited.yaml"
    edited.write_text(plan.read_text().replace("place: stream}", "place: onchip, home: c0}", 1))
    with pytest.raises(DesignError, match="Precedence: "):
        build(request(card, tmp_path / "three", "optimal", "tapa", plan=edited), QUIET)
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize("style", ["vitis", "tapa"])
def test_pragmas_are_where_they_count(style: str, tmp_path: Path) -> None:
    """A pipeline is a loop's, first in its body; an array is divided into as many banks as are read in a cycle."""
    card = load_graph("vae")
    build(request(card, tmp_path / "out", "dataflow", style), QUIET)
    text = (tmp_path / "out" / "src" / "kernel.cpp").read_text()
    before = ""
    for line in text.splitlines():
        if line.startswith("#pragma HLS") and ("PIPELINE" in line or "UNROLL" in line):
            assert before.strip().startswith("for (") and before.endswith("{"), before
        if not line.startswith("#pragma"):
            before = line
    # A 4x4 kernel reads dec1, 8 taps of 2 pixels at a time: 2 rows of 2 + 3 pixels.
    held = text[text.index("void hold_dec1") :]
    assert "variable=held dim=2 cyclic factor=2\n" in held[:500]
    assert "variable=held dim=3 cyclic factor=5\n" in held[:500]


def network(name: str, policy: str):
    card = load_graph(name)
    return network_of(quantised(card, 0), schedule(card, policy, EFFORT))


def test_only_what_the_plan_uses() -> None:
    """One core needs no links between cores; a streamed image has room for the rows that a kernel needs."""
    one = network("cnn-4l", "sequential")
    assert (
        [c.name for c in one.cores] == ["c0"]
        and len(one.cores[0].stages) == 4
        and one.special is None
    )
    assert not [s for s in one.cores[0].stages if s.forward]
    many = network("cnn-4l", "dataflow-sized")
    assert [len(c.stages) for c in many.cores] == [1, 1, 1, 1]
    rows = {h.tensor: (h.window, h.shape[1]) for h in many.holds}
    assert rows["conv2"][1] == 896 and rows["conv2"][0] < 8


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5, 6])
def test_windows_are_large_enough_and_not_larger(seed: int) -> None:
    """Rows that come before they are needed, played one by one: none is overwritten too early, and all are used."""
    card = random_card(seed)
    with np.errstate(all="ignore"):
        quant = quantised(card, seed)
    net = network_of(quant, schedule(card, "equal-cores", EFFORT))
    for hold in net.holds:
        if not hold.whole:
            assert play(card, hold) == hold.window


def play(card: GraphCard, hold: Hold) -> int:
    """Most rows between the oldest that is needed and the newest that has begun, counted element by element."""
    (serve,) = hold.serves
    _, height, width = hold.made
    wide = (
        width
        if hold.tiling is None
        else hold.tiling.wide_n
        if hold.tiling.product.row
        else width * hold.tiling.wide_m
    )
    pixels, rows_begun, most = 0, 0, 0
    last = [-1] * hold.shape[1]  # the element that completes a row

    def place(pixel: int) -> list[int]:
        rows = [pixel // width]
        for step in hold.steps:
            if step.name == "maxpool2":
                rows = [r // 2 for r in rows if r % 2]
            elif step.name == "upsample2":
                rows = [2 * r + i for r in rows for i in (0, 1)]
        return rows

    for pixel in range(height * width):
        for row in place(pixel):
            if row < hold.shape[1]:
                last[row] = pixel
    for turn in range(turns(hold, serve)):
        low, need = reach(card, hold, serve, turn)
        while pixels == 0 or any(pixels <= last[row] for row in range(need)):
            for pixel in range(pixels, min(pixels + wide, height * width)):
                rows_begun = max([rows_begun, *(row + 1 for row in place(pixel))])
            pixels += wide
        most = max(most, rows_begun - low)
    assert pieces(hold) * wide >= height * width
    return min(most, hold.shape[1])


DEADLOCK = """
#include "hls_stream.h"
#include "hls_task.h"
void forth(hls::stream<int> &in, hls::stream<int> &out) { out.write(in.read()); }
void twice(hls::stream<int> &out) { for (int i = 0; i < 3; i++) out.write(i); }
int main(int count, char **) {
  hls::stream<int, 2> one("one"), two("two");
  if (count > 1) {
    hls::task a(twice, one);
    fibers::run();
  } else {
    hls::task a(forth, one, two), b(forth, two, one);
    fibers::run();
  }
}
"""


def test_a_deadlock_is_named(tmp_path: Path) -> None:
    """Processes that wait for each other, or for room that never comes: which, and for what."""
    compiler = find_compiler("the test")
    source = tmp_path / "deadlock.cpp"
    source.write_text(DEADLOCK)
    headers = Path(__file__).parents[3] / "hls_templates" / "csim"
    program = tmp_path / "deadlock"
    subprocess.run([compiler, "-std=c++17", f"-I{headers}", source, "-o", program], check=True)
    ring = subprocess.run([program], capture_output=True, text=True, check=False)
    assert ring.returncode == hls.DEADLOCK and ring.stdout == "deadlock: reads one; reads two;\n"
    full = subprocess.run([program, "full"], capture_output=True, text=True, check=False)
    assert full.returncode == hls.DEADLOCK and full.stdout == "deadlock: writes one;\n"
    out = tmp_path / "out"
    build(request(load_graph("vae"), out, "sequential", "vitis"), QUIET)
    (out / "csim" / "kernel").write_text("#!/bin/sh\necho 'deadlock: reads one;'\nexit 4\n")
    (out / "csim" / "kernel").chmod(0o755)
    with pytest.raises(
        SimulationError, match="processes wait for each other; deadlock: reads one;"
    ):
        hls.simulate(out, QUIET)
