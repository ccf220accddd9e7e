# SPDX-License-Identifier: Apache-2.0
"""The rules of a PIM channel, by time stamps: when a command may come, and which rule says so."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from hw.pim.commands import Cmd
from hw.pim.config import PimConfig

__all__ = ["Command", "Constraint", "Protocol"]

LONG_AGO = -(10**9)


class Command(NamedTuple):
    """A command and its fields (:func:`hw.pim.commands.command_layout`)."""

    cmd: Cmd
    bank: int = 0
    row: int = 0
    buf: int = 0
    entry: int = 0
    col: int = 0
    gcol: int = 0
    k: int = 0
    tail: int = 0
    fresh: int = 1
    last: int = 0
    est: int = 0


@dataclass(frozen=True)
class Constraint:
    """A rule that a command has to keep.

    Attributes
    ----------
    rule : its name, as in docs/pim.md.
    earliest : first cycle in which it holds; None if no waiting helps.
    detail : what is in the way.
    """

    rule: str
    earliest: int | None
    detail: str = ""


class Protocol:
    """What the row buffers of a channel hold and when everything last happened.

    It shares no code with the RTL: that counts down what is forbidden, this remembers when.

    Parameters
    ----------
    config : of the channel.
    """

    def __init__(self, config: PimConfig) -> None:
        self.c = c = config
        self.rows: list[list[int | None]] = [[None] * c.banks for _ in range(1 + c.buffers)]
        self._act = [[LONG_AGO] * c.banks for _ in range(1 + c.buffers)]
        self._pre = [[LONG_AGO] * c.banks for _ in range(1 + c.buffers)]
        self._read, self._written, self._copied = ([LONG_AGO] * c.banks for _ in range(3))
        groups = c.ranks * c.groups
        self._group_act, self._group_column, self._group_written = (
            [LONG_AGO] * groups for _ in range(3)
        )
        self._rank_act, self._rank_written = ([LONG_AGO] * c.ranks for _ in range(2))
        self._window = [[LONG_AGO] * 4 for _ in range(c.ranks)]
        self.refreshed = [LONG_AGO] * c.ranks
        self._column = self._any_read = self._copy = self._first = LONG_AGO
        self.path_free, self._path_buf, self.pending = LONG_AGO, 0, False
        self._entry_ready = [LONG_AGO] * c.entries
        self._entry_free = [LONG_AGO] * c.entries
        self._bus: set[int] = set()
        self._swept = 0

    # Places.

    def rank(self, bank: int) -> int:
        return bank // self.c.banks_per_rank

    def group(self, bank: int) -> int:
        return bank // self.c.banks_per_group

    def act_group(self, bank: int) -> range:
        """Banks that a GACT of ``bank`` opens."""
        first = bank // self.c.act_group * self.c.act_group
        return range(first, first + self.c.act_group)

    def near(self, x: int | None, y: int | None) -> bool:
        """Whether two rows of a bank cannot be open at once."""
        shift = self.c.near_shift
        return x is not None and y is not None and x >> shift == y >> shift

    def same_row(self, buf: int) -> bool:
        """All banks hold one and the same row in a buffer of the multipliers."""
        rows = self.rows[1 + buf]
        return rows[0] is not None and all(row == rows[0] for row in rows)

    # Rules.

    def earliest(self, command: Command, now: int) -> int | None:
        """First cycle from ``now`` on in which all rules hold, as things are; None: no waiting helps."""
        found = now
        for constraint in self.constraints(command):
            if constraint.earliest is None:
                return None
            found = max(found, constraint.earliest)
        return self._free_bus(command, found)

    def constraints(self, command: Command) -> Iterator[Constraint]:
        """Every rule that the command has to keep, but for the data bus."""
        t, cmd, b = self.c.timing, command.cmd, command.bank
        if cmd is Cmd.ACT:
            yield from self._opening(0, b)
            yield Constraint("tRRD_L", self._group_act[self.group(b)] + t.rrd_l)
            yield Constraint("tRRD_S", self._rank_act[self.rank(b)] + t.rrd_s)
            yield Constraint("tFAW", self._window[self.rank(b)][0] + t.faw)
            yield from self._alone(0, b, command.row)
        elif cmd is Cmd.GACT:
            for bank in self.act_group(b):
                yield from self._opening(1 + command.buf, bank)
                yield Constraint("tRRD_L", self._group_act[self.group(bank)] + t.rrd_l)
                yield from self._alone(1 + command.buf, bank, command.row)
            yield Constraint("tRRD_S", self._rank_act[self.rank(b)] + t.rrd_s)
            yield Constraint("tFAW", self._window[self.rank(b)][3] + t.faw)
        elif cmd in (Cmd.RD, Cmd.WR, Cmd.GWRITE):
            yield from self._column_rules(command)
        elif cmd in (Cmd.PRE, Cmd.PREA):
            if cmd is Cmd.PRE and self.rows[0][b] is None:
                yield Constraint("row open", None, f"bank {b} is closed")
            banks = [b] if cmd is Cmd.PRE else self._rank_banks(b)
            for bank in banks:
                if self.rows[0][bank] is not None:
                    yield Constraint("tRAS", self._act[0][bank] + t.ras)
                    yield Constraint("tRTP", self._read[bank] + t.rtp)
                    yield Constraint("tWR", self._written[bank] + t.write_end + t.wr)
                    yield Constraint("GWRITE", self._copied[bank] + self.c.gwrite)
        elif cmd is Cmd.REF:
            for bank in self._rank_banks(b):
                for buf in range(1 + self.c.buffers):
                    if self.rows[buf][bank] is not None:
                        yield Constraint("all closed", None, f"bank {bank} holds a row")
                    yield Constraint("tRP", self._pre[buf][bank] + t.rp)
                    yield Constraint("tRC", self._act[buf][bank] + t.rc)
            yield Constraint("tRFC", self.refreshed[self.rank(b)] + t.rfc)
        elif cmd in (Cmd.COMP, Cmd.COMPS_READRES):
            yield from self._step_rules(command)
        elif cmd is Cmd.READRES:
            if not self.pending:
                yield Constraint("steps before READRES", None)
            yield Constraint("tCOMP", self.path_free)
            yield Constraint("fill", self._first + t.comp * t.fill)
        elif cmd is Cmd.WRGB:
            yield Constraint("tCCD_S", self._column + t.ccd_s)
            yield Constraint("tRTW", self._any_read + t.rtw)
            yield from self._entry_rules(command)
        elif cmd in (Cmd.PIMPRE, Cmd.PIMPREA):
            buf = command.buf
            if self.pending and self._path_buf == buf:
                yield Constraint("sequence split", None, "READRES is still to come")
            banks = [b] if cmd is Cmd.PIMPRE else range(self.c.banks)
            for bank in banks:
                if self.rows[1 + buf][bank] is not None:
                    yield Constraint("tRAS", self._act[1 + buf][bank] + t.ras)
                elif cmd is Cmd.PIMPRE:
                    yield Constraint("row open", None, f"bank {bank} is closed")
            if self._path_buf == buf:
                yield Constraint("sequence split", self.path_free)
        else:
            yield Constraint("command", None, f"{cmd.name} does not go to the memory")

    def _rank_banks(self, bank: int) -> range:
        n = self.c.banks_per_rank
        return range(self.rank(bank) * n, (self.rank(bank) + 1) * n)

    def _opening(self, buf: int, bank: int) -> Iterator[Constraint]:
        t = self.c.timing
        if self.rows[buf][bank] is not None:
            yield Constraint("row closed", None, f"bank {bank} holds row {self.rows[buf][bank]}")
        for other in [buf] if self.c.dual else range(1 + self.c.buffers):
            yield Constraint("tRP", self._pre[other][bank] + t.rp)
            yield Constraint("tRC", self._act[other][bank] + t.rc)
        yield Constraint("tRFC", self.refreshed[self.rank(bank)] + t.rfc)

    def _alone(self, buf: int, bank: int, row: int) -> Iterator[Constraint]:
        """No other buffer is in the way."""
        for other in range(1 + self.c.buffers):
            held = self.rows[other][bank]
            if other != buf and held is not None and (not self.c.dual or self.near(held, row)):
                yield Constraint(
                    "one buffer a row", None, f"bank {bank} holds row {held} elsewhere"
                )

    def _column_rules(self, command: Command) -> Iterator[Constraint]:
        t, b, cmd = self.c.timing, command.bank, command.cmd
        if self.rows[0][b] != command.row:
            yield Constraint(
                "row open", None, f"bank {b} holds {self.rows[0][b]}, not {command.row}"
            )
        yield Constraint("tCCD_S", self._column + t.ccd_s)
        yield Constraint("tCCD_L", self._group_column[self.group(b)] + t.ccd_l)
        yield Constraint("GWRITE", self._copied[b] + self.c.gwrite)
        yield Constraint("tRCD", self._act[0][b] + (t.rcd_wr if cmd is Cmd.WR else t.rcd_rd))
        yield Constraint("tRFC", self.refreshed[self.rank(b)] + t.rfc)
        if cmd is Cmd.RD:
            end = t.write_end
            yield Constraint("tWTR_L", self._group_written[self.group(b)] + end + t.wtr_l)
            yield Constraint("tWTR_S", self._rank_written[self.rank(b)] + end + t.wtr_s)
        elif cmd is Cmd.WR:
            yield Constraint("tRTW", self._any_read + t.rtw)
        else:
            yield from self._entry_rules(command)

    def _entry_rules(self, command: Command) -> Iterator[Constraint]:
        """A page of the vector buffer may be written."""
        if self.pending:
            yield Constraint("vector in use", None, "READRES is still to come")
        yield Constraint("GWRITE", self._copy + self.c.gwrite)
        yield Constraint("vector in use", self._entry_free[command.entry])

    def _step_rules(self, command: Command) -> Iterator[Constraint]:
        t, buf = self.c.timing, 1 + command.buf
        if not self.same_row(command.buf):
            yield Constraint("row open", None, "not all banks hold the same row")
        if command.cmd is Cmd.COMPS_READRES:
            if self.pending:
                yield Constraint("sequence split", None, "READRES is still to come")
            if command.k < 1:
                yield Constraint("steps", None, "a composite command needs 1 step or more")
        yield Constraint("tRCD", max(self._act[buf]) + t.rcd_pim)
        yield Constraint("tCOMP", self.path_free)
        yield Constraint("vector written", self._entry_ready[command.entry])
        yield Constraint("tRFC", max(self.refreshed) + t.rfc)

    # The data bus.

    def bus_use(self, command: Command) -> range | None:
        """Cycles of the bus, from the command on, that it takes."""
        t = self.c.timing
        if command.cmd is Cmd.RD:
            return range(t.rl, t.rl + t.burst)
        if command.cmd in (Cmd.WR, Cmd.WRGB):
            return range(t.wl, t.wl + t.burst)
        if command.cmd in (Cmd.READRES, Cmd.COMPS_READRES):
            steps = max(command.k, t.fill) if command.cmd is Cmd.COMPS_READRES else 0
            start = t.rl + t.comp * steps
            return range(start, start + t.burst * self.c.res_bursts)
        return None

    def _free_bus(self, command: Command, cycle: int) -> int:
        use = self.bus_use(command)
        while use is not None and any(cycle + i in self._bus for i in use):
            cycle += 1
        return cycle

    def bus_conflict(self, command: Command, cycle: int) -> Constraint | None:
        """The rule of the bus, if the command breaks it in that cycle."""
        use = self.bus_use(command)
        if use is None or not any(cycle + i in self._bus for i in use):
            return None
        return Constraint("data bus", self._free_bus(command, cycle))

    # What happened.

    def apply(self, command: Command, cycle: int) -> None:
        """The command was given in that cycle."""
        t, cmd, b = self.c.timing, command.cmd, command.bank
        for i in self.bus_use(command) or ():
            self._bus.add(cycle + i)
        if cycle > self._swept + 4096:
            self._bus = {i for i in self._bus if i >= cycle}
            self._swept = cycle
        if cmd is Cmd.ACT:
            self._opened(0, [b], command.row, cycle)
        elif cmd is Cmd.GACT:
            self._opened(1 + command.buf, self.act_group(b), command.row, cycle)
        elif cmd in (Cmd.PRE, Cmd.PREA):
            self._closed(0, [b] if cmd is Cmd.PRE else self._rank_banks(b), cycle)
        elif cmd in (Cmd.PIMPRE, Cmd.PIMPREA):
            self._closed(1 + command.buf, [b] if cmd is Cmd.PIMPRE else range(self.c.banks), cycle)
        elif cmd is Cmd.REF:
            self.refreshed[self.rank(b)] = cycle
        elif cmd in (Cmd.COMP, Cmd.COMPS_READRES, Cmd.READRES):
            self._computed(command, cycle)
        if cmd in (Cmd.RD, Cmd.WR, Cmd.GWRITE, Cmd.WRGB):
            self._column = cycle
            if cmd is not Cmd.WRGB:
                self._group_column[self.group(b)] = cycle
        if cmd is Cmd.RD:
            self._any_read = self._read[b] = cycle
        elif cmd is Cmd.WR:
            self._written[b] = self._group_written[self.group(b)] = cycle
            self._rank_written[self.rank(b)] = cycle
        elif cmd is Cmd.GWRITE:
            self._copy = self._copied[b] = cycle
            self._entry_ready[command.entry] = cycle + self.c.gwrite
        elif cmd is Cmd.WRGB:
            ready = max(self._entry_ready[command.entry], cycle + t.write_end)
            self._entry_ready[command.entry] = ready

    def _opened(self, buf: int, banks: list[int] | range, row: int, cycle: int) -> None:
        for bank in banks:
            self.rows[buf][bank] = row
            self._act[buf][bank] = cycle
            self._group_act[self.group(bank)] = cycle
        rank = self.rank(banks[0])
        self._rank_act[rank] = cycle
        count = 1 if buf == 0 else 4
        self._window[rank] = [*self._window[rank][count:], *[cycle] * count]

    def _closed(self, buf: int, banks: list[int] | range, cycle: int) -> None:
        for bank in banks:
            if self.rows[buf][bank] is not None:
                self.rows[buf][bank] = None
                self._pre[buf][bank] = cycle

    def _computed(self, command: Command, cycle: int) -> None:
        t = self.c.timing
        slot = max(t.comp, t.burst) * self.c.res_bursts
        if command.cmd is Cmd.READRES:
            self.pending, self.path_free = False, cycle + slot
            return
        self._path_buf = command.buf
        if command.cmd is Cmd.COMP:
            if not self.pending:
                self._first = cycle
            self.pending, self.path_free = True, cycle + t.comp
            self._entry_free[command.entry] = cycle + t.comp
        else:
            steps = t.comp * max(command.k, t.fill)
            self.path_free = cycle + steps + slot
            self._entry_free[command.entry] = cycle + steps + 1

    # Judgement.

    def violations(self, command: Command, cycle: int) -> list[Constraint]:
        """Rules that the command breaks in that cycle, each once, the longest wait of it."""
        worst: dict[str, Constraint] = {}
        found = list(self.constraints(command))
        conflict = self.bus_conflict(command, cycle)
        for constraint in [*found, conflict] if conflict else found:
            if constraint.earliest is not None and constraint.earliest <= cycle:
                continue
            known = worst.get(constraint.rule)
            if known is None or (
                known.earliest is not None
                and (constraint.earliest is None or constraint.earliest > known.earliest)
            ):
                worst[constraint.rule] = replace(constraint)
        return list(worst.values())
