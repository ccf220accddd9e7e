# SPDX-License-Identifier: Apache-2.0
"""What synthesis makes of units that instantiate DSP48E2 slices: cells, and how the slices are chained."""

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from generators import yosys
from generators.synth import Resources, resources_of
from generators.verilog import emit
from hw.unit import Unit

__all__ = ["Mapped", "map_unit"]


@dataclass(frozen=True)
class Mapped:
    """A unit mapped to UltraScale+ by yosys.

    Attributes
    ----------
    cells : how many of each type
    chains : taps of each chain of slices, the longest first
    """

    cells: dict[str, int]
    chains: tuple[int, ...]

    @property
    def resources(self) -> Resources:
        return resources_of(self.cells)

    @property
    def lut_per_slice(self) -> float:
        return self.resources.lut / self.cells["DSP48E2"]


def map_unit(unit: Unit, *, limit: float = 900, cut: bool = False) -> Mapped:
    """Map ``unit``, flattened; ``cut``: inner sums may be read, of chains that can be cut.

    Raises
    ------
    RuntimeError
        If yosys does not finish, or the input cascade of a slice is neither zero nor the whole output of another one
        whose sum nothing else reads.
    """
    with tempfile.TemporaryDirectory(prefix="hwgen-slices-") as name:
        folder = Path(name)
        lines = []
        for file, text in emit(unit).files.values():
            (folder / file).write_text(text)
            lines.append(yosys.read_verilog(Path(file)))
        lines += [
            f"synth_xilinx -family xcup -noiopad -noclkbuf -flatten -top {unit.module_name}",
            "write_json netlist.json",
        ]
        (run,) = yosys.finished(
            [unit], lambda task: yosys.start(task, lines, folder=folder, limit=limit), 1
        )
        netlist = folder / "netlist.json"
        if run.late or not netlist.is_file():
            raise RuntimeError(f"{unit.module_name}: {'not finished' if run.late else run.failure}")
        module = json.loads(netlist.read_text())["modules"][unit.module_name]
    cells = Counter(cell["type"] for cell in module["cells"].values())
    del cells["$scopeinfo"]
    return Mapped(dict(sorted(cells.items())), _chains(module, cut))


def _chains(module: dict, cut: bool) -> tuple[int, ...]:
    slices = {
        k: cell["connections"] for k, cell in module["cells"].items() if cell["type"] == "DSP48E2"
    }
    readers: Counter[int] = Counter()
    for cell in module["cells"].values():
        for port, bits in cell["connections"].items():
            if cell.get("port_directions", {}).get(port) == "input":
                readers.update(bit for bit in bits if isinstance(bit, int))
    for port in module["ports"].values():
        readers.update(
            bit for bit in port["bits"] if port["direction"] == "output" and isinstance(bit, int)
        )
    sources = {tuple(pins["PCOUT"]): name for name, pins in slices.items()}
    below: dict[str, str] = {}
    for name, pins in slices.items():
        if set(pins["PCIN"]) <= {"0", "x"}:
            continue
        source = sources.get(tuple(pins["PCIN"]))
        if source is None:
            raise RuntimeError(f"{name}: PCIN is not the PCOUT of one slice")
        if not cut and any(readers[bit] for bit in slices[source]["P"] if isinstance(bit, int)):
            raise RuntimeError(f"{source}: the sum of an inner tap is read in fabric")
        below[source] = name
    lengths = []
    for name in slices.keys() - set(below.values()):
        length = 1
        while name in below:
            name, length = below[name], length + 1
        lengths.append(length)
    return tuple(sorted(lengths, reverse=True))
