# SPDX-License-Identifier: Apache-2.0
"""A small network, a small machine, and the schedule of one on the other."""

from fractions import Fraction

import pytest

from schedules.machine import Machine, ReadClient
from schedules.problem import Carry, Problem, Section, Task, Tensor
from schedules.schedule import Schedule
from schedules.sequential import sequential


def network(
    layers: int = 3, width: int = 32, heads: int = 2, ffn: int = 64, vocabulary: int = 40
) -> Problem:
    """A decoder like GPT-2: embedding, layers that are alike, a head."""
    wide = {"dtype": "i16"}
    weights: list[Tensor] = []

    def weight(name: str, *shape: int, dtype: str = "i8") -> str:
        weights.append(Tensor(name, shape, dtype, "weight"))
        return name

    def product(name: str, x: str, k: int, n: int) -> Task:
        return Task(name, "matmul", (x, weight(f"{name}.w", k, n)), (name,), "L", n, k)

    def norm(name: str, x: str, rows: int | str = "L") -> Task:
        return Task(
            name, "layernorm", (x, weight(f"{name}.w", width, dtype="i16")), (name,), rows, width
        )

    tables = (weight("wte", vocabulary, width, dtype="i16"), weight("wpe", 64, width, dtype="i16"))
    head = width // heads
    layer = (
        norm("ln_1", "x"),
        product("q", "ln_1", width, width),
        product("k", "ln_1", width, width),
        product("v", "ln_1", width, width),
        Task("scores", "scores", ("q", "k"), ("scores",), "L", "P+L", head, heads, True),
        Task("softmax", "softmax", ("scores",), ("softmax",), "L", "P+L"),
        Task("context", "context", ("softmax", "v"), ("context",), "L", head, "P+L", heads, True),
        product("proj", "context", width, width),
        Task("add_1", "add", ("x", "proj"), ("add_1",), "L", width),
        norm("ln_2", "add_1"),
        product("fc1", "ln_2", width, ffn),
        Task("gelu", "activation", ("fc1",), ("gelu",), "L", ffn),
        product("fc2", "gelu", ffn, width),
        Task("add_2", "add", ("add_1", "fc2"), ("add_2",), "L", width),
    )
    last = (
        norm("ln_f", "add_2", 1),
        Task(
            "lm_head",
            "matmul",
            ("ln_f", weight("lm_head.w", width, vocabulary)),
            ("lm_head",),
            1,
            vocabulary,
            width,
        ),
        Task("argmax", "argmax", ("lm_head",), ("argmax",), 1, vocabulary),
    )
    embed = Task("embed", "embedding", ("tokens", *tables), ("embed",), "L", width)
    tensors = (
        Tensor("tokens", ("L",), "u32", "input"),
        Tensor("x", ("L", width), "i16", "carry"),
        Tensor("embed", ("L", width), **wide),
        *(Tensor(n, ("L", width)) for n in ("ln_1", "q", "context", "ln_2")),
        *(Tensor(n, ("P+L", width), kind="cache") for n in ("k", "v")),
        Tensor("scores", (heads, "L", "P+L"), **wide),
        Tensor("softmax", (heads, "L", "P+L")),
        *(Tensor(n, ("L", width), **wide) for n in ("proj", "add_1", "fc2", "add_2")),
        Tensor("fc1", ("L", ffn), **wide),
        Tensor("gelu", ("L", ffn)),
        Tensor("ln_f", (1, width)),
        Tensor("lm_head", (1, vocabulary), **wide),
        Tensor("argmax", (1,), "u32"),
        *weights,
    )
    return Problem(
        "small",
        tensors,
        (embed, *layer, *last),
        (
            Section("start", ("embed",)),
            Section(
                "layer",
                tuple(t.name for t in layer),
                layers,
                carries=(Carry("x", "embed", "add_2"),),
            ),
            Section("head", tuple(t.name for t in last), answer=True),
        ),
    )


def core(**changes) -> Machine:
    """A core of 2 x 8 x 8 with one port of a stripe of 16 bytes."""
    sizes = {
        "array": "tree", "pe": "mac", "tokens": 2, "lanes": 8, "chunk": 16, "context": 64, "slots": 4,
        "ports": 1, "port_bytes": 16, "port_rate": Fraction(16), "memory_latency": 20, "memory_outstanding": 32,
        "clients": tuple(
            (name, ReadClient(words=words, burst=burst, flight=256 if name == "w" else None))
            for name, words, burst in (("e", 64, 16), ("k", 256, 64), ("v", 256, 64), ("w", 256, 64))
        ),
        "bursts": 64, "writes": 16, "request_latency": 4, "arrival_latency": 3, "stream_latency": 2,
        "write_latency": 2, "header_tiles": 1, "header_buffers": 4, "engine_latency": 4,
        "requantise_latency": 5, "activation_latency": 7, "rotary_latency": 0, "residual_latency": 1, "norm_row": 4,
        "norm_latency": 27, "norm_sums": 6, "norm_parameters": 2, "norm_beat": 2, "softmax_latency": 20,
        "softmax_wait": 3, "argmax_latency": 5, "embed_words": 1, "row_stripes": 4, "position_stripes": 4,
    }  # fmt: skip
    sizes |= changes
    taken = {
        "beat_cycles": (1,) * sizes["tokens"],
        "multipliers": sizes["tokens"] * sizes["lanes"] ** 2,
    }
    return Machine(**(taken | sizes))


@pytest.fixture(scope="session")
def problem() -> Problem:
    return network()


@pytest.fixture(scope="session")
def machine() -> Machine:
    return core()


@pytest.fixture(scope="session")
def make_machine():
    return core


@pytest.fixture(scope="session")
def make_network():
    return network


@pytest.fixture(scope="session")
def schedule(problem: Problem, machine: Machine) -> Schedule:
    return sequential(problem, machine, clock_mhz=200.0)
