# SPDX-License-Identifier: Apache-2.0
"""Registers: the RTL decides, and every description of them must say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.exported.ip import Packaged
from benchmarks.exported.rtl import Rtl
from sim import cocotb_run

__all__ = ["Header", "check_packaged", "read_header", "try_registers"]

CONTROL = {"CTRL": 0x00, "GIER": 0x04, "IP_IER": 0x08, "IP_ISR": 0x0C}
"""Registers whose place is fixed by Vitis."""


@dataclass(frozen=True)
class Header:
    """A C header of registers.

    Attributes
    ----------
    registers : name -> (offset, bits, ``"read and write"``, ``"read only"`` or ``"handshake"``)
    window : bytes
    """

    registers: dict[str, tuple[int, int, str]]
    window: int


def read_header(path: Path) -> Header:
    """Read ``hwgen_registers.h``."""
    text = path.read_text()
    found = re.findall(
        r"/\* (\d+) bits, ([a-z ]+): .*\*/\n#define HWGEN_(\w+) (0x[0-9a-f]+)u", text
    )
    window = re.search(r"#define HWGEN_WINDOW (\d+)u", text)
    return Header(
        {name: (int(offset, 0), int(bits), access) for bits, access, name, offset in found},
        int(window[1]) if window else 0,
    )


def check_packaged(core: Packaged, header: Header, rtl: Rtl) -> Iterator[str]:
    """What a packaging script says of the registers, beside the header."""
    for name in sorted(set(core.registers) ^ set(header.registers)):
        yield f"register {name} is in the script or in the header only"
    for name, (offset, bits, access, bus) in core.registers.items():
        wanted = header.registers.get(name)
        if wanted is None:
            continue
        reads = "read only" if access == "read-only" else wanted[2]
        if (offset, bits, reads) != wanted:
            yield f"register {name} is {offset:#x}, {bits} bits, {access} in the script, {wanted} in the header"
        if (bits == 64) != bool(bus):
            yield f"register {name} of {bits} bits points to {bus or 'no bus'}"
    pointed = sorted(bus for *_, bus in core.registers.values() if bus)
    if pointed != sorted(bus for bus in rtl.buses if bus.startswith("m_axi_")):
        yield f"registers point to {', '.join(pointed)}: not to each bus once"


def try_registers(
    rtl_folder: Path, registers: Mapping[str, tuple[int, int, str]], work: Path
) -> None:
    """Write and read every register of the exported register file in simulation, by its name in the RTL.

    Raises
    ------
    RuntimeError
        If one is not where it is said to be.
    """
    (source,) = rtl_folder.glob("control_registers_*.v")
    cocotb_run.run(
        [source], top=source.stem, test_module="cocotb_registers", folder=work,
        python_path=[Path(__file__).parent],
        extra_env={"REGISTERS": json.dumps(registers), "COCOTB_LOG_LEVEL": "WARNING"},
    )  # fmt: skip
