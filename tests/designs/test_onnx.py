# SPDX-License-Identifier: Apache-2.0
"""ONNX models: their numbers are those of ONNX's own evaluator; bad files get one line each."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from designs.errors import DesignError
from designs.graph_machine import MachineOptions
from designs.onnx_graph import OPERATORS, OnnxKernel, load_onnx
from hwgen.kernels import integer_inputs, quantised
from sim.golden.float_kernel import forward
from sim.golden.kernel import forward as integers
from tests.designs.onnx_models import (
    autoencoder,
    classifier,
    floats,
    model,
    perceptron,
    save,
)

node = helper.make_node
MACHINE = MachineOptions().machine


def load(path: Path, made: onnx.ModelProto, **dims: int) -> OnnxKernel:
    return load_onnx(save(path / "m.onnx", made), MACHINE, dims=dims)


def compare(path: Path, made: onnx.ModelProto, **dims: int) -> OnnxKernel:
    """Load a model, and compare all outputs with those of ONNX's evaluator."""
    kernel = load(path, made, **dims)
    given = {}
    for number, value in enumerate(made.graph.input):
        sizes = [d.dim_value or dims.get(d.dim_param, 1) for d in value.type.tensor_type.shape.dim]
        given[value.name] = floats(*sizes, seed=100 + number)
    wanted = ReferenceEvaluator(made).run(None, given)
    shapes = kernel.card.inputs
    ours = {t: given[n].reshape(shapes[t]) for n, t in kernel.inputs.items()}
    made_by_us = forward(kernel.card, kernel.parameters, ours)
    assert isinstance(wanted, list)
    for name, value in zip([x.name for x in made.graph.output], wanted, strict=True):
        mine = made_by_us[kernel.outputs[name]]
        assert mine.size == value.size
        np.testing.assert_allclose(mine.reshape(value.shape), value, rtol=2e-5, atol=2e-5)
    return kernel


def test_perceptron(tmp_path: Path) -> None:
    kernel = compare(tmp_path, perceptron(), batch=3)
    tasks = kernel.card.tasks
    assert list(tasks) == ["first", "second", "skip", "m3", "y", "z"]
    assert tasks["second"].bias and tasks["second"].then == ("silu",)
    assert tasks["z"].op == "map" and tasks["z"].then == ("sigmoid",)
    assert kernel.card.inputs == {"x": (3, 6)} and tasks["m3"].scale == 1.0


def test_classifier(tmp_path: Path) -> None:
    card = compare(tmp_path, classifier()).card
    assert [card.tasks[n].op for n in card.tasks] == ["conv", "conv", "conv", "add", "matmul"]
    assert card.tasks["conv_1"].then == ("relu", "maxpool2") and card.tasks["conv_1"].bias
    assert card.shape("conv_2") == (4, 3, 3) and card.tasks["conv_2"].stride == 2


def test_autoencoder(tmp_path: Path) -> None:
    card = compare(tmp_path, autoencoder()).card
    assert card.shape("y") == (1, 17, 23)
    assert card.tasks["v2"].padding == (1, 1, 0, 0)


def test_attention(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "wq"], ["q"]),
        node("MatMul", ["x", "wk"], ["k"]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["s"]),
        node("Mul", ["s", "c"], ["sc"]),
        node("Softmax", ["sc"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["o"]),
        node("Transpose", ["wo"], ["wot"]),
        node("MatMul", ["o", "wot"], ["y"]),
    ]
    constants = {
        "wq": floats(8, 4),
        "wk": floats(8, 4),
        "wo": floats(5, 8),
        "c": np.array(0.5, np.float32),
    }
    card = compare(tmp_path, model(nodes, {"x": [1, 6, 8]}, ["y"], constants)).card
    assert card.tasks["s"].op == "matmul_t" and card.tasks["sc"].op == "mul"


def test_norms(tmp_path: Path) -> None:
    nodes = [
        node("LayerNormalization", ["x", "g", "b"], ["n"], "norm", epsilon=1e-3),
        node("MatMul", ["n", "w"], ["m"]),
        node("Gelu", ["m"], ["a"], approximate="tanh"),
        node("LayerNormalization", ["a", "one"], ["y"], axis=1),
    ]
    constants = {
        "g": floats(6),
        "b": floats(6, seed=1),
        "w": floats(6, 5),
        "one": np.ones(5, np.float32),
    }
    card = compare(tmp_path, model(nodes, {"x": [4, 6]}, ["y"], constants, opset=20)).card
    ops = [card.tasks[n].op for n in card.tasks]
    assert ops == ["layernorm", "mul", "add", "matmul", "layernorm"]
    assert card.tasks["norm"].epsilon == pytest.approx(1e-3)


