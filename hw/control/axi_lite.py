# SPDX-License-Identifier: Apache-2.0
"""The control port: registers behind AXI4-Lite, and the handshake that starts the accelerator."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from hw.control.registers import RegisterMap
from hw.memory.axi import AxiLiteSignature
from hw.unit import Unit

__all__ = ["ControlRegisters"]


class ControlRegisters(Unit):
    """An AXI4-Lite subordinate with a register map, and the block-level handshake ``ap_ctrl_hs``.

    - ``ctrl``: writing 1 to bit 0 raises ``start``, which falls when the accelerator pulses
      ``ready``; writing 0 does nothing. Bit 1 is set by ``done``, bit 3 by ``ready``; reading
      clears both, but never an event of the same cycle. Bit 2 is ``idle``, low from the write of
      start on. The other bits read 0.
    - ``gier`` bit 0 enables ``interrupt``; ``ip_ier`` bits 0 and 1 let ``done`` and ``ready`` set
      the same bits of ``ip_isr``; writing a 1 to ``ip_isr`` toggles its bit, unless an event sets
      it in that cycle.

    Every address is answered with OKAY: what is not mapped, or an unused bit, reads 0 and ignores
    writes, as read-only registers do. Bytes without a strobe keep their value. One read and one
    write are handled at a time; address and data of a write come in any order.

    Latency
    -------
    ``rvalid`` rises two cycles after the address was taken. ``bvalid`` rises two cycles after the
    later half of a write was taken, together with its effect.

    Parameters
    ----------
    registers : the map

    Members
    -------
    bus : ``In(AxiLiteSignature())``
        The host.
    start : ``Out(1)``
        High until ``ready``.
    ready, done : ``In(1)``
        Pulses: the start (with its arguments) was taken; the work is finished.
    idle : ``In(1)``
        Nothing is being done.
    interrupt : ``Out(1)``
        Level, high while enabled and pending.
    counters : ``In(32 * number)``
        All counters, the first lowest.
    others : ``Out(bits)`` for each argument, ``In(bits)`` for each status, by name
    """

    def __init__(self, registers: RegisterMap) -> None:
        self._registers = registers
        super().__init__(
            {
                "bus": In(AxiLiteSignature()),
                "start": Out(1),
                "ready": In(1),
                "done": In(1),
                "idle": In(1),
                "interrupt": Out(1),
                "counters": In(32 * len(registers.counters)),
            }
            | {r.name: Out(r.bits) for r in registers.arguments}
            | {r.name: In(r.bits) for r in registers.statuses},
            {
                "a": len(registers.arguments),
                "s": len(registers.statuses),
                "c": len(registers.counters),
            },
        )

    def elaborate(self, platform):
        m = Module()
        index, word, strobe = self._write_port(m)  # no strobe in a cycle without a write
        address, read = self._read_port(m)
        enabled, enables, pending = Signal(), Signal(2), Signal(2)
        was_done, was_ready = Signal(), Signal()
        handshake = ("ctrl", "gier", "ip_ier", "ip_isr")
        at = {name: self._registers.offset(name) // 4 for name in handshake}

        low = Mux(strobe[0], word[:2], 0)
        clear = read & (address == at["ctrl"])
        m.d.sync += [
            self.start.eq((self.start & ~self.ready) | (low[0] & (index == at["ctrl"]))),
            was_done.eq((was_done & ~clear) | self.done),
            was_ready.eq((was_ready & ~clear) | self.ready),
            self.interrupt.eq(enabled & pending.any()),
        ]
        toggle = Mux(index == at["ip_isr"], low, 0)
        events = Cat(self.done, self.ready) & enables
        m.d.sync += pending.eq((pending ^ toggle) | events)
        with m.Switch(index):
            with m.Case(at["gier"]), m.If(strobe[0]):
                m.d.sync += enabled.eq(word[0])
            with m.Case(at["ip_ier"]), m.If(strobe[0]):
                m.d.sync += enables.eq(word[:2])
            for r in self._registers.arguments:
                value = getattr(self, r.name)
                for part in range(r.bits // 32):
                    with m.Case(r.offset // 4 + part):
                        for byte in range(4):
                            with m.If(strobe[byte]):
                                target = value.word_select(4 * part + byte, 8)
                                m.d.sync += target.eq(word.word_select(byte, 8))

        values = {
            at["ctrl"]: Cat(self.start, was_done, self.idle & ~self.start, was_ready),
            at["gier"]: enabled,
            at["ip_ier"]: enables,
            at["ip_isr"]: pending,
        }
        for r in (*self._registers.arguments, *self._registers.statuses):
            value = getattr(self, r.name)
            values |= {r.offset // 4 + k: value.word_select(k, 32) for k in range(r.bits // 32)}
        for k, r in enumerate(self._registers.counters):
            values[r.offset // 4] = self.counters.word_select(k, 32)
        with m.If(read):
            m.d.sync += self.bus.rdata.eq(0)
            with m.Switch(address):
                for offset, value in values.items():
                    with m.Case(offset):
                        m.d.sync += self.bus.rdata.eq(value)
        return m

    def _write_port(self, m: Module) -> tuple[Value, Value, Value]:
        """Take the two halves of a write; give word address, data and, for one cycle, strobes."""
        bus, index, word, strobe = self.bus, Signal(10), Signal(32), Signal(4)
        has_address, has_word, write = Signal(), Signal(), Signal()
        m.d.comb += [
            bus.awready.eq(~has_address),
            bus.wready.eq(~has_word),
            write.eq(has_address & has_word & ~bus.bvalid),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [has_address.eq(1), index.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [has_word.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(write):
            m.d.sync += [has_address.eq(0), has_word.eq(0), bus.bvalid.eq(1)]
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        return index, word, Mux(write, strobe, 0)

    def _read_port(self, m: Module) -> tuple[Value, Value]:
        """Take the address of a read; give it, and the cycle in which its value is looked up."""
        bus, address, has_address, read = self.bus, Signal(10), Signal(), Signal()
        m.d.comb += [bus.arready.eq(~has_address), read.eq(has_address & ~bus.rvalid)]
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [has_address.eq(1), address.eq(bus.araddr[2:])]
        with m.If(read):
            m.d.sync += [has_address.eq(0), bus.rvalid.eq(1)]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        return address, read
