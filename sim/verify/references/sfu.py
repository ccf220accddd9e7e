# SPDX-License-Identifier: Apache-2.0
"""Golden models of the special function units: `sim.golden.ops`, a word at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hw.sfu.activation import ActivationPair
from sim.golden import ops
from sim.verify.references.base import (
    Answers,
    Columns,
    Entries,
    Outcome,
    Pipeline,
    Segment,
    StreamReference,
    anything,
    delayed,
    draw,
    fields,
    lanes,
    parts,
    rows,
    side_by_side,
)

__all__ = [
    "ActivationPairReference",
    "ActivationReference",
    "ArgMaxReference",
    "Exp2Reference",
    "GatedProductReference",
    "InverseRootReference",
    "NormLanesReference",
    "NormSumsReference",
    "ReciprocalReference",
    "RequantiseReference",
    "RotaryReference",
    "RowMaximumReference",
]

Numbers = NDArray[np.int64]


def _bits(random: np.random.Generator, cycles: int, share: float) -> NDArray[np.object_]:
    return (random.random(cycles) < share).astype(int).astype(object)


def _at(layout: Any, name: str, word: int) -> int:
    """A field of a structure."""
    place = layout[name]
    return word >> place.offset & ((1 << place.width) - 1)


def _words(values: NDArray[Any], bits: int) -> NDArray[np.object_]:
    found = np.zeros(len(values), dtype=object)
    for t, value in enumerate(values):
        found[t] = side_by_side(value, bits)
    return found


def _fitting(random: np.random.Generator, products: Numbers, bits: int) -> Numbers:
    """Shifts about where a product fits ``bits`` bits, and a quarter of them any."""
    lengths = np.array([int(abs(p)).bit_length() for p in products.tolist()])
    shifts = lengths - random.integers(bits - 6, bits + 4, len(lengths))
    loose = random.random(len(lengths)) < 0.25
    return np.clip(np.where(loose, random.integers(1, 64, len(lengths)), shifts), 1, 63)


# ---- Streams -------------------------------------------------------------------------------------------


class RequantiseReference(StreamReference):
    """`ops.requantise`."""

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        unit, found = self.unit, []
        for _ in range(count):
            acc, bias = draw(random, unit.acc_bits, unit.lanes), draw(random, 32, unit.lanes)
            if random.random() < 0.3:  # a sum near nothing of large numbers
                bias = np.clip(-acc + draw(random, 6, unit.lanes), -(1 << 31), (1 << 31) - 1)
            multiplier = draw(random, 16, unit.lanes, is_signed=False)
            shift = _fitting(random, (acc + bias) * multiplier, 16)
            found.append(fields(
                unit.i_layout, acc=side_by_side(acc, unit.acc_bits), bias=side_by_side(bias, 32),
                multiplier=side_by_side(multiplier, 16), shift=side_by_side(shift, 6),
                tag=anything(random, (1 << unit.tag_bits) - 1),
            ))  # fmt: skip
        return found

    def answers(self, entries: Entries) -> Answers:
        unit, found = self.unit, []
        for word in entries.payloads:
            shift = lanes(_at(unit.i_layout, "shift", word), 6, unit.lanes, is_signed=False)
            y = ops.requantise(
                lanes(_at(unit.i_layout, "acc", word), unit.acc_bits, unit.lanes),
                lanes(_at(unit.i_layout, "bias", word), 32, unit.lanes),
                lanes(_at(unit.i_layout, "multiplier", word), 16, unit.lanes, is_signed=False),
                np.maximum(shift, 1), 16,
            )  # fmt: skip
            tag = _at(unit.i_layout, "tag", word)
            found.append(
                fields(unit.o_layout, y=side_by_side(y, 16), tag=tag) if shift.all() else None
            )
        return Answers(found)


class ActivationReference(StreamReference):
    """`ops.gated_activation`, and words that pass by."""

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        unit, found = self.unit, []
        for _ in range(count):
            z = draw(random, 16, unit.lanes)
            if random.random() < 0.5:  # where the gate is neither 0 nor 1
                z = random.integers(-8400, 8400, unit.lanes)
            multiplier = int(draw(random, 16, 1, is_signed=False)[0])
            largest = np.array([int(abs(z).max()) * multiplier])
            found.append(fields(
                unit.i_layout, z=side_by_side(z, 16), multiplier=multiplier,
                shift=int(_fitting(random, largest, unit.bits)[0]),
                tag=anything(random, (1 << unit.tag_bits) - 1),
                **({"plain": int(random.random() < 0.3)} if unit.passing else {}),
            ))  # fmt: skip
        return found

    def answers(self, entries: Entries) -> Answers:
        unit, layout, found = self.unit, self.unit.i_layout, []
        for word in entries.payloads:
            z = lanes(_at(layout, "z", word), 16, unit.lanes)
            multiplier, shift = _at(layout, "multiplier", word), _at(layout, "shift", word)
            plain = unit.passing and _at(layout, "plain", word)
            y = _activated(z, multiplier, max(shift, 1), bool(plain), unit)
            tag = _at(layout, "tag", word)
            found.append(
                fields(unit.o_layout, y=side_by_side(y, unit.bits), tag=tag) if shift else None
            )
        return Answers(found)


def _activated(z: Numbers, multiplier: int, shift: int, plain: bool, unit: Any) -> Numbers:
    if plain:
        return ops.requantise(z, 0, multiplier, shift, unit.bits)
    return ops.gated_activation(z, multiplier, shift, unit.gate, unit.bits)


class RotaryReference(StreamReference):
    """`ops.rotary`; a word whose angles change before the next one enters is any."""

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        unit = self.unit
        return [
            fields(
                unit.i_layout, y=side_by_side(draw(random, 16, unit.lanes), 16),
                plain=int(random.random() < 0.2), tag=anything(random, (1 << unit.tag_bits) - 1),
            )
            for _ in range(count)
        ]  # fmt: skip

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        columns = super().play(random, cycles, scenario)
        angles = np.zeros(cycles, dtype=object)
        for start in range(0, cycles, 10):  # long enough for some words to see the same
            turn = np.round(2**14 * np.sin(random.uniform(0, 2 * np.pi, self.unit.lanes)))
            row = draw(random, 16, self.unit.lanes) if random.random() < 0.3 else turn
            angles[start : start + 10] = side_by_side(row.astype(np.int64), 16)
        return columns | {"angles": angles}

    def answers(self, entries: Entries) -> Answers:
        unit, layout, found = self.unit, self.unit.i_layout, []
        shown = entries.segment.values["angles"]
        ends = [*entries.cycles[1:], entries.segment.cycles - 1]
        for word, entered, end in zip(entries.payloads, entries.cycles, ends, strict=True):
            y, tag = lanes(_at(layout, "y", word), 16, unit.lanes), _at(layout, "tag", word)
            during = [int(a) for a in shown[entered + 1 : end + 1]]
            if _at(layout, "plain", word):
                y = ops.clamp(y, 8)
            elif during and all(a == during[0] for a in during):
                y = ops.rotary(y[None], lanes(during[0], 16, unit.lanes)[None])[0]
            else:
                found.append(None)
                continue
            found.append(fields(unit.o_layout, y=side_by_side(y, 8), tag=tag))
        return Answers(found)


class ArgMaxReference(StreamReference):
    """`ops.argmax` of each sequence."""

    def elements(self, random: np.random.Generator, count: int, scenario: int) -> list[int]:
        unit, found = self.unit, []
        while len(found) < count:
            n = int(random.integers(1, 7))
            kind = random.integers(0, 4)
            y = draw(random, 16, n * unit.lanes).reshape(n, unit.lanes)
            if kind == 0:
                y = random.integers(-3, 3, (n, unit.lanes))
            if kind == 1:
                y = np.full((n, unit.lanes), random.choice([-32768, 32767, 0]))
            limits = np.full(n, unit.lanes)
            if random.random() < 0.5:
                limits = random.integers(0, unit.lanes + 1, n)
                limits[random.integers(n)] = random.integers(1, unit.lanes + 1)
            found += [
                fields(
                    unit.i_layout, y=side_by_side(row, 16), limit=int(limit), last=int(k == n - 1)
                )
                for k, (row, limit) in enumerate(zip(y, limits, strict=True))
            ]
        return found

    def answers(self, entries: Entries) -> Answers:
        unit, layout, found = self.unit, self.unit.i_layout, []
        counted: list[int] = []
        legal = True
        for word in entries.payloads:
            limit = _at(layout, "limit", word)
            legal &= limit <= unit.lanes
            y = lanes(_at(layout, "y", word), 16, unit.lanes)
            counted += np.where(np.arange(unit.lanes) < limit, y, -40000).tolist()
            if _at(layout, "last", word):
                index = ops.argmax(np.array(counted))
                told = legal and counted[index] > -40000
                found.append(fields(
                    unit.o_layout, index=index % (1 << unit.index_bits), value=counted[index] & 0xFFFF
                ) if told else None)  # fmt: skip
                counted, legal = [], True
        return Answers(found)


# ---- Pipelines -----------------------------------------------------------------------------------------


class GatedProductReference(Pipeline):
    """`ops.gated_product`; the second factor comes a cycle after the first."""

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        up = draw(random, 16, cycles * self.unit.lanes)
        u = draw(random, 16, up.size)
        near = (2**15 * random.uniform(-130, 130, up.size) / np.where(up, up, 1)).clip(
            -32768, 32767
        )
        u = np.where(random.random(up.size) < 0.5, near.astype(np.int64), u)
        shape = (cycles, self.unit.lanes)
        later = np.roll(u.reshape(shape), 1, axis=0)
        return {
            "valid": _bits(random, cycles, (1.0, 0.7)[scenario % 2]),
            "up": _words(up.reshape(shape), 16), "u": _words(later, 16),
        }  # fmt: skip

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit = self.unit
        up, u = (rows(segment.values[name], 16, unit.lanes) for name in ("up", "u"))
        for t in np.flatnonzero(segment.bits("valid")[: -unit.latency]).tolist():
            y = side_by_side(ops.gated_product(u[t + 1], up[t]), 8)
            outcome.same(t + unit.latency, int(segment.values["y"][t + unit.latency]), y, "y")


class ActivationPairReference(Pipeline):
    """`ops.gated_activation` of two lanes; only enabled cycles count."""

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        z = draw(random, 16, 2 * cycles)
        z = np.where(random.random(z.size) < 0.6, random.integers(-8400, 8400, z.size), z)
        multiplier = draw(random, 16, cycles, is_signed=False)
        # The multiplier comes some cycles after the word, the shift one after that.
        largest = abs(np.roll(z.reshape(-1, 2), ActivationPair.multiplier_at, axis=0)).max(1)
        shift = np.roll(_fitting(random, largest * multiplier, self.unit.bits), 1)
        found = {
            "advance": _bits(random, cycles, (1.0, 0.7)[scenario % 2]),
            "valid": _bits(random, cycles, 0.8), "z": _words(z.reshape(-1, 2), 16),
            "multiplier": multiplier.astype(object), "shift": shift.astype(object),
        }  # fmt: skip
        return found | ({"plain": _bits(random, cycles, 0.3)} if self.unit.passing else {})

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit = self.unit
        enabled = np.flatnonzero(segment.bits("advance"))
        at = {name: values[enabled] for name, values in segment.values.items()}
        z = rows(at["z"], 16, 2)
        for k in range(len(enabled) - unit.latency):
            shift = int(at["shift"][k + unit.shift_at])
            if int(at["valid"][k]) and shift:
                multiplier = int(at["multiplier"][k + unit.multiplier_at])
                plain = unit.passing and bool(at["plain"][k])
                y = side_by_side(_activated(z[k], multiplier, shift, plain, unit), unit.bits)
                due = k + unit.latency
                outcome.same(int(enabled[due]), int(at["y"][due]), y, "y")


class RowMaximumReference(Pipeline):
    """The largest of the first lanes."""

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        unit = self.unit
        data = draw(random, 16, cycles * unit.lanes)
        if scenario % 2:  # equal numbers, and neighbours
            data = data // 4096 + random.integers(-1, 2, data.size)
        return {
            "valid": _bits(random, cycles, 0.8), "data": _words(data.reshape(cycles, -1), 16),
            "limit": random.integers(0, unit.lanes + 1, cycles).astype(object),
        }  # fmt: skip

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit, at = self.unit, segment.values
        valid = segment.bits("valid")
        delayed(segment, outcome, "valid_o", valid, unit.latency)
        data = rows(at["data"], 16, unit.lanes)
        for t in np.flatnonzero(valid[: -unit.latency]).tolist():
            limit, due = int(at["limit"][t]), t + unit.latency
            if limit <= unit.lanes:
                largest = int(max(data[t][:limit], default=-65536))
                outcome.same(due, int(at["largest"][due]), largest & 0x1FFFF, "largest")
            outcome.same(due, int(at["tag_o"][due]), int(at["tag"][t]), "tag_o")


class Exp2Reference(Pipeline):
    """`ops.softmax_row`, the row's largest score given."""

    planned_only: ClassVar[bool] = True

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        unit = self.unit
        most = ((1 << unit.sum_bits) - 1) // (127 * unit.lanes)  # words of a row
        found: dict[str, list[int]] = {
            name: [] for name in ("valid", "first", "last", "limit", "maximum", "data")
        }
        while len(found["valid"]) < cycles:
            words = int(random.integers(1, min(most, 6) + 1))
            spread = int(random.choice([40, 700, 5000, 65535]))
            largest = int(draw(random, 16, 1)[0])
            for k in range(words):
                while scenario % 2 and random.random() < 0.3:
                    for name, values in found.items():
                        values.append(0 if name == "valid" else (values or [0])[-1])
                scores = largest - random.integers(0, spread + 1, unit.lanes)
                limit = unit.lanes if random.random() < 0.6 else random.integers(0, unit.lanes + 1)
                row = (1, k == 0, k == words - 1, limit, largest & 0xFFFF,
                       side_by_side(scores.clip(-32768), 16))  # fmt: skip
                for name, value in zip(found, row, strict=True):
                    found[name].append(int(value))
        return {name: np.array(values[:cycles], dtype=object) for name, values in found.items()}

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit, at = self.unit, segment.values
        valid, first, last = (segment.bits(name) for name in ("valid", "first", "last"))
        delayed(segment, outcome, "p_valid", valid, unit.latency)
        delayed(segment, outcome, "sum_valid", valid & last, unit.sum_latency)
        data, total = rows(at["data"], 16, unit.lanes), 0
        for t in np.flatnonzero(valid).tolist():
            largest = lanes(int(at["maximum"][t]), 16, 1)
            p, _ = ops.softmax_row(np.concatenate([data[t], largest]))
            p = np.where(np.arange(unit.lanes) < int(at["limit"][t]), p[:-1], 0)
            total = int(p.sum()) + (0 if first[t] else total)
            if (due := t + unit.latency) < segment.cycles:
                outcome.same(due, int(at["p"][due]), side_by_side(p, 7), "p")
                outcome.same(due, int(at["p_tag"][due]), int(at["tag"][t]), "p_tag")
            if last[t] and (due := t + unit.sum_latency) < segment.cycles:
                outcome.same(due, int(at["sum"][due]), total, "sum")
                outcome.same(due, int(at["sum_tag"][due]), int(at["tag"][t]), "sum_tag")


