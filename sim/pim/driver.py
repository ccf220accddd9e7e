# SPDX-License-Identifier: Apache-2.0
"""What a host does: lays keys and values out in a channel, and writes the commands of an attention."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hw.pim.commands import Cmd
from hw.pim.config import BURST_BITS, PimConfig
from sim.pim.controller import Request
from sim.pim.protocol import Command

__all__ = ["Program", "Result", "Tiles", "attend", "logit", "store"]


@dataclass(frozen=True)
class Result:
    """What one READRES means: ``heads`` query head; elements ``first + bank`` of it, of ``chunk``."""

    head: int
    first: int
    chunk: int = 0


@dataclass
class Program:
    """Commands of the multipliers with the data of WRGB, what to write first, and what comes back."""

    commands: list[tuple[Command, int]] = field(default_factory=list)
    writes: list[Request] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def add(self, command: Command, data: int = 0) -> None:
        self.commands.append((command, data))


def _words(c: PimConfig, page: NDArray) -> list[int]:
    """The bursts of a page, each as an integer; the page may be shorter than a row."""
    raw = np.ascontiguousarray(page).tobytes()
    size = BURST_BITS // 8
    return [int.from_bytes(raw[i : i + size], "little") for i in range(0, len(raw), size)]


def _row(c: PimConfig, bank: int, row: int, page: NDArray) -> list[Request]:
    return [Request(1, bank, row, i, word) for i, word in enumerate(_words(c, page))]


def store(c: PimConfig, cells: NDArray, rows: range) -> list[Request]:
    """Writes that put ``cells`` ``[banks, rows, page]`` into those rows of a channel."""
    return [w for row in rows for b in range(c.banks) for w in _row(c, b, row, cells[b, row])]


def k_tiles(c: PimConfig, length: int, kv_heads: int, dk: int) -> tuple[int, int]:
    """Tiles of tokens, and rows that the heads of one token take."""
    return -(-length // c.banks), -(-kv_heads * dk // c.page_elements)


def place_keys(c: PimConfig, k: NDArray, cells: NDArray, base: int) -> int:
    """Keys ``[kv_heads, length, dk]``: bank = token mod banks, the heads of a token in one row.

    Returns the number of rows from ``base`` on: token tile i, part j in row ``base + i * parts + j``.
    """
    heads, length, dk = k.shape
    tiles, parts = k_tiles(c, length, heads, dk)
    per = c.page_elements // dk
    for token in range(length):
        for h in range(heads):
            row = base + token // c.banks * parts + h // per
            cells[token % c.banks, row, h % per * dk : (h % per + 1) * dk] = k[h, token]
    return tiles * parts


def place_values(c: PimConfig, v: NDArray, cells: NDArray, base: int, pack: bool) -> int:
    """Values ``[kv_heads, length, dk]``: bank = feature mod banks, positions along the row.

    With ``pack``, rows of short requests hold several features side by side. Returns the rows used.
    """
    heads, length, dk = v.shape
    slots = _slots(c, length, pack)
    pieces, chunks = -(-dk // c.banks), -(-length // c.page_elements)
    width = -(-length // c.lanes) * c.lanes if slots > 1 else 0
    for h in range(heads):
        for d in range(dk):
            for chunk in range(chunks):
                piece = v[h, chunk * c.page_elements : (chunk + 1) * c.page_elements, d]
                row, slot = _value_row(c, h, d // c.banks, chunk, pieces, chunks, slots)
                cells[d % c.banks, base + row, slot * width : slot * width + len(piece)] = piece
    return heads * chunks * -(-pieces // slots)


def _slots(c: PimConfig, length: int, pack: bool) -> int:
    """Features that share a row."""
    return max(1, c.cols // -(-length // c.lanes)) if pack else 1


def _value_row(c, head, piece, chunk, pieces, chunks, slots) -> tuple[int, int]:
    per_head = -(-pieces // slots)
    return (head * chunks + chunk) * per_head + piece // slots, piece % slots


class Tiles:
    """Tiles one after the other: header, close, open, compute; with two buffers in turns.

    With ``composite=False`` each step and each READRES is a command of its own, as in Newton.
    """

    def __init__(self, c: PimConfig, program: Program, composite: bool = True) -> None:
        self.c, self.program, self.before, self.composite = c, program, 0, composite
        self._waiting: list[tuple[int, list[Command]]] = []

    def tile(self, row: int, steps: list[Command]) -> None:
        """The next tile: its row, and its steps on it."""
        if self.c.buffers == 2:
            self._waiting.append((row, steps))
        else:
            self._header([(row, steps)])
            for command in [*self._close(0), *self._open(row, 0), *self._steps(row, steps, 0)]:
                self.program.add(command)
            self._end(steps)

    def flush(self) -> None:
        """Write what waits: sequences of tiles, of which one opens while another computes."""
        while self._waiting:
            count = 1
            while count < len(self._waiting):
                if self._promise(self._waiting[: count + 1]) >= self.c.slack // 2:
                    break
                count += 1
            self._sequence(self._waiting[:count])
            del self._waiting[:count]

    def _sequence(self, tiles: list[tuple[int, list[Command]]]) -> None:
        self._header(tiles)
        for command in [*self._close(0), *self._close(1), *self._open(tiles[0][0], 0)]:
            self.program.add(command)
        for i, (row, steps) in enumerate(tiles):
            mine = self._steps(row, steps, i % 2)
            next_ones = []
            if i + 1 < len(tiles):
                mine[-1] = mine[-1]._replace(last=0)
                following = self._open(tiles[i + 1][0], 1 - i % 2)
                next_ones = [*(self._close(1 - i % 2) if i else []), *following]
            self.program.add(mine[0])
            share = -(-len(next_ones) // max(1, len(mine) - 1)) if next_ones else 0
            for step in mine[1:]:
                for command in next_ones[:share]:
                    self.program.add(command)
                del next_ones[:share]
                self.program.add(step)
            for command in next_ones:
                self.program.add(command)
        self._end(tiles[-1][1])

    def _promise(self, tiles: list[tuple[int, list[Command]]]) -> int:
        cycles = sum(self.c.group_cycles(s.k) for _, steps in tiles for s in steps)
        return self.c.estimate(len(tiles), cycles, self.before)

    def _header(self, tiles: list[tuple[int, list[Command]]]) -> None:
        self.program.add(Command(Cmd.HEADER, row=tiles[0][0], est=self._promise(tiles)))

    def _end(self, steps: list[Command]) -> None:
        self.before = self.c.group_cycles(steps[-1].k)

    def _close(self, buf: int) -> list[Command]:
        if self.c.prea:
            return [Command(Cmd.PIMPREA, buf=buf)]
        return [Command(Cmd.PIMPRE, bank, buf=buf) for bank in range(self.c.banks)]

    def _open(self, row: int, buf: int) -> list[Command]:
        """The ranks in turns, so that their windows of activations overlap."""
        n = self.c.banks_per_rank
        return [
            Command(Cmd.GACT, rank * n + first, row, buf=buf)
            for first in range(0, n, self.c.act_group)
            for rank in range(self.c.ranks)
        ]

    def _steps(self, row: int, steps: list[Command], buf: int) -> list[Command]:
        found = []
        for i, step in enumerate(steps):
            last = int(i == len(steps) - 1)
            whole = step._replace(cmd=Cmd.COMPS_READRES, row=row, buf=buf, last=last)
            if self.composite:
                found.append(whole)
                continue
            found += [
                whole._replace(
                    cmd=Cmd.COMP, col=step.col + j, gcol=step.gcol + j, fresh=int(j == 0),
                    tail=step.tail if j == step.k - 1 else 0, last=0,
                )
                for j in range(step.k)
            ]  # fmt: skip
            found.append(whole._replace(cmd=Cmd.READRES))
        return found


def _load(
    program: Program, entry: int, page: NDArray, c: PimConfig, source: tuple[int, int] | None
) -> None:
    """A page into the vector buffer: from a row (which is written first), or over the data bus."""
    if source is not None:
        bank, row = source
        program.writes += _row(c, bank, row, page)
        program.add(Command(Cmd.GWRITE, bank, row, entry=entry))
    else:
        for i, word in enumerate(_words(c, page)):
            program.add(Command(Cmd.WRGB, entry=entry, gcol=i), word)


def logit(
    c: PimConfig, q: NDArray, kv_heads: int, length: int, base: int, scratch: int | None
) -> Program:
    """Scores of the queries ``[heads, dk]`` with all keys.

    Parameters
    ----------
    base : first row of the keys.
    scratch : first of the rows (of bank 0) through which queries go; None: over the data bus.
    """
    heads, dk = q.shape
    group, per = heads // kv_heads, c.page_elements // dk
    tiles, parts = k_tiles(c, length, kv_heads, dk)
    program = Program()
    runner = Tiles(c, program)
    width = dk // c.lanes
    for part in range(parts):
        here = range(part * per, min((part + 1) * per, kv_heads))
        for first in range(0, group, c.entries):
            turns = range(first, min(first + c.entries, group))
            for entry, turn in enumerate(turns):
                page = np.zeros(c.page_elements, q.dtype)
                for i, h in enumerate(here):
                    page[i * dk : (i + 1) * dk] = q[h * group + turn]
                row = None if scratch is None else (0, scratch + part * group + turn)
                _load(program, entry, page, c, row)
            for tile in range(tiles):
                steps = []
                for i, h in enumerate(here):
                    for entry, turn in enumerate(turns):
                        at = i * width
                        steps.append(Command(Cmd.COMP, entry=entry, col=at, gcol=at, k=width))
                        program.results.append(Result(h * group + turn, tile * c.banks))
                runner.tile(base + tile * parts + part, steps)
            runner.flush()
    return program


def attend(
    c: PimConfig, weights: NDArray, kv_heads: int, dk: int, base: int, scratch: int | None,
    pack: bool = False,
) -> Program:  # fmt: skip
    """Sums of the values with the weights ``[heads, length]``; parameters as of :func:`logit`."""
    heads, length = weights.shape
    group, slots = heads // kv_heads, _slots(c, length, pack)
    pieces, chunks = -(-dk // c.banks), -(-length // c.page_elements)
    program = Program()
    runner = Tiles(c, program)
    for h in range(kv_heads):
        for chunk in range(chunks):
            count = min(c.page_elements, length - chunk * c.page_elements)
            k, tail = -(-count // c.lanes), count % c.lanes
            for first in range(0, group, c.entries):
                turns = range(first, min(first + c.entries, group))
                for entry, turn in enumerate(turns):
                    page = np.ones(c.page_elements, weights.dtype)  # `tail` masks what is behind
                    page[:count] = weights[h * group + turn, chunk * c.page_elements :][:count]
                    row = None
                    if scratch is not None:
                        row = (1, scratch + (h * group + turn) * chunks + chunk)
                    _load(program, entry, page, c, row)
                for start in range(0, pieces, slots):
                    steps = []
                    for piece in range(start, min(start + slots, pieces)):
                        for entry, turn in enumerate(turns):
                            col = (piece - start) * k if slots > 1 else 0
                            steps.append(Command(Cmd.COMP, entry=entry, col=col, k=k, tail=tail))
                            program.results.append(Result(h * group + turn, piece * c.banks, chunk))
                    row, _ = _value_row(c, h, start, chunk, pieces, chunks, slots)
                    runner.tile(base + row, steps)
                runner.flush()
    return program
