"""A layer as a trace for Perfetto or Chrome: the NPU's stages, and the channels beside them."""

import json

import numpy as np

from sim.pim.system import Design, attention, layer_time
from sim.pim.workload import Decoder

__all__ = ["timeline"]


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
