# SPDX-License-Identifier: Apache-2.0
"""The baseline element that optimised ones are measured against computes what it must."""

import numpy as np
import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.sim import Simulator

from benchmarks.array_area import Mac


@pytest.mark.parametrize(
    ("lanes", "levels", "pipelined", "chained"),
    [
        (1, False, False, False),
        (1, False, True, False),
        (3, False, True, True),
        (5, True, True, False),
        (16, True, True, False),
    ],
)
def test_the_baseline_element_sums_products(
    lanes: int, levels: bool, pipelined: bool, chained: bool
) -> None:
    rng = np.random.default_rng(lanes)
    beats = 6
    x, w = (rng.integers(-128, 128, (beats, lanes)) for _ in range(2))
    x[0], w[0] = -128, -128
    mac = Mac(width=32, lanes=lanes, levels=levels, pipelined=pipelined, chained=chained, held=True)
    depth = (lanes - 1).bit_length() + 1 if levels else int(pipelined)
    sums = []

    async def drive(ctx) -> None:
        ctx.set(mac.run, 1)
        for beat in range(beats + depth + 1):
            if beat < beats:
                for port, row in ((mac.x, x[beat]), (mac.w, w[beat])):
                    ctx.set(port, int.from_bytes(row.astype(np.int8).tobytes(), "little"))
            if chained:
                ctx.set(mac.above, 1000 * beat)
            else:
                ctx.set(mac.first, beat in (0, 3))  # two tiles of three beats
            await ctx.tick()
            sums.append(ctx.get(mac.acc))

    m = Module()
    m.domains.sync = ClockDomain(reset_less=True)
    m.submodules.mac = mac
    simulator = Simulator(m)
    simulator.add_clock(1e-9)
    simulator.add_testbench(drive)
    simulator.run()
    products = (x * w).sum(axis=1)
    if chained:
        expected = products + 1000 * (np.arange(beats) + depth)
    else:
        expected = np.cumsum(products.reshape(2, 3), axis=1).ravel()
    assert sums[depth : depth + beats] == expected.tolist()
