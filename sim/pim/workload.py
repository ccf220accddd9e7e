# SPDX-License-Identifier: Apache-2.0
"""Decoders, requests, and what a channel of PIM banks has to do for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from hw.pim.config import PimConfig
from sim.pim.tiles import Tile

__all__ = [
    "DATASETS",
    "MODELS",
    "Decoder",
    "Load",
    "batches",
    "contexts",
    "decoder",
    "exchanges",
    "loads",
    "request_load",
]


@dataclass(frozen=True)
class Decoder:
    """A decoder that is split over devices.

    Attributes
    ----------
    heads, kv_heads, head_dim, width, ffn, layers : of the whole model.
    gated : three matrices in the feed-forward part.
    tensor, pipeline : devices that share a layer; groups of devices with layers of their own.
    """

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    tensor: int
    pipeline: int = 1
    gated: bool = False
    head_dim: int = 128

    def gemms(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """``(k, n)`` of a layer's matrices on one device: before attention, and behind it."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        t = self.tensor
        first = [(self.width, (q + 2 * kv) // t)]
        hidden = self.ffn // t
        behind = [(q // t, self.width), *[(self.width, hidden)] * (2 if self.gated else 1)]
        return first, [*behind, (hidden, self.width)]

    @property
    def weight_bytes(self) -> int:
        """Of a device: 16-bit weights of its layers."""
        layers = -(-self.layers // self.pipeline)
        return layers * sum(2 * k * n for part in self.gemms() for k, n in part)

    def kv_bytes(self, length: int) -> int:
        """Of a request on a device."""
        layers = -(-self.layers // self.pipeline)
        return layers * 2 * 2 * length * self.kv_heads * self.head_dim // self.tensor


MODELS = {
    d.name: d
    for d in (
        Decoder("gpt3-7b", 32, 4096, 32, 32, 16384, 4),
        Decoder("gpt3-13b", 40, 5120, 40, 40, 20480, 4),
        Decoder("gpt3-30b", 48, 7168, 56, 56, 28672, 4, 2),
        Decoder("gpt3-175b", 96, 12288, 96, 96, 49152, 8, 4),
        Decoder("llama3-8b", 32, 4096, 32, 8, 14336, 4, gated=True),
        Decoder("llama3-70b", 80, 8192, 64, 8, 28672, 8, gated=True),
    )
}

# Quantiles (0, 50, 90, 99, 100 %) of prompts and answers in tokens, as counted in the published traces.
DATASETS = {
    "sharegpt": {"in": (1, 17, 118, 1262, 2000), "out": (1, 261, 576, 961, 1600)},
    "alpaca": {"in": (4, 11, 17, 27, 60), "out": (1, 41, 122, 249, 500)},
}
LIMIT = 2048


def decoder(name: str) -> Decoder:
    """The decoder of that name.

    Raises
    ------
    DesignError
        If there is none.
    """
    if name not in MODELS:
        raise DesignError(f"There is no decoder {name!r}; there are {', '.join(MODELS)}")
    return MODELS[name]


def quantile(table: Sequence[float], u: NDArray) -> NDArray[np.int64]:
    """Lengths at the quantiles ``u``: linear up to the median, above it the logarithm is."""
    tail = np.exp(np.interp(u, (0.5, 0.9, 0.99, 1), np.log(table[1:])))
    return np.rint(np.where(u < 0.5, np.interp(u, (0, 0.5), table[:2]), tail)).astype(np.int64)


def exchanges(dataset: str, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Prompt and answer lengths of requests: ``[count, 2]``.

    Raises
    ------
    DesignError
        If there is no such data set.
    """
    if dataset not in DATASETS:
        raise DesignError(f"There is no data set {dataset!r}; there are {', '.join(DATASETS)}")
    table = DATASETS[dataset]
    prompt = quantile(table["in"], rng.random(count))
    return np.stack([prompt, quantile(table["out"], rng.random(count))], axis=1)


def contexts(dataset: str, batch: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Context lengths of a batch met at a random time: long answers are met more often."""
    pool = exchanges(dataset, 16 * batch, rng)
    chosen = rng.choice(len(pool), batch, p=pool[:, 1] / pool[:, 1].sum())
    prompt, answer = pool[chosen].T
    return np.minimum(LIMIT, prompt + np.ceil(rng.random(batch) * answer).astype(np.int64))


def batches(
    dataset: str, lengths: str | None, batch: int, draws: int, seed: int
) -> list[NDArray[np.int64]]:
    """Contexts of some batches: drawn, or those of ``lengths`` (numbers with commas).

    Raises
    ------
    DesignError
        If a length is none.
    """
    if lengths is None:
        return [contexts(dataset, batch, np.random.default_rng(seed + i)) for i in range(draws)]
    try:
        given = [int(word) for word in lengths.split(",")]
    except ValueError:
        raise DesignError(f"--lengths must be numbers with commas, not {lengths!r}") from None
    if min(given) < 1:
        raise DesignError(f"a context must have 1 token or more, not {min(given)}")
    return [np.array(given, np.int64)]


@dataclass(frozen=True)
class Load:
    """Equal tiles of a request, one after the other: ``repeat`` times ``gwrites`` and ``tiles``."""

    tile: Tile
    tiles: int
    gwrites: int
    repeat: int


def request_load(c: PimConfig, model: Decoder, length: int, pack: bool) -> list[Load]:
    """What a channel does for a request in one layer: scores, then sums of values.

    Parameters
    ----------
    pack : several features of the values share a row (:func:`sim.pim.driver.place_values`).
    """
    kv, dk = model.kv_heads // model.tensor, model.head_dim
    group = model.heads // model.kv_heads
    page, steps = c.page_elements, dk // c.lanes
    per = max(1, page // dk)
    found = []
    for first in range(0, group, c.entries):
        turns = min(c.entries, group - first)
        for part in range(0, kv, per):
            heads = min(per, kv - part)
            found.append(Load(Tile(steps, heads * turns), -(-length // c.banks), turns, 1))
        pieces = -(-dk // c.banks)
        for start in range(0, length, page):
            count = min(page, length - start)
            k = -(-count // c.lanes)
            slots = min(pieces, max(1, c.cols // k)) if pack and length <= page else 1
            found.append(Load(Tile(k, slots * turns), -(-pieces // slots), turns, kv))
    return found


def loads(weights: NDArray[np.float64], channels: int, packed: bool) -> NDArray[np.int64]:
    """Channel of each request: the least loaded one, heaviest request first; or in turns."""
    if not packed:
        return np.arange(len(weights)) % channels
    place = np.zeros(len(weights), np.int64)
    total = np.zeros(channels)
    for i in np.argsort(-weights, kind="stable"):
        place[i] = np.argmin(total)
        total[place[i]] += weights[i]
    return place
