# SPDX-License-Identifier: Apache-2.0
"""Area efficiency of elements and arrays of HPCA'25 in standard cells: ours, the authors' RTL, the published ratios.

``python -m benchmarks.array_area --liberty FILE [--only elements|widths|alone|arrays]``. Both sides of a ratio are
mapped in the same run, where something multiplies also with more adders and Booth on and off; each side counts at its
own best clock. Throughput is products per second; arrays are whole engines: skew, drain, final adders, stall logic. The
rows of elements have none of them, and not the registers of their operands (they count for the period): those of the
table "without" are what the arrays repeat, with an array's lanes, width, and enable.

No wires, no clock tree, typical corner: ratios mean something, absolute figures little. The authors' figures are from
their RTL mapped by the same recipe on IHP sg13g2; this benchmark does not fetch it.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, UnusedElaboratable, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from benchmarks.cells import Alone, map_alone, map_unit
from generators.asic import Point
from generators.liberty import Liberty
from hw.arith.pe import CarrySavePe
from hw.arrays import Engine, accumulator_bits, make_engine
from hw.unit import Unit

__all__ = ["ARRAYS", "MAC", "SAVED", "Mac", "array_engine", "main"]

MAC = {
    "scripts": ("sop", "gia", "gia-lean"), "adders": ("brent-kung", "sklansky"), "booth": (False, True)
}  # fmt: skip
SAVED = {
    "scripts": ("speed", "sop", "gia", "gia-lean"),
    "adders": ("brent-kung",),
    "booth": (False,),
}

AUTHORS = {"mac": (4.701, 7854), "opt1": (2.558, 10983)}
"""Of their 32-bit elements, the authors' RTL on sg13g2: period (ns) and area (um2) at the best area-delay product."""
PUBLISHED = {"systolic_os": 1.27, "systolic_ws": 1.27, "cube": 1.28, "tree": 1.56, "matrix": 1.44}
"""Area efficiency over the array of MACs, in the paper's abstract (SMIC 28 nm)."""

ARRAYS: dict[str, tuple[tuple[int, int, int], dict[str, Any], dict[str, Any]]] = {
    # Shape; parameters of all, of the MACs. Accumulators as in the authors' arrays.
    "systolic_os": ((4, 1, 4), {}, {}),
    "systolic_ws": ((4, 4, 4), {"acc_bits": 20}, {}),
    "cube": ((3, 3, 3), {"hop": 1}, {}),
    "tree": ((1, 16, 2), {}, {"registers": "inside"}),
    "matrix": ((4, 1, 4), {}, {}),
}


class Mac(Unit):
    """The baseline element: multiply, register the products, add their sum to the accumulator.

    Parameters
    ----------
    width : bits of the sum
    lanes : products a cycle
    levels : register each level of the tree that sums them, or none but the products' sum
    pipelined : register the products
    chained : the sum comes from the element before
    held : all registers have an enable, as in an array

    Members
    -------
    x, w : ``In(8 * lanes)``
    first : ``In(1)``, unless chained
    above : ``In(width)``, if chained
    run : ``In(1)``, if held
    acc : ``Out(width)``
    """

    def __init__(
        self, *, width: int, lanes: int = 1, levels: bool = False, pipelined: bool = True,
        chained: bool = False, held: bool = False,
    ) -> None:  # fmt: skip
        self.lanes, self.levels, self.pipelined = lanes, levels, pipelined
        self.chained, self.held = chained, held
        ports = {
            "x": In(8 * lanes),
            "w": In(8 * lanes),
            "above" if chained else "first": In(signed(width) if chained else 1),
            "acc": Out(signed(width)),
        } | ({"run": In(1)} if held else {})
        key: dict[str, int | str] = {
            "a": width, "l": lanes, "t": int(levels), "p": int(pipelined), "c": int(chained),
            "h": int(held),
        }  # fmt: skip
        super().__init__(wiring.Signature(ports), key)

    def elaborate(self, platform) -> Module:
        m = Module()
        terms: list[Value] = [
            self.x.word_select(n, 8).as_signed() * self.w.word_select(n, 8).as_signed()
            for n in range(self.lanes)
        ]
        first = Const(0) if self.chained else self.first
        if not self.levels:
            terms = [sum(terms[1:], start=terms[0])]
        if self.pipelined:
            *terms, first = self._registered(m, [*terms, first])
        while len(terms) > 1:
            pairs = [sum(terms[n + 1 : n + 2], start=terms[n]) for n in range(0, len(terms), 2)]
            *terms, first = self._registered(m, [*pairs, first])
        acc = Signal(self.acc.shape(), reset_less=True, name="total")
        before = self.above if self.chained else Mux(first, 0, acc)
        self._next(m, acc, before + terms[0])
        m.d.comb += self.acc.eq(acc)
        return m

    def _registered(self, m: Module, values: list[Value]) -> list[Value]:
        registers: list[Value] = []
        for value in values:
            register = Signal(value.shape(), reset_less=True)
            self._next(m, register, value)
            registers.append(register)
        return registers

    def _next(self, m: Module, register: Signal, value: Value) -> None:
        with m.If(self.run if self.held else Const(1)):
            m.d.sync += register.eq(value)


