# SPDX-License-Identifier: Apache-2.0
"""From a model to the scheduler's problem, and from a schedule to the hardware's program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from designs.model import CONTEXT, TOKENS, Model
from designs.model import Task as ModelTask
from designs.model import Tensor as ModelTensor
from hw.core.config import CoreConfig
from hw.core.program import Destination, Op, Program, Step
from schedules.errors import ScheduleError
from schedules.problem import Carry, Problem, Section, Task, Tensor
from schedules.roles import Role, role
from schedules.schedule import Phase, Schedule
from schedules.sizes import Size, size_value

__all__ = ["lower", "program"]

_LAYER = re.compile(r"h(\d+)\.(.+)")
_SYMBOLS: Mapping[int | str, Size] = {TOKENS: "L", CONTEXT: "P+L"}
_OPERATIONS = {
    "layernorm": "layernorm", "rmsnorm": "rmsnorm", "rotary": "rotary", "softmax": "softmax",
    "activation": "activation", "elementwise": "add", "embedding": "embedding", "argmax": "argmax",
}  # fmt: skip
_FORMS = {"linear": "matmul", "pair": "matmul", "scores": "scores", "context": "context"}

WIDE = "i16"
"""The residual stream, scores, and what an activation or a sum takes, before it is narrowed to 8 bits."""


# ---- From a model to a problem ---------------------------------------------------------------------


def lower(model: Model) -> Problem:
    """What a model asks of a scheduler: a section before the layers, one layer that repeats, and the head.

    The head works for the last token of a pass, and only if the pass yields a token.

    Raises
    ------
    ScheduleError
        If the layers are not alike, or a task is of a kind that no unit does.
    """
    start = [t for t in model.tasks if not _LAYER.match(t.name) and _before(model, t)]
    head = [t for t in model.tasks if not _LAYER.match(t.name) and t not in start]
    layers: list[list[ModelTask]] = [[] for _ in range(model.layers)]
    for task in model.tasks:
        if found := _LAYER.match(task.name):
            layers[int(found[1])].append(task)
    entry, leave = _boundary(model, layers)
    shapes = [_shape(model, layer, index) for index, layer in enumerate(layers)]
    for index, shape in enumerate(shapes[1:], 1):
        if shape != shapes[0]:
            raise ScheduleError(f"Layer {index} of {model.name} is not like layer 0")
    names = _Names(model, entry, leave)
    builder = _Builder(model, names)
    sections = (
        Section("start", builder.add(start)),
        Section(
            "layer",
            builder.add(layers[0]),
            model.layers,
            carries=(Carry("x", entry, _local(leave)),),
        ),
        Section("head", builder.add(head, last=True), answer=True),
    )
    tensors = (Tensor("x", builder.tensors[entry].shape, WIDE, "carry"), *builder.tensors.values())
    return Problem(model.name, tensors, tuple(builder.tasks), sections)


def _before(model: Model, task: ModelTask) -> bool:
    """Whether a task outside the layers comes before them."""
    names = [t.name for t in model.tasks]
    return names.index(task.name) < min(k for k, name in enumerate(names) if _LAYER.match(name))


def _local(name: str) -> str:
    """A name within its layer."""
    found = _LAYER.match(name)
    return found[2] if found else name


def _shape(model: Model, layer: list[ModelTask], index: int) -> list[tuple]:
    """A layer without its number: equal for layers that are alike."""

    def seen(name: str) -> str:
        found = _LAYER.match(name)
        return found[2] if found and int(found[1]) == index else "x"

    return [
        (
            seen(t.name),
            t.kind,
            [seen(n) for n in t.inputs],
            [model.tensor(n).shape for n in t.inputs],
            t.attributes,
        )
        for t in layer
    ]


def _boundary(model: Model, layers: list[list[ModelTask]]) -> tuple[str, str]:
    """The tensor that enters layer 0 and the one that leaves it for the next layer (or for the head)."""
    inside = {o for t in layers[0] for o in t.outputs}
    entries = {
        n for t in layers[0] for n in t.inputs
        if n not in inside and model.tensor(n).kind not in ("weight", "input")
    }  # fmt: skip
    leaves = {o for o in inside if any(r not in layers[0] for r in model.consumers(o))}
    if len(entries) != 1 or len(leaves) != 1:
        raise ScheduleError(
            f"A layer of {model.name} must take one tensor and give one, not {sorted(entries)} and {sorted(leaves)}"
        )
    return entries.pop(), leaves.pop()


@dataclass(frozen=True)
class _Names:
    """What tensors are called in the problem: those of layer 0 lose its number, the one that enters it is ``x``."""

    model: Model
    entry: str
    leave: str

    def of(self, name: str, reader: ModelTask) -> str:
        """The name under which a task reads a tensor."""
        in_layer, made = bool(_LAYER.match(reader.name)), _LAYER.match(name)
        if name == self.entry and in_layer:
            return "x"
        if made and not in_layer and name != f"h{self.model.layers - 1}.{_local(self.leave)}":
            raise ScheduleError(
                f"Task {reader.name} reads {name}, which is not what the last layer gives"
            )
        tensor = self.model.tensor(name)
        if tensor.kind == "weight" and reader.kind == "matmul" and not in_layer:
            return f"{reader.name}.weight"  # its own copy in the integers of the engine, even if it is tied
        return _local(name)


class _Builder:
    """Collects tasks and tensors of a problem."""

    def __init__(self, model: Model, names: _Names) -> None:
        self._model, self._names = model, names
        self.tensors: dict[str, Tensor] = {}
        self.tasks: list[Task] = []

    def add(self, tasks: list[ModelTask], *, last: bool = False) -> tuple[str, ...]:
        """Add tasks, ``last`` for the last token only; their names."""
        made = [self._task(task, last) for task in tasks]
        self.tasks += made
        return tuple(t.name for t in made)

    def _task(self, task: ModelTask, last: bool) -> Task:
        operation = _OPERATIONS.get(task.kind) or _FORMS.get(task.get("form", "linear"))
        if operation is None or task.kind not in (*_OPERATIONS, "matmul"):
            raise ScheduleError(f"Task {task.name} is a {task.kind}, which no unit does")
        if task.kind == "elementwise" and task.get("operation") != "add":
            raise ScheduleError(f"Task {task.name} must add, not {task.get('operation')}")
        inputs = []
        for name in task.inputs:
            called = self._names.of(name, task)
            inputs.append(called)
            tensor = self._model.tensor(name)
            if called not in self.tensors and tensor.kind in ("weight", "input"):
                self.tensors[called] = Tensor(
                    called, self._dims(tensor, False), _stored(tensor, task), tensor.kind
                )
        outputs = []
        for name in task.outputs:
            tensor = self._model.tensor(name)
            called = _local(name)
            outputs.append(called)
            self.tensors[called] = Tensor(
                called,
                self._dims(tensor, last),
                self._dtype(task, name),
                "cache" if tensor.kind == "cache" else "activation",
            )
        return Task(
            _local(task.name), operation, tuple(inputs), tuple(outputs),
            causal=bool(task.get("causal", False)) and task.kind == "matmul",
            heads=int(task.get("heads", 1)) if task.kind == "matmul" else 1,
            shared=_shared(task),
            **self._sizes(task, last),
        )  # fmt: skip

    def _dims(self, tensor: ModelTensor, last: bool) -> tuple[Size, ...]:
        return tuple(
            1 if last and dim == TOKENS else _SYMBOLS.get(dim, dim) for dim in tensor.shape
        )

    def _dtype(self, task: ModelTask, name: str) -> str:
        """Tensors of the residual stream and streams into special units are wide."""
        if task.kind == "argmax":
            return "u32"
        if task.kind in ("embedding", "elementwise"):
            return WIDE
        readers = self._model.consumers(name)
        streamed = (
            task.kind == "matmul"
            and readers
            and readers[0].kind in ("softmax", "activation", "elementwise", "argmax", "rotary")
        )
        return WIDE if streamed else "i8"

    def _sizes(self, task: ModelTask, last: bool) -> dict[str, Size]:
        shape = self._dims(self._model.tensor(task.outputs[0]), last)
        rows: Size = 1 if last else "L"
        if task.kind != "matmul":
            source = self._dims(self._model.tensor(task.inputs[0]), last)
            return {"m": rows, "n": source[-1] if task.kind in ("argmax", "softmax") else shape[-1]}
        a, b = (self._model.tensor(n).shape for n in task.inputs[:2])
        heads, form = int(task.get("heads", 1)), task.get("form", "linear")
        if form == "scores":
            return {"m": rows, "k": int(a[1]) // heads, "n": "P+L"}
        if form == "context":
            return {"m": rows, "k": "P+L", "n": int(b[1]) * _shared(task) // heads}
        if form == "pair":
            return {"m": rows, "k": b[0], "n": 2 * int(b[1])}
        transposed = task.get("transposed", False)
        return {"m": rows, "k": b[1] if transposed else b[0], "n": b[0] if transposed else b[1]}


def _shared(task: ModelTask) -> int:
    """Heads of a product that share a head of keys or values."""
    heads = int(task.get("heads", 1))
    return heads // int(task.get("kv_heads", heads)) if task.kind == "matmul" else 1


def _stored(tensor: ModelTensor, reader: ModelTask) -> str:
    """How a weight or input lies in memory."""
    if tensor.kind == "input":
        return "u32"
    if reader.kind != "matmul":
        return WIDE
    return "i32" if len(tensor.shape) == 1 else "i8"


# ---- From a schedule to a program ------------------------------------------------------------------

_RESULTS = {
    "buffer": Destination.ACTIVATION, "gated": Destination.GATED, "residual": Destination.RESIDUAL,
    "rotated": Destination.ROTATED, "key": Destination.KEY, "value": Destination.VALUE, "logit": Destination.LOGIT,
}  # fmt: skip


def program(schedule: Schedule, config: CoreConfig) -> Program:
    """The steps that a core plays: one for each phase.

    Parameters
    ----------
    schedule : what to play.
    config : the core.

    Raises
    ------
    ScheduleError
        If the schedule is not for this core: other sizes, or tensors in other places than its units use.
    """
    plain = [s for s in schedule.sections if not s.answer]
    loop = plain[-1].name
    ordered = [
        p
        for s in (*plain, *(s for s in schedule.sections if s.answer))
        for p in schedule.phases
        if p.section == s.name
    ]
    answers = {s.name for s in schedule.sections if s.answer}
    steps = []
    for phase in ordered:
        what = role(schedule, phase)
        step = replace(
            _step(schedule, phase, what, config),
            wait=phase.barrier,
            head=phase.section in answers,
            last_token=what.kind in ("norm", "product") and size_value(what.task.m, 2) == 1,
        )
        steps.append(step)
    last = max(k for k, p in enumerate(ordered) if p.section == loop)
    steps[last] = replace(steps[last], layer_end=True)
    first = min(k for k, p in enumerate(ordered) if p.section == loop)
    if not config.stream.compressed and not config.w_masks:
        return Program(steps=tuple(steps), layer_start=first)
    layers = [
        (
            *steps[:first],
            *_streamed(steps[first : last + 1], config, layer),
            *_streamed(steps[last + 1 :], config, layer),
        )
        for layer in range(config.layers if config.layer_ends else 1)
    ]
    return Program(layers[0], first, tuple(layers) if config.layer_ends else ())


def _streamed(steps: list[Step], config: CoreConfig, layer: int) -> list[Step]:
    """Steps that take beats of a compressed weight stream: tiles of terms, whole rows, and a whole period at the end.

    Of a tile there are beats for the words that it has weights of.

    Raises
    ------
    ScheduleError
        If the last one has no tile that the rest of the period could go with.
    """
    row, beats, found = config.stream.row_beats, 0, []
    for index, step in enumerate(steps):
        ends = index == len(steps) - 1
        if step.op == Op.MATMUL:
            terms = config.terms(step.name, layer)
            words = terms * config.words(step.name, layer, step.k_words)
            headers = -(-step.n_tiles // config.header_tiles) + step.constant
            beats += row * headers + words * step.n_tiles
            pad = -beats % (config.stream.period_beats if ends else row)
            step = replace(step, k_words=words // config.span, terms=terms, pad=pad)
            beats += pad
        elif ends:
            raise ScheduleError(f"Phase {step.name} ends a weight stream, but has no weights")
        elif step.op == Op.NORM:
            beats += row * (1 + -(-config.norm_bytes * config.width // config.beat_bytes))
        elif step.op == Op.ATTENTION:
            beats += 2 * row
        found.append(step)
    return found


def _step(schedule: Schedule, phase: Phase, what: Role, config: CoreConfig) -> Step:
    if what.kind == "embed":
        return Step(name=phase.id, op=Op.EMBED)
    if what.kind == "norm":
        _check(schedule, what.target, config.norm_base, config)
        return Step(name=phase.id, op=Op.NORM)
    if what.kind == "attention":
        _check(schedule, what.source, config.query_base, config)
        _check(schedule, what.target, config.context_base, config)
        found, own = (what.task.heads, what.task.shared), (config.heads, config.shared)
        if found != own:
            raise ScheduleError(
                f"Phase {phase.id} has {found[0]} heads, of which {found[1]} share keys and values, the core "
                f"{own[0]} and {own[1]}"
            )
        return Step(name=phase.id, op=Op.ATTENTION, constant=True)
    k, n = (size_value(size, config.chunk) for size in (what.task.k, what.task.n))
    if k % config.lanes:
        raise ScheduleError(
            f"Phase {phase.id} reduces {k} elements, not a multiple of {config.lanes} lanes"
        )
    step = Step(
        name=phase.id,
        op=Op.MATMUL,
        destination=_RESULTS[what.result],
        constant=what.result == "gated",
        fetch=what.last_write,
        k_words=k // config.lanes,
        n_tiles=-(-n // config.lanes),
        source=_word(schedule, what.source, config),
        source_stride=k // config.lanes,
    )
    if what.result in ("buffer", "gated", "rotated"):
        stored = size_value(schedule.problem.tensor(what.target).shape[-1], config.chunk)
        return replace(
            step, target=_word(schedule, what.target, config), target_stride=stored // config.lanes
        )
    return step


def _word(schedule: Schedule, tensor: str, config: CoreConfig) -> int:
    """First word of a tensor in the activation buffer."""
    buffer, home = schedule.home(tensor)
    if (buffer.banks, buffer.word_bytes) != (config.tokens, config.lanes):
        raise ScheduleError(
            f"Tensor {tensor} lives in {buffer.name} of {buffer.banks} banks of {buffer.word_bytes} bytes, but the "
            f"core's activations are in {config.tokens} banks of {config.lanes} bytes"
        )
    word = buffer.word(tensor)
    if home.end > config.activation_depth * config.tokens * config.lanes:
        raise ScheduleError(
            f"Tensor {tensor} ends at byte {home.end}, beyond the core's activation buffer"
        )
    return word


def _check(schedule: Schedule, tensor: str, word: int, config: CoreConfig) -> None:
    """A unit with a fixed place for a tensor: the schedule must agree."""
    found = _word(schedule, tensor, config)
    if found != word:
        raise ScheduleError(
            f"Tensor {tensor} starts at word {found}, but its unit uses word {word}"
        )
