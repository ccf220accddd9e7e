# SPDX-License-Identifier: Apache-2.0
"""What a tile costs: cycles that the controller takes for it, measured by playing its commands.

The controller in Python gives the commands in the same cycles as the RTL (tests/pim), so these are counts
of the RTL. What they cannot include is a refresh; :mod:`sim.pim.events` knows that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from hw.pim.commands import Cmd
from hw.pim.config import PimConfig
from sim.pim.controller import Request, replay
from sim.pim.driver import Program, Tiles
from sim.pim.events import channel_times
from sim.pim.protocol import Command

__all__ = ["Tile", "contention", "gwrite_cost", "refresh_gap", "tile_cost"]

FEW, MANY = 8, 24


@dataclass(frozen=True)
class Tile:
    """A row in all banks, and what is computed on it.

    Attributes
    ----------
    steps : columns of each of its composites.
    count : of composites.
    """

    steps: int
    count: int


@lru_cache(maxsize=1 << 14)
def tile_cost(c: PimConfig, tile: Tile, composite: bool = True) -> float:
    """Cycles from one tile to the next, in a row of equal ones."""
    few, many = (FEW, MANY) if c.buffers == 2 else (2, 6)  # every tile alike: a few say it
    return (_run(c, tile, many, composite) - _run(c, tile, few, composite)) / (many - few)


@lru_cache(maxsize=256)
def gwrite_cost(c: PimConfig, composite: bool = True) -> float:
    """Cycles that a GWRITE between two tiles adds."""
    tile = Tile(8, 4)
    return (_run(c, tile, FEW, composite, gwrites=True) - _run(c, tile, FEW, composite)) / FEW


@lru_cache(maxsize=256)
def refresh_gap(c: PimConfig, composite: bool = True) -> tuple[int, int]:
    """Cycles between the times at which a refresh is due, and what the multipliers lose by one.

    The loss is that from the time when it is due to that when a sequence can begin, less what the
    first tile behind it saves because everything is closed: fitted so that the event model takes as
    long as the controller for two rows of tiles.
    """
    gap = c.timing.refi // (c.ranks if c.refresh == "staggered" else 1)
    tiles = (Tile(8, 4), Tile(c.cols // 2, 1))
    cases = []
    for tile in tiles:
        program = _program(c, tile, 80, composite, False)
        real = replay(c, [(1, command) for command, _ in program.commands], [])[-1][0]
        headers = [x for x, _ in program.commands if x.cmd is Cmd.HEADER]
        cost = np.full(len(headers), tile_cost(c, tile, composite) * 80 / len(headers))
        promise = np.array([x.est for x in headers], float)
        cases.append((real, np.array([0, len(headers)]), cost, promise))

    def error(lost: int) -> float:
        times = (channel_times(first, cost, promise, np.zeros(len(cost)), gap, lost)[0] - real
                 for real, first, cost, promise in cases)  # fmt: skip
        return sum(abs(t) for t in times)

    return gap, min(range(c.timing.rfc // 2, 2 * c.timing.rfc), key=error)


@lru_cache(maxsize=256)
def contention(c: PimConfig, composite: bool = True) -> tuple[float, float]:
    """How the multipliers and a stream of reads slow each other down.

    Returns
    -------
    multipliers, reads
        Time of the multipliers with the reads over that without; rate of the reads with the
        multipliers over that without. Reads take whole rows, bank after bank.
    """
    tile, count = Tile(8, 4), 24
    calm = _calm(c)
    program = _program(calm, tile, count, composite, False)
    pim = [(1, command) for command, _ in program.commands]
    rows = [
        (1, Request(0, bank, c.rows // 2 + row, col))
        for row in range(max(2, c.rows // 4))
        for bank in range(c.banks)
        for col in range(c.bursts)
    ]
    alone = replay(calm, pim, [])[-1][0]
    both = replay(calm, pim, rows)
    end = next(at for at, x in reversed(both) if x.last and x.cmd in (Cmd.COMPS_READRES, Cmd.READRES))  # fmt: skip
    served = sum(x.cmd is Cmd.RD and at <= end for at, x in both)
    free = replay(calm, [], rows[: max(1, len(rows) // 4)])
    rate = sum(x.cmd is Cmd.RD for _, x in free) / free[-1][0]
    return max(1.0, end / alone), min(1.0, served / end / rate)


def _calm(c: PimConfig) -> PimConfig:
    """The same channel without refresh."""
    return replace(c, timing=replace(c.timing, refi=1 << 24))


def _program(c: PimConfig, tile: Tile, count: int, composite: bool, gwrites: bool) -> Program:
    program = Program()
    tiles = Tiles(c, program, composite)
    steps: Sequence[Command] = [
        Command(Cmd.COMP, k=tile.steps, col=0, gcol=0) for _ in range(tile.count)
    ]
    half = c.rows // 2
    for i in range(count):
        if gwrites:
            tiles.flush()
            program.add(Command(Cmd.GWRITE, 0, half + i % half))
        tiles.tile(i % half, list(steps))
    tiles.flush()
    return program


def _run(c: PimConfig, tile: Tile, count: int, composite: bool, gwrites: bool = False) -> int:
    calm = _calm(c)
    commands = _program(calm, tile, count, composite, gwrites).commands
    return replay(calm, [(1, command) for command, _ in commands], [])[-1][0]
