# SPDX-License-Identifier: Apache-2.0
"""Area of what PIM adds to a bank: multipliers and a second row buffer, in standard cells, beside the array.

``python -m benchmarks.pim_area --liberty FILE [--feature NM] [--logic FACTOR]``

Multipliers and controllers are mapped by yosys and ABC. The array is modelled: 6 F2 a bit, of which it fills
a share. A second row buffer is a row of the library's smallest flip-flops, as an upper bound, and of sense
amplifiers at the pitch of the array. NeuPIMs states 3.11 % for its row buffers (CACTI 7, 22 nm, logic as dense as
in a logic process).
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.cells import map_unit
from generators.liberty import Liberty
from hw.pim.config import PimConfig
from hw.pim.control import PimControl
from hw.pim.mac import PimMac
from hw.unit import Unit

__all__ = ["Array", "main", "smallest_flip_flop"]

PUBLISHED = 3.11
CHOICE = {"scripts": ("gia-lean",), "adders": ("brent-kung",), "booth": (False,)}


@dataclass(frozen=True)
class Array:
    """A bank as a model.

    Attributes
    ----------
    rows, page_bits : its size.
    feature_um : F.
    fill : share of the bank that its cells take; the rest are sense amplifiers, decoders and wires.
    sense_f2 : area of a sense amplifier in F2, one for each bit of a page and subarray.
    subarray : rows that share sense amplifiers.
    """

    rows: int = 32768
    page_bits: int = 8192
    feature_um: float = 0.13
    fill: float = 0.55
    sense_f2: float = 400.0
    subarray: int = 512

    @property
    def bank_um2(self) -> float:
        return 6 * self.feature_um**2 * self.rows * self.page_bits / self.fill

    @property
    def sense_um2(self) -> float:
        """Of one row of sense amplifiers."""
        return self.sense_f2 * self.feature_um**2 * self.page_bits


def smallest_flip_flop(library: Liberty) -> tuple[str, float]:
    """Name and area."""
    cells = {n: c.area_um2 for n, c in library.cells.items() if c.flip_flop and not c.special}
    name = min(cells, key=lambda n: (cells[n], n))
    return name, cells[name]


def _mapped(unit: Unit, library: Liberty) -> tuple[float, float]:
    best = map_unit(unit, library, **CHOICE).best
    return best.area_um2, best.period_ns


def _lines(library: Liberty, array: Array, logic: float, banks: int) -> Iterator[str]:
    yield f"{library.name}; F = {1000 * array.feature_um:g} nm; a bank of {array.rows * array.page_bits >> 20} Mbit"
    yield f"is modelled with {array.bank_um2 / 1e6:.2f} mm2; logic takes {logic:g} times its area beside an array"
    yield f"{'':52}{'um2':>12}{'ns':>8}{'of a bank':>11}"

    def line(name: str, area: float, period: float | None = None) -> str:
        time = f"{period:8.2f}" if period else f"{'':8}"
        return f"{name:52}{area:12,.0f}{time}{100 * area * logic / array.bank_um2:10.2f}%"

    for fmt in ("int8", "bf16-block", "bf16"):
        config = PimConfig(fmt=fmt)
        yield line(f"16 multipliers, {fmt}", *_mapped(PimMac(config), library))
    cell, area = smallest_flip_flop(library)
    yield line(f"a row buffer of {cell}", array.page_bits * area)
    strip = array.sense_um2
    for name, count in (
        ("a row of sense amplifiers at the pitch of the array", 1),
        ("one in each subarray", array.rows // array.subarray),
    ):
        yield f"{name:52}{count * strip:12,.0f}{'':8}{100 * count * strip / array.bank_um2:10.2f}%"
    yield f"{'published, row buffers doubled':52}{'':20}{PUBLISHED:10.2f}%"
    yield ""
    yield f"controller of {banks} banks (timers, queues' heads, refresh), a share of each bank of it"
    base = PimConfig(banks=banks, ranks=1 if banks < 16 else 2, fmt="bf16")
    for name, config in {
        "one row buffer": replace(base, dual=False),
        "dual": base,
        "dual, two for the multipliers": replace(base, buffers=2),
    }.items():
        area, period = _mapped(PimControl(config), library)
        yield line(name, area / banks, period)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pim_area")
    parser.add_argument("--liberty", type=Path, required=True, help="cells to map to")
    parser.add_argument("--feature", type=float, default=130.0, help="F of the array in nm")
    parser.add_argument(
        "--logic", type=float, default=1.0, help="area of logic in the array's process"
    )
    parser.add_argument("--banks", type=int, default=32, help="of the controller")
    options = parser.parse_args(arguments)
    array = Array(feature_um=options.feature / 1000)
    for line in _lines(Liberty.load(options.liberty), array, options.logic, options.banks):
        print(line, flush=True)


if __name__ == "__main__":
    main()
