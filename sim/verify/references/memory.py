# SPDX-License-Identifier: Apache-2.0
"""Golden models of queues, memories, and what asks a memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.verify.references.base import (
    Answers,
    Columns,
    Entries,
    Outcome,
    Pipeline,
    Segment,
    StreamReference,
    anything,
    fields,
    parts,
)

__all__ = ["BurstCutterReference", "HeaderReference", "QueueReference", "RamReference"]


class QueueReference(StreamReference):
    """What came leaves, in its order."""

    @property
    def drain(self) -> int:
        return self.unit.context()["depth"] + 8

    def lengths(self, cycles: int) -> list[int]:
        """Long enough for the queue to be full and then empty."""
        return parts(max(cycles, 16 * self.drain), 4)

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        full = (1 << self.unit.context()["bits"]) - 1
        return [anything(random, full) for _ in range(count)]

    def answers(self, entries: Entries) -> Answers:
        return Answers(entries.payloads)

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        """In every other scenario nothing is taken until the queue is full."""
        columns = super().play(random, cycles, scenario)
        if scenario % 2:
            columns["o__ready"][: 2 * self.drain] = 0
        return columns


class BurstCutterReference(StreamReference):
    """Descriptors in pieces that end at the blocks' borders."""

    @property
    def drain(self) -> int:
        return 24

    def lengths(self, cycles: int) -> list[int]:
        """Whole transfers, and for each bit of a count a beginning of one that takes too long."""
        return [*parts(cycles, 4), *[self.drain] * 32]

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        block = self.unit.o.p.words.shape().width
        limit = 1 << (block - 1)
        found = []
        for _ in range(count):
            border = 1 << int(random.integers(0, 33))
            stripe = (border - int(random.integers(0, 2 * limit + 2))) % (1 << 32)
            words = int(random.choice([0, 1, limit, random.integers(0, 4 * limit + 2)]))
            found.append(fields(self.unit.i.payload.shape(), stripe=stripe, count=words))
        if scenario >= 4 and found:
            words = 1 << (scenario - 4)
            found[0] = fields(self.unit.i.payload.shape(), stripe=7, count=words)
        return found

    def answers(self, entries: Entries) -> Answers:
        layout = self.unit.o.payload.shape()
        limit = 1 << (layout["words"].width - 1)
        found: list[int | None] = []
        for payload in entries.payloads:
            stripe, count = payload & 0xFFFFFFFF, payload >> 32
            while count:
                words = min(limit - stripe % limit, count)
                found.append(fields(layout, stripe=stripe, words=words))
                stripe, count = (stripe + words) % (1 << 32), count - words
                if len(found) > entries.most:
                    return Answers(found, ends=False)
        return Answers(found)


class RamReference(Pipeline):
    """Banks of words: what was written last is read, a cycle later, and stays until the next read.

    Covers `hw.memory.buffers.RingMemory`, `hw.sfu.memory.WordMemory` and `hw.core.buffers.BankedBuffer`,
    whose ports differ in their names. A word that is read in the cycle in which it is written is any.
    """

    @property
    def _ports(self) -> tuple[str, str, str, str, str, str]:
        """Names of: write address, write data, read enable, read address, read data, bank or ''."""
        names = {name for name, _, _ in self.unit.ports()}
        if "wr_row" in names:
            return "wr_row", "wr_data", "rd_en", "rd_row", "rd_data", ""
        return "w_addr", "w_data", "r_en", "r_addr", "r_data", "w_bank" if "w_bank" in names else ""

    def _banks(self) -> tuple[int, int, int]:
        """Banks, words of each, bits of a word."""
        context: dict[str, Any] = self.unit.context()
        return (
            context.get("banks", context.get("lanes", 1)),
            context["depth"],
            context.get("width", context.get("bits", 0)),
        )

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        w_addr, w_data, r_en, r_addr, _, bank = self._ports
        banks, depth, bits = self._banks()
        # Few places, so that most that is read was written; among them one for each bit of an address.
        places = [0, depth - 1, *(1 << k for k in range((depth - 1).bit_length()))]
        places += random.integers(0, depth, 4).tolist()
        enabled = "wr_en" if not bank and w_addr == "wr_row" else "w_en"
        full = (1 << bits) - 1
        columns = {
            w_addr: random.choice(places, cycles).astype(object),
            r_addr: random.choice(places, cycles).astype(object),
            r_en: (random.random(cycles) < 0.7).astype(int).astype(object),
            w_data: np.array([anything(random, full) for _ in range(cycles)], dtype=object),
            enabled: random.integers(0, 1 << (banks if enabled == "wr_en" else 1), cycles).astype(
                object
            ),
        }
        if bank:
            columns[bank] = random.integers(0, banks, cycles).astype(object)
        return columns

    def results(self, segment: Segment, outcome: Outcome) -> None:
        w_addr, w_data, r_en, r_addr, r_data, bank = self._ports
        banks, depth, bits = self._banks()
        one_hot = "wr_en" in segment.values
        held: list[dict[int, int]] = [{} for _ in range(banks)]
        shown: list[int | None] = [None] * banks
        at = segment.values
        for t in range(segment.cycles):
            for b in range(banks):
                wanted = shown[b]
                if wanted is not None:
                    found = int(at[r_data][t]) >> (b * bits) & ((1 << bits) - 1)
                    outcome.same(t, found, wanted, f"bank {b} of {r_data}")
            write, read = (
                int(at[w_addr][t]) if w_addr in at else 0,
                int(at[r_addr][t]) if r_addr in at else 0,
            )
            lane = int(at["wr_en"][t]) if one_hot else (
                int(at["w_en"][t]) << (int(at[bank][t]) if bank else 0)
            )  # fmt: skip
            for b in range(banks):
                written = bool(lane >> b & 1) and write < depth
                if int(at[r_en][t]):
                    shown[b] = None if written and write == read else held[b].get(read)
                if written:
                    held[b][write] = int(at[w_data][t])


class HeaderReference(Pipeline):
    """A beat of headers is written whole; one header is seen in the same cycle in which it is asked for."""

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        context = self.unit.context()
        found = {"w_en": (random.random(cycles) < 0.5).astype(int).astype(object)}
        for name in ("w_buffer", "r_buffer"):
            found[name] = random.integers(0, self.unit._buffers, cycles).astype(object)
        if context["tile_bits"]:
            found["r_tile"] = random.integers(0, context["tiles"], cycles).astype(object)
        return found

    def results(self, segment: Segment, outcome: Outcome) -> None:
        context = self.unit.context()
        bits, tiles = context["header_bits"], context["tiles"]
        held: dict[int, int] = {}
        at = segment.values
        for t in range(segment.cycles):
            tile = int(at["r_tile"][t]) if context["tile_bits"] else 0
            beat = held.get(int(at["r_buffer"][t]))
            if beat is not None and tile < tiles:
                outcome.same(
                    t, int(at["header"][t]), beat >> (tile * bits) & ((1 << bits) - 1), "header"
                )
            if int(at["w_en"][t]):
                held[int(at["w_buffer"][t])] = int(at["beat"][t])
