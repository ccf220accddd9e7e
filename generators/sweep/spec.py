# SPDX-License-Identifier: Apache-2.0
"""What a sweep explores: the file of ``hwgen sweep``, its space, and the candidates in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from designs import catalogue, target
from designs.errors import DesignError
from designs.weight_format import INT8, WeightFormat
from generators.sweep.metrics import METRICS

__all__ = ["AUTO", "Candidate", "Choice", "Space", "SweepSpec", "load_spec"]

AUTO = "auto"
"""The engine that a build chooses if nobody names one."""

LARGEST = 200_000
"""Combinations of a space: all are known by name, so that none is tried twice."""

Choice = dict[str, Any]
"""A value for each dimension of the space that has any."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _doubling(value: object) -> object:
    """``{from: 1, to: 8}`` is 1, 2, 4, 8."""
    if not isinstance(value, Mapping):
        return value
    if set(value) != {"from", "to"}:
        raise ValueError("a range is {from: A, to: B}")
    low, high = value["from"], value["to"]
    if not (isinstance(low, int) and isinstance(high, int)) or low < 1:
        raise ValueError(f"a range has whole numbers of at least 1, not {low!r} and {high!r}")
    if low > high:
        raise ValueError(f"the range from {low} to {high} is empty")
    return [low << n for n in range((high // low).bit_length())]


def _listed(value: object) -> object:
    """A single value is a list of one."""
    return [value] if isinstance(value, str | int | float) else value


def _sparsity(value: object) -> object:
    """YAML 1.1 reads ``2:4`` without quotes as 2 * 60 + 4."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 60:
        return f"{value // 60}:{value % 60}"
    return value


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values:
        raise ValueError("an empty list: give at least one value, or leave the field out")
    if len(set(values)) < len(values):
        raise ValueError(f"a value stands twice in {', '.join(map(str, values))}")
    return values


_Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
_Sizes = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_doubling), BeforeValidator(_listed)
]
_Sparsities = Annotated[
    tuple[Annotated[str, BeforeValidator(_sparsity)], ...], BeforeValidator(_listed)
]


class Space(_Value):
    """The values of each dimension.

    Attributes
    ----------
    target : cards of targets
    engine : ``array:pe[.encoding][:sparsity][:TxRxO]``, or ``auto``
    tokens, lanes : shapes of engines that say none: T, and R = O; both or none (the largest that fits)
    weights, group, sparsity, share : formats of weights, as `hwgen build` takes them
    """

    target: _Names
    engine: _Names = (AUTO,)
    tokens: _Sizes | None = None
    lanes: _Sizes | None = None
    weights: _Names = ("int8",)
    group: _Sizes | None = None
    sparsity: _Sparsities = ("dense",)
    share: _Sizes | None = None

    @field_validator("*")
    @classmethod
    def _some(cls, values: Any) -> Any:
        return values if values is None else _distinct(values)

    @field_validator("target")
    @classmethod
    def _known_target(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value not in target.names():
                raise ValueError(catalogue.unknown("target", value, target.names()))
        return values

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        from hw.arrays import parse_engine

        for value in values:
            if value != AUTO:
                parse_engine(value)
        return values

    @field_validator("weights", "sparsity")
    @classmethod
    def _known_format(cls, values: tuple[str, ...], info: Any) -> tuple[str, ...]:
        for value in values:
            form: dict[str, Any] = {info.field_name: value}
            _reason(lambda f=form: WeightFormat.parse(**f))
        return values

    @field_validator("group", "share")
    @classmethod
    def _known_number(cls, values: tuple[int, ...] | None, info: Any) -> tuple[int, ...] | None:
        rest = {"weights": "int4"} if info.field_name == "group" else {"sparsity": "2:4"}
        for value in values or ():
            form: dict[str, Any] = {**rest, info.field_name: value}
            _reason(lambda f=form: WeightFormat.parse(**f))
        return values

    @model_validator(mode="after")
    def _whole(self) -> Space:
        if (self.tokens is None) != (self.lanes is None):
            raise ValueError("tokens and lanes are of one shape: give both, or none")
        if self.tokens is not None:
            shaped = [e for e in self.engine if e == AUTO or _has_shape(e)]
            if shaped:
                raise ValueError(
                    f"tokens and lanes are of engines without a shape, and {shaped[0]} has its own"
                )
        if self.size > LARGEST:
            raise ValueError(f"{self.size:,} combinations; at most {LARGEST:,} can be explored")
        return self

    @cached_property
    def dimensions(self) -> dict[str, tuple[Any, ...]]:
        """The dimensions that are there."""
        return {name: v for name, v in self if v is not None}

    @property
    def size(self) -> int:
        """Combinations, those counted that are the same or impossible."""
        return math.prod(map(len, self.dimensions.values()))

    def choices(self) -> Iterator[Choice]:
        """Every combination that is another design, in order."""
        seen = set()
        for values in itertools.product(*self.dimensions.values()):
            choice = dict(zip(self.dimensions, values, strict=True))
            candidate = Candidate.of(choice)
            if candidate not in seen:
                seen.add(candidate)
                yield choice


def _reason(check: Any) -> None:
    """What a DesignError says, as pydantic wants it."""
    try:
        check()
    except DesignError as error:
        raise ValueError(str(error)) from None


def _has_shape(engine: str) -> bool:
    from hw.arrays import parse_engine

    return parse_engine(engine).tokens is not None


@dataclass(frozen=True)
class Candidate:
    """A design that could be built: what `hwgen build` takes beside the model.

    Attributes
    ----------
    target : name of its card
    engine : with its shape if one was asked for; None: chosen
    weights, group, sparsity, share : the format of weights; None where the format has no such thing
    """

    target: str
    engine: str | None = None
    weights: str = "int8"
    group: int | None = None
    sparsity: str = "dense"
    share: int | None = None

    @classmethod
    def of(cls, choice: Choice) -> Candidate:
        """The design that a combination asks for; combinations that differ in nothing give equal ones."""
        engine = None if choice.get("engine", AUTO) == AUTO else choice["engine"]
        if "tokens" in choice:
            engine = f"{engine}:{choice['tokens']}x{choice['lanes']}x{choice['lanes']}"
        weights, sparsity = choice.get("weights", "int8"), choice.get("sparsity", "dense")
        sparse = any("block" not in part for part in sparsity.split("+")) and sparsity != "dense"
        return cls(
            target=choice["target"],
            engine=engine,
            weights=weights,
            group=choice.get("group") if weights == "int4" else None,
            sparsity=sparsity,
            share=choice.get("share") if sparse else None,
        )

    @property
    def format(self) -> WeightFormat:
        """How weights are stored; DesignError if there is no such format."""
        return WeightFormat.parse(self.weights, self.group, self.sparsity, self.share)

    def arguments(self) -> list[str]:
        """Options of `hwgen build`."""
        found = ["--target", self.target]
        for name in ("engine", "weights", "group", "sparsity", "share"):
            value = getattr(self, name)
            if value not in (None, "int8" if name == "weights" else "dense"):
                found += [f"--{name}", str(value)]
        return found

    def __str__(self) -> str:
        form = "int8" if self.format == INT8 else str(self.format)
        return f"{self.target} {self.engine or AUTO} {form}"


class Lengths(_Value):
    """Tokens of the prompt, and the context that a generated token sees; the model's own if more."""

    prompt: int = Field(default=64, ge=1)
    context: int = Field(default=128, ge=2)


class Search(_Value):
    """How the space is explored.

    Attributes
    ----------
    points : designs to try; all of the space if it has no more
    sampler : grid (in order), random, tpe or nsga2; auto: grid if all can be tried, else tpe
    batch : designs that are chosen together: what the next ones are chosen from does not depend on
        which worker is faster, so that a sweep gives the same designs with any number of workers
    seed : of everything random
    """

    points: int = Field(default=200, ge=1, le=LARGEST)
    sampler: Literal["auto", "grid", "random", "tpe", "nsga2"] = "auto"
    batch: int = Field(default=20, ge=1)
    seed: int = Field(default=0, ge=0)


class Confirm(_Value):
    """What is done with the best designs.

    Attributes
    ----------
    candidates : so many of those that nothing beats; none: 0
    synth, sim : count resources by yosys; simulate the RTL, a token and a prompt, on random weights
    layers : that the simulation runs
    limit : seconds for the synthesis of one module, which then keeps its estimate
    """

    candidates: int = Field(default=0, ge=0)
    synth: bool = True
    sim: bool = True
    layers: int = Field(default=1, ge=1)
    limit: float = Field(default=900, ge=1)


class SweepSpec(_Value):
    """The file of ``hwgen sweep``; ``docs/sweep.md`` describes it."""

    model: str
    space: Space
    measure: Lengths = Lengths()
    objectives: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ("decode", "prefill", "use")
    limits: dict[str, float] = {}
    search: Search = Search()
    confirm: Confirm = Confirm()

    @field_validator("objectives")
    @classmethod
    def _known(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in _distinct(values):
            if value not in METRICS:
                raise ValueError(catalogue.unknown("metric", value, list(METRICS)))
        return values

    @field_validator("limits")
    @classmethod
    def _known_limit(cls, values: dict[str, float]) -> dict[str, float]:
        for name, value in values.items():
            if name not in METRICS:
                raise ValueError(catalogue.unknown("metric", name, list(METRICS)))
            if not 0 < value < math.inf:
                raise ValueError(f"the limit of {name} must be above 0, not {value:g}")
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """What may not change between a sweep and its resumption; more points and other checks may be asked for."""
        return {
            **self.model_dump(mode="json", exclude={"search": {"points"}, "confirm": True}),
            # Whether all of the space is tried decides what auto means.
            "sampler": self.sampler,
        }

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """Every combination of the space that is another design."""
        return tuple(self.space.choices())

    @property
    def sampler(self) -> str:
        """The sampler, once ``auto`` is resolved."""
        if self.search.sampler != "auto":
            return self.search.sampler
        return "grid" if len(self.choices) <= self.search.points else "tpe"

    @property
    def points(self) -> int:
        """Designs to try."""
        return min(self.search.points, len(self.choices))


def load_spec(path: Path) -> SweepSpec:
    """Read a sweep's file.

    Raises
    ------
    DesignError
        One line that names the file and the line or field at fault.
    """
    if not path.is_file():
        raise DesignError(f"{path} is not there: give the YAML file of a sweep (docs/sweep.md)")
    return catalogue.load_file(path, SweepSpec)
