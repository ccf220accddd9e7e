# SPDX-License-Identifier: Apache-2.0
"""Stimuli that keep to what is assumed of the inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.verify.evaluate import Trace, Values, judge
from sim.verify.properties import Property
from sim.verify.stimulus import PICK, Stimulus
from sim.verify.subject import Subject

__all__ = ["respecting"]

_TRIES = 8


def respecting(
    subject: Subject, stimulus: Stimulus, assumed: Sequence[Property]
) -> tuple[Stimulus, list[str]]:
    """A stimulus in which cycles that break an assumption repeat the cycle before, or an idle one.

    Returns
    -------
    (Stimulus, list of str)
        And the names of assumptions that it still breaks.
    """
    if not assumed:
        return stimulus, []
    words, names = stimulus.words.copy(), set(stimulus.names)
    fixed = _reset_words(subject, stimulus)
    broken: list[str] = []
    for attempt in range(_TRIES):
        trace = _as_trace(subject, Stimulus(stimulus.names, words))
        outcomes = {
            p.name: judge(p, trace).bad
            for p in assumed
            if p.body.signals - {"after_reset"} <= names
        }
        broken = [name for name, bad in outcomes.items() if bad.any()]
        if not broken:
            break
        for bad in outcomes.values():
            for t in np.flatnonzero(bad).tolist():
                kept = words[t, fixed].copy()
                words[t] = words[t - 1] if t and attempt < _TRIES // 2 else 0
                words[t, fixed] = kept
    return Stimulus(stimulus.names, words), broken


def _columns(subject: Subject, stimulus: Stimulus) -> dict[str, tuple[int, int]]:
    """First word and width of each input."""
    widths = {p.name: p.width for p in subject.ports} | {PICK: 1}
    found, at = {}, 0
    for name in stimulus.names:
        found[name] = (at, widths[name])
        at += -(-widths[name] // 32)
    return found


def _reset_words(subject: Subject, stimulus: Stimulus) -> list[int]:
    columns = _columns(subject, stimulus)
    return [
        columns[n][0] for n in (PICK, subject.reset.name if subject.reset else PICK) if n in columns
    ]


def _as_trace(subject: Subject, stimulus: Stimulus) -> Trace:
    values: dict[str, Values] = {}
    widths = {}
    for name, (at, width) in _columns(subject, stimulus).items():
        value: Values = np.zeros(stimulus.cycles, dtype=object)
        for k in range(-(-width // 32)):
            value = value | (stimulus.words[:, at + k].astype(object) << (32 * k))
        values[name] = value if width > 63 else value.astype(np.uint64)
        widths[name] = width
    reset = np.zeros(stimulus.cycles, dtype=bool)
    if subject.reset:
        reset = values[subject.reset.name] == subject.reset.level
    return Trace(values, widths, reset.astype(bool), values[PICK].astype(bool))
