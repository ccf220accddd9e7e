# SPDX-License-Identifier: Apache-2.0
"""A project of ``--flow vitis``: kernel.xml, the link, the host programs and the scripts, beside the RTL."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exported.ip import check_calls, packaged
from benchmarks.exported.registers import CONTROL, Header, check_packaged, read_header
from benchmarks.exported.rtl import Rtl
from benchmarks.exported.tcl import VIVADO, Call, record

__all__ = ["check", "read_kernel"]

PAGE = 4096

_KERNEL = {
    "name", "language", "vlnv", "attributes", "preferredWorkGroupSizeMultiple", "workGroupSize", "interrupt",
    "hwControlProtocol",
}  # fmt: skip
_PORT = {"name", "mode", "range", "dataWidth", "portType", "base"}
_ARG = {
    "name", "addressQualifier", "id", "port", "size", "offset", "type", "hostOffset", "hostSize",
}  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """An argument of kernel.xml."""

    index: int
    name: str
    pointer: bool
    port: str
    size: int
    offset: int


@dataclass(frozen=True)
class Kernel:
    """What kernel.xml says."""

    name: str
    vlnv: str
    ports: dict[str, tuple[str, int, int]]  # mode, bits, range
    arguments: tuple[Argument, ...]


def check(project: Path, rtl: Rtl) -> Iterator[str]:
    """What is wrong with a project, one sentence each."""
    header = read_header(project / "host" / "hwgen_registers.h")
    problems, kernel = read_kernel(project / "kernel.xml")
    yield from problems
    if kernel is None:
        return
    yield from _check_kernel(kernel, header, rtl)
    calls = record(project / "package_kernel.tcl", VIVADO, ["build/kernel.xo"])
    yield from check_calls(calls, rtl, project)
    core = packaged(calls)
    yield from check_packaged(core, header, rtl)
    if core.vlnv != kernel.vlnv:
        yield f"the name is {core.vlnv} in the script, {kernel.vlnv} in kernel.xml"
    yield from _check_package_xo(calls, kernel)
    yield from check_calls(record(project / "floorplan.tcl", VIVADO), rtl, project)
    yield from _check_link(project / "link.cfg", kernel)
    yield from _check_cpp(project / "host", kernel)
    yield from _check_python(project / "host" / "host.py", kernel, header)
    yield from _check_makefile(project)
    yield from _check_readme(project)


def read_kernel(path: Path) -> tuple[list[str], Kernel | None]:
    """Read kernel.xml by its rules; what breaks them, and what it says."""
    root = ElementTree.parse(path).getroot()
    problems = []
    if root.tag != "root" or root.attrib != {"versionMajor": "1", "versionMinor": "6"}:
        problems.append(f"kernel.xml: the root must be of version 1.6, not {root.attrib}")
    shape = {"root": ["kernel"], "kernel": ["ports", "args"]}
    for element in root.iter():
        wanted = shape.get(element.tag)
        if wanted is not None and [child.tag for child in element] != wanted:
            problems.append(f"kernel.xml: <{element.tag}> must hold {' and '.join(wanted)}")
        child = {"ports": "port", "args": "arg"}.get(element.tag)
        if child is not None and any(inner.tag != child for inner in element):
            problems.append(f"kernel.xml: <{element.tag}> must hold <{child}> only")
        attributes = {"kernel": _KERNEL, "port": _PORT, "arg": _ARG}.get(element.tag)
        if attributes is not None and set(element.attrib) != attributes:
            problems.append(f"kernel.xml: <{element.tag}> has other attributes: {element.attrib}")
    if problems:
        return problems, None
    kernel = root[0].attrib
    for name, value in (
        ("language", "ip_c"),
        ("hwControlProtocol", "ap_ctrl_hs"),
        ("interrupt", "true"),
    ):
        if kernel[name] != value:
            problems.append(f"kernel.xml: {name} must be {value}, not {kernel[name]}")
    ports = {
        p.attrib["name"]: (
            p.attrib["mode"], int(p.attrib["dataWidth"]), int(p.attrib["range"], 0),
        )
        for p in root[0][0]
    }  # fmt: skip
    arguments = tuple(
        Argument(
            int(a.attrib["id"]), a.attrib["name"], a.attrib["addressQualifier"] == "1", a.attrib["port"],
            int(a.attrib["size"], 0), int(a.attrib["offset"], 0),
        )
        for a in root[0][1]
    )  # fmt: skip
    return problems, Kernel(kernel["name"], kernel["vlnv"], ports, arguments)


def _check_kernel(kernel: Kernel, header: Header, rtl: Rtl) -> Iterator[str]:
    """kernel.xml beside the RTL's ports and the registers."""
    if kernel.name != rtl.top or kernel.vlnv.split(":")[2] != rtl.top:
        yield f"kernel.xml: the kernel {kernel.name} ({kernel.vlnv}) must be called {rtl.top}"
    widths = {name: bits for name, (_, bits, _) in kernel.ports.items()}
    if widths != rtl.buses:
        yield f"kernel.xml: ports {widths} are {rtl.buses} in the RTL"
    for name, (mode, _, size) in kernel.ports.items():
        if mode != ("slave" if name.startswith("s_") else "master"):
            yield f"kernel.xml: {name} is a {mode}"
        if mode == "master" and size != (1 << 64) - 1:
            yield f"kernel.xml: {name} must reach 64 bits of addresses"
        if mode == "slave" and (size < header.window or size < 0x1000):
            yield f"kernel.xml: the window of {name} has {size:#x} bytes, the registers need {header.window:#x}"
    if [a.index for a in kernel.arguments] != list(range(len(kernel.arguments))):
        yield "kernel.xml: arguments must be numbered from 0"
    wanted = {
        name: (offset, bits // 8)
        for name, (offset, bits, access) in header.registers.items()
        if access == "read and write"
    }
    found = {a.name.upper(): (a.offset, a.size) for a in kernel.arguments}
    for name in sorted(set(wanted) | set(found)):
        if wanted.get(name) != found.get(name):
            yield f"kernel.xml: {name} is at {found.get(name)}, the register at {wanted.get(name)}"
    end = max(CONTROL.values()) + 4
    for a in sorted(kernel.arguments, key=lambda a: a.offset):
        if a.offset < end or a.offset % 4:
            yield f"kernel.xml: {a.name} at {a.offset:#x} overlaps what is before it"
        end = a.offset + a.size
        mode = kernel.ports.get(a.port, ("", 0, 0))[0]
        if mode != ("master" if a.pointer else "slave") or a.pointer != (a.size == 8):
            yield f"kernel.xml: {a.name} of {a.size} bytes is on the {mode or 'unknown'} port {a.port}"
    pointed = sorted(a.port for a in kernel.arguments if a.pointer)
    if pointed != sorted(name for name, (mode, *_) in kernel.ports.items() if mode == "master"):
        yield "kernel.xml: each memory port must have one pointer"


def _check_package_xo(calls: list[Call], kernel: Kernel) -> Iterator[str]:
    packed = [call for call in calls if call.name == "package_xo"]
    if len(packed) != 1:
        yield f"package_kernel.tcl calls package_xo {len(packed)} times"
        return
    if packed[0].option("-kernel_name") != kernel.name:
        yield f"package_xo names another kernel: {packed[0]}"
    if packed[0].option("-ctrl_protocol") != "ap_ctrl_hs":
        yield f"package_xo has another protocol: {packed[0]}"
    xml = packed[0].option("-kernel_xml")
    if xml is None or not Path(xml).is_file():
        yield f"package_xo names no kernel.xml that is there: {packed[0]}"


def _check_link(path: Path, kernel: Kernel) -> Iterator[str]:
    """Connectivity: every memory port has one memory, and no two share it."""
    values: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            values.setdefault(name, []).append(value)
    if set(values) - {"kernel_frequency", "nk", "sp", "slr", "prop"}:
        yield f"link.cfg: unknown keys {', '.join(values)}"
    unit = f"{kernel.name}_1"
    if values.get("nk") != [f"{kernel.name}:1:{unit}"]:
        yield f"link.cfg: nk is {values.get('nk')}"
    links = [
        re.fullmatch(r"(\w+)\.(\w+):(HBM|DDR)\[(\d+)\]", text) for text in values.get("sp", [])
    ]
    if not all(links):
        yield f"link.cfg: an sp is not UNIT.PORT:MEMORY[N]: {values.get('sp')}"
        return
    linked = [link for link in links if link is not None]
    if any(link[1] != unit for link in linked):
        yield f"link.cfg: an sp is of another unit than {unit}"
    masters = sorted(name for name, (mode, *_) in kernel.ports.items() if mode == "master")
    if sorted(link[2] for link in linked) != masters:
        yield "link.cfg: not every memory port has one memory"
    if len({(link[3], link[4]) for link in linked}) != len(linked):
        yield "link.cfg: two ports share a memory"
    if any(int(link[4]) >= {"HBM": 32, "DDR": 4}[link[3]] for link in linked):
        yield "link.cfg: a memory that the card does not have"
    for text in values.get("slr", []):
        if not re.fullmatch(rf"{unit}:SLR[0-3]", text):
            yield f"link.cfg: slr is {text}"


def _numbers_of(text: str, pattern: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(pattern, text)}


def _check_arguments(where: str, numbers: dict[str, int], kernel: Kernel) -> Iterator[str]:
    """Numbers of arguments by their names, beside kernel.xml."""
    wanted = {a.name: a.index for a in kernel.arguments if not a.pointer}
    wanted["memory"] = min(a.index for a in kernel.arguments if a.pointer)
    for name in sorted(set(wanted) | set(numbers)):
        if wanted.get(name) != numbers.get(name):
            yield f"{where}: argument {name} is {numbers.get(name)}, {wanted.get(name)} in kernel.xml"


def _check_cpp(host: Path, kernel: Kernel) -> Iterator[str]:
    """host.cpp and layout.h: numbers of arguments, registers that exist, whole pages."""
    layout, program = (host / "layout.h").read_text(), (host / "host.cpp").read_text()
    numbers = _numbers_of(layout, r"constexpr int k(\w+)Argument = (\d+);")
    lower = {name.lower(): index for name, index in numbers.items()}
    yield from _check_arguments("layout.h", lower, kernel)
    if f'kKernel = "{kernel.name}"' not in layout:
        yield "layout.h names another kernel"
    size = re.search(r"kBufferBytes = (\d+);", layout)
    if size is None or int(size[1]) % PAGE:
        yield "layout.h: buffers are not whole pages of 4 KiB"
    registers = (host / "hwgen_registers.h").read_text()
    for name in set(re.findall(r"\bHWGEN_\w+", program)):
        if f"#define {name} " not in registers:
            yield f"host.cpp uses {name}, which is not in hwgen_registers.h"
    for name in set(re.findall(r"\blayout::(k\w+)", program)):
        if not re.search(rf"\b{name} = ", layout):
            yield f"host.cpp uses layout::{name}, which is not in layout.h"
    for name in re.findall(r'#include "([^"]+)"', program):
        if not name.startswith("xrt/") and not (host / name).is_file():
            yield f"host.cpp includes {name}, which is missing"


def _check_python(path: Path, kernel: Kernel, header: Header) -> Iterator[str]:
    """host.py: its constants."""
    constants = {
        target.id: statement.value.value
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    numbers = {
        name.removesuffix("_ARGUMENT").lower(): value
        for name, value in constants.items()
        if name.endswith("_ARGUMENT") and isinstance(value, int)
    }
    yield from _check_arguments("host.py", numbers, kernel)
    for name, (offset, _, access) in header.registers.items():
        if name in constants and access == "read only" and constants[name] != offset:
            yield f"host.py: {name} is {constants[name]}, the register {offset:#x}"
    if constants.get("KERNEL") != kernel.name:
        yield "host.py names another kernel"


def _check_makefile(project: Path) -> Iterator[str]:
    """What make would run: it must know how to make everything, and name files that are there."""
    make = shutil.which("make")
    if make is None:
        yield "make is not on PATH"
        return
    run = subprocess.run([make, "-n", "all"], cwd=project, capture_output=True, text=True)
    if run.returncode:
        yield f"Makefile: {run.stderr.strip()}"
    commands = run.stdout.replace("\\\n", " ").splitlines()
    for tool in ("vivado ", "v++ "):
        if not any(command.startswith(tool) for command in commands):
            yield f"Makefile: {tool.strip()} is never called"
    for command in commands:
        for word in command.split():
            name = word.rpartition("=")[2]
            source = re.fullmatch(r"[\w./-]+\.(tcl|cfg|xml|cpp)", name)
            if source and not (project / name).is_file():
                yield f"Makefile: {name} is missing"


def _check_readme(project: Path) -> Iterator[str]:
    """Files that the README's table names."""
    for line in (project / "README.md").read_text().splitlines():
        cells = line.split("|")
        for name in re.findall(r"`([\w./]+\.\w+|\w+/)`", cells[1]) if len(cells) > 2 else []:
            if not (project / name).exists():
                yield f"README.md: {name} is missing"
