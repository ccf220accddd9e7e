# SPDX-License-Identifier: Apache-2.0
"""The Model: a network as tasks and the tensors between them, with symbolic sequence length."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PositiveInt,
    ValidationError,
    model_validator,
)

from designs.catalogue import explain
from designs.errors import DesignError

TOKENS = "L"
"""The symbol for the number of tokens of this pass."""
CONTEXT = "C"
"""The symbol for the number of tokens that attention sees: the past and this pass."""

Dim = int | str
Shape = tuple[Dim, ...]
Value = bool | int | float | str
TensorKind = Literal["input", "weight", "activation", "cache"]


def _pairs(value: object) -> object:
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value


Attributes = Annotated[
    tuple[tuple[str, Value], ...], BeforeValidator(_pairs), PlainSerializer(dict)
]


class Tensor(BaseModel):
    """A tensor of a Model.

    Parameters
    ----------
    name : str
        Its name. An activation or cache is named like the task that makes it.
    shape : tuple of int or str
        Its dimensions: positive integers, ``"L"`` (tokens of this pass) or ``"C"`` (tokens that
        attention sees: the past and this pass).
    kind : str
        ``"input"`` (given from outside), ``"weight"`` (from the checkpoint), ``"activation"``
        (lives during a pass) or ``"cache"`` (kept between passes: its first dimension is ``"C"``,
        and the task that makes it writes the rows of this pass).
    source : str
        For a weight: its name in the checkpoint, without the prefix of a model with a head.
    columns, rows : tuple of int, optional
        For a weight: the half-open range of the source's last and first axis that it is, if not all.
    transposed : bool
        For a weight: the source is its transpose.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    shape: tuple[Dim, ...]
    kind: TensorKind
    source: str = ""
    columns: tuple[int, int] | None = None
    rows: tuple[int, int] | None = None
    transposed: bool = False

    @model_validator(mode="after")
    def _check(self) -> Tensor:
        if not self.name:
            raise DesignError("a tensor must have a name")
        for dim in self.shape:
            if dim not in (TOKENS, CONTEXT) and (isinstance(dim, str) or dim < 1):
                raise DesignError(
                    f"tensor {self.name}: a dimension is a positive integer, L or C, not {dim!r}"
                )
        if self.kind == "weight" and any(isinstance(dim, str) for dim in self.shape):
            raise DesignError(f"tensor {self.name}: a weight has a fixed shape, not {self.shown}")
        if self.kind == "cache" and self.shape[:1] != (CONTEXT,):
            raise DesignError(
                f"tensor {self.name}: a cache has C as its first dimension, not {self.shown}"
            )
        if self.kind != "weight" and (self.source or self.columns):
            raise DesignError(f"tensor {self.name}: only a weight has a source, not {self.kind}")
        if self.columns is not None:
            start, stop = self.columns
            if start < 0 or not self.shape or stop - start != self.shape[-1]:
                raise DesignError(
                    f"tensor {self.name}: columns {start}:{stop} do not give shape {self.shown}"
                )
        if self.rows is not None:
            start, stop = self.rows
            if start < 0 or not self.shape or stop - start != self.shape[0]:
                raise DesignError(
                    f"tensor {self.name}: rows {start}:{stop} do not give shape {self.shown}"
                )
        return self

    @property
    def fixed(self) -> tuple[int, ...]:
        """The shape of a weight, whose dimensions are all known."""
        return tuple(int(dim) for dim in self.shape)

    @property
    def shown(self) -> str:
        """The shape as a person writes it: ``[L, 64]``."""
        return show(self.shape)


class Task(BaseModel):
    """A task of a Model: one operation on whole tensors.

    Parameters
    ----------
    name : str
        Its name: ``h3.fc1``.
    kind : str
        What it does: a key of `KINDS`.
    inputs, outputs : tuple of str
        Names of tensors.
    attributes : mapping of str to bool, int, float or str
        What else its kind needs (``heads``, ``causal``, ``eps``). Kept as sorted pairs, so that a
        task hashes; read one with `get`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Attributes = ()

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or `default` if the task has none of this name."""
        return dict(self.attributes).get(name, default)


