# SPDX-License-Identifier: Apache-2.0
"""What lies in the memory of an HLS design: inputs, weights in the order of the cores' beats, golden results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.quantised_kernel import QuantKernel
from generators.hls.network import Network, Part, Stage, Weights

__all__ = ["Place", "images", "layout"]


@dataclass(frozen=True)
class Place:
    """Where beats of a :class:`WeightsEntry` lie.

    Parameters
    ----------
    first : word.
    per_word : beats in a word.
    words : of a beat; one of the two is 1.
    """

    first: int
    per_word: int
    words: int


def layout(net: Network) -> dict[str, list[Place]]:
    """Places of all entries, by the name of their process."""
    found = {}
    for fetch in net.weights:
        places, first = [], 0
        for entry in fetch.entries:
            per_word, words = (
                max(1, net.word_lanes // entry.lanes),
                -(-entry.lanes // net.word_lanes),
            )
            places.append(Place(first, per_word, words))
            first += -(-entry.beats // per_word) * words
        found[fetch.name] = places
    return found


def images(
    net: Network, quant: QuantKernel, values: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Contents of ``data/*.bin`` by file name: elements in little-endian order.

    Parameters
    ----------
    values : all tensors of the golden model.
    """
    made = {}
    for read in net.reads:
        if not read.token:
            value = values[read.tensor] if read.tensor in values else quant.tensors[read.tensor]
            made[read.buffer] = _rows(net, value)
    for write in net.writes:
        if net.buffers[write.buffer] == "output":
            made[f"golden_{write.buffer}"] = _rows(net, values[write.tensor])
    for fetch in net.weights:
        made[fetch.buffer] = np.concatenate(
            [_entry(net, quant, fetch, i) for i in range(len(fetch.entries))]
        )
    return made


def _element(net: Network) -> np.dtype[Any]:
    return np.dtype(f"<i{net.bits // 8}")


def _rows(net: Network, value: NDArray[Any]) -> NDArray[Any]:
    """Rows in whole words."""
    columns = value.shape[-1]
    rows = value.reshape(-1, columns).astype(_element(net))
    return np.pad(rows, ((0, 0), (0, -columns % net.word_lanes))).reshape(-1)


def _entry(net: Network, quant: QuantKernel, fetch: Weights, index: int) -> NDArray[Any]:
    """Beats of one stage as words."""
    entry = fetch.entries[index]
    core = next(c for c in net.cores if c.name == f"c{fetch.core}")
    stage = next(s for s in core.stages if s.task == entry.task)
    if entry.bias:
        values = np.zeros(stage.bias, "<i8")
        bias = quant.tensors[f"{entry.task}.bias"]
        values[: len(bias)] = bias
        flat = values.view(_element(net))
        beats = np.pad(flat, (0, entry.beats * entry.lanes - len(flat))).reshape(entry.beats, -1)
    else:
        rows, columns = core.tokens, core.outputs
        beats = _weights(quant, stage, Part(fetch.core, 0, 0, rows, columns, "")).astype(
            _element(net)
        )
    lanes = net.word_lanes
    if entry.lanes > lanes:
        return np.pad(beats, ((0, 0), (0, -entry.lanes % lanes))).reshape(-1)
    per_word = lanes // entry.lanes
    beats = np.pad(beats, ((0, -len(beats) % per_word), (0, 0))).reshape(-1, per_word * entry.lanes)
    return np.pad(beats, ((0, 0), (0, lanes - beats.shape[1]))).reshape(-1)


def _weights(quant: QuantKernel, stage: Stage, part: Part) -> NDArray[Any]:
    """``[beats, lanes]``: tile after tile along the outputs (channels of an image), all of k for each."""
    g, task = stage.tiling, quant.card.tasks[stage.task]
    if g.product.row:
        matrix = quant.tensors[stage.task].reshape(g.product.m, g.product.k).T
        blocks, wide, lanes = g.blocks_m, g.wide_m, part.rows
    else:
        matrix = quant.tensors[task.inputs[1]]
        matrix = matrix.T if task.op == "matmul_t" else matrix
        blocks, wide, lanes = g.blocks_n, g.wide_n, part.columns
    padded = np.pad(
        matrix, ((0, g.beats * g.reduce - g.product.k), (0, blocks * wide - matrix.shape[1]))
    )
    tiles = padded.reshape(g.beats, g.reduce, blocks, wide)
    # A core that shares the outputs has its own from its offset on; one that does not has all of a tile.
    offset = stage.bias_offset if lanes < wide else 0
    own = tiles[..., offset : offset + lanes]
    order = (2, 0, 3, 1) if g.product.row else (2, 0, 1, 3)
    return own.transpose(order).reshape(blocks * g.beats, -1)
