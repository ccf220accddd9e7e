# SPDX-License-Identifier: Apache-2.0
"""The story of a build: each step takes a value and gives the next one; only this file writes to disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from designs import catalogue, target
from designs.cards import ModelCard
from designs.checkpoint import find_model
from designs.errors import DesignError
from designs.progress import Progress
from designs.tokenizer import TOKENIZER_FILES
from generators import manifest
from generators.files import check_out, new_folder

if TYPE_CHECKING:
    from generators.compress import Compression
    from generators.plan import Plan
    from generators.weights import Calibrated, ObserveRanges

__all__ = ["BuildRequest", "BuildResult", "Joins", "build"]

CALIBRATION = catalogue.ROOT / "texts" / "kjv-calibration.txt"


@dataclass(frozen=True)
class BuildRequest:
    """What the user asks for.

    Attributes
    ----------
    model : name of a card, or path of a Hugging Face folder: its config.json is then the card
    target : name of a card
    out : folder to write
    engine : ``array:pe`` or ``array:pe:TxRxO``; chosen if None
    weights_from : a Hugging Face folder, or None for the model's own weights (if it has any)
    seed : of everything random
    compression : how weights are stored; int8 if None
    budget : bits that a weight may take on average: so many matrices get better formats; None: none does
    """

    model: str
    target: str
    out: Path
    engine: str | None = None
    weights_from: Path | None = None
    seed: int = 0
    compression: Compression | None = None
    budget: float | None = None


@dataclass(frozen=True)
class BuildResult:
    """What was built.

    Attributes
    ----------
    out : the folder
    fresh : False if an unchanged build was found
    summary : one line
    warnings : what the user should know before trusting it, one line each
    """

    out: Path
    fresh: bool
    summary: str
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.summary


@dataclass(frozen=True)
class Joins:
    """What a build needs from the simulation wing, which generators do not import.

    Attributes
    ----------
    observe_ranges : runs the float model and notes what its tensors hold
    simulation_package : a finished folder -> files of the testbench that travels with the Verilog
    """

    observe_ranges: ObserveRanges
    simulation_package: Callable[[Path], Mapping[str, str | bytes]]


def build(request: BuildRequest, progress: Progress, joins: Joins) -> BuildResult:
    """Build an accelerator: RTL, schedule, weight image, testbench, report.

    The result appears under its final name only when it is complete.

    Raises
    ------
    DesignError
        For everything that the user can change: unknown names, faulty checkpoints, a model that does not
        fit, an output folder that is not ours.
    """
    began = time.monotonic()
    (card, own), board = find_model(request.model), target.load(request.target)
    checkpoint = request.weights_from or own
    if request.budget is not None and checkpoint is None:
        raise DesignError(
            f"a budget is spent by what a checkpoint gains, and {request.model} has none; give one by --weights-from"
        )
    check_out(request.out)
    key = _fingerprint(request, card, checkpoint)
    if manifest.unchanged(request.out, key):
        return BuildResult(request.out, False, f"{request.out} is up to date")

    # Imported here: an unchanged build is recognised without loading the hardware.
    from generators import design, weights
    from generators.plan import best_plan, plan
    from generators.report import write_report
    from hw.arrays import parse_engine

    try:
        engine = parse_engine(request.engine) if request.engine else None
    except ValueError as error:
        raise DesignError(str(error)) from None

    def shaped(asked: Compression | None) -> Plan:
        with progress.step("plan") as step:
            found = plan(card, board, engine, asked) if engine else best_plan(card, board, asked)
            c = found.config
            step.detail = f"{c.engine_name}, {c.ports} ports, chunk {c.chunk}"
        return found

    planned = shaped(request.compression)
    with new_folder(request.out) as folder:
        given: Calibrated | None = None
        if checkpoint is not None:
            given = weights.calibrate_checkpoint(
                checkpoint, card, CALIBRATION, joins.observe_ranges, progress, request.seed
            )
            if request.budget is not None and request.compression is not None:
                planned = shaped(
                    weights.within_budget(given, request.compression, request.budget, progress)
                )
        calibration = None if given is None else given.calibration
        if given is not None:
            quantised = weights.quantise_checkpoint(
                given, progress, planned.compression, folder / "quantised.npz"
            )
            weights.write_weights(folder, quantised, planned.memory, progress)
        design.write_design(folder, card, board, planned, progress, calibration)
        with progress.step("report"):
            for name, content in joins.simulation_package(folder).items():
                _write(folder / "sim" / name, content)
            write_report(
                folder,
                card,
                board,
                planned,
                seconds=time.monotonic() - began,
                calibration=calibration,
            )
        manifest.write(folder, key)
    seconds = time.monotonic() - began
    warnings = ()
    if calibration is not None and calibration.is_random:
        message = (
            f"{checkpoint} has no tokenizer ({', '.join(TOKENIZER_FILES)}), so activations were "
            f"calibrated on {calibration}, not on a text: accuracy may suffer"
        )
        warnings = (message,)
    return BuildResult(request.out, True, f"built {request.out} in {seconds:.1f} s", warnings)


def _fingerprint(request: BuildRequest, card: ModelCard, checkpoint: Path | None) -> dict[str, Any]:
    files = {}
    if checkpoint is not None and checkpoint.is_dir():
        for path in checkpoint.iterdir():
            if path.suffix in (".json", ".safetensors") or path.name in TOKENIZER_FILES:
                files[path.name] = path
        files["calibration"] = CALIBRATION
    inputs = {
        "model": card.model_dump(mode="json"), "target": request.target, "engine": request.engine,
        "seed": request.seed,
        "compression": None if request.compression is None else request.compression.to_dict(),
        "budget": request.budget,
    }  # fmt: skip
    return manifest.fingerprint(inputs, files)


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
