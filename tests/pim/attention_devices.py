# SPDX-License-Identifier: Apache-2.0
"""Cores' attention units on PIM channels, small and of every shape."""

from dataclasses import replace
from typing import Any

from hw.core.config import CoreConfig
from hw.pim.config import PimConfig
from hw.pim.timing import PRESETS

ACC_BITS = 24
SLOW = PRESETS["neupims-hbm"].at_clock(5.0)
CHANNEL = PimConfig(
    banks=16, ranks=2, groups=2, rows=8, page_bytes=256, lanes=16, prea=True, refresh="together",
    act_group=4, entries=2, timing=SLOW, array="block_ram",
)  # fmt: skip


def core(pim: PimConfig, channels: int, **sizes: Any) -> CoreConfig:
    found: dict[str, Any] = {
        "tokens": 2, "lanes": 8, "ffn": 64, "vocabulary": 40, "context": 150, "layers": 2, "chunk": 4,
        "slots": 4, "ports": 2, "port_bytes": 16, "w_depth": 64, "k_depth": 4, "v_depth": 4,
        **dict.fromkeys(
            ("tokens_at", "weights_at", "layer_stripes", "head_at", "head_stripes", "wte_at", "wpe_at", "row_stripes",
             "position_stripes", "k_at", "v_at", "kv_layer_stripes", "kv_head_stripes"), 0),
    }  # fmt: skip
    return CoreConfig(pim=pim, pim_channels=channels, **found | sizes)


DEVICES = {
    # Results of two rows, two query heads that share keys, sequences that open a row twice.
    "cut": core(CHANNEL, 2, width=64, heads=4, kv_heads=2, head_size=16),
    # Rows of two results; three heads in a channel, whose keys fill most of a row; half a last row.
    "join": core(
        replace(CHANNEL, banks=4, ranks=1, groups=1, rows=16, page_bytes=1024, entries=1, array="registers"),
        1, tokens=1, width=48, heads=3, kv_heads=3, head_size=16, chunk=3,
    ),
}  # fmt: skip
