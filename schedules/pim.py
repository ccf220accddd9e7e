# SPDX-License-Identifier: Apache-2.0
"""The cycle model of attention on PIM channels: writes, products and refreshes, as the controller plays them.

Channels are alike, and those of a core do the same at the same time; only their writes differ. Nothing is stepped cycle
by cycle: time goes from command to command.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["BURST", "PimChannel", "PimMachine", "PimRow", "PimTaken"]

BURST = 64
"""Bytes of a transfer on a channel's bus."""

NEVER = -(1 << 40)
RESULT_GAP = 2
"""Cycles from a result that leaves to the next one: the sum so far is read."""
PLAN = 3
"""States of a sweep before its header: it counts products, cuts off a sequence, and promises its cycles."""


@dataclass(frozen=True, kw_only=True)
class PimMachine:
    """Sizes and times of PIM channels and of the stations that use them; times in cycles.

    Parameters
    ----------
    channels, banks, ranks, groups : channels; of each: banks, ranks, bank groups of a rank.
    act_group : banks whose rows one command opens.
    heads, shared : heads of keys and values in a channel; query heads that share one.
    tile, span : positions in a row of all banks, of keys and of values.
    key_rows, layer_rows : rows of keys of a layer, and all of its rows.
    pieces : features of a head in a bank.
    step_lanes : products of a bank in a step.
    key_steps : steps of a product with keys.
    query_bursts : transfers of the queries of a turn.
    most : products of a sequence.
    promise : cycles of a sequence beside its products.
    results : results that a station holds.
    rows_depth : rows of features that it holds.
    result_latency : from READRES to a row of sums, nothing being in its way.
    rl, burst, rcd_wr, rcd_pim, rp, ras, rc, rrd_s, rrd_l, faw, write_end, wr, rfc, refi, comp, fill, result_cycles :
        timings; ``write_end`` from WR to the end of its data, ``result_cycles`` of READRES on the bus.
    """

    channels: int
    banks: int
    ranks: int
    groups: int
    act_group: int
    heads: int
    shared: int
    tile: int
    span: int
    key_rows: int
    layer_rows: int
    pieces: int
    step_lanes: int
    key_steps: int
    query_bursts: int
    most: int
    promise: int
    results: int
    rows_depth: int
    result_latency: int
    rl: int
    burst: int
    rcd_wr: int
    rcd_pim: int
    rp: int
    ras: int
    rc: int
    rrd_s: int
    rrd_l: int
    faw: int
    write_end: int
    wr: int
    rfc: int
    refi: int
    comp: int
    fill: int
    result_cycles: int

    @property
    def products(self) -> int:
        """Multiplications a cycle of all channels, a step of all banks every ``comp`` cycles."""
        return self.step_lanes * self.banks * self.channels // self.comp

    @property
    def vectors(self) -> int:
        """Query heads of a channel."""
        return self.heads * self.shared


