# SPDX-License-Identifier: Apache-2.0
"""How tensors of a kernel lie in memory: in the words that a core loads and stores, in the order of their use.

A **word** is so many elements that go to a scratchpad at once. A word of memory (``port_bytes``) holds as many whole
ones as fit, or several make one; a tensor begins with a word of memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "LoadRegion",
    "StoreRegion",
    "WordFormat",
    "activations",
    "kernel_words",
    "of_port",
    "rows",
    "striped",
    "weights",
]

Ints = NDArray[Any]


@dataclass(frozen=True)
class WordFormat:
    """Words of ``elements`` numbers of ``bits`` bits in memory of ``port_bytes`` bytes a word."""

    elements: int
    bits: int
    port_bytes: int

    @property
    def per_beat(self) -> int:
        """Words in a word of memory; 0 if one needs several."""
        return 8 * self.port_bytes // (self.elements * self.bits)

    def beats(self, words: int) -> int:
        """Words of memory that so many words take."""
        if self.per_beat:
            return -(-words // self.per_beat)
        return words * -(-self.elements * self.bits // (8 * self.port_bytes))

    def pack(self, words: Ints) -> bytes:
        """Words ``[n, elements]`` as they lie in memory."""
        size, count = self.bits // 8, len(words)
        raw = np.ascontiguousarray(words.astype(f"<i{size}")).view(np.uint8).reshape(count, -1)
        beats, per = self.beats(count), self.per_beat
        if not per:
            out = np.zeros((count, beats // max(count, 1) * self.port_bytes), np.uint8)
            out[:, : raw.shape[1]] = raw
            return out.tobytes()
        whole = np.zeros((beats * per, raw.shape[1]), np.uint8)
        whole[:count] = raw
        out = np.zeros((beats, self.port_bytes), np.uint8)
        out[:, : per * raw.shape[1]] = whole.reshape(beats, -1)
        return out.tobytes()

    def unpack(self, data: bytes, words: int) -> NDArray[np.int64]:
        """The first words ``[words, elements]`` of what lies in memory."""
        size, beats, per = self.bits // 8, self.beats(words), self.per_beat
        raw = np.frombuffer(data, np.uint8)[: beats * self.port_bytes]
        width = self.elements * size
        if per:
            raw = raw.reshape(beats, self.port_bytes)[:, : per * width].reshape(-1, width)[:words]
        else:
            raw = raw.reshape(words, -1)[:, :width]
        return np.ascontiguousarray(raw).view(f"<i{size}").astype(np.int64)


def _blocks(x: Ints, tall: int, wide: int) -> Ints:
    """``[blocks, beats, tall, wide]`` of a matrix, with zeros behind its ends."""
    m, k = x.shape
    blocks, beats = -(-m // tall), -(-k // wide)
    padded = np.zeros((blocks * tall, beats * wide), x.dtype)
    padded[:m, :k] = x
    return padded.reshape(blocks, tall, beats, wide).transpose(0, 2, 1, 3)


def activations(x: Ints, tokens: int, reduce: int) -> Ints:
    """Words of a matrix ``[m, k]`` that is the engine's first operand."""
    return _blocks(x, tokens, reduce).reshape(-1, tokens * reduce)


def weights(w: Ints, outputs: int, reduce: int) -> Ints:
    """Words of a matrix ``[k, n]`` that is the engine's second operand."""
    return _blocks(w.T, outputs, reduce).reshape(-1, outputs * reduce)


def kernel_words(w: Ints, rows: int, tokens: int, reduce: int, turned: bool) -> Ints:
    """Words of weights ``[o, c, kh, kw]``, ``rows`` of the kernel in a beat; ``turned``: of a deconvolution."""
    o, c, kh, kw = w.shape
    flipped = w[:, :, ::-1, ::-1] if turned else w
    beats = -(-kh // rows)
    padded = np.zeros((o, c, beats * rows, kw), w.dtype)
    padded[:, :, :kh] = flipped
    taps = padded.reshape(o, c * beats, rows * kw)
    lanes = np.zeros((o, c * beats, reduce), w.dtype)
    lanes[:, :, : rows * kw] = taps
    return activations(lanes.reshape(o, -1), tokens, reduce)


def rows(x: Ints, outputs: int) -> Ints:
    """Words of a tensor ``[c, h, w]``: row by row, in each all channels."""
    c, h, w = x.shape
    tiles = -(-w // outputs)
    padded = np.zeros((c, h, tiles * outputs), x.dtype)
    padded[:, :, :w] = x
    return padded.transpose(1, 0, 2).reshape(-1, outputs)


@dataclass(frozen=True)
class LoadRegion:
    """A tensor that a core loads.

    Parameters
    ----------
    tensor, task, kind : its name; the task for which it is loaded; ``x``, ``ring``, ``rows``, or ``kernel``: weights of
        a convolution.
    port, offset : of its first byte.
    first : its first word among all those of the tensor.
    words, elements : how many words of how many elements.
    """

    tensor: str
    task: str
    kind: Literal["x", "ring", "rows", "kernel"]
    port: int
    offset: int
    first: int
    words: int
    elements: int


@dataclass(frozen=True)
class StoreRegion:
    """A result, or a part of one, that a core stores in the order in which it is made.

    Parameters
    ----------
    tensor : its task.
    port, offset : of its first byte.
    first : row (``by_columns``: column) of the result with which it begins.
    shape : channels, rows and columns.
    elements : of a word: so many neighbours in a row.
    by_columns : all rows of a tile of columns, then the next tile; else row by row, in each tile by tile, in each all
        channels.
    """

    tensor: str
    port: int
    offset: int
    first: int
    shape: tuple[int, int, int]
    elements: int
    by_columns: bool
    tiles: int

    @property
    def words(self) -> int:
        """Of all of it."""
        c, h, _ = self.shape
        return c * h * self.tiles

    def tensor_of(self, words: Ints) -> Ints:
        """The tensor ``[c, h, w]`` of its words ``[n, elements]``."""
        c, h, w = self.shape
        if self.by_columns:
            whole = words.reshape(self.tiles, h, c, self.elements).transpose(2, 1, 0, 3)
        else:
            whole = words.reshape(h, self.tiles, c, self.elements).transpose(2, 0, 1, 3)
        return whole.reshape(c, h, -1)[:, :, :w]

    def within(self, tensor: Ints) -> Ints:
        """Of the whole result ``[c, h, w]`` the part that lies here."""
        _, h, w = self.shape
        if self.by_columns:
            return tensor[:, :, self.first : self.first + w]
        return tensor[:, self.first : self.first + h]


def striped(ports: Sequence[bytes], port_bytes: int) -> bytes:
    """Memory as one space: of every port a word, then the next; short ones are filled up with zeros."""
    words = -(-max(map(len, ports)) // port_bytes)
    out = np.zeros((words, len(ports), port_bytes), np.uint8)
    for k, data in enumerate(ports):
        flat = np.zeros(words * port_bytes, np.uint8)
        flat[: len(data)] = np.frombuffer(data, np.uint8)
        out[:, k] = flat.reshape(words, port_bytes)
    return out.tobytes()


def of_port(data: bytes, port: int, ports: int, port_bytes: int) -> bytes:
    """What lies in one port's memory, of all of it."""
    return np.frombuffer(data, np.uint8).reshape(-1, ports, port_bytes)[:, port].tobytes()
