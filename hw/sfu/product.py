# SPDX-License-Identifier: Apache-2.0
"""The product of a gated feed-forward part: activated values times their factors."""

from typing import Any

from amaranth.hdl import signed
from amaranth.lib.data import ArrayLayout
from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["PRODUCT_FRACTION", "GatedProduct"]

PRODUCT_FRACTION = 15
"""By how much a product is shifted."""


class GatedProduct(TemplateUnit):
    """``u * up / 2**15``, rounded to 8 bits (``gated_product``), a word per cycle.

    Latency
    -------
    ``y`` is valid ``latency`` cycles after ``up``; ``u`` is read one cycle after ``up``.

    Parameters
    ----------
    lanes : numbers of a word.

    Members
    -------
    valid : ``In(1)``; accompanies ``up``.
    up, u : ``In``, s16 per lane.
    y : ``Out``, s8 per lane.
    """

    template = "sfu/gated_product.sv.j2"
    latency = 3

    def __init__(self, lanes: int) -> None:
        if lanes < 1:
            raise ValueError(f"A word needs at least 1 lane, not {lanes!r}")
        self.lanes = lanes
        word = ArrayLayout(signed(16), lanes)
        super().__init__(
            {
                "valid": In(1),
                "up": In(word),
                "u": In(word),
                "y": Out(ArrayLayout(signed(8), lanes)),
            },
            {"l": lanes},
        )

    def context(self) -> dict[str, Any]:
        return {"lanes": self.lanes, "shift": PRODUCT_FRACTION}
