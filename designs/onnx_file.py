# SPDX-License-Identifier: Apache-2.0
"""ONNX files: what is read of one before anybody asks what its nodes mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from designs.errors import DesignError

__all__ = ["Array", "Node", "OnnxFile", "read_onnx"]

Array = NDArray[Any]

MOST_BYTES = 1 << 31
"""Of a file: protocol buffers hold no more; and of the tensors of a model."""

_K = onnx.AttributeProto
ATTRIBUTES: dict[str, Any] = {
    **dict.fromkeys(
        ("allowzero", "axis", "ceil_mode", "group", "training_mode", "transA", "transB", "value_int"), _K.INT
    ),
    **dict.fromkeys(("alpha", "beta", "epsilon", "value_float"), _K.FLOAT),
    **dict.fromkeys(
        (
            "axes", "dilations", "kernel_shape", "output_padding", "output_shape", "pads", "perm", "shape", "strides",
            "value_ints",
        ), _K.INTS,
    ),
    **dict.fromkeys(("scales", "value_floats"), _K.FLOATS),
    **dict.fromkeys(("approximate", "auto_pad", "coordinate_transformation_mode", "mode", "nearest_mode"), _K.STRING),
    "value": _K.TENSOR,
}  # fmt: skip
"""Kinds of the attributes that are looked at."""

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True, eq=False)
class Node:
    """A node: ``label`` names it in messages; attributes are numbers, lists, strings or arrays."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Operator, and name or what it makes."""
        return f"{self.op} node {(self.name or ', '.join(self.outputs) or '(without name)')[:80]}"


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A graph.

    Parameters
    ----------
    path : of the file.
    opset : version of the standard operators.
    inputs : shapes by name, without constants.
    outputs : names.
    constants : arrays by name.
    nodes : in an order in which each reads what is there already.
    """

    path: Path
    opset: int
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    constants: Mapping[str, Array]
    nodes: tuple[Node, ...]


def read_onnx(path: Path, dims: Mapping[str, int] | None = None) -> OnnxFile:
    """Read a model.

    Parameters
    ----------
    dims : sizes of symbolic dimensions; 1 if not given.

    Raises
    ------
    DesignError
        In one line, for whatever is wrong with it.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DesignError(f"{path.name}: a model of more than 2 GiB is not read")
        content = path.read_bytes()
    except OSError as error:
        raise DesignError(f"{path}: {error.strerror}") from error
    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, RuntimeError) as error:
        raise DesignError(f"{path.name} is not an ONNX model: it cannot be decoded") from error
    try:
        return _read(path, model, dict(dims or {}))
    except DesignError as error:
        raise DesignError(f"{path.name}: {' '.join(str(error).split())}") from error


def _read(path: Path, model: onnx.ModelProto, dims: dict[str, int]) -> OnnxFile:
    graph = model.graph
    if not graph.node:
        raise DesignError("is not an ONNX model: it has no nodes")
    opset = next((x.version for x in model.opset_import if x.domain in ("", "ai.onnx")), 0)
    if opset < 7:
        raise DesignError(f"uses version {opset} of ONNX's operators; 7 and later are read")
    if graph.sparse_initializer:
        raise DesignError("holds sparse tensors, which are not read")
    reader = _Tensors(path)
    constants = {_text(t.name): reader.array(t) for t in graph.initializer}
    nodes = [_node(n, reader) for n in graph.node]
    symbols: set[str] = set()
    inputs = {
        _text(x.name): _shape(x, dims, symbols) for x in graph.input if x.name not in constants
    }  # fmt: skip
    for name in dims:
        if name not in symbols:
            known = f"; it has {', '.join(sorted(symbols))}" if symbols else "; it has none"
            raise DesignError(f"has no symbolic dimension {name}{known}")
    outputs = tuple(_text(x.name) for x in graph.output)
    if not inputs or not outputs:
        raise DesignError("has no inputs or no outputs")
    ordered = _ordered(nodes, {*inputs, *constants})
    return OnnxFile(path, opset, inputs, outputs, constants, ordered)


