# SPDX-License-Identifier: Apache-2.0
"""How files are made from templates: one way for SystemVerilog and C++ alike."""

from pathlib import Path

import jinja2

__all__ = ["environment"]


def environment(folder: Path) -> jinja2.Environment:
    """The templates of a folder: what they name must be given, and lines of control leave nothing behind."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
