# SPDX-License-Identifier: Apache-2.0
"""Properties: what must hold of a design in every cycle, as text, and what each comes down to.

``[a ##2 b |->] [##1 | ##[1:3]] c`` (``|=>`` is ``|-> ##1``), or one of two monitors of a queue:
``ordered(push, data_in, pop, data_out, capacity)`` and ``conserved(push, pop, capacity)``. A property is
not looked at during reset, nor in the cycles after it whose history would reach into the reset. The
signal ``after_reset`` holds in the first cycle after a reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sim.verify.expression import (
    Constant,
    Expression,
    Parser,
    PropertyError,
    Signal,
    binary,
    conjunction,
    history,
    nodes,
    past,
    signals,
    unary,
)

__all__ = ["Kind", "Monitor", "Property", "Temporal", "parse_property", "subject_of"]

Kind = Literal["assert", "assume", "cover"]
MAX_HISTORY, MAX_CAPACITY = 32, 4096


@dataclass(frozen=True)
class Temporal:
    """A sequence that implies an expression some cycles later.

    Parameters
    ----------
    steps : (cycles after the step before, expression); empty: always.
    within : first and last cycle, after the last step, in one of which ``then`` holds.
    then : what holds.
    """

    steps: tuple[tuple[int, Expression], ...]
    within: tuple[int, int]
    then: Expression

    @cached_property
    def hit(self) -> Expression:
        """Holds in the cycle in which the property is decided, if its condition was met."""
        back, parts = self.within[1], []
        for delay, e in reversed(self.steps):
            parts.append(past(e, back))
            back += delay
        return conjunction(parts[::-1]) if parts else Constant(1, 1)

    @cached_property
    def bad(self) -> Expression:
        """Holds in the cycle in which the property is decided, if it is violated."""
        first, last = self.within
        good = past(self.then, last - first)
        for cycle in range(first + 1, last + 1):
            good = binary("||", good, past(self.then, last - cycle))
        wrong = unary("!", good)
        return binary("&&", self.hit, wrong) if self.steps else wrong

    @cached_property
    def history(self) -> int:
        """Cycles back that it looks: it is not decided before."""
        return max(history(self.bad), self.within[1] + sum(cycles for cycles, _ in self.steps))

    @cached_property
    def signals(self) -> frozenset[str]:
        return frozenset(signals(self.bad))

    def __str__(self) -> str:
        first, last = self.within
        delay = "" if last == 0 else f"##{first} " if first == last else f"##[{first}:{last}] "
        if not self.steps:
            return f"{delay}{self.then}"
        text = str(self.steps[0][1])
        for cycles, e in self.steps[1:]:
            text += f" ##{cycles} {e}"
        return f"{text} |-> {delay}{self.then}"


@dataclass(frozen=True)
class Monitor:
    """What a queue does to its elements, of which at most ``capacity`` are inside.

    ``conserved``: no more leave than came. ``ordered``: and they leave unchanged, in the order they came.
    """

    rule: Literal["ordered", "conserved"]
    arguments: tuple[Expression, ...]
    capacity: int

    history = 0

    @property
    def push(self) -> Expression:
        return self.arguments[0]

    @property
    def pop(self) -> Expression:
        return self.arguments[2 if self.rule == "ordered" else 1]

    @cached_property
    def signals(self) -> frozenset[str]:
        return frozenset().union(*(signals(a) for a in self.arguments))

    def __str__(self) -> str:
        return f"{self.rule}({', '.join(map(str, self.arguments))}, {self.capacity})"


@dataclass(frozen=True)
class Property:
    """A named property and where it comes from.

    Parameters
    ----------
    name : a word.
    body : what must hold.
    kind : ``assert``; ``assume``: of the environment, inputs only; ``cover``: can happen.
    source : who proposed it.
    why : one sentence, or nothing.
    """

    name: str
    body: Temporal | Monitor
    kind: Kind = "assert"
    source: str = "user"
    why: str = ""

    @property
    def text(self) -> str:
        """Canonical text: equal properties have equal texts."""
        return str(self.body)


def parse_property(text: str, table: Mapping[str, int]) -> Temporal | Monitor:
    """Read a property over the signals of ``table`` (width by name).

    Raises
    ------
    PropertyError
        With the column, if it is not in the language or names an unknown signal.
    """
    parser = Parser(text, table)
    if parser.token.kind == "name" and parser.token.text in ("ordered", "conserved"):
        return _monitor(parser)
    within = _delay(parser)
    steps: list[tuple[int, Expression]] = []
    then = parser.expression()
    if within is None:
        steps.append((0, then))
        while parser.accept("##"):
            cycles = parser.integer()
            steps.append((cycles, parser.expression()))
        arrow = parser.accept("|->", "|=>")
        if arrow is None:
            if len(steps) > 1:
                raise parser.error("a sequence needs |-> or |=> and what it implies")
            steps = []
        else:
            within = _delay(parser)
            if arrow == "|=>":
                within = (1, 1) if within is None else (within[0] + 1, within[1] + 1)
            then = parser.expression()
    parser.finish()
    body = Temporal(tuple(steps), within or (0, 0), then)
    if body.history > MAX_HISTORY:
        raise PropertyError(f"a property looks at most {MAX_HISTORY} cycles back")
    if not body.signals:
        raise PropertyError("a property names at least one signal")
    return body


def subject_of(body: Temporal | Monitor) -> str:
    """The signal that a property says something about: the first that it names behind its condition."""
    first = body.arguments[-1] if isinstance(body, Monitor) else body.then
    named = [e.name for e in nodes(first) if isinstance(e, Signal)]
    return named[-1] if named else ""  # the nodes come from right to left


def _delay(parser: Parser) -> tuple[int, int] | None:
    if not parser.accept("##"):
        return None
    if not parser.accept("["):
        cycles = parser.integer()
        return cycles, cycles
    first = parser.integer()
    parser.expect(":")
    last = parser.integer()
    parser.expect("]")
    if first > last:
        raise parser.error(f"##[{first}:{last}] ends before it begins")
    if last > MAX_HISTORY:
        raise parser.error(f"a property looks at most {MAX_HISTORY} cycles back")
    return first, last


def _monitor(parser: Parser) -> Monitor:
    rule = parser.word()
    arguments = parser.arguments()
    parser.finish()
    wanted = 5 if rule == "ordered" else 3
    if len(arguments) != wanted:
        raise PropertyError(f"{rule} takes {wanted} arguments, not {len(arguments)}")
    *streams, capacity = arguments
    if any(history(a) for a in streams):
        raise PropertyError(f"{rule} looks at one cycle only: no past in its arguments")
    if rule == "ordered" and streams[1].width != streams[3].width:
        raise PropertyError(f"{streams[1]} and {streams[3]} differ in width")
    if not isinstance(capacity, Constant) or not 1 <= capacity.value <= MAX_CAPACITY:
        raise PropertyError(f"{rule} takes a capacity of 1 to {MAX_CAPACITY}, not {capacity}")
    return Monitor("ordered" if rule == "ordered" else "conserved", tuple(streams), capacity.value)
