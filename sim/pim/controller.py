# SPDX-License-Identifier: Apache-2.0
"""The controller of a PIM channel in Python: the same queues give the same commands in the same cycles."""

from collections.abc import Sequence
from typing import NamedTuple

from hw.pim.commands import Cmd
from hw.pim.config import PimConfig
from sim.pim.protocol import Command, Protocol

__all__ = ["Request", "replay"]

NEVER = 1 << 60

INSIDE = (Cmd.GACT, Cmd.COMP, Cmd.COMPS_READRES, Cmd.READRES)
"""Commands that only a sequence may have."""


class Request(NamedTuple):
    """A read or write of a burst (:func:`hw.pim.commands.request_layout`)."""

    write: int
    bank: int
    row: int
    col: int
    data: int = 0
    mask: int = (1 << 64) - 1


Timed = tuple[int, Command]


def replay(
    config: PimConfig,
    pim: Sequence[tuple[int, Command]],
    mem: Sequence[tuple[int, Request]],
    limit: int = 10_000_000,
) -> list[Timed]:
    """Commands that the controller issues, each with its cycle.

    Parameters
    ----------
    config : of the channel.
    pim, mem : the queues: what enters, and the first cycle in which it is offered.
    limit : cycles after which it gives up.

    Raises
    ------
    RuntimeError
        If the queues are not empty after ``limit`` cycles.
    ValueError
        If a command is one that the RTL refuses.
    """
    return _Replay(config, pim, mem).run(limit)


