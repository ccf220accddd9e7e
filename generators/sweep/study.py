# SPDX-License-Identifier: Apache-2.0
"""The memory of a sweep: an Optuna study in SQLite, from which the next designs are chosen.

Designs are chosen in batches: a whole batch is written down before any of it is evaluated, and results are
written down one by one as they come. Whoever is killed in between loses no result, and the next run goes on with
what was chosen. What is chosen depends on the seed and on finished batches only, not on who finished first.
"""

from __future__ import annotations

import errno
import json
import os
import random
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL, event
from sqlalchemy.exc import SQLAlchemyError

from designs.errors import DesignError
from generators.sweep.spec import Candidate, Choice, SweepSpec

__all__ = ["Memory", "Trial"]

NAME = "sweep"

_STORAGE = (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, ValueError)
"""What comes out of Optuna when SQLite, or a file that is none of its own, stops it."""

_DISK = {
    "full": errno.ENOSPC,
    "readonly": errno.EROFS,
    "disk I/O": errno.EIO,
    "unable to open": errno.EACCES,
}
"""Words of SQLite's messages, and what an ordinary file would have said."""


@dataclass(frozen=True)
class Trial:
    """A design that was chosen.

    Attributes
    ----------
    number : from 0, in the order of choosing
    candidate : what it is
    outcome : ``{"figures": {...}}``, ``{"refused": reason}``, ``{"failed": error}``; None: not evaluated yet
    """

    number: int
    candidate: Candidate
    outcome: Mapping[str, Any] | None = None


