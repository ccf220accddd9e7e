# SPDX-License-Identifier: Apache-2.0
"""A PIM channel as RTL: its results, its cycles, its rules."""

import random
from pathlib import Path

import numpy as np
import pytest

from hw.pim.commands import Cmd, Fault
from hw.pim.config import PimConfig
from hw.pim.timing import PRESETS
from sim.pim import rtl
from sim.pim.controller import Request, replay
from sim.pim.protocol import Command
from sim.pim.trace import judge, parse, write
from tests.pim.jobs import attention, build, compare, queues, small

CONFIGS = {
    "single": small(share=20),
    "turns": small(act_group=1, buffers=2, entries=2, prea=True, refresh="together",
                   array="block_ram", fmt="bf16"),
}  # fmt: skip
MORE = {
    "blocked": small(dual=False, timing=PRESETS["hbm2"]),
    "block": small(fmt="bf16-block", subarrays=8, timing=PRESETS["lpddr5-pim"]),
    "aim": small(ranks=1, act_group=4, lanes=32, timing=PRESETS["gddr6-aim"]),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    return build(CONFIGS, tmp_path_factory.mktemp("pim"))


@pytest.fixture(scope="module")
def more(tmp_path_factory) -> Path:
    return build(MORE, tmp_path_factory.mktemp("more"))


def check_trace(c: PimConfig, outcome: rtl.Outcome) -> None:
    """The commands keep every rule, also after a way through text."""
    config, lines = parse(write(c, outcome.commands))
    assert config == c and [(x.cycle, x.command) for x in lines] == [
        (cycle, command._replace(est=0)) for cycle, command in outcome.commands
    ]
    assert [str(v) for v in judge(config, lines)] == []


def check_cycles(c: PimConfig, pim, mem, outcome: rtl.Outcome) -> None:
    """The Python controller gives the same commands in the same cycles."""
    expected = replay(c, [(at, command) for at, command, _ in pim], mem)
    key = [(at, x.cmd, x.bank, x.row, x.buf) for at, x in expected]
    got = [(at, x.cmd, x.bank, x.row, x.buf) for at, x in outcome.commands]
    rowless = {Cmd.PRE, Cmd.PREA, Cmd.REF, Cmd.PIMPRE, Cmd.PIMPREA, Cmd.WRGB}
    plain = lambda keys: [k if k[1] not in rowless else k[:3] for k in keys]  # noqa: E731
    assert plain(got)[: len(key)] == plain(key)
    assert all(x.cmd in rowless for _, x in outcome.commands[len(key) :])  # refreshes go on


def check_attention(program: Path, configs, lengths: list[int], folder: Path, **shape) -> None:
    for length in lengths:
        jobs = {
            name: attention(c, length, seed=length, by_row=name != "turns",
                            pack=name == "turns" and length < 40, **shape)
            for name, c in configs.items()
        }  # fmt: skip
        pim, mem = {}, {}
        for name, c in configs.items():
            pim[name], mem[name] = queues(c, jobs[name])
        outcomes = rtl.run(program, configs, pim, mem, folder)
        for name, c in configs.items():
            assert outcomes[name].failed == [] and outcomes[name].faults == []
            compare(c, jobs[name], outcomes[name])
            check_cycles(c, pim[name], mem[name], outcomes[name])
            check_trace(c, outcomes[name])


def traffic(c: PimConfig, seed: int, count: int) -> list[tuple[int, Request]]:
    """Reads and writes that stay with a few rows for a while."""
    rng, at, found, hot = random.Random(seed), 1, [], [(0, 0)]
    for i in range(count):
        if rng.random() < 0.1:
            at += rng.randrange(200)
        if i % 20 == 0:
            hot = [(rng.randrange(c.banks), rng.randrange(c.rows)) for _ in range(3)]
        bank, row = rng.choice(hot)
        found.append(
            (
                at,
                Request(rng.randrange(2), bank, row, rng.randrange(c.bursts), rng.getrandbits(512)),
            )
        )
    return found


def check_mixed(program: Path, configs, seed: int, folder: Path) -> None:
    """Reads return what was written, whatever the multipliers do."""
    rng, pim, mem = random.Random(seed), {}, {}
    for name, c in configs.items():
        job, at, pim[name] = attention(c, [5, 14, 9][seed % 3], seed=seed), 50, []
        for command, data in job.commands * 2:
            if rng.random() < 0.02 * (seed % 3):
                at += rng.randrange(300)
            pim[name].append((at, command, data))
        mem[name] = traffic(c, seed, 500)
    outcomes = rtl.run(program, configs, pim, mem, folder)
    for name, c in configs.items():
        assert outcomes[name].failed == [] and outcomes[name].faults == []
        check_cycles(c, pim[name], mem[name], outcomes[name])
        check_trace(c, outcomes[name])
        held: dict[tuple[int, int, int], int] = {}
        expected = []
        for _, request in mem[name]:
            place = (request.bank, request.row, request.col)
            if request.write:
                held[place] = request.data
            else:
                expected.append(held.get(place))
        got = [word for _, word in outcomes[name].reads]
        assert len(got) == len(expected)
        assert all(e is None or e == g for e, g in zip(expected, got, strict=True))


class TestSmall:
    def test_attention(self, program: Path, tmp_path: Path) -> None:
        check_attention(program, CONFIGS, [1, 31, 33], tmp_path)

    def test_beside_reads_and_writes(self, program: Path, tmp_path: Path) -> None:
        check_mixed(program, CONFIGS, 1, tmp_path)

    def test_refuses_what_makes_no_sense(self, program: Path, tmp_path: Path) -> None:
        header = Command(Cmd.HEADER, est=400)
        steps = Command(Cmd.COMPS_READRES, k=4, last=1)
        wrong = {
            Fault.UNKNOWN: [Command(Cmd.RD)],
            Fault.NO_HEADER: [Command(Cmd.GACT)],
            Fault.NESTED_HEADER: [header, header],
            Fault.LONG_HEADER: [Command(Cmd.HEADER, est=8000)],
            Fault.CLOSED: [header, steps],
            Fault.NOT_CLOSED: [header, Command(Cmd.GACT), Command(Cmd.GACT)],
            Fault.RANGE: [Command(Cmd.WRGB, gcol=5)],
        }
        more = [
            (Fault.RANGE, [Command(Cmd.GWRITE, entry=1)]),
            (Fault.RANGE, [header, Command(Cmd.GACT, buf=1)]),
        ]
        for fault, commands in [*wrong.items(), *more]:
            queue = [(1, command, 0) for command in commands]
            outcome = rtl.run(program, CONFIGS, {"single": queue}, {}, tmp_path)["single"]
            assert [number for _, number in outcome.faults] == [fault]


@pytest.mark.slow
class TestMore:
    def test_attention(self, more: Path, tmp_path: Path) -> None:
        check_attention(more, MORE, [1, 32, 65], tmp_path)

    @pytest.mark.parametrize("seed", range(6))
    def test_beside_reads_and_writes(self, program, more: Path, seed: int, tmp_path: Path) -> None:
        check_mixed(more, MORE, seed, tmp_path)
        check_mixed(program, CONFIGS, seed, tmp_path)

    def test_whole_channels(self, tmp_path: Path) -> None:
        """32 banks with pages of 1 KiB, up to the length of a long request."""
        configs = {
            "full": PimConfig(rows=256),
            "best": PimConfig(rows=512, buffers=2, entries=4, prea=True, refresh="together",
                              act_group=16, array="block_ram", fmt="bf16"),
        }  # fmt: skip
        program = build(configs, tmp_path, optimise="-O1")
        shape = {"heads": 8, "kv_heads": 2, "dk": 128}
        for length in (1, 31, 32, 33, 511, 512, 513, 2048):
            check_attention(program, configs, [length], tmp_path / "run", **shape)


def test_memory_is_the_same_with_and_without_multipliers(program: Path, tmp_path: Path) -> None:
    c = CONFIGS["single"]
    job, mem = attention(c, 9), traffic(c, 3, 200)
    mem = [(at, r._replace(row=r.row % 8 + 40)) for at, r in mem]
    alone = rtl.run(program, CONFIGS, {}, {"single": mem}, tmp_path)["single"]
    pim = [(1, command, data) for command, data in job.commands]
    both = rtl.run(program, CONFIGS, {"single": pim}, {"single": mem}, tmp_path)["single"]
    assert [w for _, w in alone.reads] == [w for _, w in both.reads]
    assert np.mean([at for at, _ in both.reads]) >= np.mean([at for at, _ in alone.reads])
