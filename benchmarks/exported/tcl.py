# SPDX-License-Identifier: Apache-2.0
"""Scripts of vendor tools, run in a plain Tcl whose commands are noted instead of carried out."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["QUARTUS", "VIVADO", "Call", "TclError", "record"]

_STUBS = Path(__file__).parent / "stubs.tcl"

_VIVADO = """
    add_cells_to_pblock add_files close_project create_clock create_pblock create_project current_fileset
    get_cells get_pblocks get_ports get_property ipx::add_address_block ipx::add_bus_parameter
    ipx::add_memory_map ipx::add_register ipx::add_register_parameter ipx::associate_bus_interfaces
    ipx::check_integrity ipx::create_xgui_files ipx::current_core ipx::get_bus_interfaces ipx::get_memory_maps
    ipx::package_project ipx::remove_memory_map ipx::save_core ipx::update_checksums opt_design package_xo
    phys_opt_design place_design read_xdc report_methodology report_timing_summary report_utilization
    resize_pblock route_design set_false_path set_property synth_design update_compile_order write_checkpoint
"""
VIVADO = frozenset(_VIVADO.split())
"""Commands of Vivado, by UG835 and UG1118: those that occur in published scripts, not all there are."""

_QUARTUS = """
    add_fileset add_fileset_file add_interface add_interface_port create_clock derive_clock_uncertainty
    execute_flow export_assignments get_ports project_close project_new set_false_path set_fileset_property
    set_global_assignment set_instance_assignment set_interface_property set_module_property
"""
QUARTUS = frozenset(_QUARTUS.split())
"""Commands of Quartus Prime and of Platform Designer."""


class TclError(Exception):
    """A script that Tcl does not run."""


@dataclass(frozen=True)
class Call:
    """A command that was called: its name, and the words after it."""

    name: str
    words: tuple[str, ...]

    def option(self, name: str) -> str | None:
        """The word after an option."""
        return self.words[self.words.index(name) + 1] if name in self.words else None

    def __str__(self) -> str:
        return " ".join((self.name, *self.words))


def record(script: Path, commands: frozenset[str], arguments: Sequence[str] = ()) -> list[Call]:
    """Run a script in tclsh; the calls of ``commands``, which do nothing.

    Raises
    ------
    TclError
        If Tcl stops at an error, such as a command that the tool does not have.
    FileNotFoundError
        If there is no tclsh.
    """
    tclsh = shutil.which("tclsh") or shutil.which("tclsh8.6")
    if tclsh is None:
        raise FileNotFoundError("tclsh is not on PATH (Debian, Ubuntu: apt install tcl)")
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "calls"
        run = subprocess.run(
            [tclsh, _STUBS, note, " ".join(sorted(commands)), script, *arguments],
            cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        if run.returncode:
            raise TclError(run.stderr.strip().splitlines()[0])
        lines = note.read_text().splitlines()
    calls = [[bytes.fromhex(word[1:]).decode() for word in line.split()] for line in lines]
    return [Call(words[0], tuple(words[1:])) for words in calls]
