# SPDX-License-Identifier: Apache-2.0
"""Carry-propagate adders: one word from two.

Parallel-prefix adders differ in how they combine (generate, propagate) pairs: Sklansky (1960) in the fewest levels
with large fan-out, Kogge and Stone (1973) in as few with fan-out 2 and the most wires, Brent and Kung (1982) in
nearly twice as many with the fewest cells, Han and Carlson (1987) between the latter two. ``ripple`` is smallest and
slowest; ``plain`` leaves the choice to the synthesiser, which on FPGAs has carry chains for it.
"""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.unit import Unit

__all__ = ["ADDERS", "Adder", "add", "check_adder"]

Spans = list[tuple[Value, Value]]
"""Of each bit: (generate, propagate) of the bits from some lower one up to it."""


def _join(
    m: Module, high: tuple[Value, Value], low: tuple[Value, Value], name: str
) -> tuple[Value, Value]:
    generate, propagate = Signal(name=f"{name}_g"), Signal(name=f"{name}_p")
    m.d.comb += [generate.eq(high[0] | (high[1] & low[0])), propagate.eq(high[1] & low[1])]
    return generate, propagate


def _ripple(m: Module, spans: Spans) -> Spans:
    for n in range(1, len(spans)):
        spans[n] = _join(m, spans[n], spans[n - 1], f"ripple_{n}")
    return spans


def _sklansky(m: Module, spans: Spans) -> Spans:
    level = 0
    while 1 << level < len(spans):
        below = list(spans)
        for n in range(len(spans)):
            if n >> level & 1:
                low = (n >> level << level) - 1
                spans[n] = _join(m, below[n], below[low], f"sklansky_{level}_{n}")
        level += 1
    return spans


def _kogge_stone(m: Module, spans: Spans) -> Spans:
    distance = 1
    while distance < len(spans):
        below = list(spans)
        for n in range(distance, len(spans)):
            spans[n] = _join(m, below[n], below[n - distance], f"kogge_stone_{distance}_{n}")
        distance *= 2
    return spans


def _brent_kung(m: Module, spans: Spans) -> Spans:
    distance = 1
    while distance < len(spans):
        for n in range(2 * distance - 1, len(spans), 2 * distance):
            spans[n] = _join(m, spans[n], spans[n - distance], f"brent_kung_up_{distance}_{n}")
        distance *= 2
    while distance > 1:
        distance //= 2
        for n in range(3 * distance - 1, len(spans), 2 * distance):
            spans[n] = _join(m, spans[n], spans[n - distance], f"brent_kung_down_{distance}_{n}")
    return spans


def _han_carlson(m: Module, spans: Spans) -> Spans:
    """Kogge-Stone over the odd bits; the even ones take one level more."""
    for n in range(1, len(spans), 2):
        spans[n] = _join(m, spans[n], spans[n - 1], f"han_carlson_1_{n}")
    odd = _kogge_stone(m, spans[1::2])
    spans[1::2] = odd
    for n in range(2, len(spans), 2):
        spans[n] = _join(m, spans[n], spans[n - 1], f"han_carlson_last_{n}")
    return spans


_PREFIX: dict[str, Callable[[Module, Spans], Spans]] = {
    "ripple": _ripple,
    "brent_kung": _brent_kung,
    "kogge_stone": _kogge_stone,
    "han_carlson": _han_carlson,
    "sklansky": _sklansky,
}
ADDERS = ("plain", *_PREFIX)


def check_adder(style: str) -> None:
    """Raise ValueError unless ``style`` is one of ``ADDERS``."""
    if style not in ADDERS:
        raise ValueError(f"adder {style!r} is not known (known: {', '.join(ADDERS)})")


def add(
    m: Module, a: Value, b: Value, *, style: str = "plain", carry: Value | None = None
) -> Value:
    """``a + b + carry`` of two words of equal length, one bit longer than they are.

    Raises
    ------
    ValueError
        For an unknown style or words of different length.
    """
    check_adder(style)
    if len(a) != len(b):
        raise ValueError(f"an adder takes words of equal length, not {len(a)} and {len(b)} bits")
    a, b = a.as_unsigned(), b.as_unsigned()
    if style == "plain":
        total = a + b if carry is None else a + b + carry
        return total[: len(a) + 1]
    half = a ^ b
    spans: Spans = list(zip(a & b, half, strict=True))
    if carry is not None:  # as a bit below the lowest
        spans.insert(0, (carry, Const(0, 1)))
    carries = [generate for generate, _ in _PREFIX[style](m, spans)]
    if carry is None:
        carries.insert(0, Const(0, 1))
    return Cat((h ^ c for h, c in zip(half, carries, strict=False)), carries[-1])


class Adder(Unit):
    """``total = a + b``, combinationally.

    Parameters
    ----------
    width : bits of a and b
    style : one of ``ADDERS``

    Members
    -------
    a, b : ``In(width)``
    total : ``Out(width + 1)``
    """

    def __init__(self, *, width: int, style: str) -> None:
        check_adder(style)
        self.width, self.style = width, style
        super().__init__(
            wiring.Signature({"a": In(width), "b": In(width), "total": Out(width + 1)}),
            {"w": width, "s": style},
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.comb += self.total.eq(add(m, self.a, self.b, style=self.style))
        return m
