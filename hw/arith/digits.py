# SPDX-License-Identifier: Apache-2.0
"""Signed radix-4 digits: an operand as ``sum(d_i * 4**i)`` with every ``d_i`` in {-2, -1, 0, 1, 2}.

Three ways to choose the digits (Wu et al., "Transformation in the Bit-weight Dimension of MACs", HPCA 2025):

- ``booth``: radix-4 modified Booth. Each digit depends on three bits of the operand, so there is no carry.
- ``ent``: EN-T. Sign and magnitude; of the magnitude, groups of 2 bits become -1, 0, 1 or 2 with a carry.
- ``csd``: canonical signed digits (non-adjacent form). Of two neighbouring binary digits at most one is not
  zero, so a pair of them is a radix-4 digit again, and no other recoding has fewer non-zero digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.unit import Unit

__all__ = [
    "DIGIT_BITS",
    "ENCODINGS",
    "Digit",
    "DigitEncoder",
    "check_bits",
    "digit_count",
    "digits",
    "encode",
    "nonzero",
    "nonzero_table",
    "unpack_digits",
]

ENCODINGS = ("booth", "ent", "csd")
DIGIT_BITS = 3
"""Bits of a digit on a wire: one, two, negative (lowest first)."""


def check_bits(name: str, bits: int) -> None:
    """Raise ValueError unless ``bits`` is a width that this library covers (2 to 16)."""
    if not 2 <= bits <= 16:
        raise ValueError(f"{name} must be 2 to 16 bits, not {bits!r}")


def _check_encoding(encoding: str) -> None:
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding {encoding!r} is not known (known: {', '.join(ENCODINGS)})")


def digit_count(bits: int, *, signed: bool = True) -> int:
    """Digits of an operand of ``bits`` bits."""
    return (bits + 1) // 2 if signed else bits // 2 + 1


# ---- Numpy: the specification --------------------------------------------------------------------


def digits(
    values: np.ndarray, bits: int, *, signed: bool = True, encoding: str = "booth"
) -> np.ndarray:
    """Digits ``[..., digit_count]`` (int8, lowest first) of integers of ``bits`` bits.

    Raises
    ------
    ValueError
        For an unknown encoding, or a value outside the width.
    """
    _check_encoding(encoding)
    v = _within(values, bits, signed)
    count = digit_count(bits, signed=signed)
    if encoding == "booth":
        b = np.stack([(v >> i) & 1 for i in range(2 * count)], axis=-1)
        lower = np.concatenate([np.zeros_like(b[..., :1]), b[..., 1:-1:2]], axis=-1)
        found = lower + b[..., 0::2] - 2 * b[..., 1::2]
    elif encoding == "ent":
        magnitude, carry, groups = np.abs(v), 0, []
        for i in range(count):
            t = ((magnitude >> (2 * i)) & 3) + carry
            carry = (t >= 3).astype(np.int64) if i < count - 1 else 0
            groups.append(t - 4 * carry)
        found = np.stack(groups, axis=-1) * np.where(v < 0, -1, 1)[..., None]
    else:
        binary, rest = [], v
        for _ in range(2 * count):  # the rest is odd: +1 or -1, so that it then is a multiple of 4
            d = np.where(rest & 1, 2 - (rest & 3), 0)
            binary.append(d)
            rest = (rest - d) >> 1
        b = np.stack(binary, axis=-1)
        found = b[..., 0::2] + 2 * b[..., 1::2]
    return found.astype(np.int8)


def nonzero(
    values: np.ndarray, bits: int, *, signed: bool = True, encoding: str = "booth"
) -> np.ndarray:
    """How many digits (uint8) of each value are not zero: the partial products that a bit-sparse PE adds.

    Raises
    ------
    ValueError
        For an unknown encoding, a width outside 2 to 16, or a value outside the width.
    """
    table = nonzero_table(bits, signed=signed, encoding=encoding)
    return table[_within(values, bits, signed) & ((1 << bits) - 1)]


@cache
def nonzero_table(bits: int, *, signed: bool = True, encoding: str = "booth") -> np.ndarray:
    """:func:`nonzero` of all values, uint8 ``[2**bits]``, indexed by the value's bits; read-only.

    Raises
    ------
    ValueError
        For an unknown encoding, or a width outside 2 to 16.
    """
    check_bits("bits", bits)
    patterns = np.arange(1 << bits)
    values = patterns - ((patterns >> (bits - 1)) << bits) if signed else patterns
    found = digits(values, bits, signed=signed, encoding=encoding)
    table = np.count_nonzero(found, axis=-1).astype(np.uint8)
    table.setflags(write=False)
    return table


def _within(values: np.ndarray, bits: int, signed: bool) -> np.ndarray:
    """``values`` as int64; ValueError if one is outside the width."""
    v = np.asarray(values, np.int64)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if v.size and (v.min() < low or v.max() > high):
        raise ValueError(f"values {v.min()}..{v.max()} are outside {low}..{high} ({bits} bits)")
    return v


# ---- Hardware ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Digit:
    """A digit as select lines: ``(-1 if negative else 1) * (one + 2 * two)``; at most one of one, two.

    ``negative`` of a zero digit means nothing.
    """

    one: Value
    two: Value
    negative: Value

    @property
    def bits(self) -> Value:
        """The digit as ``DIGIT_BITS`` bits on a wire."""
        return Cat(self.one, self.two, self.negative)

    @property
    def zero(self) -> Value:
        return ~(self.one | self.two)


def unpack_digits(value: Value) -> list[Digit]:
    """Digits that lie side by side on a wire, the lowest first."""
    step = DIGIT_BITS
    return [Digit(value[n], value[n + 1], value[n + 2]) for n in range(0, len(value), step)]


def encode(
    m: Module, value: Value, *, signed: bool = True, encoding: str = "booth", name: str = "digit"
) -> list[Digit]:
    """Recode ``value`` combinationally, digits lowest first; equals :func:`digits`.

    The encoder is put into ``m``, its signals begin with ``name``.
    """
    _check_encoding(encoding)
    bits = list(value.as_unsigned())
    count = digit_count(len(bits), signed=signed)
    top = bits[-1] if signed else Const(0, 1)
    extended = [*bits, *[top] * (2 * count + 1 - len(bits))]
    if encoding == "booth":
        below: list[Value] = [Const(0, 1), *extended]
        found = [_booth(*below[2 * i : 2 * i + 3]) for i in range(count)]
    elif encoding == "ent":
        found = _ent(m, bits, count, top, name)
    else:
        found = _csd(m, extended, count, name)
    signals = [Signal(DIGIT_BITS, name=f"{name}_{i}") for i in range(count)]
    m.d.comb += [signal.eq(digit.bits) for signal, digit in zip(signals, found, strict=True)]
    return [Digit(*signal) for signal in signals]


def _booth(low: Value, middle: Value, high: Value) -> Digit:
    one = middle ^ low
    return Digit(one, ~one & (high ^ middle), high)


def _bits(count: int, name: str) -> list[Signal]:
    """Bits that depend on each other, one signal each: a word would look like a loop to a simulator."""
    return [Signal(name=f"{name}_{n}") for n in range(count)]


def _ent(m: Module, bits: Sequence[Value], count: int, sign: Value, name: str) -> list[Digit]:
    below = _bits(len(bits), f"{name}_below")  # a lower bit is set: there negation inverts
    m.d.comb += [below[n + 1].eq(below[n] | bits[n]) for n in range(len(bits) - 1)]
    magnitude = _bits(2 * count, f"{name}_magnitude")
    m.d.comb += [magnitude[n].eq(bit ^ (below[n] & sign)) for n, bit in enumerate(bits)]
    carries = _bits(count, f"{name}_carry")
    found = []
    for i in range(count):
        low, high, carry = magnitude[2 * i], magnitude[2 * i + 1], carries[i]
        odd = low ^ carry
        if i == count - 1:  # absorbs the carry: at most 2
            found.append(Digit(odd, high | (low & carry), sign))
        else:
            two = ~odd & (high ^ low)  # 1 + 1, or 2 + 0
            found.append(Digit(odd, two, sign ^ (high & odd)))
            m.d.comb += carries[i + 1].eq(high & (low | carry))
    return found


def _csd(m: Module, bits: Sequence[Value], count: int, name: str) -> list[Digit]:
    carries = _bits(2 * count, f"{name}_carry")
    odd = Signal(2 * count, name=f"{name}_odd")  # the binary digits that are not zero
    for i in range(2 * count):
        m.d.comb += odd[i].eq(bits[i] ^ carries[i])
        if i + 1 < 2 * count:
            either = bits[i] | carries[i]
            m.d.comb += carries[i + 1].eq((bits[i + 1] & either) | (bits[i] & carries[i]))
    return [
        Digit(odd[2 * i], odd[2 * i + 1], Mux(odd[2 * i], bits[2 * i + 1], bits[2 * i + 2]))
        for i in range(count)
    ]


class DigitEncoder(Unit):
    """Recodes ``lanes`` operands side by side, combinationally.

    Parameters
    ----------
    lanes : operands
    bits : bits of each, 2 to 16
    signed : two's complement, or unsigned
    encoding : one of ``ENCODINGS``

    Members
    -------
    value : ``In(lanes * bits)``
    code : ``Out(lanes * digit_count * DIGIT_BITS)``

    Raises
    ------
    ValueError
        For a width outside 2 to 16 or an unknown encoding.
    """

    shared = True

    def __init__(self, *, lanes: int, bits: int, signed: bool = True, encoding: str) -> None:
        check_bits("bits", bits)
        _check_encoding(encoding)
        self.lanes, self.bits, self.signed, self.encoding = lanes, bits, signed, encoding
        count = digit_count(bits, signed=signed)
        super().__init__(
            wiring.Signature({"value": In(lanes * bits), "code": Out(lanes * count * DIGIT_BITS)}),
            {"l": lanes, "b": bits, "e": encoding, **({} if signed else {"u": 1})},
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        codes = []
        for lane in range(self.lanes):
            value = self.value[lane * self.bits : (lane + 1) * self.bits]
            found = encode(
                m, value, signed=self.signed, encoding=self.encoding, name=f"lane_{lane}"
            )
            codes += [digit.bits for digit in found]
        m.d.comb += self.code.eq(Cat(codes))
        return m
