# SPDX-License-Identifier: Apache-2.0
"""The judge against verdicts that are known because every state and every input was tried.

The assertions are of the shape that miners like HARM and GoldMine write: conjunctions at fixed delays that
imply a literal some cycles later.
"""

import itertools
import random
from collections import Counter

from sim.verify.formal import Effort
from sim.verify.judge import rule
from sim.verify.properties import Property, parse_property
from sim.verify.simulate import build_simulator, record
from sim.verify.stimulus import draw_stimulus, find_streams
from sim.verify.subject import elaborate

DESIGN = """
module machine(input clk, input rst, input a, input b, output reg [2:0] s, output busy, output done,
  output bad);
  assign busy = s != 0;
  assign done = s == 5;
  assign bad = s[2] & s[1];
  always @(posedge clk)
    if (rst) s <= 0;
    else case (s)
      0: s <= a ? 1 : 0;
      1: s <= b ? 2 : a ? 3 : 1;
      2: s <= a & b ? 4 : 2;
      4: s <= 5;
      5: s <= b ? 0 : 5;
      default: s <= 0;
    endcase
endmodule
"""
LITERALS = ["a", "b", "busy", "done", "bad", *(f"s == {k}" for k in range(8))]
Step = tuple[int, list[tuple[str, bool]]]


def after(s: int, a: int, b: int) -> int:
    """The state after ``s``; written anew, not read from the Verilog."""
    return {
        0: 1 if a else 0, 1: 2 if b else 3 if a else 1, 2: 4 if a and b else 2, 4: 5, 5: 0 if b else 5,
    }.get(s, 0)  # fmt: skip


def holds(literal: str, s: int, a: int, b: int) -> bool:
    if literal.startswith("s =="):
        return s == int(literal[-1])
    return bool({"a": a, "b": b, "busy": s != 0, "done": s == 5, "bad": s >= 6}[literal])


def verdict(steps: list[Step], delay: int, then: tuple[str, bool]) -> str:
    """By playing all inputs from all states that can be reached."""
    length = sum(wait for wait, _ in steps) + delay + 1
    reached, waiting = {0}, [0]
    while waiting:
        s = waiting.pop()
        for a, b in itertools.product((0, 1), repeat=2):
            if (new := after(s, a, b)) not in reached:
                reached.add(new)
                waiting.append(new)
    met = False
    for start in reached:
        for inputs in itertools.product(itertools.product((0, 1), repeat=2), repeat=length):
            s, cycles = start, []
            for a, b in inputs:
                cycles.append((s, a, b))
                s = after(s, a, b)
            at, all_hold = 0, True
            for wait, literals in steps:
                at += wait
                all_hold &= all(holds(x, *cycles[at]) == positive for x, positive in literals)
            met |= all_hold
            if all_hold and holds(then[0], *cycles[at + delay]) != then[1]:
                return "falsified"
    return "proven" if met else "vacuous"


def test_no_contradiction(tmp_path):
    source = random.Random(5)

    def literal() -> tuple[str, bool]:
        return source.choice(LITERALS), source.random() < 0.7

    def text(one: tuple[str, bool]) -> str:
        return one[0] if one[1] else f"!({one[0]})"

    expected: dict[str, str] = {}
    while len(expected) < 60:
        count = source.choice([1, 1, 2, 3])
        steps: list[Step] = [
            (
                source.choice([1, 1, 2]) if k else 0,
                [literal() for _ in range(source.choice([1, 2]))],
            )
            for k in range(count)
        ]
        delay, then = source.choice([0, 1, 1, 2]), literal()
        if sum(wait for wait, _ in steps) + delay > 4:
            continue
        words = ""
        for k, (wait, literals) in enumerate(steps):
            words += (f" ##{wait} " if k else "") + " && ".join(map(text, literals))
        known = verdict(steps, delay, then)
        if known != "falsified" or Counter(expected.values())["falsified"] < 25:
            expected[f"{words} |-> ##{delay} {text(then)}"] = known
    (tmp_path / "machine.v").write_text(DESIGN)
    subject = elaborate([tmp_path / "machine.v"], tmp_path / "n")
    simulator = build_simulator(subject, tmp_path / "s", watch=list(subject.signals))
    # A short trace, so that most is left to the proofs.
    trace = record(simulator, draw_stimulus(subject, 12, 0), find_streams(subject))
    items = [
        Property(f"p{k}", parse_property(words, subject.widths)) for k, words in enumerate(expected)
    ]
    found = rule(subject, items, trace, tmp_path / "p", Effort(seconds=60, depth=20))
    agreed: Counter[str] = Counter()
    for (words, known), judgement in zip(expected.items(), found, strict=True):
        if judgement.status == "duplicate":
            continue
        # What holds with every signal free holds here too, met or not.
        free = judgement.status == "tautology" and known != "falsified"
        assert free or judgement.status == known, (words, known, judgement.status, judgement.engine)
        agreed[judgement.status] += 1
    assert min(agreed[status] for status in ("proven", "falsified", "vacuous")) >= 5, agreed
