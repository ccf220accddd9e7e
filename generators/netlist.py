# SPDX-License-Identifier: Apache-2.0
"""A design mapped to standard cells: which cells there are, and what connects them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from designs.cache import cache_folder, digest
from generators import asic, asic_recipe, yosys
from generators.asic_recipe import Choice
from generators.files import write
from generators.liberty import Liberty
from generators.yosys import SynthesisError

__all__ = ["Instance", "Netlist", "Port", "map_netlist", "read_netlist"]

Bit = int | str
"""A net's number, or the constants ``"0"``, ``"1"`` and ``"x"``."""


@dataclass(frozen=True)
class Port:
    """A port of the design, its bits lowest first."""

    direction: str
    bits: tuple[Bit, ...]


@dataclass(frozen=True)
class Instance:
    """One cell, and the net at each of its pins that is connected."""

    name: str
    cell: str
    pins: dict[str, Bit]


@dataclass(frozen=True)
class Netlist:
    """A mapped design.

    Attributes
    ----------
    top : name of the module
    ports : by name
    cells : sorted by name
    """

    top: str
    ports: dict[str, Port]
    cells: tuple[Instance, ...]


def map_netlist(
    files: Sequence[Path], top: str, library: Liberty, choice: Choice, *, limit: float = 600
) -> Netlist:
    """Map a design by `generators.asic.netlist`; kept in the cache, so a second call takes no time.

    Parameters
    ----------
    files : Verilog; what `top` instantiates is flattened into it
    top : name of the module
    library : what to map to
    choice : how, for example ``measurement.best.choice``
    limit : seconds

    Raises
    ------
    SynthesisError
        If yosys is missing, fails, or is not finished in time.
    """
    recipe = Path(asic_recipe.__file__).read_bytes()
    texts = [path.read_bytes() for path in files]
    key = digest(yosys.version(), recipe, library.digest, top, str(choice), *texts)
    kept = cache_folder() / "netlist" / f"{key}.v"
    if not kept.is_file():
        write(kept, asic.netlist(files, top, library, choice, limit=limit))
    return read_netlist(kept.read_text(encoding="utf-8"), top)


def read_netlist(verilog: str, top: str) -> Netlist:
    """Read a netlist of cells; ports that were split into ``name[bit]`` are whole again.

    Raises
    ------
    SynthesisError
        If it cannot be read, has no such module, or something in it is no standard cell.
    """
    yosys.require()
    with tempfile.TemporaryDirectory(prefix="hwgen-netlist-") as name:
        folder = Path(name)
        (folder / "net.v").write_text(verilog, encoding="utf-8")
        lines = ["read_verilog net.v", "write_json net.json"]
        for run in yosys.finished(
            [top], lambda task: yosys.start(task, lines, folder=folder, limit=600), 1
        ):
            if not (folder / "net.json").is_file():
                raise SynthesisError(f"{top}: {run.failure}")
        module = json.loads((folder / "net.json").read_text(encoding="utf-8"))["modules"].get(top)
    if module is None:
        raise SynthesisError(f"{top}: the netlist has no such module")
    return Netlist(top, _ports(module["ports"]), _instances(top, module["cells"]))


def _ports(found: Mapping[str, Any]) -> dict[str, Port]:
    bits: dict[str, dict[int, Bit]] = {}
    directions = {}
    for name, port in found.items():
        split = re.fullmatch(r"(.*)\[(\d+)\]", name)
        whole, first = (split[1], int(split[2])) if split else (name, 0)
        directions[whole] = port["direction"]
        bits.setdefault(whole, {}).update(enumerate(port["bits"], first))
    return {
        name: Port(directions[name], tuple(bit for _, bit in sorted(of.items())))
        for name, of in bits.items()
    }


def _instances(top: str, found: Mapping[str, Any]) -> tuple[Instance, ...]:
    cells = []
    for name, cell in sorted(found.items()):
        if cell["type"].startswith("$") or any(len(b) > 1 for b in cell["connections"].values()):
            raise SynthesisError(f"{top}: {name} ({cell['type']}) is no standard cell")
        pins = {pin: bits[0] for pin, bits in cell["connections"].items() if bits}
        cells.append(Instance(name, cell["type"], pins))
    return tuple(cells)
