# SPDX-License-Identifier: Apache-2.0
"""From float weights to integers of a compressed format: what is left out, and how the rest is rounded.

Three methods, by what they know of a layer's inputs X: ``magnitude`` nothing (the smallest weights go,
the others are rounded to the nearest); ``wanda`` the size of each input (a weight counts as
``|w| * ||x||``; Sun et al. 2023, arXiv 2306.11695); ``gptq`` their correlations: weights go, and are
rounded, input by input, and the inputs to come make up for the error (Frantar and Alistarh 2023,
arXiv 2301.00774; Frantar et al. 2022, arXiv 2210.17323). ``keep`` leaves out nothing by itself: the
checkpoint must have the zeros already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError
from designs.quantised import QuantLinear, QuantModel
from designs.weight_format import FACTORS, INT8, WeightFormat

__all__ = [
    "LINEARS",
    "METHODS",
    "Compression",
    "compress",
    "cost",
    "matrices",
    "stored_bytes",
    "terms",
]

METHODS = {
    "gptq": "second order: later inputs make up for what is pruned and rounded",
    "wanda": "pruned by weight times size of the input, rounded to nearest",
    "magnitude": "pruned by weight, rounded to nearest",
    "keep": "not pruned: the checkpoint is sparse already; rounded to nearest",
}
"""How weights are chosen and rounded, with one line each for people."""

LINEARS = ("k", "v", "q", "proj", "fc1", "up", "fc2")
"""The weight matrices of a layer, in the order of the stream; ``up`` is that of a gated model only."""

NAMED = tuple(name for name in LINEARS if name != "up")
"""Those that can have a format of their own; that of ``up`` is that of ``fc1``."""

Floats = NDArray[np.float64]

_DAMPING = 0.01
"""Added to the correlations' diagonal, of its mean: few samples do not decide everything."""

_NAMED = 3
"""Most matrices that a line names."""

_BATCH = 128
"""Inputs after which an error reaches those behind them; a multiple of every group and M."""


@dataclass(frozen=True)
class Compression:
    """How the weights of a model are stored.

    Parameters
    ----------
    stream : the format that the circuit decodes.
    method : one of `METHODS`.
    tensors : other formats, by tensor (``lm_head``, ``fc2``, or ``h3.fc2`` of one layer).
    """

    stream: WeightFormat = INT8
    method: str = "gptq"
    tensors: Mapping[str, WeightFormat] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DesignError(
                f'method "{self.method}" is not known; known are {", ".join(METHODS)}'
            )

    def of(self, what: str, layer: int | None = None) -> WeightFormat:
        """The format of a tensor: ``h3.fc2``, or ``fc2`` of layer 3, or of a layer like any other."""
        name = what.rpartition(".")[2]
        if name == "up":  # its tiles and those of fc1 take turns in one phase
            what, name = what.removesuffix("up") + "fc1", "fc1"
        own = self.tensors.get(what if layer is None else f"h{layer}.{name}")
        return own or self.tensors.get(name, self.stream)

    def layered(self, layers: int) -> bool:
        """Whether some layer has formats of its own.

        Raises
        ------
        DesignError
            If a layer is named that the model has not.
        """
        named = {int(found[1]) for name in self.tensors if (found := re.match(r"h(\d+)\.", name))}
        if named and max(named) >= layers:
            raise DesignError(
                f"--tensors names layer {max(named)}, but the model has {layers}: h0 to h{layers - 1}"
            )
        return bool(named)

    def to_dict(self) -> dict[str, Any]:
        """For ``design.json``."""
        tensors = {name: asdict(form) for name, form in self.tensors.items()}
        return {"stream": asdict(self.stream), "method": self.method, "tensors": tensors}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Compression:
        """What `to_dict` gave."""
        tensors = {name: WeightFormat(**form) for name, form in data["tensors"].items()}
        return cls(WeightFormat(**data["stream"]), data["method"], tensors)

    @classmethod
    def parse_tensors(cls, text: str, stream: WeightFormat) -> dict[str, WeightFormat]:
        """What ``--tensors lm_head=int8,h3.fc2=int4,q=int8:2:4`` asks for: matrices in other formats.

        Raises
        ------
        DesignError
            If it is not such a list, or names no matrix.
        """
        found = {}
        for part in filter(None, text.split(",")):
            name, _, value = part.strip().partition("=")
            weights, _, sparsity = value.partition(":")
            if not re.fullmatch(rf"(h\d+\.)?({'|'.join(NAMED)})|lm_head", name) or not value:
                raise DesignError(
                    f'--tensors takes parts like lm_head=int8, fc2=int4 or h3.q=int8:2:4, not "{part}"'
                )
            group = stream.group or None if weights == "int4" else None
            share = stream.share if re.match(r"\d", sparsity) else None
            found[name] = WeightFormat.parse(weights, group, sparsity or "dense", share)
            terms(found[name], stream, name)
        return found

    def formats(self) -> str:
        """The formats in one line."""
        if len(self.tensors) > _NAMED:
            return f"{self.stream}, {len(self.tensors)} matrices better"
        return ", ".join([str(self.stream), *(f"{n} {form}" for n, form in self.tensors.items())])

    def option(self) -> str:
        """What ``--tensors`` takes for the same matrices in other formats."""
        parts = []
        for name, form in self.tensors.items():
            sparsity = "" if form.sparsity == "dense" else f":{form.sparsity}"
            parts.append(f"{name}=int{form.bits}{sparsity}")
        return ",".join(parts)

    def __str__(self) -> str:
        return f"{self.formats()} by {self.method}"


