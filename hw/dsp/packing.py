# SPDX-License-Identifier: Apache-2.0
"""Several products in one DSP48E2: fields of the 48-bit sum, and how many products each holds exactly.

The wide operand (27 bits, through A and D) carries ``wide.count`` numbers and the narrow one (18 bits, B)
``narrow.count``; their product has a field for every pair. Each tap of a cascade adds a product to every field. A chain
starts with a constant (``RND`` of the slice) that lifts every field but the top one, so that no low field ever goes
negative: nothing is borrowed from the field above, and a field is read by wires.

The constant need not be half the range: any that keeps the field between 0 and ``2**field - 1`` is exact, so a field
holds ``(2**field - 1) // (largest product - smallest product)`` products. That is one more than the half range allows
where the ranges are not symmetric: eight products of 8 by 8 bits, -128 included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = [
    "NARROW",
    "SUM",
    "WIDE",
    "Operand",
    "Packing",
    "acts",
    "best",
    "both",
    "signed",
    "weights",
]

WIDE, NARROW, SUM = 27, 18, 48
"""Bits of the operands and of the sum."""


@dataclass(frozen=True)
class Operand:
    """Numbers that share an operand.

    Attributes
    ----------
    count : how many
    low, high : what each may be
    """

    count: int
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count!r}")
        if not self.low <= 0 <= self.high or self.low == self.high:
            raise ValueError(f"a range must hold 0 and more, not {self.low}..{self.high}")

    @property
    def bits(self) -> int:
        """Bits of one number, signed."""
        return self.packed_bits(0) if self.count == 1 else Operand(1, self.low, self.high).bits

    def packed_bits(self, step: int) -> int:
        """Bits of all numbers together, ``step`` bits apart: what lies below may borrow from the last one."""
        low, high = (
            sum(value << n * step for n in range(self.count)) for value in (self.low, self.high)
        )
        return max(high.bit_length(), (-low - 1).bit_length() if low else 0) + 1

    def __str__(self) -> str:
        return f"{self.count} x {self.low}..{self.high}"


def signed(bits: int, count: int = 1, *, symmetric: bool = False) -> Operand:
    """All signed numbers of ``bits`` bits, or all but the most negative one."""
    half = 1 << (bits - 1)
    return Operand(count, 1 - half if symmetric else -half, half - 1)


@dataclass(frozen=True)
class Packing:
    """A layout: number i of the wide operand times number j of the narrow one is field ``i * narrow.count + j``.

    Attributes
    ----------
    wide, narrow : the operands
    field : bits from one field to the next

    Raises
    ------
    ValueError
        If an operand does not fit, or a field holds not even one product.
    """

    wide: Operand
    narrow: Operand
    field: int

    def __post_init__(self) -> None:
        for name, operand, step, bits in (
            ("wide", self.wide, self.step, WIDE), ("narrow", self.narrow, self.field, NARROW),
        ):  # fmt: skip
            if operand.packed_bits(step) > bits:
                raise ValueError(
                    f"{operand} at steps of {step} bits exceed the {bits} bits of the {name} operand of a DSP48E2"
                )
        if self.limit < 1:
            raise ValueError(
                f"a field of {self.field} bits holds no product of {self.wide} by {self.narrow}"
            )

    @property
    def step(self) -> int:
        """Bits from one number of the wide operand to the next."""
        return self.field * self.narrow.count

    @property
    def products(self) -> int:
        """Products that a slice makes in a cycle."""
        return self.wide.count * self.narrow.count

    @property
    def least(self) -> int:
        """The smallest product."""
        return min(self.wide.low * self.narrow.high, self.wide.high * self.narrow.low)

    @property
    def most(self) -> int:
        """The largest product."""
        return max(self.wide.low * self.narrow.low, self.wide.high * self.narrow.high)

    @property
    def limit(self) -> int:
        """Products that every field holds before it must be read: one more overflows on some operands."""
        found = ((1 << self.field) - 1) // (self.most - self.least)
        top = SUM - self.field * (self.products - 1)  # bits of the top field, whose sums are signed
        high = ((1 << (top - 1)) - 1) // self.most
        low = (1 << (top - 1)) // -self.least
        return min(found, high, low) if self.products > 1 else min(high, low)

    @property
    def taps(self) -> int:
        """The longest chain whose fields need at most a carry besides wires: `limit`, or a little less."""
        return min(self.limit, (1 << (self.field - 1)) // self.most)

    @property
    def exact(self) -> int:
        """Products of a field that need not even a carry: what a slice may accumulate over beats."""
        half = 1 << (self.field - 1)
        return min(self.limit, (half - 1) // self.most, half // -self.least)

    def check(self, products: int) -> None:
        """Raise ValueError, with the limit, if so many products of a field may overflow it."""
        if products < 1:
            raise ValueError(f"a field sums at least 1 product, not {products!r}")
        if products > self.limit:
            raise ValueError(
                f"{products} products of {self.wide} by {self.narrow} overflow a field of {self.field} bits: read it "
                f"after at most {self.limit}"
            )

    def bias(self, products: int) -> int:
        """What lifts a low field of so many products: half its range, or the nearest that keeps it in range."""
        self.check(products)
        least, most = -products * self.least, (1 << self.field) - 1 - products * self.most
        return min(max(1 << (self.field - 1), least), most)

    def carry(self, products: int) -> int:
        """What is missing from a field that is read as a signed number: 0 where the bias is half the range."""
        return (1 << (self.field - 1)) - self.bias(products)

    def constant(self, products: int) -> int:
        """``RND`` of the first tap of a chain of so many products, 48 bits.

        It also takes the carry from the top field, so that all fields are read alike.
        """
        top = self.products - 1
        total = sum(self.bias(products) << n * self.field for n in range(top))
        return (total - (self.carry(products) << top * self.field)) & (1 << SUM) - 1

    def adjusted(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers ``[..., wide.count]`` so that their bits side by side are the wide operand.

        Every number but the first is less by one where what lies below it is negative; done offline, this saves the
        pre-adder. A number may then need a value below its range.
        """
        numbers = np.asarray(numbers, np.int64)
        below = np.zeros(numbers.shape[:-1], np.int64)
        found = np.empty_like(numbers)
        for n in range(self.wide.count):
            found[..., n] = numbers[..., n] - (below < 0)
            below = below + (numbers[..., n] << n * self.step)
        return found

    def pack_wide(self, numbers: np.ndarray) -> np.ndarray:
        """The wide operand of ``[..., wide.count]``."""
        return self._packed(numbers, self.wide, self.step)

    def pack_narrow(self, numbers: np.ndarray) -> np.ndarray:
        """The narrow operand of ``[..., narrow.count]``."""
        return self._packed(numbers, self.narrow, self.field)

    @staticmethod
    def _packed(numbers: np.ndarray, operand: Operand, step: int) -> np.ndarray:
        numbers = np.asarray(numbers, np.int64)
        if numbers.min() < operand.low or numbers.max() > operand.high:
            raise ValueError(f"operands must be {operand.low}..{operand.high}")
        return (numbers << step * np.arange(operand.count)).sum(-1)

    def chain(self, wide: np.ndarray, narrow: np.ndarray, constant: int) -> np.ndarray:
        """Bit-true P of a chain: ``wide`` ``[..., n, wide.count]``, ``narrow`` ``[..., n, narrow.count]``."""
        products = self.pack_wide(wide) * self.pack_narrow(narrow)  # 45 bits
        total = products.sum(-1) + (constant - (constant >> (SUM - 1) << SUM))
        return total & ((1 << SUM) - 1)

    def fields(self, p: np.ndarray, carry: int) -> np.ndarray:
        """The sums ``[..., products]`` that P holds, if ``carry`` is missing from each."""
        p = np.asarray(p, np.int64)
        found = []
        for n in range(self.products):
            bits = p >> n * self.field & (1 << self.field) - 1
            if n < self.products - 1:
                bits ^= 1 << (self.field - 1)
            found.append(bits - (bits >> (self.field - 1) << self.field) + carry)
        return np.stack(found, -1)

    def sums(self, wide: np.ndarray, narrow: np.ndarray) -> np.ndarray:
        """What a chain of slices gives for every field, ``[..., products]``: exact up to `limit` products."""
        products = wide.shape[-2]
        return self.fields(self.chain(wide, narrow, self.constant(products)), self.carry(products))


