# SPDX-License-Identifier: Apache-2.0
"""From kernels to programs: what RTL refuses, where tensors lie, and how words are packed in memory."""

from typing import Any

import numpy as np
import pytest

from designs.errors import DesignError
from designs.graph import GraphCard, load_graph
from designs.kernel_layout import (
    StoreRegion,
    WordFormat,
    activations,
    of_port,
    rows,
    striped,
    weights,
)
from generators.kernel import KernelPlan, schedule
from generators.kernel_lower import LoweredKernel, check_tasks, lower
from generators.kernel_time import predict
from hw.kernel.program import Send, Window, WordsTo
from hwgen.kernels import quantised
from schedules.optimal.solve import Effort


def lowered(card: GraphCard, policy: str = "sequential") -> LoweredKernel:
    return lower(quantised(card, 0), schedule(card, policy, Effort(5)))


def image(tasks: dict[str, Any], **machine: Any) -> GraphCard:
    sizes = {
        "tokens": 1,
        "reduce": 4,
        "outputs": 4,
        "cores": 1,
        "spad_bytes": 65536,
        "bytes_per_cycle": 64,
    }
    return GraphCard.model_validate(
        {
            "name": "test", "inputs": {"x": [1, 12, 12]}, "tasks": tasks, "outputs": [list(tasks)[-1]],
            "machine": sizes | machine,
        }
    )  # fmt: skip


CONV = {"op": "conv", "inputs": ["x"], "kernel": [1, 3, 3]}


@pytest.mark.parametrize(
    ("tasks", "machine", "message"),
    [
        ({"a": CONV}, {"reduce": 2}, "a kernel of 3 columns needs an engine with a reduction of at least 3, not 2"),
        ({"a": CONV | {"kernel": [1, 3, 4]}}, {"outputs": 2}, "reads 3 neighbours of a word, the core's words have 2"),
        ({"a": CONV | {"stride": 2}}, {}, "task a: RTL has no strides, it has 2"),
        ({"a": CONV | {"bias": True}}, {}, "task a: RTL has no biases"),
        ({"a": CONV | {"then": ["gelu"]}}, {}, "task a: RTL has no gelu"),
        ({"a": CONV | {"then": ["relu", "exp"]}}, {}, "task a: RTL has no relu before exp"),
        ({"a": CONV | {"then": ["silu", "exp"]}}, {}, "one of silu, exp behind a result, not 2"),
        ({"a": CONV | {"then": ["maxpool2", "silu"]}}, {}, "RTL pools behind silu"),
        ({"a": CONV | {"then": ["maxpool2"]}}, {"outputs": 5}, "an even number of outputs, the core has 5"),
        ({"a": CONV | {"then": ["upsample2"]}}, {}, "only these may read the result"),
        ({"a": CONV}, {"array": "cube"}, "RTL of kernels has the array tree, not cube"),
        ({"a": CONV}, {"bytes_per_cycle": 24}, "bytes_per_cycle of RTL must be one of 4, .*, 128, not 24"),
        ({f"a{k}": CONV for k in range(52)}, {}, "counts the cycles of at most 51 tasks, it has 52"),
        (
            {"a": CONV, "b": CONV, "c": {"op": "softmax", "inputs": ["a"]}, "d": {"op": "mul", "inputs": ["c", "b"]},
             "e": {"op": "deconv", "inputs": ["d"], "kernel": [1, 3, 3], "padding": [3, 0, 0, 0]}},
            {}, "task e: RTL cannot cut off more of a transposed convolution",
        ),
    ],
)  # fmt: skip
def test_what_rtl_refuses(tasks: dict[str, Any], machine: dict[str, Any], message: str) -> None:
    card = image(tasks, **machine)
    with pytest.raises(DesignError, match=message):
        check_tasks(card)  # what needs no plan
        lowered(card)


def test_cores_of_different_widths_are_refused() -> None:
    card = load_graph("mlp")
    plan = KernelPlan("mlp", (3, 1), False, schedule(card, "sequential", Effort(5)).plan)
    with pytest.raises(
        DesignError, match="its cores have 3, 1 outputs; RTL links only cores that have as many"
    ):
        lower(quantised(card, 0), plan)


def test_ports_of_many_cores_are_not_wider_than_memory() -> None:
    card = load_graph("mlp")
    small = card.model_copy(
        update={"machine": card.machine.model_copy(update={"bytes_per_cycle": 4})}
    )
    with pytest.raises(DesignError, match="3 cores with memory ports share 4 bytes a cycle"):
        lowered(small, "dataflow")
    assert {core.shape.port_bytes for core in lowered(card, "equal-cores").cores} == {32}
    assert {core.shape.port_bytes for core in lowered(card, "dataflow").cores} == {16}