@dataclass(frozen=True)
class Kind:
    """A kind of task: what shapes it takes and gives.

    Parameters
    ----------
    name : str
        What tasks call it.
    infer : callable
        ``infer(task, input shapes) -> output shapes``; raises ValueError, with a message that says
        what must hold, if the shapes or attributes do not fit.
    attributes : tuple of str
        Names of the attributes a task of this kind may have.
    """

    name: str
    infer: Callable[[Task, Sequence[Shape]], list[Shape]]
    attributes: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {}
"""Every kind of task that a Model can have, by name."""


def register(kind: Kind) -> Kind:
    """Add a kind of task.

    Raises
    ------
    DesignError
        If there is one of this name.
    """
    if kind.name in KINDS:
        raise DesignError(f"task kind {kind.name} is already registered")
    KINDS[kind.name] = kind
    return kind


@dataclass(frozen=True)
class MatmulShape:
    """The numbers of a matrix product: `heads` products of ``[rows, reduce] @ [reduce, outputs]``.

    ``causal`` is ``"outputs"`` (row i of a pass needs the first ``past + i + 1`` outputs: scores),
    ``"reduce"`` (it sums over the first ``past + i + 1``: context) or None.
    """

    heads: int
    rows: int
    reduce: int
    outputs: int
    past: int
    causal: Literal["outputs", "reduce"] | None

    @property
    def macs(self) -> int:
        """Multiplications that the result needs; what the causal mask hides is not counted."""
        if self.causal is None:
            return self.heads * self.rows * self.reduce * self.outputs
        visible = self.rows * self.past + self.rows * (self.rows + 1) // 2
        other = self.reduce if self.causal == "outputs" else self.outputs
        return self.heads * visible * other


