# SPDX-License-Identifier: Apache-2.0
"""Where everything lies in the memory of a design, and how to read and write single things there.

The memory is one striped space (``docs/architecture.md``, section 2): stripe ``s`` is bytes
``[s * P * PB, (s + 1) * P * PB)`` of an image, and port ``p`` holds bytes ``p * PB ..`` of every
stripe. A `MemoryMap` is made by ``generators.image.memory_map``; a build writes it down, and
whoever runs the design reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.weight_format import WeightFormat

__all__ = ["REGIONS", "MemoryMap"]

REGIONS = ("tokens", "weights", "head", "wte", "wpe", "k", "v")
"""The regions in the order of their addresses. K and V are not part of the image file."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class MemoryMap:
    """The memory of a design: the sizes it was made for, and the first stripe of each region.

    Parameters
    ----------
    ports, port_bytes : P and PB: memory ports, and bytes of one port.
    lanes : R = O, the lanes of the engine; a beat is R * R bytes.
    layers, width, heads, kv_heads, ffn, vocabulary, context : sizes of the model as built.
    tokens, weights, head, wte, wpe, k, v : first stripe of each region.
    layer_stripes : stripes from one layer's weight stream to the next, of the longest layer if they differ.
    head_stripes : stripes of the head's weight stream.
    row_stripes, position_stripes : stripes of one row of wte, of wpe.
    kv_head_stripes, kv_layer_stripes : stripes from one head, one layer to the next in K and in V; 0 if keys and
        values live elsewhere.
    total_stripes : end of the last region.
    w_bits, w_group, w_n, w_m, w_share, w_block, w_keep : format of the weight stream, a `WeightFormat`.
    layer_ends : stripes up to the end of each layer's weight stream, if layers differ.
    """

    ports: int
    port_bytes: int
    lanes: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    context: int
    tokens: int
    weights: int
    head: int
    wte: int
    wpe: int
    k: int
    v: int
    layer_stripes: int
    head_stripes: int
    row_stripes: int
    position_stripes: int
    kv_head_stripes: int
    kv_layer_stripes: int
    total_stripes: int
    w_bits: int = 8
    w_group: int = 0
    w_n: int = 1
    w_m: int = 1
    w_share: int = 1
    w_block: int = 0
    w_keep: int = 100
    layer_ends: tuple[int, ...] = ()

    def stream_stripes(self, layers: int) -> int:
        """Stripes of the weight streams of the first layers."""
        if not self.layer_ends or not layers:
            return layers * self.layer_stripes
        return self.layer_ends[layers - 1]

    @property
    def weight_format(self) -> WeightFormat:
        """Format of the weight stream."""
        return WeightFormat(
            self.w_bits, self.w_group, self.w_n, self.w_m, self.w_share, self.w_block, self.w_keep
        )

    @property
    def stripe_bytes(self) -> int:
        """Bytes of one transfer on every port."""
        return self.ports * self.port_bytes

    @property
    def beat_bytes(self) -> int:
        """Bytes of one engine step of keys, of values, or of weights that are not compressed."""
        return self.lanes * self.lanes

    @property
    def beat_stripes(self) -> int:
        """M: stripes of one beat."""
        return self.beat_bytes // self.stripe_bytes

    @property
    def head_size(self) -> int:
        """Features of one head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Features of the keys (or values) of a position."""
        return self.kv_heads * self.head_size

    @property
    def head_blocks(self) -> int:
        """Blocks of R features in one head."""
        return self.head_size // self.lanes

    @property
    def image_stripes(self) -> int:
        """Stripes of the image file: everything up to the end of wpe."""
        return self.wpe + self.context * self.position_stripes

    @property
    def image_bytes(self) -> int:
        """Bytes of the image file."""
        return self.image_stripes * self.stripe_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole striped space."""
        return self.total_stripes * self.stripe_bytes

    @property
    def bytes_per_port(self) -> int:
        """Bytes that one port needs behind it."""
        return self.total_stripes * self.port_bytes

    def region(self, name: str) -> tuple[int, int]:
        """First stripe and end (the start of the next region) of one of `REGIONS`."""
        at = REGIONS.index(name)
        end = self.total_stripes if at + 1 == len(REGIONS) else getattr(self, REGIONS[at + 1])
        return getattr(self, name), end

    def kv_stripe(self, which: str, layer: int, head: int, position: int, block: int) -> int:
        """First stripe of the beat with R features of one head at one position.

        Parameters
        ----------
        which : ``"k"`` or ``"v"``.
        block : feature // R within the head.
        """
        beat = (position // self.lanes) * self.head_blocks + block
        return (
            {"k": self.k, "v": self.v}[which]
            + layer * self.kv_layer_stripes
            + head * self.kv_head_stripes
            + beat * self.beat_stripes
        )

    def kv_offset(self, which: str, layer: int, head: int, position: int, block: int) -> int:
        """Byte of the striped space at which those R features begin."""
        stripe = self.kv_stripe(which, layer, head, position, block)
        return stripe * self.stripe_bytes + (position % self.lanes) * self.lanes

    # ---- Reading and writing a memory: bytes of the striped space, uint8 [total_bytes] ----------

    def port_view(self, memory: Bytes, port: int) -> Bytes:
        """What one port holds: a view [stripes, PB] of the striped space."""
        return memory[: memory.size // self.stripe_bytes * self.stripe_bytes].reshape(
            -1, self.ports, self.port_bytes
        )[:, port]

    def read_tokens(self, memory: Bytes, start: int, count: int) -> NDArray[np.int64]:
        """Ids of the tokens at positions start .. start + count - 1."""
        return self._token_rows(memory, start, count).copy().view("<u4")[:, 0].astype(np.int64)

    def write_tokens(self, memory: Bytes, start: int, tokens: Sequence[int]) -> None:
        """Put ids into the token region."""
        ids = np.asarray(tokens, "<u4").reshape(-1, 1)
        self._token_rows(memory, start, len(tokens))[:] = ids.view(np.uint8)

    def read_kv(self, memory: Bytes, which: str, layer: int, count: int) -> NDArray[np.int8]:
        """Keys or values of positions 0 .. count - 1 of one layer, int8 [count, kv width]."""
        beats = self._kv_beats(memory, which, layer)  # head, group, block, position, feature
        rows = beats.transpose(1, 3, 0, 2, 4).reshape(-1, self.kv_width)
        return rows[:count].view(np.int8)

    def write_kv(
        self, memory: Bytes, which: str, layer: int, start: int, rows: NDArray[np.integer]
    ) -> None:
        """Put keys or values [L, kv width] at positions start .. start + L - 1 of one layer."""
        at = np.arange(start, start + rows.shape[0])
        parts = rows.astype(np.int8).view(np.uint8)
        parts = parts.reshape(-1, self.kv_heads, self.head_blocks, self.lanes)
        beats = self._kv_beats(memory, which, layer)
        beats[:, at // self.lanes, :, at % self.lanes] = parts

    def _token_rows(self, memory: Bytes, start: int, count: int) -> Bytes:
        stripes = memory[: memory.size // self.stripe_bytes * self.stripe_bytes].reshape(
            -1, self.stripe_bytes
        )
        return stripes[self.tokens + start : self.tokens + start + count, :4]

    def _kv_beats(self, memory: Bytes, which: str, layer: int) -> Bytes:
        first = self.kv_stripe(which, layer, 0, 0, 0) * self.stripe_bytes
        size = self.kv_layer_stripes * self.stripe_bytes
        return memory[first : first + size].reshape(
            self.kv_heads, -1, self.head_blocks, self.lanes, self.lanes
        )

    # ---- Files ----------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """All fields, plain."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MemoryMap:
        """What `to_dict` gave.

        Raises
        ------
        DesignError
            If a field is missing, not known, or not an integer.
        """
        known = {field.name for field in fields(cls)}
        for name in known ^ set(data):
            raise DesignError(
                f"memory map: field {name} is {'missing' if name in known else 'not known'}"
            )
        for name, value in data.items():
            parts = value if name == "layer_ends" and isinstance(value, list | tuple) else [value]
            for part in parts:
                if not isinstance(part, int) or isinstance(part, bool) or part < 0:
                    raise DesignError(f"memory map: {name} must be a whole number, not {part!r}")
        return cls(**{**data, "layer_ends": tuple(data["layer_ends"])})

    def to_yaml(self) -> str:
        """All fields as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> MemoryMap:
        """What `to_yaml` gave; raises DesignError as `from_dict` does."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise DesignError(
                f"memory map: not valid YAML: {' '.join(str(error).split())}"
            ) from error
        if not isinstance(data, dict):
            raise DesignError("memory map: not a mapping of fields to numbers")
        return cls.from_dict(data)
