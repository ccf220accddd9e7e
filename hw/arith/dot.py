# SPDX-License-Identifier: Apache-2.0
# amaranth: UnusedElaboratable=no
"""Sums of products that end as two rows: their addition is left to whoever needs the number."""

from amaranth.hdl import Const, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.arith.adders import add, check_adder
from hw.arith.columns import Columns, check_compressor
from hw.arith.digits import DIGIT_BITS, ENCODINGS, check_bits, digit_count, unpack_digits
from hw.arith.products import add_product
from hw.unit import Unit, place

__all__ = ["CarrySaveDot", "Multiplier"]


def _bounds(bits: int, signed: bool) -> tuple[int, int]:
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)


class _Products:
    """Adds ``lanes`` products to columns; what :class:`CarrySaveDot` and :class:`Multiplier` share."""

    def __init__(
        self, *, lanes: int, x_bits: int, w_bits: int, x_signed: bool, w_signed: bool,
        encoding: str, digits: int | None,
    ) -> None:  # fmt: skip
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes!r}")
        check_bits("x_bits", x_bits)
        check_bits("w_bits", w_bits)
        known = ("array", "digits", *ENCODINGS)
        if encoding not in known:
            raise ValueError(f"encoding {encoding!r} is not known (known: {', '.join(known)})")
        self.lanes, self.x_bits, self.w_bits = lanes, x_bits, w_bits
        self.x_signed, self.w_signed, self.encoding = x_signed, w_signed, encoding
        self.digits = digits or digit_count(x_bits, signed=x_signed)
        self.lane_bits = self.digits * DIGIT_BITS if encoding == "digits" else x_bits

    def add_to(self, m: Module, columns: Columns, x: Value, w: Value) -> None:
        for lane in range(self.lanes):
            encoded = x[lane * self.lane_bits : (lane + 1) * self.lane_bits]
            value = w[lane * self.w_bits : (lane + 1) * self.w_bits]
            if self.encoding == "digits":
                add_product(
                    m, columns, unpack_digits(encoded), value,
                    value_signed=self.w_signed, name=f"lane_{lane}",
                )  # fmt: skip
            else:
                add_product(
                    m, columns, encoded, value, encoding=self.encoding,
                    encoded_signed=self.x_signed, value_signed=self.w_signed, name=f"lane_{lane}",
                )  # fmt: skip

    def add_constants(self, columns: Columns) -> None:
        """The same addends as constants."""
        x, w = Const(0, self.lanes * self.lane_bits), Const(0, self.lanes * self.w_bits)
        self.add_to(Module(), columns, x, w)

    def sum_bits(self, constant: int) -> int:
        """Bits of the sum if half their range is added to it, which makes it positive.

        ``constant`` is what the inverted signs of the rows add up to. With the half range it stays positive, so no
        carry of the compression is dropped.
        """
        x_low, x_high = _bounds(self.x_bits, self.x_signed)
        if self.encoding == "digits":
            x_high = 2 * (4**self.digits - 1) // 3
            x_low = -x_high
        products = [x * w for x in (x_low, x_high) for w in _bounds(self.w_bits, self.w_signed)]
        magnitude = max(-constant, -self.lanes * min(products), self.lanes * max(products))
        return magnitude.bit_length() + 1

    @property
    def key(self) -> dict[str, int | str]:
        """What makes the products unique, for the name of a module."""
        key: dict[str, int | str] = {
            "l": self.lanes, "x": self.x_bits, "w": self.w_bits, "e": self.encoding,
        }  # fmt: skip
        if self.encoding == "digits":
            key["d"] = self.digits
        signs = f"{'s' if self.x_signed else 'u'}{'s' if self.w_signed else 'u'}"
        return key | ({} if signs == "ss" else {"g": signs})


BLOCK = 16
"""Lanes that a long :class:`CarrySaveDot` sums in a unit of its own, of which it has several."""


