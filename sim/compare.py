# SPDX-License-Identifier: Apache-2.0
"""What the probes saw beside what the golden model computed: every tensor of every pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.golden.ops import Ints

__all__ = [
    "Comparison",
    "Expected",
    "Mismatch",
    "Pass",
    "Place",
    "compare",
    "compare_arrays",
    "places",
    "read_log",
    "record_type",
]

Records = NDArray[Any]

RESIDUAL, ACTIVATION, KEY_VALUE, TOKEN = range(4)
"""Unit ids of the probes, see ``hw/probe.py``."""


@dataclass(frozen=True)
class Place:
    """Where a tensor is seen: the phase that writes it, and the probe it passes."""

    phase: str
    unit: int
    tensor: str
    in_layer: bool = True


PLACES = (
    Place("embed", RESIDUAL, "embed", in_layer=False),
    Place("ln_1", ACTIVATION, "ln_1"),
    Place("k", KEY_VALUE, "k"),
    Place("v", KEY_VALUE, "v"),
    Place("q", ACTIVATION, "q"),
    Place("attention", ACTIVATION, "context"),
    Place("proj", RESIDUAL, "residual_1"),
    Place("ln_2", ACTIVATION, "ln_2"),
    Place("fc1", ACTIVATION, "hidden"),
    Place("fc2", RESIDUAL, "residual_2"),
    Place("ln_f", ACTIVATION, "ln_f", in_layer=False),
    Place("lm_head", TOKEN, "token", in_layer=False),
)


def places() -> dict[str, Place]:
    """Every tensor that a probe sees, by the golden model's name."""
    return {place.tensor: place for place in PLACES}


# ---- What should be there ------------------------------------------------------------------------


@dataclass
class Pass:
    """The tensors of one pass by (layer, name), in the order in which they are computed."""

    tensors: dict[tuple[int, str], Ints] = field(default_factory=dict)


class Expected:
    """Collects what the golden model computes: hand it over as ``observe``."""

    def __init__(self) -> None:
        self.passes: list[Pass] = []
        self._known = places()

    def __call__(self, layer: int, name: str, value: Ints) -> None:
        if name == "embed":
            self.passes.append(Pass())
        if name in self._known:
            self.passes[-1].tensors[layer, name] = np.array(value)


# ---- What was there ------------------------------------------------------------------------------


