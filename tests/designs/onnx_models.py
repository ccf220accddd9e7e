# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models for tests, built with ``onnx.helper``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["autoencoder", "classifier", "floats", "model", "perceptron", "save"]


def floats(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Normal numbers, always the same for a shape and a seed."""
    draw = np.random.default_rng([seed, *shape])
    return (draw.standard_normal(shape) * 0.5).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    constants: Mapping[str, NDArray[Any]] | None = None,
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of some nodes; it is not checked."""
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s)) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def save(path: Path, made: onnx.ModelProto) -> Path:
    """Write a model."""
    path.write_bytes(made.SerializeToString())
    return path


def perceptron() -> onnx.ModelProto:
    """Gemm with transB and a bias, MatMul and Add, a skip connection, SiLU, sigmoid, softmax."""
    node = helper.make_node
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h1"], "first", transB=1, alpha=0.5),
        node("Relu", ["h1"], ["r1"]),
        node("MatMul", ["r1", "w2"], ["m2"], "second"),
        node("Add", ["m2", "b2"], ["a2"]),
        node("Sigmoid", ["a2"], ["s2"]),
        node("Mul", ["s2", "a2"], ["silu"]),
        node("Add", ["silu", "r1"], ["skip"], "skip"),
        node("MatMul", ["skip", "w3"], ["m3"]),
        node("Mul", ["m3", "half"], ["scaled"]),
        node("Softmax", ["scaled"], ["y"]),
        node("Sigmoid", ["skip"], ["z"]),
    ]
    constants = {
        "w1": floats(10, 6), "b1": floats(10), "w2": floats(10, 10), "b2": floats(10, seed=1),
        "w3": floats(10, 7), "half": np.array([0.25], np.float32),
    }  # fmt: skip
    return model(nodes, {"x": ["batch", 6]}, ["y", "z"], constants)


def classifier() -> onnx.ModelProto:
    """Convolutions with strides, padding and batch normalisation, pooling, a branch, and a dense end."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "k1", "c1"], ["v1"], "conv/1", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["v1", "g", "b", "m", "v"], ["n1"]),
        node("Relu", ["n1"], ["r1"]),
        node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p1", "k2"], ["v2"], "conv/2", strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Conv", ["p1", "k3"], ["v3"], "conv/3", strides=[2, 2], pads=[0, 1, 1, 0]),
        node("Add", ["v2", "v3"], ["sum"]),
        node("Relu", ["sum"], ["r2"]),
        node("Flatten", ["r2"], ["flat"]),
        node("Gemm", ["flat", "w", "d"], ["y"]),
    ]
    constants = {
        "k1": floats(3, 2, 3, 3), "c1": floats(3), "g": floats(3, seed=2), "b": floats(3, seed=3),
        "m": floats(3, seed=4), "v": np.abs(floats(3, seed=5)) + 0.1, "k2": floats(4, 3, 3, 3),
        "k3": floats(4, 3, 2, 2), "w": floats(4 * 3 * 3, 5), "d": floats(1, 5),
    }  # fmt: skip
    return model(nodes, {"x": [1, 2, 11, 12]}, ["y"], constants)


def autoencoder() -> onnx.ModelProto:
    """Transposed convolutions, pixels repeated, an exponential and a product with an input."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "k1"], ["v1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Exp", ["v1"], ["e1"]),
        node("Mul", ["e1", "noise"], ["z"], "latent"),
        node("ConvTranspose", ["z", "k2", "c2"], ["v2"], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        node("Relu", ["v2"], ["r2"]),
        node("Resize", ["r2", "", "scales"], ["up"], mode="nearest"),
        node("ConvTranspose", ["up", "k3"], ["y"]),
    ]  # fmt: skip
    constants = {
        "k1": floats(2, 1, 3, 3), "k2": floats(2, 3, 3, 3), "c2": floats(3), "k3": floats(3, 1, 2, 4),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }  # fmt: skip
    return model(nodes, {"x": [1, 1, 8, 10], "noise": [1, 2, 4, 5]}, ["y"], constants)
