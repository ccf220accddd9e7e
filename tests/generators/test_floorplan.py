# SPDX-License-Identifier: Apache-2.0
"""Dies: what does not fit on one is cut, what talks much is together, the shell's share is respected."""

from itertools import product

import pytest

from designs import target
from designs.target import Die, TargetCard
from generators.blocks import Blocks, Link, Part
from generators.floorplan import block_links, floorplan
from generators.report_facts import BlockFacts
from generators.synth import Resources

U280 = target.load("u280")


def block(name: str, **used: float) -> BlockFacts:
    return BlockFacts(name=name, basis="estimate", modules=(name.replace(" ", "_"),),
                      used=Resources(**used))  # fmt: skip


def wired(*links: tuple[str, str, int]) -> Blocks:
    names = sorted({n for one, two, _ in links for n in (one, two)})
    return Blocks(
        parts=tuple(Part(name=n, module=None if n.startswith("m_axi") else n) for n in names),
        links=tuple(Link(source=a, sink=b, bits=n) for a, b, n in links),
    )


def test_one_die_needs_none() -> None:
    assert floorplan(target.load("kv260"), [block("engine", dsp=1)], wired(), 4) is None


def test_an_engine_of_all_slices_is_on_all_dies() -> None:
    facts = [block("engine", dsp=8192), block("control", lut=1000)]
    found = floorplan(U280, facts, wired(("control", "engine", 100)), 64)
    assert found is not None
    shares = [die.blocks.get("engine", 0) for die in found.dies]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert all(die.used["dsp"] <= die.available["dsp"] for die in found.dies)
    assert [die.available["dsp"] for die in found.dies] == [2733, 2877, 2880]
    assert sum(die.used["dsp"] for die in found.dies) == pytest.approx(8192, abs=2)


def test_ports_of_hbm_are_beside_it_and_pull_what_they_feed() -> None:
    facts = [block("memory ports", lut=1000), block("operands", lut=1000), block("drain", lut=1000)]
    links = wired(("m_axi_g00", "operands", 1000), ("operands", "drain", 8))
    found = floorplan(U280, facts, links, 1)
    assert found is not None and found.crossing_bits == 0
    assert set(found.dies[0].blocks) == {"memory ports", "operands", "drain"}


def test_of_two_links_the_narrow_one_crosses() -> None:
    """Three blocks of which two fit on a die."""
    facts = [
        block("drain", lut=150_000),
        block("softmax", lut=150_000),
        block("headers", lut=150_000),
    ]
    links = wired(("drain", "softmax", 500), ("softmax", "headers", 20))
    found = floorplan(U280, facts, links, 1)
    assert found is not None and found.crossing_bits == 20
    (pair,) = [set(die.blocks) for die in found.dies if len(die.blocks) == 2]
    assert pair == {"drain", "softmax"}


def test_what_fits_nowhere_is_as_little_too_much_as_can_be() -> None:
    found = floorplan(U280, [block("engine", dsp=9000)], wired(), 9000)
    assert found is not None
    over = [die.used["dsp"] / die.available["dsp"] for die in found.dies]
    assert max(over) == pytest.approx(9000 / 8490, abs=2e-3)


def test_best_of_all() -> None:
    """No other placement of four whole blocks crosses with fewer bits; all of them are tried."""
    names = ("drain", "softmax", "headers", "embed")
    used = {"drain": 200_000, "softmax": 180_000, "headers": 150_000, "embed": 120_000}
    links = {("drain", "softmax"): 70, ("softmax", "headers"): 60, ("embed", "drain"): 90,
             ("embed", "headers"): 40}  # fmt: skip
    left = [die.lut for die in U280.each_die]
    best = min(
        sum(bits * abs(at[names.index(a)] - at[names.index(b)]) for (a, b), bits in links.items())
        for at in product(range(3), repeat=4)
        if all(
            sum(used[n] for n, d in zip(names, at, strict=True) if d == die) <= left[die]
            for die in range(3)
        )
    )
    facts = [block(name, lut=used[name]) for name in names]
    found = floorplan(U280, facts, wired(*((a, b, n) for (a, b), n in links.items())), 1)
    assert found is not None and found.crossing_bits == best > 0


def test_links_of_blocks_are_those_of_their_parts() -> None:
    facts = [block("engine"), block("drain"), block("memory ports")]
    parts = wired(("engine", "drain", 7), ("drain", "engine", 5), ("m_axi_g01", "engine", 3))
    assert block_links(facts, parts) == {("drain", "engine"): 12, ("engine", "memory ports"): 3}


@pytest.mark.parametrize(
    ("dies", "message"),
    [(U280.each_die[:2], "each_die must have 3 dies, not 2"),
     ((*U280.each_die[:2], Die(dsp=1, lut=367000, bram=512, uram=320)), "add up to 8490 of dsp")],
)  # fmt: skip
def test_a_card_whose_dies_do_not_add_up(dies: tuple[Die, ...], message: str) -> None:
    card = U280.model_dump() | {"each_die": [die.model_dump() for die in dies]}
    with pytest.raises(ValueError, match=message):
        TargetCard.model_validate(card)
