# SPDX-License-Identifier: Apache-2.0
"""The schedule as a value: text, differences, queries."""

from dataclasses import replace

import pytest

from schedules.cycles import Pass
from schedules.errors import ScheduleError
from schedules.schedule import Schedule
from schedules.sequential import sequential


@pytest.fixture(scope="module")
def predicted(problem, machine) -> Schedule:
    return sequential(problem, machine, clock_mhz=200.0, passes=[Pass(16), Pass(1, 5)])


class TestText:
    def test_loads_back_equal(self, predicted: Schedule) -> None:
        text = predicted.to_yaml()
        again = Schedule.from_yaml(text)
        assert again == predicted
        assert again.to_yaml() == text
        again.verify()

    def test_reads_like_a_table(self, predicted: Schedule) -> None:
        lines = predicted.to_yaml().splitlines()
        assert lines[0] == "version: 1"
        assert (
            "- {id: v, section: layer, pattern: sequential, run: {v: [c0]}, barrier: false}"
            in lines
        )
        assert "- {tensor: scores, from: scores, to: softmax, place: stream, depth: 4}" in lines
        assert "  k: {shape: [P+L, 32], kind: cache}" in lines

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("version: 1", "version: 7", "has version 7, but this program reads version 1"),
            (
                "clock_mhz: 200.0",
                "clock: 200.0",
                "field clock is not known; did you mean clock_mhz",
            ),
            ("clock_mhz: 200.0", "clock_mhz: -1.0", "clock_mhz must be positive, not -1.0"),
            ("clock_mhz: 200.0", "clock_mhz: fast", "clock_mhz must be float, not 'fast'"),
            (
                "pattern: pipeline",
                "pattern: pipelined",
                "pattern must be one of .*, not 'pipelined'",
            ),
            ("section: layer, ", "", "phases.1.: field section is missing"),
            ("place: stream", "place: river", "place must be one of .*, not 'river'"),
            ("shape: [2, 8, 8]", "shape: [2, 8]", "shape must have 3 items, not 2"),
            ("phases:\n- {id: embed", "phases:\n- {[", "is not valid YAML"),
        ],
    )
    def test_wrong_text(self, predicted: Schedule, old: str, new: str, message: str) -> None:
        text = predicted.to_yaml()
        assert old in text
        with pytest.raises(ScheduleError, match=message):
            Schedule.from_yaml(text.replace(old, new))

    def test_not_a_mapping(self) -> None:
        with pytest.raises(ScheduleError, match="must be a mapping"):
            Schedule.from_yaml("- 1")


class TestDiff:
    def test_equal(self, schedule: Schedule) -> None:
        assert schedule.diff(schedule) == []

    def test_names_what_changed(self, schedule: Schedule) -> None:
        phases = tuple(replace(p, barrier=True) if p.id == "v" else p for p in schedule.phases)
        other = replace(schedule, clock_mhz=250.0, phases=phases)
        assert schedule.diff(other) == [
            "~ clock_mhz: 200.0 -> 250.0",
            "- phases[3].barrier: false",
        ]


class TestQueries:
    def test_homes(self, schedule: Schedule) -> None:
        buffer, home = schedule.home("q")
        assert (buffer.name, home.offset, buffer.word("q")) == ("activations", 16 * 32, 32)
        with pytest.raises(ScheduleError, match="has no home of scores"):
            schedule.home("scores")

    def test_phases(self, schedule: Schedule) -> None:
        assert schedule.phase_of("context").id == "attention"
        with pytest.raises(ScheduleError, match="no phase fc9; did you mean fc"):
            schedule.phase("fc9")

    def test_prints(self, predicted: Schedule) -> None:
        text = str(predicted)
        assert "attention" in text and "(no wait)" in text and "1 tokens after 5" in text
