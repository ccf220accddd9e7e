# SPDX-License-Identifier: Apache-2.0
"""The tables that the special function units hold, by the formulas of ``docs/architecture.md``.

``sim/golden/ops.py`` has the same formulas; ``tests/hw/test_sfu.py`` proves the tables equal. Both
sides compute them, because a golden model never imports hardware nor hardware a golden model.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EXP2_TABLE",
    "GATE_TABLE",
    "LOGISTIC_TABLE",
    "POWER_TABLE",
    "RSQRT_TABLE",
    "concatenation",
]

Ints = NDArray[np.int64]

EXP2_TABLE: Ints = np.round(127 * 256 * 2.0 ** (-np.arange(256) / 256)).astype(np.int64)
"""``127 * 2**8 * 2**(-f/256)``, 15 bits."""

RSQRT_TABLE: Ints = np.round(2.0**23 / np.sqrt((np.arange(64, 256) << 8) + 128.0)).astype(np.int64)
"""First guess of ``2**23 / sqrt(v)`` by the top eight bits of ``v``, from 64 on; 16 bits."""


def _gelu_gate(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (z + 0.044715 * z**3)))


def _gate(values: NDArray[np.float64]) -> Ints:
    """Gates as integers; beyond the table an activation is 0 or its argument."""
    values[0], values[-1] = 0.0, 1.0
    return np.round(2**15 * values).astype(np.int64)


_Z = (np.arange(1024) - 512) / 64.0

GATE_TABLE: dict[str, Ints] = {
    "gelu": _gate(_gelu_gate(_Z)),
    "relu": _gate(np.where(_Z > 0, 1.0, 0.0)),
    "silu": _gate(1.0 / (1.0 + np.exp(-_Z))),
}
"""``gate(z) * 2**15`` of each activation ``z * gate(z)``, for ``z`` from -8 to 8 in steps
of 1/64."""


LOGISTIC_TABLE: Ints = np.round(2**15 / (1 + np.exp(-(np.arange(1025) - 512) / 32))).astype(
    np.int64
)
"""``2**15 / (1 + exp(-z))`` for z from -16 to 16 in steps of 1/32, and one more to interpolate."""

POWER_TABLE: Ints = np.round(2 ** (15 + np.arange(257) / 256)).astype(np.int64)
"""``2**(15 + f)`` for f from 0 to 1 in steps of 1/256, the last one included."""


def concatenation(values: Sequence[int] | Ints, bits: int, per_line: int = 8) -> str:
    """Verilog of a packed constant: ``values`` of ``bits`` bits each, the first one lowest."""
    digits = (bits + 3) // 4
    words = [f"{bits}'h{int(v):0{digits}x}" for v in reversed(values)]
    lines = [", ".join(words[k : k + per_line]) for k in range(0, len(words), per_line)]
    return "{\n    " + ",\n    ".join(lines) + "\n  }"
