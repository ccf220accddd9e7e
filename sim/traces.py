# SPDX-License-Identifier: Apache-2.0
"""Operands beat by beat, in the order in which an engine sees them: what energy is measured with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from sim.operands import Operand

__all__ = ["Tile", "Trace", "model_trace", "random_trace"]


@dataclass(frozen=True)
class Tile:
    """Sizes of one beat, as of an engine: T token rows, R elements of k, O outputs; a PE is 1, 1, 1.

    Raises
    ------
    DesignError
        For sizes that are not positive.
    """

    tokens: int = 1
    reduce: int = 1
    outputs: int = 1

    def __post_init__(self) -> None:
        if min(self.tokens, self.reduce, self.outputs) < 1:
            raise DesignError(
                f"a tile has at least 1x1x1, not {self.tokens}x{self.reduce}x{self.outputs}"
            )


@dataclass(frozen=True)
class Trace:
    """Beats of independent streams, one a cycle.

    Attributes
    ----------
    x : int8 [cycles, streams, T*R]: activation r of row t at ``t*R + r``
    w : int8 [cycles, streams, O*R]: weight r of output o at ``o*R + r``
    first, last : bool [cycles, streams]: of a tile; that at the end of a stream may lack its last
    description : what the operands are
    """

    x: NDArray[np.int8]
    w: NDArray[np.int8]
    first: NDArray[np.bool_]
    last: NDArray[np.bool_]
    description: str


def model_trace(
    operands: Sequence[Operand],
    tile: Tile,
    *,
    cycles: int,
    streams: int,
    seed: int = 0,
    name: str = "model",
) -> Trace:
    """Beats of a model's products: each stream plays whole tiles, drawn as often as they occur.

    Parameters
    ----------
    operands : what `sim.operands.observe_operands` has shown
    tile : sizes of a beat
    cycles, streams : beats of a stream, and streams
    seed : of the draw
    name : of model and text, for the description

    Raises
    ------
    DesignError
        If there are no operands.
    """
    if not operands:
        raise DesignError("there are no operands to trace")
    draw = np.random.default_rng(seed)
    macs = np.array([operand.macs for operand in operands], np.float64)
    trace = _empty(tile, cycles, streams, f"{name}, {len(operands)} products")
    for stream in range(streams):
        at = 0
        while at < cycles:
            operand = operands[int(draw.choice(len(operands), p=macs / macs.sum()))]
            at += _play(trace, tile, operand, stream, at, draw)
    return trace


def random_trace(
    deviation: float | None,
    tile: Tile,
    *,
    cycles: int,
    streams: int,
    beats: int = 32,
    seed: int = 0,
) -> Trace:
    """Beats of normal operands of mean 0, rounded and clipped to int8; of uniform ones if None.

    Parameters
    ----------
    deviation : standard deviation of both operands
    tile : sizes of a beat
    cycles, streams : beats of a stream, and streams
    beats : of a tile
    seed : of the draw
    """
    draw = np.random.default_rng(seed)

    def numbers(shape: tuple[int, ...]) -> NDArray[np.int8]:
        if deviation is None:
            return draw.integers(-128, 128, shape, np.int8)
        return np.clip(np.rint(draw.normal(0, deviation, shape)), -128, 127).astype(np.int8)

    kind = "uniform" if deviation is None else f"N(0,{deviation:g})"
    trace = _empty(tile, cycles, streams, f"{kind}, {beats} beats a tile")
    trace.x[:], trace.w[:] = numbers(trace.x.shape), numbers(trace.w.shape)
    trace.first[::beats], trace.last[beats - 1 :: beats] = True, True
    return trace


def _empty(tile: Tile, cycles: int, streams: int, description: str) -> Trace:
    return Trace(
        x=np.zeros((cycles, streams, tile.tokens * tile.reduce), np.int8),
        w=np.zeros((cycles, streams, tile.outputs * tile.reduce), np.int8),
        first=np.zeros((cycles, streams), bool),
        last=np.zeros((cycles, streams), bool),
        description=description,
    )


def _play(
    trace: Trace, tile: Tile, operand: Operand, stream: int, at: int, draw: np.random.Generator
) -> int:
    """Play one tile of a product; the number of its beats."""
    n = len(operand.rows)
    top = int(draw.integers(-(-n // tile.tokens))) * tile.tokens
    rows = operand.rows[top : top + tile.tokens]
    longest = top + len(rows) - 1  # causality shows the last row of a tile most
    left = int(draw.integers(-(-operand.outputs[longest] // tile.outputs))) * tile.outputs
    k = int(operand.lengths[longest])
    beats = -(-k // tile.reduce)
    shown = min(beats, len(trace.x) - at)
    sides = (
        (trace.x, rows[:, :k], tile.tokens),
        (trace.w, operand.columns[:k, left : left + tile.outputs].T, tile.outputs),
    )
    for whole, part, height in sides:
        padded = np.zeros((height, beats * tile.reduce), np.int8)
        padded[: len(part), :k] = part
        beat = padded.reshape(height, beats, tile.reduce).transpose(1, 0, 2).reshape(beats, -1)
        whole[at : at + shown, stream] = beat[:shown]
    trace.first[at, stream] = True
    if shown == beats:
        trace.last[at + beats - 1, stream] = True
    return beats
