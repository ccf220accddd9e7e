"""The offline proposer: what it finds, and how many mutants its properties kill alone."""

import pytest

from sim.verify.checker import write_checker
from sim.verify.formal import Effort, redundant
from sim.verify.judge import Proposal, admit, rule
from sim.verify.mine import MineLimits, mine
from sim.verify.mutants import choose_mutants, write_mutants
from sim.verify.properties import Property
from sim.verify.simulate import build_simulator

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
