# SPDX-License-Identifier: Apache-2.0
"""Header buffers: the parameters of the tiles that are on their way."""

from typing import Any

from amaranth.lib.wiring import In, Out

from hw.unit import TemplateUnit

__all__ = ["HeaderBuffers"]


class HeaderBuffers(TemplateUnit):
    """Registers for some beats of headers; a beat is written whole, and one tile's header is read.

    Latency
    -------
    A header can be read from the cycle after its beat was written; reading is combinational.

    Parameters
    ----------
    buffers : beats held
    tiles : headers in a beat
    lanes : channels of a header, 8 bytes each
    beat_bytes : bytes of a beat

    Members
    -------
    w_en, w_buffer, beat : write port
    r_buffer, r_tile, header : read port
    """

    template = "core/headers.sv.j2"

    def __init__(self, *, buffers: int, tiles: int, lanes: int, beat_bytes: int) -> None:
        if 8 * tiles * lanes > beat_bytes:
            raise ValueError(
                f"A beat of {beat_bytes} bytes cannot hold {tiles} headers of {8 * lanes} bytes"
            )
        if buffers < 2 or tiles < 1:
            raise ValueError(
                f"Buffers must be at least 2 and tiles 1, not {buffers!r} and {tiles!r}"
            )
        self._buffers, self._tiles, self._lanes, self._beat_bytes = (
            buffers,
            tiles,
            lanes,
            beat_bytes,
        )
        super().__init__(
            {
                "w_en": In(1),
                "w_buffer": In(range(buffers)),
                "beat": In(8 * beat_bytes),
                "r_buffer": In(range(buffers)),
                "r_tile": In(range(tiles)),
                "header": Out(64 * lanes),
            },
            {"b": buffers, "t": tiles, "l": lanes},
        )

    def context(self) -> dict[str, Any]:
        return {
            "buffers": self._buffers,
            "tiles": self._tiles,
            "header_bits": 64 * self._lanes,
            "beat_bits": 8 * self._beat_bytes,
            "buffer_bits": (self._buffers - 1).bit_length(),
            "tile_bits": (self._tiles - 1).bit_length(),
        }
