# SPDX-License-Identifier: Apache-2.0
"""The offline proposer: what it finds, and how many mutants its properties kill alone."""

from dataclasses import replace

import pytest

from designs.progress import SilentProgress
from sim.verify.campaign import Campaign, Settings
from sim.verify.checker import write_checker
from sim.verify.formal import Effort, redundant
from sim.verify.judge import Judgement, Proposal, Status, admit, rule
from sim.verify.mine import MineLimits, mine
from sim.verify.mutants import choose_mutants, write_mutants
from sim.verify.properties import Property, parse_property
from sim.verify.simulate import build_simulator, record
from sim.verify.stimulus import draw_stimulus, find_decoded
from sim.verify.subject import elaborate

EXPECTED = {
    "fifo": [
        "ordered(in_valid && in_ready, in_data, out_valid && out_ready, out_data, 4)",
        "out_valid && !out_ready |=> out_valid && stable(out_data)",
        "level <= 4",
        "after_reset |-> level == 0",
        "!push && !pop |=> stable(level)",
        "push |=> wp == (past(wp) + 1)[1:0]",
        "!pop |=> stable(rp)",
    ],
    "mac": [
        "count <= 9",
        "!en |=> stable(acc)",
        "signed(product) == signed(a) * signed(b)",
        "en && first |=> signed(acc) == past(signed(product))",
        "en && (first || count == 9) |=> count == 0",
        "en && !(first || count == 9) |=> count == (past(count) + 1)[3:0]",
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_finds(name, request):
    known = request.getfixturevalue(name)
    found = mine(known.subject, known.trace, known.streams)
    assert found == mine(known.subject, known.trace, known.streams)
    subject = known.subject
    items = [i for i in admit(found, subject) if isinstance(i, Property)]
    assert len(items) == len(found)  # what is mined is in the language
    texts = {frozenset(_parts(i.text)) for i in items}
    wanted = admit([Proposal(property=t) for t in EXPECTED[name]], subject)
    for item in wanted:
        assert isinstance(item, Property), item
        assert frozenset(_parts(item.text)) in texts, (item.text, sorted(i.text for i in items))


def _parts(text: str) -> list[str]:
    """A property's condition by its literals, whose order says nothing, and its claim."""
    condition, arrow, claim = text.rpartition(" |-> ")
    return [
        *(p.strip("() ") for p in condition.replace("(", "").split(" && ")),
        arrow + claim.replace("(", ""),
    ]


def test_limits(fifo):
    assert len(mine(fifo.subject, fifo.trace, fifo.streams, MineLimits(total=9))) == 9


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("fifo", 0.9), ("mac", 0.9)])
def test_kills(name, share, request, tmp_path):
    """Of the mutants that change an output, the mined and proven properties alone kill most."""
    known = request.getfixturevalue(name)
    subject = known.subject
    mined = admit(mine(subject, known.trace, known.streams), subject)
    items = [i for i in mined if isinstance(i, Property)]
    effort = Effort(seconds=10, depth=12)
    needless = redundant(items, tmp_path / "r", effort)
    items = [i for i, no in zip(items, needless, strict=True) if not no]
    ruled = rule(subject, items, known.trace, tmp_path / "p", effort)
    good = [j.item for j in ruled if j.earns and j.item]
    mutants = choose_mutants(subject, 200, 0)
    mutated = write_mutants(subject, mutants, tmp_path / "m")
    simulator = build_simulator(
        subject, tmp_path / "s", design=mutated, mutants=len(mutants), checker=write_checker(good)
    )
    (golden, *kills), _ = simulator.run(known.stimulus, known.streams)
    assert not golden.violated
    visible = [k for k in kills if k.difference is not None]
    assert len([k for k in visible if k.violated]) >= share * len(visible)


DECODER = """
module decoder(input clk, input rst, input [31:0] word, input [7:0] data, output reg [7:0] kept,
  output reg hit);
  wire mine = word[6:0] == 7'h33 && word[31:25] == 7'h01;
  always @(posedge clk)
    if (rst) begin kept <= 0; hit <= 0; end
    else begin
      hit <= mine;
      if (mine && word[13:12] != 2'd2) kept <= data;
    end
endmodule
"""


def test_inputs_meet_what_is_decoded(tmp_path):
    """Without knowing what the design compares a word with, it would be met once in 16,384 cycles."""
    (tmp_path / "decoder.v").write_text(DECODER)
    subject = elaborate([tmp_path / "decoder.v"], tmp_path / "n")
    decoded = find_decoded(subject)
    assert decoded["word"][tuple(range(7))] == [0x33]
    assert decoded["word"][tuple(range(25, 32))] == [0x01]
    assert decoded["word"][12, 13] == [2]
    assert set(decoded) == {"word"}
    stimulus = draw_stimulus(subject, 1000, 0)
    words = stimulus.words[:, stimulus.names.index("word")]
    met = (words & 0xFE00007F) == 0x02000033
    assert met.mean() > 0.1 and ((words[met] >> 12 & 3) == 2).any()


def test_no_more_of_what_was_mostly_wrong(fifo, tmp_path):
    """Of a signal of which most was falsified, nothing is believed any more; of others it is."""
    campaign = Campaign(fifo.subject, Settings(), tmp_path, SilentProgress(), [], [], None, False)
    texts: dict[str, Status] = {"level <= 3": "falsified", "push |=> level == 1": "falsified", "level <= 4": "proven",
             "out_valid |-> level != 0": "proven", "wp <= 3": "proven"}  # fmt: skip
    for text, status in texts.items():
        item = Property("p", parse_property(text, fifo.subject.widths), source="offline")
        campaign.judgements[text] = Judgement("p", text, "offline", "assert", status, item=item)
    mined = [
        Proposal(property=text, source="offline")
        for text in ("level >= 1", "push |=> wp == past(wp) + 1", "pop |-> out_valid")
    ]
    kept = [p.property for p in campaign._believable(mined)]
    assert kept == ["push |=> wp == past(wp) + 1", "pop |-> out_valid"]


def test_what_follows_from_a_falsehood_is_looked_at(fifo, tmp_path):
    """In a trace in which nothing enters, the level is 0; that it is at most 4 follows, and is not lost."""
    idle = replace(fifo.stimulus, words=fifo.stimulus.words[:60].copy())
    idle.words[:, idle.names.index("in_valid")] = 0
    simulator = build_simulator(fifo.subject, tmp_path / "s", watch=list(fifo.subject.signals))
    trace = record(simulator, idle, fifo.streams)
    campaign = Campaign(fifo.subject, Settings(), tmp_path, SilentProgress(), [], [], None, False)
    fresh = [
        Property(text, parse_property(text, fifo.subject.widths), source="offline")
        for text in ("level <= 0", "level <= 4")
    ]
    campaign._judge(fresh, [], trace)
    found = {j.name: j.status for j in campaign.judgements.values()}
    assert found == {"level <= 0": "falsified", "level <= 4": "proven"}
    assert not campaign.needless
