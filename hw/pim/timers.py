# SPDX-License-Identifier: Apache-2.0
"""Which commands a channel's timings allow."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.pim.commands import command_layout, index_bits
from hw.pim.config import PimConfig
from hw.pim.sizes import template_sizes
from hw.unit import TemplateUnit

__all__ = ["PimTimers"]


class PimTimers(TemplateUnit):
    """State of every row buffer, and a counter for every timing rule.

    A command in cycle t changes the answers from cycle t + 1. Bank b of the multipliers' buffer f is
    bit ``f * banks + b``.

    Members
    -------
    ca_valid, ca : ``In``
        The command of this cycle.
    ask_row, ask_k, ask_entry : ``In``
        Of the multipliers' next command.
    mem_ask_row : ``In``
        Of the next read, write or GWRITE.
    mem_open, mem_row, pim_open : ``Out``
        Row buffers.
    act_ok, pre_ok, rd_ok, wr_ok, gwrite_ok, gact_ok, pim_pre_ok : ``Out``
        Bank by bank: allowed in this cycle. For GACT every bank of its group must be.
    gact_conflict, mem_conflict, pim_conflict : ``Out``
        Banks whose open row keeps ``ask_row`` (``mem_ask_row``) from opening: in the buffer of reads
        and writes; in those of the multipliers; in those of the multipliers, for ``ask_row``.
    pim_same, pim_ready : ``Out``
        All banks hold one and the same row; all may compute.
    rank_free : ``Out``
        No refresh of the rank is under way.
    comp_ok, composite_ok, readres_ok, wrgb_ok, ref_ok : ``Out``
        Allowed in this cycle, as far as the channel (the rank) is concerned.
    """

    template = "pim/timers.sv.j2"

    def __init__(self, config: PimConfig) -> None:
        self._config = c = config
        self._layout = command_layout(c)
        n, f = c.banks, c.buffers
        super().__init__(
            {
                "ca_valid": In(1), "ca": In(self._layout), "ask_k": In(index_bits(c.cols + 1)),
                "ask_entry": In(index_bits(c.entries)), "ask_row": In(index_bits(c.rows)),
                "mem_ask_row": In(index_bits(c.rows)), "mem_open": Out(n),
                "mem_row": Out(n * index_bits(c.rows)), "act_ok": Out(n), "pre_ok": Out(n),
                "rd_ok": Out(n), "wr_ok": Out(n), "gwrite_ok": Out(n), "gact_conflict": Out(n),
                "mem_conflict": Out(f * n), "pim_conflict": Out(f * n), "pim_open": Out(f * n),
                "gact_ok": Out(f * n), "pim_pre_ok": Out(f * n), "pim_same": Out(f),
                "pim_ready": Out(f), "comp_ok": Out(1), "composite_ok": Out(1),
                "readres_ok": Out(1), "wrgb_ok": Out(1), "rank_free": Out(c.ranks), "ref_ok": Out(c.ranks),
            },
            c.key,
        )  # fmt: skip

    def context(self) -> dict[str, Any]:
        return template_sizes(self._config, spare=0)
