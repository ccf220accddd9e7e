# SPDX-License-Identifier: Apache-2.0
"""Optimal plans: three methods agree, every plan passes the check, and every broken plan does not."""

import random
from dataclasses import replace
from typing import Any

import pytest

from schedules.errors import ScheduleError
from schedules.optimal.check import check_plan
from schedules.optimal.downsets import in_phases, one_by_one
from schedules.optimal.instance import Edge, Instance, Load, Mode, Port, Store, Task, Unit
from schedules.optimal.plan import LoadTime, Place, Plan, Run
from schedules.optimal.solve import Effort, solve
from tests.schedules.optimal.brute import shortest

EFFORT = Effort(seconds=5)


def random_instance(
    seed: int,
    *,
    tasks: int,
    units: int = 2,
    most: int = 3,
    memory: bool = True,
    spill: bool = False,
) -> Instance:
    """A graph of ``tasks`` tasks in which everything may occur."""
    draw = random.Random(seed)
    names = [f"u{k}" for k in range(units)]
    port = (Port("p", draw.choice((1, 2)), draw.randrange(2)),)
    made = []
    for number in range(tasks):
        modes = []
        choices: list[tuple[str, ...]] = [(u,) for u in draw.sample(names, draw.randint(1, units))]
        if units > 1 and draw.random() < 0.4:
            choices.append(tuple(names))
        for own in choices:
            cycles = draw.randint(1, most)
            loads, stores = (), ()
            if memory and draw.random() < 0.3:
                size = draw.randint(1, 3)
                room = draw.choice((size, size, 1))
                loads = (Load("p", size, draw.randint(0, size), draw.randrange(2), room),)
            if memory and draw.random() < 0.15:
                size = draw.randint(1, 2)
                stores = (Store("p", size, draw.choice((0, size))),)
            modes.append(
                Mode(
                    "+".join(own), own, cycles, draw.randint(0, cycles), draw.randint(0, cycles), loads, stores,
                    draw.choice(("rows", "rows", "cols", "")), draw.choice(("rows", "rows", "cols")),
                )
            )  # fmt: skip
        made.append(Task(f"t{number}", tuple(modes)))
    edges = []
    sizes = [draw.randint(1, 4) for _ in range(tasks)]
    for sink in range(1, tasks):
        for source in draw.sample(range(sink), draw.randint(0, min(2, sink))):
            places = ["onchip"]
            if draw.random() < 0.6:
                places.append("stream")
            if spill and draw.random() < 0.5:
                places.append("offchip")
            size = sizes[source]
            edges.append(
                Edge(
                    f"x{source}", f"t{source}", f"t{sink}", size, draw.randint(1, size), draw.randint(1, 2),
                    tuple(places), "p" if spill else "",
                )
            )  # fmt: skip
    rooms = tuple(
        Unit(n, draw.choice((4, 6) if spill else (6, 12)), draw.choice((1, 2))) for n in names
    )
    return Instance(f"random {seed}", rooms, port, tuple(made), tuple(edges), draw.randrange(2))


def solved(instance: Instance, **options: Any) -> Plan | None:
    try:
        plan = solve(instance, EFFORT, **options)
    except ScheduleError as error:
        assert "no schedule" in str(error)
        return None
    check_plan(instance, plan)
    return plan


@pytest.mark.parametrize("seed", range(30))
def test_brute_force_agrees(seed: int) -> None:
    """On small graphs with everything in them: streams, spills, loads, stores, scratchpads."""
    instance = random_instance(seed, tasks=3, spill=seed % 3 == 0)
    plan = solved(instance)
    if plan is None:
        assert shortest(instance, 9) is None
        return
    assert plan.proven and plan.bound == plan.makespan
    if plan.makespan <= 10:  # everything is tried: longer ones take too long
        assert shortest(instance, plan.makespan) == plan.makespan


@pytest.mark.parametrize("seed", range(8))
def test_brute_force_agrees_on_six_tasks(seed: int) -> None:
    """Without memory, whose begins multiply what brute force has to try."""
    instance = random_instance(100 + seed, tasks=6, most=2, memory=False)
    plan = solved(instance)
    if plan is not None:
        assert plan.proven
        assert shortest(instance, plan.makespan) == plan.makespan


@pytest.mark.parametrize("seed", range(40))
def test_phases_are_a_restriction(seed: int) -> None:
    """Dynamic programming over down-sets answers a stricter question: never a shorter plan, and a legal one."""
    instance = random_instance(200 + seed, tasks=5)
    plan = solved(instance)
    try:
        phases = in_phases(instance)
    except ScheduleError:
        return
    check_plan(instance, phases)
    assert plan is not None
    assert plan.makespan <= phases.makespan


