# SPDX-License-Identifier: Apache-2.0
"""Machines that play task-graph kernels: cores of an engine, scratchpads and a sequencer."""

from hw.kernel.machine import KernelMachine
from hw.kernel.program import CoreShape, Phase, Program

__all__ = ["CoreShape", "KernelMachine", "Phase", "Program"]
