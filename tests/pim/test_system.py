# SPDX-License-Identifier: Apache-2.0
"""The system around PIM channels: its parts against the controller, the whole against published cycles."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from designs.errors import DesignError
from hw.pim.config import PimConfig
from hw.pim.timing import PRESETS, preset
from hwgen import cli
from sim.pim import events, tiles
from sim.pim.anchors import anchors
from sim.pim.npu import Npu
from sim.pim.play import play
from sim.pim.serving import serve
from sim.pim.system import DESIGNS, attention, energy, layer_time
from sim.pim.tiles import Tile, refresh_gap, tile_cost
from sim.pim.workload import contexts, decoder, exchanges, loads, request_load

MODEL = decoder("gpt3-7b")


def alone(design, length: int) -> float:
    """The event model's cycles of one request."""
    quiet = replace(design, packed=True)
    return attention(quiet, MODEL, [length]).cycles


class TestAgainstTheController:
    def test_a_tile(self) -> None:
        """32 slots to close, 3 windows and a slot to open, tRCD, and 4 or 1 groups of steps."""
        c = PimConfig(fmt="bf16")
        assert tile_cost(c, Tile(8, 4)) == 32 + 90 + 1 + 14 + 4 * 18
        assert tile_cost(c, Tile(32, 1)) == 32 + 90 + 1 + 14 + 66
        assert tile_cost(replace(c, prea=True), Tile(8, 4)) == 1 + 14 + 94 + 10 + 72
        assert tile_cost(replace(c, prea=True, buffers=2), Tile(8, 4)) < 130

    @pytest.mark.parametrize("name", ["dual", "pim", "improved-2"])
    def test_a_channel(self, name: str) -> None:
        for length in (90, 700):
            real = play(DESIGNS[name], MODEL, (length,))
            assert alone(DESIGNS[name], length) == pytest.approx(real, rel=0.05)

    def test_reads_and_multipliers_in_each_others_way(self) -> None:
        c = PimConfig(fmt="bf16")
        (slow, rate), (slower, more) = tiles.contention(c), tiles.contention(replace(c, share=4))
        assert slow == 1 and slower > 1.2 and 0.2 < rate < 0.5 < more < 1

    def test_a_refresh(self) -> None:
        t = PRESETS["neupims-hbm"]
        assert t.rfc - 60 < refresh_gap(PimConfig(fmt="bf16"))[1] < t.rfc + 60


class TestEvents:
    def test_sequences_wait_for_a_refresh(self) -> None:
        first, cost = np.array([0, 3]), np.array([100.0, 100, 100])
        args = (first, cost, np.array([120.0, 120, 120]), np.zeros(3))
        assert events.channel_times(*args, 1e9, 50)[0] == 300
        assert events.channel_times(*args, 250, 50)[0] == 250 + 50 + 100

    def test_one_front_end(self) -> None:
        first, commands = np.array([0, 1, 3]), np.array([10, 5, 15])
        assert list(events.arrivals(first, commands, 1)) == [20, 10, 30]
        assert list(events.arrivals(first, commands, 0)) == [0, 0, 0]


class TestWork:
    def test_tiles_of_a_request(self) -> None:
        """162 tiles and 28 copies, as counted in a channel of the published simulator."""
        work = [load for n in (432, 624) for load in request_load(PimConfig(fmt="bf16"), MODEL, n, False)]  # fmt: skip
        assert sum(x.tiles * x.repeat for x in work) in (162, 164)
        assert sum(x.gwrites * x.repeat for x in work) == 28

    def test_short_requests_share_rows(self) -> None:
        plain, packed = (
            sum(x.tiles * x.repeat for x in request_load(PimConfig(fmt="bf16"), MODEL, 60, pack))
            for pack in (False, True)
        )
        assert (plain, packed) == (4 + 32, 4 + 8)

    def test_heads_that_share_keys_share_rows(self) -> None:
        """Four query heads of a key head: with four pages of vectors its rows open once, not four times."""
        llama = decoder("llama3-8b")
        one, four = (
            sum(x.tiles * x.repeat for x in request_load(PimConfig(fmt="bf16", entries=e), llama, 512, False))
            for e in (1, 4)
        )  # fmt: skip
        assert one == 4 * four

    def test_lengths(self) -> None:
        for name, prompt, answer, context in (
            ("sharegpt", 80.0, 295.7, 309),
            ("alpaca", 12.1, 55.8, 68),
        ):
            sizes = exchanges(name, 50_000, np.random.default_rng(0)).mean(axis=0)
            assert sizes == pytest.approx([prompt, answer], rel=0.1)
            drawn = [contexts(name, 512, np.random.default_rng(s)).mean() for s in range(10)]
            assert np.mean(drawn) == pytest.approx(context, rel=0.1)

    def test_packing(self) -> None:
        weights = np.array([5.0, 4, 3, 3, 3])
        assert list(loads(weights, 2, True)) == [0, 1, 1, 0, 1]
        assert list(loads(weights, 2, False)) == [0, 1, 0, 1, 0]


