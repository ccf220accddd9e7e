# SPDX-License-Identifier: Apache-2.0
"""From a compressed beat of weights to what the engine multiplies with."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.core.weights import WeightStream
from hw.unit import TemplateUnit

__all__ = ["WeightDecoder"]


class WeightDecoder(TemplateUnit):
    """Multiplies values with their factors and puts them where their indices say; zeros elsewhere.

    For an engine that selects activations it leaves them as they are, beside the position of each (``kept``).

    Latency
    -------
    None, it is combinational.

    Parameters
    ----------
    stream : the format of a beat
    kept : give the values that are kept; the format must leave some out

    Members
    -------
    values, indices, factors : of a beat, as ``docs/weight_format.md`` has them; those that the format has
    weights : ``lanes * lanes`` bytes, byte ``o * lanes + r`` for output o and input r; or, of ``kept`` ones, byte
        ``o * taps + s`` for the value in slot s of output o, with ``taps`` slots, n for each block of m inputs
    places : of ``kept`` ones: number ``h * taps + s`` of ``place_bits``, the position of slot s in its block, for all
        ``share`` outputs that have it in common
    """

    template = "core/weight_decoder.sv.j2"

    def __init__(self, stream: WeightStream, *, kept: bool = False) -> None:
        if not stream.compressed:
            raise ValueError("A stream without compression needs no decoder")
        if kept and stream.m == 1:
            raise ValueError("A stream that keeps all weights has no positions")
        self._stream, self._kept = stream, kept
        sides = {"indices": stream.index_bytes, "factors": stream.factor_bytes}
        super().__init__(
            {
                "values": In(8 * stream.value_bytes),
                **{name: In(8 * size) for name, size in sides.items() if size},
                "weights": Out(8 * stream.lanes * (stream.taps if kept else stream.lanes)),
                **({"places": Out(stream.place_count * stream.place_bits)} if kept else {}),
            },
            {
                "l": stream.lanes, "b": stream.bits, "n": stream.n, "m": stream.m,
                "s": stream.share, "p": stream.position_bits, "f": stream.factors,
                **({"k": 1} if kept else {}),
            },
        )  # fmt: skip

    def context(self) -> dict[str, Any]:
        s = self._stream
        blocks = s.lanes // s.m
        return {
            "lanes": s.lanes,
            "bits": s.bits,
            "n": s.n,
            "m": s.m,
            "blocks": blocks,
            "share": s.share,
            "position_bits": s.position_bits,
            "kept": self._kept,
            "taps": s.taps,
            "place_bits": s.place_bits,
            "count_bits": max(1, (s.n - 1).bit_length()),
            "factors": s.factors,
            "blocks_per_factor": blocks // s.factors if s.factors else 0,
            "value_row": 8 * s.value_bytes // s.lanes,
            "index_row": 8 * s.index_bytes * s.share // s.lanes,
            "index_bits": s.index_bits,
            "factor_row": 4 * s.factors,
            "has": {"indices": s.index_bytes * 8, "factors": s.factor_bytes * 8},
            "value_bits": 8 * s.value_bytes,
            "weight_bits": len(self.weights),
            "places_bits": s.place_count * s.place_bits,
        }
