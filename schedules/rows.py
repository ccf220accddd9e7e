# SPDX-License-Identifier: Apache-2.0
"""The cycle model of finished rows: from the engine through requantisation to where they go."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from schedules.machine import Machine
from schedules.pim import PimRow
from schedules.port import Port

__all__ = ["Rows"]


@dataclass
class _Row:
    """A row of a finished tile that has not entered requantisation: since when it is in the bank, where it goes."""

    loaded: int
    ports: range | PimRow | None  # of a key or value: where it goes
    result: str
    ends: bool  # the last row that needs its header


class Rows:
    """The way of finished rows: the engine's pipeline, its bank of finished rows, requantisation, key/value writer.

    Everything moves at once or stands still, stage by stage: requantisation while a key or value is not taken, the
    engine while a finished tile finds more than one row in the bank. What happens to a row is found out as late as
    possible: only then is it known what the feeder, which runs ahead of it, asked of the memory meanwhile.
    """

    def __init__(self, machine: Machine, port: Port) -> None:
        self._port = port
        self._depth = (
            machine.engine_latency - 1
        )  # cycles from the transfer of a last beat to the bank
        self._requantise = machine.requantise_latency
        self._rotary = machine.rotary_latency  # that keys and values have behind it
        self.held = 0  # the beat register of the feeder is free from then on
        self._free = 0  # the engine takes the next beat
        self._bank = 0  # the next tile may be loaded
        self._entered = 0  # the last row entered requantisation
        self._written = (
            0  # the key/value writer is free, but for the row that it holds: where to, since when
        )
        self._held: tuple[range, int] | None = None
        self._waiting: deque[_Row] = deque()
        self._leaving: deque[tuple[int, range | PimRow]] = (
            deque()
        )  # keys and values in requantisation: since when, ports
        # Cycles in which the engine's pipeline, and requantisation, stand still, as [first, end).
        self._still: deque[tuple[int, int]] = deque()
        self._stopped: deque[tuple[int, int]] = deque()
        self.freed = [0] * machine.header_buffers
        """When no row needs a header any more, header by header."""
        self._last = ("", 0)  # of the last row: where it goes, and when it is offered there

    def issue(self, cycle: int, beats: int, spacing: int = 1) -> int:
        """Issue beats whose operands are there, from ``cycle`` on; the cycle of the last issue.

        ``spacing`` : cycles for which such a beat occupies the engine.
        """
        cycle = max(cycle, self.held)
        if spacing > 1:
            return self._issue_spaced(cycle, beats, spacing)
        while self._still and self._still[0][1] <= cycle + 1:
            self._still.popleft()
        if not self._still or self._still[0][0] > cycle + beats:
            self.held = cycle + beats
            return self.held - 1
        for _ in range(beats):
            issued = max(cycle, self.held)
            self.held = issued + 1
            for first, end in self._still:
                if first <= self.held < end:
                    self.held = end
            cycle = issued + 1
        return cycle - 1

    def _issue_spaced(self, cycle: int, beats: int, spacing: int) -> int:
        """A beat waits in the feeder's register until the engine has done with the one before."""
        issued = cycle
        for _ in range(beats):
            issued = max(cycle, self.held)
            self.held = max(issued + 1, self._free)
            for first, end in self._still:
                if first <= self.held < end:
                    self.held = end
            self._free = self.held + spacing
            cycle = issued + 1
        return issued

    def tile(
        self,
        rows: int,
        ports: Sequence[range | PimRow] = (),
        result: str = "",
        *,
        ends: bool = False,
    ) -> None:
        """The beat issued last ends a tile.

        Parameters
        ----------
        rows : of the tile.
        ports : of keys and values: where each row goes.
        result : where other rows go.
        ends : it is the last tile that needs its header.
        """
        self._make_room()
        ready = self.held + self._depth
        for first, end in self._still:
            if first < ready and end > self.held:
                ready += end - first
        loaded = max(ready, self._bank)
        if loaded > ready:
            self._still.append((ready, loaded))
        self._bank = loaded + rows
        if not ports and not self._waiting and not self._leaving:
            while self._stopped and self._stopped[0][1] <= loaded:
                self._stopped.popleft()
            if not self._stopped:
                self._entered = loaded + rows
                self._last = (result, self._entered + self._requantise)
                if ends:
                    self.freed.append(self._entered + 1)
                return
        for row in range(rows):
            to = ports[row] if ports else None
            self._waiting.append(_Row(loaded, to, result, ends and row == rows - 1))

    def other(self, entered: int) -> None:
        """A row that the engine did not make entered requantisation, nothing being in its way."""
        self._entered = entered
        self._last = ("", entered + self._requantise)

    def free_header(self, *, ends: bool) -> None:
        """Such rows need their header no more, if ``ends``."""
        if ends:
            self.freed.append(self._entered + 1)

    @property
    def smooth(self) -> bool:
        """Whether nothing stands still, and nothing can."""
        return not (self._still or self._stopped or self._waiting or self._leaving)

    @property
    def last(self) -> int:
        """The cycle in which the last row entered requantisation, nothing being in its way."""
        return self._entered

    def header_free(self, header: int) -> int:
        """The cycle in which no row needs a header any more."""
        while len(self.freed) <= header:
            self._enter()
        return self.freed[header]

    def finish(self) -> tuple[str, int]:
        """All rows leave: where the last one goes, and when it is offered there."""
        while self._waiting:
            self._enter()
        while self._leaving:
            self._accept()
        self._write()
        return self._last

    @property
    def written(self) -> int | None:
        """The cycle in which the memory took the last key or value; None if some are under way."""
        under_way = self._leaving or any(row.ports is not None for row in self._waiting)
        return None if under_way else self._write()

    def _make_room(self) -> None:
        """A tile is loaded when at most one row is left in the bank, which then waits beside it."""
        free = not self._leaving and not self._stopped
        if free and all(row.ports is None for row in self._waiting):
            while self._waiting:
                self._enter()
        elif self._waiting:
            while len(self._waiting) > 1:
                self._enter()
            self._bank = max(self._bank, self._entered + 1)

    def _enter(self) -> None:
        """The next row enters requantisation; rows before it have left if they could have."""
        row = self._waiting.popleft()
        cycle = max(row.loaded, self._entered) + 1
        while True:
            while self._leaving and self._offered(self._leaving[0][0], self._rotary) <= cycle:
                self._accept()
            stop = next((end for first, end in self._stopped if first <= cycle < end), None)
            if stop is None:
                break
            cycle = stop
        self._entered = cycle
        if row.ports is not None:
            self._leaving.append((cycle, row.ports))
        else:
            self._last = (row.result, self._offered(cycle))
        if row.ends:
            self.freed.append(cycle + 1)

    def _offered(self, entered: int, behind: int = 0) -> int:
        """The cycle in which a row that entered requantisation is offered to where it goes, ``behind`` cycles later."""
        cycle = entered + self._requantise + behind
        for first, end in self._stopped:
            if first < cycle and end > entered:
                cycle += end - first
        return cycle

    def _accept(self) -> None:
        """The oldest key or value is taken by the writer, which has given the one before to the memory."""
        entered, ports = self._leaving.popleft()
        offered = self._offered(entered, self._rotary)
        accepted = max(offered, self._write())
        if isinstance(ports, PimRow):
            accepted = ports.take(offered)
        if accepted > offered:
            while self._stopped and self._stopped[0][1] <= entered:
                self._stopped.popleft()
            self._stopped.append((offered, accepted))
        if not isinstance(ports, PimRow):
            self._held = ports, accepted + 1
        self._last = ("", accepted)

    def _write(self) -> int:
        """The memory takes what the writer holds; the cycle in which the writer is free."""
        if self._held is not None:
            self._written = self._port.write(*self._held)
            self._held = None
        return self._written
