# SPDX-License-Identifier: Apache-2.0
"""The one-core scheduler: its phases, their order, who waits, and where tensors live."""

from dataclasses import replace

import pytest

from schedules.errors import ScheduleError
from schedules.problem import Problem
from schedules.roles import role
from schedules.schedule import Schedule
from schedules.sequential import sequential

LAYER = ["ln_1", "k", "v", "q", "attention", "proj", "ln_2", "fc1", "fc2"]


class TestPhases:
    def test_order(self, schedule: Schedule) -> None:
        """Keys and values first, so that their writes land behind the queries' compute."""
        assert [p.id for p in schedule.phases] == ["embed", *LAYER, "ln_f", "lm_head"]

    def test_who_waits(self, schedule: Schedule) -> None:
        assert [p.id for p in schedule.phases if not p.barrier] == ["v", "q"]

    def test_what_streams(self, schedule: Schedule) -> None:
        found = {p.id: p.tasks for p in schedule.phases if p.pattern == "pipeline"}
        assert found == {
            "attention": ("scores", "softmax", "context"),
            "proj": ("proj", "add_1"),
            "fc1": ("fc1", "gelu"),
            "fc2": ("fc2", "add_2"),
            "lm_head": ("lm_head", "argmax"),
        }
        assert schedule.phase("attention").interleave == schedule.template.limits.slots

    def test_roles(self, schedule: Schedule) -> None:
        found = {p.id: (r.kind, r.result) for p in schedule.phases for r in [role(schedule, p)]}
        assert found["k"] == ("product", "key") and found["v"] == ("product", "value")
        assert found["q"] == ("product", "buffer") and found["fc1"] == ("product", "gated")
        assert found["proj"] == ("product", "residual") and found["lm_head"] == ("product", "logit")
        assert found["attention"] == ("attention", "") and found["embed"] == ("embed", "")
        assert [p.id for p in schedule.phases if role(schedule, p).last_write] == ["v"]

    def test_circular(self, problem: Problem, machine) -> None:
        # The scheduler takes its order from the tensors, not from the order in which tasks are named.
        start, layer, head = problem.sections
        assert sequential(problem, machine, clock_mhz=1.0).phases[1].id == "ln_1"
        shuffled = ("ln_1", "v", "k", "q", *layer.tasks[4:])
        other = replace(problem, sections=(start, replace(layer, tasks=shuffled), head))
        ids = [p.id for p in sequential(other, machine, clock_mhz=1.0).phases]
        assert ids[1:5] == ["ln_1", "v", "k", "q"]


class TestBuffers:
    def test_overlays(self, schedule: Schedule) -> None:
        """Norm outputs share a place; queries and context share one with the hidden activations."""
        at = {h.tensor: (h.offset, h.bytes) for h in schedule.buffer("activations").homes}
        rows = 16 * 32
        assert at["ln_1"] == at["ln_2"] == (0, rows)
        assert at["q"] == (rows, rows) and at["context"] == (2 * rows, rows)
        assert at["gelu"] == (rows, 2 * rows)
        assert schedule.buffer("activations").bytes == 3 * rows

    def test_residual_stream_is_added_in_place(self, schedule: Schedule) -> None:
        homes = {h.tensor: h for h in schedule.buffer("residual").homes}
        assert {h.offset for h in homes.values()} == {0}
        assert homes["add_1"].replaces == "x" and homes["add_2"].replaces == "add_1"
        assert homes["add_2"].live == ("fc2", "ln_f")

    def test_weights_stream_in_order(self, schedule: Schedule) -> None:
        rings = {r.name: r.tensors for r in schedule.rings}
        assert rings["w"][:4] == ("ln_1.w", "k.w", "v.w", "q.w")
        assert rings["w"][-1] == "lm_head.w"
        assert rings["k"] == ("k",) and rings["v"] == ("v",)
        assert rings["e"] == ("tokens", "wte", "wpe")


class TestShapes:
    @pytest.mark.parametrize("layers", [1, 2, 7])
    def test_layers(self, make_network, machine, layers: int) -> None:
        sequential(make_network(layers=layers), machine, clock_mhz=100.0).verify()

    def test_ring_too_small(self, make_network, machine) -> None:
        with pytest.raises(ScheduleError, match="Ring w has 4096 bytes, but task fc2 keeps"):
            sequential(make_network(ffn=1024), machine, clock_mhz=100.0)
