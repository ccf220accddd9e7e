# SPDX-License-Identifier: Apache-2.0
"""Energy of a mapped netlist, from the toggles of its nets while it computes.

An estimate for ratios between designs of the same library: nothing is placed, so wires weigh nothing;
gates have no delay, so nothing glitches; inputs come with the clock's edge, as if from flip-flops.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from generators.boolean import Function, Words, parse
from generators.gates import Cycle, Gates, Stimulus
from generators.liberty import Internal, Liberty
from generators.netlist import Netlist

__all__ = ["ESTIMATE", "Energy", "energy"]

_ONES = np.uint64(2**64 - 1)

ESTIMATE = "zero delay: no glitches; no wires"
"""What every figure here leaves out."""


@dataclass(frozen=True)
class Energy:
    """What an operation takes on average; fF are those of pins whose net toggled, once a toggle.

    Attributes
    ----------
    data_ff : all nets but the clock
    clock_ff : the clock, which toggles twice a cycle
    internal_fj : inside the cells, by the library's tables; None if it has none
    voltage : supply of the library, in V
    operations : over which it is an average
    cycles, streams : that were counted
    library : name and conditions
    vectors : what the operands were
    estimate : what is left out
    outputs : what the netlist gave in all cycles, by port, ``[cycles, streams]``
    """

    data_ff: float
    clock_ff: float
    internal_fj: float | None
    voltage: float
    operations: int
    cycles: int
    streams: int
    library: str
    vectors: str
    outputs: dict[str, NDArray[Any]] = field(repr=False, compare=False)
    estimate: str = ESTIMATE

    @property
    def switched_ff(self) -> float:
        """fF of data and clock."""
        return self.data_ff + self.clock_ff

    @property
    def switching_pj(self) -> float:
        """pJ of an operation that charge and discharge pins: half of C V**2 a toggle."""
        return self.switched_ff * self.voltage**2 / 2 * 1e-3

    @property
    def total_pj(self) -> float:
        """pJ of an operation, `internal_fj` included if the library has it."""
        return self.switching_pj + (self.internal_fj or 0.0) * 1e-3

    def __str__(self) -> str:
        inside = "no internal energy"
        if self.internal_fj is not None:
            inside = f"internal {self.internal_fj:.0f} fJ"
        return (
            f"{self.data_ff:.0f} fF data, {self.clock_ff:.0f} fF clock, {inside}, "
            f"{self.total_pj:.3f} pJ per operation at {self.voltage:g} V "
            f"({self.vectors}; {self.estimate})"
        )


def energy(
    netlist: Netlist,
    library: Liberty,
    stimulus: Stimulus,
    *,
    vectors: str,
    operations: int | None = None,
    skip: int = 1,
) -> Energy:
    """Run a netlist over a stimulus, and count what its nets and cells take.

    Parameters
    ----------
    netlist : mapped to `library`
    library : its cells
    stimulus : port -> ``[cycles, streams]`` or ``[cycles, streams, n]``, see
        `generators.gates.Stimulus`; 64 streams take no longer than one
    vectors : says what the stimulus is
    operations : in the counted cycles of all streams; one a cycle if left out
    skip : cycles at the beginning that are not counted, at least the first one

    Raises
    ------
    DesignError
        If the netlist cannot be simulated, the stimulus is no stimulus of it, or nothing is counted.
    """
    gates = Gates(netlist, library)
    cycles, streams = gates.shape(stimulus)
    counted = cycles - skip
    if skip < 1 or counted < 1:
        raise DesignError(
            f"a stimulus of {cycles} cycles, of which {skip} are skipped: none is left"
        )
    counter = _Counter(gates, streams, skip)
    outputs = gates.run(stimulus, counter.see)
    share = 1 / (operations or counted * streams)
    loads = _loads(gates)
    clock = gates.net[netlist.ports[gates.clock].bits[0]] if gates.clock else None
    clock_ff = 0.0 if clock is None else 2.0 * counted * streams * loads[clock]
    has_tables = any(pin.internal for cell in library.cells.values() for pin in cell.pins.values())
    return Energy(
        data_ff=float(counter.toggles @ loads) * share,
        clock_ff=clock_ff * share,
        internal_fj=counter.internal_fj * share if has_tables else None,
        voltage=library.voltage,
        operations=operations or counted * streams,
        cycles=counted,
        streams=streams,
        library=f"{library.name} ({library.conditions})",
        vectors=vectors,
        outputs=outputs,
    )


def _loads(gates: Gates) -> NDArray[np.float64]:
    """Capacitance of the input pins at every net, in fF."""
    loads = np.zeros(gates.size)
    for (number, pin), net in gates.pins.items():
        what = gates.library.cells[gates.netlist.cells[number].cell].pins[pin]
        if what.direction == "input":
            loads[net] += what.capacitance_ff
    return loads


@dataclass(frozen=True)
class _Table:
    """An energy of one pin of cells of one type, where its condition holds.

    Attributes
    ----------
    pin : whose transitions take it
    clock : the pin that clocks the cells; ``""`` if none does
    condition : on all pins; None: always
    rise_fj, fall_fj : of one transition
    nets : of all pins, by name, one a cell
    """

    pin: str
    clock: str
    condition: Function | None
    rise_fj: float
    fall_fj: float
    nets: dict[str, NDArray[np.int64]]

    def transitions(self, cycle: Cycle) -> tuple[Words, Words]:
        """Where the pin rose and where it fell, [cells, words]."""
        assert cycle.before is not None
        if self.pin == self.clock:  # rises on what was there before, falls on what came of it
            return self._holds(cycle.before, False), self._holds(cycle.nets, True)
        net = self.nets[self.pin]
        now = cycle.nets[net]
        changed = (cycle.before[net] ^ now) & self._holds(cycle.nets, True)
        return changed & now, changed & ~now

    def _holds(self, nets: Words, clock: bool) -> Words:
        """Where the condition holds, while the clock is high or low: right behind its edge it is high."""
        shape = (len(self.nets[self.pin]), nets.shape[1])
        if self.condition is None:
            return np.full(shape, _ONES)
        values = {pin: nets[at] for pin, at in self.nets.items()}
        if self.clock:
            values[self.clock] = np.full(shape, _ONES if clock else np.uint64(0))
        return np.broadcast_to(self.condition(values), shape)


class _Counter:
    """Adds up toggles and internal energies, cycle by cycle."""

    def __init__(self, gates: Gates, streams: int, skip: int) -> None:
        words = -(-streams // 64)
        self._mask = np.full(words, 2**64 - 1, np.uint64)
        if streams % 64:
            self._mask[-1] = np.uint64((1 << streams % 64) - 1)
        self._skip, self._cycle = skip, 0
        self._tables = _tables(gates)
        self.toggles = np.zeros(gates.size, np.int64)
        self.internal_fj = 0.0

    def see(self, cycle: Cycle) -> None:
        """Count one cycle, unless it is one of the first."""
        self._cycle += 1
        if self._cycle <= self._skip or cycle.before is None:
            return
        toggled = (cycle.before ^ cycle.nets) & self._mask
        self.toggles += np.bitwise_count(toggled).sum(axis=1, dtype=np.int64)
        for table in self._tables:
            rise, fall = table.transitions(cycle)
            for fj, where in ((table.rise_fj, rise), (table.fall_fj, fall)):
                self.internal_fj += fj * int(np.bitwise_count(where & self._mask).sum())


def _tables(gates: Gates) -> list[_Table]:
    """All energies of all pins, cells of the same type together."""
    alike: dict[str, list[int]] = defaultdict(list)
    for number, instance in enumerate(gates.netlist.cells):
        alike[instance.cell].append(number)
    found = []
    for kind, numbers in alike.items():
        cell = gates.library.cells[kind]
        clock = cell.flip_flop.clock if cell.flip_flop else ""
        nets = {pin: np.array([gates.pins.get((n, pin), 0) for n in numbers]) for pin in cell.pins}
        for pin, what in cell.pins.items():
            of = _of_output if what.direction == "output" else _of_input
            for condition, rise, fall in of(what.internal, clock):
                if rise or fall:
                    found.append(_Table(pin, clock, condition, rise, fall, nets))
    return found


_Energies = list[tuple[Function | None, float, float]]
"""Condition, and fJ of a rise and of a fall."""


def _of_output(internal: tuple[Internal, ...], clock: str) -> _Energies:
    """The mean over the inputs that can change it: of a flip-flop the clock, not what clears it."""
    taken = [one for one in internal if not clock or one.related == clock]
    if not taken:
        return []
    rise = sum(one.rise_fj for one in taken) / len(taken)
    return [(None, rise, sum(one.fall_fj for one in taken) / len(taken))]


def _of_input(internal: tuple[Internal, ...], clock: str) -> _Energies:
    """One for each condition; the one without holds where none of the others does."""
    conditions = tuple(parse(one.when) for one in internal if one.when)
    none = Function("not", (Function("or", conditions),)) if conditions else None
    return [(parse(one.when) if one.when else none, one.rise_fj, one.fall_fj) for one in internal]
