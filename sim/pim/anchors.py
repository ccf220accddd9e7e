# SPDX-License-Identifier: Apache-2.0
"""Cycles that the published simulator was measured to take, and ours for the same work.

The draws of those runs are not known, only their mean lengths, and that of 64 requests one channel: 162
tiles and 28 copies into the vector buffer. So the attention of 64 requests is that channel, played through
the controller command by command; that of 256 is the mean over draws with the published mean length.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sim.pim.play import play
from sim.pim.system import DESIGNS, attention, layer_time
from sim.pim.workload import contexts, decoder

__all__ = ["Anchor", "anchors"]

CHANNEL = (432, 624)
"""Contexts of a channel with 162 tiles and 28 copies."""


@dataclass(frozen=True)
class Anchor:
    """What was measured there, and here."""

    name: str
    published: float
    ours: float

    @property
    def error(self) -> float:
        return self.ours / self.published - 1


def _draws(batch: int, mean: float, count: int) -> Iterator[np.ndarray]:
    seed = 0
    while count:
        lengths = contexts("sharegpt", batch, np.random.default_rng(seed))
        if abs(lengths.mean() / mean - 1) < 0.03:
            yield lengths
            count -= 1
        seed += 1


def anchors(draws: int = 4) -> list[Anchor]:
    """All of them, for GPT3-7B on four devices."""
    model = decoder("gpt3-7b")
    packed = {name: replace(DESIGNS[name], packed=True) for name in ("dual", "pim", "pim-shipped")}
    pairs = [x for i in range(31) for x in (200 + 8 * i, 709 - 8 * i)]
    rebuilt = np.array([*CHANNEL, *pairs])  # 64 requests, 457 tokens in the mean
    large = list(_draws(256, 349, draws))
    stage = [layer_time(DESIGNS["neupims"], model, x).stages["c"] for x in large]
    middle = [attention(packed["dual"], model, x).cycles for x in large]
    first, behind = model.gemms()
    npu = DESIGNS["neupims"].npu
    return [
        Anchor("attention, 64 requests", 40_364, play(packed["dual"], model, CHANNEL)),
        Anchor("attention, 256 requests", 127_857, float(np.mean(middle))),
        Anchor("stage C, 256 requests", 141_357, float(np.mean(stage))),
        Anchor("Newton, 64 requests, one command a cycle", 169_128,
               attention(packed["pim-shipped"], model, rebuilt).cycles),
        Anchor("Newton, 64 requests, a sequencer each", 47_939, play(packed["pim"], model, CHANNEL)),
        Anchor("QKV, 256 requests", 48_589, npu.layer(first, 256, 0.25)[0]),
        Anchor("projection and feed-forward, 256 requests", 153_514, npu.layer(behind, 256, 0.75)[0]),
    ]  # fmt: skip
