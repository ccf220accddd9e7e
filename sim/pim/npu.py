# SPDX-License-Identifier: Apache-2.0
"""Time of the systolic arrays and vector units beside the memory."""

from dataclasses import dataclass
from functools import lru_cache

from hw.arrays import make_engine

__all__ = ["Npu"]


@lru_cache(maxsize=64)
def _beats(side: int, k: int) -> int:
    """Sets of stationary operands for ``k`` elements of a product: what the generated array takes."""
    return make_engine("systolic_ws", "mac", tokens=side, reduce=side, outputs=side).beats(k)


@dataclass(frozen=True)
class Npu:
    """Weight-stationary arrays with the operands exchanged: tokens stay, weights stream.

    Attributes
    ----------
    arrays, side : how many, of side x side multipliers.
    bandwidth : bytes a cycle that streams of weights reach.
    overlap : loads of weights hide behind all blocks of tokens; if False, behind the first one only,
        as in the published simulator.
    hidden_preload : the next stationary operands load while the last ones compute.
    sram_bytes : tokens and partial sums of a product that fit; more take the weights again.
    vector : cycles of a layer's vector operations for each token, not overlapped.
    """

    arrays: int = 8
    side: int = 128
    bandwidth: float = 885.0
    overlap: bool = False
    hidden_preload: bool = False
    sram_bytes: int = 134_218_000
    vector: float = 87.0

    def gemm(self, tokens: int, k: int, n: int) -> tuple[float, float]:
        """Cycles of a product, and those for which it uses the memory."""
        if tokens == 0:
            return 0.0, 0.0
        passes = -(-tokens * (2 * k + 4 * n) // self.sram_bytes)
        load = passes * 2 * k * n / self.bandwidth
        share, columns = self.side / self.arrays, -(-n // self.side)
        preload = 0 if self.hidden_preload else self.side
        stream = share * (columns if self.hidden_preload else columns - 1)
        block = _beats(self.side, k) * (preload + stream)
        blocks = -(-tokens // self.side)
        if self.overlap:
            return max(load, blocks * block), load
        return max(load, block) + (blocks - 1) * block, load

    def layer(self, gemms: list[tuple[int, int]], tokens: int, vector: float) -> tuple[float, float]:  # fmt: skip
        """Cycles of products one after the other with ``vector`` of the layer's vector work; of memory."""
        times = [self.gemm(tokens, k, n) for k, n in gemms]
        return sum(t for t, _ in times) + vector * self.vector * tokens, sum(m for _, m in times)
