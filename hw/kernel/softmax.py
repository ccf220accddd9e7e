# SPDX-License-Identifier: Apache-2.0
"""Softmax of the rows of a matrix that is kept in rows."""

from dataclasses import asdict
from typing import Any

from amaranth.lib.wiring import In, Out

from hw.kernel.memory import address_bits
from hw.kernel.post import packed_table
from hw.kernel.program import Program, Softmax
from hw.sfu.tables import POWER_TABLE
from hw.unit import TemplateUnit

__all__ = ["RowSoftmax"]


class RowSoftmax(TemplateUnit):
    """``sim.golden.kernel_ops.softmax``: each row passes three times, and leaves in the third.

    Latency
    -------
    Six cycles; the first word of the third pass waits until ``DIVISION`` cycles after the last one of the second.

    Parameters
    ----------
    lanes, bits : elements of a word.
    program : whose softmax phases it plays.
    name : of the core.

    Members
    -------
    i_valid, i_ready : of a word ``i_data``, of which the lanes ``i_kept`` count; ``i_first`` and ``i_end`` of a pass.
    phase : which one.
    o_valid, o_ready : of exponentials (17 bits each), ``o_multiplier`` and ``o_shift`` of their requantisation.
    """

    template = "kernel/softmax.sv.j2"
    DIVISION = 26

    def __init__(self, program: Program, *, lanes: int, bits: int, name: str) -> None:
        self._steps = {
            k: asdict(p.work) for k, p in enumerate(program.phases) if isinstance(p.work, Softmax)
        }
        self._lanes, self._bits = lanes, bits
        self._phase_bits = address_bits(len(program.phases))
        super().__init__(
            {
                "i_valid": In(1), "i_ready": Out(1), "i_data": In(lanes * bits), "i_kept": In(lanes),
                "i_pass": In(2), "i_first": In(1), "i_end": In(1), "phase": In(self._phase_bits),
                "o_valid": Out(1), "o_ready": In(1), "o_data": Out(17 * lanes), "o_multiplier": Out(17),
                "o_shift": Out(6),
            },
            {"": name},
        )  # fmt: skip

    def context(self) -> dict[str, Any]:
        return {
            "lanes": self._lanes, "bits": self._bits, "steps": self._steps, "phase_bits": self._phase_bits,
            "power": packed_table(POWER_TABLE, 17, 8),
        }  # fmt: skip
