# SPDX-License-Identifier: Apache-2.0
"""The shape of a core: all ports of the memory first, then multipliers; what does not fit is said."""

import pytest

from designs import target
from designs.cards import load_model_card
from designs.errors import DesignError
from designs.weight_format import WeightFormat
from generators import resources
from generators.compress import Compression
from generators.plan import best_plan, default_engine, plan
from hw.arrays import parse_engine
from hw.core.accelerator import make_core_engine

U280 = target.load("u280")


@pytest.mark.parametrize(
    "form", [WeightFormat(), WeightFormat(4, 64), WeightFormat(4, 64, 2, 4, 2)], ids=str
)
def test_llama_reads_through_all_ports(form: WeightFormat) -> None:
    """Fewer lanes would fit more token rows, but fill half of the ports, and decoding is bound by memory."""
    found = plan(load_model_card("llama2-7b"), U280, default_engine(U280), Compression(form))
    assert (found.config.tokens, found.config.lanes, found.config.ports) == (2, 64, 32)
    assert found.config.chunk == 128


def test_multipliers_come_second() -> None:
    found = plan(load_model_card("gpt2-medium"), U280, default_engine(U280))
    assert (found.config.tokens, found.config.lanes, found.config.ports) == (4, 64, 32)


def test_multipliers_of_a_small_part_are_the_function_units() -> None:
    """What place and route needed of the part: 104 multipliers, 31,812 LUT4, 4,224 carry cells of two, 88 memories."""
    board, card = target.load("ecp5-85k"), load_model_card("tiny-gpt2")
    found = best_plan(card, board)
    assert found.config.engine_name == "tree:opt1:1x8x8"
    with pytest.raises(DesignError, match="needs 168 multipliers, there are 156"):
        plan(card, board, default_engine(board))
    estimated = resources.total(resources.estimate(found.config, board))
    assert estimated.dsp == pytest.approx(104, rel=0.05)
    assert estimated.ff == pytest.approx(19_704, rel=0.25)
    assert estimated.lut == pytest.approx(31_812 + 2 * 4224, rel=0.35)
    with pytest.raises(DesignError, match="does not fit ice40up5k"):
        best_plan(card, target.load("ice40up5k"))


def test_a_model_larger_than_memory() -> None:
    memory = U280.memory.model_copy(update={"bytes_per_port": 1 << 26})
    small = U280.model_copy(update={"name": "small", "memory": memory})
    with pytest.raises(
        DesignError, match=r"does not fit small: it needs .* bytes behind each of 32 .*; .* fits"
    ):
        plan(load_model_card("llama2-7b"), small, default_engine(small))


class TestKeptWeights:
    FORM = WeightFormat(4, 64, 2, 4, 2)

    def test_the_engine_of_a_sparse_model(self) -> None:
        """Twice the inputs a beat on as many slices; of a model with all its weights, and elsewhere, what it was."""
        card = load_model_card("gpt2-medium")
        found = best_plan(card, U280, Compression(self.FORM)).config
        dense = best_plan(card, U280, Compression(WeightFormat(4, 64))).config
        assert found.engine_name == "chain:dsp_packed:2:4:4x128x64" and found.turns == 1
        assert dense.engine_name == "tree:dsp_packed:4x64x64"
        assert make_core_engine(found).resources().dsp == make_core_engine(dense).resources().dsp
        small = best_plan(
            load_model_card("tiny-gpt2"), target.load("sim-small"), Compression(self.FORM)
        )
        assert small.config.array == "tree"

    @pytest.mark.parametrize(
        ("engine", "span", "turns"),
        [("2:4:1x64x64", 1, 2), ("2:4:1x128x64", 2, 1), ("1:4:1x128x64", 2, 2), ("1:4:1x256x64", 4, 1)],
    )  # fmt: skip
    def test_an_engine_that_takes_several_beats(self, engine: str, span: int, turns: int) -> None:
        spec = parse_engine(f"chain:dsp_packed:{engine}")
        n, m = map(int, spec.sparsity.split(":"))
        asked = Compression(WeightFormat(4, 64, n, m, 2))
        found = plan(load_model_card("gpt2-medium"), U280, spec, asked).config
        assert (found.span, found.turns, found.reduce, found.lanes) == (span, turns, 64 * span, 64)
        assert found.engine_name == str(spec) == str(parse_engine(found.engine_name))
        assert make_core_engine(found).resources().dsp == 64 * 64 * span * n // m // 2

    @pytest.mark.parametrize(
        ("model", "engine", "form", "message"),
        [
            ("gpt2-medium", "2:4:1x256x64", FORM, "as outputs, or 2 times as many; use 1x64x64"),
            ("gpt2-medium", "2:4:1x32x64", FORM, "as outputs, or 2 times as many; use 1x64x64"),
            ("gpt2-medium", "2:4:1x128x64", WeightFormat(4, 64, 2, 4, 2, 64, 50), "as many .* as outputs; use"),
            ("tinyllama-1.1b", "2:8:1x256x64", WeightFormat(4, 64, 2, 8, 2), None),
            ("gpt2-odd", "2:4:1x128x64", FORM, r"other than a multiple of 128 inputs \(1088, 4352\); use 1x64x64"),
        ],
    )  # fmt: skip
    def test_an_engine_that_takes_too_many(
        self, model: str, engine: str, form: WeightFormat, message: str | None
    ) -> None:
        card = load_model_card(model.replace("odd", "medium"))
        if model.endswith("odd"):
            card = card.model_copy(update={"width": 1088, "heads": 17, "ffn": 4352})
        spec = parse_engine(f"chain:dsp_packed:{engine}")
        if message is None:
            assert plan(card, U280, spec, Compression(form)).config.span == 4
            return
        with pytest.raises(DesignError, match=message):
            plan(card, U280, spec, Compression(form))

    @pytest.mark.parametrize(
        ("compression", "kept"),
        [(None, "all of them"), (Compression(WeightFormat(8, n=1, m=4)), "1:4")],
    )
    def test_an_engine_of_another_sparsity(
        self, compression: Compression | None, kept: str
    ) -> None:
        engine = parse_engine("chain:dsp_packed:2:4:2x64x64")
        with pytest.raises(DesignError, match=f"the model has {kept}; use --sparsity 2:4"):
            plan(load_model_card("gpt2-medium"), U280, engine, compression)


class TestBlocks:
    def test_lanes_divide_a_block(self) -> None:
        card = load_model_card("gpt2-medium")
        found = {
            block: plan(
                card, U280, default_engine(U280), Compression(WeightFormat(block=block, keep=50))
            ).config
            for block in (32, 64)
        }
        assert (found[32].lanes, found[64].lanes) == (32, 64)
        assert found[64].words("fc2", 0, 64) == 32 and found[64].words("q", 0, 16) == 8
        dense = plan(card, U280, default_engine(U280)).config
        assert found[64].layer_stripes == pytest.approx(dense.layer_stripes / 2, rel=0.01)

    def test_a_block_smaller_than_an_engine_step(self) -> None:
        engine = parse_engine("tree:dsp_packed:2x64x64")
        asked = Compression(WeightFormat(block=16, keep=50))
        with pytest.raises(DesignError, match=r"takes 8, 16$|engine with 64 lanes.*takes 8, 16"):
            plan(load_model_card("gpt2-medium"), U280, engine, asked)
