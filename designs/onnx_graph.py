# SPDX-License-Identifier: Apache-2.0
"""From an ONNX model to a task-graph card and its float weights.

Images lose their batch dimension, which must be 1; matrices keep two dimensions. What stands alone in ONNX happens here
on the way of a result (``then``) if nobody else reads what was before: activations, pooling and scaling up. Biases,
batch normalisation and constant factors go into the weights of the product before them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from designs import catalogue
from designs.errors import DesignError
from designs.graph import GraphCard, MachineCard
from designs.onnx_file import Array, Node, OnnxFile, read_onnx

__all__ = ["OPERATORS", "OnnxKernel", "load_onnx"]

MOST_ELEMENTS = 1 << 32
"""Of a tensor that a model makes."""

MOST_CONSTANT = 1 << 28
"""Of a constant that is repeated to the shape of a tensor."""


@dataclass(frozen=True, eq=False)
class OnnxKernel:
    """A model as a kernel.

    Parameters
    ----------
    card : what it computes.
    parameters : float32 arrays by the names of ``card.parameters()``.
    inputs, outputs : names in the card by those in the model.
    """

    card: GraphCard
    parameters: dict[str, Array]
    inputs: dict[str, str]
    outputs: dict[str, str]


def load_onnx(
    path: Path,
    machine: Callable[[int], MachineCard],
    *,
    dtype: Literal["i8", "i16"] = "i16",
    dims: Mapping[str, int] | None = None,
) -> OnnxKernel:
    """Read an ONNX model of the operators in :data:`OPERATORS`.

    Parameters
    ----------
    machine : what it may use, from the most rows that a product of matrices has.
    dtype : of all tensors.
    dims : sizes of symbolic dimensions; 1 if not given.

    Raises
    ------
    DesignError
        In one line: the operator and the node that are not supported, shapes that do not chain, nodes in a cycle.
    """
    file = read_onnx(path, dims)
    try:
        return _Reader(file).kernel(machine, dtype)
    except DesignError as error:
        raise DesignError(f"{path.name}: {error}") from error
    except ValidationError as error:
        raise DesignError(f"{path.name}: {catalogue.explain(error, GraphCard)}") from error


@dataclass(frozen=True)
class _Value:
    """A tensor of the model: which tensor of the card, its shape in ONNX, and whether it is the transpose."""

    tensor: str
    shape: tuple[int, ...]
    transposed: bool = False
    gate_of: str = ""  # a sigmoid that only waits to be multiplied by this


@dataclass
class _Draft:
    """A task that may still grow."""

    op: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]  # of the result, as the card has it
    kernel: tuple[int, int, int] | None = None
    padding: str | tuple[int, ...] = "valid"
    stride: int = 1
    scale: float = 1.0
    epsilon: float = 1e-5
    then: list[str] = field(default_factory=list)
    weights: str = ""  # of a product, if they are constant
    bias: Array | None = None

    @property
    def outputs(self) -> int:
        """Of a product: as many biases."""
        return self.shape[0] if self.kernel is not None else self.shape[-1]


class _Reader:
    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.constants = dict(file.constants)
        self.values: dict[str, _Value] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}  # of inputs, as the card has them
        self.tasks: dict[str, _Draft] = {}
        self.parameters: dict[str, Array] = {}
        self.used: set[str] = set()
        self.uses = Counter(name for n in file.nodes for name in n.inputs)
        self.uses.update(file.outputs)
        self.readers: dict[str, list[Node]] = {}
        for node in file.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)

    def kernel(self, machine: Callable[[int], MachineCard], dtype: str) -> OnnxKernel:
        inputs = {}
        for name, shape in self.file.inputs.items():
            tensor = inputs[name] = self.name(name, "input")
            self.shapes[tensor] = self.squeezed(f"input {name}", shape)
            self.values[name] = _Value(tensor, shape)
        for node in self.file.nodes:
            handler = OPERATORS.get(node.op)
            if handler is None:
                raise DesignError(
                    f"{node.label}: operator {node.op} is not supported; "
                    f"supported are {', '.join(sorted(OPERATORS))}"
                )
            for name in node.inputs:
                if name in self.values and self.values[name].gate_of and node.op != "Mul":
                    raise DesignError(f"{node.label} reads a gate")  # _sigmoid looked for that
            handler(self, node)
        outputs = {}
        for name in self.file.outputs:
            value = self.values.get(name)
            if value is None or value.tensor not in self.tasks or value.transposed:
                raise DesignError(f"output {name} is not the result of a task")
            outputs[name] = value.tensor
        card = GraphCard.model_validate(
            {
                "name": self.file.path.stem,
                "description": f"from {self.file.path.name}",
                "dtype": dtype,
                "inputs": self.shapes,
                "weights": {n: a.shape for n, a in self.parameters.items() if n not in self.tasks},
                "tasks": {n: self.task(d) for n, d in self.tasks.items()},
                "outputs": tuple(dict.fromkeys(outputs.values())),
                "machine": machine(
                    max((d.shape[0] for d in self.tasks.values() if len(d.shape) == 2), default=1)
                ),
            }
        )
        biases = {
            f"{n}.bias": d.bias.astype(np.float32)
            for n, d in self.tasks.items()
            if d.bias is not None
        }
        parameters = {
            n: np.ascontiguousarray(a, np.float32) for n, a in (self.parameters | biases).items()
        }
        for name, values in parameters.items():
            if not np.isfinite(values).all():
                raise DesignError(f"constants of {name} are not finite")
        return OnnxKernel(card, {n: parameters[n] for n in card.parameters()}, inputs, outputs)

    @staticmethod
    def task(draft: _Draft) -> dict[str, Any]:
        return {
            "op": draft.op,
            "inputs": draft.inputs,
            "kernel": draft.kernel,
            "padding": draft.padding,
            "stride": draft.stride,
            "bias": draft.bias is not None,
            "scale": draft.scale,
            "epsilon": draft.epsilon,
            "then": tuple(draft.then),
        }

    # Names and shapes.

    def name(self, wanted: str, otherwise: str) -> str:
        """A name of letters, digits and underscores that nothing else has."""
        base = re.sub(r"[^A-Za-z0-9]+", "_", wanted).strip("_").lower()[:40] or otherwise
        base = base if base[0].isalpha() else f"{otherwise}_{base}"
        name, number = base, 1
        while name in self.used:
            number += 1
            name = f"{base}_{number}"
        self.used.add(name)
        return name

    @staticmethod
    def squeezed(what: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape as cards have it: an image [c, h, w] or a matrix."""
        if not 1 <= len(shape) <= 4:
            raise DesignError(f"{what} has {len(shape)} dimensions, 1 to 4 can be")
        if len(shape) == 4 and shape[0] != 1:
            raise DesignError(f"{what} has {shape[0]} images at a time, one can be")
        if len(shape) == 4:
            return shape[1:]
        if len(shape) == 3 and shape[0] != 1:
            raise DesignError(f"{what} has {shape[0]} matrices at a time, one can be")
        return shape[-2:] if len(shape) > 1 else (1, *shape)

    def shape(self, value: _Value) -> tuple[int, ...]:
        """Of a value's tensor, in the card."""
        draft = self.tasks.get(value.tensor)
        return draft.shape if draft is not None else self.shapes[value.tensor]

    # What nodes read.

    def constant(self, node: Node, index: int) -> Array | None:
        """The constant that a node reads as input ``index``; None if it reads none."""
        name = node.inputs[index] if index < len(node.inputs) else ""
        if not name:
            return None
        if name not in self.constants:
            raise DesignError(f"{node.label}: {name} must be constant")
        return self.constants[name]

    def floats(self, node: Node, index: int) -> Array | None:
        value = self.constant(node, index)
        if value is not None and value.dtype != np.float32:
            raise DesignError(f"{node.label}: {node.inputs[index]} must be of floats")
        return value

    def read(self, node: Node, index: int = 0, *, turned: bool = False) -> _Value:
        """A tensor that a node reads; transposed only if ``turned``."""
        if index >= len(node.inputs) or not node.inputs[index]:
            raise DesignError(f"{node.label} lacks its input {index}")
        name = node.inputs[index]
        if name in self.constants:
            raise DesignError(f"{node.label}: {name} is constant, a tensor is needed there")
        value = self.values[name]
        if value.transposed and not turned:
            raise DesignError(
                f"{node.label}: {name} is transposed; only the second factor of a product may be"
            )
        return value

    def image(self, node: Node) -> tuple[_Value, tuple[int, int, int]]:
        value = self.read(node)
        shape = self.shape(value)
        if len(value.shape) != 4 or len(shape) != 3:
            raise DesignError(f"{node.label} needs an image [1, c, h, w], not {list(value.shape)}")
        return value, (shape[0], shape[1], shape[2])

    def matrix(self, node: Node, value: _Value) -> tuple[int, int]:
        """Rows and columns, not transposed; of an image that was made flat, one row."""
        shape = self.shape(value)
        if len(shape) == 3:
            if self.squeezed(node.label, value.shape) != (1, math.prod(shape)):
                raise DesignError(f"{node.label} needs a matrix, not {list(value.shape)}")
            return 1, math.prod(shape)
        return shape[0], shape[1]

    # What nodes make.

    def alias(self, node: Node, value: _Value) -> None:
        """The node makes nothing new: who reads its result reads what it read."""
        self.make(node, value)
        self.uses[node.outputs[0]] += self.uses[node.inputs[0]] - 1

    def make(self, node: Node, value: _Value) -> None:
        if math.prod(value.shape) > MOST_ELEMENTS:
            raise DesignError(
                f"{node.label}: a tensor {list(value.shape)} is too large, {MOST_ELEMENTS:,} elements can be"
            )
        if len(node.outputs) < 1 or not node.outputs[0]:
            raise DesignError(f"{node.label} makes nothing")
        for name in node.outputs[1:]:
            if name and self.uses[name]:
                raise DesignError(f"{node.label}: its result {name} is not supported")
        self.values[node.outputs[0]] = value

    def new(self, node: Node, draft: _Draft, shape: tuple[int, ...]) -> str:
        name = self.name(node.name or node.outputs[0] if node.outputs else "", node.op.lower())
        self.tasks[name] = draft
        self.make(node, _Value(name, shape))
        return name

    def alone(self, name: str, uses: int = 1) -> _Draft | None:
        """The task that makes this value, if nobody else reads it."""
        value = self.values[name]
        return self.tasks.get(value.tensor) if self.uses[name] == uses else None

    def step(self, node: Node, name: str, step: str, uses: int = 1) -> None:
        """What a node does on the way of a result."""
        value = self.values[name]
        draft = self.alone(name, uses)
        if draft is not None and not (
            draft.op == "softmax" and step in ("silu", "gelu", "sigmoid", "exp")
        ):
            draft.then.append(step)
            draft.shape = _after(step, draft.shape)
            self.make(node, replace(value, shape=_after(step, value.shape)))
            return
        shape = self.shape(value)
        new = _Draft("map", (value.tensor,), _after(step, shape), then=[step])
        self.new(node, new, _after(step, value.shape))

    def weight(self, wanted: str, values: Array) -> str:
        name = self.name(wanted, "weight")
        self.parameters[name] = values
        return name

    def product_before(self, name: str) -> _Draft | None:
        """The product with constant weights that makes this value, if nothing else happened to it."""
        draft = self.alone(name)
        return draft if draft is not None and draft.weights and not draft.then else None


