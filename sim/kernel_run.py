# SPDX-License-Identifier: Apache-2.0
"""Runs the RTL of a task-graph kernel and compares its results with the golden model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.kernel_layout import (
    LoadRegion,
    StoreRegion,
    WordFormat,
    activations,
    of_port,
    rows,
    weights,
)
from designs.progress import Progress, SilentProgress
from designs.quantised_kernel import QuantKernel, load_kernel
from sim.built import MemoryTiming, read_design, rtl_files
from sim.golden import kernel as golden
from sim.model import Speed, compile_model
from sim.runner import Event, Job, execute

__all__ = ["KernelBuilt", "KernelResult", "PhaseCycles", "is_kernel", "load_built", "run_kernel"]

EVENTS = ("cycles", "beats", "starved", "blocked", "waiting")

SMALL = 3_000_000
"""Cycles from which on a faster simulator is worth its compilation."""


@dataclass(frozen=True)
class KernelBuilt:
    """What ``design.json`` of a kernel says (:class:`sim.built.Simulated`)."""

    folder: Path
    top: str
    timing: MemoryTiming
    registers: dict[str, int]
    port_bytes: int
    stripes: int
    bits: int
    cores: tuple[dict[str, int], ...]
    owners: tuple[int, ...]
    loads: tuple[LoadRegion, ...]
    stores: tuple[StoreRegion, ...]
    phases: tuple[tuple[str, ...], ...]
    links: tuple[tuple[int, int], ...]
    link_depth: int
    predicted: int
    predicted_phases: tuple[tuple[int, ...], ...]

    @property
    def ports(self) -> int:
        """Memory ports; ``owners`` are their cores."""
        return len(self.owners)

    @property
    def rtl(self) -> list[Path]:
        """The Verilog files."""
        return rtl_files(self.folder)


@dataclass(frozen=True)
class PhaseCycles:
    """A phase in simulation: its core, cycles of its turn and what they went to; ``predicted`` before."""

    core: int
    name: str
    predicted: int
    cycles: int
    beats: int
    starved: int
    blocked: int
    waiting: int

    @property
    def switch(self) -> int:
        """Cycles in which the sequencer changed from the phase before."""
        return self.cycles - self.beats - self.starved - self.blocked - self.waiting


@dataclass(frozen=True)
class KernelResult:
    """What a run gave.

    Attributes
    ----------
    cycles, predicted : of all, from the start to the interrupt.
    phases : each by itself.
    links : of each pair of cores the most rows that have waited between them, and how many may.
    values : numbers compared.
    mismatch : the first difference, or ""
    errors : broken rules of the bus.
    wall_seconds : of the simulation.
    """

    cycles: int
    predicted: int
    phases: tuple[PhaseCycles, ...]
    links: dict[tuple[int, int], tuple[int, int]]
    values: int
    mismatch: str
    errors: tuple[str, ...]
    wall_seconds: float


def is_kernel(out: Path) -> bool:
    """Whether a folder is the build of a kernel."""
    try:
        return json.loads((out / "design.json").read_text(encoding="utf-8")).get("kind") == "kernel"
    except (OSError, ValueError):
        return False


def load_built(out: Path) -> KernelBuilt:
    """Read a kernel's ``design.json``.

    Raises
    ------
    DesignError
        If there is none, or it lacks something.
    """
    return read_design(out, _built)


def _built(out: Path, data: dict[str, Any]) -> KernelBuilt:
    memory = data["memory"]
    return KernelBuilt(
        folder=out.resolve(), top=data["top"],
        timing=MemoryTiming(memory["latency_cycles"], Fraction(memory["port_bytes"])),
        registers=data["registers"], port_bytes=memory["port_bytes"],
        stripes=memory["bytes"] // memory["port_bytes"], bits=data["cores"][0]["bits"],
        cores=tuple(data["cores"]), owners=tuple(memory["ports"]),
        loads=tuple(LoadRegion(**r) for r in data["loads"]),
        stores=tuple(StoreRegion(**(r | {"shape": tuple(r["shape"])})) for r in data["stores"]),
        phases=tuple(map(tuple, data["phases"])), links=tuple((a, b) for a, b in data["links"]),
        link_depth=data["link_depth"], predicted=data["predicted"]["cycles"],
        predicted_phases=tuple(map(tuple, data["predicted"]["phases"])),
    )  # fmt: skip


def run_kernel(
    out: Path,
    inputs: Mapping[str, NDArray[np.integer[Any]]],
    *,
    speed: Speed | None = None,
    waves: Path | None = None,
    stall_percent: int = 0,
    seed: int = 1,
    progress: Progress | None = None,
) -> KernelResult:
    """Run a build once on ``inputs`` (integers by name) and compare every stored tensor with the golden model.

    Parameters
    ----------
    speed : of the simulator; by default what suits the length of the run.
    waves : file for a waveform.
    stall_percent, seed : chance that the memory withholds a ready or valid.

    Raises
    ------
    DesignError
        If the folder is no build of a kernel, or an input is missing.
    """
    progress = progress or SilentProgress()
    built, kernel = load_built(out), load_kernel(out / "kernel.npz")
    if stall_percent:
        built = _stalling(built, stall_percent)
    with progress.step("golden"):
        expected = golden.forward(kernel, inputs)
    speed = speed or ("fast-build" if built.predicted < SMALL else "fast-run")
    program = compile_model(
        built, waves=waves is not None, speed=speed, probes=False, progress=progress
    )
    with tempfile.TemporaryDirectory(prefix="hwgen-kernel-") as name:
        image, results = Path(name) / "image", Path(name) / "results"
        image.write_bytes(_with_inputs(built, kernel, inputs))
        first, size = min(region.offset for region in built.stores), built.ports * built.port_bytes
        job = Job(
            built, image=image,
            dumps=[(first * built.ports, built.stripes * size - first * built.ports, results)],
            reads={
                name: at for name, at in built.registers.items() if at >= 0x400 or name.startswith("cycles")
            },
            writable=[(first // built.port_bytes, built.stripes)], seed=seed,
            idle_limit=max(1_000_000, built.predicted),
        )  # fmt: skip
        with progress.step("simulate") as step:

            def show(event: Event) -> None:
                if event["event"] == "progress":
                    progress.advance(event["cycle"], max(built.predicted, event["cycle"], 1))

            outcome = execute(program, job, on_event=show)
            if outcome.wall_seconds:
                step.detail = f"{outcome.cycles / outcome.wall_seconds / 1e3:,.0f} k cycles/s"
        memory = results.read_bytes()
        values, mismatch = 0, ""
        for region in built.stores:
            data = of_port(memory, region.port, built.ports, built.port_bytes)
            data = data[region.offset - first :]
            have = region.tensor_of(_format(built, region).unpack(data, region.words))
            whole = expected[region.tensor]
            want = region.within(whole.reshape((1, *whole.shape)[-3:]))
            values += want.size
            wrong = np.argwhere(have != want)
            if len(wrong) and not mismatch:
                at = tuple(wrong[0].tolist())
                mismatch = (
                    f"{region.tensor}{list(at)} is {have[at]}, the golden model says {want[at]} "
                    f"({len(wrong):,} of {want.size:,} differ)"
                )
    return KernelResult(
        outcome.cycles, built.predicted, _phases(built, outcome.registers),
        {
            (a, b): (outcome.registers[f"link_{a}_{b}_most"], built.link_depth) for a, b in built.links
        },
        values, mismatch, tuple(outcome.errors), outcome.wall_seconds,
    )  # fmt: skip


def _stalling(built: KernelBuilt, percent: int) -> KernelBuilt:
    return replace(built, timing=replace(built.timing, stall_percent=percent))


def _format(built: KernelBuilt, region: LoadRegion | StoreRegion) -> WordFormat:
    return WordFormat(region.elements, built.bits, built.port_bytes)


def _with_inputs(
    built: KernelBuilt, kernel: QuantKernel, inputs: Mapping[str, NDArray[np.integer[Any]]]
) -> bytes:
    """All that the cores load."""
    size = built.port_bytes
    image = np.fromfile(built.folder / "image.bin", np.uint8).reshape(-1, built.ports, size)
    for region in built.loads:
        if region.tensor in kernel.card.inputs:
            data = _input(built, kernel, region, inputs[region.tensor])
            words = np.frombuffer(data, np.uint8).reshape(-1, size)
            at = region.offset // size
            image[at : at + len(words), region.port] = words
    return image.tobytes()


def _input(
    built: KernelBuilt, kernel: QuantKernel, region: LoadRegion, value: NDArray[np.integer[Any]]
) -> bytes:
    core = built.cores[built.owners[region.port]]
    t, r, o = (core[name] for name in ("tokens", "reduce", "outputs"))
    if region.kind == "x":
        words = activations(value, t, r)
    elif region.kind == "ring":
        turned = kernel.card.tasks[region.task].op == "matmul_t"
        words = weights(value.T if turned else value, o, r)
    else:
        words = rows(value.reshape((1, 1, *value.shape)[-3:] if value.ndim < 3 else value.shape), o)
    return _format(built, region).pack(words[region.first : region.first + region.words])


def _phases(built: KernelBuilt, registers: dict[str, int]) -> tuple[PhaseCycles, ...]:
    return tuple(
        PhaseCycles(
            core, name, predicted, *(registers[f"c{core}_{name}_{event}"] for event in EVENTS)
        )
        for core, names in enumerate(built.phases)
        for name, predicted in zip(names, built.predicted_phases[core], strict=True)
    )