class CarrySaveDot(Unit):
    """Sum of ``lanes`` products ``x * w`` as two rows.

    They are exact and all bits positive: ``s + c + bias = sum(x * w)``, and both rows may be extended with zeros.
    ``bias`` is ``-2**(out_bits - 1)`` and ``s + c`` less than ``2**out_bits``.
    :class:`hw.arith.saved.SavedAccumulate` adds the rows and the bias.

    Four blocks and more of ``BLOCK`` lanes are units of the same kind, emitted once, whose rows are added together: a
    level of adders or two more, and the text hardly grows with the lanes.

    Latency
    -------
    ``latency`` cycles with ``enable``: the registers inside the tree; 0 makes it combinational.

    Parameters
    ----------
    lanes : products
    x_bits, w_bits : 2 to 16
    x_signed, w_signed : two's complement (default), or unsigned
    encoding : of x: "booth", "ent", "csd", "array" (none), or "digits": x arrives as digits, see
        :class:`hw.arith.digits.DigitEncoder`
    digits : with encoding "digits": digits of a lane, by default all of ``x_bits``; the first has weight 1
    cut : registers after so many levels of adders (but not after the last); 0: none

    Members
    -------
    x : ``In(lanes * x_bits)``, or ``In(lanes * digits * 3)``
    w : ``In(lanes * w_bits)``
    enable : ``In(1)``, if there are registers
    s, c : ``Out(out_bits)``

    Raises
    ------
    ValueError
        For widths outside 2 to 16, or an unknown encoding.
    """

    shared = True

    def __init__(
        self, *, lanes: int, x_bits: int, w_bits: int, x_signed: bool = True, w_signed: bool = True,
        encoding: str = "booth", digits: int | None = None, cut: int = 0,
    ) -> None:  # fmt: skip
        self._products = products = _Products(
            lanes=lanes, x_bits=x_bits, w_bits=w_bits, x_signed=x_signed, w_signed=w_signed,
            encoding=encoding, digits=digits,
        )  # fmt: skip
        self.cut = cut
        apart = lanes >= 4 * BLOCK and lanes % BLOCK == 0
        self._blocks = [
            CarrySaveDot(
                lanes=BLOCK, x_bits=x_bits, w_bits=w_bits, x_signed=x_signed, w_signed=w_signed,
                encoding=encoding, digits=digits, cut=cut,
            )
            for _ in range(lanes // BLOCK if apart else 0)
        ]  # fmt: skip
        counted = self._counted(x_bits + w_bits + lanes.bit_length() + 4)
        self.out_bits = products.sum_bits(counted.take_constant())
        self.bias = -1 << (self.out_bits - 1)
        counted = self._counted(self.out_bits)
        counted.constant(-self.bias)
        self._before = self._blocks[0].levels if self._blocks else 0
        self.levels = self._before + counted.stages()
        self.latency = (self.levels - 1) // cut if cut and self.levels else 0
        ports = {
            "x": In(lanes * products.lane_bits),
            "w": In(lanes * w_bits),
            "s": Out(self.out_bits),
            "c": Out(self.out_bits),
        }
        if self.latency:
            ports["enable"] = In(1)
        super().__init__(wiring.Signature(ports), products.key | ({"c": cut} if cut else {}))

    def _counted(self, width: int) -> Columns:
        """The addends as constants, to learn their number and weight before there is hardware."""
        columns = Columns(width)
        if not self._blocks:
            self._products.add_constants(columns)
        for block in self._blocks:
            _add_rows(columns, block, Const(0, block.out_bits), Const(0, block.out_bits))
        return columns

    def elaborate(self, platform) -> Module:
        m = Module()
        columns = Columns(self.out_bits)
        enable = self.enable if self.latency else None
        if not self._blocks:
            self._products.add_to(m, columns, self.x, self.w)
        for n, block in enumerate(self._blocks):
            place(m, f"block_{n}", block)
            m.d.comb += [
                block.x.eq(self.x.word_select(n, len(block.x))),
                block.w.eq(self.w.word_select(n, len(block.w))),
            ]
            if block.latency:
                m.d.comb += block.enable.eq(enable)
            _add_rows(columns, block, block.s, block.c)
        columns.constant(-self.bias)
        s, c = columns.reduce(m, cut=self.cut, before=self._before, enable=enable)
        m.d.comb += [self.s.eq(s), self.c.eq(c)]
        return m


def _add_rows(columns: Columns, block: CarrySaveDot, s: Value, c: Value) -> None:
    columns.add(s)
    columns.add(c)
    columns.constant(block.bias)


class Multiplier(Unit):
    """``product = x * w``, combinationally.

    Parameters
    ----------
    x_bits, w_bits, x_signed, w_signed, encoding : as of :class:`CarrySaveDot` (not "digits")
    adder : one of :data:`hw.arith.adders.ADDERS`
    compressor : one of :data:`hw.arith.columns.COMPRESSORS`

    Members
    -------
    x, w : ``In(x_bits)``, ``In(w_bits)``
    product : ``Out(x_bits + w_bits)``, signed if one of them is
    """

    def __init__(
        self, *, x_bits: int, w_bits: int, x_signed: bool = True, w_signed: bool = True,
        encoding: str = "booth", adder: str = "plain", compressor: str = "3:2",
    ) -> None:  # fmt: skip
        if encoding == "digits":
            raise ValueError("a multiplier encodes by itself: give booth, ent, csd or array")
        check_adder(adder)
        self._products = _Products(
            lanes=1, x_bits=x_bits, w_bits=w_bits, x_signed=x_signed, w_signed=w_signed,
            encoding=encoding, digits=None,
        )  # fmt: skip
        check_compressor(compressor)
        self.adder, self.compressor = adder, compressor
        ports = {"x": In(x_bits), "w": In(w_bits), "product": Out(x_bits + w_bits)}
        key = self._products.key | {"s": adder}
        if compressor != "3:2":
            key["c"] = 42
        super().__init__(wiring.Signature(ports), key)

    def elaborate(self, platform) -> Module:
        m = Module()
        columns = Columns(len(self.product))
        self._products.add_to(m, columns, self.x, self.w)
        a, b = columns.reduce(m, compressor=self.compressor)
        m.d.comb += self.product.eq(add(m, a, b, style=self.adder))
        return m