def record_type(bits: int) -> np.dtype[Any]:
    """A record of a probe of ``bits`` bits (``sim/cpp/probe.h``)."""
    return np.dtype(
        [
            ("cycle", "<i8"),
            ("row", "<u2"),
            ("chunk", "<u2"),
            ("unit", "u1"),
            ("phase", "u1"),
            ("layer", "u1"),
            ("zero", "u1"),
            ("data", "u1", (-(-bits // 8),)),
        ]
    )


def read_log(folder: Path, unit: int) -> Records:
    """All records of one unit, in the order in which they were made; none if it was never seen."""
    for path in sorted(folder.glob("*.bin"), key=lambda path: int(path.stem)):
        kind = record_type(int(path.stem))
        records = np.fromfile(path, kind, count=path.stat().st_size // kind.itemsize)
        found = records[records["unit"] == unit]
        if len(found):
            return found
    return np.zeros(0, record_type(32))


@dataclass(frozen=True)
class Mismatch:
    """The first thing that differs.

    Parameters
    ----------
    tensor : with its layer, such as ``"h.0.q"``.
    index : of the element.
    expected, got : its values; got is None if it was never written.
    cycle : since the start; -1 if it was never written.
    pass_index : which pass.
    more : how many other elements of the same tensor differ.
    note : what is wrong, if it is not the value.
    """

    tensor: str
    index: tuple[int, ...]
    expected: int | None
    got: int | None
    cycle: int
    pass_index: int
    more: int = 0
    note: str = ""

    def __str__(self) -> str:
        where = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        text = f"pass {self.pass_index}, {self.tensor}{where}: "
        if self.note:
            text += self.note
        elif self.got is None:
            text += f"expected {self.expected}, never written"
        else:
            text += f"expected {self.expected}, got {self.got}"
        text += f" at cycle {self.cycle}" if self.cycle >= 0 else ""
        return text + (f" (and {self.more} more of this tensor)" if self.more else "")


@dataclass(frozen=True)
class Comparison:
    """How many values were compared, and the first that differed."""

    values: int
    tensors: int
    mismatch: Mismatch | None


def compare(
    folder: Path, expected: Sequence[Pass], phases: Sequence[str], lanes: int
) -> Comparison:
    """Compare the log of a run with the golden model.

    Parameters
    ----------
    folder : of the log.
    expected : the passes, in order.
    phases : names of the phases, as the probes number them.
    lanes : R, features of a word.

    Returns
    -------
    Comparison
        Its mismatch is in the first tensor that differs, in the order of computation; in it, the
        element that was written first.
    """
    log = _Log(folder, phases)
    values = tensors = 0
    for index, one in enumerate(expected):
        for (layer, name), wanted in one.tensors.items():
            found = _compare_tensor(log.of(index, layer, name), wanted, name, lanes)
            values += wanted.size
            tensors += 1
            if found is not None:
                full = f"h.{layer}.{name}" if places()[name].in_layer else name
                mismatch = Mismatch(full, *found[:4], index, *found[4:])
                return Comparison(values, tensors, mismatch)
    if log.passes > len(expected):
        note = f"{log.passes} passes were run, expected {len(expected)}"
        cycle = log.starts[len(expected)]
        extra = Mismatch("embed", (), None, None, int(cycle), len(expected), note=note)
        return Comparison(values, tensors, extra)
    return Comparison(values, tensors, None)


class _Log:
    """The records of a run, cut into passes: each begins with the first word of the embedding."""

    def __init__(self, folder: Path, phases: Sequence[str]) -> None:
        self._number = {name: index for index, name in enumerate(phases)}
        units = {unit: read_log(folder, unit) for unit in (RESIDUAL, ACTIVATION, KEY_VALUE, TOKEN)}
        words = units[RESIDUAL]
        first = (
            (words["phase"] == self._number["embed"]) & (words["row"] == 0) & (words["chunk"] == 0)
        )
        self.starts = words["cycle"][first]
        bounds = {unit: np.searchsorted(r["cycle"], self.starts) for unit, r in units.items()}
        self._cut = {unit: np.split(records, bounds[unit])[1:] for unit, records in units.items()}

    @property
    def passes(self) -> int:
        return len(self.starts)

    def of(self, index: int, layer: int, tensor: str) -> Records:
        """The records of one tensor of one pass."""
        place = places()[tensor]
        if index >= self.passes or place.phase not in self._number:
            return np.zeros(0, record_type(32))
        records = self._cut[place.unit][index]
        chosen = records["phase"] == self._number[place.phase]
        if place.in_layer:
            chosen &= records["layer"] == layer
        return records[chosen]


_Found = tuple[tuple[int, ...], int | None, int | None, int, int, str]
"""Index, expected, got, cycle, more, note."""


def _compare_tensor(records: Records, wanted: Ints, name: str, lanes: int) -> _Found | None:
    place = places()[name]
    if place.unit == TOKEN:
        return _compare_token(records, int(wanted))
    words = _words(records, 2 if place.unit == RESIDUAL else 1, lanes)
    if words is None:
        bits = records["data"].shape[1] * 8
        return (
            (),
            None,
            None,
            int(records["cycle"][0]),
            0,
            f"words of {bits} bits, not of {lanes} lanes",
        )
    row, chunk = records["row"].astype(np.int64), records["chunk"].astype(np.int64)
    if name == "ln_f" and len(row):  # only the last token goes on to the head
        last = row == row.max()
        words, records, row, chunk = words[last], records[last], row[last] * 0, chunk[last]
    rows, features = wanted.shape
    chunks = -(-features // lanes)
    outside = np.flatnonzero((row >= rows) | (chunk >= chunks))
    if len(outside):
        k = outside[0]
        note = f"a word at row {row[k]}, chunk {chunk[k]} of {rows} rows, {chunks} chunks"
        return (int(row[k]), int(chunk[k]) * lanes), None, None, int(records["cycle"][k]), 0, note
    got = np.zeros((rows, chunks, lanes), np.int64)
    cycle = np.full((rows, chunks), -1, np.int64)
    times = np.zeros((rows, chunks), np.int64)
    got[row[::-1], chunk[::-1]] = words[::-1]  # the first write of a word counts
    cycle[row[::-1], chunk[::-1]] = records["cycle"][::-1]
    np.add.at(times, (row, chunk), 1)
    flat = got.reshape(rows, -1)[:, :features]
    when = np.repeat(cycle, lanes, axis=1)[:, :features]
    wrong = (flat != wanted) | (when < 0)
    if wrong.any():
        order = np.where(
            wrong, np.where(when < 0, np.iinfo(np.int64).max, when), np.iinfo(np.int64).max
        )
        at = np.unravel_index(int(order.argmin()), order.shape)
        if not wrong[at]:  # nothing was written wrongly, but something was not written
            at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        missing = when[at] < 0
        index = tuple(int(i) for i in at)
        return (
            index,
            int(wanted[at]),
            None if missing else int(flat[at]),
            int(when[at]),
            int(wrong.sum()) - 1,
            "",
        )
    if (times > 1).any():
        at = np.unravel_index(int((times > 1).argmax()), times.shape)
        note = f"written {times[at]} times"
        return (int(at[0]), int(at[1]) * lanes), None, None, int(cycle[at]), 0, note
    return None


def _compare_token(records: Records, wanted: int) -> _Found | None:
    if not len(records):
        return (), wanted, None, -1, 0, ""
    got = records["data"][:, :4].copy().view("<u4")[:, 0].astype(np.int64)
    cycle = int(records["cycle"][0])
    if len(records) > 1:
        return (), None, None, cycle, 0, f"chosen {len(records)} times in one pass"
    return None if got[0] == wanted else ((), wanted, int(got[0]), cycle, 0, "")


def _words(records: Records, size: int, lanes: int) -> Ints | None:
    """Signed words of ``size`` bytes, [n, lanes]; None if the records are of another width."""
    if not len(records):
        return np.zeros((0, lanes), np.int64)
    data = records["data"]
    if data.shape[1] != size * lanes:
        return None
    return np.ascontiguousarray(data).view(f"<i{size}").astype(np.int64)


def compare_arrays(
    tensor: str, got: NDArray[np.integer], wanted: NDArray[np.integer], note: str
) -> Iterator[str]:
    """One sentence if two arrays differ, about the first element that does."""
    wrong = got.astype(np.int64) != wanted.astype(np.int64)
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), wrong.shape)
        more = f" (and {int(wrong.sum()) - 1} more of this tensor)" if wrong.sum() > 1 else ""
        index = ", ".join(str(int(i)) for i in at)
        yield f"{tensor}[{index}] {note}: expected {int(wanted[at])}, got {int(got[at])}{more}"
