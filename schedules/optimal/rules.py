# SPDX-License-Identifier: Apache-2.0
"""Rules that every solver and the check share, because they define the problem."""

from __future__ import annotations

from collections.abc import Mapping

from schedules.optimal.instance import Edge, Instance, Mode

__all__ = ["gates", "held", "streams"]


def streams(producer: Mode, consumer: Mode) -> bool:
    """Whether a stream may connect the two: equal orders, and no unit has both."""
    same = producer.makes == consumer.takes != ""
    return same and not set(producer.units) & set(consumer.units)


def gates(
    instance: Instance, starts: Mapping[str, int], streamed: Mapping[Edge, bool]
) -> dict[str, int]:
    """From when each task can work without being held up: it, and all that its results stream on to, have started."""
    found: dict[str, int] = {}
    for name in reversed([n for n in instance.order if n in starts]):
        after = [
            found[e.to] for e in instance.edges_from(name) if streamed.get(e) and e.to in found
        ]
        found[name] = max([starts[name], *after])
    return found


def held(instance: Instance, edge: Edge, mode: Mode) -> int:
    """Cycles that the source of a stream, in a mode, still works after the gate of its reader.

    Before that it has made its first piece, and what this stream and the reader's own hold.
    """
    on = max(
        (e.slack(mode.cycles) for e in instance.edges_from(edge.to) if "stream" in e.places),
        default=0,
    )
    return max(0, mode.cycles - mode.first - edge.slack(mode.cycles) - on)