def efficiency(products: int, area_um2: float, period_ns: float) -> float:
    """Giga-products per second and mm2."""
    return products * 1e6 / (area_um2 * period_ns)


def _saved(width: int, **options: Any) -> CarrySavePe:
    return CarrySavePe(lanes=1, x_bits=8, w_bits=8, width=width, **options)


def _best(unit: Unit, library: Liberty, **choices: Any) -> tuple[Alone, Alone]:
    found = map_alone(unit, library, **choices)
    return found[0], min(found, key=lambda a: (a.period, a.area))


def _elements(library: Liberty) -> Iterator[str]:
    yield f"one element, 8 x 8 bits, 32-bit accumulator, {library.name}"
    yield f"{'':50}{'best area x period':>25}{'with operand registers':>26}{'fastest':>9}"
    yield f"{'element':50}{'ns':>8}{'um2':>8}{'G/s/mm2':>9}{'um2':>15}{'G/s/mm2':>11}{'ns':>9}"
    rows = [
        ("mac: product and sum in one cycle", Mac(width=32, pipelined=False), MAC),
        ("mac: product registered", Mac(width=32), MAC),
        (
            "fused mac: product as two rows, one adder (own)",
            _saved(32, encoding="booth", group=32, style="sklansky"), SAVED,
        ),
        ("opt1, a carry a bit, Booth inside", _saved(32, encoding="booth", group=1), SAVED),
        ("opt1, a carry every 4 bits, Booth inside", _saved(32, encoding="booth"), SAVED),
        ("opt1, a carry every 4 bits, digits from outside", _saved(32), SAVED),
        ("opt1, a carry every 2 bits, digits from outside", _saved(32, group=2), SAVED),
    ]  # fmt: skip
    for name, unit, choices in rows:
        best, fast = _best(unit, library, **choices)
        rate = efficiency(1, best.area, best.period)
        whole = efficiency(1, best.registered, best.period)
        yield (
            f"{name:50}{best.period:8.3f}{best.area:8.0f}{rate:9.1f}{best.registered:15.0f}{whole:11.1f}{fast.period:9.3f}"
        )
    for name, (period, area) in AUTHORS.items():
        rate = efficiency(1, area, period)
        yield f"{f'the authors, {name} (reference)':50}{period:8.3f}{'':17}{area:15.0f}{rate:11.1f}"


def _widths(library: Liberty) -> Iterator[str]:
    widths = (16, 20, 24, 32, 48, 64)
    yield "fastest period (ns) by width of the accumulator, and the spread"
    yield f"{'':30}" + "".join(f"{width:>8}" for width in widths)
    for name, options in {
        "fused mac": {"encoding": "booth", "group": 64, "style": "sklansky"},
        "opt1, Booth inside": {"encoding": "booth"},
        "opt1, digits from outside": {},
    }.items():
        found = [_best(_saved(w, **options), library, **SAVED)[1].period for w in widths]
        spread = max(found) / min(found) - 1
        yield f"{name:30}" + "".join(f"{period:8.3f}" for period in found) + f"{spread:9.1%}"


