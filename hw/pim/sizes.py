# SPDX-License-Identifier: Apache-2.0
"""Sizes and timings as the templates that watch a channel's commands take them."""

from typing import Any

from hw.pim.commands import Cmd, command_layout, index_bits, slices
from hw.pim.config import PimConfig

__all__ = ["template_sizes"]


def template_sizes(config: PimConfig, *, spare: int) -> dict[str, Any]:
    """What a template may use.

    Parameters
    ----------
    config : the channel.
    spare : values above the longest time that a counter must hold too.
    """
    c, t, layout = config, config.timing, command_layout(config)
    slot = max(t.comp, t.burst)
    longest = t.comp * max(c.cols, t.fill) + slot * c.res_bursts + t.rl
    horizon = longest + t.burst * c.res_bursts + t.wl + t.burst
    most = max(t.rfc, c.gwrite, longest, t.write_end + t.wr, t.faw, t.rc)
    return {
        "ca_bits": layout.size, "at": slices(layout, "ca"), "t": t,
        "cmds": {cmd.name.lower(): int(cmd) for cmd in Cmd}, "banks": c.banks,
        "bank_bits": index_bits(c.banks), "row_bits": index_bits(c.rows),
        "k_bits": index_bits(c.cols + 1), "entries": c.entries,
        "entry_bits": index_bits(c.entries), "ranks": c.ranks, "groups": c.groups,
        "banks_per_rank": c.banks_per_rank, "banks_per_group": c.banks_per_group,
        "act_group": c.act_group, "nbuf": c.buffers, "dual": c.dual, "slot": slot,
        "res_bursts": c.res_bursts, "gwrite": c.gwrite, "horizon": horizon,
        "width": index_bits(spare + 1 + most), "near_shift": c.near_shift,
    }  # fmt: skip
