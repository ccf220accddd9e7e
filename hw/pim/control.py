# SPDX-License-Identifier: Apache-2.0
"""The controller of a PIM channel: one command a cycle, from two queues and the refresh timer."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from hw.pim.commands import (
    Cmd,
    Fault,
    command_layout,
    index_bits,
    pim_layout,
    request_layout,
)
from hw.pim.config import BURST_BITS, PimConfig
from hw.pim.timers import PimTimers
from hw.unit import Unit, place

__all__ = ["PimControl"]

DEBT = 8
"""Refreshes that may be owed."""


class PimControl(Unit):
    """Issues what the timings allow: refreshes before commands of the multipliers before reads and writes.

    A sequence lasts from HEADER to the command marked ``last``. HEADER promises its length and waits
    until that fits before the next refresh, so that no refresh ever splits a sequence. Rows for reads
    and writes open and close on demand; a row that one buffer holds is closed before another takes it.

    Parameters
    ----------
    config : of the channel.

    Members
    -------
    pim : ``In(stream)``
        Commands of the multipliers, in order (:func:`hw.pim.commands.pim_layout`).
    mem : ``In(stream)``
        Reads and writes of a burst, in order (:func:`hw.pim.commands.request_layout`).
    restart : ``In(1)``
        A pulse: a refresh is due now, and the next ones as after a reset. Cycles of what follows then do not depend
        on what was before.
    ca_valid, ca, ca_data, ca_mask : ``Out``
        The command of this cycle; bytes of its data that WR writes.
    begins, promise : ``Out``
        A sequence begins in this cycle; its length.
    active : ``Out``
        A sequence is under way.
    debt : ``Out``
        Refreshes owed, 4 bits for each rank.
    fault : ``Out``
        The first refused command (:class:`hw.pim.commands.Fault`).
    """

    def __init__(self, config: PimConfig) -> None:
        self._config = c = config
        super().__init__(
            {
                "pim": In(stream.Signature(pim_layout(c))),
                "mem": In(stream.Signature(request_layout(c))), "restart": In(1),
                "ca_valid": Out(1), "ca": Out(command_layout(c)), "ca_data": Out(BURST_BITS),
                "ca_mask": Out(BURST_BITS // 8), "begins": Out(1), "promise": Out(13), "active": Out(1),
                "debt": Out(4 * c.ranks), "fault": Out(3),
            },
            c.key,
        )  # fmt: skip

    def elaborate(self, platform):
        c, m = self._config, Module()
        self._drop = Signal()  # the head of the queue is consumed without a command
        timers = place(m, "timers", PimTimers(c))
        m.d.comb += [timers.ca_valid.eq(self.ca_valid), timers.ca.eq(self.ca)]

        # The heads of the queues.
        head = Signal(command_layout(c))
        m.d.comb += head.eq(self.pim.payload.command)
        ask = self.mem.payload
        gwrite_waits = Signal()
        m.d.comb += gwrite_waits.eq(self.pim.valid & (head.cmd == Cmd.GWRITE) & ~self._drop)
        m.d.comb += [
            timers.ask_row.eq(head.row), timers.ask_k.eq(head.k),
            timers.ask_entry.eq(head.entry),
            timers.mem_ask_row.eq(Mux(gwrite_waits, head.row, ask.row)),
        ]  # fmt: skip

        draining = self._refresh(m)
        choices = _Choices()
        self._close_for_refresh(m, timers, draining, choices)
        held = Signal()  # a read or write has waited long enough
        self._multipliers(m, timers, head, held, choices)
        self._requests(m, timers, head, gwrite_waits, draining, held, choices)
        choices.drive(m, self)
        m.d.comb += self.ca_mask.eq(ask.mask)
        return m

    # Parts.

    def _rank(self, bank: Value) -> Value:
        return bank[index_bits(self._config.banks_per_rank):] if self._config.ranks > 1 else Const(0)  # fmt: skip

    def _refresh(self, m: Module) -> Signal:
        """Timers of the ranks; which ranks must be closed and refreshed now."""
        c, t = self._config, self._config.timing
        draining = Signal(c.ranks)
        self._to_due = []
        for r in range(c.ranks):
            first = t.refi * (r + 1) // c.ranks if c.refresh == "staggered" else t.refi
            left = Signal(range(t.refi), init=first - 1, name=f"to_due_{r}")
            debt = Signal(4, name=f"debt_{r}")
            due = (left == 0) | self.restart
            done = self.ca_valid & (self.ca.cmd == Cmd.REF) & (self._rank(self.ca.bank) == r)
            m.d.sync += [
                left.eq(Mux(self.restart, first - 1, Mux(left == 0, t.refi - 1, left - 1))),
                debt.eq(debt + (due & (debt != 15)) - done),
            ]
            m.d.comb += [self.debt[4 * r : 4 * r + 4].eq(debt),
                         draining[r].eq((debt != 0) & ~self.active)]  # fmt: skip
            self._to_due.append(left)
        return draining

    def _close_for_refresh(self, m, timers, draining, choices) -> None:
        """Everything in a rank that is due closes; then REF."""
        c = self._config
        n = c.banks_per_rank
        for r in range(c.ranks):
            bank = Const(r * n, index_bits(c.banks))
            opened = timers.mem_open[r * n : (r + 1) * n]
            allowed = timers.pre_ok[r * n : (r + 1) * n]
            choices.add(draining[r] & timers.ref_ok[r], Cmd.REF, bank=bank)
            choices.add(
                draining[r] & opened.any() & ((opened & ~allowed) == 0), Cmd.PREA, bank=bank
            )
            for f in range(c.buffers):
                low = f * c.banks
                if c.prea:
                    opened = timers.pim_open[low : low + c.banks]
                    allowed = timers.pim_pre_ok[low : low + c.banks]
                    fits = opened.any() & ((opened & ~allowed) == 0)
                    choices.add(draining[r] & fits, Cmd.PIMPREA, buf=f)
                else:
                    allowed = timers.pim_pre_ok[low + r * n : low + (r + 1) * n]
                    choices.add(draining[r] & allowed.any(), Cmd.PIMPRE, buf=f,
                                bank=_lowest(m, allowed, r * n, c.banks))  # fmt: skip

    def _multipliers(self, m, timers, head, held, choices) -> None:
        """The head of the multipliers' queue: issued, dropped, or waiting."""
        c = self._config
        fault, take = Signal(3), Signal()
        drop = self._drop
        m.d.comb += self.pim.ready.eq(take | drop)

        def select(bits: Value, width: int) -> Value:
            """The part of ``bits`` that belongs to the head's buffer."""
            return bits.word_select(head.buf, width) if c.buffers == 2 else bits

        n = c.banks
        opened, row_clash = select(timers.pim_open, n), Signal(n)
        openable = select(timers.gact_ok, n)
        closable = select(timers.pim_pre_ok, n)
        group = head.bank[(c.act_group - 1).bit_length():]  # fmt: skip
        others = timers.pim_conflict.word_select(~head.buf, n) if c.buffers == 2 else Const(0, n)
        m.d.comb += row_clash.eq(others)

        def of_group(bits: Value) -> Value:
            return bits.word_select(group, c.act_group) if c.act_group < n else bits

        same, ready = select(timers.pim_same, 1), select(timers.pim_ready, 1)
        steps = Signal(range(2 * c.cols + 2))
        m.d.comb += steps.eq(Mux(head.cmd == Cmd.COMPS_READRES, head.k, 1))
        too_far = (steps == 0) | (head.col + steps > c.cols) | (head.gcol + steps > c.cols)
        fits = Cat(left > head.est for left in self._to_due).all() & (self.debt == 0)
        fits &= timers.rank_free.all() & ~timers.gact_conflict.any()

        with m.If(self.pim.valid):
            with m.Switch(head.cmd):
                with m.Case(Cmd.HEADER):
                    with m.If(self.active):
                        m.d.comb += [fault.eq(Fault.NESTED_HEADER), drop.eq(1)]
                    with m.Elif(head.est > c.slack):
                        m.d.comb += [fault.eq(Fault.LONG_HEADER), drop.eq(1)]
                    with m.Elif(fits & ~held):
                        m.d.comb += [self.begins.eq(1), drop.eq(1)]
                with m.Case(Cmd.PIMPRE):
                    m.d.comb += drop.eq(~opened.bit_select(head.bank, 1))
                with m.Case(Cmd.PIMPREA):
                    m.d.comb += drop.eq(~opened.any())
                with m.Case(Cmd.GACT):
                    with m.If(~self.active):
                        m.d.comb += [fault.eq(Fault.NO_HEADER), drop.eq(1)]
                    with m.Elif(of_group(opened).any() | of_group(row_clash).any()):
                        m.d.comb += [fault.eq(Fault.NOT_CLOSED), drop.eq(1)]
                with m.Case(Cmd.COMP, Cmd.COMPS_READRES, Cmd.READRES):
                    with m.If(~self.active):
                        m.d.comb += [fault.eq(Fault.NO_HEADER), drop.eq(1)]
                    with m.Elif(~same & (head.cmd != Cmd.READRES)):
                        m.d.comb += [fault.eq(Fault.CLOSED), drop.eq(1)]
                    with m.Elif(too_far & (head.cmd != Cmd.READRES)):
                        m.d.comb += [fault.eq(Fault.RANGE), drop.eq(1)]
                with m.Case(Cmd.GWRITE):
                    pass
                with m.Case(Cmd.WRGB):
                    with m.If(head.gcol >= c.bursts):
                        m.d.comb += [fault.eq(Fault.RANGE), drop.eq(1)]
                with m.Default():
                    m.d.comb += [fault.eq(Fault.UNKNOWN), drop.eq(1)]
        # Where there is one page or one buffer, the field that names it has a bit all the same.
        nowhere = Const(0)
        if c.entries == 1:
            nowhere |= head.entry != 0
        if c.buffers == 1:
            nowhere |= head.buf != 0
        with m.If(self.pim.valid & (head.cmd != Cmd.HEADER) & nowhere):
            m.d.comb += [fault.eq(Fault.RANGE), drop.eq(1)]
        with m.If((self.fault == 0) & (fault != 0)):
            m.d.sync += self.fault.eq(fault)

        def issue(cmd: Cmd, condition: Value) -> None:
            choices.add(self.pim.valid & ~drop & (head.cmd == cmd) & condition, cmd, whole=head,
                        data=self.pim.payload.data, taken=take)  # fmt: skip

        issue(Cmd.PIMPRE, closable.bit_select(head.bank, 1))
        issue(Cmd.PIMPREA, (opened & ~closable) == 0)
        self._yields = Signal()  # a read or write has waited long enough for its row
        openable = of_group(openable).all() & ~of_group(timers.gact_conflict).any()
        issue(Cmd.GACT, openable & ~self._yields)
        issue(Cmd.COMP, ready & timers.comp_ok)
        issue(Cmd.COMPS_READRES, ready & timers.composite_ok)
        issue(Cmd.READRES, timers.readres_ok)
        issue(Cmd.WRGB, timers.wrgb_ok)
        # What keeps a row from opening is closed first: all of it before the sequence begins.
        allowed = Signal(n)
        m.d.comb += allowed.eq(timers.gact_conflict & timers.pre_ok)
        closing = (head.cmd == Cmd.HEADER) & ~self.active & ~held
        choices.add(self.pim.valid & ~drop & closing & allowed.any(), Cmd.PRE,
                    bank=_lowest(m, allowed, 0, n))  # fmt: skip
        choices.add(self.pim.valid & ~drop & (head.cmd == Cmd.GACT) & of_group(allowed).any(),
                    Cmd.PRE, bank=(group << (c.act_group - 1).bit_length())
                    | _lowest(m, of_group(allowed), 0, c.act_group))  # fmt: skip

        # The sequence.
        self._reserved = reserved = Signal(index_bits(c.rows))
        m.d.comb += self.promise.eq(head.est)
        ends = take & head.last & ((head.cmd == Cmd.READRES) | (head.cmd == Cmd.COMPS_READRES))
        with m.If(self.begins):
            m.d.sync += [self.active.eq(1), reserved.eq(head.row)]
        with m.If(ends):
            m.d.sync += self.active.eq(0)
        self._locked = locked = Signal()  # one row buffer: its use by the multipliers
        if not c.dual:
            m.d.sync += locked.eq((locked | self.begins) & ~ends)
        self._take = take

    def _requests(self, m, timers, head, gwrite_waits, draining, held, choices) -> None:
        """GWRITE, then reads and writes: open the row, close another, use it."""
        c = self._config
        ask = self.mem.payload
        served = Signal()
        m.d.comb += self.mem.ready.eq(served)
        age = Signal(range(c.patience + 1))
        with m.If(~self.mem.valid | served):
            m.d.sync += age.eq(0)
        with m.Elif(age != c.patience):
            m.d.sync += age.eq(age + 1)
        m.d.comb += held.eq(age == c.patience)

        shift = c.near_shift
        rows = Array(timers.mem_row.word_select(b, index_bits(c.rows)) for b in range(c.banks))
        gact_waits = self.pim.valid & (head.cmd == Cmd.GACT)
        for kind, bank, row, wanted in (
            ("gwrite", head.bank, head.row, gwrite_waits),
            ("mem", ask.bank, ask.row, self.mem.valid),
        ):
            go = Signal(name=f"{kind}_go")
            blocked = draining.bit_select(self._rank(bank), 1) | self._locked
            if kind == "mem":
                # While GWRITE waits, the answers of the timers about conflicts are its.
                blocked |= gwrite_waits & (head.bank == bank)
            m.d.comb += go.eq(wanted & ~blocked)
            opened, hit = Signal(name=f"{kind}_open"), Signal(name=f"{kind}_hit")
            m.d.comb += [opened.eq(timers.mem_open.bit_select(bank, 1)),
                         hit.eq(opened & (rows[bank] == row))]  # fmt: skip
            clashes = [
                timers.mem_conflict[f * c.banks : (f + 1) * c.banks].bit_select(bank, 1)
                for f in range(c.buffers)
            ]
            clash = Cat(clashes).any()
            # While GWRITE waits, the timers compare its row and not that of the read or write.
            if kind == "mem":
                clash |= gwrite_waits
            for f in range(c.buffers):
                closable = timers.pim_pre_ok[f * c.banks : (f + 1) * c.banks].bit_select(bank, 1)
                quiet = ~self.active & (~gwrite_waits if kind == "mem" else Const(1))
                choices.add(
                    go & ~opened & clashes[f] & quiet & closable, Cmd.PIMPRE, bank=bank, buf=f
                )
            kept = Const(0)
            if kind == "mem" and c.dual:
                kept = self.active & ((row >> shift) == (self._reserved >> shift))
                waits = gact_waits & (self._rank(head.bank) == self._rank(bank))
                kept |= waits & (age < c.share) if c.share else waits
                if c.share:
                    m.d.comb += self._yields.eq(go & ~opened & ~clash & ~kept & waits)
            elif kind == "mem":
                kept = gact_waits | (self.pim.valid & (head.cmd == Cmd.HEADER) & ~held)
            choices.add(go & ~opened & ~clash & ~kept & timers.act_ok.bit_select(bank, 1),
                        Cmd.ACT, bank=bank, row=row)  # fmt: skip
            choices.add(go & opened & ~hit & timers.pre_ok.bit_select(bank, 1), Cmd.PRE, bank=bank)
            if kind == "gwrite":
                choices.add(go & hit & timers.gwrite_ok.bit_select(bank, 1), Cmd.GWRITE, whole=head,
                            taken=self._take)  # fmt: skip
            else:
                choices.add(go & hit & ~ask.write & timers.rd_ok.bit_select(bank, 1), Cmd.RD,
                            bank=bank, row=row, col=ask.col, taken=served)  # fmt: skip
                choices.add(go & hit & ask.write & timers.wr_ok.bit_select(bank, 1), Cmd.WR,
                            bank=bank, row=row, col=ask.col, data=ask.data, taken=served)  # fmt: skip


