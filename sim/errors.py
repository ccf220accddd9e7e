# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while simulating, each with the exit code of the command line."""

from __future__ import annotations

__all__ = ["SimulationError", "ToolError"]


class ToolError(Exception):
    """A program that hwgen calls is missing or failed; the message says which, and what to do."""

    exit_code = 3


class SimulationError(Exception):
    """The hardware did something that it must not do, or never finished."""

    exit_code = 1
