# SPDX-License-Identifier: Apache-2.0
"""The C++ compiler that simulators are made with."""

import os
import shutil

from sim.errors import ToolError

__all__ = ["find_compiler"]


def find_compiler(makes: str) -> str:
    """Its path; of ``CXX``, else of g++.

    Parameters
    ----------
    makes : what it is needed for.

    Raises
    ------
    ToolError
        If there is none: how to get it.
    """
    name = os.environ.get("CXX", "g++")
    path = shutil.which(name)
    if path is None:
        raise ToolError(
            f"{name} is not on PATH, and it compiles {makes}: install g++ "
            "(Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++) or set CXX"
        )
    return path
