# SPDX-License-Identifier: Apache-2.0
"""The language of properties: what it reads, what it refuses and where."""

import numpy as np
import pytest

from sim.verify.evaluate import Trace, evaluate, judge
from sim.verify.expression import PropertyError, parse_expression
from sim.verify.properties import Property, parse_property
from tests.sim.verify.random_properties import random_text

TABLE = {"a": 4, "b": 8, "c": 1, "u.x": 8, "g[0].y": 3, "wide": 100, "after_reset": 1}


def trace(**values: list[int]) -> Trace:
    cycles = len(next(iter(values.values())))
    widths = {name: TABLE[name] for name in values}
    arrays = {
        name: np.array(v, dtype=np.uint64 if TABLE[name] < 64 else object)
        for name, v in values.items()
    }
    return Trace(arrays, widths, np.zeros(cycles, bool), np.ones(cycles, bool))


@pytest.mark.parametrize(
    ("text", "a", "b", "value"),
    [
        ("a + b", 15, 255, 270),  # one bit wider: nothing is lost
        ("(a + 1)[3:0]", 15, 0, 0),
        ("a - b", 3, 5, 254),
        ("a * b", 15, 255, 3825),
        ("-a", 3, 0, 13),
        ("~a", 3, 0, 12),
        ("a << 2", 7, 0, 12),
        ("b >> a", 3, 255, 31),
        ("{a, b}", 3, 7, 775),
        ("a > b ? a : b", 9, 4, 9),
        ("signed(a) < signed(b)", 15, 1, 1),
        ("signed(a) == -1", 15, 0, 1),
        ("signed(a) + signed(b)", 15, 254, 0x1FD),
        ("signed(a) >> 1", 12, 0, 14),
        ("&a", 15, 0, 1),
        ("^a", 7, 0, 1),
        ("countones(b)", 0, 0xF1, 5),
        ("onehot(a)", 8, 0, 1),
        ("onehot0(a)", 0, 0, 1),
        ("a == 1 || b == 2 && !(a == 0)", 3, 2, 1),
    ],
)
def test_value(text, a, b, value):
    assert evaluate(parse_expression(text, TABLE), trace(a=[a], b=[b]))[0] == value


def test_wide_values():
    e = parse_expression("(wide + 1)[99:0] == past(wide)", TABLE)
    assert list(evaluate(e, trace(wide=[0, (1 << 100) - 1]))) == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d + 1", "column 1: there is no signal d"),
        ("a + u.z", "column 5: there is no signal u.z; is it u.x?"),
        ("a +", "column 4: expected a signal"),
        ("a b", "column 3: expected the end"),
        ("a[4]", "outside the 4 bits"),
        ("past(a, 17)", "1 to 16 cycles back, not 17"),
        ("past(a, 0)", "1 to 16 cycles back, not 0"),
        ("$system(a)", "there is no function $system"),
        ("`include a", "column 1: '`include a' is not in the language"),
        ('a == "x"', "is not in the language"),
        ("(" * 60 + "a" + ")" * 60, "nested deeper than 40"),
        ("a" + " + a" * 200, "at most 600 characters"),
        ("!" * 100 + "a", "nested deeper"),
        ("signed(a) == b", "one side is signed"),
        ("{wide, wide, wide, wide, wide, wide, wide, wide, wide, wide, wide}", "wider than 1024"),
        ("4'd16 == a", "does not fit"),
        ("a == 99999999999999999999999", "more than 64 bits"),
        ("a |-> ##40 c", "at most 32 cycles"),
        ("a ##1 c", "a sequence needs |->"),
        ("a |-> ##[3:1] c", "ends before it begins"),
        ("1 == 1", "names at least one signal"),
        ("ordered(a, b, c)", "ordered takes 5 arguments, not 3"),
        ("ordered(c, a, c, b, 4)", "differ in width"),
        ("conserved(c, c, a)", "a capacity of 1 to 4096"),
        ("conserved(past(c), c, 4)", "no past"),
        ("\u0430 == 1", "is not in the language"),
    ],
)
def test_refused(text, message):
    with pytest.raises(PropertyError) as error:
        parse_property(text, TABLE)
    assert message in str(error.value)


def test_canonical_text_reads_back():
    """What is printed is read as the same property, for many random ones."""
    for seed in range(400):
        text = random_text(TABLE, seed)
        body = parse_property(text, TABLE)
        assert parse_property(str(body), TABLE) == body, text


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("c |=> b == 1", [3]),
        ("c ##1 c |-> b == 1", [2]),
        ("c |-> ##[1:2] b == 1", [3]),
        ("rose(c) |-> b == 0", []),
        ("stable(b)", [2, 4]),
        ("b == 1 |-> past(c, 2)", [4]),
        ("##1 !after_reset", []),
    ],
)
def test_temporal(text, bad):
    c = [1, 1, 1, 0, 0]
    b = [0, 0, 1, 1, 0] if "stable" in text or "past" in text else [0, 1, 0, 0, 1]
    if text == "c |=> b == 1":
        b = [0, 1, 1, 0, 1]
    if "past" in text:
        b = [0, 0, 1, 1, 1]
        c = [1, 1, 0, 0, 0]
    item = Property("p", parse_property(text, TABLE))
    assert list(np.flatnonzero(judge(item, trace(b=b, c=c)).bad)) == bad
