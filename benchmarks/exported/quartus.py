# SPDX-License-Identifier: Apache-2.0
"""A project of ``--flow quartus``: files, virtual pins and the component's interfaces, beside the RTL."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.exported.rtl import Rtl
from benchmarks.exported.tcl import QUARTUS, Call, record

__all__ = ["check"]

_ASSIGNMENTS = {
    "FAMILY", "DEVICE", "TOP_LEVEL_ENTITY", "PROJECT_OUTPUT_DIRECTORY", "SDC_FILE", "VERILOG_MACRO",
    "SYSTEMVERILOG_FILE", "VERILOG_FILE",
}  # fmt: skip
_KINDS = {
    ("clock", "end"), ("reset", "end"), ("axi4lite", "end"), ("axi4", "start"), ("interrupt", "end"),
}  # fmt: skip


def check(project: Path, rtl: Rtl) -> Iterator[str]:
    """What is wrong with a project, one sentence each."""
    names = {path.name for path in (project / "rtl").iterdir()}
    yield from _check_project(record(project / "project.tcl", QUARTUS), project, rtl, names)
    compiled = record(project / "project.tcl", QUARTUS, ["compile"])
    if not any(call.name == "execute_flow" for call in compiled):
        yield "project.tcl does not compile when it is asked to"
    yield from _check_component(record(project / "component_hw.tcl", QUARTUS), project, rtl, names)
    calls = record(project / "timing.sdc", QUARTUS)
    if sum(call.name == "create_clock" for call in calls) != 1:
        yield "timing.sdc must define one clock"
    for call in calls:
        if call.name == "get_ports" and call.words[0] not in rtl.ports:
            yield f"timing.sdc: no port {call.words[0]} in the RTL"


def _check_project(
    calls: Sequence[Call], project: Path, rtl: Rtl, names: set[str]
) -> Iterator[str]:
    found = set()
    for call in calls:
        if call.name != "set_global_assignment":
            continue
        name, value = call.words[1:3]
        if call.words[0] != "-name" or name not in _ASSIGNMENTS:
            yield f"project.tcl: no assignment {name}"
        if name.endswith("_FILE"):
            if not Path(value).is_file():
                yield f"project.tcl: {value} is missing"
            if name != "SDC_FILE":
                found.add(Path(value).name)
                if (name == "SYSTEMVERILOG_FILE") != value.endswith(".sv"):
                    yield f"project.tcl: {Path(value).name} is a {name}"
        if name == "TOP_LEVEL_ENTITY" and value != rtl.top:
            yield f"project.tcl: the top is {rtl.top}, not {value}"
    for name in sorted(found ^ names):
        yield f"project.tcl: rtl/{name} is not in the project, or the other way round"
    virtual = [call.option("-to") or "" for call in calls if call.name == "set_instance_assignment"]
    for port, times in (Counter(virtual) - Counter(dict.fromkeys(rtl.ports, 1))).items():
        yield f"project.tcl: {port} is a virtual pin {times} times too often"
    left = set(rtl.ports) - set(virtual)
    if len(left) != 1 or not left.pop().endswith("clk"):
        yield "project.tcl: all ports but the clock must be virtual pins"


def _check_component(
    calls: Sequence[Call], project: Path, rtl: Rtl, names: set[str]
) -> Iterator[str]:
    made = {call.words[0]: call.words[1:] for call in calls if call.name == "add_interface"}
    for name, kind in made.items():
        if kind not in _KINDS:
            yield f"component_hw.tcl: no interface {' '.join(kind)}: {name}"
    files = Counter(call.words[3] for call in calls if call.name == "add_fileset_file")
    filesets = sum(call.name == "add_fileset" for call in calls)
    for path, times in files.items():
        if not (project / path).is_file() or times != filesets:
            yield f"component_hw.tcl: {path} is missing, or not in every fileset"
    if {Path(path).name for path in files} != names:
        yield "component_hw.tcl: not every file is in the component"
    ports: Counter[str] = Counter()
    for call in calls:
        if call.name == "set_fileset_property" and call.words[2] != rtl.top:
            yield f"component_hw.tcl: the top is {rtl.top}: {call}"
        elif call.name == "set_interface_property":
            interface, name, value = call.words
            if interface not in made or (name.startswith("associated") and value not in made):
                yield f"component_hw.tcl: no such interface: {call}"
        elif call.name == "add_interface_port":
            interface, port, role, direction, bits = call.words
            ports[port] += 1
            wanted = {"In": "Input", "Out": "Output"}
            side, width = rtl.ports.get(port, ("", 0))
            if interface not in made or (direction, int(bits)) != (wanted.get(side), width):
                yield f"component_hw.tcl: the RTL has {port} as {side} of {width} bits: {call}"
            if made.get(interface, ("",))[0].startswith("axi") and not re.fullmatch(
                rf"{interface}_{role}", port
            ):
                yield f"component_hw.tcl: {port} is no {role} of {interface}"
    if ports != Counter(dict.fromkeys(rtl.ports, 1)):
        yield "component_hw.tcl: every port must be in one interface"