def _lowest(m: Module, bits: Value, base: int, top: int) -> Signal:
    """Number of the lowest bit that is set, from ``base``."""
    found = Signal(range(max(2, base + len(bits), top)))
    for k in reversed(range(len(bits))):
        with m.If(bits[k]):
            m.d.comb += found.eq(base + k)
    return found


class _Choices:
    """Commands in the order of their rank; the first possible one is issued."""

    def __init__(self) -> None:
        self._list: list[tuple[Value, Cmd, dict]] = []

    def add(self, condition: Value, cmd: Cmd, **what) -> None:
        """``cmd`` if ``condition``: a ``whole`` command, or its fields; ``taken`` rises if it is issued."""
        self._list.append((condition, cmd, what))

    def drive(self, m: Module, control: PimControl) -> None:
        chain = m.If
        for condition, cmd, what in self._list:
            with chain(condition):
                m.d.comb += control.ca_valid.eq(1)
                if "whole" in what:
                    m.d.comb += control.ca.eq(what.pop("whole"))
                if "data" in what:
                    m.d.comb += control.ca_data.eq(what.pop("data"))
                if "taken" in what:
                    m.d.comb += what.pop("taken").eq(1)
                m.d.comb += control.ca.cmd.eq(cmd)
                for name, value in what.items():
                    m.d.comb += getattr(control.ca, name).eq(value)
            chain = m.Elif
