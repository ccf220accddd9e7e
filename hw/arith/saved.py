# SPDX-License-Identifier: Apache-2.0
"""Accumulators whose loop holds no long carry chain: the carry out of every group of bits is saved for the next cycle.

With groups of one bit this is the carry-save form of OPT1 (HPCA 2025). Longer groups (high-radix carry-save) save
flip-flops, of which an accumulator of that form has two a bit, for a chain of a few bits: the period still does not
depend on the accumulator's width.
"""

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.adders import add, check_adder
from hw.arith.columns import Columns
from hw.unit import Unit

__all__ = ["Saved", "SavedAccumulate"]


@dataclass(frozen=True)
class Saved:
    """A number modulo ``2**width`` on a wire: its sum bits, then the saved carries, the lowest first.

    Attributes
    ----------
    width : sum bits
    group : bits between two saved carries; ``width`` or more: there is none, the number is resolved
    """

    width: int
    group: int

    def __post_init__(self) -> None:
        if self.group < 1:
            raise ValueError(f"group must be at least 1 bit, not {self.group!r}")

    @property
    def boundaries(self) -> range:
        """Positions that a saved carry belongs to."""
        return range(self.group, self.width, self.group)

    @property
    def bits(self) -> int:
        """Bits on the wire."""
        return self.width + len(self.boundaries)

    def add_to(self, columns: Columns, word: Value, offset: int = 0) -> None:
        """Add ``word * 2**offset``, exact modulo ``2**(width + offset)``."""
        columns.add(word[: self.width], offset)
        for carry, position in zip(word[self.width :], self.boundaries, strict=True):
            columns.add(carry, offset + position)

    def added(
        self, m: Module, a: Value, b: Value, saved: Value, *, carry: Value | None = None,
        style: str = "ripple",
    ) -> Value:  # fmt: skip
        """``a + b + saved + carry`` on a wire of this form; what exceeds the width is dropped.

        Parameters
        ----------
        m : where the adders are put
        a, b : ``width`` bits
        saved : the carries of a word of this form, one for each of ``boundaries``
        carry : a bit of weight 1
        style : the adders of a group
        """
        sums, carries = [], []
        for n, begin in enumerate(range(0, self.width, self.group)):
            end = min(begin + self.group, self.width)
            enters = saved[n - 1] if begin else carry
            total = Signal(end - begin + (end < self.width), name=f"group_{begin}")
            m.d.comb += total.eq(add(m, a[begin:end], b[begin:end], style=style, carry=enters))
            sums.append(total[: end - begin])
            carries.append(total[end - begin :])
        return Cat(*sums, *carries)


class SavedAccumulate(Unit):
    """Adds two positive rows and a constant to an accumulator, combinationally.

    ``next = (0 if first else acc) + s + c + bias`` modulo ``2**width``; ``acc`` and ``next`` are :class:`Saved`.

    Parameters
    ----------
    width : bits of the accumulator
    group : bits between saved carries
    rows_bits : bits of s and c, at most ``width``
    bias : constant added every time
    style : the adders of a group, one of :data:`hw.arith.adders.ADDERS`

    Members
    -------
    s, c : ``In(rows_bits)``
    first : ``In(1)``
    acc : ``In(Saved(width, group).bits)``
    next : ``Out(Saved(width, group).bits)``

    Raises
    ------
    ValueError
        For rows that are wider than the accumulator, groups of less than a bit, or an unknown adder.
    """

    shared = True

    def __init__(
        self, *, width: int, group: int, rows_bits: int, bias: int = 0, style: str = "ripple"
    ) -> None:
        if rows_bits > width:
            raise ValueError(f"rows of {rows_bits} bits exceed an accumulator of {width}")
        check_adder(style)
        self.word = Saved(width, group)
        self.rows_bits, self.bias, self.style = rows_bits, bias, style
        super().__init__(
            wiring.Signature(
                {
                    **dict.fromkeys(("s", "c"), In(rows_bits)),
                    "first": In(1),
                    "acc": In(self.word.bits),
                    "next": Out(self.word.bits),
                }
            ),
            {"a": width, "g": min(group, width), "r": rows_bits, "b": bias % (1 << width)}
            | ({} if style == "ripple" else {"f": style}),
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        width = self.word.width
        acc = Signal(self.word.bits, name="kept")
        m.d.comb += acc.eq(Mux(self.first, 0, self.acc))
        columns = Columns(width)
        columns.add(acc[:width])
        top = self.rows_bits - 1
        if self.bias == -(1 << top):
            # The rows' sum has at most rows_bits bits, so their top bits are not both set: what they and the bias
            # say together is one sign, whose copies fill the upper columns.
            missing = Signal(name="missing")
            m.d.comb += missing.eq(~(self.s[top] | self.c[top]))
            columns.add(self.s[:top])
            columns.add(self.c[:top])
            columns.add(missing.replicate(width - top), top)
        else:
            columns.add(self.s)
            columns.add(self.c)
            columns.constant(self.bias)
        a, b = columns.reduce(m)
        m.d.comb += self.next.eq(self.word.added(m, a, b, acc[width:], style=self.style))
        return m
