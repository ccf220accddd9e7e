# SPDX-License-Identifier: Apache-2.0
"""From a model to a problem, from a schedule to a program, and the machine that the hardware is."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from designs import target
from designs.cards import load_model_card
from designs.model import Model
from designs.transformer import transformer_model
from generators.lower import lower, program
from generators.machine import measure
from generators.plan import plan
from hw.arrays import parse_engine
from hw.core.config import CoreConfig
from hw.core.program import Destination, Op, Program, Step
from hw.sfu.layernorm import LayerNorm
from hw.sfu.softmax import Softmax
from schedules.errors import ScheduleError
from schedules.schedule import Schedule
from schedules.sequential import sequential


def config_of(model: str, board: str) -> CoreConfig:
    return plan(load_model_card(model), target.load(board), parse_engine("tree:mac")).config


def schedule_of(model: str, board: str) -> tuple[Schedule, CoreConfig]:
    card, config = load_model_card(model), config_of(model, board)
    machine = measure(config, target.load(board))
    return sequential(lower(transformer_model(card)), machine, clock_mhz=100.0), config


@pytest.fixture(scope="module")
def model() -> Model:
    return transformer_model(load_model_card("tiny-gpt2"))


@pytest.fixture(scope="module")
def tiny() -> tuple[Schedule, CoreConfig]:
    return schedule_of("tiny-gpt2", "sim-small")


class TestLower:
    def test_sections(self, model: Model) -> None:
        problem = lower(model)
        start, layer, head = problem.sections
        assert (start.tasks, layer.repeat, head.answer) == (("embed",), 4, True)
        assert head.tasks == ("ln_f", "lm_head", "argmax")
        assert [(c.tensor, c.first, c.following) for c in layer.carries] == [
            ("x", "embed", "add_2")
        ]

    @pytest.mark.parametrize(("tokens", "past"), [(1, 0), (1, 200), (128, 0), (7, 60)])
    def test_same_work(self, model: Model, tokens: int, past: int) -> None:
        """As many multiplications as the model has, but for the head, which works for one token."""
        head = (tokens - 1) * model.width * model.vocabulary
        assert lower(model).macs(tokens, past) == model.macs(tokens, past) - head

    def test_integers(self, model: Model) -> None:
        problem = lower(model)
        kinds = {t.name: (t.dtype, t.kind) for t in problem.tensors}
        assert kinds["x"] == ("i16", "carry") and kinds["add_1"] == ("i16", "activation")
        assert kinds["k"] == ("i8", "cache") and kinds["q"] == ("i8", "activation")
        assert kinds["scores"] == ("i16", "activation") and kinds["act"] == ("i8", "activation")
        assert kinds["wte.weight"] == ("i16", "weight")  # the embedding's copy
        assert kinds["lm_head.weight"] == ("i8", "weight")  # the engine's copy of the tied table
        assert kinds["fc1.bias"] == ("i32", "weight") and kinds["tokens"] == ("u32", "input")

    def test_layers_that_differ(self, model: Model) -> None:
        tasks = tuple(
            t.model_copy(update={"attributes": (("eps", 0.5),)}) if t.name == "h2.ln_1" else t
            for t in model.tasks
        )
        with pytest.raises(ScheduleError, match="Layer 2 of tiny-gpt2 is not like layer 0"):
            lower(model.model_copy(update={"tasks": tasks}))


def expected(c: CoreConfig) -> Program:
    """The program of a GPT-2, written down by hand."""
    d, ffn, width = c.width_words, c.ffn_words, c.width // c.lanes
    norm: dict[str, Any] = {"source": 0, "source_stride": d, "k_words": d}
    query, context = c.groups * d, 2 * c.groups * d
    return Program(
        layer_start=1,
        steps=(
            Step(name="embed", op=Op.EMBED),
            Step(name="ln_1", op=Op.NORM),
            Step(name="k", op=Op.MATMUL, destination=Destination.KEY, n_tiles=width, **norm),
            Step(
                name="v", op=Op.MATMUL, wait=False, fetch=True, destination=Destination.VALUE, n_tiles=width, **norm
            ),
            Step(name="q", op=Op.MATMUL, wait=False, target=query, target_stride=d, n_tiles=width, **norm),
            Step(name="attention", op=Op.ATTENTION, constant=True),
            Step(
                name="proj", op=Op.MATMUL, destination=Destination.RESIDUAL,
                source=context, source_stride=d, k_words=d, n_tiles=width,
            ),
            Step(name="ln_2", op=Op.NORM),
            Step(
                name="fc1", op=Op.MATMUL, constant=True, destination=Destination.GATED,
                target=query, target_stride=ffn, n_tiles=ffn, **norm,
            ),
            Step(
                name="fc2", op=Op.MATMUL, layer_end=True, destination=Destination.RESIDUAL,
                source=query, source_stride=ffn, k_words=ffn, n_tiles=width,
            ),
            Step(name="ln_f", op=Op.NORM, last_token=True, head=True),
            Step(
                name="lm_head", op=Op.MATMUL, last_token=True, head=True, destination=Destination.LOGIT,
                n_tiles=-(-c.vocabulary // c.lanes), **norm,
            ),
        ),
    )  # fmt: skip


class TestProgram:
    @pytest.mark.parametrize(
        ("name", "board"),
        [
            ("tiny-gpt2", "sim-small"),
            ("gpt2-medium", "u280"),
            ("gpt2-xl", "u280"),
            ("gpt2", "kv260"),
        ],
    )
    def test_gpt2(self, name: str, board: str) -> None:
        schedule, config = schedule_of(name, board)
        found, wanted = program(schedule, config), expected(config)
        for a, b in zip(found.steps, wanted.steps, strict=True):
            assert a == b
        assert found == wanted

    def test_of_a_schedule_from_a_file(self, tiny: tuple[Schedule, CoreConfig]) -> None:
        schedule, config = tiny
        assert program(Schedule.from_yaml(schedule.to_yaml()), config) == expected(config)

    def test_waits_as_scheduled(self, tiny: tuple[Schedule, CoreConfig]) -> None:
        schedule, config = tiny
        phases = tuple(replace(p, barrier=True) if p.id == "q" else p for p in schedule.phases)
        steps = {s.name: s for s in program(replace(schedule, phases=phases), config).steps}
        assert steps["q"].wait and not steps["v"].wait

    def test_a_tensor_elsewhere(self, tiny: tuple[Schedule, CoreConfig]) -> None:
        """Attention reads queries from a fixed place; the other products from where the schedule says."""
        schedule, config = tiny

        def moved(tensor: str, offset: int) -> Schedule:
            buffer, _ = schedule.home(tensor)
            homes = tuple(
                replace(h, offset=offset) if h.tensor == tensor else h for h in buffer.homes
            )
            other = tuple(replace(b, homes=homes) if b == buffer else b for b in schedule.buffers)
            return replace(schedule, buffers=other)

        with pytest.raises(
            ScheduleError, match="Tensor q starts at word 0, but its unit uses word 256"
        ):
            program(moved("q", 0), config)
        steps = {s.name: s for s in program(moved("act", 0), config).steps}
        assert steps["fc1"].target == steps["fc2"].source == 0

    def test_another_core(self, tiny: tuple[Schedule, CoreConfig]) -> None:
        schedule, config = tiny
        with pytest.raises(
            ScheduleError, match="4 banks of 8 bytes, but the core's activations are in 2 banks"
        ):
            program(schedule, replace(config, tokens=2))


class TestMeasure:
    def test_reads_the_components(self) -> None:
        config = config_of("gpt2-medium", "u280")
        machine = measure(config, target.load("u280"))
        norm = LayerNorm(width=1024, lanes=64, rows_bits=7, beat_bytes=4096)
        softmax = Softmax(tokens=2, lanes=64, context=1024, slots=config.slots)
        for rows in (1, 2, 128):
            assert rows * machine.norm_row + machine.norm_latency == norm.cycles(rows)
        for rows, chunks in ((1, 1), (2, 16)):
            assert rows * chunks + machine.softmax_latency == softmax.cycles(rows, chunks)
        assert machine.multipliers == 2 * 64 * 64
        assert machine.ring_bytes("w") == config.w_depth * 4096

    def test_bandwidth(self) -> None:
        """Within a percent of the ports' width is all of it, as in simulation."""
        u280 = measure(config_of("gpt2-medium", "u280"), target.load("u280"))
        assert u280.port_rate == 64 and u280.bytes_per_cycle == 2048
        board = target.load("sim-small")
        slow = board.model_copy(
            update={"memory": board.memory.model_copy(update={"bandwidth_gbps": 6.4})}
        )
        assert measure(config_of("tiny-gpt2", "sim-small"), slow).port_rate == Fraction(16)
