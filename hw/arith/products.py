# SPDX-License-Identifier: Apache-2.0
"""Partial products: the rows that a product, or a sum of products, is compressed from."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value

from hw.arith.columns import Columns
from hw.arith.digits import Digit, encode

__all__ = ["add_digit_product", "add_product", "multiple"]


def multiple(digit: Digit, value: Value, *, signed: bool = True) -> Value:
    """``digit * value``, less one if the digit is negative: as long as ``value`` and one bit more, signed.

    The missing one is ``digit.negative``: it is cheaper as another bit of the sum than as a carry here. If
    ``value`` is not signed the result has two bits more.
    """
    bits = value.as_unsigned()
    single = Cat(bits, bits[-1]) if signed else Cat(bits, Const(0, 2))
    double = Cat(Const(0, 1), bits) if signed else Cat(Const(0, 1), bits, Const(0, 1))
    n = len(single)
    chosen = (single & digit.one.replicate(n)) | (double & digit.two.replicate(n))
    return chosen ^ digit.negative.replicate(n)


def add_digit_product(
    m: Module, columns: Columns, digit: Digit, value: Value, offset: int, *, signed: bool = True,
    name: str = "row",
) -> None:  # fmt: skip
    """Add ``digit * value * 2**offset``; ``name``: of the signal that holds the row."""
    chosen = multiple(digit, value, signed=signed)
    row = Signal(len(chosen), name=name)
    m.d.comb += row.eq(chosen)
    columns.add(row, offset, signed=True)
    columns.add(digit.negative, offset)


def add_product(
    m: Module,
    columns: Columns,
    encoded: Value | Sequence[Digit],
    value: Value,
    *,
    encoding: str = "booth",
    encoded_signed: bool = True,
    value_signed: bool = True,
    name: str = "product",
) -> None:
    """Add ``encoded * value``; ``encoded`` may be digits already (lowest first). Signals begin with ``name``."""
    if isinstance(encoded, Value):
        if encoding == "array":
            _add_array_product(columns, encoded, value, encoded_signed, value_signed)
            return
        encoded = encode(m, encoded, signed=encoded_signed, encoding=encoding, name=f"{name}_digit")
    for i, digit in enumerate(encoded):
        add_digit_product(
            m, columns, digit, value, 2 * i, signed=value_signed, name=f"{name}_row_{i}"
        )


def _add_array_product(
    columns: Columns, a: Value, b: Value, a_signed: bool, b_signed: bool
) -> None:
    """A row of ANDs for each bit of ``a`` (Baugh and Wooley, 1973: of two signs, one inverts)."""
    for i, bit in enumerate(a.as_unsigned()):
        row = b.as_unsigned() & bit.replicate(len(b))
        if a_signed and i == len(a) - 1:  # this row counts negative: -r = ~r + 1
            if b_signed:
                # -(sum(r_j 2**j) - r_top 2**top): all but the top inverted, and the constant of -2**top.
                columns.add(Cat(~row[:-1], row[-1]), i)
                columns.constant((1 - (1 << (len(b) - 1))) << i)
            else:
                columns.add(~row, i)
                columns.constant((1 - (1 << len(b))) << i)
        else:
            columns.add(row, i, signed=b_signed)
