# SPDX-License-Identifier: Apache-2.0
"""Where sums leave their carry-save form: compression of several words to two, and the one long addition."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.adders import add, check_adder
from hw.arith.columns import Columns
from hw.arith.saved import Saved
from hw.unit import Unit

__all__ = ["Resolve"]


class Resolve(Unit):
    """``total = sum(word[i] * 2**(step * i))`` modulo ``2**width``, for words of the form :class:`Saved`.

    Word i is exact modulo ``2**(width - step * i)``, which is all that the total can see of it. So no sign is ever
    extended.

    Latency
    -------
    ``latency`` cycles with ``enable``: a register after every ``cut`` levels of compressors, and ``stages`` for the
    addition.

    Parameters
    ----------
    width : bits of the total
    words : how many words
    group : bits between the saved carries of a word
    step : bits by which each word is shifted against the one before
    style : one of :data:`hw.arith.adders.ADDERS`
    stages : 1, or 2 for an addition in two halves
    cut : levels of compressors

    Members
    -------
    word : ``In(...)``, the words side by side, the first one lowest
    enable : ``In(1)``
    total : ``Out(width)``, a register

    Raises
    ------
    ValueError
        For an unknown adder or a number of stages other than 1 and 2.
    """

    def __init__(
        self, *, width: int, words: int = 1, group: int, step: int = 0, style: str = "plain",
        stages: int = 1, cut: int = 2,
    ) -> None:  # fmt: skip
        check_adder(style)
        if stages not in (1, 2):
            raise ValueError(f"an addition takes 1 or 2 stages, not {stages!r}")
        self.width, self.step, self.style, self.stages, self.cut = width, step, style, stages, cut
        self.words = [Saved(width - step * n, group) for n in range(words)]
        self.word_bits = sum(word.bits for word in self.words)
        counted = Columns(width)
        self._add_to(counted, Signal(self.word_bits))
        self._levels = counted.stages()
        self.latency = -(-self._levels // cut) + stages
        key: dict[str, int | str] = {"a": width, "n": words, "g": group, "s": step}
        super().__init__(
            wiring.Signature({"word": In(self.word_bits), "enable": In(1), "total": Out(width)}),
            key | {"f": style, "p": stages, "c": cut},
        )

    def _add_to(self, columns: Columns, words: Value) -> None:
        for n, word in enumerate(self.words):
            word.add_to(columns, words[: word.bits], self.step * n)
            words = words[word.bits :]

    def elaborate(self, platform) -> Module:
        m = Module()
        columns = Columns(self.width)
        self._add_to(columns, self.word)
        rows = columns.reduce(m, cut=self.cut, enable=self.enable)
        if self._levels:
            rows = [self._held(m, row, f"row_{n}") for n, row in enumerate(rows)]
        a, b = rows
        if self.stages == 2:
            low = self.width // 2
            half = self._held(m, add(m, a[:low], b[:low], style=self.style), "half")
            high = add(
                m, self._held(m, a[low:], "high_a"), self._held(m, b[low:], "high_b"),
                style=self.style, carry=half[low],
            )  # fmt: skip
            total = Cat(half[:low], high)[: self.width]
        else:
            total = add(m, a, b, style=self.style)[: self.width]
        m.d.comb += self.total.eq(self._held(m, total, "resolved"))
        return m

    def _held(self, m: Module, value: Value, name: str) -> Signal:
        held = Signal(len(value), name=name, reset_less=True)
        with m.If(self.enable):
            m.d.sync += held.eq(value)
        return held
