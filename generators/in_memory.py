# SPDX-License-Identifier: Apache-2.0
"""Modules of a build that are no part of the chip: the banks of PIM channels and what watches over them."""

__all__ = ["in_memory"]

_MODULES = ("pim_device_", "pim_bank_", "pim_mac_", "pim_checker_")


def in_memory(name: str) -> bool:
    """Whether a module is in the memory beside the chip (or, a checker, in simulation only)."""
    return name.startswith(_MODULES)