@pytest.mark.parametrize("seed", range(20))
def test_phases_are_no_restriction_on_one_unit(seed: int) -> None:
    """One unit, nothing from memory: the two methods must agree."""
    instance = random_instance(300 + seed, tasks=5, units=1, memory=False)
    plan = solved(instance)
    if plan is None:
        with pytest.raises(ScheduleError):
            in_phases(instance)
    else:
        assert plan.makespan == in_phases(instance).makespan


PIPELINE = Instance(
    "pipeline",
    (Unit("c0", 1000, 100), Unit("c1", 1000, 100)),
    (Port("p", 10, 5),),
    (
        Task("a", (Mode("a0", ("c0",), 100, 10, loads=(Load("p", 400, 100, 5, 400),), makes="rows"),)),
        Task("b", (Mode("b1", ("c1",), 100, 10, 8, takes="rows", makes="rows"), Mode("b0", ("c0",), 100, 100))),
        Task("c", (Mode("c", ("c0", "c1"), 25, 5, stores=(Store("p", 50),)),)),
    ),
    (
        Edge("A", "a", "b", 600, 20, 2, ("stream", "onchip", "offchip"), "p"),
        Edge("B", "b", "c", 600, 20, 2, ("onchip", "offchip"), "p"),
    ),
    2,
)  # fmt: skip


def test_a_pipeline_by_hand() -> None:
    """15 cycles for the first weights, 10 to the first piece, ... each number from the definition."""
    plan = solve(PIPELINE, EFFORT)
    assert plan.place("A", "b").place == "stream" and plan.place("B", "c").place == "onchip"
    begin = 5 + 10  # latency, 100 bytes ahead
    b_start = begin + 10
    a_end = max(begin + 100, b_start + 100 - 100 * 40 // 600)
    b_end = max(b_start + 100, a_end + 8)
    c_end = b_end + 2 + 25
    assert (plan.run("a").end, plan.run("b").end, plan.run("c").end) == (a_end, b_end, c_end)
    assert plan.makespan == c_end
    assert plan.links == 2  # c0 to c1 for A, and B from its home to the other core


def test_no_room_spills_and_less_bandwidth_is_never_faster() -> None:
    spans = []
    for speed in (10, 5, 2):
        tight = replace(
            PIPELINE, units=(Unit("c0", 400, 100), Unit("c1", 0)), ports=(Port("p", speed, 5),)
        )
        plan = solve(tight, EFFORT)
        check_plan(tight, plan)
        assert plan.place("B", "c").place == "offchip"
        assert plan.offchip_bytes >= 400 + 50 + 2 * 600
        spans.append(plan.makespan)
    assert spans == sorted(spans) and spans[0] > solve(PIPELINE, EFFORT).makespan


def test_deterministic() -> None:
    instance = random_instance(7, tasks=6, spill=True)
    assert solve(instance, EFFORT) == solve(instance, EFFORT)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda p: {"runs": (replace(p.runs[0], end=p.runs[0].start + 50), *p.runs[1:])}, "Duration: a runs"),
        (lambda p: {"runs": (p.runs[0], replace(p.runs[1], start=p.runs[0].start + 9), p.runs[2])}, "first piece"),
        (lambda p: {"runs": (*p.runs[:2], replace(p.runs[2], start=p.runs[1].end + 1))}, "takes 2 cycles to change"),
        (lambda p: {"loads": (LoadTime("a", 0, 1),)}, "its first bytes come at 16"),
        (lambda p: {"loads": ()}, "does not say when load 0 of a begins"),
        (lambda p: {"makespan": p.runs[2].end - 1}, "plan ends at"),
        (lambda p: {"links": 0}, "its edges need"),
        (lambda p: {"offchip_bytes": 7}, "the plan counts 7"),
        (lambda p: {"places": (replace(p.places[0], place="onchip", home="c0"), p.places[1])}, "Precedence: b starts"),
        (lambda p: {"places": (p.places[0], replace(p.places[1], place="stream"))}, "be onchip, offchip, not stream"),
        (lambda p: {"stores": (LoadTime("c", 0, 0),)}, "Store: 50 bytes of c"),
    ],
)  # fmt: skip
def test_the_check_names_the_rule(edit: Any, message: str) -> None:
    plan = solve(PIPELINE, EFFORT)
    with pytest.raises(ScheduleError, match=message):
        check_plan(PIPELINE, replace(plan, **edit(plan)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": (Edge("X", "a", "b", 1), Edge("Y", "b", "a", 1))}, "wait for each other: a -> b -> a"),
        ({"edges": (Edge("X", "a", "bb", 1),)}, "no task bb; did you mean b"),
        ({"edges": (Edge("X", "a", "b", 5000),)}, "X of a has 5,000 bytes, .* has 1,000"),
        ({"units": (Unit("c0", 300), Unit("c1"))}, "its loads and stores take 400 bytes, c0 has 300"),
        ({"units": (Unit("c0", 1000),)}, "no unit c1"),
    ],
)  # fmt: skip
def test_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        replace(PIPELINE, **change)


