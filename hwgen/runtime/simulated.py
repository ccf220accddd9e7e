# SPDX-License-Identifier: Apache-2.0
"""The RTL of a build in the compiled simulator, as a device: its memory stays from run to run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from designs.errors import DesignError
from designs.progress import Progress
from hwgen.runtime.decoding import Stripes, weights_of
from sim.built import Built
from sim.errors import SimulationError
from sim.model import compile_model
from sim.runner import Job, execute

__all__ = ["SimulatedDevice"]


class SimulatedDevice:
    """Each run is a process of the simulator, which gets the memory as files and gives back what changed.

    Raises
    ------
    DesignError
        If the build has no weights.
    ToolError
        If the simulator cannot be compiled.
    """

    def __init__(self, built: Built, progress: Progress) -> None:
        self._built, self._image = built, weights_of(built)
        speed = "fast-build" if built.is_small else "fast-run"
        self._program = compile_model(built.folder, speed=speed, probes=False, progress=progress)
        memory = built.map
        # What is not in the image of the weights, or changes: places of tokens, and the cache.
        self._parts: dict[int, Stripes] = {
            first: np.zeros((end - first, memory.stripe_bytes), np.uint8)
            for first, end in (memory.region("tokens"), (memory.k, memory.total_stripes))
        }

    def write(self, stripe: int, data: Stripes) -> None:
        """See `Device`."""
        self._view(stripe, len(data))[:] = data

    def read(self, stripe: int, count: int) -> Stripes:
        """See `Device`."""
        return self._view(stripe, count).copy()

    def _view(self, stripe: int, count: int) -> Stripes:
        for first, part in self._parts.items():
            if first <= stripe and stripe + count <= first + len(part):
                return part[stripe - first : stripe - first + count]
        raise IndexError(f"stripes {stripe} to {stripe + count} are not kept from run to run")

    def run(self, arguments: Mapping[str, int]) -> dict[str, int]:
        """See `Device`; the memory also reports what the accelerator must not do.

        Raises
        ------
        DesignError
            If it would go on with keys and values that are not in the memory.
        SimulationError
            If it broke a rule of AXI or of the memory map, or hangs.
        """
        built, memory = self._built, self._built.map
        if built.pim_channels and arguments["position"]:
            raise DesignError(
                f"{built.folder} keeps keys and values in PIM channels, which a simulation forgets at its end: "
                "give the whole text again instead of resume"
            )
        size = memory.stripe_bytes
        written = memory.tokens + arguments["position"] + arguments["prompt"]
        names = [
            name for name in built.registers if name in ("generated", "token") or "cycles" in name
        ]
        with tempfile.TemporaryDirectory(prefix="hwgen-runtime-") as name:
            before, after = [], []
            for first, part in self._parts.items():
                paths = Path(name) / f"before-{first}", Path(name) / f"after-{first}"
                part.tofile(paths[0])
                before.append((first * size, paths[0]))
                after.append((first * size, part.size, paths[1]))
            job = Job(
                built,
                image=self._image,
                pokes=before,
                dumps=after,
                writes=[(built.registers[name], value) for name, value in arguments.items()],
                reads={name: built.registers[name] for name in names} | built.counters,
                writable=[
                    (written, memory.tokens + memory.context + 1),
                    (memory.k, memory.total_stripes),
                ],
            )
            outcome = execute(self._program, job)
            if outcome.errors:
                raise SimulationError(outcome.errors[0])
            for first, part in self._parts.items():
                part[:] = np.fromfile(Path(name) / f"after-{first}", np.uint8).reshape(part.shape)
        registers = dict(outcome.registers)
        high = registers.pop("cycles_high", 0)
        registers["cycles"] = registers.get("cycles", 0) | high << 32
        return registers

    def close(self) -> None:
        """See `Device`."""
        self._parts.clear()