@pytest.mark.parametrize(("name", "policy"), [("mlp", "equal-cores"), ("cnn-4l", "equal-cores")])
def test_parts_make_the_whole(name: str, policy: str) -> None:
    """Of every task each tile or row is played once; what a core gets from others is what these send."""
    card = load_graph(name)
    found = lowered(card, policy)
    whole = {p.name: p for p in lowered(card).cores[0].program.phases}
    for task in card.tasks:
        parts = [part for core in found.cores for part in core.parts if part.task == task]
        ends = 0
        for part in sorted(parts, key=lambda part: part.first):
            assert part.first == ends
            ends += part.count
        outputs = found.cores[0].shape.outputs
        phase = whole[task]
        assert ends == (-(-phase.columns // outputs) if phase.by_columns else phase.ys)
    for k, core in enumerate(found.cores):
        for inlet in core.program.inlets:
            sender = found.cores[inlet.source].program
            sent = [
                p.name for p in sender.phases
                if any(isinstance(t, Send) and t.core == k for t in p.to)
            ]  # fmt: skip
            assert [p.name for p in inlet.phases] == sent and k != inlet.source
    order = [found.cores[c].parts[n].task for c, n in found.turns]
    first = {task: order.index(task) for task in card.tasks}
    for task, facts in card.tasks.items():
        assert all(first[t] < first[task] for t in facts.inputs if t in card.tasks)


def test_tensors_that_live_together_lie_apart() -> None:
    """X words of self-attention: probabilities lie where queries or inputs were, queries not where inputs are."""
    card = GraphCard.model_validate(
        load_graph("self-attn").model_dump()
        | {"inputs": {"x": (24, 64)}, "weights": dict.fromkeys(("wq", "wk", "wv"), (64, 64))}
    )
    found = lowered(card)
    (core,) = found.cores
    shape, phases = core.shape, {p.name: p for p in core.program.phases}
    places = {s.name: range(s.base, s.base + s.words) for s in core.program.segments if s.to == "x"}
    for name in ("q", "p"):
        (target,) = phases[name].to
        assert isinstance(target, WordsTo) and target.memory == "x"
        words = -(-24 // shape.tokens) * target.beats
        places[name] = range(target.base, target.base + words)
    assert set(places) == {"x", "q", "p"}
    assert len({*places["x"], *places["q"]}) == len(places["x"]) + len(places["q"]) == shape.x_words
    assert max(places["p"]) < shape.x_words


def test_windows_of_the_kernels() -> None:
    vae = {p.name: p.work for p in lowered(load_graph("vae")).cores[0].program.phases}
    cases = {"enc1": (1, 8, 0, 0), "enc2": (2, 4, 0, 0), "dec1": (1, 8, 7, 7), "dec2": (2, 4, 3, 3)}
    for name, (per_beat, columns, top, left) in cases.items():
        work = vae[name]
        assert isinstance(work, Window)
        assert (work.rows, work.columns, work.top, work.left) == (per_beat, columns, top, left)
    assert [p.beats for p in lowered(load_graph("cnn-4l")).cores[0].program.phases] == [1] * 4


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize(("elements", "port"), [(3, 64), (8, 16), (48, 64), (5, 4), (4, 8)])
def test_words_come_back(bits: int, elements: int, port: int) -> None:
    draw = np.random.default_rng(elements)
    form = WordFormat(elements, bits, port)
    words = draw.integers(-100, 100, (7, elements))
    data = form.pack(words)
    assert len(data) == form.beats(7) * port
    assert np.array_equal(form.unpack(data, 7), words)


def test_order_of_elements() -> None:
    x = np.arange(15).reshape(3, 5)
    assert activations(x, 2, 4).tolist() == [
        [0, 1, 2, 3, 5, 6, 7, 8], [4, 0, 0, 0, 9, 0, 0, 0], [10, 11, 12, 13, 0, 0, 0, 0], [14, 0, 0, 0, 0, 0, 0, 0]
    ]  # fmt: skip
    assert np.array_equal(weights(x.T, 2, 4), activations(x, 2, 4))
    assert rows(x.reshape(1, 3, 5), 3).tolist()[:3] == [[0, 1, 2], [3, 4, 0], [5, 6, 7]]
    for by_columns in (False, True):
        region = StoreRegion("t", 0, 0, 0, (1, 3, 5), 3, by_columns, 2)
        words = rows(x.reshape(1, 3, 5), 3)
        if by_columns:
            words = words.reshape(3, 2, 3).transpose(1, 0, 2).reshape(-1, 3)
        assert np.array_equal(region.tensor_of(words)[0], x)


@pytest.mark.parametrize("name", ["mlp", "cnn-4l", "vae", "self-attn"])
def test_predictions_reach_the_goal_and_not_the_impossible(name: str) -> None:
    """No phase takes fewer cycles than beats; the whole is between the floor and what is to be reached."""
    card = load_graph(name)
    found = lowered(card)
    predicted = predict(found, card.machine.latency)
    (core,), (turns,) = found.cores, predicted.phases
    assert card.published is not None
    assert card.macs // card.machine.lanes <= predicted.total <= card.published.goal
    for phase, cycles in zip(core.program.phases, turns, strict=True):
        loops = phase.loops(core.shape.tokens)
        assert cycles >= np.prod(loops)


def test_memory_of_several_ports() -> None:
    """Port p has word p of every group of words; a shorter one ends with zeros."""
    data = striped([bytes(range(8)), bytes([9] * 4)], 4)
    assert data == bytes([0, 1, 2, 3, 9, 9, 9, 9, 4, 5, 6, 7, 0, 0, 0, 0])
    assert of_port(data, 0, 2, 4) == bytes(range(8))
    region = StoreRegion("t", 1, 0, 2, (1, 3, 2), 2, True, 1)
    assert region.within(np.arange(15).reshape(1, 3, 5)).tolist() == [[[2, 3], [7, 8], [12, 13]]]
