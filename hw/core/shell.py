# SPDX-License-Identifier: Apache-2.0
"""The shell: a core with AXI ports under the port names that vendor flows expect."""

from typing import Any

from hw.unit import TemplateUnit, Unit

__all__ = ["Shell"]


class Shell(TemplateUnit):
    """Top module ``hwgen_top``: ``ap_clk``, ``ap_rst_n``, ``s_axi_control_*``, ``m_axi_gNN_*``, ``interrupt``.

    ``ap_rst_n`` is active low and synchronous; it is registered twice before it reaches the core.
    """

    template = "core/shell.sv.j2"

    def __init__(self, core: Unit) -> None:
        self._core = core
        super().__init__({}, {})

    @property
    def module_name(self) -> str:
        return "hwgen_top"

    def parts(self) -> list[Unit]:
        return [self._core]

    def context(self) -> dict[str, Any]:
        ports = [
            {
                "outer": name.replace("control__", "s_axi_control_", 1).replace("__", "_"),
                "inner": name,
                "direction": "input" if is_input else "output",
                "width": len(value),
            }
            for name, value, is_input in self._core.ports()
        ]
        return {"ports": ports, "accelerator": self._core.module_name}
