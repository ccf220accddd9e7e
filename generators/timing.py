# SPDX-License-Identifier: Apache-2.0
"""Periods of a mapped netlist: by OpenSTA, or from ABC's delay and the flip-flops of the library."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from generators.asic_recipe import BOX
from generators.liberty import LOAD_PF, Liberty

__all__ = ["Timer", "Times", "abc_timer", "find_timer"]


@dataclass(frozen=True)
class Times:
    """Longest paths, in ns.

    Attributes
    ----------
    period : from flip-flop to flip-flop with clk->Q and setup; None if there is no such path
    through : the longest that begins at an input, which arrives with the clock's edge, or ends at
        an output; None if it is not known
    """

    period: float | None
    through: float | None


@dataclass(frozen=True)
class Timer:
    """What measures time.

    Attributes
    ----------
    name : with its version
    program : path of OpenSTA; None: ABC's own delay is used
    """

    name: str
    program: str | None = None

    def script(self, top: str, clocks: Sequence[str], library: Liberty) -> str:
        """Tcl that prints the slacks of all kinds of paths against a period of 1."""
        load = LOAD_PF / library.capacitance_pf
        lines = [
            f'read_liberty "{library.path}"',
            "read_verilog net.v",
            f"link_design {top}",
            *(f"create_clock -name {{{c}}} -period 1.0 [get_ports {{{c}}}]" for c in clocks),
            *([] if clocks else ["create_clock -name none -period 1.0"]),
            "foreach port [all_outputs] {",
            f"  if {{![string match {BOX}* [get_name $port]]}} {{set_load {load:g} $port}}",
            "}",
            "set inputs {}",
            "foreach port [all_inputs] {",
            f"  if {{[lsearch {{{' '.join(clocks)}}} [get_name $port]] < 0}} {{lappend inputs $port}}",
            "}",
            f"set_driving_cell -lib_cell {library.driver} $inputs",
            'puts "hwgen period"',
        ]
        if clocks:
            lines.append(
                "report_checks -path_delay max -from [all_registers -clock_pins] "
                "-to [all_registers -data_pins] -digits 6"
            )
        name = clocks[0] if clocks else "none"
        return "\n".join(
            [
                *lines,
                'puts "hwgen from"',
                f"set_input_delay 0 -clock {{{name}}} $inputs",
                "report_checks -path_delay max -from $inputs -digits 6",
                'puts "hwgen to"',
                f"set_output_delay 0 -clock {{{name}}} [all_outputs]",
                "report_checks -path_delay max -to [all_outputs] -digits 6",
                'puts "hwgen end"',
                "exit",
            ]
        )

    def times(self, log: str, used: Sequence[str], library: Liberty) -> Times:
        """Read what was printed; ``used`` are the cells of the netlist."""
        return _of_sta(log, library) if self.program else _of_abc(log, used, library)


def abc_timer() -> Timer:
    """Time without OpenSTA."""
    return Timer("ABC delay + clk->Q + setup")


@lru_cache
def find_timer() -> Timer:
    """OpenSTA if it is on PATH, or else ABC."""
    program = shutil.which("sta")
    if program is None:
        return abc_timer()
    try:
        run = subprocess.run(
            [program, "-version"],
            capture_output=True,
            text=True,
            timeout=20,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return abc_timer()
    return Timer(f"OpenSTA {run.stdout.split()[0] if run.stdout.split() else ''}".strip(), program)


def _of_sta(log: str, library: Liberty) -> Times:
    parts = re.split(r"^hwgen (period|from|to|end)\s*$", log, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=False))
    if "end" not in found:
        raise ValueError("OpenSTA did not finish")
    longest = {}
    for name in ("period", "from", "to"):
        slacks = re.findall(r"^\s*(-?[\d.]+)\s+slack", found[name], re.MULTILINE)
        longest[name] = max((1.0 - float(s) for s in slacks), default=None)
    through = [t for t in (longest["from"], longest["to"]) if t is not None]
    return Times(
        period=_rounded(longest["period"], library),
        through=_rounded(max(through, default=None), library),
    )


def _rounded(value: float | None, library: Liberty) -> float | None:
    return None if value is None else round(value * library.time_ns, 4)


def _of_abc(log: str, used: Sequence[str], library: Liberty) -> Times:
    delays = re.findall(r"Delay\s*=\s*([\d.]+) ps", log)
    delay = float(delays[-1]) / 1e3 if delays else 0.0
    flops = [library.flip_flops[cell] for cell in used if cell in library.flip_flops]
    if not flops:
        return Times(period=None, through=round(delay, 4))
    own = max(flop.clk_to_q_ns + flop.setup_ns for flop in flops)
    return Times(period=round(delay + own, 4), through=None)
