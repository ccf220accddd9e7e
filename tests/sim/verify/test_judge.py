# SPDX-License-Identifier: Apache-2.0
"""The judge on designs whose verdicts are known; three meanings of a property compared."""

from pathlib import Path

import numpy as np
import pytest

from designs.errors import DesignError
from sim.verify.checker import write_checker
from sim.verify.evaluate import judge
from sim.verify.expression import PropertyError
from sim.verify.formal import Effort, prove, proven_bit_by_bit, redundant
from sim.verify.judge import Judgement, Proposal, admit, rule
from sim.verify.properties import Property, parse_property
from sim.verify.simulate import build_simulator
from sim.verify.subject import elaborate
from tests.sim.verify import designs
from tests.sim.verify.random_properties import random_text

EFFORT = Effort(seconds=8, depth=16)

FIFO_VERDICTS = {
    "level <= 4": "proven",
    "level[1:0] == wp - rp": "proven",
    "level <= 3": "falsified",
    "out_valid && !out_ready |=> out_valid && stable(out_data)": "proven",
    "push && !pop |=> level == past(level) + 1": "proven",
    "push |=> level == past(level) + 1": "falsified",
    "push |-> ##[1:2] out_valid": "proven",
    "push |-> ##1 in_ready": "falsified",
    "after_reset |-> level == 0": "proven",
    "conserved(push, pop, 4)": "proven",
    "conserved(push, pop, 3)": "falsified",
    "ordered(push, in_data, pop, out_data, 3)": "falsified",
    "level <= 7": "tautology",
    "level == 5 |-> in_ready": "vacuous",
    "level  <=  4": "duplicate",
}


def _properties(subject, texts):
    return [Property(f"p{k}", parse_property(text, subject.widths)) for k, text in enumerate(texts)]


def test_known_verdicts(fifo, tmp_path):
    items = _properties(fifo.subject, FIFO_VERDICTS)
    found = rule(fifo.subject, items, fifo.trace, tmp_path, EFFORT)
    assert {t: j.status for t, j in zip(FIFO_VERDICTS, found, strict=True)} == FIFO_VERDICTS
    for judgement in found:
        if judgement.status == "falsified":
            assert judgement.wave is not None and judgement.wave.cycles == judgement.depth


def test_order_is_proven_without_bound(fifo, tmp_path):
    """Bit by bit; and a queue that spoils one bit, later than any bounded search looks, is not proven."""
    text = "ordered(push, in_data, pop, out_data, 4)"
    good = _properties(fifo.subject, [text, "level <= 4"])
    long = Effort(seconds=120, depth=16)  # by the clock, of a machine that may do much else
    assert proven_bit_by_bit(fifo.subject, good, 0, tmp_path, long, "bits")
    assert not proven_bit_by_bit(fifo.subject, good, 1, tmp_path, long, "none")
    late = designs.FIFO.replace("reg [2:0] level;", "reg [2:0] level;\n  reg [5:0] old;")
    late = late.replace("rp <= 0;", "old <= 0; rp <= 0;").replace(
        "mem[wp] <= in_data;",
        "mem[wp] <= in_data ^ {1'b0, old == 63, 6'b0}; old <= old + (old != 63);",
    )
    (tmp_path / "late.v").write_text(late)
    subject = elaborate([tmp_path / "late.v"], tmp_path / "n")
    spoilt = _properties(subject, [text])
    assert not proven_bit_by_bit(subject, spoilt, 0, tmp_path / "late", long, "bits")


def test_counterexamples_are_shortest_and_real(mac, tmp_path):
    """What the bounded search finds without the help of simulation plays to a violation."""
    texts = ["count != 4", "count <= 9", "done |-> count == 0", "done |=> !done"]
    items = _properties(mac.subject, texts)
    found = prove(mac.subject, items, tmp_path, EFFORT)
    assert [r.verdict for r in found if r] == ["falsified", "proven", "proven", "proven"]
    assert found[0] is not None and found[0].wave is not None
    # reset, then five enabled cycles: count is 0, 0, 1, 2, 3, 4
    assert found[0].wave.values["count"][1:] == (0, 1, 2, 3, 4)


def test_data_path(mac, tmp_path):
    """A property with a multiplication, and the same with its sign forgotten."""
    texts = [
        "en && first |=> signed(acc) == past(signed(a) * signed(b))",
        "en && first |=> acc == past(a * b)",
    ]
    found = rule(mac.subject, _properties(mac.subject, texts), mac.trace, tmp_path, EFFORT)
    assert [j.status for j in found] == ["proven", "falsified"]


def test_assumptions_restrict(fifo, tmp_path):
    """Without the assumption it is falsified; with it, proven."""
    claim = Proposal(property="in_valid |=> out_valid || past(pop)", name="claim")
    polite = Proposal(property="!(in_valid && !in_ready)", name="polite", kind="assume")
    assert isinstance(admit([polite], fifo.subject)[0], Judgement)  # it names an output
    quiet = Proposal(property="!in_valid", kind="assume", name="quiet")
    items = [i for i in admit([quiet, claim], fifo.subject) if isinstance(i, Property)]
    never = Property("never", parse_property("level == 0", fifo.subject.widths))
    alone = prove(fifo.subject, [never], tmp_path, EFFORT)[0]
    helped = prove(fifo.subject, [items[0], never], tmp_path, EFFORT)[1]
    assert alone and helped and (alone.verdict, helped.verdict) == ("falsified", "proven")


