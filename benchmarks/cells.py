# SPDX-License-Identifier: Apache-2.0
"""Units in standard cells, for the benchmarks: whole ones, and elements alone between registers."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import Module, Signal

from generators.asic import Measurement, Point, measure
from generators.liberty import Liberty
from generators.verilog import emit
from hw.unit import Unit, place

__all__ = ["Alone", "Between", "map_alone", "map_unit", "verilog_of"]


@contextmanager
def verilog_of(unit: Unit) -> Iterator[tuple[list[Path], str]]:
    """The files of a unit, and its top, for as long as the block lasts."""
    emission = emit(unit)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, text in emission.files.values():
            files.append(Path(folder) / name)
            files[-1].write_text(text)
        yield files, emission.top


def map_unit(unit: Unit, library: Liberty, **choices: Any) -> Measurement:
    """All mappings of a unit, flattened; ``choices`` are those of :func:`generators.asic.measure`."""
    with verilog_of(unit) as (files, top):
        return measure(files, top, library, **choices)


class Between(Unit):
    """A unit behind registers of all its inputs."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self.bits = sum(len(value) for _, value, is_input in unit.ports() if is_input)
        super().__init__(unit.signature, {"u": unit.module_name})

    def elaborate(self, platform) -> Module:
        m = Module()
        unit = place(m, "unit", self._unit)
        for name, value, is_input in unit.ports():
            if is_input:
                held = Signal(len(value), name=f"{name}_held", reset_less=True)
                m.d.sync += held.eq(getattr(self, name))
                m.d.comb += getattr(unit, name).eq(held)
            else:
                m.d.comb += getattr(self, name).eq(getattr(unit, name))
        return m


@dataclass(frozen=True)
class Alone:
    """One way to map a unit: area (um2) without and with the registers of its inputs, and period (ns)."""

    area: float
    registered: float
    period: float

    @property
    def product(self) -> float:
        return self.area * self.period


def map_alone(unit: Unit, library: Liberty, **choices: Any) -> Sequence[Alone]:
    """All mappings of a unit between registers, that with the least area times period first."""
    between = Between(unit)
    found = map_unit(between, library, **({"booth": [False]} | choices))

    def alone(point: Point) -> Alone:
        flops = sum(n for cell, n in point.cells.items() if cell in library.flip_flops)
        inputs = between.bits * point.sequential_um2 / flops
        return Alone(point.area_um2 - inputs, point.area_um2, point.period_ns)

    return sorted((alone(point) for point in found.points), key=lambda a: a.product)
