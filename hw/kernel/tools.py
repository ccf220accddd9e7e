# SPDX-License-Identifier: Apache-2.0
"""Small things that the units of a kernel's core share."""

from collections.abc import Sequence

from amaranth.hdl import Module, Shape, Signal, Value, signed, unsigned
from amaranth.utils import bits_for

__all__ = ["choose", "divide"]


def choose(m: Module, index: Value, values: Sequence[int], name: str) -> Signal:
    """A constant for each value of ``index``."""
    low, high = min(values), max(values)
    shape: Shape = unsigned(max(1, bits_for(high)))
    if low < 0:
        shape = signed(1 + max(bits_for(high), bits_for(-low)))
    found = Signal(shape, name=name, init=low if low == high else 0)
    if low != high:
        with m.Switch(index):
            for k, value in enumerate(values[: 1 << len(index)]):
                with m.Case(k):
                    m.d.comb += found.eq(value)
    return found


def divide(value: Value, by: int, most: int) -> tuple[Value, Value]:
    """Quotient and remainder of an unsigned number, at most ``most``, by a constant."""
    if by & (by - 1) == 0:
        bits = by.bit_length() - 1
        return value >> bits, value[:bits] if bits else Value.cast(0)
    shift = bits_for(most) + bits_for(by)  # enough: Granlund and Montgomery, PLDI 1994
    quotient = (value * ((1 << shift) // by + 1)) >> shift
    return quotient, (value - quotient * by)[: bits_for(by - 1)]
