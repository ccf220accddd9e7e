# SPDX-License-Identifier: Apache-2.0
"""The cycle model: closed forms where there are some, and what must hold everywhere.

That it equals the RTL is shown where the RTL runs (tests/accelerator).
"""

from fractions import Fraction

import pytest

from schedules.cycles import Pass, bound, ideal, play, predict
from schedules.errors import ScheduleError
from schedules.machine import Machine
from schedules.schedule import Schedule
from schedules.sequential import sequential


@pytest.fixture(scope="module")
def fast(make_machine) -> Machine:
    """A memory that never makes the engine wait: a beat a cycle."""
    return make_machine(
        port_bytes=64, port_rate=Fraction(64), embed_words=4, row_stripes=1, norm_beat=1
    )


def cycles(schedule: Schedule, machine: Machine, shape: Pass) -> dict[str, int]:
    return {t.phase: t.end - t.start for t in predict(schedule, machine, shape).phases}


class TestClosedForms:
    def test_products(self, problem, fast: Machine) -> None:
        schedule = sequential(problem, fast, clock_mhz=1.0)
        found = cycles(schedule, fast, Pass(16))
        groups, tiles, words = 8, 4, 4
        # A beat a cycle, a header a tile, one cycle to start; the last row through engine and requantisation.
        way = fast.engine_latency + fast.tokens + fast.requantise_latency
        busy = tiles * (groups * words + 1) + 1
        assert found["q"] == busy + way
        assert found["proj"] == busy + way + fast.residual_latency
        gelu = (2 * tiles) * (groups * words + 1) + 1
        assert found["fc1"] == gelu + 1 + way + fast.activation_latency
        assert (
            found["fc2"] == tiles * (groups * 2 * words + 1) + 1 + way + fast.residual_latency + 1
        )

    def test_layernorm(self, problem, fast: Machine) -> None:
        schedule = sequential(problem, fast, clock_mhz=1.0)
        found = cycles(schedule, fast, Pass(16))
        assert found["ln_2"] == 16 * fast.norm_row + fast.norm_latency + 1
        assert found["ln_f"] == fast.norm_row + fast.norm_latency + 1

    def test_embedding(self, problem, fast: Machine) -> None:
        """Row after row: token, then two rows of tables, each once through memory and word by word."""
        schedule = sequential(problem, fast, clock_mhz=1.0)
        one, two, three = (
            cycles(schedule, fast, Pass(n, answer=False))["embed"] for n in (1, 2, 3)
        )
        trip = fast.request_latency + fast.memory_latency + fast.stream_latency
        assert three - two == (trip + 4) + (trip + 8)
        assert one < two < three

    def test_decode_is_bound_by_memory(self, problem, machine: Machine) -> None:
        """Every byte of the weights comes over the port, which is never idle for long."""
        schedule = sequential(problem, machine, clock_mhz=1.0)
        found = predict(schedule, machine, Pass(1, 40))
        read = sum(t.bytes for t in found.phases)
        assert read / machine.bytes_per_cycle <= found.total <= 1.3 * read / machine.bytes_per_cycle
        assert {t.phase: t.bound for t in found.phases}["fc2"] == "memory"


