# SPDX-License-Identifier: Apache-2.0
"""The whole machine: cores with their memory ports, registers, counters."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
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
from hw.memory.buffers import Queue
from hw.unit import Unit, place

__all__ = [
    "LINK_DEPTH", "Core", "KernelMachine", "links_of", "ports_of", "registers_of", "store_offset",
]  # fmt: skip

Core = tuple[Program, CoreShape]

LINK_DEPTH = 16
"""Rows that wait between two cores."""


def ports_of(cores: Sequence[Core]) -> tuple[int, ...]:
    """Cores with a memory port of their own, in the order of the ports: those that load or store."""
    return tuple(
        k for k, (p, s) in enumerate(cores) if p.segments or p.store_beats(s)
    )  # fmt: skip


def links_of(cores: Sequence[Core]) -> tuple[tuple[int, int], ...]:
    """Pairs of cores of which the first sends results to the second."""
    return tuple((a, b) for a, (program, _) in enumerate(cores) for b in program.sends)


def registers_of(cores: Sequence[Core]) -> RegisterMap:
    """Registers: base addresses, the cycles of a run, the counters of each core's phases, and the most rows that have
    waited in each link."""
    counters = [
        f"c{k}_{p.name}_{e}" for k, (q, _) in enumerate(cores) for p in q.phases for e in EVENTS
    ]
    waits = [f"link_{a}_{b}_most" for a, b in links_of(cores)]
    return kernel_registers(len(ports_of(cores)), counters + waits)


def store_offset(core: Core) -> int:
    """Byte of a core's port at which its results begin: behind what it loads, at the next page."""
    program, shape = core
    size = program.load_beats(shape) * shape.port_bytes
    return -(-size // 4096) * 4096


class KernelMachine(Unit):
    """Cores, links between them, memory ports and AXI4-Lite registers.

    Members
    -------
    control : ``In(AxiLiteSignature())``
    m_axi_gNN : ``Out(Axi4Signature)``
        What a core loads lies at the base address, what it stores goes behind that, at the next page.
    interrupt : ``Out(1)``
    """

    def __init__(self, cores: Sequence[Core]) -> None:
        self._cores = tuple(cores)
        self._ports = ports_of(cores)
        super().__init__(
            {
                "control": In(AxiLiteSignature()), "interrupt": Out(1),
                **{
                    f"m_axi_g{k:02d}": Out(Axi4Signature(8 * cores[n][1].port_bytes))
                    for k, n in enumerate(self._ports)
                },
            },
            {},
        )  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        control = place(m, "control_registers", ControlRegisters(registers_of(self._cores)))
        connect(m, flipped(self.control), control.bus)
        run, cycles, ended, begin = Signal(), Signal(64), Signal(), Signal()
        done: list[Value] = []
        counters: list[Value] = []
        cores = []
        for k, (program, shape) in enumerate(self._cores):
            core = place(m, f"core_{k}", KernelCore(program, shape, f"c{k}"))
            count = place(m, f"counters_{k}", StepCounters(len(program.phases)))
            m.d.comb += [
                core.run.eq(run), count.clear.eq(begin), count.step.eq(core.phase), count.events.eq(core.events)
            ]  # fmt: skip
            cores.append(core)
            counters.append(count.values)
            done.append(core.written == len(program.phases))
        for k, n in enumerate(self._ports):
            done.append(self._port(m, k, n, cores[n], control, begin))
        for a, b in links_of(self._cores):
            counters.append(self._link(m, cores[a], cores[b], a, b, begin))
        over = run & Cat(*done).all() & ~ended
        m.d.comb += [
            begin.eq(control.start & ~run),
            control.ready.eq(begin), control.done.eq(over), control.idle.eq(~run),
            self.interrupt.eq(control.interrupt), control.cycles.eq(cycles[:32]),
            control.cycles_high.eq(cycles[32:]), control.counters.eq(Cat(*counters)),
        ]  # fmt: skip
        m.d.sync += ended.eq(over)
        with m.If(begin):
            m.d.sync += [run.eq(1), cycles.eq(0)]
        with m.Elif(over):
            m.d.sync += run.eq(0)
        with m.If(run & ~over):
            m.d.sync += cycles.eq(cycles + 1)
        return m

    def _link(
        self, m: Module, source: KernelCore, sink: KernelCore, a: int, b: int, begin: Value
    ) -> Value:
        """Rows from core a to core b; the most that have waited."""
        out, into = getattr(source, f"link_{b}"), getattr(sink, f"from_{a}")
        queue = place(m, f"link_{a}_{b}", Queue(bits=len(out.payload), depth=LINK_DEPTH))
        connect(m, out, queue.i)
        connect(m, queue.o, into)
        level, most = Signal(32, name=f"level_{a}_{b}"), Signal(32, name=f"most_{a}_{b}")
        m.d.sync += level.eq(level + (out.valid & out.ready) - (into.valid & into.ready))
        with m.If(begin):
            m.d.sync += most.eq(0)
        with m.Elif(level > most):
            m.d.sync += most.eq(level)
        return most

    def _port(
        self, m: Module, number: int, n: int, core: KernelCore, control: Any, begin: Value
    ) -> Value:
        """The memory port of core n; whether memory has all that it stores."""
        program, shape = self._cores[n]
        bus, size = getattr(self, f"m_axi_g{number:02d}"), (shape.port_bytes).bit_length() - 1
        base = getattr(control, f"memory_{number}")
        done: Value = Const(1)
        used: list[tuple[Any, str]] = []
        if program.segments:
            words = program.load_beats(shape)
            reader = place(
                m, f"reader_{number}", StreamReader(words=words, port_bytes=shape.port_bytes)
            )
            connect(m, core.load, reader.o)
            m.d.comb += [
                reader.start.eq(begin), reader.base.eq(base), reader.rdata.eq(bus.rdata),
                reader.rvalid.eq(bus.rvalid), bus.rready.eq(reader.rready),
            ]  # fmt: skip
            used.append((reader, "ar"))
        pools = [p.pool for p in program.phases for to in p.to if isinstance(to, Store)]
        if pools:
            writer = place(
                m, f"writer_{number}",
                StreamWriter(shape, words=program.store_beats(shape), halves=any(pools), wholes=not all(pools)),
            )  # fmt: skip
            connect(m, core.store, writer.i)
            m.d.comb += [
                writer.start.eq(begin), writer.base.eq(base + store_offset(self._cores[n])),
                bus.wdata.eq(writer.wdata), bus.wstrb.eq(writer.wstrb), bus.wlast.eq(writer.wlast),
                bus.wvalid.eq(writer.wvalid), writer.wready.eq(bus.wready),
                writer.bvalid.eq(bus.bvalid), bus.bready.eq(writer.bready),
            ]  # fmt: skip
            used.append((writer, "aw"))
            done = writer.done
        for unit, letters in used:
            m.d.comb += [
                getattr(bus, f"{letters}addr").eq(getattr(unit, f"{letters}addr")),
                getattr(bus, f"{letters}len").eq(getattr(unit, f"{letters}len")),
                getattr(bus, f"{letters}valid").eq(getattr(unit, f"{letters}valid")),
                getattr(unit, f"{letters}ready").eq(getattr(bus, f"{letters}ready")),
                getattr(bus, f"{letters}size").eq(size), getattr(bus, f"{letters}burst").eq(1),
                getattr(bus, f"{letters}cache").eq(Const(3, 4)),
            ]  # fmt: skip
        return done
