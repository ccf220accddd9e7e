# SPDX-License-Identifier: Apache-2.0
"""What a sweep found: ``sweep.json`` for programs, ``sweep.html`` and pictures for people."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel, ConfigDict

from generators import charts
from generators.files import write
from generators.sweep.metrics import METRICS
from generators.sweep.pareto import front
from generators.sweep.spec import SweepSpec
from generators.sweep.study import Trial

__all__ = ["Design", "SweepResult", "figure_text", "result_of", "write_result"]

VERSION = 1
"""Of sweep.json: larger when a key changes its meaning or goes."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Design(_Value):
    """A design that was tried.

    Attributes
    ----------
    number : in the order of trying
    name : target, engine and format
    build : the command that builds it
    figures : by the names of `METRICS`, and ``engine``; None if there are none
    reason : why there are none, or which limit is exceeded
    best : whether no other design beats it
    synth, sim : what was counted, and simulated; None if nobody asked, or it failed
    """

    number: int
    name: str
    build: str
    figures: dict[str, Any] | None = None
    reason: str = ""
    best: bool = False
    synth: dict[str, Any] | None = None
    sim: dict[str, Any] | None = None


class SweepResult(_Value):
    """``sweep.json``; see ``docs/sweep.md``."""

    version: int
    model: str
    objectives: tuple[str, ...]
    prompt: int
    context: int
    space: int
    designs: tuple[Design, ...]

    @cached_property
    def best(self) -> tuple[Design, ...]:
        """The designs that no other one beats, by their first objective."""
        return tuple(
            sorted(
                (d for d in self.designs if d.best and d.figures),
                key=lambda d: ([d.figures[o] for o in self.objectives], d.number),  # type: ignore[index]
            )
        )

    @property
    def wrong(self) -> tuple[Design, ...]:
        """The designs whose RTL differs from the golden model."""
        return tuple(d for d in self.designs if d.sim and d.sim.get("identical") is False)


def result_of(
    spec: SweepSpec, trials: Sequence[Trial], checks: Mapping[str, Mapping[str, Any]]
) -> SweepResult:
    """Put together what was found.

    Parameters
    ----------
    spec : what was explored.
    trials : what was tried.
    checks : results of ``synth`` and ``sim``, by ``KIND:NUMBER``.
    """
    known: dict[int, Mapping[str, Any]] = {}
    for trial in trials:
        figures = (trial.outcome or {}).get("figures")
        if figures is not None and not _exceeded(figures, spec.limits):
            known[trial.number] = figures
    numbers = list(known)
    winners = {numbers[i] for i in front([[known[n][o] for o in spec.objectives] for n in numbers])}

    def check(kind: str, number: int) -> dict[str, Any] | None:
        found = checks.get(f"{kind}:{number}")
        return None if found is None else dict(found.get("figures") or found)

    designs = []
    for trial in trials:
        if trial.outcome is None:
            continue
        figures = trial.outcome.get("figures")
        failed = trial.outcome.get("failed")
        reason = f"failed: {failed}" if failed else trial.outcome.get("refused", "")
        designs.append(
            Design(
                number=trial.number,
                name=str(trial.candidate),
                build=" ".join(["hwgen build", spec.model, *trial.candidate.arguments()]),
                figures=figures,
                reason=reason or (_exceeded(figures, spec.limits) if figures else ""),
                best=trial.number in winners,
                synth=check("synth", trial.number),
                sim=check("sim", trial.number),
            )
        )
    return SweepResult(
        version=VERSION,
        model=spec.model,
        objectives=spec.objectives,
        prompt=spec.measure.prompt,
        context=spec.measure.context,
        space=len(spec.choices),
        designs=tuple(designs),
    )


def _exceeded(figures: Mapping[str, Any], limits: Mapping[str, float]) -> str:
    """Which limits a design exceeds; empty: none."""
    return "; ".join(
        f"{name} {figures[name]:g} exceeds the limit of {limit:g}"
        for name, limit in limits.items()
        if figures[name] > limit
    )


def write_result(folder: Path, result: SweepResult) -> list[Path]:
    """Write ``sweep.json``, ``sweep.html`` and a picture of each pair of objectives; what was written."""
    pictures = {f"pareto-{x}-{y}.svg": _picture(result, x, y) for x, y in _pairs(result)}
    files = {"sweep.json": result.model_dump_json(indent=2) + "\n"}
    files |= {name: charts.alone(svg) for name, svg in pictures.items()}
    files["sweep.html"] = _page(result, list(pictures.values()))
    for old in folder.glob("pareto-*.svg"):
        if old.name not in files:
            old.unlink()
    for name, text in files.items():
        write(folder / name, text)
    return [folder / name for name in files]


def _pairs(result: SweepResult) -> list[tuple[str, str]]:
    return list(itertools.combinations(result.objectives, 2))


def _picture(result: SweepResult, x: str, y: str) -> str:
    dots = [
        charts.Dot(d.figures[x], d.figures[y], str(d.number), "best" if d.best else "other", d.name)
        for d in result.designs
        if d.figures and not d.reason
    ]
    return charts.scatter(dots, x=_axis(x), y=_axis(y))


def _axis(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.what}, {metric.unit}" if metric.unit else metric.what


def _page(result: SweepResult, pictures: Sequence[str]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str]] = {"figure": figure_text}
    environment.filters.update(filters)
    return environment.get_template("sweep.html.j2").render(
        r=result, metrics=METRICS, pictures=pictures
    )


def figure_text(value: Any, name: str) -> str:
    """A figure of a design as people read it."""
    if METRICS[name].unit == "s":
        power = next(p for p in (0, 3, 6, 9) if value * 10**p >= 1 or p == 9)
        return f"{value * 10**power:.4g} {({0: 's', 3: 'ms', 6: 'µs', 9: 'ns'})[power]}"
    return f"{100 * value:.1f} %" if name == "use" else f"{value:,}"
