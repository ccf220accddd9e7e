# SPDX-License-Identifier: Apache-2.0
"""Keys and values in PIM channels: what a model gets on a target, what is refused, and what a schedule says of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from designs import target
from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from designs.progress import SilentProgress
from designs.target import TargetCard
from designs.transformer import transformer_model
from generators.design import write_design
from generators.in_memory import in_memory
from generators.lower import lower
from generators.machine import measure
from generators.plan import Plan, best_plan
from generators.report import apply_run, load, write_report
from generators.report_facts import PimRun
from hw.core.config import CoreConfig
from hw.pim.timing import preset
from schedules.cycles import play
from schedules.errors import ScheduleError
from schedules.sequential import sequential

CARD = ModelCard(name="model", layers=2, width=64, heads=4, ffn=64, vocabulary=40, context=96)


def board(**changes: int) -> TargetCard:
    """tiny-pim with other channels."""
    card = target.load("tiny-pim")
    assert card.pim is not None
    return card.model_copy(update={"pim": card.pim.model_copy(update=changes)})


class TestPlan:
    def test_tiny(self) -> None:
        c = best_plan(CARD, board()).config
        assert c.pim is not None
        assert (c.pim_channels, c.cache.heads_here, c.cache.tile, c.cache.span) == (4, 1, 128, 256)
        assert c.cache.rows == 2 * (1 + 1) and c.pim.rows == 4
        assert c.slots >= CARD.heads
        assert CoreConfig(**json.loads(json.dumps(c.to_dict()))) == c

    def test_heads_of_any_number_find_channels(self) -> None:
        """The largest power of two that divides them."""
        for heads, channels in ((1, 1), (2, 2), (3, 1), (6, 2), (12, 4)):
            card = CARD.model_copy(update={"heads": heads, "kv_heads": heads, "width": 16 * heads})
            c = best_plan(ModelCard.model_validate(card.model_dump()), board()).config
            assert (c.pim_channels, c.cache.heads_here) == (channels, heads // channels)

    def test_gpt2_medium_on_u280(self) -> None:
        planned = best_plan(load_model_card("gpt2-medium"), target.load("u280-pim"))
        c = planned.config
        assert c.pim is not None
        assert (c.pim_channels, c.cache.heads_here, c.pim.banks, c.pim.lanes) == (16, 1, 32, 32)
        assert c.cache.bytes == 2 * 24 * 1024 * 1024  # nothing is wasted
        assert planned.memory.k == planned.memory.v == planned.memory.total_stripes

    def test_without_channels_nothing_is_there(self, tmp_path: Path) -> None:
        planned = best_plan(CARD, target.load("sim-small"))
        assert planned.config.pim is None and "pim" not in planned.config.to_dict()
        write_design(tmp_path, CARD, target.load("sim-small"), planned, SilentProgress())
        for path in (tmp_path / "rtl").iterdir():
            assert "pim" not in path.name and "pim" not in path.read_text(), path.name
        assert "pim" not in (tmp_path / "design.json").read_text()
        assert len(list((tmp_path / "rtl").iterdir())) > 20


@pytest.mark.parametrize(
    ("changes", "sizes", "message"),
    [
        ({"rows": 4}, {"layers": 8},
         r"model does not fit tiny-pim: keys and values of 96 tokens take 262,144 .* 65,536 \(196,608 too many\); no"),
        ({"rows": 8}, {"context": 600},
         r"600 tokens take 196,608 bytes of 4 PIM channels, there are 131,072 \(65,536 .*; a context of 512 fits"),
        ({"lanes": 32}, {}, r"head size 16 is not a multiple of the 32 lanes of a PIM bank"),
        ({"channels": 1, "page_bytes": 128}, {"heads": 12, "kv_heads": 12, "width": 192},
         r"keys of a token take 192 bytes of a channel \(12 heads of 16\), a row has 128"),
        ({"channels": 1, "page_bytes": 128}, {"heads": 3, "kv_heads": 3, "width": 48},
         r"3 features of 64 positions take 192 bytes, a row has 128"),
        ({}, {"family": "llama", "heads": 12, "kv_heads": 1, "width": 192},
         r"12 query heads share keys; a channel's vector buffer holds at most 8 vectors"),
    ],
)  # fmt: skip
def test_refused(changes: dict, sizes: dict, message: str) -> None:
    card = ModelCard.model_validate(CARD.model_dump() | {"kv_heads": 4} | sizes)
    with pytest.raises(DesignError, match=message) as error:
        best_plan(card, board(**changes))
    assert "\n" not in str(error.value)


def scheduled(card: ModelCard, name: str):
    planned, chips = best_plan(card, target.load(name)), target.load(name)
    machine = measure(planned.config, chips)
    problem = lower(transformer_model(card))
    return machine, sequential(problem, machine, clock_mhz=200.0), planned


class TestSchedule:
    def test_attention_runs_in_the_memory(self) -> None:
        _, schedule, _ = scheduled(CARD, "tiny-pim")
        on = dict(schedule.phase("attention").run)
        assert on == {"scores": ("p0",), "softmax": ("softmax",), "context": ("p0",)}
        assert {r.name for r in schedule.rings} == {"e", "w"}
        assert {e.mem for e in schedule.edges if e.place == "offchip"} == {"m1"}
        assert type(schedule).from_yaml(schedule.to_yaml()) == schedule

    def test_keys_elsewhere_are_not_legal(self) -> None:
        _, schedule, _ = scheduled(CARD, "tiny-pim")
        edges = tuple(replace(e, mem="m0") if e.mem == "m1" else e for e in schedule.edges)
        with pytest.raises(ScheduleError, match="core p0 multiplies in memory m1, not in m0"):
            replace(schedule, edges=edges).verify()

    def test_attention_gains_with_the_context(self) -> None:
        """Against the engine, whose memory carries 32 bytes a cycle."""
        card = CARD.model_copy(update={"context": 256})
        cycles = {}
        for name in ("sim-small", "tiny-pim"):
            machine, schedule, _ = scheduled(card, name)
            for context in (32, 256):
                run = play(schedule, machine, prompt=1, generate=2, position=context - 2)
                cycles[name, context] = run.counts["attention"].cycles
        assert cycles["tiny-pim", 256] < cycles["sim-small", 256] / 2
        gain = [cycles["sim-small", n] / cycles["tiny-pim", n] for n in (32, 256)]
        assert gain[1] > gain[0]


class TestReport:
    def test_says_what_runs_where(self, tmp_path: Path) -> None:
        chips = board()
        planned: Plan = best_plan(CARD, chips)
        write_design(tmp_path, CARD, chips, planned, SilentProgress())
        write_report(tmp_path, CARD, chips, planned, seconds=1)
        report = load(tmp_path)
        assert report.pim is not None
        assert report.pim.tasks == ("scores", "context") and report.pim.channels == 4
        assert report.memory.kv_bytes == report.pim.bytes == 4 * 4 * 16 * 256
        assert report.decode[-1].traffic.keys_values == 0
        assert any(b.name == "pim channels" for b in report.resources.blocks)
        run = PimRun(prompt=2, generated=1, cycles=1000, cycles_predicted=1001, attention=300,
                     attention_predicted=299, counters={"opened": 4})  # fmt: skip
        apply_run(tmp_path, run)
        found = load(tmp_path).pim
        assert found is not None and found.measured == run
        page = (tmp_path / "report.html").read_text()
        assert "scores and context run in the memory" in page and "+0.10 %" in page

    def test_memory_is_not_synthesised(self, tmp_path: Path) -> None:
        chips = board()
        write_design(tmp_path, CARD, chips, best_plan(CARD, chips), SilentProgress())
        names = [m["name"] for m in json.loads((tmp_path / "design.json").read_text())["modules"]]
        beside = {name.split("_")[1] for name in names if in_memory(name)}
        assert beside == {"device", "bank", "mac", "checker"}
        assert any(name.startswith("pim_control_") for name in names)


class TestClock:
    def test_times_become_fewer_cycles(self) -> None:
        fast = preset("neupims-hbm")
        slow = fast.at_clock(4.0)
        assert (slow.rcd_rd, slow.rp, slow.ras, slow.faw) == (4, 4, 9, 8)
        assert slow.rc == slow.ras + slow.rp and slow.refi == 975
        assert (slow.rl, slow.burst, slow.comp, slow.fill) == (16, 2, 2, 6)
        assert fast.at_clock(1.0) == replace(fast, name="neupims-hbm-1000mhz")

    def test_not_a_faster_one(self) -> None:
        with pytest.raises(ValueError, match=r"for clocks of 1\.0 ns or slower, not 0\.5 ns"):
            preset("neupims-hbm").at_clock(0.5)
