# SPDX-License-Identifier: Apache-2.0
"""Generating tokens: by the golden model, or by hardware behind registers and a memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from designs import quantised
from designs.errors import DesignError
from sim.built import Built
from sim.errors import SimulationError
from sim.golden import transformer

__all__ = [
    "Decoder",
    "Device",
    "GoldenDecoder",
    "HardwareDecoder",
    "Stripes",
    "no_weights",
    "weights_of",
]

Stripes = NDArray[np.uint8]
"""Consecutive stripes of the memory, uint8 [stripes, bytes of a stripe]; ``docs/architecture.md``, section 2."""

_UNWRITTEN = 0xFFFFFFFF
"""What a place holds in which a token shall appear; no vocabulary has this id."""


class Decoder(Protocol):
    """Continues texts; keys and values of what it has read stay."""

    def generate(
        self, ids: list[int], count: int, position: int
    ) -> tuple[list[int], dict[str, int]]:
        """Read ids from a position on, and go on by ``count``: the new ids, and what was counted meanwhile."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Device(Protocol):
    """A memory that host and accelerator share, and the accelerator's registers."""

    def write(self, stripe: int, data: Stripes) -> None:
        """Put stripes into the memory."""
        ...

    def read(self, stripe: int, count: int) -> Stripes:
        """Stripes of the memory."""
        ...

    def run(self, arguments: Mapping[str, int]) -> dict[str, int]:
        """Write these registers (by name; the device knows the base addresses), start, wait for the end.

        Returns
        -------
        The status and counter registers by name, as far as the device can read them.
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class GoldenDecoder:
    """The golden model in numpy."""

    def __init__(self, built: Built) -> None:
        archive = weights_of(built).with_name("quantised.npz")
        self._model = quantised.load(archive, keep=None if built.is_small else 2)
        self._cache = transformer.KVCache(self._model)
        self._chunk = built.chunk

    def generate(
        self, ids: list[int], count: int, position: int
    ) -> tuple[list[int], dict[str, int]]:
        """See `Decoder`; nothing is counted."""
        self._cache.length = position
        found = transformer.generate(self._model, ids, count, chunk=self._chunk, cache=self._cache)
        return found, {}

    def close(self) -> None:
        """See `Decoder`."""


class HardwareDecoder:
    """An accelerator: the host's side of what ``docs/architecture.md`` says about memory and registers."""

    def __init__(self, built: Built, device: Device) -> None:
        self._built, self._device = built, device

    def generate(
        self, ids: list[int], count: int, position: int
    ) -> tuple[list[int], dict[str, int]]:
        """See `Decoder`.

        Raises
        ------
        SimulationError
            If it ended without all tokens.
        """
        memory = self._built.map
        first = memory.tokens + position
        places = np.zeros((len(ids) + count, memory.stripe_bytes), np.uint8)
        places[:, :4] = np.array([*ids, *[_UNWRITTEN] * count], "<u4").reshape(-1, 1).view(np.uint8)
        self._device.write(first, places)
        counters = self._device.run(
            {"prompt": len(ids), "generate": count, "position": position, "layers": memory.layers}
        )
        words = self._device.read(first + len(ids), count)[:, :4]
        found = np.ascontiguousarray(words).view("<u4")[:, 0].tolist()
        if _UNWRITTEN in found:
            raise SimulationError(
                f"the accelerator says that it is done, but token {found.index(_UNWRITTEN)} of {count} "
                "is not in its memory"
            )
        return found, counters

    def close(self) -> None:
        """See `Decoder`."""
        self._device.close()


def weights_of(built: Built) -> Path:
    """The memory image of a build; raises DesignError if it has none."""
    if built.weights is None:
        raise DesignError(no_weights(built))
    return built.weights


def no_weights(built: Built) -> str:
    """What is wrong with a build without weights."""
    return f"{built.folder} has no weights to generate text with: build it with --weights-from"
