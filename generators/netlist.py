"""A design mapped to standard cells: which cells there are, and what connects them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from designs.cache import cache_folder, digest
from generators import asic_recipe, yosys
from generators.asic_recipe import Choice
from generators.files import write
from generators.liberty import Liberty
from generators.yosys import SynthesisError

__all__ = ["Instance", "Netlist", "Port", "map_netlist"]

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

    @classmethod
    def from_json(cls, text: str, top: str) -> Netlist:
        """Read what yosys's ``write_json`` wrote.

        Raises
        ------
        SynthesisError
            If there is no such module, or one of its cells is not a cell but wider.
        """
        module: dict[str, Any] | None = json.loads(text)["modules"].get(top)
        if module is None:
            raise SynthesisError(f"{top}: the netlist has no such module")
        cells = []
        for name, cell in sorted(module["cells"].items()):
            if cell["type"] == "$scopeinfo":
                continue
            wide = [pin for pin, bits in cell["connections"].items() if len(bits) > 1]
            if wide:
                raise SynthesisError(f"{top}: {name} ({cell['type']}) is not a standard cell")
            pins = {pin: bits[0] for pin, bits in cell["connections"].items() if bits}
            cells.append(Instance(name, cell["type"], pins))
        ports = {
            name: Port(port["direction"], tuple(port["bits"]))
            for name, port in module["ports"].items()
        }
        return cls(top, ports, tuple(cells))


def map_netlist(
    files: Sequence[Path], top: str, library: Liberty, choice: Choice, *, limit: float = 600
) -> Netlist:
    """Map a design as `generators.asic.measure` does with one of its choices.

    The netlist is kept in the cache, so a second call takes no time.

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
    yosys.require()
    files = [path.resolve() for path in files]
    recipe = Path(asic_recipe.__file__).read_bytes()
    texts = [path.read_bytes() for path in files]
    key = digest(yosys.version(), recipe, library.digest, top, str(choice), *texts)
    kept = cache_folder() / "netlist" / f"{key}.json"
    if not kept.is_file():
        write(kept, _mapped(files, top, library, choice, limit))
    return Netlist.from_json(kept.read_text(encoding="utf-8"), top)


def _mapped(files: Sequence[Path], top: str, library: Liberty, choice: Choice, limit: float) -> str:
    with tempfile.TemporaryDirectory(prefix="hwgen-netlist-") as name:
        folder = Path(name)
        for file, text in asic_recipe.library_lines(library, choice).items():
            (folder / file).write_text(text, encoding="utf-8")
        mapped = asic_recipe.mapped(folder / "gates.il", library, choice)
        lines = [
            *asic_recipe.front(files, (), top, library, booth=choice.booth),
            "design -reset",
            *asic_recipe.techmapped(folder / "front.il", choice.adder),
            "design -reset",
            *mapped[: mapped.index("splitnets -ports")],  # then the ports are no words any more
            "write_json net.json",
        ]
        for run in yosys.finished(
            [top], lambda task: yosys.start(task, lines, folder=folder, limit=limit), 1
        ):
            if run.late:
                raise SynthesisError(f"{top}: not mapped in {limit:g} s")
            if not (folder / "net.json").is_file():
                raise SynthesisError(f"{top}: {run.failure}")
        return (folder / "net.json").read_text(encoding="utf-8")
