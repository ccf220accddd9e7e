# SPDX-License-Identifier: Apache-2.0
"""Cycle counters of each step, readable while and after a run."""

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from hw.unit import Unit

__all__ = ["EVENTS", "PIM_EVENTS", "EventCounters", "StepCounters"]

EVENTS = ("cycles", "beats", "starved", "blocked", "waiting")
"""What is counted: all cycles of a step, engine beats, and beats that were not issued because a ring had no
data, because the engine was full, or because the softmax was not ready."""


PIM_EVENTS = ("opened", "multiplied", "written", "refreshed")
"""What is counted of the first PIM channel: activations for its multipliers, products (composite commands), bursts
written, refreshes."""


class EventCounters(Unit):
    """One 32-bit counter for each of some events, cleared by ``clear``.

    Members
    -------
    clear : pulse
    events : one bit for each
    values : counters
    """

    def __init__(self, events: int) -> None:
        self._events = events
        super().__init__(
            {"clear": In(1), "events": In(events), "values": Out(32 * events)}, {"n": events}
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        counters = [Signal(32, name=f"event{k}") for k in range(self._events)]
        for k, counter in enumerate(counters):
            with m.If(self.clear):
                m.d.sync += counter.eq(0)
            with m.Elif(self.events[k]):
                m.d.sync += counter.eq(counter + 1)
        m.d.comb += self.values.eq(Cat(counters))
        return m


class StepCounters(Unit):
    """One 32-bit counter for each step and event, cleared by ``clear``.

    Members
    -------
    clear : pulse
    step : index of the running step
    events : one bit for each of :data:`EVENTS`
    values : counters, event index fastest
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        super().__init__(
            {
                "clear": In(1),
                "step": In(8),
                "events": In(len(EVENTS)),
                "values": Out(32 * len(EVENTS) * steps),
            },
            {"n": steps},
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        counters = [
            [Signal(32, name=f"step{s}_{event}") for event in EVENTS] for s in range(self._steps)
        ]
        for s, row in enumerate(counters):
            for k, counter in enumerate(row):
                with m.If(self.clear):
                    m.d.sync += counter.eq(0)
                with m.Elif((self.step == s) & self.events[k]):
                    m.d.sync += counter.eq(counter + 1)
        m.d.comb += self.values.eq(Cat(*(counter for row in counters for counter in row)))
        return m
