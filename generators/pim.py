# SPDX-License-Identifier: Apache-2.0
"""The PIM channels that a model's keys and values get on a target."""

from __future__ import annotations

from dataclasses import replace

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.target import PimMemory, TargetCard
from hw.pim.cache import CacheShape
from hw.pim.config import PimConfig
from hw.pim.timing import preset

__all__ = ["pim_channels"]

MOST_ROWS = 1 << 16
"""Rows of a bank that a channel can have."""


def pim_channels(card: ModelCard, target: TargetCard, lanes: int) -> tuple[PimConfig, int]:
    """The channels, with as many rows as they need, and how many of them.

    Parameters
    ----------
    card, target : the target has channels.
    lanes : of the core.

    Raises
    ------
    DesignError
        If keys and values do not fit, or the channels cannot multiply them.
    """
    memory = target.pim
    if memory is None:
        raise DesignError(f"{target.name} has no PIM channels")
    count = min(card.kv_heads & -card.kv_heads, 1 << memory.channels.bit_length() - 1)
    shared = card.heads // card.kv_heads

    def shape(layers: int) -> CacheShape:
        return CacheShape(
            channel=_channel(memory, target.clock_mhz, shared, MOST_ROWS),
            channels=count,
            lanes=lanes,
            kv_heads=card.kv_heads,
            shared=shared,
            head_size=card.head_size,
            context=card.context,
            layers=layers,
            chunk=1,
        )

    try:
        layer = shape(1)
    except ValueError as error:
        raise DesignError(
            f"{card.name} does not fit the PIM channels of {target.name}: {error}"
        ) from None
    rows = card.layers * layer.layer_rows
    if rows > min(memory.rows, MOST_ROWS):
        raise _too_large(card, target, layer)
    return replace(layer.channel, rows=1 << max(2, (rows - 1).bit_length())), count


def _channel(memory: PimMemory, clock_mhz: float, shared: int, rows: int) -> PimConfig:
    timing = preset(memory.timing)
    period = 1e3 / clock_mhz
    return PimConfig(
        banks=memory.banks, ranks=memory.ranks, groups=memory.groups, rows=rows,
        page_bytes=memory.page_bytes, lanes=memory.lanes, act_group=memory.act_group, prea=True,
        refresh="together", entries=min(8, 1 << (shared - 1).bit_length()), array="block_ram",
        timing=timing if period <= timing.clock_ns else timing.at_clock(period),
    )  # fmt: skip


def _too_large(card: ModelCard, target: TargetCard, need: CacheShape) -> DesignError:
    """What is needed, what is there, and the longest context that would fit; ``need``: of a layer."""
    assert target.pim is not None
    row = target.pim.banks * target.pim.page_bytes * need.channels
    have = min(target.pim.rows, MOST_ROWS)
    fits = max(
        (n for n in range(need.tile, card.context, need.tile)
         if card.layers * (-(-n // need.tile) + -(-n // need.span)) <= have),
        default=0,
    )  # fmt: skip
    wanted, there = card.layers * need.layer_rows * row, have * row
    return DesignError(
        f"{card.name} does not fit {target.name}: keys and values of {card.context:,} tokens take {wanted:,} bytes of "
        f"{need.channels} PIM channels, there are {there:,} ({wanted - there:,} too many); "
        + (f"a context of {fits:,} fits" if fits else "no context fits")
    )