def test_no_schedule_fits() -> None:
    edges = (Edge("A", "a", "b", 600), Edge("B", "b", "c", 600))
    tight = replace(PIPELINE, edges=edges, units=(Unit("c0", 600), Unit("c1", 500)))
    with pytest.raises(ScheduleError, match="1,200 bytes together, all scratchpads 1,100"):
        solve(tight, EFFORT)


def test_a_stream_waits_for_the_end_of_its_chain() -> None:
    """c runs on the unit of a: what b makes of a's stream cannot leave before a ends, so a would never end."""
    row = ("stream", "onchip")
    instance = Instance(
        "chain", (Unit("u", 4000), Unit("s")), (),
        (
            Task("a", (Mode("a", ("u",), 1000, 10, makes="rows"),)),
            Task("b", (Mode("b", ("s",), 100, 5, 5, takes="rows", makes="rows"),)),
            Task("c", (Mode("c", ("u",), 1000, 10, 10, takes="rows"),)),
        ),
        (Edge("A", "a", "b", 1000, 10, 2, row), Edge("B", "b", "c", 1000, 10, 2, row)),
        4,
    )  # fmt: skip
    plan = solve(instance, Effort(5))
    check_plan(instance, plan)
    places = [plan.place("A", "b").place, plan.place("B", "c").place]
    assert plan.proven and places.count("stream") == 1 and plan.makespan > 2004
    both = replace(
        plan,
        places=(Place("A", "b", "stream"), Place("B", "c", "stream")),
        runs=(Run("a", "a", 0, 1000), Run("b", "b", 900, 1994), Run("c", "c", 1004, 2014)),
        makespan=2014, links=9,
    )  # fmt: skip
    with pytest.raises(
        ScheduleError,
        match=r"Deadlock: the end of a waits for the begin of c \(the stream of B holds 2 of 100 pieces\); "
        r"the begin of c waits for the end of a \(u plays it before\)",
    ):
        check_plan(instance, both)
    third = Task("c", (Mode("c", ("v",), 1000, 10, 10, takes="rows"),))
    apart = replace(
        instance, units=(*instance.units, Unit("v")), tasks=(*instance.tasks[:2], third)
    )
    with pytest.raises(
        ScheduleError,
        match="what b makes of A is not taken before 1,004, so it is held up until 1,954",
    ):
        check_plan(apart, both)


def test_a_deadlock_is_told_as_who_waits_for_whom() -> None:
    """b has been put before a on the unit of a, which makes what b reads."""
    plan = solve(PIPELINE, EFFORT)
    runs = (Run("a", "a0", 200, 300), Run("b", "b0", 0, 100), Run("c", "c", 400, 425))
    places = (replace(plan.places[0], place="onchip", home="c0"), plan.places[1])
    with pytest.raises(ScheduleError) as caught:
        check_plan(PIPELINE, replace(plan, runs=runs, places=places))
    assert str(caught.value) == (
        "Deadlock: the end of a waits for the begin of a; the begin of a waits for the end of b (c0 plays it before); "
        "the end of b waits for the begin of b; the begin of b waits for the end of a (A must be whole)"
    )


@pytest.mark.parametrize("seed", range(25))
def test_one_task_after_the_other(seed: int) -> None:
    """A plan to begin with is legal, and never shorter than the best of its kind."""
    instance = random_instance(seed, tasks=5)
    try:
        plan = one_by_one(instance)
    except ScheduleError:
        return
    check_plan(instance, plan)
    assert plan.makespan >= in_phases(instance, together=1).makespan


def test_many_chains_side_by_side() -> None:
    """Eight chains of six tasks have 7**8 down-sets; a plan is found all the same."""
    tasks, edges = [], []
    for chain in range(8):
        for number in range(6):
            name = f"t{chain}{number}"
            tasks.append(Task(name, (Mode("m", ("u",), 10),)))
            if number:
                edges.append(Edge(f"e{name}", f"t{chain}{number - 1}", name, 10))
    instance = Instance("chains", (Unit("u", 100),), (), tuple(tasks), tuple(edges), 1)
    with pytest.raises(ScheduleError, match="too many down-sets"):
        in_phases(instance, together=1, most=1000)
    plan = solve(instance, Effort(1))
    check_plan(instance, plan)
    assert plan.makespan == 48 * 11 - 1
    hasty = solve(instance, Effort(1e-6))
    check_plan(instance, hasty)
    assert not hasty.proven and hasty.bound <= plan.makespan <= hasty.makespan
