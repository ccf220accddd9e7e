# SPDX-License-Identifier: Apache-2.0
"""The cycle model of a memory port: prefetchers that share it, a memory with a latency and a bandwidth.

Ports are alike and get the same requests, so one stands for all; only writes differ. Nothing is stepped cycle by
cycle: the model goes from one requested burst to the next, which is exact because words of a burst follow each
other. It is lazy: it has come as far as somebody asked, and takes releases, descriptors and writes with the times
at which they happened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from schedules.errors import ScheduleError
from schedules.machine import Machine, ReadClient

__all__ = ["Burst", "Port"]

NEVER = 1 << 60
WRITE_GAP = 1
"""Cycles that the memory needs after a written word before it moves another one."""


@dataclass(frozen=True)
class Burst:
    """Words that a port transfers one after the other, in the cycles from ``first`` up to ``end``.

    ``client`` is the prefetcher that asked: ``w`` weights, ``k`` keys, ``v`` values, ``e`` embeddings.
    """

    client: str
    first: int
    end: int
    words: int


@dataclass
class _Client:
    """A prefetcher: what it has to read, the room in its buffer, and when its words arrived."""

    name: str
    shape: ReadClient
    words_per_beat: int
    period: int  # words of beats that come and are released together
    side: int  # of these, words before the first beat
    room: int
    queue: int  # cycles from a descriptor's transfer until its first burst may be requested
    descriptors: deque[tuple[int, int, int]] = field(
        default_factory=deque
    )  # time, word, words left
    releases: deque[tuple[int, int]] = field(default_factory=deque)  # time, words
    offered: int = 0  # the cutter has the next burst from then on
    received: int = 0
    beats: list[int] = field(default_factory=list)  # cycle of the last word of every beat

    def ends(self, words: int) -> Sequence[int]:
        """Which of the next words, counted from 0, are the last ones of a beat."""
        each, start = self.words_per_beat, self.received % self.period
        if not self.side:
            return range(-self.received % each or each, words + 1, each)
        return [
            word
            for word in range(1, words + 1)
            if (at := (start + word - 1) % self.period - self.side) >= 0 and at % each == each - 1
        ]

    def burst(self) -> int:
        """Words of the next burst."""
        _, word, left = self.descriptors[0]
        return min(left, self.shape.burst - word % self.shape.burst)

    def ready(self) -> int:
        """The first cycle in which its next burst may be requested, as far as is known."""
        if not self.descriptors:
            return NEVER
        at, need = max(self.offered, self.descriptors[0][0] + self.queue), self.burst() - self.room
        if need <= 0:
            return at
        for time, words in self.releases:
            need -= words
            if need <= 0:
                return max(at, time + 1)
        return NEVER

    def take(self, cycle: int) -> int:
        """Request the next burst; its words."""
        words = self.burst()
        time, word, left = self.descriptors[0]
        while self.releases and self.releases[0][0] < cycle:
            self.room += self.releases.popleft()[1]
        self.room -= words
        self.offered = cycle + 1
        if left == words:
            self.descriptors.popleft()
        else:
            self.descriptors[0] = (time, word + words, left - words)
        return words


class Port:
    """One memory port and the memory behind it.

    Parameters
    ----------
    machine : sizes and latencies.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        per_beat = machine.beat_words
        self._clients = {
            name: _Client(
                name,
                shape,
                1 if name == "e" else per_beat,
                machine.period_words if name == "w" else per_beat,
                machine.stream_side if name == "w" else 0,
                shape.words,
                machine.request_latency - 1,
            )
            for name, shape in machine.clients
        }
        self._row, self._in_period, self._rest = machine.stream_row, machine.stream_period, 0
        self._now = 0  # every request before this cycle has been made
        self._asked = 0  # words requested
        self._spans: deque[tuple[int, int, int]] = (
            deque()
        )  # words before, first cycle, words: of bursts received
        self._ends: deque[int] = deque()  # last cycles of bursts, newest last
        period = Fraction(machine.port_bytes) / machine.port_rate
        self._scale, self._period = (
            period.denominator,
            period.numerator,
        )  # a word takes period / scale cycles
        self._next = 0  # the memory can give the next word, in cycles times scale
        # Cycles in which words follow each other as fast as they are granted, as [first, end): behind the last
        # word, too, none can be written before the next one could be read.
        self._busy: deque[tuple[int, int]] = deque()
        self._open: list[deque[int]] = [
            deque() for _ in range(machine.ports)
        ]  # awvalid of writes whose word is not placed
        self._wrote = [0] * machine.ports  # next cycle for a written word
        self._paused = 0  # next cycle for a read word after a written one
        self._answers: list[list[int]] = [[] for _ in range(machine.ports)]
        self._waiting: set[int] = set()  # ports with writes in _open
        self._full: dict[
            int, int
        ] = {}  # write that a port must have answered before anybody writes again
        self._fetch: tuple[int, Sequence[tuple[str, Sequence[int], int]]] | None = None
        self.words = 0
        """Words read so far."""
        self.bursts: list[Burst] = []
        """What was transferred so far, in the order of time."""

    # ---- What happens outside ---------------------------------------------------------------------

    def read(self, client: str, cycle: int, word: int, words: int) -> None:
        """A descriptor was taken."""
        if words:
            self._clients[client].descriptors.append((cycle, word, words))

    def release(self, client: str, cycle: int, beats: int = 1) -> None:
        """Beats (words of ``e``) are no longer needed; of ``w``, room is made by whole periods."""
        c = self._clients[client]
        words = beats * c.words_per_beat
        if client == "w":
            periods, self._rest = divmod(self._rest + beats, self._in_period)
            words = periods * c.period
        if words:
            c.releases.append((cycle, words))

    def arrival(self, client: str, beat: int) -> int:
        """The cycle in which the last word of a beat is transferred.

        Raises
        ------
        ScheduleError
            If it never is: nobody asks for it, or its room is never freed.
        """
        beats = self._clients[client].beats
        if client == "w":
            beat //= self._row
        while len(beats) <= beat:
            if not self._advance(NEVER):
                raise ScheduleError(
                    f"Prefetcher {client} stands still: beat {beat} of it never arrives"
                )
        return beats[beat]

    def write(self, ports: range, cycle: int) -> int:
        """Give a write to some ports, not before ``cycle``; the cycle in which all ports could take it."""
        for p, index in list(self._full.items()):
            answered = self._answer(p, index)
            if answered < cycle:
                del self._full[p]
            else:
                cycle = answered + 1
        for p in ports:
            self._open[p].append(cycle + self._machine.write_latency)
            self._waiting.add(p)
            taken = len(self._answers[p]) + len(self._open[p])
            if taken >= self._machine.writes:
                self._full[p] = taken - self._machine.writes
        return cycle

    def quiet(self) -> int:
        """The cycle in which every write so far has been answered."""
        counts = [len(a) + len(o) for a, o in zip(self._answers, self._open, strict=True)]
        return max((self._answer(p, n - 1) + 1 for p, n in enumerate(counts) if n), default=0)

    def fetch(self, cycle: int, jobs: Sequence[tuple[str, Sequence[int], int]]) -> None:
        """Read ``(client, first words, words of each)`` as soon as every write so far has been answered.

        Parameters
        ----------
        cycle : not before.
        """
        self._fetch = (cycle, jobs)

    # ---- The memory -------------------------------------------------------------------------------

    def _answer(self, port: int, index: int) -> int:
        """The cycle in which a write is answered."""
        answers = self._answers[port]
        while len(answers) <= index:
            horizon = self._settle(port, self._now) - self._machine.memory_latency
            if len(answers) <= index and not self._advance(horizon):
                self._now = max(self._now, horizon)
        return answers[index]

    def _settle(self, port: int, now: int) -> int:
        """Place written words in cycles without a read, which goes first.

        Reads requested from ``now`` on come later than the memory's latency; the first write that might have to
        wait for one stays open. Returns the cycle that it wants.
        """
        known = now + self._machine.memory_latency
        waiting = self._open[port]
        while waiting:
            cycle = max(waiting[0] + 1, self._wrote[port])
            for first, end in reversed(self._busy):
                if end <= cycle:
                    break
                if first <= cycle:
                    cycle = end
                    break
            if cycle > known:
                return cycle
            waiting.popleft()
            self._wrote[port] = self._paused = cycle - (-self._period // self._scale) + WRITE_GAP
            self._answers[port].append(cycle + self._machine.memory_latency)
        self._waiting.discard(port)
        return known

    def _wanted(self) -> tuple[_Client | None, int]:
        """Who requests the next burst, and when."""
        chosen, cycle = None, NEVER
        for client in self._clients.values():
            ready = client.ready()
            if client.shape.flight is not None and ready < NEVER:
                ready = max(ready, self._flown(client.shape.flight))
            if ready <= self._now:
                return client, self._now
            if ready < cycle:
                chosen, cycle = client, ready
        return chosen, cycle

    def _advance(self, limit: int) -> bool:
        """Request the next burst; False if nobody wants one up to the cycle ``limit``."""
        chosen, cycle = self._wanted()
        if self._fetch is not None and self._start_fetch(cycle):
            chosen, cycle = self._wanted()
        if chosen is None or cycle > limit:
            return False
        machine = self._machine
        if len(self._ends) >= machine.bursts:
            cycle = max(cycle, self._ends[-machine.bursts] + 1)
        words = chosen.take(cycle)
        address = cycle + 1
        if len(self._ends) >= machine.memory_outstanding:
            address = max(address, self._ends[-machine.memory_outstanding] + 1)
        self._serve(chosen, words, address + machine.memory_latency)
        self._now = max(cycle + 1, address)
        return True

    def _start_fetch(self, now: int) -> bool:
        """Give the descriptors of the fetch, if no request before ``now`` can still delay a write."""
        for port in list(self._waiting):
            self._settle(port, now)
        if self._fetch is None or self._waiting:
            return False
        (cycle, jobs), self._fetch = self._fetch, None
        start = max(cycle, *(answers[-1] + 1 for answers in self._answers if answers), 0)
        for client, first_words, words in jobs:
            for index, word in enumerate(first_words):
                self.read(client, start + 1 + index, word, words)
        return True

    def _serve(self, client: _Client, words: int, earliest: int) -> None:
        """Transfer a burst, not before ``earliest``."""
        scale, period = self._scale, self._period
        for port in list(self._waiting):
            self._settle(port, earliest - 1 - self._machine.memory_latency)
        start = self._next = max(self._next, earliest * scale, self._paused * scale)
        first, last = -(-start // scale), -(-(start + (words - 1) * period) // scale)
        if scale == period:
            client.beats.extend(first + word - 1 for word in client.ends(words))
        else:
            client.beats.extend(
                -(-(start + (word - 1) * period) // scale) for word in client.ends(words)
            )
        self._next += words * period
        client.received += words
        self._spans.append((self._asked, first, words))
        self.bursts.append(Burst(client.name, first, last + 1, words))
        self._asked += words
        self.words += words
        self._ends.append(last)
        if len(self._ends) > 1024:
            self._ends.popleft()
        if self._busy and self._busy[-1][1] >= first:
            first = self._busy.pop()[0]
        self._busy.append((first, -(-self._next // scale)))
        while len(self._busy) > 64:
            self._busy.popleft()

    def _flown(self, flight: int) -> int:
        """The first cycle in which fewer than ``flight`` words are requested and not received."""
        word = self._asked - flight  # when it has been received, there are that few
        if word < 0:
            return 0
        while self._spans[0][0] + self._spans[0][2] <= word:
            self._spans.popleft()
        before, first, _ = self._spans[0]
        return first - (-(word - before) * self._period // self._scale) + 1
