# SPDX-License-Identifier: Apache-2.0
"""The offline proposer: properties that a trace suggests, of a design that it knows nothing else of.

For each signal it looks for what its value is, or becomes, under the weakest condition of at most two
literals: a constant, the value before, one more or less, another signal, a sum or a product of others.
Then ranges, one-hot sets, values after reset, and what the streams promise. All of it is only what the
trace did not contradict; the judge decides.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.verify.conditions import find_conditions
from sim.verify.evaluate import AFTER_RESET, Trace, evaluate
from sim.verify.expression import PropertyError, parse_expression
from sim.verify.judge import Proposal
from sim.verify.properties import Property, parse_property
from sim.verify.stimulus import Stream
from sim.verify.subject import Subject

__all__ = ["MineLimits", "mine"]

Bits = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class MineLimits:
    """How much is looked at and proposed.

    Parameters
    ----------
    signals, atoms : the first so many words, and one-bit conditions.
    support : cycles of the trace that a condition must be met in.
    per_target : properties of one signal.
    total : properties in all.
    """

    signals: int = 40
    atoms: int = 36
    support: int = 20
    per_target: int = 14
    total: int = 160


@dataclass(frozen=True)
class _Term:
    """A word, as a text of the language and as numbers of the trace, reduced to its width."""

    text: str
    values: Numbers
    width: int
    is_signed: bool = False


@dataclass(frozen=True)
class _Atom:
    """A one-bit condition: a text for when it holds and one for when it does not."""

    text: str
    negated: str
    values: Bits


@dataclass(frozen=True)
class _Relation:
    """What may hold of a target; ``holds`` is [cycles]."""

    text: str
    holds: Bits
    cost: int


def mine(
    subject: Subject, trace: Trace, streams: Sequence[Stream], limits: MineLimits | None = None
) -> list[Proposal]:
    """Properties that the trace does not contradict, the most telling first; the same for the same trace."""
    return _Miner(subject, trace, streams, limits or MineLimits()).proposals()


class _Miner:
    def __init__(
        self, subject: Subject, trace: Trace, streams: Sequence[Stream], limits: MineLimits
    ) -> None:
        self.subject, self.trace, self.streams, self.limits = subject, trace, streams, limits
        special = {subject.clock, subject.reset.name if subject.reset else ""}
        names = [n for n in subject.signals if n in trace.values and n not in special]
        self.inputs = {p.name for p in subject.inputs}
        self.bits = [n for n in names if subject.signals[n].width == 1]
        self.words = [n for n in names if 1 < subject.signals[n].width <= 62][: limits.signals]
        self.values = {n: trace.values[n].astype(np.int64) for n in [*self.bits, *self.words]}
        self.now = ~trace.reset
        self.next = self.now & (trace.age >= 1)
        self.flat = json.loads((subject.folder / "flat.json").read_text())["modules"][subject.top]
        self.atoms = self._atoms()
        self.conditions, self.literals = self._conditions()

    # -- Conditions --

    def _atoms(self) -> list[_Atom]:
        atoms = [_Atom(n, f"!{n}", self.values[n] != 0) for n in self.bits]
        atoms += self._transfers()
        atoms += self._decided()
        for name in self.words:
            width = self.subject.signals[name].width
            seen = np.unique(self.values[name][self.now])
            if width <= 4 and self.subject.signals[name].register and 2 <= len(seen) <= 5:
                atoms += [_equal(name, int(v), self.values[name]) for v in seen]
        kept: dict[bytes, _Atom] = {}
        for atom in atoms:
            held = atom.values & self.now
            if held.any() and (~atom.values & self.now).any():
                kept.setdefault(np.packbits(held).tobytes(), atom)
        return list(kept.values())[: self.limits.atoms]

    def _transfers(self) -> list[_Atom]:
        return [
            _Atom(f"{s.valid} && {s.ready}", f"!({s.valid} && {s.ready})",
                  (self.values[s.valid] != 0) & (self.values[s.ready] != 0))
            for s in self.streams if s.valid in self.values and s.ready in self.values
        ]  # fmt: skip

    def _decided(self) -> list[_Atom]:
        """Conditions that the design itself decides by."""
        atoms = []
        for text in find_conditions(self.subject, self.flat):
            try:
                values = evaluate(parse_expression(text, self.subject.widths), self.trace)
            except (PropertyError, KeyError):  # a signal too wide to be recorded
                continue
            negated = text[1:] if text.startswith("!") else f"!{text}"
            atoms.append(_Atom(text, negated, (values != 0).astype(bool)))
        return atoms

    def _conditions(self) -> tuple[NDArray[np.float32], list[tuple[int, ...]]]:
        """Rows of conditions, weakest first, and the literals (2k: atom k, 2k+1: its negation) of each."""
        rows = [np.ones(len(self.now), bool)]
        literals: list[tuple[int, ...]] = [()]
        single = [v for a in self.atoms for v in (a.values, ~a.values)]
        for k, row in enumerate(single):
            rows.append(row)
            literals.append((k,))
        for a, b in itertools.combinations(range(len(single)), 2):
            if a // 2 == b // 2:
                continue
            both = single[a] & single[b]
            count = int((both & self.now).sum())
            if count >= self.limits.support and count < min(
                int((single[a] & self.now).sum()), int((single[b] & self.now).sum())
            ):
                rows.append(both)
                literals.append((a, b))
        return np.array(rows, dtype=np.float32), literals

    def _text(self, literals: tuple[int, ...]) -> str:
        words = [self.atoms[k // 2].negated if k % 2 else self.atoms[k // 2].text for k in literals]
        return " && ".join(f"({w})" if "&&" in w and not w.startswith("!") else w for w in words)

    # -- What is proposed --

    def proposals(self) -> list[Proposal]:
        found: list[tuple[float, str, str]] = []
        found += self._streams()
        found += self._after_reset()
        found += self._ranges()
        targets = [n for n in (*self.words, *self.bits) if n not in self.inputs]
        for name in targets:
            if self.subject.signals[name].register:
                found += self._becomes(name)
            else:
                found += self._is(name)
        found += self._delays()
        unique: dict[str, Proposal] = {}
        for _, text, why in sorted(found, key=lambda entry: (entry[0], len(entry[1]), entry[1])):
            try:
                body = parse_property(text, self.subject.widths)
            except PropertyError:
                continue
            if body.signals - {AFTER_RESET} <= self.inputs:
                continue
            key = Property("", body).text
            unique.setdefault(
                key, Proposal(property=text, name=f"m{len(unique)}", why=why, source="offline")
            )
        return list(unique.values())[: self.limits.total]

    def _streams(self) -> Iterator[tuple[float, str, str]]:
        for s in self.streams:
            if s.into:
                continue
            kept = " && ".join([s.valid, *(f"stable({p})" for p in s.payload)])
            yield 0, f"{s.valid} && !{s.ready} |=> {kept}", "what is offered waits"
        for a, b in itertools.product(self.streams, self.streams):
            if not a.into or b.into or a.valid not in self.values or b.valid not in self.values:
                continue
            push = (self.values[a.valid] != 0) & (self.values[a.ready] != 0)
            pop = (self.values[b.valid] != 0) & (self.values[b.ready] != 0)
            most = self._most_inside(push, pop)
            if most is None:
                continue
            moves = f"{a.valid} && {a.ready}", f"{b.valid} && {b.ready}"
            yield 0.1, f"conserved({moves[0]}, {moves[1]}, {most})", "nothing is lost or made"
            widths = [[self.subject.signals[p].width for p in s.payload] for s in (a, b)]
            if widths[0] and widths[0] == widths[1]:
                data = [
                    f"{{{', '.join(s.payload)}}}" if len(s.payload) > 1 else "".join(s.payload)
                    for s in (a, b)
                ]
                yield (
                    0,
                    f"ordered({moves[0]}, {data[0]}, {moves[1]}, {data[1]}, {most})",
                    "in order, unchanged",
                )

    def _most_inside(self, push: Bits, pop: Bits) -> int | None:
        inside = most = 0
        for enters, leaves, reset in zip(
            push.tolist(), pop.tolist(), self.trace.reset.tolist(), strict=True
        ):
            inside = 0 if reset else inside + enters - leaves
            most = max(most, inside)
            if inside < 0:
                return None
        return most if 1 <= most <= 64 else None

    def _after_reset(self) -> Iterator[tuple[float, str, str]]:
        first = self.now & (self.trace.age == 0)
        if first.sum() < 2:
            return
        for name in (*self.words, *self.bits):
            if name in self.inputs:
                continue
            seen = np.unique(self.values[name][first])
            if len(seen) == 1:
                yield 1, f"{AFTER_RESET} |-> {name} == {int(seen[0])}", "its value after reset"

    def _ranges(self) -> Iterator[tuple[float, str, str]]:
        for name in self.words:
            if name in self.inputs:
                continue
            width, values = self.subject.signals[name].width, self.values[name][self.now]
            low, high = int(values.min()), int(values.max())
            if high < (1 << width) - 1 and (values == high).sum() >= 2:
                yield 1, f"{name} <= {high}", "its largest value"
            if low > 0:
                yield 2, f"{name} >= {low}", "its smallest value"
            seen = np.unique(values)
            if 2 < len(seen) <= 4 and len(seen) < min(high - low + 1, 1 << width):
                yield 1, " || ".join(f"{name} == {int(v)}" for v in seen), "its only values"
            ones = np.array([int(v).bit_count() for v in seen])
            if width > 2 and len(seen) > 2 and (ones <= 1).all():
                yield 1, f"onehot{'0' if (ones == 0).any() else ''}({name})", "at most one bit"

    def _becomes(self, name: str) -> Iterator[tuple[float, str, str]]:
        """What a register is after a condition held."""
        relations = list(self._next_relations(name))
        shifted = np.zeros_like(self.conditions)
        shifted[:, 1:] = self.conditions[:, :-1]
        for literals, relation, support in self._weakest(relations, shifted, self.next):
            arrow = f"{self._text(literals)} |=> " if literals else "##1 "
            yield (
                self._rank(literals, relation, support),
                arrow + relation.text,
                f"in {support} cycles",
            )

    def _is(self, name: str) -> Iterator[tuple[float, str, str]]:
        """What a signal is while a condition holds."""
        relations = list(self._now_relations(name))
        own = {2 * k + s for k, a in enumerate(self.atoms) if a.text == name for s in (0, 1)}
        for literals, relation, support in self._weakest(relations, self.conditions, self.now, own):
            arrow = f"{self._text(literals)} |-> " if literals else ""
            yield (
                self._rank(literals, relation, support),
                arrow + relation.text,
                f"in {support} cycles",
            )

    def _rank(self, literals: tuple[int, ...], relation: _Relation, support: int) -> float:
        rare = 0.5 if support < 3 * self.limits.support else 0.0
        return 1.0 + len(literals) + 0.5 * relation.cost + rare

    def _weakest(
        self, relations: Sequence[_Relation], conditions: NDArray[np.float32], looked: Bits,
        barred: set[int] | None = None,
    ) -> Iterator[tuple[tuple[int, ...], _Relation, int]]:  # fmt: skip
        """Pairs of a condition and a relation that it implies; no pair that another makes needless."""
        if not relations:
            return
        wrong = np.stack([~r.holds & looked for r in relations], axis=1).astype(np.float32)
        violations = conditions @ wrong
        support = conditions @ looked.astype(np.float32)
        kept: list[list[frozenset[int]]] = [[] for _ in relations]
        made = 0
        order = sorted(
            range(len(self.literals)), key=lambda row: (len(self.literals[row]), -support[row])
        )
        explained = np.zeros(len(looked), bool)
        for row in order:
            if support[row] < self.limits.support or made >= self.limits.per_target:
                continue
            literals = frozenset(self.literals[row])
            if barred and literals & barred:
                continue
            for k in np.flatnonzero(violations[row] == 0).tolist():
                if any(weaker <= literals for weaker in kept[k]):
                    continue
                kept[k].append(literals)
                met = (conditions[row] > 0) & looked
                # A second reading of cycles that are explained, by a stronger condition, tells little.
                if len(literals) == 2 and (explained & met).sum() == met.sum():
                    continue
                explained |= met
                made += 1
                yield self.literals[row], relations[k], int(support[row])

    # -- Relations --

    def _now_relations(self, name: str) -> Iterator[_Relation]:
        width, values = self.subject.signals[name].width, self.values[name]
        if width == 1:
            yield _Relation(name, values != 0, 0)
            yield _Relation(f"!{name}", values == 0, 0)
            return
        yield _Relation(f"{name} == 0", values == 0, 0)
        for term in self._terms(name):
            holds = _matches(values, width, term)
            if holds[self.now].mean() > 0.05:
                yield _Relation(_equation(name, width, term, ""), holds, 1)

    def _next_relations(self, name: str) -> Iterator[_Relation]:
        width, values = self.subject.signals[name].width, self.values[name]
        before = np.zeros_like(values)
        before[1:] = values[:-1]
        if width == 1:
            yield _Relation(name, values != 0, 0)
            yield _Relation(f"!{name}", values == 0, 0)
            yield _Relation(f"stable({name})", values == before, 0)
            for other in self.bits:
                if other != name:
                    past = np.zeros_like(values)
                    past[1:] = self.values[other][:-1]
                    holds = values == past
                    if holds[self.next].mean() > 0.6:
                        yield _Relation(f"{name} == past({other})", holds, 1)
            return
        full = (1 << width) - 1
        yield _Relation(f"stable({name})", values == before, 0)
        for constant in _frequent(values[self.next & (values != before)]):
            yield _Relation(f"{name} == {constant}", values == constant, 0)
        yield _Relation(
            f"{name} == (past({name}) + 1)[{width - 1}:0]", values == ((before + 1) & full), 0
        )
        yield _Relation(f"{name} == past({name}) - 1", values == ((before - 1) & full), 0)
        changes = self.next & (values != before)
        for term in self._terms(name, with_itself=True):
            past = np.zeros_like(term.values)
            past[1:] = term.values[:-1]
            holds = _matches(values, width, _Term(term.text, past, term.width, term.is_signed))
            if (holds & changes).sum() >= self.limits.support:
                yield _Relation(_equation(name, width, term, "past"), holds, 1)

    def _terms(self, name: str, *, with_itself: bool = False) -> Iterator[_Term]:
        """Other words, and sums, differences and products of two."""
        width = self.subject.signals[name].width
        others = [n for n in self.words if n != name][:16]
        for other in others:
            yield from _readings(other, self.values[other], self.subject.signals[other].width)
        operands = [*others, *([name] if with_itself else [])]
        for a, b in itertools.combinations_with_replacement(operands[:14] + operands[14:][-1:], 2):
            yield from self._pairs(a, b, width)

    def _pairs(self, a: str, b: str, width: int) -> Iterator[_Term]:
        x, y = self.values[a], self.values[b]
        wx, wy = self.subject.signals[a].width, self.subject.signals[b].width
        if max(wx, wy) <= width + 1 and a != b:
            yield _Term(f"{a} + {b}", x + y, max(wx, wy) + 1)
            if wx == wy:
                yield _Term(f"{a} - {b}", (x - y) & ((1 << wx) - 1), wx)
                yield _Term(f"{b} - {a}", (y - x) & ((1 << wx) - 1), wx)
                yield _Term(f"{a} & {b}", x & y, wx)
                yield _Term(f"{a} | {b}", x | y, wx)
                yield _Term(f"{a} ^ {b}", x ^ y, wx)
            else:
                yield _Term(
                    f"signed({a}) + signed({b})",
                    _signed(x, wx) + _signed(y, wy),
                    max(wx, wy) + 1,
                    True,
                )
        if wx + wy <= 60 and wx + wy >= width / 2 and max(wx, wy) < width:
            yield _Term(f"{a} * {b}", x * y, wx + wy)
            yield _Term(
                f"signed({a}) * signed({b})", _signed(x, wx) * _signed(y, wy), wx + wy, True
            )

    def _delays(self) -> Iterator[tuple[float, str, str]]:
        """A one-bit signal some cycles after a condition of one literal."""
        outputs = [p.name for p in self.subject.outputs if p.width == 1 and p.name in self.values]
        singles = [k for k, literals in enumerate(self.literals) if len(literals) == 1]
        for name, delay in itertools.product(outputs, (2, 3, 4)):
            looked = self.now & (self.trace.age >= delay)
            target = self.values[name] != 0
            if not 0.02 < target[looked].mean() < 0.9:
                continue
            for k in singles:
                met = np.zeros(len(looked), bool)
                met[delay:] = self.conditions[k][:-delay] > 0
                met &= looked
                if met.sum() >= self.limits.support and target[met].all():
                    text = self._text(self.literals[k])
                    yield 3, f"{text} |-> ##{delay} {name}", f"in {int(met.sum())} cycles"


def _equal(name: str, value: int, values: Numbers) -> _Atom:
    return _Atom(f"({name} == {value})", f"({name} != {value})", values == value)


def _signed(values: Numbers, width: int) -> Numbers:
    top = np.int64(1) << np.int64(width - 1)
    return (values ^ top) - top


def _readings(name: str, values: Numbers, width: int) -> Iterator[_Term]:
    yield _Term(name, values, width)
    yield _Term(f"signed({name})", _signed(values, width), width, True)


def _matches(values: Numbers, width: int, term: _Term) -> Bits:
    """Where a word equals a term: as numbers if it is wide enough, else in the bits that it has."""
    return (values & ((1 << width) - 1)) == (term.values & ((1 << width) - 1))


def _equation(name: str, width: int, term: _Term, wrap: str) -> str:
    text = f"past({term.text})" if wrap else term.text
    if term.width > width:
        return f"{name} == ({text})[{width - 1}:0]"
    return f"signed({name}) == {text}" if term.is_signed else f"{name} == {text}"


def _frequent(values: Numbers) -> list[int]:
    """The three values that occur most, and 0."""
    found, counts = np.unique(values, return_counts=True)
    best = sorted(zip(counts.tolist(), found.tolist(), strict=True), key=lambda c: (-c[0], c[1]))[
        :3
    ]
    return sorted({0, *(value for count, value in best if count >= 5)})
