# SPDX-License-Identifier: Apache-2.0
"""The work of a sweep that can be done anywhere: plain values in, plain values out.

A worker of a cluster needs hwgen and nothing of the master's disk, except a Hugging Face folder if the
sweep's model is one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["run", "sources"]


def run(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job.

    Parameters
    ----------
    job : mapping
        ``kind``: ``cost``, ``synth`` or ``sim``; ``model``; ``candidate``: what
        `generators.sweep.spec.Candidate` takes; of ``cost`` ``prompt`` and ``context``; of ``synth`` ``limit``; of
        ``sim`` ``prompt``, ``context``, ``layers`` and ``seed``.

    Returns
    -------
    dict
        ``figures``; or ``refused``, why there is no such design; or ``failed``, the error in one line.
    """
    from designs.errors import DesignError

    kinds = {"cost": _cost, "synth": _synth, "sim": _sim}
    try:
        return {"figures": kinds[job["kind"]](job)}
    except DesignError as error:
        return {"refused": " ".join(str(error).split())}
    except Exception as error:  # one design must not end the sweep
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}


def sources() -> str:
    """A digest of this installation's code: masters and workers must have the same."""
    from generators.manifest import fingerprint

    return fingerprint({}, {})["sources"]


def _cost(job: Mapping[str, Any]) -> dict[str, Any]:
    from designs.checkpoint import find_model
    from generators.sweep.cost import evaluate
    from generators.sweep.spec import Candidate

    card, _ = find_model(job["model"])
    candidate = Candidate(**job["candidate"])
    return evaluate(card, candidate, prompt=job["prompt"], context=job["context"])


def _synth(job: Mapping[str, Any]) -> dict[str, Any]:
    from designs.progress import SilentProgress
    from generators.synth import synthesise

    with tempfile.TemporaryDirectory(prefix="hwgen-sweep-") as folder:
        out = _build(job, Path(folder))
        found = synthesise(out, SilentProgress(), job["limit"], jobs=1)
    return {
        **found.total.rounded(),
        "unfinished": [module.name for module in found.uncounted],
        "seconds": found.seconds,
    }


def _sim(job: Mapping[str, Any]) -> dict[str, Any]:
    from designs.progress import SilentProgress
    from hwgen.layers import run_random_layers
    from sim.built import load

    with tempfile.TemporaryDirectory(prefix="hwgen-sweep-") as folder:
        out = _build(job, Path(folder))
        card = load(out).card
        prompt, context = min(job["prompt"], card.context), min(job["context"], card.context)
        figures: dict[str, Any] = {"layers": min(job["layers"], card.layers)}
        for name, length, past in (("prefill", prompt, 0), ("decode", 1, context - 1)):
            result = run_random_layers(
                out, figures["layers"], length=length, past=past, seed=job["seed"], waves=None,
                progress=SilentProgress(),
            )  # fmt: skip
            figures[f"{name}_cycles"] = result.cycles
            figures["identical"] = figures.get("identical", True) and result.identical
            figures["mismatch"] = figures.get("mismatch") or result.mismatch
    return figures


def _build(job: Mapping[str, Any], folder: Path) -> Path:
    """The circuit of a candidate, which its weights do not change."""
    from designs import target
    from designs.checkpoint import find_model
    from designs.progress import SilentProgress
    from generators.design import write_design
    from generators.report import write_report
    from generators.sweep.cost import planned
    from generators.sweep.spec import Candidate

    card, _ = find_model(job["model"])
    candidate = Candidate(**job["candidate"])
    board, found = target.load(candidate.target), planned(card, candidate)
    write_design(folder, card, board, found, SilentProgress())
    write_report(folder, card, board, found, seconds=0)
    return folder
