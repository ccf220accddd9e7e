# SPDX-License-Identifier: Apache-2.0
"""The rules of a PIM channel as assertions that travel with its RTL."""

from typing import Any

from amaranth.lib.wiring import In

from hw.pim.commands import command_layout, index_bits
from hw.pim.config import PimConfig
from hw.pim.sizes import template_sizes
from hw.unit import TemplateUnit

__all__ = ["PimChecker"]


class PimChecker(TemplateUnit):
    """Watches the commands of a channel; empty in synthesis.

    It counts how long ago things happened, where :class:`hw.pim.timers.PimTimers` counts down what is
    forbidden; it shares sizes with it, and no rule. The properties are listed in docs/pim.md.

    Members
    -------
    ca_valid, ca : ``In``
        The command of this cycle.
    begins, promise, active, debt : ``In``
        Of the controller.
    pim_valid, pim_waits, mem_waits : ``In``
        The queue of the multipliers is not empty; a head waits.
    mem_open, mem_row : ``In``
        What the banks say of their buffers for reads and writes.
    """

    template = "pim/checker.sv.j2"

    def __init__(self, config: PimConfig) -> None:
        self._config = c = config
        self._layout = command_layout(c)
        super().__init__(
            {
                "ca_valid": In(1), "ca": In(self._layout), "begins": In(1), "promise": In(13),
                "active": In(1), "debt": In(4 * c.ranks), "pim_valid": In(1), "mem_waits": In(1),
                "pim_waits": In(1), "mem_open": In(c.banks),
                "mem_row": In(c.banks * index_bits(c.rows)),
            },
            c.key,
        )  # fmt: skip

    @property
    def patience(self) -> int:
        """Cycles after which the head of a queue must have moved."""
        c, t = self._config, self._config.timing
        refresh = c.ranks * (t.rfc + c.banks + t.ras + 2 * t.rp + t.write_end + t.wr)
        return c.patience + 2 * c.slack + 2 * refresh + 2 * (c.gwrite + t.rc) + 8 * t.faw

    def context(self) -> dict[str, Any]:
        return template_sizes(self._config, spare=1) | {"patience": self.patience}
