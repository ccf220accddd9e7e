# SPDX-License-Identifier: Apache-2.0
"""cocotb tests of attention on PIM channels: rows go in, and sums of keys and values come out, bit by bit."""

import os
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ReadOnly, RisingEdge

from hw.core.config import CoreConfig
from hw.core.feeder import tile_layout
from hw.core.program import Destination
from sim.pim.rtl import unpack as fields
from sim.streams import pack, put, start, unpack
from tests.pim.attention_devices import ACC_BITS, DEVICES


class Core:
    """What is around the unit: the activation buffer, the softmax, the drain, all of them now and then busy."""

    def __init__(self, dut: Any, c: CoreConfig, busy: float) -> None:
        self.dut, self.c, self.busy = dut, c, busy
        self.rng, self.draw = random.Random(1), np.random.default_rng(2)
        shape = (c.layers, c.kv_heads, c.context, c.head_size)
        self.k, self.v = (self.draw.integers(-128, 128, shape) for _ in "kv")
        self.words: dict[int, int] = {}
        self.weights: dict[int, np.ndarray] = {}
        self.tiles: list[dict[str, int]] = []
        self.rows: list[np.ndarray] = []
        self.done = False

    def port(self, name: str) -> Any:
        return getattr(self.dut, f"attention__{name}")

    async def begin(self) -> None:
        for name in ("rows__valid", "restart", "start", "softmax_done", "past", "length", "layer", "a_data",
                     "p_data", "tile__ready", "o__ready"):  # fmt: skip
            self.port(name).value = 0
        cocotb.start_soon(self._memories())
        cocotb.start_soon(self._drain())

    async def _memories(self) -> None:
        c = self.c
        while True:
            await ReadOnly()
            a, p = bool(self.port("a_en").value), bool(self.port("p_en").value)
            address, slot = int(self.port("a_addr").value), int(self.port("p_slot").value)
            chunk = int(self.port("p_chunk").value)
            await RisingEdge(self.dut.clk)
            if a:
                self.port("a_data").value = self.words[address]
            if p:
                part = self.weights[slot][chunk * c.lanes : (chunk + 1) * c.lanes]
                self.port("p_data").value = pack(part.tolist(), 8)

    async def _drain(self) -> None:
        layout, lanes = tile_layout(self.c), self.c.lanes
        pending = 0
        while True:
            self.port("tile__ready").value = int(self.rng.random() < self.busy)
            self.port("o__ready").value = int(self.rng.random() < self.busy)
            ends = pending > 0 and self.rng.random() < 0.1
            self.port("softmax_done").value = int(ends)
            pending -= ends
            await ReadOnly()
            self.done |= bool(self.port("done").value)
            if self.port("tile__valid").value and self.port("tile__ready").value:
                tile = fields(layout, int(self.port("tile__payload").value))
                self.tiles.append(tile)
                pending += tile["item_end"] * (tile["destination"] == Destination.SCORE.value)
            if self.port("o__valid").value and self.port("o__ready").value:
                word = int(self.port("o__payload").value)
                assert word >> lanes * ACC_BITS == 1
                self.rows.append(np.array(unpack(word, ACC_BITS, lanes)))
            await RisingEdge(self.dut.clk)

    async def write(self, layer: int, first: int, count: int) -> None:
        """Keys, then values, of so many tokens."""
        c = self.c
        self.port("layer").value, self.port("past").value = layer, first
        rows = []
        for value, half in ((0, self.k), (1, self.v)):
            for chunk in range(c.kv_heads * c.head_words):
                head, block = divmod(chunk, c.head_words)
                for token in range(count):
                    part = half[layer, head, first + token, block * c.lanes :][: c.lanes]
                    word, at = value, 1
                    for number, bits in ((token, max(1, (c.chunk - 1).bit_length())), (chunk, 16),
                                         (pack(part.tolist(), 8), 8 * c.lanes), (0, 8)):  # fmt: skip
                        word |= number << at
                        at += bits
                    rows.append(word)
        await put(self.dut, "attention__rows", rows, self.busy)

    async def attend(self, layer: int, past: int, length: int) -> int:
        """A pass of ``length`` tokens behind ``past``; the cycles that it takes."""
        c = self.c
        q = self.draw.integers(-128, 128, (length, c.heads, c.head_size))
        for token in range(0, length, c.tokens):
            for w in range(c.width_words):
                words = q[token : token + c.tokens].reshape(-1, c.width)[:, w * c.lanes :][
                    :, : c.lanes
                ]
                address = c.query_base + token // c.tokens * c.width_words + w
                self.words[address] = pack(words.ravel().tolist(), 8)
        self.tiles.clear()
        self.rows.clear()
        self.port("past").value, self.port("length").value = past, length
        self.port("start").value = 1
        cycles, token = 0, 0
        self._forget(past + 1)
        self.done = False
        while not (self.done and token == length):
            await RisingEdge(self.dut.clk)
            self.port("start").value = 0
            cycles += 1
            assert cycles < 20_000, f"{len(self.tiles)} descriptors, {len(self.rows)} rows"
            here = [t for t in self.tiles if t["token"] == token and t["by_row"]]
            if len(here) == c.width_words:
                await self._until_rows()
                self._check(layer, past + token + 1, q[token], token)
                token += 1
                if token < length:
                    self._forget(past + token + 1)
        assert not self.port("fault").value
        return cycles

    def _forget(self, columns: int) -> None:
        """The next token's probabilities, whatever its scores: zero behind its columns."""
        c = self.c
        self.weights = {
            s: self.draw.integers(0, 128, c.context_chunks * c.lanes) for s in range(c.heads)
        }
        for row in self.weights.values():
            row[columns:] = 0

    async def _until_rows(self) -> None:
        for _ in range(1000):
            if len(self.rows) == len(self.tiles):
                return
            await RisingEdge(self.dut.clk)
        raise AssertionError("rows are missing")

    def _check(self, layer: int, columns: int, q: np.ndarray, token: int) -> None:
        c = self.c
        chunks = -(-columns // c.lanes)
        scores = np.zeros((c.heads, chunks * c.lanes), np.int64)
        context = np.zeros(c.width, np.int64)
        seen: list[tuple[int, ...]] = []
        for tile, row in zip(self.tiles, self.rows, strict=True):
            if tile["token"] != token:
                continue
            assert tile["rows"] == 1
            if tile["destination"] == Destination.SCORE.value:
                assert (
                    tile["columns"] == columns and tile["chunks"] == chunks and not tile["by_row"]
                )
                seen.append((tile["slot"], tile["chunk"]))
                assert tile["item_end"] == (tile["chunk"] == chunks - 1)
                scores[tile["slot"], tile["chunk"] * c.lanes :][: c.lanes] = row
            else:
                base = c.context_base + token // c.tokens * c.width_words
                assert tile["address"] == base + tile["chunk"]
                assert tile["slot"] == tile["chunk"] // c.head_words
                seen.append((-1, tile["chunk"]))
                context[tile["chunk"] * c.lanes :][: c.lanes] = row
        expected = [(h, n) for h in range(c.heads) for n in range(chunks)]
        assert sorted(seen) == sorted(expected + [(-1, n) for n in range(c.width_words)])
        for head in range(c.heads):
            k, v = (half[layer, head // c.shared, :columns] for half in (self.k, self.v))
            np.testing.assert_array_equal(scores[head, :columns], k @ q[head])
            own = context[head * c.head_size : (head + 1) * c.head_size]
            np.testing.assert_array_equal(own, self.weights[head][:columns] @ v)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def products(dut: Any) -> None:
    """Contexts around the ends of banks, of rows of keys and values, of lanes; then passes of several tokens."""
    c = DEVICES[os.environ["DEVICE"]]
    core = Core(dut, c, 0.7)
    await start(dut)
    await core.begin()
    written = 0
    for past, length in (
        *((n - 1, 1) for n in (1, 15, 16, 17, 31, 32, 33, 127, 128, 129)),
        (129, c.chunk), (c.context - 1, 1),
    ):  # fmt: skip
        while written < past + length:
            count = min(c.chunk, past + length - written)
            await core.write(1, written, count)
            written += count
        await core.attend(1, past, length)
    await core.write(0, 0, 2)  # another layer's are others
    await core.attend(0, 0, 2)
