# SPDX-License-Identifier: Apache-2.0
"""Scripts that package an IP: what they name must be in the RTL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exported.rtl import Rtl
from benchmarks.exported.tcl import Call

__all__ = ["Packaged", "check_calls", "files_of", "packaged"]

_BUS_PARAMETERS = {
    "SUPPORTS_NARROW_BURST", "MAX_BURST_LENGTH", "NUM_READ_OUTSTANDING", "NUM_WRITE_OUTSTANDING",
}  # fmt: skip
_PROPERTIES = {
    "top", "name", "vendor", "library", "version", "display_name", "xpm_libraries", "auto_family_support_level",
    "ipi_drc", "vitis_drc", "sdx_kernel", "sdx_kernel_type", "slave_memory_map_ref", "range", "width",
    "address_offset", "size", "access", "description", "value", "HD.CLK_SRC", "IS_SOFT",
}  # fmt: skip
"""Names of properties: a misspelt one is an error in Vivado, too."""


@dataclass(frozen=True)
class Packaged:
    """What a packaging script told of the core.

    Attributes
    ----------
    vlnv : its name in the catalogue
    registers : by name: offset, bits, access, and the bus that it points to
    """

    vlnv: str
    registers: dict[str, tuple[int, int, str, str]]


def files_of(calls: Sequence[Call]) -> list[Path]:
    """The source files that a script adds."""
    return [
        Path(word)
        for call in calls
        if call.name == "add_files"
        for words in call.words
        if not words.startswith("-")
        for word in words.split()
    ]


def packaged(calls: Sequence[Call]) -> Packaged:
    """Read the calls of a packaging script."""
    core: dict[str, str] = {}
    registers: dict[str, dict[str, str]] = {}
    for call in calls:
        if call.name == "ipx::add_register":
            registers[call.words[0]] = {}
        elif call.name == "set_property":
            name, value, thing = call.words[-3:]
            kind, _, of = thing.rpartition(":")
            if kind == "ipx::current_core":
                core[name] = value
            elif kind == "ipx::add_register":
                registers[of][name] = value
        elif call.name == "ipx::add_register_parameter":
            registers[call.words[1].rpartition(":")[2]]["parameter"] = call.words[0]
    pointers = _pointers(calls)
    return Packaged(
        ":".join(core.get(field, "") for field in ("vendor", "library", "name", "version")),
        {
            name: (int(r["address_offset"], 0), int(r["size"], 0), r["access"], pointers.get(name, ""))
            for name, r in registers.items()
        },
    )  # fmt: skip


def _pointers(calls: Sequence[Call]) -> dict[str, str]:
    """Register -> bus: the value that is set right after the parameter was added to the register."""
    found, waiting = {}, None
    for call in calls:
        if call.name == "ipx::add_register_parameter" and call.words[0] == "ASSOCIATED_BUSIF":
            waiting = call.words[1].rpartition(":")[2]
        elif waiting is not None and call.name == "set_property":
            found[waiting], waiting = call.words[1], None
    return found


def check_calls(calls: Sequence[Call], rtl: Rtl, root: Path) -> Iterator[str]:
    """What calls of Vivado name that is not there: files, ports, buses, cells, properties."""
    files = files_of(calls)
    for file in files:
        if not file.is_file():
            yield f"add_files names {file.name}, which is missing"
    if files:
        present = {p.name for p in (root / "rtl").iterdir()}
        for name in sorted(present ^ {file.name for file in files}):
            yield f"rtl/{name} is not among the files of the script, or the other way round"
    associated = set()
    for call in calls:
        if call.name == "set_property" and call.words[0] not in _PROPERTIES:
            yield f"no property {call.words[0]}: {call}"
        elif call.name == "set_property" and call.words[0] == "top" and call.words[1] != rtl.top:
            yield f"the top is {rtl.top}, not {call.words[1]}"
        elif call.name == "ipx::associate_bus_interfaces":
            bus, clock = call.option("-busif"), call.option("-clock")
            associated.add(bus)
            if bus not in rtl.buses:
                yield f"no bus {bus} in the RTL: {call}"
            if clock not in rtl.ports:
                yield f"no port {clock} in the RTL: {call}"
        elif call.name == "ipx::get_bus_interfaces" and call.words[0] not in rtl.buses:
            yield f"no bus {call.words[0]} in the RTL: {call}"
        elif call.name == "ipx::add_bus_parameter" and call.words[0] not in _BUS_PARAMETERS:
            yield f"no parameter {call.words[0]} of a bus: {call}"
        elif call.name == "get_ports" and call.words[0] not in rtl.ports:
            yield f"no port {call.words[0]} in the RTL: {call}"
        elif call.name == "get_cells":
            yield from _check_cells(call, rtl)
        elif call.name == "read_xdc" and not Path(call.words[-1]).is_file():
            yield f"{call.words[-1]} is missing: {call}"
        elif call.name == "synth_design" and call.option("-top") != rtl.top:
            yield f"the top is {rtl.top}: {call}"
    if associated and associated != set(rtl.buses):
        yield f"without a clock: {', '.join(sorted(set(rtl.buses) - associated))}"


def _check_cells(call: Call, rtl: Rtl) -> Iterator[str]:
    filtered = call.option("-filter")
    cells = call.words[0].split() if filtered is None else [filtered.rpartition("/inst/")[2]]
    for cell in cells:
        if not rtl.instance(cell):
            yield f"no instance {cell} in the RTL: {call}"
