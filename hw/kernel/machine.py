"""The whole machine: cores with their memory ports, registers, counters."""

from typing import Any

from amaranth.hdl import Const, Module, Signal
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.control.axi_lite import ControlRegisters
from hw.control.registers import RegisterMap, kernel_registers
from hw.core.counters import StepCounters
from hw.kernel.core import KernelCore
from hw.kernel.issue import EVENTS
from hw.kernel.loader import StreamReader
from hw.kernel.program import CoreShape, Program, Store
from hw.kernel.store import StreamWriter
from hw.memory.axi import Axi4Signature, AxiLiteSignature
from hw.unit import TemplateUnit, Unit, place

__all__ = ["KernelMachine", "KernelShell", "registers_of"]


def registers_of(program: Program) -> RegisterMap:
    """Registers: the base address, the cycles of a run, and the counters of each phase."""
    return kernel_registers(1, [f"{p.name}_{event}" for p in program.phases for event in EVENTS])


class KernelMachine(Unit):
    """One core with its memory port and AXI4-Lite registers.

    Members
    -------
    control : ``In(AxiLiteSignature())``
    m_axi_g00 : ``Out(Axi4Signature)``
        What it loads lies at the base address, what it stores goes behind that, at the next page.
    interrupt : ``Out(1)``
    """

    def __init__(self, program: Program, shape: CoreShape) -> None:
        self._program, self._shape = program, shape
        super().__init__(
            {
                "control": In(AxiLiteSignature()), "m_axi_g00": Out(Axi4Signature(8 * shape.port_bytes)),
                "interrupt": Out(1),
            },
            {},
        )  # fmt: skip

    @property
    def store_offset(self) -> int:
        """Byte at which results begin."""
        size = self._program.load_beats(self._shape) * self._shape.port_bytes
        return -(-size // 4096) * 4096

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        program, shape = self._program, self._shape
        registers = registers_of(program)
        control = place(m, "control_registers", ControlRegisters(registers))
        connect(m, flipped(self.control), control.bus)
        core = place(m, "core", KernelCore(program, shape, "c0"))
        reader = place(
            m, "reader", StreamReader(words=program.load_beats(shape), port_bytes=shape.port_bytes)
        )
        pools = [p.pool for p in program.phases for to in p.to if isinstance(to, Store)]
        writer = place(
            m, "writer",
            StreamWriter(shape, words=program.store_beats(shape), halves=any(pools), wholes=not all(pools)),
        )  # fmt: skip
        counters = place(m, "counters", StepCounters(len(program.phases)))
        run, cycles, ended = Signal(), Signal(64), Signal()
        begin = control.start & ~run
        over = run & writer.done & (core.written == len(program.phases)) & ~ended
        m.d.comb += [
            control.ready.eq(begin), control.done.eq(over), control.idle.eq(~run),
            self.interrupt.eq(control.interrupt), core.run.eq(run),
            control.cycles.eq(cycles[:32]), control.cycles_high.eq(cycles[32:]),
            control.counters.eq(counters.values), counters.clear.eq(begin), counters.step.eq(core.phase),
            counters.events.eq(core.events),
            reader.start.eq(begin), reader.base.eq(control.memory_0),
            writer.start.eq(begin), writer.base.eq(control.memory_0 + self.store_offset),
        ]  # fmt: skip
        m.d.sync += ended.eq(over)
        with m.If(begin):
            m.d.sync += [run.eq(1), cycles.eq(0)]
        with m.Elif(over):
            m.d.sync += run.eq(0)
        with m.If(run & ~over):
            m.d.sync += cycles.eq(cycles + 1)
        connect(m, core.load, reader.o)
        connect(m, core.store, writer.i)
        bus, size = self.m_axi_g00, (shape.port_bytes).bit_length() - 1
        for unit, letters in ((reader, "ar"), (writer, "aw")):
            m.d.comb += [
                getattr(bus, f"{letters}addr").eq(getattr(unit, f"{letters}addr")),
                getattr(bus, f"{letters}len").eq(getattr(unit, f"{letters}len")),
                getattr(bus, f"{letters}valid").eq(getattr(unit, f"{letters}valid")),
                getattr(unit, f"{letters}ready").eq(getattr(bus, f"{letters}ready")),
                getattr(bus, f"{letters}size").eq(size), getattr(bus, f"{letters}burst").eq(1),
                getattr(bus, f"{letters}cache").eq(Const(3, 4)),
            ]  # fmt: skip
        m.d.comb += [
            reader.rdata.eq(bus.rdata), reader.rvalid.eq(bus.rvalid), bus.rready.eq(reader.rready),
            bus.wdata.eq(writer.wdata), bus.wstrb.eq(writer.wstrb), bus.wlast.eq(writer.wlast),
            bus.wvalid.eq(writer.wvalid), writer.wready.eq(bus.wready),
            writer.bvalid.eq(bus.bvalid), bus.bready.eq(writer.bready),
        ]  # fmt: skip
        return m


class KernelShell(TemplateUnit):
    """Top module ``hwgen_top``: ``ap_clk``, ``ap_rst_n``, ``s_axi_control_*``, ``m_axi_gNN_*``, ``interrupt``."""

    template = "core/shell.sv.j2"

    def __init__(self, machine: KernelMachine) -> None:
        self._machine = machine
        super().__init__({}, {})

    @property
    def module_name(self) -> str:
        return "hwgen_top"

    def parts(self) -> list[Unit]:
        return [self._machine]

    def context(self) -> dict[str, Any]:
        ports = [
            {
                "outer": name.replace("control__", "s_axi_control_", 1).replace("__", "_"),
                "inner": name,
                "direction": "input" if is_input else "output",
                "width": len(value),
            }
            for name, value, is_input in self._machine.ports()
        ]
        return {"ports": ports, "accelerator": self._machine.module_name}