def _after(step: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if step == "maxpool2":
        return *shape[:-2], shape[-2] // 2, shape[-1] // 2
    return (*shape[:-2], shape[-2] * 2, shape[-1] * 2) if step == "upsample2" else shape


def _product(
    r: _Reader, node: Node, a: _Value, index: int, turned: bool
) -> tuple[str, tuple[int, ...]]:
    """A product of matrices by input ``index``; the name of its task, and the shape of its result."""
    m, k = r.matrix(node, a)
    name = node.inputs[index] if index < len(node.inputs) else ""
    if name in r.constants:
        values = r.floats(node, index)
        assert values is not None
        while values.ndim > 2 and values.shape[0] == 1:
            values = values[0]
        if values.ndim != 2:
            raise DesignError(f"{node.label}: {name} must be a matrix, not {list(values.shape)}")
        values = values.T if turned else values
        if values.shape[0] != k:
            raise DesignError(f"{node.label}: {k} columns meet {values.shape[0]} rows of {name}")
        n = values.shape[1]
        weight = r.weight(name, values)
        draft = _Draft("matmul", (a.tensor, weight), (m, n), weights=weight)
    else:
        b = r.read(node, index, turned=True)
        rows, columns = r.matrix(node, b)
        if len(r.shape(b)) != 2:
            raise DesignError(f"{node.label}: its second factor must be a matrix")
        turned ^= b.transposed
        rows, n = (columns, rows) if turned else (rows, columns)
        if rows != k:
            raise DesignError(f"{node.label}: {k} columns meet {rows} rows of {name}")
        if turned and len(r.shape(a)) != 2:
            raise DesignError(f"{node.label}: its first factor must be a matrix")
        draft = _Draft("matmul_t" if turned else "matmul", (a.tensor, b.tensor), (m, n))
    shape = (*a.shape[:-1], n) if len(a.shape) > 1 else (n,)
    return r.new(node, draft, shape), shape


def _matmul(r: _Reader, node: Node) -> None:
    _product(r, node, r.read(node), 1, False)


def _gemm(r: _Reader, node: Node) -> None:
    if node.attributes.get("transA", 0):
        raise DesignError(f"{node.label}: transA is not supported")
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    name, _ = _product(r, node, r.read(node), 1, bool(node.attributes.get("transB", 0)))
    draft = r.tasks[name]
    if draft.weights:
        r.parameters[draft.weights] = r.parameters[draft.weights] * np.float32(alpha)
    elif alpha > 0:
        draft.scale *= alpha
    else:
        raise DesignError(f"{node.label}: alpha must be above 0, not {alpha}")
    bias = r.floats(node, 2)
    if bias is None:
        return
    if draft.scale != 1.0:
        raise DesignError(f"{node.label}: a bias and alpha are supported with constant weights")
    vector = _by_output(draft, bias)
    if vector is None:
        raise DesignError(f"{node.label}: a bias of the shape {list(bias.shape)} is not supported")
    draft.bias = vector * np.float32(beta)


def _by_output(draft: _Draft, values: Array) -> Array | None:
    """A constant that is the same for all rows (pixels) as a vector; None if it is not."""
    n = draft.outputs
    axis = 2 if draft.kernel is not None else 0  # from behind
    shape = (1,) * max(0, axis + 1 - values.ndim) + values.shape
    place = len(shape) - 1 - axis
    if any(size != 1 for i, size in enumerate(shape) if i != place) or shape[place] not in (1, n):
        return None
    return np.broadcast_to(values.reshape(-1), (n,)).astype(np.float32)


def _conv(r: _Reader, node: Node) -> None:
    value, (c, h, w) = r.image(node)
    weights = r.floats(node, 1)
    turned = node.op == "ConvTranspose"
    if weights is None or weights.ndim != 4:
        raise DesignError(f"{node.label}: only convolutions of two dimensions are supported")
    if turned:
        weights = weights.transpose(1, 0, 2, 3)
    given = node.attributes
    if given.get("group", 1) != 1:
        raise DesignError(f"{node.label}: group {given['group']} is not supported, only 1")
    if any(x != 1 for x in given.get("dilations", [])):
        raise DesignError(f"{node.label}: dilations {given['dilations']} are not supported, only 1")
    if weights.shape[1] != c:
        raise DesignError(
            f"{node.label}: the image has {c} channels, the weights are for {weights.shape[1]}"
        )
    o, _, kh, kw = weights.shape
    if given.get("kernel_shape", [kh, kw]) != [kh, kw]:
        raise DesignError(
            f"{node.label}: kernel_shape is {given['kernel_shape']}, weights are {kh}x{kw}"
        )
    strides = given.get("strides", [1, 1])
    if len(strides) != 2 or strides[0] != strides[1] or not 1 <= strides[0] <= 1024:
        raise DesignError(f"{node.label}: strides {strides} are not supported, only two equal ones")
    stride = strides[0]
    pads = _pads(node, (h, w), (kh, kw), stride, turned)
    if turned:
        more = given.get("output_padding", [0, 0])
        if (
            given.get("output_shape")
            or len(more) != 2
            or min(pads[2] - more[0], pads[3] - more[1]) < 0
        ):
            raise DesignError(f"{node.label}: output_shape, or more than pads, is not supported")
        pads = (pads[0], pads[1], pads[2] - more[0], pads[3] - more[1])
        height = (h - 1) * stride + kh - pads[0] - pads[2]
        width = (w - 1) * stride + kw - pads[1] - pads[3]
    else:
        height = (h + pads[0] + pads[2] - kh) // stride + 1
        width = (w + pads[1] + pads[3] - kw) // stride + 1
    if min(height, width) < 1:
        raise DesignError(f"{node.label}: nothing is left of an image of {h}x{w}")
    op = "deconv" if turned else "conv"
    shape = (o, height, width)
    draft = _Draft(op, (value.tensor,), shape, (o, kh, kw), pads if any(pads) else "valid", stride)
    bias = r.floats(node, 2)
    if bias is not None:
        draft.bias = _by_output(draft, bias.reshape(-1, 1, 1) if bias.ndim == 1 else bias)
        if draft.bias is None:
            raise DesignError(f"{node.label}: its bias has the shape {list(bias.shape)}, not [{o}]")
    draft.weights = r.new(node, draft, (1, *shape))
    r.parameters[draft.weights] = weights


def _pads(
    node: Node, size: tuple[int, int], kernel: tuple[int, int], stride: int, turned: bool
) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto == "VALID":
        return 0, 0, 0, 0
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pairs = []
        for length, taps in zip(size, kernel, strict=True):
            made = length * stride if turned else -(-length // stride)
            whole = (
                (length - 1) * stride + taps - made
                if turned
                else (made - 1) * stride + taps - length
            )
            if whole < 0:
                raise DesignError(f"{node.label}: auto_pad {auto} would enlarge it further")
            small = whole // 2
            pairs.append((small, whole - small) if auto == "SAME_UPPER" else (whole - small, small))
        return pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1]
    pads = node.attributes.get("pads", [0, 0, 0, 0])
    if auto != "NOTSET" or len(pads) != 4 or not all(0 <= p <= 1024 for p in pads):
        raise DesignError(f"{node.label}: auto_pad {auto} with pads {pads} is not supported")
    return pads[0], pads[1], pads[2], pads[3]


def _normalise(r: _Reader, node: Node) -> None:
    """Batch normalisation goes into the product before it."""
    value = r.read(node)
    draft = r.product_before(node.inputs[0])
    if draft is None or node.attributes.get("training_mode", 0):
        raise DesignError(
            f"{node.label} is supported right after a product with constant weights, and not in training"
        )
    vectors = [r.floats(node, i) for i in (1, 2, 3, 4)]
    gamma, beta, mean, variance = (_of(node, v, draft.outputs) for v in vectors)
    epsilon = node.attributes.get("epsilon", 1e-5)
    if (variance + epsilon <= 0).any():
        raise DesignError(f"{node.label}: its variance is not positive")
    factor = gamma / np.sqrt(variance + epsilon)
    bias = 0.0 if draft.bias is None else draft.bias
    _scale_weights(r, draft, factor)
    draft.bias = (bias - mean) * factor + beta
    r.make(node, value)


def _of(node: Node, vector: Array | None, n: int) -> Array:
    if vector is None or vector.shape != (n,):
        raise DesignError(f"{node.label}: its parameters must be vectors of {n}")
    return vector.astype(np.float64)


def _scale_weights(r: _Reader, draft: _Draft, factor: Array) -> None:
    by = factor[:, None, None, None] if draft.kernel is not None else factor
    r.parameters[draft.weights] = r.parameters[draft.weights] * by


def _binary(r: _Reader, node: Node) -> None:
    op = node.op.lower()
    if len(node.inputs) != 2:
        raise DesignError(f"{node.label} takes two inputs, not {len(node.inputs)}")
    one, two = node.inputs
    if op == "mul":
        for gate, other in ((one, two), (two, one)):
            if gate in r.values and r.values[gate].gate_of == other:
                r.step(node, other, "silu", uses=2)
                return
    if one in r.constants or two in r.constants:
        index = 0 if two in r.constants else 1
        _with_constant(r, node, op, index)
        return
    a, b = r.read(node, 0), r.read(node, 1)
    rank = max(len(a.shape), len(b.shape))
    one, two = ((1,) * (rank - len(x.shape)) + x.shape for x in (a, b))
    if one != two or r.shape(a) != r.shape(b):
        raise DesignError(
            f"{node.label}: shapes {list(a.shape)} and {list(b.shape)} differ; they must be equal"
        )
    r.new(node, _Draft(op, (a.tensor, b.tensor), r.shape(a)), one)


def _with_constant(r: _Reader, node: Node, op: str, index: int) -> None:
    a, values = r.read(node, index), r.floats(node, 1 - index)
    assert values is not None
    draft = r.product_before(node.inputs[index])
    vector = None if draft is None else _by_output(draft, values)
    flat = len(a.shape) < 3 and len(r.shape(a)) == 3  # then columns are not channels
    if draft is not None and vector is not None and values.ndim <= len(a.shape) and not flat:
        if op == "mul":
            _scale_weights(r, draft, vector)
        if op == "mul" and draft.bias is not None:
            draft.bias = draft.bias * vector
        if op == "add":
            draft.bias = vector if draft.bias is None else draft.bias + vector
        r.make(node, a)
        return
    if math.prod(a.shape) > MOST_CONSTANT:
        raise DesignError(
            f"{node.label}: a constant for {list(a.shape)} is too large, {MOST_CONSTANT:,} elements can be"
        )
    try:
        whole = np.broadcast_to(values, a.shape)
    except ValueError as error:
        raise DesignError(
            f"{node.label}: shapes {list(a.shape)} and {list(values.shape)} do not chain"
        ) from error
    shape = r.shape(a)
    name = r.weight(node.inputs[1 - index], whole.reshape(shape))
    r.new(node, _Draft(op, (a.tensor, name), shape), a.shape)


def _sigmoid(r: _Reader, node: Node) -> None:
    value, result = r.read(node), node.outputs[0] if node.outputs else ""
    readers = r.readers.get(result, [])
    only = readers[0] if len(readers) == 1 and r.uses[result] == 1 else None
    if only is not None and only.op == "Mul" and {*only.inputs} == {result, node.inputs[0]}:
        r.make(node, replace(value, gate_of=node.inputs[0]))
        return
    r.step(node, node.inputs[0], "sigmoid")


def _step(step: str) -> Callable[[_Reader, Node], None]:
    def handle(r: _Reader, node: Node) -> None:
        r.read(node)
        r.step(node, node.inputs[0], step)

    return handle


def _swish(r: _Reader, node: Node) -> None:
    r.read(node)
    if node.attributes.get("alpha", 1.0) != 1.0:
        raise DesignError(f"{node.label}: alpha must be 1")
    r.step(node, node.inputs[0], "silu")


def _gelu(r: _Reader, node: Node) -> None:
    r.read(node)
    if node.attributes.get("approximate", "none") != "tanh":
        raise DesignError(f"{node.label}: only the tanh form is supported, approximate tanh")
    r.step(node, node.inputs[0], "gelu")


def _layernorm(r: _Reader, node: Node) -> None:
    """Rows are normalised; scale and shift are products and sums with constants."""
    value = r.read(node)
    shape, rank = r.shape(value), len(value.shape)
    if node.attributes.get("axis", -1) not in (-1, rank - 1) or len(shape) != 2:
        raise DesignError(f"{node.label}: only over rows of a matrix, axis -1")
    epsilon = node.attributes.get("epsilon", 1e-5)
    if not 0 < epsilon < 1:
        raise DesignError(f"{node.label}: epsilon must be above 0 and below 1, not {epsilon}")
    name = r.new(node, _Draft("layernorm", (value.tensor,), shape, epsilon=epsilon), value.shape)
    for op, index in (("mul", 1), ("add", 2)):
        constant = r.floats(node, index)
        if constant is None:
            continue
        if constant.shape != shape[1:]:
            raise DesignError(f"{node.label}: its parameters must be vectors of {shape[1]}")
        if np.all(constant == (1 if op == "mul" else 0)):
            continue
        weight = r.weight(node.inputs[index], np.broadcast_to(constant, shape).copy())
        name = r.new(node, _Draft(op, (name, weight), shape), value.shape)


def _softmax(r: _Reader, node: Node) -> None:
    value = r.read(node)
    rank = len(value.shape)
    axis = node.attributes.get("axis", -1 if r.file.opset >= 13 else 1)
    if axis not in (-1, rank - 1) or len(r.shape(value)) != 2:
        raise DesignError(f"{node.label}: only over rows of a matrix, axis -1, not {axis}")
    r.new(node, _Draft("softmax", (value.tensor,), r.shape(value)), value.shape)


def _maxpool(r: _Reader, node: Node) -> None:
    _, (_, h, w) = r.image(node)
    given = node.attributes
    plain = (
        given.get("kernel_shape") == [2, 2]
        and given.get("strides", [1, 1]) == [2, 2]
        and not any(given.get("pads", []))
        and all(x == 1 for x in given.get("dilations", []))
        and (given.get("auto_pad", "NOTSET") in ("NOTSET", "VALID") or not (h % 2 or w % 2))
        and not (given.get("ceil_mode", 0) and (h % 2 or w % 2))
    )
    if not plain or min(h, w) < 2:
        raise DesignError(
            f"{node.label}: only windows of 2x2, two apart, without padding are supported"
        )
    r.step(node, node.inputs[0], "maxpool2")


def _resize(r: _Reader, node: Node) -> None:
    _, (c, h, w) = r.image(node)
    given = node.attributes
    wrong = f"{node.label}: only nearest pixels, twice as many rows and columns, are supported"
    if node.op == "Upsample" or len(node.inputs) == 2:
        scales, sizes = given.get("scales"), None
        if scales is None:
            scales = r.constant(node, 1)
    else:
        scales, sizes = r.constant(node, 2), r.constant(node, 3)
    if scales is not None and not np.size(scales):
        scales = None
    if sizes is not None:
        good = [int(x) for x in np.ravel(sizes)] == [1, c, 2 * h, 2 * w]
    else:
        good = scales is not None and [float(x) for x in np.ravel(scales)] == [1, 1, 2, 2]
    if not good or given.get("axes") or given.get("mode", "nearest") != "nearest":
        raise DesignError(wrong)
    if node.op == "Resize" and r.file.opset >= 11:
        for size in (h, w):
            if not np.array_equal(_sources(given, size), np.arange(2 * size) // 2):
                raise DesignError(f"{wrong}, each pixel four times")
    r.step(node, node.inputs[0], "upsample2")


def _sources(given: Mapping[str, Any], size: int) -> Array:
    """Which pixel of ``size`` a nearest-neighbour resize to twice as many takes."""
    x = np.arange(2 * size, dtype=np.float64)
    match given.get("coordinate_transformation_mode", "half_pixel"):
        case "half_pixel":
            x = (x + 0.5) / 2 - 0.5
        case "pytorch_half_pixel":
            x = (x + 0.5) / 2 - 0.5 if size > 1 else x * 0
        case "asymmetric":
            x = x / 2
        case "align_corners":
            x = x * (size - 1) / max(1, 2 * size - 1)
        case _:
            return x - 1  # of no use
    match given.get("nearest_mode", "round_prefer_floor"):
        case "round_prefer_floor":
            x = np.ceil(x - 0.5)
        case "round_prefer_ceil":
            x = np.floor(x + 0.5)
        case "floor":
            x = np.floor(x)
        case _:
            x = np.ceil(x)
    return np.clip(x, 0, size - 1)


def _reshape(r: _Reader, node: Node) -> None:
    """What only changes how dimensions are counted: an image stays one, or becomes a row."""
    if node.inputs and node.inputs[0] in r.constants:
        value = r.constants[node.inputs[0]]
        r.constants[node.outputs[0]] = value.reshape(_new_shape(r, node, value.shape))
        return
    value = r.read(node)
    shape = _new_shape(r, node, value.shape)
    inside = r.shape(value)
    squeezed = r.squeezed(node.label, shape)
    if squeezed != inside and not (len(inside) == 3 and squeezed == (1, math.prod(inside))):
        raise DesignError(
            f"{node.label}: from {list(value.shape)} to {list(shape)} is not supported; "
            "an image may become one row, and dimensions of 1 may come and go"
        )
    if len(squeezed) == 3 and len(shape) != 4:
        raise DesignError(f"{node.label}: an image has four dimensions, not {list(shape)}")
    r.alias(node, replace(value, shape=shape))


def _new_shape(r: _Reader, node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    rank, given = len(shape), node.attributes
    if node.op == "Flatten":
        axis = given.get("axis", 1)
        axis += rank if axis < 0 else 0
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    if node.op == "Reshape":
        wanted = given.get("shape") if r.constant(node, 1) is None else r.constant(node, 1)
        made = [int(x) for x in np.ravel(wanted)] if wanted is not None else []
        if not given.get("allowzero", 0):
            made = [shape[i] if x == 0 and i < rank else x for i, x in enumerate(made)]
        rest = math.prod(x for x in made if x != -1)
        if made.count(-1) == 1 and rest > 0:
            made[made.index(-1)] = math.prod(shape) // rest
        if min(made, default=0) < 1 or math.prod(made) != math.prod(shape):
            raise DesignError(f"{node.label}: {list(shape)} cannot become {made}")
        return tuple(made)
    axes = given.get("axes") if r.constant(node, 1) is None else r.constant(node, 1)
    places = [int(x) for x in np.ravel(axes)] if axes is not None else []
    if node.op == "Squeeze":
        places = places or [i for i, x in enumerate(shape) if x == 1]
        gone = {p + rank if p < 0 else p for p in places}
        if any(not 0 <= p < rank or shape[p] != 1 for p in gone):
            raise DesignError(f"{node.label}: axes {places} of {list(shape)} are not all 1")
        return tuple(x for i, x in enumerate(shape) if i not in gone)
    rank += len(places)
    new = {p + rank if p < 0 else p for p in places}
    if len(new) != len(places) or any(not 0 <= p < rank for p in new):
        raise DesignError(f"{node.label}: axes {places} are not possible")
    rest = iter(shape)
    return tuple(1 if i in new else next(rest) for i in range(rank))


def _transpose(r: _Reader, node: Node) -> None:
    name = node.inputs[0] if node.inputs else ""
    if name in r.constants:
        value = r.constants[name]
        perm = node.attributes.get("perm", list(range(value.ndim))[::-1])
        if sorted(perm) != list(range(value.ndim)):
            raise DesignError(f"{node.label}: perm {perm} is not possible")
        r.constants[node.outputs[0]] = value.transpose(perm)
        return
    value = r.read(node, turned=True)
    rank = len(value.shape)
    perm = node.attributes.get("perm", list(range(rank))[::-1])
    swap = [*range(rank - 2), rank - 1, rank - 2]
    if rank < 2 or perm != swap or len(r.shape(value)) != 2:
        raise DesignError(f"{node.label}: perm {perm} is not supported, only rows and columns")
    shape = (*value.shape[:-2], value.shape[-1], value.shape[-2])
    r.alias(node, replace(value, shape=shape, transposed=not value.transposed))


def _same(r: _Reader, node: Node) -> None:
    name = node.inputs[0] if node.inputs else ""
    if name in r.constants and node.outputs:
        r.constants[node.outputs[0]] = r.constants[name]
        return
    r.alias(node, r.read(node, turned=True))


def _constant(r: _Reader, node: Node) -> None:
    value = node.attributes.get("value")
    if value is None:
        for key, kind in (
            ("value_float", np.float32), ("value_floats", np.float32),
            ("value_int", np.int64), ("value_ints", np.int64),
        ):  # fmt: skip
            if key in node.attributes:
                value = np.asarray(node.attributes[key], kind)
    if value is None or not node.outputs:
        raise DesignError(f"{node.label} holds no numbers")
    r.constants[node.outputs[0]] = value


OPERATORS: dict[str, Callable[[_Reader, Node], None]] = {
    "Add": _binary, "BatchNormalization": _normalise, "Constant": _constant, "Conv": _conv, "ConvTranspose": _conv,
    "Dropout": _same, "Exp": _step("exp"), "Flatten": _reshape, "Gelu": _gelu, "Gemm": _gemm, "Identity": _same,
    "LayerNormalization": _layernorm, "MatMul": _matmul, "MaxPool": _maxpool, "Mul": _binary, "Relu": _step("relu"),
    "Reshape": _reshape, "Resize": _resize, "Sigmoid": _sigmoid, "Softmax": _softmax, "Squeeze": _reshape,
    "Swish": _swish, "Transpose": _transpose, "Unsqueeze": _reshape, "Upsample": _resize,
}  # fmt: skip
"""What reads a node, by its operator."""
