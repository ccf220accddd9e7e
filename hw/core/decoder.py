"""From a compressed beat of weights to what the engine multiplies with."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.core.weights import WeightStream
from hw.unit import TemplateUnit

__all__ = ["WeightDecoder"]


class WeightDecoder(TemplateUnit):
    """Multiplies values with their factors and puts them where their indices say; zeros elsewhere.

    Latency
    -------
    None, it is combinational.

    Parameters
    ----------
    stream : the format of a beat

    Members
    -------
    values, indices, factors : of a beat, as ``docs/weight_format.md`` has them; those that the format has
    weights : ``lanes * lanes`` bytes, byte ``o * lanes + r`` for output o and input r
    """

    template = "core/weight_decoder.sv.j2"

    def __init__(self, stream: WeightStream) -> None:
        if not stream.compressed:
            raise ValueError("A stream without compression needs no decoder")
        self._stream = stream
        sides = {"indices": stream.index_bytes, "factors": stream.factor_bytes}
        super().__init__(
            {
                "values": In(8 * stream.value_bytes),
                **{name: In(8 * size) for name, size in sides.items() if size},
                "weights": Out(8 * stream.row_bytes),
            },
            {
                "l": stream.lanes, "b": stream.bits, "n": stream.n, "m": stream.m,
                "s": stream.share, "p": stream.position_bits, "f": stream.factors,
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
            "place_bits": (s.m - 1).bit_length(),
            "count_bits": max(1, (s.n - 1).bit_length()),
            "factors": s.factors,
            "blocks_per_factor": blocks // s.factors if s.factors else 0,
            "value_row": 8 * s.value_bytes // s.lanes,
            "index_row": 8 * s.index_bytes * s.share // s.lanes,
            "index_bits": s.index_bits,
            "factor_row": 4 * s.factors,
            "has": {"indices": s.index_bytes * 8, "factors": s.factor_bytes * 8},
            "value_bits": 8 * s.value_bytes,
            "weight_bits": 8 * s.row_bytes,
        }
