# SPDX-License-Identifier: Apache-2.0
"""The multipliers of a bank."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.pim.config import PimConfig
from hw.unit import TemplateUnit

__all__ = ["PimMac"]


class PimMac(TemplateUnit):
    """The dot product of ``lanes`` numbers a cycle, accumulated until a step says ``first``.

    The three formats are those of :class:`hw.pim.config.PimConfig`; ``sim.golden.pim`` defines the
    bits. In ``bf16`` numbers and sums below the normal ones are zero; infinities and NaN are IEEE's.
    ``bf16-block`` has neither: exponent 255 counts as a number.

    Latency
    -------
    ``acc`` includes a step ``latency`` cycles after its ``en``.

    Members
    -------
    en, first, mask : ``In``
        A step; it starts a new sum; its lanes that count.
    a, b : ``In``
        Two vectors.
    acc : ``Out``
        The result: 32 bits for int8, else bfloat16.
    """

    template = "pim/mac.sv.j2"
    shared = True

    def __init__(self, config: PimConfig) -> None:
        self._config = c = config
        super().__init__(
            {
                "en": In(1), "first": In(1), "mask": In(c.lanes), "a": In(c.col_bits),
                "b": In(c.col_bits), "acc": Out(c.res_bits),
            },
            {"l": c.lanes, "f": c.fmt.replace("-", "_")},
        )  # fmt: skip

    @property
    def latency(self) -> int:
        """Cycles from a step to its sum."""
        c = self._config
        return {"int8": 3, "bf16": c.lanes.bit_length() + 1, "bf16-block": 4}[c.fmt]

    def context(self) -> dict[str, Any]:
        c = self._config
        levels = c.lanes.bit_length() - 1
        return {
            "lanes": c.lanes, "elem_bits": c.elem_bits, "res_bits": c.res_bits, "fmt": c.fmt,
            "levels": levels, "latency": self.latency,
            # A product is m * 2**(ex + ey - 268), shifted up by 7: see sim.golden.pim.
            "bias": 148,
        }  # fmt: skip
