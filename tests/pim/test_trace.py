# SPDX-License-Identifier: Apache-2.0
"""The protocol checker alone: traces that are right, and each rule broken once."""

from pathlib import Path

import pytest

from designs.errors import DesignError
from hwgen import cli
from sim.pim.trace import judge, parse

HEAD = "timing neupims-hbm\nchannel banks=4 ranks=2 groups=1 rows=16 page_bytes=256 act_group=2\n"

RIGHT = """
10 ACT bank=0 row=3
24 RD bank=0 row=3
26 RD bank=0 row=3 col=1
60 PRE bank=0
70 GACT bank=0 row=5     # both banks of rank 0
74 GACT bank=2 row=5
88 COMPS_READRES k=4
102 COMPS_READRES k=8 col=4 gcol=4 last=1
120 PIMPRE bank=0
121 PIMPRE bank=1
122 PIMPREA
137 REF bank=0
138 REF bank=2
400 ACT bank=0 row=3
"""

# What is changed, the rule, and the cycles that are then missing.
BROKEN = [
    ("24 RD bank=0 row=3", "20 RD bank=0 row=3", "tRCD", 4),
    ("26 RD", "25 RD", "data bus", 1),
    ("60 PRE", "30 PRE", "tRAS", 14),
    ("24 RD bank=0 row=3", "24 RD bank=0 row=4", "row open", None),
    ("70 GACT bank=0 row=5", "70 GACT bank=0 row=4", "row open", None),
    ("74 GACT bank=2", "74 GACT bank=0", "row closed", None),
    ("88 COMPS", "86 COMPS", "tRCD", 2),
    ("102 COMPS_READRES", "101 COMPS_READRES", "tCOMP", 1),
    ("120 PIMPRE bank=0", "110 PIMPRE bank=0", "sequence split", 10),
    ("122 PIMPREA", "122 NOTHING", "unknown command", None),
    ("137 REF", "130 REF", "tRP", 5),
    ("138 REF bank=2", "138 REF bank=0", "tRFC", 259),
    ("400 ACT", "390 ACT", "tRFC", 7),
    ("26 RD bank=0 row=3 col=1", "26 WR bank=0 row=3", "tRTW", 11),
    ("26 RD bank=0 row=3 col=1", "26 GACT bank=0 row=3", "one buffer a row", None),
    ("26 RD bank=0 row=3 col=1", "26 GACT bank=0 row=4", "tFAW", 14),
    ("26 RD bank=0 row=3 col=1", "24 RD bank=0 row=3", "one command a cycle", 1),
    ("137 REF bank=0", "40000 REF bank=0", "refresh debt", None),
]


def found(text: str) -> list[tuple[str, int | None]]:
    return [(v.rule, v.short) for v in judge(*parse(HEAD + text))]


def test_a_right_trace() -> None:
    assert found(RIGHT) == []


@pytest.mark.parametrize(("old", "new", "rule", "short"), BROKEN)
def test_a_broken_rule(old: str, new: str, rule: str, short: int | None) -> None:
    assert old in RIGHT
    text = RIGHT.replace(old, new, 1)
    if rule == "unknown command":
        with pytest.raises(DesignError, match="line 14: unknown command 'NOTHING'"):
            found(text)
        return
    assert (rule, short) in found(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timing hbm9", "line 1: There are no timings 'hbm9'; there are neupims-hbm"),
        ("timing hbm2 ras=60", "line 1: Timings hbm2 contradict each other: ras < rc, but ras = 60, rc = 47"),
        ("channel banks=5", "banks must be a power of two from 2 to 64, not 5"),
        ("7 RD bank=99", "line 1: bank must be below 32, not 99"),
        ("x RD", "line 1: expected CYCLE COMMAND NAME=VALUE"),
        ("7 COMPS_READRES k=99", "line 1: k must be 1 or more, and col \\+ k at most 64"),
    ],
)  # fmt: skip
def test_what_is_no_trace(text: str, message: str) -> None:
    with pytest.raises(DesignError, match=message):
        parse(text)


def test_command(tmp_path: Path, capsys) -> None:
    path = tmp_path / "t"
    for text, code, line in (
        (RIGHT, 0, "14 commands in 400 cycles of neupims-hbm, 0 violations"),
        (RIGHT.replace("60 PRE", "30 PRE"), 1,
         "line 7: PRE in cycle 30: tRAS: 14 cycles too early"),
        ("5 WHAT", 2, "error: line 3: unknown command 'WHAT'"),
    ):  # fmt: skip
        path.write_text(HEAD + text)
        assert cli.run(["pim", "check", str(path)]) == code
        shown = capsys.readouterr()
        assert line in shown.out + shown.err