class Model(BaseModel):
    """A network as tasks in program order and the tensors between them.

    Frozen and validated: names are unique, every tensor has one producer (inputs and weights have
    none), a task's inputs exist and are made before it, shapes agree with the task's kind, and
    every weight is read. A tensor is bound to the numbers of a pass by `size`.

    Parameters
    ----------
    name, family : str
        Name of the card and whose graph it is.
    context, vocabulary, layers, width, heads, kv_heads, ffn : int
        Facts about the whole network, as in `designs.cards.ModelCard`.
    tensors : tuple of Tensor
    tasks : tuple of Task

    Raises
    ------
    DesignError
        Names the task or tensor at fault.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    family: str
    context: PositiveInt
    vocabulary: PositiveInt
    layers: PositiveInt
    width: PositiveInt
    heads: PositiveInt
    kv_heads: PositiveInt
    ffn: PositiveInt
    tensors: tuple[Tensor, ...]
    tasks: tuple[Task, ...]

    @model_validator(mode="after")
    def _check(self) -> Model:
        self.verify()
        return self

    def verify(self) -> None:
        """Check the promises in the class docstring; raise DesignError if one is broken."""
        for what, items in (("tensor", self.tensors), ("task", self.tasks)):
            seen: set[str] = set()
            for item in items:
                if item.name in seen:
                    raise DesignError(f"model {self.name}: two {what}s are called {item.name}")
                seen.add(item.name)
        producers: dict[str, str] = {}
        for task in self.tasks:
            for name in task.outputs:
                if name in producers:
                    raise DesignError(
                        f"model {self.name}: tensor {name} is made by task {producers[name]} and "
                        f"by task {task.name}; a tensor has one producer"
                    )
                producers[name] = task.name
        ready = {t.name for t in self.tensors if t.kind in ("input", "weight")}
        read: set[str] = set()
        for task in self.tasks:
            try:
                self._check_task(task, ready, producers)
            except ValueError as error:
                raise DesignError(
                    f"model {self.name}: task {task.name} ({task.kind}): {error}"
                ) from error
            ready.update(task.outputs)
            read.update(task.inputs)
        for tensor in self.tensors:
            if tensor.name not in ready:
                raise DesignError(
                    f"model {self.name}: no task makes {tensor.kind} {tensor.name}; "
                    f"only inputs and weights come from outside"
                )
            if tensor.kind in ("input", "weight") and tensor.name not in read:
                raise DesignError(
                    f"model {self.name}: no task reads {tensor.kind} {tensor.name}; remove it"
                )

    def _check_task(self, task: Task, ready: set[str], producers: Mapping[str, str]) -> None:
        kind = KINDS.get(task.kind)
        if kind is None:
            raise ValueError(f"the kind is not known{_nearest(task.kind, KINDS)}")
        for name, _ in task.attributes:
            if name not in kind.attributes:
                raise ValueError(f"attribute {name} is not known{_nearest(name, kind.attributes)}")
        for name in (*task.inputs, *task.outputs):
            if name not in self._tensors:
                raise ValueError(f"tensor {name} does not exist{_nearest(name, self._tensors)}")
        for name in task.inputs:
            if name not in ready:
                maker = producers.get(name)
                raise ValueError(
                    f"it reads {name}, which "
                    + (f"the later task {maker} makes" if maker else "no task makes")
                )
        for name in task.outputs:
            if self._tensors[name].kind in ("input", "weight"):
                raise ValueError(
                    f"it makes {name}, but {name} is declared as {self._tensors[name].kind}"
                )
        found = kind.infer(task, [self._tensors[name].shape for name in task.inputs])
        if len(found) != len(task.outputs):
            raise ValueError(f"it has {len(found)} outputs, not {len(task.outputs)}")
        for name, shape in zip(task.outputs, found, strict=True):
            tensor = self._tensors[name]
            rows = (CONTEXT, *shape[1:]) if tensor.kind == "cache" and shape else shape
            if tensor.kind == "cache" and shape[:1] != (TOKENS,):
                raise ValueError(f"a cache keeps rows of tokens, but {name} gets {show(shape)}")
            if rows != tensor.shape:
                raise ValueError(f"{name} is declared {tensor.shown}, but is made {show(rows)}")

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def _tasks(self) -> dict[str, Task]:
        return {task.name: task for task in self.tasks}

    @cached_property
    def _producers(self) -> dict[str, Task]:
        return {name: task for task in self.tasks for name in task.outputs}

    @cached_property
    def _consumers(self) -> dict[str, list[Task]]:
        readers: dict[str, list[Task]] = {}
        for task in self.tasks:
            for name in dict.fromkeys(task.inputs):
                readers.setdefault(name, []).append(task)
        return readers

    def tensor(self, name: str) -> Tensor:
        """Return the tensor of this name; DesignError with the nearest match if there is none."""
        if name not in self._tensors:
            near = _nearest(name, self._tensors)
            raise DesignError(f"model {self.name} has no tensor {name}{near}")
        return self._tensors[name]

    def task(self, name: str) -> Task:
        """Return the task of this name; DesignError with the nearest match if there is none."""
        if name not in self._tasks:
            raise DesignError(f"model {self.name} has no task {name}{_nearest(name, self._tasks)}")
        return self._tasks[name]

    def producer(self, name: str) -> Task | None:
        """Return the task that makes a tensor; None for inputs and weights."""
        self.tensor(name)
        return self._producers.get(name)

    def consumers(self, name: str) -> tuple[Task, ...]:
        """Return the tasks that read a tensor, in program order."""
        self.tensor(name)
        return tuple(self._consumers.get(name, ()))

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """The weights, in the order of declaration; a weight read twice is here once."""
        return tuple(t for t in self.tensors if t.kind == "weight")

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that are given from outside."""
        return tuple(t for t in self.tensors if t.kind == "input")

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The tensors that tasks make and none reads."""
        return tuple(
            t for t in self.tensors if t.name in self._producers and t.name not in self._consumers
        )

    @property
    def weight_elements(self) -> int:
        """Number of weight elements; tied weights count once."""
        return sum(math.prod(self.size(t.name, 1)) for t in self.weights)

    def size(self, name: str, tokens: int, past: int = 0) -> tuple[int, ...]:
        """Return a tensor's shape in a pass of `tokens` tokens after `past` earlier ones.

        Raises
        ------
        DesignError
            If there is no such tensor, or the pass does not fit in the context.
        """
        self._check_pass(tokens, past)
        return bind(self.tensor(name).shape, tokens, past)

    def matmul(self, name: str, tokens: int, past: int = 0) -> MatmulShape:
        """Return the numbers of a matmul task in a pass.

        Raises
        ------
        DesignError
            If the task is not a matmul, or the pass does not fit in the context.
        """
        task = self.task(name)
        if task.kind != "matmul":
            raise DesignError(f"model {self.name}: task {name} is a {task.kind}, not a matmul")
        self._check_pass(tokens, past)
        a, b = (bind(self._tensors[n].shape, tokens, past) for n in task.inputs[:2])
        heads, form = int(task.get("heads", 1)), task.get("form", "linear")
        if form == "scores":
            causal = "outputs" if task.get("causal", False) else None
            return MatmulShape(heads, a[0], a[1] // heads, b[0], past, causal)
        if form == "context":
            causal = "reduce" if task.get("causal", False) else None
            kv_heads = int(task.get("kv_heads", heads))
            return MatmulShape(heads, a[1], a[2], b[1] // kv_heads, past, causal)
        if form == "pair":
            return MatmulShape(1, a[0], a[1], 2 * b[1], past, None)
        outputs = b[0] if task.get("transposed", False) else b[1]
        return MatmulShape(1, a[0], a[1], outputs, past, None)

    def macs(self, tokens: int, past: int = 0) -> int:
        """Return the multiply-accumulates of all matmul tasks in a pass.

        A pass is `tokens` tokens after `past` earlier ones. Causal work is counted once: what the
        mask hides is not counted.

        Raises
        ------
        DesignError
            If the pass does not fit in the context.
        """
        self._check_pass(tokens, past)
        return sum(
            self.matmul(task.name, tokens, past).macs
            for task in self.tasks
            if task.kind == "matmul"
        )

    def _check_pass(self, tokens: int, past: int) -> None:
        if tokens < 1 or past < 0 or tokens + past > self.context:
            raise DesignError(
                f"model {self.name}: a pass is at least 1 token and at most {self.context} with "
                f"those before it, not {tokens} after {past}"
            )

    def to_yaml(self) -> str:
        """Return the model as YAML text, one line per tensor and task; `from_yaml` reads it."""
        data = self.model_dump(mode="python", exclude_defaults=True)
        lines = [
            _flow({key: value})[1:-1]
            for key, value in data.items()
            if key not in ("tensors", "tasks")
        ]
        for part in ("tensors", "tasks"):
            lines.append(f"{part}:")
            lines += [f"- {_flow(_plain(row))}" for row in data[part]]
        return "\n".join(lines) + "\n"

    @classmethod
    def from_yaml(cls, text: str) -> Model:
        """Return the model in a YAML text.

        Raises
        ------
        DesignError
            If the text is not YAML, has missing or unknown fields, or breaks a promise.
        """
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            data = yaml.load(text, Loader=loader)
        except yaml.YAMLError as error:
            raise DesignError(f"model: not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(data, dict):
            raise DesignError("model: the YAML must be a mapping with tensors and tasks")
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise DesignError(f"model {data.get('name')}: {explain(error, cls)}") from error

    def summary(self) -> str:
        """Return the model in one line."""
        return (
            f"{self.name}: {self.layers} layers, width {self.width}, {self.heads} heads, "
            f"ffn {self.ffn}, vocabulary {self.vocabulary}, context {self.context}; "
            f"{len(self.tasks)} tasks, {self.weight_elements:,} weights, "
            f"{self.macs(1):,} MACs for the first token"
        )

    def __str__(self) -> str:
        """Return the summary and a line for each task."""
        width = max((len(task.name) for task in self.tasks), default=0)
        lines = [self.summary()]
        for task in self.tasks:
            read, made = (
                ", ".join(f"{n} {self._tensors[n].shown}" for n in names)
                for names in (task.inputs, task.outputs)
            )
            extra = "".join(f" {name}={value}" for name, value in task.attributes)
            lines.append(f"  {task.name:<{width}}  {task.kind}{extra}: {read} -> {made}")
        return "\n".join(lines)


def bind(shape: Shape, tokens: int, past: int = 0) -> tuple[int, ...]:
    """Return a shape with L = `tokens` and C = `past` + `tokens`."""
    symbols = {TOKENS: tokens, CONTEXT: past + tokens}
    return tuple(symbols[dim] if isinstance(dim, str) else dim for dim in shape)


def show(shape: Shape) -> str:
    """Return a shape as a person writes it: ``[L, 64]``."""
    return "[" + ", ".join(str(dim) for dim in shape) + "]"


def _nearest(name: str, known: Mapping[str, object] | Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _flow(value: Any) -> str:
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(
        value, Dumper=dumper, default_flow_style=True, sort_keys=False, width=1 << 30
    ).rstrip("\n")


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _arity(shapes: Sequence[Shape], *counts: int) -> None:
    wanted = " or ".join(str(count) for count in counts)
    _need(len(shapes) in counts, f"it has {wanted} inputs, not {len(shapes)}")


def _infer_matmul(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    """Linear, pair, scores or context.

    linear is ``[L, k] @ [k, n] + [n]``; pair is two such products of one input, without biases, side
    by side; scores is q times k transposed, by head; context is p times v. Some heads of q may share
    one of k and v: ``heads / kv_heads`` of them.
    """
    form, heads = task.get("form", "linear"), task.get("heads", 1)
    if form == "linear":
        _arity(shapes, 2, 3)
        x, w = shapes[:2]
        _need(len(x) == 2 and len(w) == 2, f"it multiplies matrices, not {show(x)} and {show(w)}")
        k, n = (w[1], w[0]) if task.get("transposed", False) else (w[0], w[1])
        _need(x[1] == k, f"{show(x)} has {x[1]} columns, but the weight {show(w)} reduces {k}")
        for bias in shapes[2:]:
            _need(bias == (n,), f"the bias must be {show((n,))}, not {show(bias)}")
        return [(x[0], n)]
    if form == "pair":
        _arity(shapes, 3)
        x, w, other = shapes
        _need(len(x) == 2 and len(w) == 2, f"it multiplies matrices, not {show(x)} and {show(w)}")
        _need(w == other, f"both weights must be {show(w)}, not {show(other)}")
        _need(
            x[1] == w[0], f"{show(x)} has {x[1]} columns, but the weight {show(w)} reduces {w[0]}"
        )
        return [(x[0], 2 * int(w[1]))]
    _arity(shapes, 2)
    a, b = shapes
    _need(isinstance(heads, int) and heads >= 1, f"heads must be positive, not {heads!r}")
    kv_heads = task.get("kv_heads", heads)
    _need(
        isinstance(kv_heads, int) and kv_heads >= 1 and heads % kv_heads == 0,
        f"heads must be a multiple of kv_heads, but {heads} is not one of {kv_heads!r}",
    )
    _need(
        len(b) == 2 and isinstance(b[1], int) and b[1] % kv_heads == 0,
        f"the second input must be [C, a multiple of {kv_heads} heads], not {show(b)}",
    )
    width = heads // kv_heads * int(b[1])
    if form == "scores":
        _need(len(a) == 2 and a[1] == width, f"q {show(a)} and k {show(b)} must be equally wide")
        return [(heads, a[0], b[0])]
    if form == "context":
        _need(
            len(a) == 3 and a[0] == heads and a[2] == b[0],
            f"the first input must be {show((heads, TOKENS, b[0]))}, not {show(a)}",
        )
        return [(a[1], width)]
    raise ValueError(f"form must be linear, pair, scores or context, not {form!r}")


def _infer_layernorm(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    _arity(shapes, 3)
    x, weight, bias = shapes
    _need(weight == x[-1:], f"the weight must be {show(x[-1:])}, not {show(weight)}")
    _need(bias == x[-1:], f"the bias must be {show(x[-1:])}, not {show(bias)}")
    _need(task.get("eps", 0) > 0, "eps must be given and positive")
    return [x]


def _infer_rmsnorm(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    _arity(shapes, 2)
    x, weight = shapes
    _need(weight == x[-1:], f"the weight must be {show(x[-1:])}, not {show(weight)}")
    _need(task.get("eps", 0) > 0, "eps must be given and positive")
    return [x]


def _infer_rotary(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    """Pairs of features (i, i + half) of every head, turned by position times theta**(-i / half)."""
    _arity(shapes, 1)
    (x,), heads = shapes, task.get("heads", 1)
    _need(
        len(x) == 2 and isinstance(x[1], int) and x[1] % (2 * heads) == 0,
        f"it turns pairs of features in {heads} heads, which {show(x)} has not",
    )
    _need(task.get("theta", 0) > 1, "theta must be given and above 1")
    return [x]


def _infer_softmax(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    _arity(shapes, 1)
    return [shapes[0]]


def _infer_activation(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    _arity(shapes, 1)
    _need(isinstance(task.get("function"), str), "function must be given")
    if task.get("gated", False):  # the first half is activated and multiplies the second
        *rows, n = shapes[0]
        _need(isinstance(n, int) and n % 2 == 0, f"{show(shapes[0])} must have two halves")
        return [(*rows, int(n) // 2)]
    return [shapes[0]]


def _infer_elementwise(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    _arity(shapes, 2)
    operation = task.get("operation")
    _need(operation in ("add", "mul"), f"operation must be add or mul, not {operation!r}")
    _need(shapes[0] == shapes[1], f"{show(shapes[0])} and {show(shapes[1])} must have equal shapes")
    return [shapes[0]]


def _infer_embedding(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    """Rows of a token table, plus rows of a position table if there is one."""
    _arity(shapes, 2, 3)
    tokens, *tables = shapes
    _need(tokens == (TOKENS,), f"the token ids must be [L], not {show(tokens)}")
    _need(
        all(len(table) == 2 and table[1] == tables[0][-1] for table in tables),
        f"the tables {' and '.join(show(t) for t in tables)} must be equally wide matrices",
    )
    return [(TOKENS, tables[0][1])]


def _infer_argmax(task: Task, shapes: Sequence[Shape]) -> list[Shape]:
    _arity(shapes, 1)
    return [shapes[0][:-1]]


register(
    Kind("matmul", _infer_matmul, ("form", "heads", "kv_heads", "scale", "causal", "transposed"))
)
register(Kind("layernorm", _infer_layernorm, ("eps",)))
register(Kind("rmsnorm", _infer_rmsnorm, ("eps",)))
register(Kind("rotary", _infer_rotary, ("heads", "theta")))
register(Kind("softmax", _infer_softmax, ("causal",)))
register(Kind("activation", _infer_activation, ("function", "gated")))
register(Kind("elementwise", _infer_elementwise, ("operation",)))
register(Kind("embedding", _infer_embedding))
register(Kind("argmax", _infer_argmax))