def terms(form: WeightFormat, stream: WeightFormat, what: str = "a matrix") -> int:
    """How many beats of a stream hold the weights of one engine step.

    Raises
    ------
    DesignError
        If the stream cannot hold the format.
    """
    same = (form.n, form.m, form.share) == (stream.n, stream.m, stream.share)
    if form.bits < stream.bits or not (same or not form.sparse) or form.block > stream.block:
        raise DesignError(
            f"{what} in {form} cannot travel in a stream of {stream}: there it has as many bits or "
            "more, is as sparse or dense, and has blocks as large at most"
        )
    return form.bits // stream.bits * (1 if same else stream.m // stream.n)


def cost(form: WeightFormat, stream: WeightFormat) -> float:
    """Beats of a stream for one engine step of a matrix, those that are skipped left out."""
    return terms(form, stream) * form.keep / 100


def matrices(model: QuantModel) -> Iterator[tuple[str, QuantLinear]]:
    """Every weight matrix of a model, by its name."""
    for i, layer in enumerate(model.layers):
        for name in LINEARS:
            if (part := getattr(layer, name)) is not None:
                yield f"h{i}.{name}", part
    yield "lm_head", model.head


def stored_bytes(model: QuantModel, stream: WeightFormat = INT8) -> float:
    """Bytes of all matrices in a stream, with indices and factors."""
    each = replace(stream, block=0, keep=100).bits_per_weight() / 8
    return sum(p.weight.size * cost(p.format, stream) * each for _, p in matrices(model))


def compress(
    what: str,
    weight: Floats,
    fmt: WeightFormat,
    method: str,
    inputs: Floats,
    least: Floats,
    limit: int | None = None,
) -> tuple[NDArray[np.int8], Floats]:
    """Choose, scale and round the weights of a linear layer.

    Parameters
    ----------
    what : its name, for messages.
    weight : [k, n].
    fmt : what its integers must be storable in.
    method : one of `METHODS`.
    inputs : what it is multiplied with, a sample of rows [samples, k].
    least : [n], scales are at least so large.
    limit : the largest magnitude of an integer, that of the format if None.

    Returns
    -------
    weight : int8 [k, n]
    scale : [n]: the real value of one step.

    Raises
    ------
    DesignError
        If k does not fit the format, or nothing may be pruned and the weights are not sparse.
    """
    fmt.check_reduction(what, weight.shape[0])
    limit = limit or fmt.limit
    if method == "keep":
        fmt.check_sparsity(what, weight)
    given = None  # zeros that a sparse checkpoint brings with it
    if fmt.sparse:
        blocks = fmt.used(weight).reshape(-1, fmt.m, weight.shape[1])
        if (blocks.sum(axis=1) <= fmt.n).all():
            given = blocks.reshape(weight.shape)
    if method == "gptq":
        return _second_order(weight, fmt, inputs, least, limit, given)
    sizes = np.sqrt(np.square(inputs).sum(axis=0)) if method == "wanda" else np.ones(len(weight))
    if fmt.block:
        weight = np.where(
            _kept_blocks(np.square(weight * sizes[:, None]), weight, fmt), weight, 0.0
        )
    kept = _kept(np.abs(weight) * sizes[:, None], fmt) if given is None else given
    weight = np.where(kept, weight, 0.0)
    scale = np.maximum(np.abs(weight).max(axis=0) / limit, least)
    levels = _Levels(fmt, scale, limit)
    rounded = np.empty(weight.shape, np.int8)
    step = fmt.group or len(weight)
    for start in range(0, len(weight), step):
        part = slice(start, start + step)
        levels.choose(weight[part], np.ones((step, 1)))
        rounded[part] = levels.round(weight[part])
    return rounded, scale


def _kept(score: Floats, fmt: WeightFormat) -> NDArray[np.bool_]:
    """The N of M weights with the largest scores; of equal ones, the first."""
    if not fmt.sparse:
        return np.ones(score.shape, np.bool_)
    blocks = fmt.shared(score).reshape(-1, fmt.m, score.shape[1])
    order = np.argsort(-blocks, axis=1, kind="stable")[:, : fmt.n]
    kept = np.zeros(blocks.shape, np.bool_)
    np.put_along_axis(kept, order, True, axis=1)
    return kept.reshape(score.shape)


def _kept_blocks(score: Floats, weight: Floats, fmt: WeightFormat) -> NDArray[np.bool_]:
    """Which weights are in the blocks with the largest scores, of those with the same outputs; bool [k, n].

    Where the checkpoint has so few blocks already, these are kept.
    """
    most = fmt.kept_blocks(len(weight))
    used = fmt.of_blocks(weight != 0) > 0
    order = np.argsort(-fmt.of_blocks(score), axis=0, kind="stable")[:most]
    kept = np.zeros(used.shape, np.bool_)
    np.put_along_axis(kept, order, True, axis=0)
    return fmt.in_blocks(np.where(used.sum(axis=0) <= most, used, kept), weight.shape[1])


