# SPDX-License-Identifier: Apache-2.0
"""Several devices under test in one Verilator build, so that a test module pays for one compilation."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from amaranth.hdl import Module
from amaranth.lib.wiring import Out, connect, flipped

from generators.verilog import emit
from hw.unit import Unit, place
from sim import cocotb_run

ROOT = Path(__file__).parent.parent


class Bench(Unit):
    """A top with one member for each device, whose ports it passes through."""

    def __init__(self, units: Mapping[str, Unit]) -> None:
        self._units = dict(units)
        super().__init__({name: Out(unit.signature) for name, unit in units.items()}, {})

    def elaborate(self, platform):
        m = Module()
        for name, unit in self._units.items():
            place(m, name, unit)
            connect(m, flipped(getattr(self, name)), unit)
        return m


def run_bench(
    units: Mapping[str, Unit],
    test_module: str,
    folder: Path,
    extra_env: Mapping[str, str] | None = None,
    *,
    inside: bool = False,
    models: Sequence[Path] = (),
    build_args: Sequence[str] = (),
) -> None:
    """Emit ``units`` on one bench, build it with Verilator, run the cocotb tests of ``test_module``.

    ``inside``: the tests may reach into the devices. ``test_module`` is a module name below tests/, e.g.
    ``cocotb_arrays`` for tests/hw/cocotb_arrays.py next to the caller. ``models`` are Verilog files of cells that
    the units instantiate, ``build_args`` options of Verilator.
    """
    here = Path(inspect.stack()[1].filename).parent
    emission = emit(Bench(units))
    sources = [*models]
    rtl = folder / "rtl"
    rtl.mkdir(parents=True, exist_ok=True)
    for file, text in emission.files.values():
        (rtl / file).write_text(text)
        sources.append(rtl / file)
    cocotb_run.run(
        sources, top=emission.top, test_module=test_module, folder=folder / "build",
        python_path=[ROOT, here], extra_env=extra_env, inside=inside,
        build_args=build_args,
    )  # fmt: skip
