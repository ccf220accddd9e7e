# SPDX-License-Identifier: Apache-2.0
"""One run of a compiled simulator: the job it gets, and what it says while it runs."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.built import Simulated, base_address
from sim.errors import SimulationError, ToolError
from sim.processes import started

__all__ = ["Event", "Job", "Outcome", "execute"]

Event = dict[str, Any]
"""A line of the simulator: ``event`` is ``progress``, ``token``, ``error`` or ``end``."""


@dataclass(frozen=True)
class Job:
    """What a run has to do; ``sim/cpp/job.h`` reads its text.

    Parameters
    ----------
    built : the design, its memory and its timing.
    image : file that fills the memory from its start; None leaves it empty.
    pokes : ``(byte, file)`` copied into the memory on top of that.
    dumps : ``(byte, bytes, file)`` written from the memory at the end.
    writes : registers in order, before the start (the base addresses are added).
    reads : registers by name, after the end.
    writable : stripes ``(first, end)`` that the accelerator may write; anything if empty.
    tokens : stripes ``(first, end)`` where a written word is a token, and the stripe of position 0.
    count : stripes whose reading is progress.
    probes : folder for the log of the probes.
    waves : file for a waveform.
    fill : byte in memory that nothing else fills.
    idle_limit : cycles without a transfer after which it hangs.
    """

    built: Simulated
    image: Path | None = None
    pokes: Sequence[tuple[int, Path]] = ()
    dumps: Sequence[tuple[int, int, Path]] = ()
    writes: Sequence[tuple[int, int]] = ()
    reads: dict[str, int] = field(default_factory=dict)
    writable: Sequence[tuple[int, int]] = ()
    tokens: tuple[int, int, int] = (0, 0, 0)
    count: tuple[int, int] = (0, 0)
    probes: Path | None = None
    waves: Path | None = None
    fill: int = 0
    seed: int = 1
    poll: int = 256
    idle_limit: int = 1_000_000
    cycle_limit: int | None = None

    def text(self) -> str:
        """The job file."""
        built, timing = self.built, self.built.timing
        share = timing.bytes_per_cycle
        lines: list[object] = [
            f"stripes {_whole_pages(built.stripes, built.port_bytes)}",
            f"fill {self.fill}",
            f"latency {timing.latency_cycles}",
            f"bandwidth {share.numerator} {share.denominator}",
            f"outstanding {timing.outstanding}",
            f"stalls {timing.stall_percent} {self.seed}",
            f"tokens {self.tokens[0]} {self.tokens[1]} {self.tokens[2]}",
            f"count {self.count[0]} {self.count[1]}",
            f"seed {self.seed}",
            f"poll {self.poll}",
            f"idle_limit {self.idle_limit}",
        ]
        for port in range(built.ports):
            base = base_address(port)
            at = built.registers.get(f"memory_{port}", 0x80 + 12 * port)
            lines.append(f"base {base}")
            lines += [f"write {at} {base & 0xFFFFFFFF}", f"write {at + 4} {base >> 32}"]
        lines += [f"write {at} {value & 0xFFFFFFFF}" for at, value in self.writes]
        lines += [f"read {at} {name}" for name, at in self.reads.items()]
        lines += [f"writable {first} {end}" for first, end in self.writable]
        lines += [f"poke {at} {path}" for at, path in self.pokes]
        lines += [f"dump {at} {size} {path}" for at, size, path in self.dumps]
        lines += [f"image {self.image}"] if self.image is not None else []
        lines += [f"probes {self.probes}"] if self.probes is not None else []
        lines += [f"waves {self.waves}"] if self.waves is not None else []
        lines += [f"cycle_limit {self.cycle_limit}"] if self.cycle_limit is not None else []
        return "".join(f"{line}\n" for line in lines)


def _whole_pages(stripes: int, port_bytes: int) -> int:
    """Stripes that fill whole pages of 4 KiB on every port."""
    page = max(1, 4096 // port_bytes)
    return -(-stripes // page) * page


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Parameters
    ----------
    cycles : from the start to the interrupt.
    tokens : ``(cycle, position, token)`` in the order they were written.
    errors : broken rules, one sentence each.
    registers : by name.
    wall_seconds : between start and interrupt, without loading.
    transfers : bursts and beats over all ports.
    """

    cycles: int
    tokens: list[tuple[int, int, int]]
    errors: list[str]
    registers: dict[str, int]
    wall_seconds: float
    transfers: dict[str, int]


def execute(
    program: Path, job: Job, *, on_event: Callable[[Event], None] = lambda event: None
) -> Outcome:
    """Run a simulator to its end; it is dead when this is left, however it is left.

    Parameters
    ----------
    on_event : gets every line, as it is said.

    Raises
    ------
    SimulationError
        If the simulator stopped without an end: an assertion of the RTL.
    ToolError
        If it cannot run the job.
    """
    tokens: list[tuple[int, int, int]] = []
    errors: list[str] = []
    end: Event | None = None
    with tempfile.TemporaryDirectory(prefix="hwgen-sim-") as name:
        note, stderr = Path(name) / "job", Path(name) / "stderr"
        note.write_text(job.text(), encoding="utf-8")
        stdout: list[str] = []
        with stderr.open("wb") as complaints, started(
            [program, note], stdout=subprocess.PIPE, stderr=complaints, stdin=subprocess.DEVNULL,
            text=True, errors="replace",
        ) as process:  # fmt: skip
            for line in process.stdout or ():
                event = _event(line)
                if event is None:  # $display and assertions of the RTL
                    stdout.append(line.strip())
                    continue
                if event["event"] == "token":
                    tokens.append((event["cycle"], event["position"], event["token"]))
                elif event["event"] == "error":
                    errors.append(f"cycle {event['cycle']}, {event['where']}: {event['what']}")
                elif event["event"] == "end":
                    end = event
                on_event(event)
            code = process.wait()
        said = stdout + stderr.read_text(encoding="utf-8", errors="replace").splitlines()
    if end is None:
        asserted = [line for line in said if "%Error" in line]
        if asserted:
            raise SimulationError(f"the RTL stopped the simulation: {asserted[0]}")
        last = next((line for line in reversed(said) if line.strip()), "it said nothing")
        raise ToolError(f"the simulator ended with code {code}: {last.strip()}")
    if end["errors"] > len(errors):
        errors.append(f"and {end['errors'] - len(errors)} more")
    return Outcome(
        cycles=end["cycles"],
        tokens=tokens,
        errors=errors,
        registers=end["registers"],
        wall_seconds=end["wall"],
        transfers={
            key: end[key] for key in ("read_bursts", "read_beats", "write_bursts", "write_beats")
        },
    )


def _event(line: str) -> Event | None:
    if not line.startswith('{"event"'):
        return None
    try:
        return json.loads(line)
    except ValueError:
        return None
