# SPDX-License-Identifier: Apache-2.0
"""A layer to look at: its stages and channels for Perfetto or Chrome, and the commands of one channel."""

import json

import numpy as np

from designs.errors import DesignError
from sim.pim import trace
from sim.pim.play import commands
from sim.pim.system import Design, attention, layer_time
from sim.pim.workload import Decoder

__all__ = ["slowest_channel", "timeline"]


def slowest_channel(design: Design, model: Decoder, lengths: np.ndarray) -> str:
    """Commands of the channel that is done last, as :mod:`sim.pim.trace` writes them.

    Raises
    ------
    DesignError
        If the memory of the design does not compute.
    """
    if design.channel is None:
        raise DesignError(f"The memory of {design.name} does not compute: it gets no commands")
    found = attention(design, model, lengths)
    slowest = int(np.argmax(found.channels))
    return trace.write(*commands(design, model, lengths[found.places == slowest].tolist()))


def timeline(design: Design, model: Decoder, lengths: np.ndarray) -> str:
    """Chrome's JSON; a cycle is a nanosecond."""
    layer = layer_time(design, model, lengths)
    events: list[dict[str, object]] = []

    def span(name: str, thread: str, start: float, length: float) -> None:
        events.append({"name": name, "ph": "X", "pid": design.name, "tid": thread,
                       "ts": round(start / 1000, 4), "dur": round(length / 1000, 4)})  # fmt: skip

    now = 0.0
    order = np.argsort(-lengths, kind="stable")
    halves = {"c": lengths[order[1::2]], "d": lengths[order[0::2]]}
    for name, cycles in layer.stages.items():
        served = lengths if name == "attention" else halves.get(name)
        if name != "attention":
            span(name, "NPU", now, cycles)
        if served is not None and design.channel is not None:
            found = attention(design, model, served, shared=name != "attention")
            for i, end in enumerate(found.channels):
                span(f"attention of {len(served)} requests", f"channel {i:02}", now, float(end))
        now += cycles
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}, indent=1) + "\n"
