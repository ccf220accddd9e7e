# SPDX-License-Identifier: Apache-2.0
"""What the inputs of any design are driven with: random in phases, polite on streams, the same for a seed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.verify.subject import Port, Subject

__all__ = [
    "PICK",
    "SCENARIO_RESET",
    "Stimulus",
    "Stream",
    "draw_stimulus",
    "find_decoded",
    "find_streams",
    "followed",
]

PICK = "hwgen_pick"
"""The checker's input that says when a monitor begins to follow an element."""

PHASE, RESET_CYCLES, SCENARIO_RESET = 64, 3, 2
_VALID = re.compile(r"^(?P<head>.*?)(?P<word>valid|vld|tvalid)(?P<tail>(?:_[io])?)$", re.I)
_SIDES = re.compile(r"^[io]_(?!_)|(?<!_)_[io]$")
"""Marks of a direction; in ``i__valid`` the ``i`` is the name of the stream."""


@dataclass(frozen=True)
class Stream:
    """Ports of a ready/valid stream; ``payload`` moves with ``valid``.

    Parameters
    ----------
    into : whether elements enter the design.
    """

    valid: str
    ready: str
    payload: tuple[str, ...]
    into: bool


@dataclass(frozen=True)
class Stimulus:
    """Values of every input in every cycle; the reset is one of them.

    Parameters
    ----------
    names : of the columns.
    words : [cycles, words of 32 bits of all columns], uint32.
    paced : from this cycle on the inputs of a stream wait in their place while it waits, until the next
        reset, so that nothing that a source offers is left out; before it what comes meanwhile is.
    """

    names: tuple[str, ...]
    words: NDArray[np.uint32]
    paced: int | None = None

    @property
    def cycles(self) -> int:
        return len(self.words)


def _stem(name: str) -> str:
    return _SIDES.sub("", name).lower()


def find_streams(subject: Subject) -> tuple[Stream, ...]:
    """Pairs of ports called valid and ready, and the ports named like them."""
    return tuple(_streams(subject))


def _streams(subject: Subject) -> Iterator[Stream]:
    ports = {p.name: p for p in subject.ports}
    stems = {_stem(name): name for name in ports}
    for name, port in ports.items():
        found = _VALID.match(_stem(name))
        if found is None or port.width != 1:
            continue
        head = found["head"]
        word = "ready" if "valid" in found["word"] else "rdy"
        word = "t" + word if found["word"].startswith("t") else word
        ready = stems.get(head + word) or stems.get(head + ("rdy" if word == "ready" else "ready"))
        if ready is None or ports[ready].width != 1 or ports[ready].direction == port.direction:
            continue
        payload = tuple(
            other for other, p in ports.items()
            if other not in (name, ready) and p.direction == port.direction
            and _stem(other).startswith(head) and (head or _is_data(other))
            and _VALID.match(_stem(other)) is None and other not in (subject.clock, _reset(subject))
        )  # fmt: skip
        yield Stream(name, ready, payload, port.direction == "input")


def _is_data(name: str) -> bool:
    return re.search(r"data|payload|last|keep|strb|dat\b", name, re.I) is not None


def _reset(subject: Subject) -> str | None:
    return subject.reset.name if subject.reset else None


def draw_stimulus(
    subject: Subject, cycles: int, seed: int, directed: Sequence[Mapping[str, int]] = ()
) -> Stimulus:
    """Random inputs.

    Every ``PHASE`` cycles each input gets another habit: how often a bit is high; whether a word is any
    number, small, at its limits, held, counting, or what the design compares it with. The reset comes
    first and again in later phases.

    Parameters
    ----------
    directed : inputs of the cycles after the first reset, the reset perhaps among them; what is not
        named is random.
    """
    random = np.random.default_rng(seed)
    columns = [*subject.inputs, Port(PICK, 1, "input")]
    decoded = find_decoded(subject)
    values = {
        port.name: _column(port.width, cycles, random, decoded.get(port.name, {}))
        for port in columns
    }
    if subject.reset:
        reset = _reset_column(cycles, random)
        values[subject.reset.name] = reset if subject.reset.level else 1 - reset
        columns.append(Port(subject.reset.name, 1, "input"))
    for cycle, row in enumerate(directed[: max(0, cycles - RESET_CYCLES)]):
        for name, value in row.items():
            values[name][RESET_CYCLES + cycle] = value
    return Stimulus(tuple(port.name for port in columns), _words(columns, values))