class _Levels:
    """The integers that weights can become, in a group of inputs: multiples of a factor for each output."""

    def __init__(self, fmt: WeightFormat, scale: Floats, limit: int) -> None:
        self._scale, self._four = scale, fmt.bits == 4
        self._most = 7 if self._four else limit
        self._factor: Floats = np.ones_like(scale)

    def choose(self, weight: Floats, importance: Floats) -> None:
        """Take the factors with the least squared error over a group; both [group, n]."""
        if not self._four:
            return
        best = np.full(self._scale.shape, np.inf)
        for factor in range(FACTORS, 0, -1):
            step = factor * self._scale
            near = np.clip(np.rint(weight / step), -self._most, self._most) * step
            error = (np.square(weight - near) * importance).sum(axis=0)
            better = error < best
            best = np.where(better, error, best)
            self._factor = np.where(better, factor, self._factor)

    def round(self, weight: Floats) -> NDArray[np.int8]:
        """The integers nearest to weights [..., n]."""
        step = self._factor * self._scale
        return (np.clip(np.rint(weight / step), -self._most, self._most) * self._factor).astype(
            np.int8
        )


def _second_order(
    weight: Floats,
    fmt: WeightFormat,
    inputs: Floats,
    least: Floats,
    limit: int,
    given: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int8], Floats]:
    """Input by input: round, and let the inputs behind it make up for the error."""
    k, n = weight.shape
    spread = _spread(_correlations(inputs))
    ease = np.square(np.diagonal(spread))  # of making up for an error: it costs error**2 / ease
    weight = weight.copy()
    able = np.ones(weight.shape, np.bool_)
    if fmt.block:
        able = _kept_blocks(_worth_of_blocks(weight, spread, fmt), weight, fmt)
        weight = _made_up(weight, able, _correlations(inputs), fmt.block)
    kept = able & (_kept(np.square(weight) * able / ease[:, None], fmt) if given is None else given)
    scale = np.maximum(np.abs(np.where(kept, weight, 0.0)).max(axis=0) / limit, least)
    levels = _Levels(fmt, scale, limit)
    rounded = np.zeros((k, n), np.int8)
    for start in range(0, k, _BATCH):
        end = min(start + _BATCH, k)
        errors = np.zeros((end - start, n))
        for j in range(start, end):
            if fmt.sparse and given is None and j % fmt.m == 0:
                block = slice(j, j + fmt.m)
                score = np.square(weight[block]) * able[block] / ease[block, None]
                kept[block] = able[block] & _kept(score, fmt)
            if fmt.group and j % fmt.group == 0:
                group = slice(j, j + fmt.group)
                worth = np.where(kept[group], 1 / ease[group, None], 0.0)
                levels.choose(weight[group], worth)
            rounded[j] = np.where(kept[j], levels.round(weight[j]), 0)
            error = (weight[j] - rounded[j] * scale) / spread[j, j]
            weight[j + 1 : end] -= np.outer(spread[j, j + 1 : end], error)
            errors[j - start] = error
        weight[end:] -= spread[start:end, end:].T @ errors
    return rounded, scale


def _worth_of_blocks(weight: Floats, spread: Floats, fmt: WeightFormat) -> Floats:
    """What is lost with the inputs of a block if all others make up for them; [k, n], equal within a block's inputs.

    For the inputs ``b`` of an output ``w`` it is ``w[b] @ inv(C[b, b]) @ w[b]``; C is the inverse of the correlations.
    """
    worth = np.empty(weight.shape)
    for start in range(0, len(weight), fmt.block):
        rows = slice(start, start + fmt.block)
        column = spread[: rows.stop, rows]
        worth[rows] = (weight[rows] * np.linalg.solve(column.T @ column, weight[rows])).sum(axis=0)
    return worth


def _made_up(weight: Floats, able: NDArray[np.bool_], correlations: Floats, block: int) -> Floats:
    """The weights in blocks that are kept, such that they lose the least with the others; zeros elsewhere."""
    found = np.zeros(weight.shape)
    for start in range(0, weight.shape[1], block):
        outputs, kept = slice(start, start + block), able[:, start]
        wanted = correlations[kept] @ weight[:, outputs]
        found[kept, outputs] = np.linalg.solve(correlations[np.ix_(kept, kept)], wanted)
    return found


def _correlations(inputs: Floats) -> Floats:
    """Of the inputs [samples, k], damped, [k, k]."""
    gram = inputs.T @ inputs
    mean = float(np.diagonal(gram).mean()) or 1.0
    gram[np.diag_indices_from(gram)] += _DAMPING * mean
    return gram


def _spread(correlations: Floats) -> Floats:
    """The upper Cholesky factor of the inverse of the inputs' correlations, [k, k]."""
    return np.asarray(np.linalg.cholesky(np.linalg.inv(correlations)).T, np.float64)
