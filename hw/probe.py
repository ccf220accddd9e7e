# SPDX-License-Identifier: Apache-2.0
"""Probes: what a simulation sees of the tensors that never leave the chip.

A probe costs nothing outside a simulation: its body exists only where ``HWGEN_PROBE`` is defined.
"""

from typing import Any

from amaranth.hdl import unsigned
from amaranth.lib.wiring import In

from hw.unit import TemplateUnit

__all__ = ["Probe"]


class Probe(TemplateUnit):
    """Hands every valid word, with the place it is written to, to the C++ of the simulation.

    It calls ``hwgen_probe_<bits>`` (``sim/cpp/main.cpp.j2``) at each rising edge with ``valid``.

    Parameters
    ----------
    unit_id : int
        What is probed: 0 residual buffer, 1 activation buffer, 2 K/V word, 3 chosen token.
    data_bits : int
        Bits of a word.

    Members
    -------
    valid : In(1)
        This word is written in this cycle.
    phase, layer : In(8)
        Index into the phases of the program, and the layer.
    row : In(16)
        Token within the pass.
    chunk : In(16)
        Feature // R.
    data : In(data_bits)
        The word, feature 0 of the chunk lowest.
    """

    template = "probe.sv.j2"

    def __init__(self, unit_id: int, data_bits: int) -> None:
        if not 0 <= unit_id <= 255:
            raise ValueError(f"Unit id must be 0 to 255, not {unit_id!r}")
        if data_bits < 1 or data_bits % 8:
            raise ValueError(f"Data must be whole bytes, not {data_bits!r} bits")
        self._unit_id, self._data_bits = unit_id, data_bits
        super().__init__(
            {
                "valid": In(1),
                "phase": In(8),
                "layer": In(8),
                "row": In(16),
                "chunk": In(16),
                "data": In(unsigned(data_bits)),
            },
            {"unit": unit_id, "bits": data_bits},
        )

    def context(self) -> dict[str, Any]:
        return {"unit": self._unit_id, "bits": self._data_bits}