def test_refused_one_by_one(fifo):
    texts = ["level <= 4", "lvel <= 4", "in_valid |-> in_data != 300", "$system(1)"]
    found = admit([Proposal(property=t) for t in texts], fifo.subject)
    assert isinstance(found[0], Property)
    reasons = [f.reason for f in found[1:] if isinstance(f, Judgement)]
    assert "is it level?" in reasons[0] and "inputs alone" in reasons[1] and "$system" in reasons[2]


def test_redundant(fifo, tmp_path):
    texts = [
        "level <= 4",
        "level <= 5",
        "push |-> in_valid",
        "push && pop |-> in_valid || level == 1",
    ]
    assert redundant(_properties(fifo.subject, texts), tmp_path, EFFORT) == [
        False,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("name", ["mac", pytest.param("fifo", marks=pytest.mark.slow)])
def test_checker_means_what_numpy_means(name, request, tmp_path):
    """The checker's Verilog and the evaluation in numpy agree in every cycle's first violation."""
    known = request.getfixturevalue(name)
    widths = {n: w for n, w in known.subject.widths.items() if n not in ("clk", "rst")}
    items = [
        Property(f"p{seed}", parse_property(random_text(widths, seed, 2), known.subject.widths))
        for seed in range(18)
    ]
    simulator = build_simulator(known.subject, tmp_path, checker=write_checker(items))
    (golden,), _ = simulator.run(known.stimulus, known.streams)
    expected = {}
    for k, item in enumerate(items):
        bad = judge(item, known.trace).bad
        if bad.any():
            expected[k] = int(np.flatnonzero(bad)[0])
    assert golden.violated == expected
    assert len(expected) > 3  # the comparison is of violations too


def test_monitors_mean_the_same(fifo, tmp_path):
    texts = ["ordered(push, in_data, pop, out_data, 4)", "conserved(push, pop, 2)",
             "ordered(push, in_data, pop, out_data, 2)", "ordered(push, in_data, pop, in_data, 4)"]  # fmt: skip
    items = _properties(fifo.subject, texts)
    simulator = build_simulator(fifo.subject, tmp_path, checker=write_checker(items))
    (golden,), _ = simulator.run(fifo.stimulus, fifo.streams)
    bad = [np.flatnonzero(judge(item, fifo.trace).bad) for item in items]
    assert golden.violated == {k: int(b[0]) for k, b in enumerate(bad) if len(b)}
    assert set(golden.violated) == {1, 2, 3}


BAD_INPUT = {
    "module m(input clk, output reg q);\n  always @(posedge clk) q <= ;\nendmodule": "m.v:2: syntax error",
    "module m(input a, output b);\n  assign b = ~a;\nendmodule": "m has no clock",
    "module m(input clk, input c2, output reg q, output reg r);\nalways @(posedge clk) q <= ~q;\n"
    "always @(posedge c2) r <= ~r;\nendmodule": "m has 2 clocks, c2, clk",
    "module m(input clk, output q);\n  other o(clk, q);\nendmodule": "other",
    'module m(input clk, output reg q);\ninitial $readmemh("/etc/x", q);\nendmodule': "m.v:2: $readmemh",
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD_INPUT.items())
def test_bad_designs(text, message, tmp_path):
    path = tmp_path / "m.v"
    path.write_text(text)
    with pytest.raises(DesignError) as error:
        elaborate([path], tmp_path / "n")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_unknown_top(tmp_path):
    path = tmp_path / "m.v"
    path.write_text(
        "module fifo(input clk, output reg q); always @(posedge clk) q <= ~q; endmodule"
    )
    with pytest.raises(DesignError, match='"fifi" is not known; did you mean fifo'):
        elaborate([path], tmp_path / "n", top="fifi")
    with pytest.raises(DesignError, match="there is no such file"):
        elaborate([Path("absent.v")], tmp_path / "n")


def test_property_error_is_asked_wrongly():
    assert issubclass(PropertyError, DesignError)


def test_declared_ranges_do_not_matter(tmp_path):
    """Bits count from 0 at the lowest, also in counterexamples of vectors that are declared otherwise."""
    path = tmp_path / "m.v"
    path.write_text(
        "module m(input clk, input rst, input [5:3] a, output reg [4:2] q, output [0:3] r);\n"
        "assign r = {1'b0, q}; always @(posedge clk) if (rst) q <= 0; else q <= a;\nendmodule\n"
    )
    subject = elaborate([path], tmp_path / "n")
    items = _properties(subject, ["q != 5", "##1 q == past(a)", "r[2:0] == q", "q[2] == r[3]"])
    found = prove(subject, items, tmp_path / "p", EFFORT)
    assert [r.verdict for r in found if r] == ["falsified", "proven", "proven", "falsified"]
    assert found[0] and found[0].wave and found[0].wave.values["q"][-1] == 5