def _words(
    columns: Sequence[Port], values: Mapping[str, NDArray[np.object_]]
) -> NDArray[np.uint32]:
    words = [
        (values[port.name] >> (32 * k) & 0xFFFFFFFF).astype(np.uint32)
        for port in columns
        for k in range(-(-port.width // 32))
    ]
    return np.stack(words, axis=1)


def followed(
    subject: Subject, stimulus: Stimulus, scenarios: Sequence[Mapping[str, NDArray[np.object_]]],
    seed: int,
) -> Stimulus:  # fmt: skip
    """A stimulus, and behind it scenarios, each after a reset; inputs that they leave out are random."""
    if not scenarios:
        return stimulus
    random = np.random.default_rng(seed)
    parts = [stimulus.words]
    columns = [*subject.inputs, Port(PICK, 1, "input")]
    for scenario in scenarios:
        count = len(next(iter(scenario.values())))
        values = {port.name: _column(port.width, count, random) for port in columns}
        values |= {name: column for name, column in scenario.items() if name in values}
        before = {port.name: np.repeat(values[port.name][:1], SCENARIO_RESET) for port in columns}
        values = {name: np.concatenate([before[name], values[name]]) for name in values}
        every = list(columns)
        if subject.reset:
            active = (np.arange(count + SCENARIO_RESET) < SCENARIO_RESET).astype(int).astype(object)
            values[subject.reset.name] = active if subject.reset.level else 1 - active
            every.append(Port(subject.reset.name, 1, "input"))
        parts.append(_words(every, values))
    return Stimulus(stimulus.names, np.concatenate(parts), stimulus.cycles)


Decoded = Mapping[tuple[int, ...], Sequence[int]]
"""Numbers that some bits of an input, lowest first, are compared with."""


def find_decoded(subject: Subject) -> dict[str, Decoded]:
    """By input, what the design compares parts of it with: an address, an instruction's fields."""
    module = json.loads((subject.folder / "flat.json").read_text())["modules"][subject.top]
    places = {
        net: (p.name, k) for p in subject.inputs if p.width > 1
        for k, net in enumerate(module["ports"][p.name]["bits"])
    }  # fmt: skip
    found: dict[str, dict[tuple[int, ...], set[int]]] = {}
    for cell in module["cells"].values():
        if cell["type"] not in ("$eq", "$ne", "$eqx", "$nex", "$logic_not"):
            continue
        a = cell["connections"]["A"]
        b = cell["connections"].get("B", ["0"] * len(a))
        if all(isinstance(bit, str) for bit in a):
            a, b = b, a
        pairs = [(net, bit) for net, bit in zip(a, b, strict=False) if net in places]
        if len(pairs) < 2 or not all(isinstance(bit, str) for bit in b):
            continue
        names = {places[net][0] for net, _ in pairs}
        if len(names) == 1:
            at = tuple(places[net][1] for net, _ in pairs)
            value = sum((bit == "1") << k for k, (_, bit) in enumerate(pairs))
            found.setdefault(names.pop(), {}).setdefault(at, set()).add(value)
    return {name: {at: sorted(v) for at, v in parts.items()} for name, parts in found.items()}


def _as_decoded(word: int, decoded: Decoded, random: np.random.Generator) -> int:
    """A word most of whose decoded parts are among what they are compared with."""
    for at, values in decoded.items():
        if random.random() < 0.85:
            value = values[int(random.integers(len(values)))]
            for k, bit in enumerate(at):
                word = word & ~(1 << bit) | (value >> k & 1) << bit
    return word


def _column(
    width: int, cycles: int, random: np.random.Generator, decoded: Decoded | None = None
) -> NDArray[np.object_]:
    values = np.zeros(cycles, dtype=object)
    full = (1 << width) - 1
    for start in range(0, cycles, PHASE):
        stop = min(cycles, start + PHASE)
        count = stop - start
        if width == 1:
            share = random.choice(
                [0.05, 0.25, 0.5, 0.75, 0.95, 1.0, 0.0], p=[0.15, 0.15, 0.25, 0.15, 0.15, 0.1, 0.05]
            )
            values[start:stop] = (random.random(count) < share).astype(int).astype(object)
            continue
        habit = random.choice(["any", "small", "limits", "held", "counting"], p=[.45, .2, .15, .1, .1])  # fmt: skip
        words = [random.integers(0, 1 << 32, count, dtype=np.uint64).astype(object)
                 for _ in range(-(-width // 32))]  # fmt: skip
        drawn = (
            sum((word << (32 * k) for k, word in enumerate(words)), np.zeros(count, object)) & full
        )
        if habit == "small":
            drawn = drawn & min(full, 7)
        elif habit == "limits":
            limits = [0, 1, full, full - 1, full >> 1, (full >> 1) + 1]
            drawn = np.array([limits[int(v) % len(limits)] for v in drawn], dtype=object)
        elif habit == "held":
            drawn = np.array([drawn[k - k % 8] for k in range(count)], dtype=object)
        elif habit == "counting":
            drawn = (drawn[0] + np.arange(count).astype(object)) & full
        if decoded and random.random() < 0.6:
            drawn = np.array([_as_decoded(int(v), decoded, random) for v in drawn], dtype=object)
        values[start:stop] = drawn
    return values


def _reset_column(cycles: int, random: np.random.Generator) -> NDArray[np.object_]:
    reset = np.zeros(cycles, dtype=object)
    reset[:RESET_CYCLES] = 1
    for start in range(4 * PHASE, cycles - PHASE, 4 * PHASE):
        at = start + int(random.integers(0, PHASE))
        reset[at : at + int(random.integers(1, 3))] = 1
    return reset
