# SPDX-License-Identifier: Apache-2.0
"""A project of ``--flow vivado``: is it complete, and does it say of the RTL what is so?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.exported.ip import check_calls, packaged
from benchmarks.exported.registers import check_packaged, read_header
from benchmarks.exported.rtl import Rtl
from benchmarks.exported.tcl import VIVADO, record

__all__ = ["check"]


def check(project: Path, rtl: Rtl) -> Iterator[str]:
    """What is wrong with a project, one sentence each."""
    package = record(project / "package_ip.tcl", VIVADO)
    yield from check_calls(package, rtl, project)
    yield from check_packaged(packaged(package), read_header(project / "hwgen_registers.h"), rtl)
    for arguments in ([], ["place"]):
        calls = record(project / "synth_ooc.tcl", VIVADO, arguments)
        yield from check_calls(calls, rtl, project)
        if any(call.name == "place_design" for call in calls) != bool(arguments):
            yield "synth_ooc.tcl places without being asked, or not at all"
    clocks = 0
    for name in ("timing.xdc", "floorplan.xdc"):
        calls = record(project / name, VIVADO)
        yield from check_calls(calls, rtl, project)
        clocks += sum(call.name == "create_clock" for call in calls)
        made = {call.words[0] for call in calls if call.name == "create_pblock"}
        for call in calls:
            if call.name == "get_pblocks" and call.words[0] not in made:
                yield f"{name}: no Pblock {call.words[0]} was made"
    if clocks != 1:
        yield f"{clocks} clocks are defined, not 1"