def array_engine(array: str, pe: str) -> Engine:
    """The engine that is measured."""
    (tokens, reduce, outputs), both, mac = ARRAYS[array]
    return make_engine(
        array, pe, tokens=tokens, reduce=reduce, outputs=outputs,
        **both, **(mac if pe == "mac" else {}),
    )  # fmt: skip


def _element(array: str, pe: str) -> tuple[int, Unit]:
    """What the array repeats, and the products it makes a cycle."""
    engine = array_engine(array, pe)
    chained = array in ("systolic_ws", "cube")
    lanes = engine.reduce if array == "tree" else 1
    if pe != "mac":
        return lanes, next(part for part in engine.parts() if isinstance(part, CarrySavePe))
    width = accumulator_bits(engine.reduce, 8, 8) if chained else engine.acc_bits
    return lanes, Mac(width=width, lanes=lanes, levels=array == "tree", chained=chained, held=True)


def _alone(library: Liberty, arrays: list[str]) -> Iterator[str]:
    yield f"elements of the arrays, without skew, drain, final adders and operand registers, {library.name}"
    yield f"{'element of':14}{'products':>9}{'pe':>6}{'ns':>9}{'um2':>9}{'G/s/mm2':>9}{'over mac':>10}"
    for array in arrays:
        base = 0.0
        for pe in _pes(array):
            products, unit = _element(array, pe)
            best, _ = _best(unit, library, **(MAC if pe == "mac" else SAVED))
            rate = efficiency(products, best.area, best.period)
            base = base or rate
            ratio = "" if pe == "mac" else f"{rate / base:9.2f}x"
            yield f"{array:14}{products:9}{pe:>6}{best.period:9.3f}{best.area:9.0f}{rate:9.1f}{ratio}"


def _pes(array: str) -> tuple[str, ...]:
    return ("mac", "opt1", *(("opt2",) if array == "tree" else ()))


def _array(array: str, pe: str, library: Liberty) -> tuple[int, Point]:
    engine = array_engine(array, pe)
    return engine.macs, map_unit(engine, library, **(MAC if pe == "mac" else SAVED)).best


def _arrays(library: Liberty, arrays: list[str]) -> Iterator[str]:
    yield f"whole arrays at the best area x period, {library.name}"
    yield f"{'array':14}{'shape':>9}{'pe':>6}{'ns':>9}{'um2':>9}{'G/s/mm2':>9}{'over mac':>10}{'published':>11}"
    for array in arrays:
        base = 0.0
        shape = "x".join(map(str, ARRAYS[array][0]))
        for pe in _pes(array):
            products, point = _array(array, pe, library)
            rate = efficiency(products, point.area_um2, point.period_ns)
            base = base or rate
            ratios = "" if pe == "mac" else f"{rate / base:9.2f}x{PUBLISHED[array]:10.2f}x"
            yield (
                f"{array:14}{shape:>9}{pe:>6}{point.period_ns:9.3f}{point.area_um2:9.0f}{rate:9.1f}{ratios}"
                f"   {point.script}, {point.adder}{', Booth' if point.booth else ''}"
            )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.array_area")
    parser.add_argument("--liberty", type=Path, required=True, help="cells to map to")
    parser.add_argument("--only", choices=("elements", "widths", "alone", "arrays"))
    warnings.simplefilter("ignore", UnusedElaboratable)  # elements are taken out of arrays
    parser.add_argument("arrays", nargs="*", default=list(ARRAYS))
    options = parser.parse_args(arguments)
    library = Liberty.load(options.liberty)
    for name, lines in {
        "elements": _elements(library),
        "widths": _widths(library),
        "alone": _alone(library, options.arrays),
        "arrays": _arrays(library, options.arrays),
    }.items():
        if options.only in (None, name):
            for line in lines:
                print(line, flush=True)
            print()


if __name__ == "__main__":
    main()
