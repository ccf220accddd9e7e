# SPDX-License-Identifier: Apache-2.0
"""What a module is made of: its parts, and how many bits of data go from each to each other.

Read from the netlist that yosys has before it writes Verilog, so a diagram of it shows what is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["Blocks", "Link", "Part", "read_blocks"]

_BITWISE = {"$mux": ("A", "B"), "$dff": ("D",), "$dffe": ("D",), "$sdff": ("D",), "$not": ("A",),
            "$and": ("A", "B"), "$or": ("A", "B"), "$xor": ("A", "B")}  # fmt: skip
"""Cells whose output bits depend on the input bits of the same place; a selecting input is not data."""

_WIRING = ("clk", "rst")


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Part(_Value):
    """An instance: its name in its parent, and the name of its module; of a port of the parent no module."""

    name: str
    module: str | None


class Link(_Value):
    """Bits of inputs of ``sink`` that carry data of ``source``, through multiplexers and registers or straight."""

    source: str
    sink: str
    bits: int


class Blocks(_Value):
    """The inside of a module.

    Attributes
    ----------
    parts : instances that drive anything, and ports of the parent (AXI buses by their name); sorted
    links : between them, sorted
    """

    parts: tuple[Part, ...]
    links: tuple[Link, ...]


def read_blocks(netlist: Mapping[str, Any], outputs: Mapping[str, Container[str]]) -> Blocks:
    """The parts of a module and their links.

    Parameters
    ----------
    netlist : the module as yosys' ``write_json`` writes it after ``proc``.
    outputs : for each module that it instantiates, the names of its outputs.
    """
    nets = _Nets(netlist, outputs)
    bits: Counter[tuple[str, str]] = Counter()
    for sink, bit in nets.sinks():
        for source in nets.sources(bit):
            if source != sink:
                bits[source, sink] += 1
    drives = {source for source, _ in bits} | nets.buses
    links = tuple(
        Link(source=source, sink=sink, bits=n)
        for (source, sink), n in sorted(bits.items())
        if sink in drives
    )
    parts = [Part(name=name, module=module) for name, module in nets.modules.items()]
    parts += [Part(name=name, module=None) for name in nets.buses]
    return Blocks(
        parts=tuple(sorted((p for p in parts if p.name in drives), key=lambda p: p.name)),
        links=links,
    )


class _Nets:
    """Which cell drives each bit of a netlist, and what stands behind it."""

    def __init__(self, netlist: Mapping[str, Any], outputs: Mapping[str, Container[str]]) -> None:
        self.modules: dict[str, str] = {}
        self.buses: set[str] = set()
        self._inputs: list[tuple[str, int]] = []
        self._driver: dict[int, tuple[int, ...]] = {}
        self._known: dict[int, frozenset[str]] = {}
        for port, facts in netlist["ports"].items():
            if port in _WIRING:
                continue
            bus = port.split("__")[0]
            self.buses.add(bus)
            for bit in _numbers(facts["bits"]):
                if facts["direction"] == "input":
                    self._known[bit] = frozenset((bus,))
                else:
                    self._inputs.append((bus, bit))
        for name, cell in netlist["cells"].items():
            if cell["type"].startswith("$"):
                self._glue(cell)
            else:
                # yosys numbers an instance whose name a signal has too.
                self._instance(name.split("$")[0], cell, outputs[cell["type"]])

    def _instance(self, name: str, cell: Mapping[str, Any], outputs: Container[str]) -> None:
        self.modules[name] = cell["type"]
        for pin, wires in cell["connections"].items():
            if pin in outputs:
                self._known |= dict.fromkeys(_numbers(wires), frozenset((name,)))
            elif pin not in _WIRING:
                self._inputs += [(name, bit) for bit in _numbers(wires)]

    def _glue(self, cell: Mapping[str, Any]) -> None:
        pins, ways = cell["connections"], cell["port_directions"]
        same = _BITWISE.get(cell["type"])
        out = [bit for p, wires in pins.items() if ways[p] == "output" for bit in wires]
        for place, bit in enumerate(out):
            if same:
                behind = [pins[p][place] for p in same if place < len(pins[p])]
            else:
                behind = [b for p, wires in pins.items() if ways[p] == "input" for b in wires]
            self._driver[bit] = tuple(_numbers(behind))

    def sinks(self) -> Iterator[tuple[str, int]]:
        """Every bit of every input of a part, and the part."""
        return iter(self._inputs)

    def sources(self, bit: int) -> frozenset[str]:
        """The parts whose data a bit carries."""
        if bit not in self._known:
            self._known[bit] = frozenset()  # a loop through a register adds nothing
            found: frozenset[str] = frozenset()
            for behind in self._driver.get(bit, ()):
                found |= self.sources(behind)
            self._known[bit] = found
        return self._known[bit]


def _numbers(bits: Any) -> Iterator[int]:
    """The nets among the bits of a connection; the others are constants."""
    return (bit for bit in bits if isinstance(bit, int))
