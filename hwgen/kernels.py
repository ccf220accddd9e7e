# SPDX-License-Identifier: Apache-2.0
"""Task-graph kernels where the wings meet: from a card to integers, and how far these are from float64."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.graph import GraphCard
from designs.progress import Progress
from designs.quantised_kernel import QuantKernel

if TYPE_CHECKING:
    from generators.kernel_build import KernelBuild
    from schedules.optimal.solve import Effort
    from sim.kernel_run import KernelResult

__all__ = [
    "Deviation",
    "accuracy",
    "build",
    "integer_inputs",
    "load_parameters",
    "quantised",
    "simulate",
]

SAMPLES = (2, 32)
"""With how many inputs scales are calibrated, at least and at most: so many that they have `NUMBERS`."""

NUMBERS = 1 << 15

HEADROOM = 1.5
"""How much larger than anything in calibration a number may be before it saturates."""


@dataclass(frozen=True)
class Deviation:
    """How far a tensor of integers is from float64.

    Attributes
    ----------
    tensor : its name
    scale : of one step
    largest : largest difference, in steps
    signal_to_noise : power of the float tensor over that of the difference, in dB
    """

    tensor: str
    scale: float
    largest: float
    signal_to_noise: float


def load_parameters(path: Path) -> dict[str, NDArray[Any]]:
    """Weights and biases of a kernel, by the names of ``card.parameters()``, from a ``.npz`` file."""
    try:
        with path.open("rb") as file, np.load(file) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DesignError(f"{path} is no .npz file of weights: {error}") from error


def quantised(
    card: GraphCard,
    seed: int,
    parameters: dict[str, NDArray[Any]] | None = None,
    samples: list[dict[str, NDArray[Any]]] | None = None,
) -> QuantKernel:
    """A kernel in integers; what is not given (weights, inputs to calibrate with) is random, the same for a seed."""
    from generators.quantise_kernel import (
        check_parameters,
        quantise_kernel,
        random_inputs,
        random_parameters,
    )
    from sim.golden.float_kernel import peaks

    if parameters is None:
        parameters = dict(random_parameters(card, seed))
    check_parameters(card, parameters)
    if samples is None:
        one = sum(map(math.prod, card.inputs.values()))
        count = min(max(SAMPLES[0], NUMBERS // one), SAMPLES[1])
        samples = [dict(random_inputs(card, seed + 1 + i)) for i in range(count)]
    seen = {name: HEADROOM * peak for name, peak in peaks(card, parameters, list(samples)).items()}
    return quantise_kernel(card, parameters, seen)


def integer_inputs(kernel: QuantKernel, seed: int) -> dict[str, NDArray[np.int64]]:
    """Random inputs in the kernel's scales, others than those that a kernel of this seed was calibrated with."""
    from generators.quantise_kernel import random_inputs

    made = random_inputs(kernel.card, seed + 1_000_003)
    return {name: kernel.integers(name, value) for name, value in made.items()}


def accuracy(
    card: GraphCard, seed: int, parameters: dict[str, NDArray[Any]] | None = None
) -> list[Deviation]:
    """Every task's integers beside float64, which has the float weights and the same inputs."""
    from generators.quantise_kernel import random_parameters
    from sim.golden import float_kernel, kernel

    if parameters is None:
        parameters = dict(random_parameters(card, seed))
    quant = quantised(card, seed, parameters)
    inputs = integer_inputs(quant, seed)
    exact = float_kernel.forward(
        card, parameters, {n: v * quant.scales[n] for n, v in inputs.items()}
    )
    found = []
    for name, value in kernel.forward(quant, inputs).items():
        if name in card.inputs:
            continue
        scale = quant.scales[name]
        off = value * scale - exact[name]
        noise = float(np.square(off).mean()) or 1e-300
        power = float(np.square(exact[name]).mean()) or 1e-300
        largest = float(np.abs(off).max()) / scale
        found.append(Deviation(name, scale, largest, 10 * float(np.log10(power / noise))))
    return found


def build(
    card: GraphCard,
    parameters: dict[str, NDArray[Any]] | None,
    out: Path,
    policy: str,
    plan_file: Path | None,
    effort: Effort,
    seed: int,
    progress: Progress,
) -> KernelBuild:
    """Schedule a kernel, quantise it, and write its RTL.

    Raises
    ------
    DesignError
        For an unknown policy, a plan that is not legal, or a kernel that RTL cannot play.
    """
    from generators.files import check_out
    from generators.kernel import read_plan, schedule
    from generators.kernel_build import build_kernel
    from generators.kernel_lower import check_tasks

    check_out(out)
    check_tasks(card)
    if plan_file is not None:
        plan = read_plan(plan_file.read_text(encoding="utf-8", errors="replace"), card)
    else:
        with progress.step("schedule"):
            plan = schedule(card, policy, effort)
    with progress.step("quantise"):
        kernel = quantised(card, seed, parameters)
    return build_kernel(kernel, plan, out, progress)


def simulate(out: Path, seed: int, waves: Path | None, progress: Progress) -> KernelResult:
    """Run a kernel's RTL on random inputs and compare what it stores with the golden model."""
    from designs.quantised_kernel import load_kernel
    from sim.kernel_run import run_kernel

    kernel = load_kernel(out / "kernel.npz")
    return run_kernel(out, integer_inputs(kernel, seed), waves=waves, progress=progress)