class PimChannel:
    """One channel and its station.

    Parameters
    ----------
    machine : sizes and times.
    """

    def __init__(self, machine: PimMachine) -> None:
        m = self._m = machine
        # A run begins with a refresh, rank after rank.
        self._due = m.refi  # the next one
        self._free = m.ranks + m.rfc  # none is under way
        # Row buffers of reads and writes: what is open since when, and written last; when it may open again.
        self._row: list[int | None] = [None] * m.banks
        self._act = [NEVER] * m.banks
        self._wrote = [NEVER] * m.banks
        self._shut = [NEVER] * m.banks
        self._acts: list[deque[int]] = [deque([NEVER] * 4, 4) for _ in range(m.ranks)]
        # The multipliers.
        self._opened = self._closed = NEVER  # their rows, last; closed: a precharge
        self._is_open = False
        self._path = 0  # they are free
        self._bus = 0
        # Rows of features: the request in front may be offered; when those that wait leave.
        self._next = 0
        self._leave: deque[int] = deque()

    # ---- Writes -----------------------------------------------------------------------------------

    def accept(self, cycle: int) -> int:
        """The cycle in which a row that is offered is taken."""
        while self._leave and self._leave[0] < cycle:
            self._leave.popleft()
        if len(self._leave) >= self._m.rows_depth:
            cycle = max(cycle, self._leave[len(self._leave) - self._m.rows_depth] + 1)
        return cycle

    def write(self, cycle: int, base: int, position: int, features: range | None) -> None:
        """A row was taken in ``cycle``: of a key, or ``features`` (of a head) of a value, one in each request."""
        m = self._m
        at = max(cycle + 2, self._next)  # through the queue
        if features is None:
            row = base + position // m.tile
            at = self._request(at, position % m.banks, row) + 1
        else:
            row = base + m.key_rows + position // m.span
            left = len(features)
            same = all(self._row[f % m.banks] == row for f in features)
            if same and at + m.burst * left < self._due:
                at = max(at, self._bus)
                for k, f in enumerate(features):
                    self._wrote[f % m.banks] = at + m.burst * k
                at += m.burst * (left - 1)
                self._bus = at + m.burst
                at += 1
            else:
                for feature in features:
                    at = self._request(at, feature % m.banks, row) + 1
        self._next = at
        self._leave.append(at - 1)

    @property
    def written(self) -> int:
        """The cycle in which the last row has been written."""
        return self._next

    def _request(self, at: int, bank: int, row: int) -> int:
        """One burst, offered in ``at``: when it is written."""
        m = self._m
        at = max(at, self._free)
        while at > self._due:
            at = max(at, self._refresh())
        while self._row[bank] != row:
            if self._row[bank] is not None:
                pre = max(at, self._wrote[bank] + m.write_end + m.wr, self._act[bank] + m.ras)
                if pre > self._due:
                    at = max(at, self._refresh())
                    continue
                self._row[bank], self._shut[bank] = None, pre
                at = pre + 1
            rank = bank // (m.banks // m.ranks)
            acts = self._acts[rank]
            act = max(
                at,
                self._shut[bank] + m.rp,
                self._act[bank] + m.rc,
                acts[0] + m.faw,
                acts[-1] + m.rrd_s,
            )
            act = max(act, self._opened + m.rrd_s)
            group = m.banks // (m.ranks * m.groups)
            first = bank // group * group
            act = max(act, *(self._act[b] + m.rrd_l for b in range(first, first + group)))
            if act > self._due:
                at = max(at, self._refresh())
                continue
            acts.append(act)
            self._row[bank], self._act[bank] = row, act
            at = act + 1
            wrote = max(act + m.rcd_wr, self._bus)
            if wrote > self._due:
                at = max(at, self._refresh())
        wrote = max(at, self._act[bank] + m.rcd_wr, self._bus)
        if wrote > self._due:
            return self._request(max(at, self._refresh()), bank, row)
        self._wrote[bank], self._bus = wrote, wrote + m.burst
        return wrote

    # ---- Refreshes --------------------------------------------------------------------------------

    def _refresh(self) -> int:
        """The refresh that is due next, no sequence being under way: when the ranks are free again."""
        m = self._m
        command = self._due + 1  # rank after rank closes its rows, one command a cycle
        each = m.banks // m.ranks
        closed = command
        if self._is_open:
            close = max(command, self._path, self._opened + m.ras)
            self._is_open, self._closed = False, close
            closed, command = close + m.rp, close + 1
        ready = []
        for rank in range(m.ranks):
            banks = range(rank * each, (rank + 1) * each)
            opened = [b for b in banks if self._row[b] is not None]
            at = closed
            if opened:
                pre = max(command, *(self._wrote[b] + m.write_end + m.wr for b in opened))
                pre = max(pre, *(self._act[b] + m.ras for b in opened))
                for b in opened:
                    self._row[b], self._shut[b] = None, pre
                command, at = pre + 1, max(at, pre + m.rp)
            ready.append(max(at, *(self._shut[b] + m.rp for b in banks), *(self._act[b] + m.rc for b in banks),
                             self._closed + m.rp, self._opened + m.rc))  # fmt: skip
        free = 0
        for at in sorted(ready):
            refresh = max(at, free - m.rfc + 1)
            free = refresh + m.rfc
        self._free = free
        self._due += m.refi
        return free

    # ---- Products ---------------------------------------------------------------------------------

    def sweep(
        self, start: int, base: int, length: int, value: bool
    ) -> Iterator[tuple[int, int, int]]:
        """The products with ``length`` keys or values, which begin in ``start``.

        Yields
        ------
        row, index, cycle
            Of each product: the row of banks (0, 1, ...), its place among those of the row, and READRES. Whoever takes
            a result says by :meth:`took` when it left.
        """
        m = self._m
        size = m.span if value else m.tile
        at = start
        self._issued = 0
        self._left: list[int] = []
        for number, first in enumerate(range(0, length, size)):
            here = min(size, length - first)
            row = base + number + (m.key_rows if value else 0)
            if value:
                at = self._vectors(at, m.vectors * -(-here // BURST))
            elif not number:
                at = self._vectors(at, m.shared * m.query_bursts)
            at += 1
            steps = -(-here // m.step_lanes) if value else m.key_steps
            each = m.comp * max(steps, m.fill) + m.result_cycles
            count = m.vectors * (m.pieces if value else -(-here // m.banks))
            for begin in range(0, count, m.most):
                some = min(m.most, count - begin)
                at = self._open(at + PLAN - 1, row, m.promise + some * each, some)
                for index in range(begin, begin + some):
                    at = max(at, self._path)
                    self._path = at + each
                    self._issued += 1
                    yield number, index, at + m.comp * max(steps, m.fill)
                    at += 1

    def took(self, cycle: int) -> None:
        """The oldest result left the station."""
        self._left.append(cycle)

    def _vectors(self, at: int, count: int) -> int:
        """Bursts into the vector buffer, when the products before have read it; the cycle after the last one."""
        m = self._m
        at = max(at, self._path - m.result_cycles, self._bus)
        at += m.burst * (count - 1)
        self._bus = at + m.burst
        return at + 1

    def _open(self, at: int, row: int, promise: int, some: int) -> int:
        """Header, precharge and activation of a sequence of ``some`` products: the first cycle of the first of them."""
        m = self._m
        room = self._issued + some - m.results  # so many must have left
        if room > 0:
            at = max(at, self._left[room - 1] + 1)
        at = max(at, self._free)
        while self._due - at <= promise:  # also if rows of writes are closed meanwhile
            at = max(at, self._refresh())
        clash = [b for b in range(m.banks) if self._row[b] == row]
        for bank in clash:
            at = max(at, self._wrote[bank] + m.write_end + m.wr, self._act[bank] + m.ras)
            self._row[bank], self._shut[bank] = None, at
            at += 1
        if clash and self._due - at <= promise:
            at = max(at, self._refresh())
        at += 1  # precharge
        if self._is_open:
            at = max(at, self._path, self._opened + m.ras)
            self._closed = at
        at = max(at + 1, self._closed + m.rp, self._opened + m.rc)
        at = max(at, *(acts[-1] + m.faw for acts in self._acts))
        rounds = m.banks // m.ranks // m.act_group
        self._opened = at + (rounds - 1) * max(m.faw, m.rrd_s) + m.ranks - 1
        self._is_open = True
        return self._opened + m.rcd_pim

    def close(self) -> None:
        """Every row that was open for writes has been closed, as in the channel whose products were played."""
        self._row = [None] * self._m.banks


@dataclass(frozen=True)
class PimRow:
    """Where a row of features goes.

    Parameters
    ----------
    channel : to whose station.
    base : first row of the layer.
    position : of the token.
    features : of a value; None: it is of a key.
    """

    channel: PimChannel
    base: int
    position: int
    features: range | None

    def take(self, offered: int) -> int:
        """The cycle in which the station takes a row that is offered."""
        accepted = self.channel.accept(offered)
        self.channel.write(accepted, self.base, self.position, self.features)
        return accepted


class PimTaken:
    """Results leave the stations as rows of sums, one a cycle, the channels in turns.

    Parameters
    ----------
    machine : sizes and times.
    lanes : sums of a row.
    start : no row is taken before.
    """

    def __init__(self, machine: PimMachine, lanes: int, start: int) -> None:
        self._m, self._lanes = machine, lanes
        self.cycle = start - 1
        """When the last row was taken."""
        self.left = NEVER
        """When the last result left."""
        self._first = NEVER  # the same in the first channel
        self._part = 0

    def take(
        self, result: int, count: int, *, ends: bool, leaves: bool = True
    ) -> list[tuple[int, bool]]:
        """A result was read in cycle ``result``: when each of its rows is taken, and whether a head's last one is.

        Parameters
        ----------
        count : sums that count in it, and behind it.
        ends : it is the last one of its head.
        leaves : it is whole; else it is kept until the rest is added.
        """
        m, parts = self._m, self._lanes // self._m.banks
        offered = max(result + m.result_latency, self._first + RESULT_GAP)
        self._part = 0 if ends or self._part + 1 >= parts else self._part + 1
        if not leaves or (parts > 1 and self._part):
            self._first = self.left = offered
            return []
        rows = 1 if parts else min(m.banks // self._lanes, -(-count // self._lanes))
        found = []
        for row in range(rows):
            for channel in range(m.channels):
                self.cycle = max(self.cycle + 1, offered)
                if not channel:
                    self._first = self.cycle
                found.append((self.cycle, ends and row == rows - 1))
        self.left = self.cycle
        return found
