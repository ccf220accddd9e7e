# SPDX-License-Identifier: Apache-2.0
"""Tables of kernels: those of the hardware are the golden model's, which does not import it."""

import numpy as np

from hw.kernel.tools import divide
from hw.sfu.tables import LOGISTIC_TABLE, POWER_TABLE
from sim.golden import kernel_ops as golden


def test_tables_are_equal() -> None:
    for ours, values, slopes in (
        (LOGISTIC_TABLE, golden.GATE_TABLE, golden.GATE_SLOPE),
        (POWER_TABLE, golden.POWER_TABLE, golden.POWER_SLOPE),
    ):
        assert np.array_equal(ours[:-1], values) and np.array_equal(np.diff(ours), slopes)
    assert golden.GATE_SLOPE.max() < 2**9 and golden.POWER_SLOPE.max() < 2**8


def test_division_by_constants() -> None:
    """Every row of every image: the hardware multiplies, and must find the bank that division finds."""
    from amaranth.hdl import Const

    for by in range(1, 12):
        for value in (0, by - 1, by, 1023, 4095, 4095 // by * by, 4095 // by * by - 1):
            quotient, rest = divide(Const(value, 12), by, 4095)
            assert (_value(quotient), _value(rest)) == divmod(value, by), (value, by)


def _value(expression: object) -> int:
    from amaranth.hdl import Module, Signal
    from amaranth.sim import Simulator

    m, found = Module(), Signal(24)
    m.d.comb += found.eq(expression)  # type: ignore[arg-type]
    seen: list[int] = []

    async def look(context: object) -> None:
        await context.delay(1e-9)  # type: ignore[attr-defined]
        seen.append(context.get(found))  # type: ignore[attr-defined]

    simulator = Simulator(m)
    simulator.add_testbench(look)
    simulator.run()
    return seen[0]
