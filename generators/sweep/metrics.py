# SPDX-License-Identifier: Apache-2.0
"""What a sweep measures of a design, and may minimise or limit."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    """A figure of a design; less is better.

    Attributes
    ----------
    what : in a sentence
    unit : of the number; empty for counts
    """

    what: str
    unit: str = ""


METRICS: dict[str, Metric] = {
    "decode": Metric("time of a generated token", "s"),
    "prefill": Metric("time of the prompt up to the first answer", "s"),
    "decode_cycles": Metric("cycles of a generated token"),
    "prefill_cycles": Metric("cycles of the prompt"),
    "use": Metric("largest part of any kind of the target's resources"),
    "lut": Metric("LUTs"),
    "ff": Metric("flip-flops"),
    "dsp": Metric("multiplier slices"),
    "bram": Metric("block memories"),
    "uram": Metric("large block memories"),
    "weight_bytes": Metric("bytes of weights that a token reads", "B"),
}
"""Names of figures, as `objectives` and `limits` of a sweep take them."""
