# SPDX-License-Identifier: Apache-2.0
"""The model of a memory port against a memory that is stepped cycle by cycle."""

import random
from collections import deque
from fractions import Fraction

import pytest

from schedules.errors import ScheduleError
from schedules.machine import Machine
from schedules.port import Port


def stepped(
    machine: Machine,
    descriptors: list[tuple[str, int, int, int]],
    releases: list[tuple[str, int, int]],
    end: int,
) -> dict[str, list[int]]:
    """Cycles in which beats are complete, by a simulation of every cycle."""
    order = [name for name, _ in machine.clients]
    free = {name: c.words for name, c in machine.clients}
    queues: dict[str, deque] = {name: deque() for name in order}
    words = dict.fromkeys(order, 0)
    beats: dict[str, list[int]] = {name: [] for name in order}
    memory: deque[list] = deque()
    address: tuple[str, int] | None = None
    flying = requested = received = 0
    given = Fraction(0)
    period = Fraction(machine.port_bytes) / machine.port_rate
    offered = dict.fromkeys(order, 0)
    for cycle in range(end):
        for name, at, word, count in descriptors:
            if at == cycle:
                queues[name].append([at + machine.request_latency - 1, word, count])
        flying = requested - received  # as registers show it in this cycle
        taken = None
        accepts = len(memory) < machine.memory_outstanding
        if address is None or accepts:
            for name in order:
                client, queue = machine.client(name), queues[name]
                if not queue or queue[0][0] > cycle or offered[name] > cycle:
                    continue
                burst = min(queue[0][2], client.burst - queue[0][1] % client.burst)
                if burst <= free[name] and (client.flight is None or flying < client.flight):
                    taken = (name, burst)
                    break
        if address is not None and accepts:
            memory.append([cycle + machine.memory_latency, *address])
            address = None
        if memory and memory[0][0] <= cycle and given <= cycle:
            given = max(given, Fraction(memory[0][0])) + period
            name = memory[0][1]
            memory[0][2] -= 1
            received += 1
            words[name] += 1
            if words[name] % (1 if name == "e" else machine.beat_words) == 0:
                beats[name].append(cycle)
            if memory[0][2] == 0:
                memory.popleft()
        if taken is not None:
            name, burst = taken
            free[name] -= burst
            requested += burst
            offered[name] = cycle + 1
            queue = queues[name]
            queue[0][1] += burst
            queue[0][2] -= burst
            if not queue[0][2]:
                queue.popleft()
            address = taken
        for name, at, count in releases:
            if at == cycle:
                free[name] += count * (1 if name == "e" else machine.beat_words)
    return beats


@pytest.mark.parametrize("seed", range(12))
def test_equals_a_stepped_memory(seed: int, make_machine) -> None:
    draw = random.Random(seed)
    machine = make_machine(
        memory_latency=draw.choice([1, 20, 64]), port_rate=Fraction(16) / draw.choice([1, 1, 2])
    )
    descriptors = [
        (draw.choice("kvw"), draw.randrange(200), draw.randrange(40), 4 * draw.randint(1, 60))
        for _ in range(8)
    ]
    descriptors.sort(key=lambda d: d[1])
    expected = stepped(machine, descriptors, [], 5000)
    port = Port(machine)
    for name, cycle, word, count in descriptors:
        port.read(name, cycle, word, count)
    for name, cycles in expected.items():
        found = [port.arrival(name, beat) for beat in range(len(cycles))]
        assert found == cycles


def test_ring_that_is_freed(make_machine) -> None:
    """A ring of 64 beats, released beat by beat: requests wait for room."""
    machine = make_machine()
    releases = [("w", 200 + 7 * k, 1) for k in range(300)]
    expected = stepped(machine, [("w", 5, 0, 1200)], releases, 4000)["w"]
    port = Port(machine)
    port.read("w", 5, 0, 1200)
    for name, cycle, count in releases:
        port.release(name, cycle, count)
    assert [port.arrival("w", beat) for beat in range(300)] == expected


def test_stands_still_without_room(make_machine) -> None:
    port = Port(make_machine())
    port.read("w", 0, 0, 1200)
    port.arrival("w", 63)
    with pytest.raises(
        ScheduleError, match="Prefetcher w stands still: beat 64 of it never arrives"
    ):
        port.arrival("w", 64)


class TestWrites:
    def test_answer(self, make_machine) -> None:
        machine = make_machine()
        port = Port(machine)
        assert port.quiet() == 0
        assert port.write(range(1), 100) == 100
        # Address, word, answer, and the counter of open writes.
        assert port.quiet() == 100 + machine.write_latency + 1 + machine.memory_latency + 1

    def test_so_many_are_open(self, make_machine) -> None:
        machine = make_machine(writes=4)
        port = Port(machine)
        taken = [port.write(range(1), 10 + k) for k in range(6)]
        assert taken[:4] == [10, 11, 12, 13]
        assert taken[4] == 10 + machine.write_latency + 1 + machine.memory_latency + 1

    def test_reads_go_first(self, make_machine) -> None:
        machine = make_machine()
        port = Port(machine)
        port.read("w", 0, 0, 256)
        end = port.arrival("w", 63)
        port.write(range(1), 30)
        assert port.quiet() > end + machine.memory_latency

    def test_fetch_waits_for_answers(self, make_machine) -> None:
        machine = make_machine()
        port = Port(machine)
        port.write(range(1), 100)
        port.fetch(0, [("k", [0], 4)])
        assert (
            port.arrival("k", 0)
            == port.quiet() + 1 + machine.request_latency + machine.memory_latency + 3
        )
