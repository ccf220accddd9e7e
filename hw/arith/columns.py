# SPDX-License-Identifier: Apache-2.0
"""Sums in carry-save form: bits sorted by weight, compressed until few rows are left.

Compression by 3:2 compressors (full adders) follows Dadda (1965): as few full and half adders as the height of the
columns allows, in stages of equal depth. That by 4:2 compressors (Weinberger, 1981) halves the height with a pair of
full adders in a row, whose inner carry goes sideways: a more regular tree of fewer levels, each of them longer.

The adders of a stage are words, not single bits, wherever their inputs lie side by side: such text is read, and
simulated, faster.
"""

from amaranth.hdl import Cat, Const, Module, Signal, Value

__all__ = ["COMPRESSORS", "Columns", "check_compressor", "stage_heights"]

COMPRESSORS = ("3:2", "4:2")


def check_compressor(compressor: str) -> None:
    """Raise ValueError unless ``compressor`` is one of ``COMPRESSORS``."""
    if compressor not in COMPRESSORS:
        raise ValueError(
            f"compressor {compressor!r} is not known (known: {', '.join(COMPRESSORS)})"
        )


def stage_heights(rows: int, height: int) -> list[int]:
    """Heights at which stages end, from ``height`` down to ``rows`` (without ``height`` itself)."""
    heights = [rows]
    while heights[-1] < height:
        heights.append(heights[-1] * 3 // 2)
    return heights[-2::-1]


class Columns:
    """Addends of a sum modulo ``2**width``.

    Parameters
    ----------
    width : bits of the sum; what exceeds them is dropped
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._bits: list[list[Value]] = [[] for _ in range(width)]
        self._constant = 0

    def add(self, value: Value, offset: int = 0, *, signed: bool = False) -> None:
        """Add ``value * 2**offset``.

        The sign of a signed value is not extended: its bit enters inverted, and ``-2**position`` joins the
        constant (``-s = (1 - s) - 1``).
        """
        for n, bit in enumerate(value.as_unsigned()):
            position = offset + n
            if position >= self.width:
                break
            if signed and n == len(value) - 1 and position < self.width - 1:
                self._bits[position].append(~bit)
                self.constant(-1 << position)
            else:  # the sign in the highest column: there -1 and 1 are the same
                self._bits[position].append(bit)

    def constant(self, value: int) -> None:
        """Add an integer that is known now; all of them cost one row at most."""
        self._constant += value

    def take_constant(self) -> int:
        """The constant, which is then no longer part of this sum: who uses the sum adds it.

        Without it all addends are positive, so if ``width`` holds :attr:`maximum` no carry is dropped and the rows
        of :meth:`reduce` may be extended with zeros. A pipeline then stores no bits of the sign.
        """
        constant, self._constant = self._constant, 0
        return constant

    @property
    def maximum(self) -> int:
        """The sum if all bits are set, without the constant."""
        return sum(len(column) << n for n, column in enumerate(self._bits))

    @property
    def height(self) -> int:
        """Bits of the highest column."""
        return max(len(column) for column in self._columns())

    def _columns(self) -> list[list[Value]]:
        """All bits, those of the constant last."""
        one = Const(1, 1)
        return [c + [one] * ((self._constant >> n) & 1) for n, c in enumerate(self._bits)]

    def stages(self, rows: int = 2) -> int:
        """Levels of adders that :meth:`reduce` takes."""
        return len(stage_heights(rows, self.height))

    def reduce(
        self,
        m: Module,
        rows: int = 2,
        *,
        name: str = "tree",
        cut: int = 0,
        before: int = 0,
        enable: Value | None = None,
        compressor: str = "3:2",
    ) -> list[Value]:
        """Compress to ``rows`` addends of ``width`` bits with the same sum.

        Parameters
        ----------
        m : where the adders are put
        rows : 2 or more
        name : prefix of the signals
        cut : registers after every so many stages but the last; 0: none
        before : stages that the addends have behind them, counted for ``cut``
        enable : of these registers
        compressor : one of ``COMPRESSORS``; registers are for "3:2" only
        """
        check_compressor(compressor)
        if compressor == "4:2":
            return self._halve(m, rows, name)
        columns = self._columns()
        if cut and before and before % cut == 0:
            columns = self._registers(m, columns, f"{name}_in", enable)
        for stage, height in enumerate(stage_heights(rows, self.height)):
            columns = self._stage(m, columns, height, f"{name}_{stage}")
            if cut and (before + stage + 1) % cut == 0 and height > rows:
                columns = self._registers(m, columns, f"{name}_{stage}_held", enable)
        return _rows(columns, rows)

    def _halve(self, m: Module, rows: int, name: str) -> list[Value]:
        """Levels of 4:2 compressors while a column holds four bits more than it may, then one of full adders."""
        columns, level = self._columns(), 0
        while max(len(column) for column in columns) > max(rows, 3):
            columns = self._level_42(m, columns, f"{name}_{level}")
            level += 1
        for height in stage_heights(rows, max(len(column) for column in columns)):
            columns = self._stage(m, columns, height, f"{name}_{level}")
            level += 1
        return _rows(columns, rows)

    def _level_42(self, m: Module, columns: list[list[Value]], name: str) -> list[list[Value]]:
        """One level: of each column four bits and a carry from the side become one bit, and one of the next column."""
        following: list[list[Value]] = [[] for _ in range(self.width)]
        slots: dict[int, list[tuple[int, list[Value]]]] = {}
        for position, column in enumerate(columns):
            whole = len(column) // 4
            for slot in range(whole):
                slots.setdefault(slot, []).append((position, column[4 * slot : 4 * slot + 4]))
            following[position] += column[4 * whole :]
        for slot, compressors in slots.items():
            a, b, c, d = (Cat(taken[n] for _, taken in compressors) for n in range(4))
            count = len(compressors)
            inner, side = (
                Signal(count, name=f"{name}_{what}_{slot}") for what in ("inner", "side")
            )
            # The carry sideways does not depend on the one that enters: it does not ripple.
            m.d.comb += [inner.eq(a ^ b ^ c), side.eq((a & b) | (c & (a | b)))]
            sides = {position + 1: side[n] for n, (position, _) in enumerate(compressors)}
            enters = Cat(sides.pop(position, Const(0, 1)) for position, _ in compressors)
            sums, carry = (Signal(count, name=f"{name}_{what}_{slot}") for what in ("sum", "carry"))
            m.d.comb += [
                sums.eq(inner ^ d ^ enters),
                carry.eq((inner & d) | (enters & (inner | d))),
            ]
            for n, (position, _) in enumerate(compressors):
                following[position].append(sums[n])
                if position + 1 < self.width:
                    following[position + 1].append(carry[n])
            for position, bit in sides.items():  # nobody beside takes it
                if position < self.width:
                    following[position].append(bit)
        return following

    def _stage(
        self, m: Module, columns: list[list[Value]], height: int, name: str
    ) -> list[list[Value]]:
        """One level of adders, after which no column is higher than ``height``."""
        following: list[list[Value]] = [[] for _ in range(self.width)]
        slots: dict[tuple[int, int], list[tuple[int, list[Value]]]] = {}
        carries = 0  # that enter this column from the one below
        for position, column in enumerate(columns):
            used, slot, left = 0, 0, len(column) + carries
            carries = 0
            while left > height:
                inputs = 3 if left > height + 1 else 2
                taken = column[used : used + inputs]
                slots.setdefault((slot, inputs), []).append((position, taken))
                used, slot, left, carries = used + inputs, slot + 1, left - inputs + 1, carries + 1
            following[position] += column[used:]
        for (slot, inputs), adders in slots.items():
            words = [Cat(taken[n] for _, taken in adders) for n in range(inputs)]
            sums = Signal(len(adders), name=f"{name}_sum{inputs}_{slot}")
            carry = Signal(len(adders), name=f"{name}_carry{inputs}_{slot}")
            if inputs == 3:
                a, b, c = words
                m.d.comb += [sums.eq(a ^ b ^ c), carry.eq((a & b) | (c & (a | b)))]
            else:
                a, b = words
                m.d.comb += [sums.eq(a ^ b), carry.eq(a & b)]
            for n, (position, _) in enumerate(adders):
                following[position].append(sums[n])
                if position + 1 < self.width:
                    following[position + 1].append(carry[n])
        return following

    def _registers(
        self, m: Module, columns: list[list[Value]], name: str, enable: Value | None
    ) -> list[list[Value]]:
        bits = [bit for column in columns for bit in column if not isinstance(bit, Const)]
        held = Signal(len(bits), name=name, reset_less=True)
        if enable is None:
            m.d.sync += held.eq(Cat(bits))
        else:
            with m.If(enable):
                m.d.sync += held.eq(Cat(bits))
        names = iter(held)
        return [[b if isinstance(b, Const) else next(names) for b in c] for c in columns]


def _rows(columns: list[list[Value]], rows: int) -> list[Value]:
    zero = Const(0, 1)
    return [Cat(c[row] if row < len(c) else zero for c in columns) for row in range(rows)]
