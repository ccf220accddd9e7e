"""Rules that every solver and the check share, because they define the problem."""

from __future__ import annotations

from schedules.optimal.instance import Mode

__all__ = ["streams"]


def streams(producer: Mode, consumer: Mode) -> bool:
    """Whether a stream may connect the two: equal orders, and no unit has both."""
    same = producer.makes == consumer.takes != ""
    return same and not set(producer.units) & set(consumer.units)
