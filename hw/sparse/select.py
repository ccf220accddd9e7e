# SPDX-License-Identifier: Apache-2.0
"""One of a few operands, by LUTs and the wide multiplexers behind them, which yosys does not use by itself."""

from pathlib import Path
from typing import Any

from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["CANDIDATES", "LUT_MODELS", "Select"]

CANDIDATES = (2, 4, 8, 16)
"""Operands that a selection can have."""

LUT_MODELS = Path(__file__).parent.parent / "dsp" / "luts.v"
"""Models of LUT6, MUXF7 and MUXF8 for simulation."""


class Select(TemplateUnit):
    """``y = x[index]``, combinationally, in ``lut`` LUTs of UltraScale(+).

    Parameters
    ----------
    candidates : int
        2, 4, 8 or 16.
    bits : int
        Of an operand.

    Members
    -------
    index : ``In(log2(candidates))``
    x : ``In(candidates * bits)``
    y : ``Out(bits)``
    """

    template = "sparse/select.sv.j2"

    def __init__(self, *, candidates: int, bits: int) -> None:
        if candidates not in CANDIDATES:
            known = ", ".join(map(str, CANDIDATES))
            raise ValueError(f"a selection has {known} candidates, not {candidates!r}")
        self.candidates, self.bits = candidates, bits
        ports = {
            "index": In(candidates.bit_length() - 1),
            "x": In(candidates * bits),
            "y": Out(bits),
        }
        super().__init__(ports, {"m": candidates, "b": bits})

    @property
    def lut(self) -> int:
        return self.bits * max(1, self.candidates // 4)

    def context(self) -> dict[str, Any]:
        of_four = sum(1 << a for a in range(64) if a >> (a >> 4) & 1)
        return {
            "candidates": self.candidates,
            "bits": self.bits,
            "index_bits": self.candidates.bit_length() - 1,
            "init": f"64'h{of_four:016x}",
        }
