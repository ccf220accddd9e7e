# SPDX-License-Identifier: Apache-2.0
"""The control port: the register map and the registers behind AXI4-Lite."""

from hw.control.axi_lite import ControlRegisters
from hw.control.registers import Register, RegisterMap, register_map

__all__ = ["ControlRegisters", "Register", "RegisterMap", "register_map"]
