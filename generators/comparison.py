# SPDX-License-Identifier: Apache-2.0
"""Two builds side by side: the figures of their reports that a choice between them rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from generators.report_facts import Point, Report

__all__ = ["Row", "compare"]


@dataclass(frozen=True)
class Row:
    """A figure of both builds.

    Attributes
    ----------
    name, unit : what it is.
    one, two : its values; None where a build has none.
    """

    name: str
    unit: str
    one: float | None
    two: float | None

    @property
    def ratio(self) -> float | None:
        """The second over the first; None where one of them is missing or 0."""
        return self.two / self.one if self.one and self.two is not None else None


def compare(one: Report, two: Report) -> list[Row]:
    """Speed at the lengths that both reports have, memory, multipliers and resources.

    Builds may be of different models, targets and engines; a resource that only one target knows is None in the other.
    """
    rows = [
        Row("products a cycle", "", one.lanes, two.lanes),
        Row("clock", "MHz", one.clock_mhz, two.clock_mhz),
    ]
    rows += _points("prompt of", one.prefill, two.prefill, "tokens")
    rows += _points("one token at", one.decode, two.decode, "context")
    rows += [
        Row("weights in memory", "B", one.memory.weight_stream_bytes, two.memory.weight_stream_bytes),
        Row("keys and values of a token", "B", one.memory.kv_bytes_per_token, two.memory.kv_bytes_per_token),
        Row("memory port bytes", "B/cycle", one.memory.bytes_per_cycle, two.memory.bytes_per_cycle),
        Row("buffers on the chip", "B", *(sum(b.bytes for b in r.buffers) for r in (one, two))),
    ]  # fmt: skip
    kinds = [one.resources.used, two.resources.used]
    for kind in dict.fromkeys([*kinds[0], *kinds[1]]):
        rows.append(Row(kind.upper(), "", *(used.get(kind) for used in kinds)))
    return rows


def _points(
    what: str, one: tuple[Point, ...], two: tuple[Point, ...], length: str
) -> Iterator[Row]:
    others = {getattr(point, length): point for point in two}
    for point in one:
        size = getattr(point, length)
        if size in others:
            other = others[size]
            yield Row(f"{what} {size:,}", "cycles", point.cycles, other.cycles)
            yield Row(f"{what} {size:,}", "ms", 1e3 * point.seconds, 1e3 * other.seconds)