class TestSystem:
    def test_published_cycles(self) -> None:
        for anchor in anchors():
            assert abs(anchor.error) < 0.05, anchor

    def test_improved_wins(self) -> None:
        lengths = contexts("alpaca", 256, np.random.default_rng(0))
        old, new = (layer_time(DESIGNS[name], MODEL, lengths) for name in ("neupims", "improved"))
        assert old.cycles > 1.3 * new.cycles
        assert old.interleaved and old.counts["RD"] == 2 * new.counts["RD"]

    def test_what_bounds(self) -> None:
        shipped, plain, best = (
            layer_time(DESIGNS[name], MODEL, [300] * 192).bounds
            for name in ("pim-shipped", "dual", "improved")
        )
        assert shipped["command bus"] > shipped["compute"] and "refresh" not in shipped
        assert plain["tFAW"] > plain["precharge slots"] > best["precharge slots"]
        assert plain["weight preload"] > 0 and best["weight preload"] == 0

    def test_on_chip_memory(self) -> None:
        whole, half = Npu().gemm(512, 4096, 4096), Npu(sram_bytes=6 << 20).gemm(512, 4096, 4096)
        assert half[1] == 2 * whole[1] and half[0] > whole[0]

    def test_energy(self) -> None:
        layer = layer_time(DESIGNS["dual"], MODEL, [300] * 64)
        parts = energy(PRESETS["neupims-hbm"], DESIGNS["dual"].channel, layer)
        assert all(value > 0 for value in parts.values()) and parts["compute"] > parts["copy"]

    def test_serving(self) -> None:
        slow, fast = (
            serve(DESIGNS["neupims"], MODEL, "alpaca", 20, rate, 8, 1) for rate in (1.0, 1000.0)
        )
        assert slow.first_token[0] < fast.first_token[0] and slow.batch < fast.batch
        assert slow.tokens_per_second < fast.tokens_per_second


class TestCommand:
    @pytest.fixture(autouse=True)
    def _fresh(self):
        cli.console = cli.Console()
        yield
        cli.console.close()

    def test_a_design(self, tmp_path: Path, capsys) -> None:
        path = tmp_path / "t.json"
        words = [
            "pim",
            "sim",
            "--model",
            "gpt3-7b",
            "--lengths",
            "40,50,60,70",
            "--design",
            "improved",
        ]
        assert cli.run([*words, "--trace", str(path)]) == 0
        assert "improved" in capsys.readouterr().out
        spans = json.loads(path.read_text())["traceEvents"]
        assert {"NPU", "channel 00", "channel 31"} <= {span["tid"] for span in spans}

    def test_commands_keep_the_rules(self, tmp_path: Path, capsys) -> None:
        path = tmp_path / "c.txt"
        words = ["pim", "sim", "--model", "gpt3-7b", "--lengths", "70,600", "--design"]
        for design in ("pim", "improved-2"):
            assert cli.run([*words, design, "--commands", str(path)]) == 0
            assert cli.run(["pim", "check", str(path)]) == 0
            assert ", 0 violations" in capsys.readouterr().out
            text = path.read_text().replace("GACT", "PREA", 1)
            path.write_text(text)
            assert cli.run(["pim", "check", str(path)]) == 1
            capsys.readouterr()

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--commands", "x", "--design", "npu"], "The memory of npu does not compute"),
            (["--batch", "0"], "greater than or equal to 1"),
            (["--model", "gpt5"], "There is no decoder 'gpt5'; there are gpt3-7b"),
            (["--dataset", "mine"], "There is no data set 'mine'; there are sharegpt, alpaca"),
            (["--design", "neupim"], "neupims"),
            (["--lengths", "9000"], "9,000 tokens takes 1,179,648,000 bytes of one channel, which has"),
            (["--lengths", "5,x"], "--lengths must be numbers with commas"),
            (["--batch", "4000"], "does not fit: 3,221,225,472 bytes of weights and"),
            (["--trace", "x"], "--trace and --commands need a --design"),
        ],
    )  # fmt: skip
    def test_asked_wrongly(self, words: list[str], message: str, capsys) -> None:
        assert cli.run(["pim", "sim", "--model", "gpt3-7b", *words]) == 2
        assert message in capsys.readouterr().err


class TestParameters:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"ras": 60}, "contradict each other: ras < rc, but ras = 60, rc = 48"),
            ({"rp": 20}, "ras \\+ rp <= rc, but rp = 20, ras = 34, rc = 48"),
            ({"faw": 2}, "rrd_s <= faw"),
            ({"rl": 0}, "rl must be a whole number of cycles, 1 or more, not 0"),
            ({"refi": 200}, "rfc \\+ rc < refi"),
        ],
    )
    def test_timings(self, changes: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            replace(preset("neupims-hbm"), **changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"banks": 12}, "banks must be a power of two from 2 to 64, not 12"),
            ({"dual": False, "buffers": 2}, "Two buffers in turns need dual row buffers"),
            ({"act_group": 32}, "act_group must be a power of two from 1 to 16"),
            ({"fmt": "fp8"}, "fmt must be int8, bf16 or bf16-block, not 'fp8'"),
            ({"share": 600}, "share must be 0 to 511, not 600"),
            ({"banks": 4, "groups": 4, "act_group": 2}, "4 banks cannot make 2 ranks of 4 groups"),
        ],
    )  # fmt: skip
    def test_channels(self, changes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            PimConfig(**changes)


def test_no_decoder() -> None:
    with pytest.raises(DesignError, match="There is no decoder"):
        decoder("x")