class ReciprocalReference(Pipeline):
    """`ops.reciprocal`; multiplier and shift stay during a scenario."""

    planned_only: ClassVar[bool] = True

    def lengths(self, cycles: int) -> list[int]:
        return parts(cycles, 16)

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        multiplier = (1 << 14, (1 << 15) - 1, int(random.integers(1 << 14, 1 << 15)))[scenario % 3]
        total = draw(random, self.unit.total_bits, cycles, is_signed=False)
        return {
            "valid": _bits(random, cycles, 0.8), "total": np.maximum(total, 1).astype(object),
            "multiplier": np.full(cycles, multiplier, dtype=object),
            "shift": np.full(cycles, int(random.integers(1, 40)), dtype=object),
        }  # fmt: skip

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit, at = self.unit, segment.values
        valid = segment.bits("valid")
        delayed(segment, outcome, "valid_o", valid, unit.latency)
        for t in np.flatnonzero(valid[: -unit.latency]).tolist():
            due = t + unit.latency
            multiplier, shift = ops.reciprocal(
                int(at["total"][t]), int(at["multiplier"][t]), int(at["shift"][t])
            )
            outcome.same(due, int(at["multiplier_o"][due]), multiplier, "multiplier_o")
            outcome.same(due, int(at["shift_o"][due]), shift & 63, "shift_o")
            outcome.same(due, int(at["tag_o"][due]), int(at["tag"][t]), "tag_o")


