# SPDX-License-Identifier: Apache-2.0
"""The story of a sweep: choose designs, let workers predict them, check the best ones, write what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from designs.checkpoint import find_model
from designs.errors import DesignError
from designs.progress import Progress
from generators.files import locked
from generators.sweep.pareto import spread
from generators.sweep.result import SweepResult, result_of, write_result
from generators.sweep.spec import Candidate, SweepSpec
from hwgen import jobs
from hwgen.workers import Workers
from sim.errors import ToolError

if TYPE_CHECKING:
    from generators.sweep.study import Memory

__all__ = ["FILE", "sweep"]

FILE = "sweep.db"
"""The study in a sweep's folder: whoever has it can go on."""


def sweep(spec: SweepSpec, out: Path, workers: Workers, progress: Progress) -> SweepResult:
    """Explore designs, and write what was found into a folder; a sweep that was broken off goes on.

    Parameters
    ----------
    spec : SweepSpec
        What to explore.
    out : Path
        The folder: new, empty, or of the same sweep.
    workers : Workers
        Who does the work.
    progress : Progress
        Where steps are reported.

    Raises
    ------
    DesignError
        If there is no such model, or the folder is of something else, or in use.
    ToolError
        If Optuna is missing, or the workers are lost.
    """
    find_model(spec.model)
    _check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        try:
            from generators.sweep.study import Memory
        except ModuleNotFoundError as error:
            raise ToolError(
                f"a sweep needs the package {error.name}: pip install 'hwgen[sweep]'"
            ) from None
        with Memory(out / FILE, spec, jobs.sources()) as memory:
            _explore(spec, memory, workers, progress)
            result = result_of(spec, memory.trials(), memory.confirmed())
            if spec.confirm.candidates:
                _confirm(spec, result, memory, workers, progress)
                result = result_of(spec, memory.trials(), memory.confirmed())
        write_result(out, result)
    return result


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DesignError(f"{out} exists and is not a folder; give another by -o")
    if out.is_dir() and any(out.iterdir()) and not (out / FILE).is_file():
        raise DesignError(f"{out} exists and is not of a sweep; give another by -o")


def _explore(spec: SweepSpec, memory: Memory, workers: Workers, progress: Progress) -> None:
    """Predict batch after batch."""
    lengths = {"prompt": spec.measure.prompt, "context": spec.measure.context}
    with progress.step("explore") as step:
        known = memory.trials()
        done, found = sum(t.outcome is not None for t in known), 0
        before = done
        while batch := memory.choose():
            work = [_job(spec, "cost", t.candidate, lengths) for t in batch]
            for index, outcome in workers.run(work):
                memory.tell(batch[index].number, outcome)
                done += 1
                found += "figures" in outcome
                progress.advance(done, spec.points, f"{done} of {spec.points} designs")
        step.detail = f"{done} of {len(spec.choices):,} designs by {spec.sampler}" + (
            f", {before} of them known" if before else ""
        )


def _confirm(
    spec: SweepSpec, result: SweepResult, memory: Memory, workers: Workers, progress: Progress
) -> None:
    """Build, count and simulate the best."""
    ask = spec.confirm
    options: dict[str, Mapping[str, Any]] = {}
    if ask.synth:
        options["synth"] = {"limit": ask.limit}
    if ask.sim:
        options["sim"] = {
            "prompt": spec.measure.prompt, "context": spec.measure.context,
            "layers": ask.layers, "seed": spec.search.seed,
        }  # fmt: skip
    trials = {t.number: t for t in memory.trials()}
    chosen = spread([d.number for d in result.best], ask.candidates)
    known = memory.confirmed()
    todo: list[tuple[str, Mapping[str, Any]]] = []
    for number in chosen:
        for kind, option in options.items():
            name = f"{kind}:{number}"
            done = known.get(name)
            if done is None or done.get("asked") != option or "figures" not in done:
                todo.append((name, _job(spec, kind, trials[number].candidate, option)))
    with progress.step("check", f"{len(chosen)} of {len(result.best)} best designs") as step:
        for done, (index, outcome) in enumerate(workers.run([job for _, job in todo]), 1):
            name, _ = todo[index]
            kind = name.partition(":")[0]
            memory.confirm(name, {**outcome, "asked": dict(options[kind])})
            progress.advance(done, len(todo), f"{done} of {len(todo)} checks")
        failed = _failures(memory.confirmed(), chosen, options)
        step.detail += f", {failed} checks failed" if failed else ""


def _failures(
    checks: Mapping[str, Mapping[str, Any]], chosen: Iterable[int], kinds: Iterable[str]
) -> int:
    found = (checks.get(f"{kind}:{number}", {}) for number in chosen for kind in kinds)
    return sum("figures" not in check for check in found)


def _job(
    spec: SweepSpec, kind: str, candidate: Candidate, options: Mapping[str, Any]
) -> dict[str, Any]:
    return {"kind": kind, "model": spec.model, "candidate": asdict(candidate), **options}
