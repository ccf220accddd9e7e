# SPDX-License-Identifier: Apache-2.0
"""One channel of a system, command by command: what the event model is held against."""

from collections.abc import Sequence
from dataclasses import replace

from hw.pim.commands import Cmd
from hw.pim.config import PimConfig
from sim.pim.controller import Timed, replay
from sim.pim.driver import Program, Tiles
from sim.pim.protocol import Command
from sim.pim.system import Design
from sim.pim.workload import Decoder, request_load

__all__ = ["commands", "play"]


def commands(
    design: Design, model: Decoder, lengths: Sequence[int]
) -> tuple[PimConfig, list[Timed]]:
    """The channel, and its commands with their cycles, for the attention of requests in one layer.

    Rows are reused, as there are few of them in the channel of a design: timing does not depend on which
    they are.

    Parameters
    ----------
    lengths : contexts of the requests of this channel.
    """
    if design.channel is None:
        raise ValueError(f"The memory of {design.name} does not compute")
    c = replace(design.channel, share=0)
    program, row = Program(), 0
    tiles = Tiles(c, program, design.composite)
    half = c.rows // 2
    for length in lengths:
        for load in request_load(c, model, length, design.pack_values):
            for _ in range(load.repeat):
                for _ in range(load.gwrites):
                    program.add(Command(Cmd.GWRITE, 0, half + row % half))
                    row += 1
                steps = [Command(Cmd.COMP, k=load.tile.steps) for _ in range(load.tile.count)]
                for _ in range(load.tiles):
                    tiles.tile(row % half, steps)
                    row += 1
                tiles.flush()
    return c, replay(c, [(1, command) for command, _ in program.commands], [])


def play(design: Design, model: Decoder, lengths: Sequence[int]) -> int:
    """Cycles until the last result of a channel, refreshes and all."""
    c, found = commands(design, model, lengths)
    return max(at for at, x in found if x.last) + c.group_cycles(1)
