# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: which matrices get better formats, under a budget of bytes.

A stream of one format carries matrices of better ones as several terms (``docs/weight_format.md``,
section 4). What a better format gains is measured: the error of each matrix's outputs, over the sample
of its inputs that calibration kept. The most error per byte goes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from designs.cards import ModelCard
from designs.errors import DesignError
from designs.quantised import Ranges
from designs.weight_format import INT8, WeightFormat
from generators.compress import Compression, cost, matrices
from generators.quantise import quantise

__all__ = ["better_formats", "choose"]


def better_formats(stream: WeightFormat) -> list[WeightFormat]:
    """What a matrix may have instead of the format of its stream, by the beats that it takes."""
    dense = WeightFormat(stream.bits, stream.group)
    sparse = replace(stream, bits=8, group=0)
    blocks = replace(dense, block=stream.block, keep=stream.keep)
    found = {form: cost(form, stream) for form in (dense, sparse, blocks, INT8)}
    least = cost(stream, stream)
    return sorted((f for f, each in found.items() if each > least), key=lambda f: found[f])


def choose(
    weights: Mapping[str, NDArray[Any]],
    card: ModelCard,
    ranges: Ranges,
    compression: Compression,
    budget: float,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> Compression:
    """Give better formats to the matrices that gain most, as long as the budget lasts.

    Parameters
    ----------
    weights, card, ranges : as ``generators.quantise.quantise`` takes them.
    compression : the stream, the method, and formats of matrices that are not to choose.
    budget : bits that a weight may take on average, indices and factors included.
    progress : told how many formats are measured, of how many.

    Raises
    ------
    DesignError
        If the stream alone takes more than the budget.
    """
    stream = compression.stream
    forms = [stream, *better_formats(stream)]
    errors: list[dict[str, float]] = []
    sizes: dict[str, int] = {}
    for index, form in enumerate(forms):
        found: dict[str, float] = {}
        tensors = (
            {**_everywhere(sizes, form), **compression.tensors} if index else compression.tensors
        )
        model = quantise(
            weights, card, ranges, compression=replace(compression, tensors=tensors), errors=found,
            lazy=True,
        )  # fmt: skip
        sizes = {}
        for name, part in matrices(model):
            called = _named(name)
            sizes[called] = sizes.get(called, 0) + part.weight.size
            if called != name:
                found[called] += found.pop(name)
        errors.append(found)
        progress(index + 1, len(forms))
    each = stream.bits_per_weight() / cost(stream, stream)
    beats = {name: size * cost(compression.of(name), stream) for name, size in sizes.items()}
    room = budget * sum(sizes.values()) / each - sum(beats.values())
    if room < 0:
        least = each * sum(beats.values()) / sum(sizes.values())
        raise DesignError(
            f"a budget of {budget:g} bits a weight is not enough for {compression.formats()}: "
            f"it takes {least:.3f}"
        )
    fixed = {name for name in sizes if compression.of(name) != stream}
    chosen: dict[str, int] = {}
    queue: list[tuple[float, str, int]] = []

    def offer(name: str) -> None:
        """The best step that a matrix can go on by: most error per byte."""
        now = chosen.get(name, 0)
        steps = []
        for index in range(now + 1, len(forms)):
            more = sizes[name] * (cost(forms[index], stream) - cost(forms[now], stream))
            if more > 0:
                steps.append(((errors[index][name] - errors[now][name]) / more, name, index))
        if steps and min(steps)[0] < 0:
            heapq.heappush(queue, min(steps))

    for name in sizes:
        if name not in fixed:
            offer(name)
    while queue:
        _, name, index = heapq.heappop(queue)
        now = chosen.get(name, 0)
        more = sizes[name] * (cost(forms[index], stream) - cost(forms[now], stream))
        if more <= room:
            room -= more
            chosen[name] = index
            offer(name)
    picked = {name: forms[index] for name, index in chosen.items()}
    ordered = {name: picked[name] for name in sizes if name in picked}
    return replace(compression, tensors={**compression.tensors, **ordered})


def _named(name: str) -> str:
    """The matrix by whose name a format is chosen: ``up`` goes with ``fc1``."""
    return name.removesuffix("up") + "fc1" if name.endswith(".up") else name


def _everywhere(sizes: Mapping[str, int], form: WeightFormat) -> dict[str, WeightFormat]:
    return dict.fromkeys(sizes, form)
