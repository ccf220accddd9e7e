# SPDX-License-Identifier: Apache-2.0
# amaranth: UnusedElaboratable=no
"""The processing element of OPT1 and OPT2: products and sums that stay in carry-save form.

OPT1 (HPCA 2025, "compressed accumulation") takes the carry-propagate addition out of the loop over k; here its
state is the cheaper high-radix form of :class:`hw.arith.saved.Saved`. OPT2 ("same bit-weight compressor array") sums
the digits of each weight apart and shifts once, after the loop: its rows are short, and no row is shifted inside.
"""

from functools import lru_cache

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.digits import DIGIT_BITS, digit_count
from hw.arith.dot import CarrySaveDot
from hw.arith.saved import Saved, SavedAccumulate
from hw.unit import Unit, place

__all__ = ["CarrySavePe", "chain_bits"]


@lru_cache
def chain_bits(elements: int, *, lanes: int, x_bits: int, w_bits: int, encoding: str) -> int:
    """Width of the sum that a chain of ``elements`` needs, so that none of its sums exceeds it."""
    dot = CarrySaveDot(lanes=lanes, x_bits=x_bits, w_bits=w_bits, encoding=encoding)
    return dot.out_bits + (elements - 1).bit_length()


class CarrySavePe(Unit):
    """Sums ``lanes`` products a cycle, as two rows in registers, and adds them to a :class:`Saved` word.

    Alone it keeps the word (an accumulator); ``chained`` it adds to the word of the element before and passes it on.
    A chain starts with :meth:`chain_start` and stays positive: its word may be extended with zeros, and its value
    is the word less ``2**(width - 1)``.

    Latency
    -------
    ``latency`` cycles from ``x`` and ``w`` to the rows that are added; one more to ``acc``.

    Parameters
    ----------
    lanes : products a cycle
    x_bits, w_bits : 2 to 16, signed
    width : bits of the sum
    apart : sum each weight of x's digits apart (OPT2)
    encoding : of x: "booth", "ent", "csd", "array" (none), or "digits": x arrives as digits
    group : bits between saved carries; from ``width`` on the word is resolved every cycle
    cut : registers after so many levels of the adders that sum the products; 0: only behind them
    style : the adders of a group, one of :data:`hw.arith.adders.ADDERS`
    chained : whether the sum comes from outside

    Members
    -------
    x, w : ``In(lanes * x_bits)`` or ``In(lanes * digits * 3)``, ``In(lanes * w_bits)``
    run : ``In(1)``, moves the registers of the products
    add : ``In(1)``, the rows are added now
    first : ``In(1)``, to zero (not if chained)
    above : ``In(word_bits)``, what they are added to (if chained)
    acc : ``Out(word_bits)``, a register

    Raises
    ------
    ValueError
        For what its parts refuse, or a chain of sums that are apart.
    """

    shared = True

    def __init__(
        self, *, lanes: int, x_bits: int, w_bits: int, width: int, apart: bool = False,
        encoding: str = "digits", group: int = 4, cut: int = 0, style: str = "ripple",
        chained: bool = False,
    ) -> None:  # fmt: skip
        if apart and (chained or encoding != "digits"):
            raise ValueError("sums apart by weight need digits from outside, and no chain")
        count = digit_count(x_bits)
        self.lanes, self.apart, self.chained, self.width = lanes, apart, chained, width
        self.group, self.style = group, style
        self._digits = count if encoding == "digits" else 0
        # What lies above the width is dropped; a sum of high weight needs fewer bits of its own.
        self.words = [
            Saved(width - 2 * n, group) for n in range(count if apart else 1) if width > 2 * n
        ]
        self.dots = [
            CarrySaveDot(
                lanes=lanes, x_bits=x_bits, w_bits=w_bits, encoding=encoding, cut=cut,
                digits=1 if apart else None,
            )
            for _ in self.words
        ]  # fmt: skip
        self.dot = self.dots[0]
        self.latency = self.dot.latency + 1
        self.accumulates = [
            SavedAccumulate(
                width=word.width, group=group, rows_bits=min(self.dot.out_bits, word.width),
                bias=0 if chained else self.dot.bias, style=style,
            )
            for word in self.words
        ]  # fmt: skip
        self.word_bits = sum(word.bits for word in self.words)
        ports = {
            "x": In(lanes * (self._digits * DIGIT_BITS or x_bits)),
            "w": In(lanes * w_bits),
            "run": In(1),
            "add": In(1),
            "above" if chained else "first": In(self.word_bits if chained else 1),
            "acc": Out(self.word_bits),
        }
        key: dict[str, int | str] = {
            "l": lanes,
            "x": x_bits,
            "w": w_bits,
            "a": width,
            "e": encoding,
        }
        key |= {"g": group, "c": cut}
        if style != "ripple":
            key["f"] = style
        super().__init__(
            wiring.Signature(ports),
            key | ({"apart": 1} if apart else {}) | ({"chained": 1} if chained else {}),
        )

    def chain_start(self, elements: int) -> int:
        """What a chain of ``elements`` starts with, so that ``2**(width - 1)`` means zero."""
        return (1 << (self.width - 1)) + elements * self.dot.bias

    def elaborate(self, platform) -> Module:
        m = Module()
        acc = Signal(self.word_bits, name="sum", reset_less=True)
        following = []
        begin = 0
        for n, word in enumerate(self.words):
            dot = place(m, f"products_{n}", self.dots[n])
            unit = place(m, f"accumulate_{n}", self.accumulates[n])
            m.d.comb += [dot.x.eq(self._weight(n)), dot.w.eq(self.w)]
            if dot.latency:
                m.d.comb += dot.enable.eq(self.run)
            end = begin + word.bits
            m.d.comb += [
                unit.s.eq(self._held(m, dot.s, f"s_{n}")),
                unit.c.eq(self._held(m, dot.c, f"c_{n}")),
                unit.first.eq(0 if self.chained else self.first),
                unit.acc.eq((self.above if self.chained else acc)[begin:end]),
            ]
            following.append(unit.next)
            begin = end
        m.d.comb += self.acc.eq(acc)
        with m.If(self.add):
            m.d.sync += acc.eq(Cat(following))
        return m

    def _weight(self, n: int) -> Value:
        """Digits of weight n of all lanes, or x as it is."""
        if not self.apart:
            return self.x
        digits = range(n, self.lanes * self._digits, self._digits)
        return Cat(self.x[d * DIGIT_BITS : (d + 1) * DIGIT_BITS] for d in digits)

    def _held(self, m: Module, value: Value, name: str) -> Signal:
        held = Signal(len(value), name=name, reset_less=True)
        with m.If(self.run):
            m.d.sync += held.eq(value)
        return held