class Memory:
    """A sweep's file.

    Parameters
    ----------
    path : Path
        Made if it is not there.
    spec : SweepSpec
        What is explored.
    sources : str
        Digest of the code that evaluates: results of other code do not mix with its own.

    Raises
    ------
    DesignError
        If the file is of another sweep, or of other code, or no such file.
    """

    def __init__(self, path: Path, spec: SweepSpec, sources: str) -> None:
        self._spec, self._path = spec, path
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            self._storage = optuna.storages.RDBStorage(
                URL.create("sqlite", database=str(path)).render_as_string(),
                engine_kwargs={"connect_args": {"timeout": 60}},
            )
            event.listen(self._storage.engine, "connect", _no_waiting_for_disks)
            self._storage.engine.dispose()  # connections made before do not know
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=NAME,
                load_if_exists=True,
                directions=[StudyDirection.MINIMIZE] * len(spec.objectives),
            )
            trials = self._study.get_trials()
        except _STORAGE as error:
            _blame_disk(error, path)
            raise DesignError(
                f"{path} is not the file of a sweep ({_first_line(error)}); give another folder by -o"
            ) from error
        identity = {"spec": spec.identity, "sources": sources}
        known = self._study.user_attrs.get("identity")
        if known is None and not trials:
            self._study.set_user_attr("identity", identity)
        elif known is None or known["spec"] != _plain(identity["spec"]):
            raise DesignError(
                f"{path} is of another sweep: {_difference(known, identity)}; give another folder by -o"
            )
        elif known["sources"] != sources:
            raise DesignError(
                f"{path} was begun by another version of hwgen, whose figures may differ; "
                "give another folder by -o"
            )
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(values) for name, values in spec.space.dimensions.items()
        }
        # Samplers read all trials for each choice: from memory it takes a tenth of the time.
        self._live = optuna.create_study(directions=self._study.directions)
        for trial in trials:
            done = "outcome" in trial.user_attrs and trial.state is TrialState.RUNNING
            self._live.add_trial(trial)
            if done:  # who wrote it down was killed before it was called finished
                self._finish(trial.number, trial.user_attrs["outcome"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._storage.engine.dispose()
        if isinstance(error, _STORAGE):
            _blame_disk(error, self._path)

    def trials(self) -> list[Trial]:
        """All that was chosen so far."""
        return [
            Trial(t.number, Candidate.of(t.params), t.user_attrs.get("outcome"))
            for t in self._live.get_trials(deepcopy=False)
        ]

    def choose(self) -> list[Trial]:
        """The designs of the next batch, those first that were chosen and not evaluated; none: all is done."""
        known = self.trials()
        waiting = [t for t in known if t.outcome is None]
        batch = self._spec.search.batch
        begun = len(known) % batch  # of a batch whose choosing was broken off
        if begun == 0 and waiting:
            return waiting
        left = min(self._spec.points - len(known), batch - begun)
        found = waiting
        for _ in range(left):
            found.append(self._ask(known))
            known.append(found[-1])
        return found

    def _ask(self, known: Sequence[Trial]) -> Trial:
        seed = random.Random(f"{self._spec.search.seed}:{len(known)}").randrange(1 << 31)
        tried = {t.candidate for t in known}
        self._live.sampler = _Untried(
            self._inner(seed),
            self._spec.choices,
            self._distributions,
            tried,
            seed,
            in_order=self._spec.sampler == "grid",
        )
        trial = self._live.ask(self._distributions)
        self._storage.create_new_trial(
            self._study._study_id, template_trial=self._live.trials[trial.number]
        )
        return Trial(trial.number, Candidate.of(trial.params))

    def _inner(self, seed: int) -> BaseSampler | None:
        if self._spec.sampler == "tpe":
            return TPESampler(
                multivariate=True, seed=seed, n_startup_trials=self._spec.search.batch
            )
        if self._spec.sampler == "nsga2":
            return NSGAIISampler(population_size=self._spec.search.batch, seed=seed)
        return None

    def tell(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Write down what a design's evaluation gave."""
        self._storage.set_trial_user_attr(self._id(number), "outcome", dict(outcome))
        live = self._live.get_trials(deepcopy=False)[number]
        self._live._storage.set_trial_user_attr(live._trial_id, "outcome", dict(outcome))
        self._finish(number, outcome)

    def _finish(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Let the samplers learn from it."""
        figures = outcome.get("figures")
        if figures is None:  # refused designs teach them, too
            state, values = TrialState.PRUNED, None
        else:
            state = TrialState.COMPLETE
            values = [float(figures[name]) for name in self._spec.objectives]
        self._storage.set_trial_state_values(self._id(number), state, values)
        self._live.tell(number, values, state)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)

    def confirmed(self) -> dict[str, dict[str, Any]]:
        """What checks of designs gave, by the name they were given."""
        found = self._study.user_attrs
        return {name[6:]: value for name, value in found.items() if name.startswith("check:")}

    def confirm(self, name: str, result: Mapping[str, Any]) -> None:
        """Write down what a check gave."""
        self._study.set_user_attr(f"check:{name}", dict(result))


class _Untried(BaseSampler):
    """What another sampler chooses, unless it was tried; then any that was not."""

    def __init__(
        self,
        inner: BaseSampler | None,
        choices: Sequence[Choice],
        distributions: Mapping[str, BaseDistribution],
        tried: set[Candidate],
        seed: int,
        *,
        in_order: bool,
    ) -> None:
        self._inner, self._choices, self._tried = inner, choices, tried
        self._distributions, self._in_order = dict(distributions), in_order
        self._random = random.Random(seed)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        if self._inner is None:
            return self._other()
        known = self._inner.infer_relative_search_space(study, trial)
        found = self._inner.sample_relative(study, trial, known)
        for name, values in search_space.items():
            if name not in found:
                found[name] = self._inner.sample_independent(study, trial, name, values)
        return self._other() if Candidate.of(found) in self._tried else found

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        raise NotImplementedError(f"{param_name}: all dimensions are sampled together")

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        if self._inner is not None:
            self._inner.before_trial(study, trial)

    def _other(self) -> Choice:
        left = [c for c in self._choices if Candidate.of(c) not in self._tried]
        return left[0] if self._in_order else self._random.choice(left)


def _no_waiting_for_disks(connection: Any, record: object) -> None:
    """What is committed survives the end of any process; only a power cut can take the last commits away."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def _blame_disk(error: BaseException, path: Path) -> None:
    """Raise an OSError instead if it is the disk's doing."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, sqlite3.OperationalError):
            for words, code in _DISK.items():
                if words in str(seen):
                    raise OSError(code, os.strerror(code), str(path)) from error
        seen = seen.__cause__ or seen.__context__


def _difference(known: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> str:
    """The first field in which two specifications differ."""
    one = (known or {}).get("spec", {})
    two = _plain(asked["spec"])
    for name in {**one, **two}:
        if one.get(name) != two.get(name):
            return f"{name} was {json.dumps(one.get(name))}"
    return "it says nothing about itself"


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return json.loads(json.dumps(value))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