class _Replay:
    def __init__(self, c: PimConfig, pim, mem) -> None:
        self.c, self.rules = c, Protocol(c)
        self.pim, self.mem = list(pim), list(mem)
        self.p = self.m = 0  # heads
        self.pim_free = self.mem_free = 0  # first cycle in which the next head can be offered
        t = c.timing
        apart = [t.refi * (r + 1) // c.ranks if c.refresh == "staggered" else t.refi
                 for r in range(c.ranks)]  # fmt: skip
        self.due, self.debt = apart, [0] * c.ranks
        self.active = self.locked = False
        self.reserved = 0
        self.trace: list[Timed] = []

    def run(self, limit: int) -> list[Timed]:
        now = 0
        while self.p < len(self.pim) or self.m < len(self.mem):
            if now > limit:
                raise RuntimeError(f"The queues are not empty after {limit} cycles")
            now = max(now + 1, self.cycle(now))
        return self.trace

    # One cycle. Registers of the RTL keep their values until its end: so do `active`, `locked`.

    def cycle(self, now: int) -> int:
        """Do what happens in this cycle; return the next one in which something can."""
        c, rules = self.c, self.rules
        for r in range(c.ranks):
            if now >= self.due[r]:
                self.debt[r] += 1
                self.due[r] += c.timing.refi
        pim = self.pim[self.p][1] if self.p < len(self.pim) else None
        start = max(self.pim_free, self.pim[self.p][0]) if pim else NEVER
        pim = pim if start <= now else None
        mem = self.mem[self.m][1] if self.m < len(self.mem) else None
        mem_start = max(self.mem_free, self.mem[self.m][0]) if mem else NEVER
        mem = mem if mem_start <= now else None
        held = mem is not None and now >= mem_start + c.patience
        draining = [self.debt[r] > 0 and not self.active for r in range(c.ranks)]
        wake = [*self.due, mem_start + c.patience if not held else NEVER,
                start if start > now else NEVER, mem_start if mem_start > now else NEVER]  # fmt: skip

        # What consumes a head without a command.
        begins = drop = False
        if pim is not None and pim.cmd is Cmd.HEADER:
            if self.active or pim.est > c.slack:
                raise ValueError(f"Cycle {now}: the controller refuses {pim}")
            clear = not any(self._in_the_way(pim.row, bank) for bank in range(c.banks))
            fits = all(d - 1 - now > pim.est for d in self.due) and not any(self.debt)
            rested = [at + c.timing.rfc for at in rules.refreshed]
            begins = clear and fits and not held and all(at <= now for at in rested)
            wake += [at for at in rested if at > now]
        elif pim is not None and pim.cmd is Cmd.PIMPRE:
            drop = rules.rows[1 + pim.buf][pim.bank] is None
        elif pim is not None and pim.cmd is Cmd.PIMPREA:
            drop = all(row is None for row in rules.rows[1 + pim.buf])
        elif pim is not None and pim.cmd in INSIDE and not self.active:
            raise ValueError(f"Cycle {now}: the controller refuses {pim}: no header")

        options: list[tuple[int, Command, str]] = []

        def offer(command: Command, takes: str = "") -> None:
            at = rules.earliest(command, now)
            if at is not None:
                options.append((at, command, takes))

        patient = not c.share or now < mem_start + c.share
        if patient and c.share:
            wake.append(mem_start + c.share)
        copy = pim if pim is not None and pim.cmd is Cmd.GWRITE else None
        able = mem is not None and not draining[rules.rank(mem.bank)] and not self.locked
        able = able and not (copy is not None and mem is not None and copy.bank == mem.bank)
        yields = (
            mem is not None and pim is not None and able and not patient
            and rules.rows[0][mem.bank] is None and copy is None
            and rules.rank(pim.bank) == rules.rank(mem.bank)
            and not any(rules.near(rules.rows[1 + buf][mem.bank], mem.row) for buf in range(c.buffers))
            and not (self.active and rules.near(mem.row, self.reserved))
        )  # fmt: skip

        self._for_refresh(draining, offer)
        if pim is not None and not drop and not begins:
            if pim.cmd is Cmd.HEADER and not held:
                self._clear_for(pim.row, range(c.banks), offer)
            elif pim.cmd is Cmd.GACT:
                clash = [b for b in rules.act_group(pim.bank) if self._in_the_way(pim.row, b)]
                if not clash and not yields:
                    offer(pim, "pim")
                self._clear_for(pim.row, rules.act_group(pim.bank), offer)
            elif pim.cmd not in (Cmd.HEADER, Cmd.GWRITE):
                offer(pim, "pim")
        if copy is not None and not draining[rules.rank(copy.bank)] and not self.locked:
            self._use_row(copy, "pim", not self.active, False, offer)
        if mem is not None and able:
            command = Command(Cmd.WR if mem.write else Cmd.RD, mem.bank, mem.row, col=mem.col)
            kept = copy is not None or self._kept(mem, pim, held, patient)
            self._use_row(command, "mem", not self.active and copy is None, kept, offer)

        chosen = next((option for option in options if option[0] <= now), None)
        ends = False
        if chosen:
            _, command, takes = chosen
            self.trace.append((now, command))
            rules.apply(command, now)
            if command.cmd is Cmd.REF:
                self.debt[rules.rank(command.bank)] -= 1
            if takes == "mem":
                self.m, self.mem_free = self.m + 1, now + 1
            drop |= takes == "pim"
            ends = takes == "pim" and bool(command.last) and command.cmd in (
                Cmd.READRES, Cmd.COMPS_READRES)  # fmt: skip
        if drop or begins:
            self.p, self.pim_free = self.p + 1, now + 1
        if begins and pim is not None:
            self.active, self.reserved, self.locked = True, pim.row, not c.dual
        if ends:
            self.active = self.locked = False
        if chosen or drop or begins:
            return now + 1
        return min([*wake, *(at for at, _, _ in options)])

    def _in_the_way(self, row: int, bank: int) -> bool:
        held = self.rules.rows[0][bank]
        return held is not None and (not self.c.dual or self.rules.near(held, row))

    def _for_refresh(self, draining, offer) -> None:
        c, rules = self.c, self.rules
        n = c.banks_per_rank
        for r in range(c.ranks):
            if not draining[r]:
                continue
            banks = range(r * n, (r + 1) * n)
            offer(Command(Cmd.REF, r * n))
            if any(rules.rows[0][b] is not None for b in banks):
                offer(Command(Cmd.PREA, r * n))
            for buf in range(c.buffers):
                opened = [b for b in banks if rules.rows[1 + buf][b] is not None]
                if c.prea and any(row is not None for row in rules.rows[1 + buf]):
                    offer(Command(Cmd.PIMPREA, buf=buf))
                elif not c.prea:
                    for b in opened:
                        offer(Command(Cmd.PIMPRE, b, buf=buf))

    def _clear_for(self, row: int, banks: range, offer) -> None:
        for bank in banks:
            if self._in_the_way(row, bank):
                offer(Command(Cmd.PRE, bank))

    def _kept(self, mem: Request, pim: Command | None, held: bool, patient: bool) -> bool:
        """A row for reads stays closed for the sake of the multipliers."""
        gact = pim is not None and pim.cmd is Cmd.GACT
        if not self.c.dual:
            return gact or (pim is not None and pim.cmd is Cmd.HEADER and not held)
        if self.active and self.rules.near(mem.row, self.reserved):
            return True
        same = pim is not None and self.rules.rank(pim.bank) == self.rules.rank(mem.bank)
        return gact and same and patient

    def _use_row(self, command: Command, takes: str, quiet: bool, kept: bool, offer) -> None:
        rules, bank, row = self.rules, command.bank, command.row
        held = rules.rows[0][bank]
        if held == row:
            offer(command, takes)
        elif held is not None:
            offer(Command(Cmd.PRE, bank))
        else:
            for buf in range(self.c.buffers):
                other = rules.rows[1 + buf][bank]
                if other is not None and (not self.c.dual or rules.near(other, row)) and quiet:
                    offer(Command(Cmd.PIMPRE, bank, buf=buf))
            if not kept:
                offer(Command(Cmd.ACT, bank, row))