class TestEverywhere:
    @pytest.mark.parametrize(
        "shape", [Pass(1), Pass(5), Pass(16, 3), Pass(2, 0, False), Pass(1, 63), Pass(1, 7)]
    )
    def test_phases_fill_the_pass(self, schedule: Schedule, machine: Machine, shape: Pass) -> None:
        found = predict(schedule, machine, shape)
        assert sum(t.cycles for t in found.phases) == found.total
        assert 0 < found.lane_use < 1
        for time in found.phases:
            least = ideal(schedule, machine, schedule.phase(time.phase), shape)
            assert time.end - time.start >= least.compute

    def test_a_run_is_its_passes(self, schedule: Schedule, machine: Machine) -> None:
        run = play(schedule, machine, prompt=37, generate=4, position=2)
        assert [(p.shape.tokens, p.shape.past, p.shape.answer) for p in run.passes] == [
            (16, 2, False), (16, 18, False), (5, 34, True), (1, 39, True), (1, 40, True), (1, 41, True),
        ]  # fmt: skip
        assert sum(p.cycles for p in run.passes) == run.cycles
        assert sum(c.cycles for c in run.counts.values()) == run.cycles
        # Beats of the engine: every tile for every group, and attention's triangle.
        assert run.counts["q"].beats == 3 * 4 * 4 * (8 + 8 + 3 + 1 + 1 + 1)
        assert run.counts["lm_head"].beats == 4 * 5 * 4

    def test_fewer_layers(self, schedule: Schedule, machine: Machine) -> None:
        one, two, three = (play(schedule, machine, prompt=9, repeat=n).cycles for n in (1, 2, 3))
        assert abs((three - two) - (two - one)) < 0.1 * (two - one)

    def test_slower_machines_take_longer(
        self, schedule: Schedule, machine: Machine, make_machine
    ) -> None:
        def total(**changes) -> int:
            return play(schedule, make_machine(**changes), prompt=16, generate=3).cycles

        base = total()
        assert total(port_rate=Fraction(8)) > base
        assert total(memory_latency=60) > base
        assert total(engine_latency=9) > base
        assert total(requantise_latency=9) > base
        assert total(softmax_latency=60) > base
        assert total(norm_latency=60) > base

    def test_rows_that_leave_slower_than_tiles_come(self, problem, make_machine) -> None:
        """Four token rows leave a tile of two beats in four cycles."""
        wide = make_machine(
            tokens=4, port_bytes=64, port_rate=Fraction(64), embed_words=4, row_stripes=1
        )
        schedule = sequential(problem, wide, clock_mhz=1.0)
        run = play(schedule, wide, prompt=16)
        items, tiles = 2 * 4, 2 * (1 + 1 + 2 + 2)  # heads, groups; tiles of scores
        assert run.counts["attention"].beats == 3 * 2 * (2 * 6 + 2 * 6)
        assert run.passes[0].phases[5][2] - run.passes[0].phases[5][1] > 4 * tiles + 4 * 2 * items

    def test_deterministic(self, schedule: Schedule, machine: Machine) -> None:
        assert predict(schedule, machine, Pass(11, 4)) == predict(schedule, machine, Pass(11, 4))

    def test_what_does_not_fit(self, schedule: Schedule, machine: Machine) -> None:
        with pytest.raises(
            ScheduleError,
            match="60 cached, 9 of the prompt and 0 to generate exceed the context of 64",
        ):
            play(schedule, machine, prompt=9, generate=0, position=60)
        with pytest.raises(ScheduleError, match="needs a prompt, not 0 tokens"):
            play(schedule, machine, prompt=0)
        with pytest.raises(ScheduleError, match="Section layer repeats 1 to 3 times, not 4"):
            play(schedule, machine, prompt=1, repeat=4)


class TestIdeal:
    def test_bounds(self, schedule: Schedule, machine: Machine) -> None:
        found = ideal(schedule, machine, schedule.phase("fc1"), Pass(16))
        assert found.macs == 16 * 32 * 64 and found.compute == 16 * 32 * 64 // 128
        assert found.bytes == (8 * 4 + 8 + 1) * 64 and found.memory == found.bytes // 16
        assert bound(found, 300) == "compute"
        assert bound(found, 3000) == "latency"
        one = ideal(schedule, machine, schedule.phase("fc1"), Pass(1))
        assert bound(one, 170) == "memory"


def test_machine_is_checked(make_machine) -> None:
    with pytest.raises(ScheduleError, match="lanes must be at least 1, not 0"):
        make_machine(lanes=0)
    with pytest.raises(
        ScheduleError, match="a port of 16 bytes carries at most that in a cycle, not 17"
    ):
        make_machine(port_rate=Fraction(17))
    with pytest.raises(ScheduleError, match="a beat of 64 bytes must be whole stripes of 96 bytes"):
        make_machine(port_bytes=32, ports=3)
    with pytest.raises(ScheduleError, match="clients must be e, k, v and w"):
        make_machine(clients=())
