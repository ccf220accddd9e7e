# SPDX-License-Identifier: Apache-2.0
"""The estimate of resources: memories in blocks of the part, the engine, and what is too much."""

import pytest

from designs import target
from designs.cards import load_model_card
from generators import resources
from generators.plan import Plan, plan
from generators.synth import Resources
from hw.arrays import parse_engine


def planned(model: str, board: str) -> Plan:
    return plan(load_model_card(model), target.load(board), parse_engine("tree:mac"))


class TestMemory:
    @pytest.mark.parametrize(
        ("width", "depth", "blocks"),
        [
            (72, 512, 1),
            (36, 512, 0.5),
            (36, 1024, 1),
            (512, 512, 7.5),
            (1024, 2048, 57),
            (1, 16384, 0.5),
        ],
    )
    def test_blocks_of_36_kbit(self, width: int, depth: int, blocks: float) -> None:
        kind, used = resources.memory(width, depth, target.load("u280"), "bram")
        assert (kind, used) == ("bram", Resources(bram=blocks))

    def test_blocks_of_18_kbit(self) -> None:
        assert resources.memory(36, 1024, target.load("ecp5-85k")) == ("bram", Resources(bram=2))

    def test_what_fills_a_large_block_takes_one(self) -> None:
        assert resources.memory(144, 4096, target.load("u280")) == ("uram", Resources(uram=2))
        assert resources.memory(144, 4096, target.load("ecp5-85k"))[0] == "bram"  # has none

    def test_the_style_of_the_rtl_decides(self) -> None:
        assert resources.memory(144, 512, target.load("u280"), "uram") == (
            "uram",
            Resources(uram=2),
        )

    @pytest.mark.parametrize(
        ("board", "depth", "luts"), [("u280", 32, 8), ("u280", 64, 16), ("ecp5-85k", 16, 21)]
    )
    def test_a_shallow_memory_is_distributed(self, board: str, depth: int, luts: int) -> None:
        kind, used = resources.memory(14, depth, target.load(board))
        assert kind == "distributed"
        assert used.lut == pytest.approx(luts)
        assert used.ff == 14  # a word comes the cycle after it was asked for
        _, plain = resources.memory(14, depth, target.load(board), registered=False)
        assert plain.ff == 0


class TestEstimate:
    def test_engine_is_what_it_says(self) -> None:
        blocks = resources.estimate(
            planned("tiny-gpt2", "sim-small").config, target.load("sim-small")
        )
        engine = next(block for block in blocks if block.name == "engine")
        assert engine.resources.dsp == 4 * 8 * 8
        assert engine.owns("tree_array_t4_r8_o8_x8_w8_a24_s3") or engine.modules

    def test_gpt2_medium_uses_the_dsps_of_an_u280_and_fits(self) -> None:
        board, config = target.load("u280"), planned("gpt2-medium", "u280").config
        used = resources.total(resources.estimate(config, board))
        assert 8192 < used.dsp <= board.dsp_usable
        assert resources.excess(used, board) == ()

    def test_every_buffer_belongs_to_a_block(self) -> None:
        board, config = target.load("u280"), planned("gpt2-medium", "u280").config
        blocks = {block.name: block for block in resources.estimate(config, board)}
        for block in blocks.values():
            held = [b for b in resources.buffers(config, board) if b.block == block.name]
            assert block.resources.bram >= sum(b.resources.bram for b in held)
        assert {b.block for b in resources.buffers(config, board)} <= blocks.keys()

    def test_buffers_hold_what_the_core_declares(self) -> None:
        config = planned("gpt2-medium", "u280").config
        held = {b.name: b for b in resources.buffers(config, target.load("u280"))}
        assert held["weight ring"].bits == config.w_depth * config.beat_bytes * 8
        assert (
            held["activations"].bits == config.activation_depth * config.tokens * config.lanes * 8
        )
        assert held["residual stream"].bits == config.chunk * config.width * 16


class TestExcess:
    def test_says_what_exceeds_what(self) -> None:
        board = target.load("ecp5-85k")
        reasons = resources.excess(Resources(dsp=160, bram=207.5, uram=1, lut=10), board)
        assert reasons == (
            "DSP: 160 needed, ecp5-85k leaves 156 (4 too many)",
            "URAM: 1 needed, ecp5-85k leaves 0 (1 too many)",
        )
