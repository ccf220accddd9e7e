# SPDX-License-Identifier: Apache-2.0
"""Kernels: what cards say is what engines take, policies, and figures to reach with the authors' lanes."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from designs import catalogue
from designs.errors import DesignError
from designs.graph import GraphCard, list_graphs, load_graph
from generators.kernel import (
    POLICIES,
    core_sizes,
    instance_of,
    picture,
    read_plan,
    schedule,
    write_plan,
)
from hw.arrays import make_engine
from schedules.optimal.check import check_plan
from schedules.optimal.solve import Effort
from schedules.optimal.why import binds, waits
from sim.golden.float_kernel import forward

EFFORT = Effort(seconds=10)
MLP = load_graph("mlp")

# Multiplications of InTAR's kernels (FCCM 2025), counted from the authors' source.
MACS = {
    "self-attn": 939_524_096, "mlp": 2_883_584, "cnn-4l": 11_289_600, "vae": 343_808,
    "gating-net": 4_328_521_728,
}  # fmt: skip


def card(**changes: object) -> GraphCard:
    return GraphCard.model_validate(MLP.model_dump() | changes)


@pytest.mark.parametrize("name", sorted(MACS))
def test_multiplications(name: str) -> None:
    assert load_graph(name).macs == MACS[name]
    assert set(MACS) == set(list_graphs())


@pytest.mark.parametrize("name", sorted(MACS))
def test_optimal_reaches_the_goal_and_no_policy_is_better(name: str) -> None:
    kernel = load_graph(name)
    best = schedule(kernel, "optimal", EFFORT)
    check_plan(best.instance(kernel), best.plan)
    assert kernel.published is not None
    floor = -(-kernel.macs // kernel.machine.lanes)
    assert best.plan.proven
    assert floor <= best.plan.makespan <= kernel.published.goal
    for policy in POLICIES[1:]:
        try:
            other = schedule(kernel, policy, EFFORT)
        except DesignError as error:
            assert "a core for each" in str(error)
            continue
        check_plan(other.instance(kernel), other.plan)
        assert other.plan.makespan >= best.plan.makespan


def test_durations_are_the_engines() -> None:
    """fc2 on one core: 512 tiles of 4 outputs, 1024 elements each."""
    instance = instance_of(MLP, core_sizes(MLP, "sequential"))
    (mode,) = (m for m in instance.task("fc2").modes if "columns" in m.name)
    engine = make_engine("tree", tokens=1, reduce=8, outputs=4, x_bits=16, w_bits=16, acc_bits=42)
    assert mode.cycles == 512 * engine.interval(1024, 1) + engine.latency
    (load,) = mode.loads
    assert load.bytes == 1024 * 2048 * 2


def test_more_memory_bandwidth_is_never_slower() -> None:
    spans = []
    for speed in (16, 32, 64, 128):
        machine = MLP.machine.model_copy(update={"bytes_per_cycle": speed})
        spans.append(schedule(card(machine=machine.model_dump()), "optimal", EFFORT).plan.makespan)
    assert spans == sorted(spans, reverse=True) and spans[0] > 3 * spans[2]


def test_what_binds() -> None:
    """Every weight is used once: slow memory binds all three products, fast memory leaves it to the lanes."""
    poor = card(machine=MLP.machine.model_copy(update={"bytes_per_cycle": 32}).model_dump())
    found = schedule(poor, "sequential", EFFORT)
    instance = found.instance(poor)
    assert [binds(instance, found.plan, t) for t in ("fc1", "fc2", "fc3")] == ["port: mem"] * 3
    rich = card(machine=MLP.machine.model_copy(update={"bytes_per_cycle": 256}).model_dump())
    found = schedule(rich, "sequential", EFFORT)
    instance = found.instance(rich)
    assert binds(instance, found.plan, "fc2") == "lanes"
    assert waits(instance, found.plan, "fc2") in (
        "unit: c0 after fc1",
        "dependency: fc1",
        "port: mem",
    )


def test_yaml_round_trip_and_pictures(tmp_path: Path) -> None:
    found = schedule(MLP, "equal-cores", EFFORT)
    text = found.to_yaml()
    assert read_plan(text, MLP) == found
    assert schedule(MLP, "equal-cores", EFFORT).to_yaml() == text
    write_plan(MLP, found, tmp_path / "out")
    assert (tmp_path / "out" / "plan.yaml").read_text() == text
    assert (tmp_path / "out" / "gantt.svg").read_text() == picture(found.instance(MLP), found.plan)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    with pytest.raises(DesignError, match="was not written by hwgen"):
        write_plan(MLP, found, tmp_path / "taken")


def test_an_edited_plan_is_checked() -> None:
    data = yaml.safe_load(schedule(MLP, "sequential", EFFORT).to_yaml())
    run = next(r for r in data["plan"]["runs"] if r["task"] == "fc2")
    run["start"] -= 200
    with pytest.raises(DesignError, match=r"fc2 starts at|fc2 .*first bytes come"):
        read_plan(yaml.safe_dump(data), MLP)
    data["cores"] = [5]
    with pytest.raises(DesignError, match="cores must have 1 to 4 outputs together"):
        read_plan(yaml.safe_dump(data), MLP)
    with pytest.raises(DesignError, match="plan is of mlp, not of vae"):
        read_plan(yaml.safe_dump(data), load_graph("vae"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": {"a": {"op": "matmul", "inputs": ["b", "w1"]}, "b": {"op": "softmax", "inputs": ["a"]}},
          "outputs": ["a"]}, "tasks a, b wait for each other"),
        ({"weights": {"w1": [255, 1024]}, "tasks": {"a": {"op": "matmul", "inputs": ["x", "w1"]}}, "outputs": ["a"]},
         "task a: matmul cannot take .*: 256 columns meet 255 rows"),
        ({"tasks": {"a": {"op": "matmul", "inputs": ["x", "w9"]}}, "outputs": ["a"]}, "w9.* did you mean w"),
        ({"tasks": {"a": {"op": "conv", "inputs": ["x"]}}, "outputs": ["a"]}, "kernel is for conv and deconv"),
        ({"tasks": {"a": {"op": "conv", "inputs": ["x"], "kernel": [1, 3, 3]}}, "outputs": ["a"]}, "it takes an image"),
        ({"tasks": {"a": {"op": "softmax", "inputs": ["x"], "then": ["maxpool2"]}}, "outputs": ["a"]},
         "maxpool2 needs an image"),
        ({"outputs": ["fc9"]}, "did you mean fc"),
        ({"weights": {"x": [2, 2]}}, "x names more than one tensor"),
    ],
)  # fmt: skip
def test_cards_that_cannot_be(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    data = MLP.model_dump(mode="json") | changes
    path = tmp_path / "mlp.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(DesignError, match=message):
        catalogue.load_file(path, GraphCard)


def test_machines_that_are_too_small() -> None:
    small = MLP.machine.model_copy(update={"spad_bytes": 4096, "bank_bytes": 64})
    with pytest.raises(DesignError, match="fc2 has no mode"):
        schedule(card(machine=small.model_dump()), "sequential", EFFORT)
    with pytest.raises(DesignError, match="needs at least 5 tokens, the machine has 2"):
        core_sizes(load_graph("self-attn"), "dataflow")
    with pytest.raises(DesignError, match='policy "best" is not known'):
        schedule(MLP, "best", EFFORT)


def _image(**changes: object) -> GraphCard:
    task = {"op": "conv", "inputs": ["x"], "kernel": [2, 3, 3]} | changes
    return GraphCard.model_validate(
        {
            "name": "image", "inputs": {"x": [1, 8, 10]}, "tasks": {"y": task}, "outputs": ["y"],
            "machine": MLP.machine.model_dump(),
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"padding": "same"}, {"padding": [2, 0, 1, 3]}, {"stride": 2}, {"stride": 3, "padding": "same"},
        {"op": "deconv"}, {"op": "deconv", "stride": 2}, {"op": "deconv", "stride": 3, "padding": [1, 0, 2, 1]},
        {"kernel": [1, 8, 2], "stride": 2}, {"stride": 4, "padding": [0, 0, 3, 0]},
    ],
)  # fmt: skip
def test_how_many_rows_wait_for_the_last(changes: dict[str, object]) -> None:
    """Change the last row of an image: as many rows of the result change, and no row needs more than ``reach`` rows."""
    kernel = _image(**changes)
    product = kernel.product("y")
    assert product is not None
    weights = np.ones(kernel.parameters()["y"])
    image = np.zeros(kernel.inputs["x"])

    def result(row: int) -> np.ndarray:
        changed = image.copy()
        changed[:, row] = 1
        return forward(kernel, {"y": weights}, {"x": changed})["y"]

    made = [np.flatnonzero(result(row).any(axis=(0, 2))) for row in range(image.shape[1])]
    last = made[-1]
    assert product.tail == (product.n // product.row - last[0] if last.size else 1)
    rows = [sum(row in m for m in made) for row in range(product.n // product.row)]
    assert max(rows) <= product.reach
    assert product.n == kernel.shape("y")[1] * kernel.shape("y")[2]


def test_too_many_blocks() -> None:
    made = {"x": [1 << 20, 256]}
    machine = MLP.machine.model_dump() | {"spad_bytes": 1 << 30, "memory_bytes": 1 << 40}
    wide = card(inputs=made, machine=machine | {"tokens": 1})
    assert instance_of(wide, (4,)).tasks
    image = _image(stride=1).model_copy(update={"inputs": {"x": (1, 4096, 4096)}})
    with pytest.raises(DesignError, match=r"takes 4,190,209 blocks of 4, at most 1,048,576"):
        instance_of(image, (4,))


def test_shapes_of_memory() -> None:
    with pytest.raises(ValueError, match="w2 has 4,194,304 bytes, the memory 1,000,000"):
        card(machine=MLP.machine.model_dump() | {"memory_bytes": 1_000_000})


def test_a_kernel_without_products() -> None:
    """Whatever the policy, its lanes are idle."""
    kernel = _image(op="map", then=["relu"], kernel=None)
    made = [schedule(kernel, policy, EFFORT).plan.makespan for policy in POLICIES]
    assert len(set(made)) == 1


def test_loads_and_stores_take_whole_banks() -> None:
    """Weights of five banks and a bit leave room for four of ten, so results of five banks are written as they come."""
    machine = MLP.machine.model_dump() | {
        "tokens": 1, "reduce": 1, "outputs": 1, "cores": 1, "spad_bytes": 640, "bank_bytes": 64
    }  # fmt: skip
    kernel = GraphCard.model_validate(
        {
            "name": "banks", "inputs": {"x": [32, 33]}, "weights": {"w": [33, 5]}, "outputs": ["y"],
            "tasks": {"y": {"op": "matmul", "inputs": ["x", "w"]}}, "machine": machine,
        }
    )  # fmt: skip
    modes = {m.name: m for m in instance_of(kernel, (1,)).task("y").modes}
    kept = modes["c0 rows, weights kept"]
    assert kept.loads[0].room == 330 and kept.stores[0].bytes == 320 and kept.stores[0].room == 0