class _Tensors:
    """Arrays of a model, also those in files beside it."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent.resolve()
        self.left = MOST_BYTES

    def array(self, tensor: onnx.TensorProto) -> Array:
        """An array of float32, or of integers as they are."""
        name = tensor.name or "(without name)"
        shape = tuple(tensor.dims)
        if min(shape, default=1) < 0:
            raise DesignError(f"tensor {name} has the shape {list(shape)}")
        size = math.prod(shape) * 8  # at most; strings are not read
        if size > self.left:
            raise DesignError(f"tensor {name}: constants of more than 2 GiB are not read")
        self.left -= size
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor = self._external(name, tensor)
        try:
            value = numpy_helper.to_array(tensor)
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            OverflowError,
            IndexError,
        ) as error:
            reason = " ".join(str(error).split())
            raise DesignError(f"tensor {name} cannot be read: {reason}") from error
        if value.shape != shape:
            raise DesignError(f"tensor {name} has {value.size} elements, not {list(shape)}")
        if tensor.data_type in FLOATS:
            value = value.astype(np.float32)
            if not np.isfinite(value).all():
                raise DesignError(f"tensor {name} holds numbers that are not finite")
        elif value.dtype.kind not in "iub":
            raise DesignError(f"tensor {name} is neither of floats nor of integers")
        return value

    def _external(self, name: str, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The same tensor with its bytes, which are in a file of the model's folder."""
        told = {_text(x.key): _text(x.value) for x in tensor.external_data}
        location = told.get("location", "")
        try:
            path = (self.folder / location).resolve()
            offset, length = int(told.get("offset", 0)), int(told.get("length", -1))
        except (ValueError, OSError, RuntimeError) as error:
            raise DesignError(f"tensor {name}: where its data lie is not readable") from error
        if not location or not path.is_relative_to(self.folder) or path == self.folder:
            raise DesignError(
                f"tensor {name}: its data lie in {location!r}, outside the folder of the model"
            )
        if not path.is_file():
            raise DesignError(f"tensor {name}: its data file {location} does not exist")
        if length < 0:
            length = path.stat().st_size - offset
        if offset < 0 or length < 0 or offset + length > path.stat().st_size:
            raise DesignError(f"tensor {name}: its data file {location} is too short")
        if length > math.prod(tensor.dims) * 8:
            raise DesignError(f"tensor {name}: its data file holds more than its shape says")
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(length)
        made = onnx.TensorProto()
        made.name, made.data_type, made.raw_data = tensor.name, tensor.data_type, content
        made.dims.extend(tensor.dims)
        return made


def _text(value: str | bytes) -> str:
    """A name; protobuf gives bytes if it is no UTF-8."""
    if isinstance(value, bytes):
        raise DesignError(f"is not an ONNX model: the name {value!r} is no text")
    return value


def _node(node: onnx.NodeProto, reader: _Tensors) -> Node:
    attributes: dict[str, Any] = {}
    made = Node(
        _text(node.name),
        _text(node.op_type),
        tuple(map(_text, node.input)),
        tuple(map(_text, node.output)),
        attributes,
    )
    if node.domain not in ("", "ai.onnx"):
        raise DesignError(f"{made.label}: operators of {node.domain} are not supported")
    kinds = onnx.AttributeProto
    for a in node.attribute:
        match a.type:
            case kinds.INT:
                attributes[a.name] = int(a.i)
            case kinds.FLOAT:
                attributes[a.name] = float(a.f)
            case kinds.STRING:
                attributes[a.name] = a.s.decode(errors="replace")
            case kinds.INTS:
                attributes[a.name] = list(a.ints)
            case kinds.FLOATS:
                attributes[a.name] = [float(x) for x in a.floats]
            case kinds.TENSOR:
                attributes[a.name] = reader.array(a.t)
            case _:  # graphs and the like: of operators that are not supported anyway
                attributes[a.name] = None
        kind = ATTRIBUTES.get(a.name)
        if kind is not None and a.type != kind:
            have = (
                kinds.AttributeType.Name(a.type)
                if a.type in kinds.AttributeType.values()
                else a.type
            )
            raise DesignError(
                f"{made.label}: attribute {a.name} must be {kinds.AttributeType.Name(kind)}, not {have}"
            )
    return made


def _shape(value: onnx.ValueInfoProto, dims: dict[str, int], symbols: set[str]) -> tuple[int, ...]:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise DesignError(f"input {value.name} has no shape")
    if kind.elem_type not in FLOATS:
        raise DesignError(f"input {value.name} is not of floats")
    shape = []
    for dim in kind.shape.dim:
        if dim.HasField("dim_value"):
            size = dim.dim_value
        else:
            symbols.add(_text(dim.dim_param))
            size = dims.get(dim.dim_param, 1)
        if not 1 <= size <= 1 << 20:
            raise DesignError(
                f"input {value.name} has a dimension of {size}; 1 to {1 << 20:,} can be"
            )
        shape.append(int(size))
    return tuple(shape)


def _ordered(nodes: list[Node], there: set[str]) -> tuple[Node, ...]:
    """Nodes, producers before consumers."""
    makers: dict[str, Node] = {}
    for node in nodes:
        for name in node.outputs:
            if name and (name in makers or name in there):
                raise DesignError(f"{node.label} makes {name}, which is there already")
            makers[name] = node
    done: list[Node] = []
    left, there = list(nodes), {*there, ""}
    while left:
        waiting = []
        for node in left:
            if there.issuperset(node.inputs):
                done.append(node)
                there.update(node.outputs)
            else:
                waiting.append(node)
        if len(waiting) == len(left):
            raise DesignError(_stuck(left, makers, there))
        left = waiting
    return tuple(done)


def _stuck(left: list[Node], makers: dict[str, Node], there: set[str]) -> str:
    """Why none of these nodes can run."""
    path = [left[0]]
    while True:
        missing = next(x for x in path[-1].inputs if x not in there)
        maker = makers.get(missing)
        if maker is None:
            return f"{path[-1].label} reads {missing}, which nothing makes"
        if maker in path:
            ring = path[path.index(maker) :]
            return f"nodes wait for each other in a cycle: {', '.join(n.label for n in ring)}"
        path.append(maker)
