# SPDX-License-Identifier: Apache-2.0
# amaranth: UnusedElaboratable=no
"""Digit-serial multiplication: one non-zero digit of an operand a cycle, zeros cost nothing.

The processing elements of OPT3 and OPT4 (HPCA 2025, "sparse" partial products). A :class:`DigitSequencer` finds the
next digit that is not zero; a :class:`DigitSerialPe` multiplies one weight by it, which takes a shift and no
multiplier, and adds the row to a sum of high radix. OPT4C shares the sequencer among all elements that see the same
activations; OPT3 has one in every element (:class:`DigitSkippingPe`); OPT4E gives one element several lanes, whose
rows share one compressor tree and one sum.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.columns import Columns
from hw.arith.digits import DIGIT_BITS, check_bits, unpack_digits
from hw.arith.saved import Saved, SavedAccumulate
from hw.unit import Unit, place

__all__ = ["DigitSequencer", "DigitSerialPe", "DigitSkippingPe", "step_bits"]


def step_bits(digits: int) -> int:
    """Bits of a digit with its place among ``digits``, on a wire: two, negative, place (lowest first)."""
    return 2 + (digits - 1).bit_length()


def _first(m: Module, bits: list[Value], name: str) -> Signal:
    """The lowest of ``bits`` that is set, alone."""
    upto: list[Value] = list(bits)  # some bit up to here is set: prefixes as Sklansky combines them
    level = 0
    while 1 << level < len(bits):
        below = list(upto)
        for n in range(len(bits)):
            if n >> level & 1:
                upto[n] = Signal(name=f"{name}_{level}_{n}")
                m.d.comb += upto[n].eq(below[n] | below[(n >> level << level) - 1])
        level += 1
    found = Signal(len(bits), name=name)
    m.d.comb += found.eq(Cat(bits) & ~(Cat(Const(0, 1), *upto[:-1])))
    return found


def _at_most_one(bits: list[Value]) -> Value:
    """Whether no two of ``bits`` are set."""
    pairs: list[tuple[Value, Value]] = [(bit, Const(0, 1)) for bit in bits]  # (any, more than one)
    while len(pairs) > 1:
        joined = [
            (low | high, low_more | high_more | (low & high))
            for (low, low_more), (high, high_more) in zip(pairs[::2], pairs[1::2], strict=False)
        ]
        pairs = joined + pairs[2 * len(joined) :]
    return ~pairs[0][1]


class DigitSequencer(Unit):
    """Visits the digits that are not zero of some operands, one a cycle.

    Latency
    -------
    The first digit of ``code`` is selected in the cycle after ``take``, the others follow. If there is none, nothing
    is selected for a cycle.

    Parameters
    ----------
    elements : operands
    digits : digits of each

    Members
    -------
    code : ``In(elements * digits * 3)``, see :class:`hw.arith.digits.DigitEncoder`
    take : ``In(1)``, go on with ``code``; what is left of the operands before is forgotten
    select : ``Out(elements)``, the operand whose digit it is, one bit set at most
    digit : ``Out(step_bits(digits))``, the digit
    ending : ``Out(1)``, at most one digit is left behind the one that is selected
    """

    shared = True

    def __init__(self, *, elements: int, digits: int) -> None:
        self.elements, self.digits = elements, digits
        super().__init__(
            wiring.Signature(
                {
                    "code": In(elements * digits * DIGIT_BITS),
                    "take": In(1),
                    "select": Out(elements),
                    "digit": Out(step_bits(digits)),
                    "ending": Out(1),
                }
            ),
            {"n": elements, "d": digits},
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        left = Signal.like(self.code, name="left")
        chosen = Signal(self.elements)
        digit = Signal.like(self.digit, name="chosen_digit", reset_less=True)
        # Two searches side by side, as to search in what `take` chooses would take longer.
        new, old = self._search(m, self.code, "new"), self._search(m, left, "old")
        for register, a, b in zip((chosen, digit, left), new, old, strict=True):
            m.d.sync += register.eq(Mux(self.take, a, b))
        m.d.comb += [
            self.select.eq(chosen),
            self.digit.eq(digit),
            self.ending.eq(_at_most_one([~d.zero for d in unpack_digits(left)])),
        ]
        return m

    def _search(self, m: Module, code: Value, name: str) -> tuple[Value, Value, Value]:
        """Of the first digit in ``code``: its operand, itself, and what is left without it."""
        size = self.digits * DIGIT_BITS
        operands = [unpack_digits(code[e * size :][:size]) for e in range(self.elements)]
        some = [Cat(~digit.zero for digit in operand) for operand in operands]
        chosen = _first(m, [bits.any() for bits in some], f"{name}_operand")
        steps, left = [], []
        for e, operand in enumerate(operands):
            first = _first(m, list(some[e]), f"{name}_digit_{e}")
            lines = [Cat(d.two for d in operand), Cat(d.negative for d in operand)]
            step = Signal(step_bits(self.digits), name=f"{name}_step_{e}")
            places = [
                Cat(f for n, f in enumerate(first) if n >> bit & 1).any()
                for bit in range(len(step) - 2)
            ]
            m.d.comb += step.eq(Cat(*((line & first).any() for line in lines), *places))
            steps.append(step & chosen[e].replicate(len(step)))
            for digit, visited in zip(operand, first, strict=True):
                stays = ~(visited & chosen[e])
                left.append(Cat(digit.one & stays, digit.two & stays, digit.negative))
        merged = Cat(Cat(step[n] for step in steps).any() for n in range(len(self.digit)))
        return chosen, merged, Cat(left)


class DigitSerialPe(Unit):
    """Multiplies one weight a cycle and lane by a digit, and adds the rows of all lanes to a sum.

    The registers always move: what is not selected adds zero, which leaves the sum as it is.

    Latency
    -------
    ``latency`` cycles from ``select`` to ``acc``: the shifted rows, with several lanes the two rows that their tree
    leaves, the sum.

    Parameters
    ----------
    lanes : digits a cycle
    elements : weights to choose from in each lane
    digits : places of a digit: place i has weight ``4**i``
    w_bits : bits of a weight, 2 to 16, signed
    width : bits of the sum
    group : bits between its saved carries, see :class:`hw.arith.saved.Saved`

    Members
    -------
    w : ``In(lanes * elements * w_bits)``, lane by lane
    select : ``In(lanes * elements)``, at most one bit of a lane is set
    digit : ``In(lanes * step_bits(digits))``
    clear : ``In(1)``, what is added now starts a new sum: of the old one this is the last cycle
    acc : ``Out(Saved(width, group).bits)``

    Raises
    ------
    ValueError
        For a width outside 2 to 16, a sum narrower than a row, or groups of less than a bit.
    """

    shared = True

    def __init__(
        self, *, lanes: int, elements: int, digits: int, w_bits: int, width: int, group: int = 2
    ) -> None:
        check_bits("w_bits", w_bits)
        self.lanes, self.elements, self.digits, self.w_bits = lanes, elements, digits, w_bits
        self.word = Saved(width, group)
        self.row_bits = w_bits + 2 * digits - 1  # twice a weight at the highest place, signed
        if self.row_bits > width:
            raise ValueError(f"rows of {self.row_bits} bits exceed an accumulator of {width}")
        self.latency = 2 if lanes == 1 else 3
        super().__init__(
            wiring.Signature(
                {
                    "w": In(lanes * elements * w_bits),
                    "select": In(lanes * elements),
                    "digit": In(lanes * step_bits(digits)),
                    "clear": In(1),
                    "acc": Out(self.word.bits),
                }
            ),
            {"l": lanes, "n": elements, "d": digits, "w": w_bits, "a": width, "g": group},
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        rows, negatives = [], []
        for lane in range(self.lanes):
            row, negative = self._row(m, lane)
            rows.append(self._held(m, row, f"row_{lane}"))
            negatives.append(negative)
        # What the rows lack to be negative, see `multiple`.
        missing = Signal(len(negatives).bit_length(), name="missing")
        m.d.comb += missing.eq(sum(negatives[1:], negatives[0]))
        missing = self._held(m, missing, "missing_held")

        acc = Signal(self.word.bits, reset_less=True)
        m.d.comb += self.acc.eq(acc)
        if self.lanes == 1:
            kept = Signal.like(acc, name="kept")
            m.d.comb += kept.eq(acc & ~self.clear.replicate(len(acc)))
            width = self.word.width
            row = rows[0].as_signed()
            extended = Signal(width, name="extended")
            m.d.comb += extended.eq(row)
            m.d.sync += acc.eq(
                self.word.added(m, kept[:width], extended, kept[width:], carry=missing)
            )
        else:
            unit, s, c = self._tree(m, rows, missing)
            m.d.comb += [unit.s.eq(s), unit.c.eq(c), unit.first.eq(self.clear), unit.acc.eq(acc)]
            m.d.sync += acc.eq(unit.next)
        return m

    def _row(self, m: Module, lane: int) -> tuple[Value, Value]:
        """``digit * weight`` of a lane, less one if the digit is negative; and whether it is."""
        begin, bits = lane * self.elements, self.w_bits
        step = self.digit[lane * step_bits(self.digits) :][: step_bits(self.digits)]
        two, negative, places = step[0], step[1], step[2:]
        w = Signal(bits, name=f"w_{lane}")
        weights = [self.w[n * bits : (n + 1) * bits] for n in range(begin, begin + self.elements)]
        chosen = [
            weight & self.select[begin + n].replicate(bits) for n, weight in enumerate(weights)
        ]
        m.d.comb += w.eq(Cat(Cat(word[bit] for word in chosen).any() for bit in range(bits)))
        row = Signal(bits + 1, name=f"multiple_{lane}")
        m.d.comb += row.eq(
            Mux(two, Cat(Const(0, 1), w), Cat(w, w[-1])) ^ negative.replicate(bits + 1)
        )
        for n, selected in enumerate(places):
            amount = 2 << n
            size = min(len(row) + amount, self.row_bits)
            stays = Cat(row, row[-1].replicate(amount))[:size]
            moves = Cat(negative.replicate(amount), row)[:size]
            row = Signal(size, name=f"shifted_{lane}_{n}")
            m.d.comb += row.eq(Mux(selected, moves, stays))
        return row, negative

    def _tree(
        self, m: Module, rows: list[Signal], missing: Signal
    ) -> tuple[SavedAccumulate, Value, Value]:
        """What adds the rows to the sum, and all of them as two, in registers."""
        width = self.word.width
        # The largest sum is that of digits -2 and weights at their minimum.
        bits = (len(rows) << (self.row_bits - 1)).bit_length() + 1
        bias = -1 << (bits - 1) if bits < width else 0
        bits = min(bits, width)
        columns = Columns(bits)
        for row in rows:
            columns.add(row, signed=True)
        columns.add(missing)
        columns.constant(-bias)
        s, c = columns.reduce(m)
        unit = SavedAccumulate(width=width, group=self.word.group, rows_bits=bits, bias=bias)
        return place(m, "accumulate", unit), self._held(m, s, "s"), self._held(m, c, "c")

    def _held(self, m: Module, value: Value, name: str) -> Signal:
        held = Signal(len(value), name=name, reset_less=True)
        m.d.sync += held.eq(value)
        return held


class DigitSkippingPe(Unit):
    """A :class:`DigitSerialPe` of one lane with its own :class:`DigitSequencer` (OPT3).

    Parameters
    ----------
    As of :class:`DigitSerialPe`, with one lane.

    Members
    -------
    w : ``In(elements * w_bits)``
    code, take, ending : as of :class:`DigitSequencer`
    clear, acc : as of :class:`DigitSerialPe`
    """

    shared = True

    def __init__(
        self, *, elements: int, digits: int, w_bits: int, width: int, group: int = 2
    ) -> None:
        self._sequencer = DigitSequencer(elements=elements, digits=digits)
        self._pe = DigitSerialPe(
            lanes=1, elements=elements, digits=digits, w_bits=w_bits, width=width, group=group
        )
        self.word, self.latency = self._pe.word, self._pe.latency
        of_both = {
            **{n: self._sequencer.signature.members[n] for n in ("code", "take", "ending")},
            **{n: self._pe.signature.members[n] for n in ("w", "clear", "acc")},
        }
        super().__init__(
            wiring.Signature(of_both), {k: v for k, v in self._pe.key.items() if k != "l"}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        sequencer, pe = place(m, "sequencer", self._sequencer), place(m, "pe", self._pe)
        for name in ("code", "take"):
            m.d.comb += getattr(sequencer, name).eq(getattr(self, name))
        for name in ("w", "clear"):
            m.d.comb += getattr(pe, name).eq(getattr(self, name))
        m.d.comb += [
            pe.select.eq(sequencer.select),
            pe.digit.eq(sequencer.digit),
            self.acc.eq(pe.acc),
            self.ending.eq(sequencer.ending),
        ]
        return m
