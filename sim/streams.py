# SPDX-License-Identifier: Apache-2.0
"""cocotb drivers for ready/valid streams and for plain ports of emitted units.

A stream ``i`` of a unit called ``dut`` on a bench appears as ``dut__i__valid``, ``dut__i__ready`` and
``dut__i__payload`` (structures packed, first field lowest).
"""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge

__all__ = ["get", "pack", "put", "start", "unpack"]


async def start(dut: Any) -> None:
    """Start the clock, and reset for two cycles."""
    cocotb.start_soon(Clock(dut.clk, 2, unit="ns", impl="gpi").start())
    dut.rst.value = 1
    for _ in range(2):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    await RisingEdge(dut.clk)


async def put(
    dut: Any, stream: str, payloads: Iterable[int], busy: float = 1.0, seed: int = 0
) -> None:
    """Send ``payloads``; in each cycle without a pending transfer, valid rises with probability ``busy``."""
    rng = random.Random(seed)
    valid, ready = getattr(dut, f"{stream}__valid"), getattr(dut, f"{stream}__ready")
    payload = getattr(dut, f"{stream}__payload")
    for value in payloads:
        while rng.random() >= busy:
            await RisingEdge(dut.clk)
        valid.value, payload.value = 1, value
        while True:
            await ReadOnly()
            taken = bool(ready.value)
            await RisingEdge(dut.clk)
            if taken:
                break
        valid.value = 0


async def get(
    dut: Any, stream: str, count: int, busy: float = 1.0, seed: int = 1, limit: int = 200_000
) -> list[int]:
    """Receive ``count`` payloads; ready is high with probability ``busy`` in each cycle.

    Raises
    ------
    AssertionError
        After ``limit`` cycles, or if valid falls or the payload changes before a transfer.
    """
    rng = random.Random(seed)
    valid, ready = getattr(dut, f"{stream}__valid"), getattr(dut, f"{stream}__ready")
    payload = getattr(dut, f"{stream}__payload")
    found: list[int] = []
    held: int | None = None
    for _ in range(limit):
        ready.value = int(rng.random() < busy)
        await ReadOnly()
        if valid.value:
            value = int(payload.value)
            assert held is None or held == value, f"{stream}: payload changed while it waited"
            held = value
            if ready.value:
                found.append(value)
                held = None
        else:
            assert held is None, f"{stream}: valid fell before the transfer"
        await RisingEdge(dut.clk)
        if len(found) == count:
            ready.value = 0
            return found
    raise AssertionError(f"{stream}: {len(found)} of {count} transfers after {limit} cycles")


def pack(values: Sequence[int], bits: int) -> int:
    """Concatenate two's-complement values of ``bits`` bits, the first one lowest."""
    mask, word = (1 << bits) - 1, 0
    for k, value in enumerate(values):
        word |= (int(value) & mask) << (k * bits)
    return word


def unpack(word: int, bits: int, count: int, signed: bool = True) -> list[int]:
    """Inverse of :func:`pack`."""
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    fields = [(word >> (k * bits)) & mask for k in range(count)]
    return [f - (1 << bits) if signed and f & half else f for f in fields]
