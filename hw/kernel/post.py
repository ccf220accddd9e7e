# SPDX-License-Identifier: Apache-2.0
"""What happens to every row of results: requantisation, a table, ReLU."""

from typing import Any

import numpy as np
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from hw.kernel.memory import address_bits
from hw.kernel.program import Function
from hw.sfu.tables import LOGISTIC_TABLE, POWER_TABLE, concatenation
from hw.unit import TemplateUnit

__all__ = ["PostProcess", "Step", "packed_table"]


Step = tuple[Function | None, bool]
"""What follows a phase's requantisation: a table, and whether ReLU comes behind it."""


def packed_table(values: np.ndarray, value_bits: int, slope_bits: int) -> str:
    """Verilog of a table with what the next entry is more, above each value."""
    return concatenation(
        values[:-1] | np.diff(values) << value_bits, value_bits + slope_bits, per_line=6
    )


class PostProcess(TemplateUnit):
    """``clamp(round_half_up(acc * multiplier / 2**shift))``, then a table and ReLU, a row a cycle.

    Latency
    -------
    A row leaves ``latency`` cycles after it entered, if ``o`` is ready; while ``o`` holds a row that is not taken,
    everything waits.

    Parameters
    ----------
    lanes, acc_bits, bits : elements of a row, bits of an accumulator (at most 47) and of a result.
    steps : of each phase what follows.
    name : of the core.

    Members
    -------
    i : ``In(stream)`` of ``acc``, ``multiplier`` (17 bits), ``shift`` (1 to 63) and ``phase``.
    o : ``Out(stream)`` of ``y`` and ``phase``.
    """

    template = "kernel/post.sv.j2"

    def __init__(
        self, *, lanes: int, acc_bits: int, bits: int, steps: tuple[Step, ...], name: str
    ) -> None:
        if not 2 <= acc_bits <= 47:
            raise ValueError(f"Accumulators must have 2 to 47 bits, not {acc_bits!r}")
        self._lanes, self._acc_bits, self._bits, self._steps = lanes, acc_bits, bits, steps
        phase = address_bits(len(steps))
        self._phase_bits = phase
        super().__init__(
            {
                "i": In(
                    stream.Signature(
                        StructLayout(
                            {"acc": lanes * acc_bits, "multiplier": 17, "shift": 6, "phase": phase}
                        )
                    )
                ),
                "o": Out(stream.Signature(StructLayout({"y": lanes * bits, "phase": phase}))),
            },
            {"": name},
        )

    @property
    def functions(self) -> bool:
        """Whether there is a table."""
        return any(function for function, _ in self._steps)

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a row to the cycle in which its result is valid."""
        return 10 if self.functions else 4

    def context(self) -> dict[str, Any]:
        return {
            "lanes": self._lanes, "acc_bits": self._acc_bits, "bits": self._bits, "steps": self._steps,
            "phase_bits": self._phase_bits, "functions": self.functions, "stages": self.latency,
            "names": sorted({f.name for f, _ in self._steps if f}),
            "logistic": packed_table(LOGISTIC_TABLE, 16, 9), "power": packed_table(POWER_TABLE, 17, 8),
        }  # fmt: skip
