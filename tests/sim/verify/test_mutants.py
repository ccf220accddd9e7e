# SPDX-License-Identifier: Apache-2.0
"""Mutants: what they are, that they do what their diff says, and which cannot be told from the design."""

import re
from pathlib import Path

import pytest

from sim.verify.equivalence import compare, directed
from sim.verify.formal import Effort
from sim.verify.mutants import KINDS, choose_mutants, write_mutants
from sim.verify.simulate import build_simulator, record
from sim.verify.source import rewritten
from sim.verify.stimulus import draw_stimulus, find_streams
from sim.verify.subject import Subject, elaborate

DESIGN = """
module counter(input clk, input rst_n, input en, input [3:0] step, output reg [3:0] count,
  output reg high, output reg wrapped);
  wire [3:0] next = count + step;
  always @(posedge clk or negedge rst_n)
    if (!rst_n) begin
      count <= 4'd3;
      high <= 1'b0;
      wrapped <= 1'b0;
    end else if (en) begin
      count <= next;
      high <= (count == 4'd15) || (count > 4'd14);
      wrapped <= next < count;
    end
endmodule
module pair(input clk, input rst_n, input en, input [3:0] step, output [3:0] a, output [3:0] b,
  output ha, output hb, output wa, output wb);
  counter first(clk, rst_n, en, step, a, ha, wa);
  counter second(clk, rst_n, !en, step, b, hb, wb);
endmodule
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Subject:
    folder = tmp_path_factory.mktemp("pair")
    (folder / "pair.v").write_text(DESIGN)
    return elaborate([folder / "pair.v"], folder / "n", top="pair")


def test_same_for_a_seed(pair):
    first, again = choose_mutants(pair, 40, 3), choose_mutants(pair, 40, 3)
    assert first == again and len(first) == 40
    assert [m.number for m in first] == list(range(1, 41))
    assert choose_mutants(pair, 40, 4) != first


def test_all_kinds(pair):
    mutants = choose_mutants(pair, 1000, 0)
    assert {m.kind for m in mutants} == set(KINDS)
    diffs = "\n".join(m.diff for m in mutants)
    for line in (
        "+ wire [3:0] next = count - step;", "+ wrapped <= next <= count;", "+ wrapped <= count < next;",
        "+ high <= (count != 4'd15) || (count > 4'd14);", "+ wire [3:0] next = (count + step + 1);",
        "+ high <= (count == 4'd15) && (count > 4'd14);", "- count <= 4'd3;", "+ end else if (!(en)) begin",
        "+ high <= (count == 0) || (count > 4'd14);", "+ // count[2] is always 1",
    ):  # fmt: skip
        assert line in diffs, line


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        ("a + b - c", "-", "+", "a + b + c"),
        ("a + (b + c)", "+", "-", "a - (b + c)"),
        ("a & b && c", "&&", "||", "a & b || c"),
        ("x[a+1] < y", "<", ">=", "x[a+1] >= y"),
        ("a <= b", "<", ">", None),
    ],
)
def test_rewritten(text, old, new, expected):
    assert rewritten(text, old, new) == expected


def test_campaign(pair, tmp_path):
    """All mutants in one program; every survivor is proven equivalent, or its difference kills it."""
    mutants = choose_mutants(pair, 1000, 0)
    mutated = write_mutants(pair, mutants, tmp_path)
    simulator = build_simulator(pair, tmp_path / "s", design=mutated, mutants=len(mutants))
    stimulus, streams = draw_stimulus(pair, 300, 0), find_streams(pair)
    kills, _ = simulator.run(stimulus, streams)
    assert len(kills) == len(mutants) + 1 and kills[0].difference is None
    assert simulator.run(stimulus, streams)[0] == kills
    survivors = [k.mutant for k in kills[1:] if k.difference is None]
    assert 0 < len(survivors) < len(mutants) / 4
    found = {
        d.mutant: d for d in compare(pair, mutated, survivors, streams, tmp_path / "e", Effort(20))
    }
    verdicts = {mutants[n - 1].diff.splitlines()[-1]: d.verdict for n, d in found.items()}
    # never, or where it is 15 anyway
    assert verdicts["+ high <= (count == 4'd15) || (count > 15);"] == "equivalent"
    for number, difference in found.items():
        assert difference.verdict in ("equivalent", "different"), mutants[number - 1].diff
        if difference.wave is not None:
            rows = directed(pair, difference.wave)
            again, _ = simulator.run(draw_stimulus(pair, 300, 0, rows), streams)
            assert again[number].difference is not None, mutants[number - 1].diff


@pytest.mark.slow
def test_a_killed_mutant_is_not_equivalent(mac, tmp_path):
    """The proof and the simulation agree: with a killed mutant, a difference is found."""
    mutants = choose_mutants(mac.subject, 12, 5)
    mutated = write_mutants(mac.subject, mutants, tmp_path)
    found = compare(mac.subject, mutated, range(1, 13), mac.streams, tmp_path / "e", Effort(20))
    assert [d.verdict for d in found].count("different") >= 10


@pytest.mark.slow
def test_mutants_do_what_their_diff_says(tmp_path):
    """A design with the mutated line in its source behaves as the design with that mutant selected."""
    (tmp_path / "pair.v").write_text(DESIGN)
    subject = elaborate([tmp_path / "pair.v"], tmp_path / "n", top="pair")
    mutants = [m for m in choose_mutants(subject, 1000, 0) if _changed(m.diff)]
    assert len(mutants) > 15
    mutated = write_mutants(subject, mutants, tmp_path)
    stimulus, streams = draw_stimulus(subject, 200, 0), find_streams(subject)
    together, _ = build_simulator(
        subject, tmp_path / "s", design=mutated, mutants=len(mutants)
    ).run(stimulus, streams)
    for mutant in mutants[::3]:
        alone = _rewritten_subject(subject, mutant.diff, tmp_path / f"m{mutant.number}")
        expected = together[mutant.number].difference
        assert _first_difference(subject, alone, stimulus, streams) == expected, mutant.diff


def _changed(diff: str) -> bool:
    return "\n- " in diff and not diff.endswith("+ ")


def _rewritten_subject(subject: Subject, diff: str, folder: Path) -> Subject:
    _, before, after = diff.splitlines()
    number = int(re.match(r"@@ .*:(\d+) @@", diff)[1])  # type: ignore[index]
    lines = [str(line) for line in DESIGN.splitlines()]
    assert lines[number - 1].strip() == before[2:]
    lines[number - 1] = after[2:]
    folder.mkdir()
    (folder / "pair.v").write_text("\n".join(lines))
    return elaborate([folder / "pair.v"], folder / "n", top="pair")


def _first_difference(one: Subject, other: Subject, stimulus, streams) -> int | None:
    traces = []
    for subject in (one, other):
        names = [p.name for p in subject.outputs]
        simulator = build_simulator(subject, subject.folder / "out", watch=names)
        traces.append(record(simulator, stimulus, streams))
    differ = [
        t for t in range(stimulus.cycles)
        if any(traces[0].values[p.name][t] != traces[1].values[p.name][t] for p in one.outputs)
    ]  # fmt: skip
    return differ[0] if differ else None
