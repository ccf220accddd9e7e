# SPDX-License-Identifier: Apache-2.0
"""Runs what hwgen built from Python: simulated, as the golden model, or on a card. ``docs/runtime.md``."""

from designs.errors import DesignError
from hwgen.runtime.accelerator import BACKENDS, Accelerator
from sim.errors import SimulationError, ToolError

__all__ = ["BACKENDS", "Accelerator", "DesignError", "SimulationError", "ToolError"]