class NormSumsReference(Pipeline):
    """Sums of a row and of its squares."""

    planned_only: ClassVar[bool] = True

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        unit = self.unit
        words = unit.width // unit.lanes
        valid = random.random(cycles) < (1.0, 0.7)[scenario % 2]
        number = np.maximum(np.cumsum(valid) - 1, 0)  # of the word
        x = draw(random, 16, cycles * unit.lanes).reshape(cycles, unit.lanes)
        extreme = random.choice([-32768, 32767, 0], number[-1] // words + 1)
        whole = random.random(extreme.size) < 0.3  # rows of nothing but extremes
        x = np.where(whole[number // words][:, None], extreme[number // words][:, None], x)
        return {
            "valid": valid.astype(int).astype(object), "x": _words(x, 16),
            "first": (number % words == 0).astype(int).astype(object),
            "last": (number % words == words - 1).astype(int).astype(object),
        }  # fmt: skip

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit, at = self.unit, segment.values
        valid, first, last = (segment.bits(name) for name in ("valid", "first", "last"))
        delayed(segment, outcome, "done", valid & last, unit.latency)
        x, row = rows(at["x"], 16, unit.lanes), []
        for t in np.flatnonzero(valid).tolist():
            row = [*([] if first[t] else row), *x[t].tolist()]
            if last[t] and (due := t + unit.latency) < segment.cycles:
                total = sum(row) & ((1 << unit.total_bits) - 1)
                if unit.centred:
                    outcome.same(due, int(at["total"][due]), total, "total")
                outcome.same(due, int(at["squares"][due]), sum(v * v for v in row), "squares")


class InverseRootReference(Pipeline):
    """`ops.rsqrt`; epsilon stays during a scenario."""

    planned_only: ClassVar[bool] = True

    def lengths(self, cycles: int) -> list[int]:
        return parts(cycles, 16)

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        unit = self.unit
        epsilon = 1 if scenario % 2 else 1 + anything(random, (1 << (1 + 7 * scenario // 2)) - 1)
        squares = draw(random, unit.squares_bits - 1, cycles, is_signed=False)
        found = {
            "valid": _bits(random, cycles, 0.8),
            "epsilon": np.full(cycles, epsilon, dtype=object),
        }
        if unit.centred:  # no larger than squares allow
            root = np.array([_root(unit.width * int(q)) for q in squares])
            most = (1 << (unit.total_bits - 1)) - 1
            total = np.minimum(root, most) - draw(random, 20, cycles, is_signed=False)
            total = np.maximum(total, 0) * random.choice([-1, 1], cycles)
            found["total"] = (total & ((1 << unit.total_bits) - 1)).astype(object)
        return found | {"squares": squares.astype(object)}

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit, at = self.unit, segment.values
        valid = segment.bits("valid")
        delayed(segment, outcome, "early", valid, unit.latency - 2)
        for t in np.flatnonzero(valid[: -unit.latency]).tolist():
            due, value = (
                t + unit.latency,
                unit.width * int(at["squares"][t]) + int(at["epsilon"][t]),
            )
            if unit.centred:
                total = int(lanes(int(at["total"][t]), unit.total_bits, 1)[0])
                value -= total * total
                outcome.same(due - 1, int(at["total_o"][due - 1]), int(at["total"][t]), "total_o")
            r, e = ops.rsqrt(value)
            outcome.same(due, int(at["r"][due]), r, "r")
            outcome.same(due, int(at["shift"][due]), 13 + e, "shift")


def _root(value: int) -> int:
    """The whole part of a square root."""
    return int(np.floor(np.sqrt(value) * (1 - 1e-12)))


class NormLanesReference(Pipeline):
    """`ops.affine` of words of rows that are normalised."""

    planned_only: ClassVar[bool] = True

    def lengths(self, cycles: int) -> list[int]:
        return parts(cycles, 8)

    def play(self, random: np.random.Generator, cycles: int, scenario: int) -> Columns:
        unit = self.unit
        x = np.zeros((cycles, unit.lanes), dtype=np.int64)
        r, shift, total = (np.zeros(cycles, dtype=np.int64) for _ in range(3))
        words = unit.width // unit.lanes
        for start in range(0, cycles, words):
            row = draw(random, 16, unit.width)
            if random.random() < 0.3:  # one number that stands out
                row = np.where(np.arange(unit.width) == random.integers(unit.width), 32767, -32768)
            s, squares = int(row.sum()), int((row * row).sum())
            value = unit.width * squares - (s * s if unit.centred else 0) + 1
            stop = min(cycles, start + words)
            x[start:stop] = row.reshape(-1, unit.lanes)[: stop - start]
            root, e = ops.rsqrt(value)
            r[start:stop], shift[start:stop], total[start:stop] = root, 13 + e, s
        half = 16 * unit.lanes
        gamma, beta = (draw(random, 16, cycles * unit.lanes).reshape(cycles, -1) for _ in range(2))
        both = np.stack([gamma, beta], axis=2).reshape(cycles, -1) if unit.centred else gamma
        found = {
            "valid": _bits(random, cycles, 0.8), "x": _words(x, 16),
            "r": np.roll(r, 1).astype(object), "shift": np.roll(shift, 1).astype(object),
            "parameters": _words(both, 16),
            "gamma_shift": np.full(cycles, int(random.integers(0, 16)), dtype=object),
        }  # fmt: skip
        assert both.shape[1] * 16 in (half, 2 * half)
        if unit.centred:
            found["total"] = (total & ((1 << unit.total_bits) - 1)).astype(object)
        return found

    def results(self, segment: Segment, outcome: Outcome) -> None:
        unit, at = self.unit, segment.values
        x = rows(at["x"], 16, unit.lanes)
        for t in np.flatnonzero(segment.bits("valid")[: -unit.latency]).tolist():
            due = t + unit.latency
            given = int(at["parameters"][t + unit.parameters_at])
            numbers = lanes(given, 16, unit.lanes * (2 if unit.centred else 1))
            gamma, beta = (numbers[::2], numbers[1::2]) if unit.centred else (numbers, 0)
            total = int(lanes(int(at["total"][t]), unit.total_bits, 1)[0]) if unit.centred else 0
            y = ops.affine(
                unit.width * x[t] - total, int(at["r"][t + 1]), int(at["shift"][t + 1]) - 13,
                gamma, beta, int(at["gamma_shift"][t]),
            )  # fmt: skip
            outcome.same(due, int(at["y"][due]), side_by_side(y, 8), "y")