def test_what_others_read_is_left_as_it_is(tmp_path: Path) -> None:
    """A copy of a tensor and the tensor itself are one; a step for one must not change the other."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Identity", ["a"], ["b"]),
        node("Reshape", ["b", "shape"], ["c"]),
        node("Relu", ["c"], ["d"]),
        node("Add", ["a", "d"], ["y"]),
        node("Relu", ["x"], ["z"]),
    ]
    constants = {"w": floats(4, 4), "shape": np.array([1, -1, 4])}
    kernel = load(tmp_path, model(nodes, {"x": [3, 4]}, ["y", "z"], constants))
    assert kernel.card.tasks["a"].then == ()
    assert kernel.card.tasks["d"].op == "map"


@pytest.mark.parametrize("mode", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_resize(tmp_path: Path, mode: str, nearest: str) -> None:
    """Every way to scale up either gives the numbers of ONNX or is refused."""
    nodes = [
        node("Conv", ["x", "k"], ["v"]),
        node("Resize", ["v", "", "", "sizes"], ["y"], coordinate_transformation_mode=mode, nearest_mode=nearest),
    ]  # fmt: skip
    constants = {"k": floats(2, 1, 2, 2), "sizes": np.array([1, 2, 6, 8])}
    made = model(nodes, {"x": [1, 1, 4, 5]}, ["y"], constants)
    same = (mode, nearest) in {
        ("half_pixel", "round_prefer_floor"), ("half_pixel", "round_prefer_ceil"),
        ("asymmetric", "round_prefer_floor"), ("asymmetric", "floor"),
    }  # fmt: skip
    try:
        compare(tmp_path, made)
    except DesignError as error:
        assert "Resize node y: only nearest pixels" in str(error) and not same


def one(
    op: str, inputs: Sequence[str] = ("x",), shape: Sequence[int] = (1, 2, 6, 6), **attributes: Any
) -> Callable[[], onnx.ModelProto]:
    """A model of one node of a kind, called n."""
    constants = {
        "w": floats(4, 4), "k": floats(3, 2, 3, 3), "deep": floats(3, 2, 3), "far": np.array([5, 5]),
        "vector": floats(3), "nan": np.full((1, 1), np.nan, np.float32),
    }  # fmt: skip
    used = {n: a for n, a in constants.items() if n in inputs}
    return lambda: model([node(op, inputs, ["y"], "n", **attributes)], {"x": shape}, ["y"], used)


def _cycle() -> onnx.ModelProto:
    nodes = [node("Add", ["x", "b"], ["a"], "one"), node("Relu", ["a"], ["b"], "two")]
    return model(nodes, {"x": [2, 2]}, ["b"])


def _outside(location: str) -> onnx.ModelProto:
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 2]}, ["y"])
    tensor = made.graph.initializer.add()
    tensor.name, tensor.data_type = "w", TensorProto.FLOAT
    tensor.dims.extend([2, 2])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return made


def _huge() -> onnx.ModelProto:
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 1 << 20]}, ["y"])
    tensor = made.graph.initializer.add()
    tensor.name, tensor.data_type = "w", TensorProto.FLOAT
    tensor.dims.extend([1 << 20, 1 << 20])
    return made


WRONG = [
    (one("LSTM"), "LSTM node n: operator LSTM is not supported; supported are Add"),
    (one("Conv", ["x", "k"], group=2), "Conv node n: group 2 is not supported"),
    (one("Conv", ["x", "k"], dilations=[2, 2]), "dilations [2, 2] are not supported"),
    (one("Conv", ["x", "k"], (1, 3, 6, 6)), "the image has 3 channels, the weights are for 2"),
    (one("Conv", ["x", "k"], (4, 2, 6, 6)), "input x has 4 images at a time, one can be"),
    (one("Conv", ["x", "k"], (1, 2, 2, 6)), "nothing is left of an image of 2x6"),
    (one("Conv", ["x", "k"], strides=[2, 1]), "strides [2, 1] are not supported"),
    (one("Conv", ["x", "deep"]), "only convolutions of two dimensions"),
    (one("Conv", ["x", "k"], group="two"), "attribute group must be INT, not STRING"),
    (one("MatMul", ["x", "w"], (2, 3)), "MatMul node n: 3 columns meet 4 rows of w"),
    (one("MatMul", ["x", "nan"], (2, 1)), "tensor nan holds numbers that are not finite"),
    (one("Add", ["x", "vector"], (2, 4)), "shapes [2, 4] and [3] do not chain"),
    (one("Add", ["x", "z"], (2, 4)), "Add node n reads z, which nothing makes"),
    (one("Gelu", shape=(2, 4)), "Gelu node n: only the tanh form"),
    (one("LayerNormalization", ["x", "vector"], (2, 4)), "must be vectors of 4"),
    (one("LayerNormalization", ["x", "vector"], (2, 3), axis=0), "only over rows of a matrix"),
    (one("Softmax", shape=(2, 4), axis=0), "only over rows of a matrix"),
    (one("Reshape", ["x", "far"], (2, 4)), "[2, 4] cannot become [5, 5]"),
    (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2]), "only windows of 2x2"),
    (one("Relu", shape=(1 << 21, 2)), "input x has a dimension of 2097152"),
    (_cycle, "nodes wait for each other in a cycle: Add node one, Relu node two"),
    (lambda: _outside("../secret"), "'../secret', outside the folder of the model"),
    (lambda: _outside("/etc/passwd"), "outside the folder of the model"),
    (lambda: _outside("absent.bin"), "its data file absent.bin does not exist"),
    (_huge, "tensor w: constants of more than 2 GiB are not read"),
    (lambda: onnx.ModelProto(), "it has no nodes"),
]


@pytest.mark.parametrize(("made", "message"), WRONG, ids=[m[:40] for _, m in WRONG])
def test_mistakes(tmp_path: Path, made: Callable[[], onnx.ModelProto], message: str) -> None:
    with pytest.raises(DesignError) as caught:
        load(tmp_path, made())
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith("m.onnx")


def test_data_beside_the_model(tmp_path: Path) -> None:
    made = _outside("w.bin")
    weights = floats(2, 2)
    (tmp_path / "w.bin").write_bytes(weights.tobytes())
    kernel = load(tmp_path, made)
    np.testing.assert_array_equal(kernel.parameters["w"], weights)
    (tmp_path / "w.bin").write_bytes(weights.tobytes()[:-1])
    with pytest.raises(DesignError, match=r"m\.onnx: tensor w"):
        load(tmp_path, made)
    (tmp_path / "w.bin").unlink()
    outside = tmp_path.parent / f"{tmp_path.name}.bin"
    outside.write_bytes(weights.tobytes())
    (tmp_path / "w.bin").symlink_to(outside)
    with pytest.raises(DesignError, match="outside the folder"):
        load(tmp_path, made)


def test_dimensions_are_named(tmp_path: Path) -> None:
    with pytest.raises(DesignError, match="no symbolic dimension size; it has batch"):
        load(tmp_path, perceptron(), size=3)


def _attempt(path: Path, content: bytes) -> None:
    file = path / "fuzzed.onnx"
    file.write_bytes(content)
    try:
        load_onnx(file, MACHINE)
    except DesignError as error:
        assert "\n" not in str(error)


FUZZ = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(content=st.binary(max_size=300))
def test_random_bytes(tmp_path: Path, content: bytes) -> None:
    _attempt(tmp_path, content)


BASES = [m().SerializeToString() for m in (perceptron, classifier, autoencoder)]


@FUZZ
@given(
    base=st.sampled_from(BASES),
    edits=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.none() | st.integers(0, 1 << 16),
)
def test_damaged_models(
    tmp_path: Path, base: bytes, edits: list[tuple[int, int]], cut: int | None
) -> None:
    content = bytearray(base if cut is None else base[: cut % len(base)])
    for place, value in edits:
        if content:
            content[place % len(content)] = value
    _attempt(tmp_path, bytes(content))


SIZES = st.integers(-1, 5)
NAMES = st.sampled_from(["x", "a", "b", "c", "f4", "f44", "i", "k", ""])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["axis", "group", "pads", "strides", "kernel_shape", "perm", "axes", "alpha", "transB", "mode", "auto_pad",
         "output_padding", "dilations", "scales", "shape", "value_ints"]
    ),
    st.integers(-2, 3) | st.floats(-2, 2) | st.lists(st.integers(-2, 3), min_size=1, max_size=4)
    | st.sampled_from(["SAME_UPPER", "linear", "nearest"]),
    max_size=4,
)  # fmt: skip
NODES = st.lists(
    st.tuples(
        st.sampled_from(sorted(OPERATORS)), st.lists(NAMES, max_size=4), st.lists(NAMES, max_size=2), ATTRIBUTES
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@FUZZ
@given(nodes=NODES, shape=st.lists(SIZES, max_size=5))
def test_random_graphs(
    tmp_path: Path, nodes: list[tuple[str, list[str], list[str], dict[str, Any]]], shape: list[int]
) -> None:
    """Any nodes with any inputs and attributes: a kernel or one line."""
    constants = {
        "f4": floats(4),
        "f44": floats(4, 4),
        "i": np.array([1, -1]),
        "k": floats(2, 1, 2, 2),
    }
    made = model(
        [node(op, i, o, **a) for op, i, o, a in nodes], {"x": shape}, ["a"], constants
    )  # fmt: skip
    _attempt(tmp_path, made.SerializeToString())


@pytest.mark.parametrize("made", [perceptron, classifier, autoencoder])
def test_in_integers(tmp_path: Path, made: Callable[[], onnx.ModelProto]) -> None:
    """The integers of a model are those numbers too."""
    kernel = load(tmp_path, made())
    quant = quantised(kernel.card, 0, kernel.parameters)
    inputs = integer_inputs(quant, 0)
    exact = forward(
        kernel.card, kernel.parameters, {n: v * quant.scales[n] for n, v in inputs.items()}
    )
    for name, value in integers(quant, inputs).items():
        off = value * quant.scales[name] - exact[name]
        assert np.square(exact[name]).mean() > 1e5 * np.square(off).mean(), name  # 50 dB


def test_half_floats(tmp_path: Path) -> None:
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 2]}, ["y"])
    made.graph.initializer.append(numpy_helper.from_array(floats(2, 3).astype(np.float16), "w"))
    assert load(tmp_path, made).parameters["w"].dtype == np.float32