def _widest(wide: Operand, narrow: Operand) -> Packing:
    """The layout with the widest fields that fit.

    Raises
    ------
    ValueError
        If none fits.
    """
    for field in range(SUM // (wide.count * narrow.count), 1, -1):
        try:
            return Packing(wide, narrow, field)
        except ValueError:
            continue
    raise ValueError(
        f"{wide} by {narrow} do not share a DSP48E2 exactly; pack fewer, or narrower numbers"
    )


def weights(count: int, w_bits: int, x_bits: int, *, symmetric: bool = False) -> Packing:
    """Weights of ``count`` outputs times one activation; ``symmetric``: no weight is the most negative number."""
    return _widest(signed(w_bits, count, symmetric=symmetric), signed(x_bits))


def acts(count: int, w_bits: int, x_bits: int, *, symmetric: bool = False) -> Packing:
    """Activations of ``count`` tokens times one weight."""
    return _widest(signed(x_bits, count), signed(w_bits, symmetric=symmetric))


def both(w_bits: int, x_bits: int, *, symmetric: bool = False) -> Packing:
    """Weights of two outputs times activations of two tokens."""
    return _widest(signed(w_bits, 2, symmetric=symmetric), signed(x_bits, 2))


@cache
def best(w_bits: int, x_bits: int, tokens: int) -> Packing:
    """The layout with the most products a slice whose chains have two taps at least, for any numbers.

    Raises
    ------
    ValueError
        If not even two products share a slice.
    """
    for make in (lambda: both(w_bits, x_bits), lambda: weights(3, w_bits, x_bits),
                 lambda: weights(2, w_bits, x_bits)):  # fmt: skip
        try:
            found = make()
        except ValueError:
            continue
        if found.taps > 1 and found.narrow.count <= tokens:
            return found
    raise ValueError(
        f"two products of {w_bits} by {x_bits} bits do not share a DSP48E2 (its product has 27 x 18 bits); use mac"
    )


def chain_lengths(elements: int, taps: int) -> Sequence[int]:
    """Taps of each of the fewest chains that ``elements`` products need, as equal as possible."""
    chains = -(-elements // taps)
    return [len(range(chain, elements, chains)) for chain in range(chains)]
