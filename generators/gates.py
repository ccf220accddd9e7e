# SPDX-License-Identifier: Apache-2.0
"""A mapped netlist at work: cycle by cycle, many independent streams of inputs at once, without delays.

A net is a row of words, a stream a bit in them. Gates of one function and depth are computed together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from generators.boolean import Function, Words, parse
from generators.liberty import Cell, Liberty
from generators.netlist import Bit, Netlist, Port

__all__ = ["Cycle", "Gates", "Stimulus", "side_by_side"]

Ints = NDArray[np.int64]
Stimulus = Mapping[str, NDArray[Any]]
"""Port -> integers ``[cycles, streams]``, of which the low bits count; or ``[cycles, streams, n]``:
n numbers side by side in the port, the first one in its lowest bits."""

_ZERO, _ONE = 0, 1
"""Nets that are constant."""


@dataclass(frozen=True)
class Cycle:
    """One cycle, settled; [nets, words] each.

    Attributes
    ----------
    before : the nets in the cycle before; None in the first one
    nets : the nets now
    """

    before: Words | None
    nets: Words


@dataclass(frozen=True)
class _Batch:
    """Outputs of the same function at the same depth."""

    function: Function
    inputs: dict[str, Ints]
    outputs: Ints

    def compute(self, nets: Words) -> None:
        nets[self.outputs] = self.function({pin: nets[at] for pin, at in self.inputs.items()})


@dataclass(frozen=True)
class _Flops:
    """Flip-flops of the same functions; ``inputs`` are the nets of their pins."""

    next_state: Function
    clear: Function | None
    preset: Function | None
    outputs: tuple[tuple[Function, Ints], ...]
    names: tuple[str, str]
    inputs: dict[str, Ints]
    count: int

    def taken(self, nets: Words, state: Words) -> Words:
        """The state behind the edge."""
        names, inverse = self.names, ~state
        pins = {pin: nets[at] for pin, at in self.inputs.items()}
        found = self.next_state({**pins, names[0]: state, names[1]: inverse})
        return self.forced(nets, np.broadcast_to(found, state.shape))

    def forced(self, nets: Words, state: Words) -> Words:
        """The state, where nothing clears or presets it; clearing wins."""
        pins = {pin: nets[at] for pin, at in self.inputs.items()}
        if self.preset is not None:
            state = state | self.preset(pins)
        return state & ~self.clear(pins) if self.clear is not None else state

    def show(self, nets: Words, state: Words) -> None:
        """Put the state on the outputs."""
        values = {self.names[0]: state, self.names[1]: ~state}
        for function, at in self.outputs:
            nets[at] = function(values)


@dataclass
class _Parts:
    """What a netlist is made of while it is read."""

    flops: dict[tuple[object, ...], list[dict[str, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    gates: list[tuple[Function, dict[str, int], int]] = field(default_factory=list)


class Gates:
    """A netlist that can be run.

    All flip-flops must be clocked by the rising edge of one port.

    Parameters
    ----------
    netlist : the design
    library : that it was mapped to

    Members
    -------
    net : dict of bit to index: where the nets of the netlist are in `Cycle.nets`
    pins : dict of (instance number, pin) to index of a net; of every pin but unconnected inputs
    clock : name of the clock's port; ``""`` if there are no flip-flops

    Raises
    ------
    DesignError
        Naming the cell that cannot be simulated (a latch, a gated clock), or the loop.
    """

    def __init__(self, netlist: Netlist, library: Liberty) -> None:
        self.netlist, self.library = netlist, library
        self.net: dict[Bit, int] = {"0": _ZERO, "1": _ONE, "x": _ZERO, "z": _ZERO}
        self.pins: dict[tuple[int, str], int] = {}
        self._count = 2
        for port in netlist.ports.values():
            for bit in port.bits:
                self._index(bit)
        parts = _Parts()
        clocks: set[int] = set()
        for number, instance in enumerate(netlist.cells):
            if instance.cell not in library.cells:
                raise DesignError(f"{instance.name}: {library.name} has no cell {instance.cell}")
            cell = library.cells[instance.cell]
            at = self._pins_of(number, cell)
            if cell.flip_flop is not None:
                if cell.flip_flop.falling:
                    raise DesignError(f"{instance.name} is clocked by the falling edge")
                clocks.add(at[cell.flip_flop.clock])
            self._read(instance.cell, cell, at, parts)
        self.clock = self._clock(clocks)
        self._flops = [_stacked(key, pins) for key, pins in parts.flops.items()]
        self._batches = self._levelled(parts)

    def _index(self, bit: Bit) -> int:
        if bit not in self.net:
            self.net[bit] = self._count
            self._count += 1
        return self.net[bit]

    def _pins_of(self, number: int, cell: Cell) -> dict[str, int]:
        """Nets of a cell's pins; an output that nothing reads gets one of its own."""
        found = {}
        for pin, what in cell.pins.items():
            bit = self.netlist.cells[number].pins.get(pin)
            if bit is None and what.direction != "output":
                found[pin] = _ZERO
                continue
            found[pin] = self._index(bit if bit is not None else f"{number}.{pin}")
            self.pins[number, pin] = found[pin]
        return found

    def _read(self, kind: str, cell: Cell, at: dict[str, int], parts: _Parts) -> None:
        outputs = {pin: what for pin, what in cell.pins.items() if what.direction == "output"}
        flop = cell.flip_flop
        own = set() if flop is None else set(flop.state)
        inputs = {pin: net for pin, net in at.items() if pin not in outputs}
        functions = {}
        for pin, what in outputs.items():
            functions[pin] = _function(kind, what.function, set() if flop else set(inputs), own)
        if flop is None:
            for pin, function in functions.items():
                read = {name: inputs[name] for name in sorted(function.names)}
                parts.gates.append((function, read, at[pin]))
            return
        known = set(inputs)
        key = (
            _function(kind, flop.next_state, known, own),
            _function(kind, flop.clear, known, set()) if flop.clear else None,
            _function(kind, flop.preset, known, set()) if flop.preset else None,
            tuple(functions.items()),
            flop.state,
        )
        parts.flops[key].append(at)

    def _clock(self, clocks: set[int]) -> str:
        if not clocks:
            return ""
        ports = {
            self.net[port.bits[0]]: name
            for name, port in self.netlist.ports.items()
            if port.direction == "input" and len(port.bits) == 1
        }
        if len(clocks) > 1 or not clocks <= ports.keys():
            raise DesignError(
                f"{self.netlist.top}: its flip-flops must be clocked by one port; there are "
                f"{len(clocks)} clocks, and {len(clocks - ports.keys())} of them are no port"
            )
        return ports[clocks.pop()]

    def _levelled(self, parts: _Parts) -> list[_Batch]:
        """Gates by depth, so that each is computed after all that it reads."""
        readers: dict[int, list[int]] = defaultdict(list)
        missing = [len(set(inputs.values())) for _, inputs, _ in parts.gates]
        for number, (_, inputs, _) in enumerate(parts.gates):
            for net in set(inputs.values()):
                readers[net].append(number)
        driven = {output for _, _, output in parts.gates}
        ready = [n for n in range(self._count) if n not in driven]
        levels: list[list[int]] = []
        done = 0
        level = [n for n, count in enumerate(missing) if count == 0]  # constants
        while ready or level:
            for net in ready:
                for number in readers[net]:
                    missing[number] -= 1
                    if missing[number] == 0:
                        level.append(number)
            levels.append(level)
            done += len(level)
            ready, level = [parts.gates[n][2] for n in level], []
        if done < len(parts.gates):
            raise DesignError(f"{self.netlist.top}: the netlist has a loop without a flip-flop")
        batches = []
        for numbers in levels:
            alike: dict[Function, list[int]] = defaultdict(list)
            for number in numbers:
                alike[parts.gates[number][0]].append(number)
            for function, members in alike.items():
                pins = sorted(function.names)
                batches.append(
                    _Batch(
                        function,
                        {p: np.array([parts.gates[n][1][p] for n in members]) for p in pins},
                        np.array([parts.gates[n][2] for n in members]),
                    )
                )
        return batches

    @property
    def size(self) -> int:
        """How many nets there are, the two constants among them."""
        return self._count

    def run(
        self, stimulus: Stimulus, see: Callable[[Cycle], object] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Run all cycles of a stimulus; flip-flops begin at 0.

        In every cycle the inputs change together with the clock's edge that ended the one before,
        and all nets settle. ``see`` is called with each cycle then.

        Parameters
        ----------
        stimulus : for every input but the clock; an input that is left out is 0. All have as many
            cycles and streams.
        see : must not keep the arrays, which are used again.

        Returns
        -------
        Outputs by port, unsigned ``[cycles, streams]``: int64, or Python integers of ports wider than
        62 bits.

        Raises
        ------
        DesignError
            If a port is unknown or the clock, or the stimulus has an impossible shape.
        """
        cycles, streams = self.shape(stimulus)
        words = -(-streams // 64)
        nets = np.zeros((self._count, words), np.uint64)
        nets[_ONE] = np.uint64(2**64 - 1)
        before: Words | None = None
        states = [np.zeros((flops.count, words), np.uint64) for flops in self._flops]
        outputs = {n: p for n, p in self.netlist.ports.items() if p.direction == "output"}
        found = {
            name: np.zeros((cycles, streams), np.int64 if len(port.bits) <= 62 else object)
            for name, port in outputs.items()
        }
        inputs = {
            name: np.array([self.net[bit] for bit in self.netlist.ports[name].bits])
            for name in stimulus
        }
        for cycle in range(cycles):
            for name, at in inputs.items():
                nets[at] = _packed(np.asarray(stimulus[name])[cycle], len(at), words)
            self._settle(nets, states)
            for name, port in outputs.items():
                found[name][cycle] = _numbers(nets, self._at(port), streams)
            if see is not None:
                see(Cycle(before, nets))
                before = nets.copy()
            states = [f.taken(nets, s) for f, s in zip(self._flops, states, strict=True)]
        return found

    def _settle(self, nets: Words, states: list[Words]) -> None:
        """Compute all nets; again while what they clear or preset changes a state."""
        for _ in range(len(self._flops) + 2):
            for flops, state in zip(self._flops, states, strict=True):
                flops.show(nets, state)
            for batch in self._batches:
                batch.compute(nets)
            changed = False
            for n, flops in enumerate(self._flops):
                forced = flops.forced(nets, states[n])
                if not np.array_equal(forced, states[n]):
                    states[n], changed = forced, True
            if not changed:
                return
        raise DesignError(f"{self.netlist.top}: what clears its flip-flops does not settle")

    def shape(self, stimulus: Stimulus) -> tuple[int, int]:
        """Cycles and streams of a stimulus; DesignError if it cannot be one of this netlist."""
        inputs = {
            name: port
            for name, port in self.netlist.ports.items()
            if port.direction == "input" and name != self.clock
        }
        shapes = set()
        for name, values in stimulus.items():
            if name not in inputs:
                known = ", ".join(sorted(inputs))
                raise DesignError(f"{self.netlist.top} has no input {name!r}; it has {known}")
            shape = np.shape(values)
            wide = len(inputs[name].bits)
            if len(shape) not in (2, 3) or (len(shape) == 3 and (not shape[2] or wide % shape[2])):
                raise DesignError(
                    f"stimulus of {name}: [cycles, streams] or [cycles, streams, n] with n a divisor "
                    f"of the {wide} bits, not {list(shape)}"
                )
            shapes.add(shape[:2])
        if len(shapes) != 1 or 0 in next(iter(shapes)):
            raise DesignError(
                "all ports need a stimulus of as many cycles and streams, at least one of each; "
                f"there are {sorted(shapes)}"
            )
        return shapes.pop()

    def _at(self, port: Port) -> Ints:
        return np.array([self.net[bit] for bit in port.bits])


def side_by_side(*fields: tuple[NDArray[Any], int]) -> NDArray[np.uint8]:
    """The stimulus of a port of several fields, the first one in its lowest bits: a bit an element.

    Parameters
    ----------
    fields : values ``[cycles, streams]`` or ``[cycles, streams, n]``, and the bits of each of them
    """
    parts = []
    for values, bits in fields:
        numbers = np.asarray(values)[..., None] >> np.arange(bits) & 1
        parts.append(numbers.astype(np.uint8).reshape(*numbers.shape[:2], -1))
    return np.concatenate(parts, axis=2)


def _function(kind: str, text: str, pins: set[str], own: set[str]) -> Function:
    """A function of a cell; DesignError if it reads what is neither a pin nor its own state."""
    try:
        function = parse(text)
    except ValueError as error:
        raise DesignError(f"cell {kind} cannot be simulated: {error}") from None
    strange = sorted(function.names - pins - own)
    if strange:
        raise DesignError(
            f"cell {kind} cannot be simulated: its function {text!r} reads {strange[0]}, which is "
            "no input (a latch?)"
        )
    return function


def _stacked(key: tuple[object, ...], members: list[dict[str, int]]) -> _Flops:
    next_state, clear, preset, functions, names = key
    outputs = tuple(
        (function, np.array([pins[pin] for pins in members]))
        for pin, function in functions  # type: ignore[misc]
    )
    read: set[str] = set()
    for function in (next_state, clear, preset):
        read |= function.names - set(names) if function is not None else set()  # type: ignore
    inputs = {pin: np.array([pins[pin] for pins in members]) for pin in sorted(read)}
    return _Flops(next_state, clear, preset, outputs, names, inputs, len(members))  # type: ignore


def _packed(values: NDArray[Any], bits: int, words: int) -> Words:
    """Numbers ``[streams]`` or ``[streams, n]`` as rows of bits ``[bits, words]``."""
    numbers = values.reshape(len(values), -1)
    each = bits // numbers.shape[1]
    if each > 62 and numbers.dtype != object:
        numbers = numbers.astype(object)  # Python integers have as many sign bits as are asked for
    columns = [((numbers >> n) & 1).astype(np.uint8) for n in range(each)]
    table = np.stack(columns, axis=2).reshape(len(values), bits).T
    padded = np.zeros((bits, words * 64), np.uint8)
    padded[:, : len(values)] = table
    return np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _numbers(nets: Words, at: Ints, streams: int) -> NDArray[Any]:
    """Unsigned numbers ``[streams]`` from the rows of their bits."""
    raw = np.ascontiguousarray(nets[at]).astype("<u8").view(np.uint8)
    table = np.unpackbits(raw, axis=1, bitorder="little")[:, :streams]
    total = np.zeros(streams, np.int64 if len(at) <= 62 else object)
    for n, bit in enumerate(table):
        total += bit.astype(total.dtype) << n
    return total
