# SPDX-License-Identifier: Apache-2.0
"""Which designs no other one beats."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["front", "spread"]


def front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other one beats: as good in all, better in one; less is better.

    Of equal points the first one stays. In the order of their first number, then the others.
    """
    order = sorted(range(len(points)), key=lambda i: (*points[i], i))
    found: list[int] = []
    for i in order:  # whoever beats a point comes before it
        if not any(all(a <= b for a, b in zip(points[j], points[i], strict=True)) for j in found):
            found.append(i)
    return found


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of them, evenly from the first to the last."""
    if count >= len(indices):
        return list(indices)
    if count <= 1:
        return list(indices[:count])
    last = len(indices) - 1
    return [indices[round(k * last / (count - 1))] for k in range(count)]
