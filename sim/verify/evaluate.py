# SPDX-License-Identifier: Apache-2.0
"""Properties on recorded signals, by numpy: one of the three judges of what a property means.

The others are the checker's Verilog in yosys and in Verilator; the tests compare them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.verify.expression import Apply, Constant, Expression, Signal, Slice
from sim.verify.properties import Monitor, Property

__all__ = ["AFTER_RESET", "Outcome", "Trace", "Values", "evaluate", "judge", "random_trace"]

AFTER_RESET = "after_reset"
"""Name of the signal that holds in the first cycle after a reset."""

Values = NDArray[Any]
"""A value for each cycle: uint64, or Python integers for more than 63 bits."""

Bits = NDArray[np.bool_]


@dataclass
class Trace:
    """Signals of consecutive cycles, as they are before the clock's edge.

    Parameters
    ----------
    values : by name; each [cycles].
    widths : bits, by name.
    reset : whether the design is in reset, [cycles].
    pick : whether a monitor may begin to follow the element that enters, [cycles].
    """

    values: Mapping[str, Values]
    widths: Mapping[str, int]
    reset: Bits
    pick: Bits
    age: NDArray[np.int64] = field(init=False)
    _known: dict[Expression, Values] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        cycles = np.arange(len(self.reset))
        last = np.maximum.accumulate(np.where(self.reset, cycles, -1))
        self.age = cycles - last - 1
        self.values = {**self.values, AFTER_RESET: (self.age == 0).astype(np.uint64)}
        self.widths = {**self.widths, AFTER_RESET: 1}

    @property
    def cycles(self) -> int:
        return len(self.reset)


@dataclass(frozen=True)
class Outcome:
    """What a trace says of a property: the cycles in which it was met, and those that violate it."""

    hits: Bits
    bad: Bits


def _fit(values: Values, width: int) -> Values:
    """In the type of that width."""
    if width <= 63:
        return values if values.dtype == np.uint64 else values.astype(np.uint64)
    return values if values.dtype == object else values.astype(object)


def _cut(values: Values, width: int) -> Values:
    mask = (1 << width) - 1
    return _fit(values & (mask if values.dtype == object else np.uint64(mask)), width)


def _extended(e: Expression, trace: Trace, width: int) -> Values:
    """Bits of an expression in a wider (or equal) number of bits."""
    values = evaluate(e, trace)
    if width <= e.width:
        return values
    values = _fit(values, width)
    if not e.is_signed:
        return values
    top, fill = 1 << (e.width - 1), ((1 << width) - 1) ^ ((1 << e.width) - 1)
    if values.dtype == object:
        return np.array([v | fill if v & top else v for v in values], dtype=object)
    return np.where(values & np.uint64(top), values | np.uint64(fill), values)


def _truth(e: Expression, trace: Trace) -> Bits:
    return (evaluate(e, trace) != 0).astype(bool)


def _ago(values: Values, cycles: int) -> Values:
    shifted = np.zeros_like(values)
    shifted[cycles:] = values[: len(values) - cycles] if cycles else values
    return shifted


def evaluate(e: Expression, trace: Trace) -> Values:
    """The bits of an expression in every cycle, as a number that is not negative; [cycles].

    Before the first cycle everything is 0.
    """
    known = trace._known.get(e)
    if known is None:
        known = trace._known[e] = _evaluated(e, trace)
    return known


def _evaluated(e: Expression, trace: Trace) -> Values:
    if isinstance(e, Signal):
        return _fit(trace.values[e.name], e.width)
    if isinstance(e, Constant):
        return _fit(np.full(trace.cycles, e.value, dtype=object), e.width)
    if isinstance(e, Slice):
        values = evaluate(e.of, trace)
        return _cut(values >> (e.low if values.dtype == object else np.uint64(e.low)), e.width)
    return _applied(e, trace)


def _applied(e: Apply, trace: Trace) -> Values:
    a = e.arguments[0]
    match e.operator:
        case "past":
            return _ago(evaluate(a, trace), e.amount)
        case "signed":
            return evaluate(a, trace)
        case "stable" | "changed":
            values = evaluate(a, trace)
            return _bits((values == _ago(values, 1)) == (e.operator == "stable"))
        case "rose" | "fell":
            bit = (evaluate(a, trace) & 1).astype(bool)
            before = _ago(bit, 1)
            return _bits(bit & ~before if e.operator == "rose" else ~bit & before)
        case "countones" | "onehot" | "onehot0" | "u^":
            ones = np.array([int(v).bit_count() for v in evaluate(a, trace)], dtype=np.uint64)
            if e.operator == "countones":
                return ones
            limits = {"onehot": ones == 1, "onehot0": ones <= 1, "u^": ones % 2 == 1}
            return _bits(limits[e.operator])
        case "u!":
            return _bits(~_truth(a, trace))
        case "u|":
            return _bits(_truth(a, trace))
        case "u&":
            return _bits((evaluate(a, trace) == (1 << a.width) - 1).astype(bool))
        case "u~" | "u-":
            values = evaluate(a, trace).astype(object)
            full = 1 << a.width
            return _fit(
                (full - 1 - values) if e.operator == "u~" else (full - values) % full, e.width
            )
        case "{}":
            joined: Values = np.zeros(trace.cycles, dtype=object)
            for part in e.arguments:
                joined = (joined << part.width) | evaluate(part, trace).astype(object)
            return _fit(joined, e.width)
        case "?:":
            first, second = (_extended(b, trace, e.width) for b in e.arguments[1:])
            return _fit(np.where(_truth(a, trace), first, second), e.width)
        case "&&":
            return _bits(_truth(a, trace) & _truth(e.arguments[1], trace))
        case "||":
            return _bits(_truth(a, trace) | _truth(e.arguments[1], trace))
        case "<<" | ">>":
            return _shifted(e, trace)
        case _:
            return _arithmetic(e, trace)


def _bits(values: Bits) -> Values:
    return values.astype(np.uint64)


def _shifted(e: Apply, trace: Trace) -> Values:
    a, amount = e.arguments
    left = _numbers(a, trace, a.width).astype(object)
    steps = np.minimum(evaluate(amount, trace).astype(object), e.width)
    moved = left << steps if e.operator == "<<" else left >> steps
    return _fit(moved & ((1 << e.width) - 1), e.width)


def _numbers(e: Expression, trace: Trace, width: int) -> Values:
    """Values that compare and add as numbers: bits, or signed Python integers."""
    values = _extended(e, trace, width)
    if not e.is_signed:
        return values
    top = 1 << (width - 1)
    return (values.astype(object) ^ top) - top


def _arithmetic(e: Apply, trace: Trace) -> Values:
    a, b = e.arguments
    width = max(e.width, a.width, b.width) + 1
    x, y = _numbers(a, trace, max(a.width, b.width)), _numbers(b, trace, max(a.width, b.width))
    if width > 63 or object in (x.dtype, y.dtype):
        x, y = x.astype(object), y.astype(object)
    match e.operator:
        case "==":
            return _bits((x == y).astype(bool))
        case "!=":
            return _bits((x != y).astype(bool))
        case "<":
            return _bits((x < y).astype(bool))
        case "<=":
            return _bits((x <= y).astype(bool))
        case ">":
            return _bits((x > y).astype(bool))
        case ">=":
            return _bits((x >= y).astype(bool))
        case "+":
            result = x + y
        case "-":
            result = x - y  # of unsigned numbers it wraps modulo 2**64, and is cut below
        case "*":
            result = x * y
        case "&":
            result = x & y
        case "|":
            result = x | y
        case _:
            result = x ^ y
    return _cut(result, e.width)


def judge(item: Property, trace: Trace) -> Outcome:
    """What a trace says of a property."""
    body = item.body
    if isinstance(body, Monitor):
        return _follow(body, trace)
    looked = ~trace.reset & (trace.age >= body.history)
    return Outcome(looked & _truth(body.hit, trace), looked & _truth(body.bad, trace))


def _follow(body: Monitor, trace: Trace) -> Outcome:
    """A monitor, cycle by cycle."""
    push, pop = (_truth(e, trace).tolist() for e in (body.push, body.pop))
    ordered = body.rule == "ordered"
    entering = evaluate(body.arguments[1], trace).tolist() if ordered else [0] * len(push)
    leaving = evaluate(body.arguments[3], trace).tolist() if ordered else [0] * len(push)
    bad, hits = np.zeros(len(push), bool), np.zeros(len(push), bool)
    inside = ahead = token = 0
    tracking = False
    for t, in_reset in enumerate(trace.reset.tolist()):
        if in_reset:
            inside, tracking = 0, False
            continue
        enters, leaves = push[t], pop[t]
        passes = enters and leaves and inside == 0
        bad[t] = leaves and inside == 0 and not enters
        bad[t] |= enters and not leaves and inside == body.capacity
        hits[t] = leaves
        if ordered:
            due = leaves and tracking and ahead == 0
            hits[t] = passes or due
            bad[t] |= passes and entering[t] != leaving[t]
            bad[t] |= due and token != leaving[t]
            if due:
                tracking = False
            elif leaves and tracking:
                ahead -= 1
            elif enters and not tracking and not passes and trace.pick[t]:
                tracking, token, ahead = True, entering[t], inside - leaves
        inside = min(max(inside + enters - leaves, 0), body.capacity)
    return Outcome(hits, bad)


def random_trace(widths: Mapping[str, int], cycles: int, seed: int) -> Trace:
    """Signals that know nothing of each other: refutes what is no tautology, cheaply.

    Values are of three kinds in turns: any, small, and those of the cycle before.
    """
    random = np.random.default_rng(seed)
    values: dict[str, Values] = {}
    for name, width in sorted(widths.items()):
        words = -(-width // 32)
        raw = random.integers(0, 1 << 32, size=(words, cycles), dtype=np.uint64)
        value: Values = np.zeros(cycles, dtype=object)
        for word in raw:
            value = (value << 32) | word.astype(object)
        value &= (1 << width) - 1
        small = random.integers(0, 4, size=cycles).astype(object) & ((1 << width) - 1)
        mode = random.integers(0, 4, size=cycles)
        value = np.where(mode == 0, small, value)
        for t in np.flatnonzero(mode == 1):
            value[t] = value[t - 1] if t else 0
        values[name] = _fit(value, width)
    reset = np.zeros(cycles, bool)
    return Trace(values, dict(widths), reset, random.integers(0, 2, cycles).astype(bool))
