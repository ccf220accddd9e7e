# SPDX-License-Identifier: Apache-2.0
"""Task-graph kernels in integers: against float64, against PyTorch's convolutions, and as values that are saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from designs.errors import DesignError
from designs.graph import GraphCard, TaskCard, load_graph
from designs.quantised_kernel import QuantKernel, QuantTask, load_kernel, save_kernel
from hwgen.kernels import accuracy, integer_inputs, quantised
from sim.golden import float_kernel, kernel, kernel_ops

MACHINE = {"tokens": 1, "reduce": 4, "outputs": 4, "spad_bytes": 65536, "bytes_per_cycle": 64}


def card(
    tasks: dict[str, Any],
    inputs: dict[str, Any],
    weights: dict[str, Any] | None = None,
    dtype: str = "i16",
) -> GraphCard:
    return GraphCard.model_validate(
        {
            "name": "test", "dtype": dtype, "inputs": inputs, "weights": weights or {}, "tasks": tasks,
            "outputs": [list(tasks)[-1]], "machine": MACHINE | {"cores": 1},
        }
    )  # fmt: skip


def narrowed(name: str) -> GraphCard:
    """A kernel with a fraction of its rows and columns."""
    data = load_graph(name).model_dump()
    if name == "gating-net":
        data["inputs"] = {"x": (4, 64)}
        data["weights"] = {"up": (64, 96), "gate": (64, 96), "down": (96, 64)}
    if name == "self-attn":
        data["inputs"] = {"x": (24, 64)}
        data["weights"] = dict.fromkeys(("wq", "wk", "wv"), (64, 64))
        data["tasks"]["scores"]["scale"] = 1 / 8
    if name == "cnn-4l":
        data["inputs"] = {"image": (1, 20, 24)}
    return GraphCard.model_validate(data)


@pytest.mark.parametrize("name", ["self-attn", "mlp", "cnn-4l", "vae", "gating-net"])
def test_kernels_are_close_to_float(name: str) -> None:
    found = accuracy(narrowed(name), seed=3)
    assert {d.tensor for d in found} == set(load_graph(name).tasks)
    assert min(d.signal_to_noise for d in found) > 60
    assert max(d.largest for d in found) < 20


def test_everything_at_once_and_in_bytes() -> None:
    tasks = {
        "a": {"op": "conv", "inputs": ["x"], "kernel": [3, 2, 3], "padding": "same", "bias": True,
              "then": ["silu", "maxpool2"]},
        "b": {"op": "deconv", "inputs": ["a"], "kernel": [2, 3, 2], "bias": True, "then": ["sigmoid", "exp"]},
        "c": {"op": "conv", "inputs": ["b"], "kernel": [2, 3, 2], "scale": 0.5, "then": ["upsample2", "maxpool2"]},
        "d": {"op": "add", "inputs": ["a", "c"], "then": ["relu"]},
        "e": {"op": "softmax", "inputs": ["d"], "scale": 2.0},
        "f": {"op": "mul", "inputs": ["e", "a"], "then": ["exp"]},
    }  # fmt: skip
    tasks["c"]["kernel"] = [3, 3, 2]
    wide = accuracy(card(tasks, {"x": [3, 8, 10]}), seed=1)
    narrow = accuracy(card(tasks, {"x": [3, 8, 10]}, dtype="i8"), seed=1)
    assert min(d.signal_to_noise for d in wide) > 55
    assert min(d.signal_to_noise for d in narrow) > 15
    assert max(d.signal_to_noise for d in narrow) < min(d.signal_to_noise for d in wide)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even")
@pytest.mark.parametrize("kernel_size", [(3, 3), (4, 2), (1, 5)])
def test_convolutions_are_those_of_torch(kernel_size: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch (the extra `hf`)")
    functional = torch.nn.functional
    draw = np.random.default_rng(0)
    x, w = draw.integers(-9, 9, (3, 7, 8)), draw.integers(-9, 9, (4, 3, *kernel_size))
    image, weight = torch.tensor(x[None], dtype=torch.float64), torch.tensor(w, dtype=torch.float64)
    valid = functional.conv2d(image, weight)[0].numpy()
    assert np.array_equal(float_kernel.convolve(x, w, (0, 0, 0, 0)), valid)
    up = functional.conv_transpose2d(image, weight.transpose(0, 1))[0].numpy()
    assert np.array_equal(float_kernel.transposed(x, w, (0, 0, 0, 0)), up)
    same = functional.conv2d(image, weight, padding="same")[0].numpy()
    task = TaskCard(op="conv", inputs=("x",), kernel=(4, *kernel_size), padding="same")
    assert np.array_equal(float_kernel.convolve(x, w, task.borders), same)
    far = functional.conv2d(image, weight, stride=2)[0].numpy()
    assert np.array_equal(float_kernel.convolve(x, w, (0, 0, 0, 0), 2), far)
    cut = functional.conv_transpose2d(image, weight.transpose(0, 1), stride=3)[0].numpy()
    assert np.array_equal(float_kernel.transposed(x, w, (1, 0, 2, 0), 3), cut[:, 1:-2])


def test_products_of_the_largest_numbers_are_exact() -> None:
    x = np.full((1, 32768), -32768)
    w = np.full((32768, 1), 32767)
    x[0, 0] = -32767
    assert kernel_ops.matmul(x, w)[0, 0] == -32767 * (32768 * 32768 - 1)


def test_scores_have_no_scale_of_their_own_but_the_card_s() -> None:
    """1 / sqrt(1024), without which a row of softmax is nearly one number."""
    assert load_graph("self-attn").tasks["scores"].scale == 1 / 32


def test_saved_loads_equal_and_byte_identical(tmp_path: Path) -> None:
    quant = quantised(load_graph("vae"), 0)
    save_kernel(quant, tmp_path / "a.npz")
    save_kernel(quantised(load_graph("vae"), 0), tmp_path / "b.npz")
    assert load_kernel(tmp_path / "a.npz") == quant
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert quantised(load_graph("vae"), 1) != quant
    (tmp_path / "c.npz").write_text("no")
    with pytest.raises(DesignError, match="is not a quantised kernel"):
        load_kernel(tmp_path / "c.npz")


def test_what_is_wrong_with_a_kernel_is_said() -> None:
    quant = quantised(load_graph("vae"), 0)

    def other(**changes: Any) -> QuantKernel:
        return QuantKernel(**(vars(quant) | changes))

    with pytest.raises(DesignError, match=r"vae: enc1 must be int16 \[2, 2, 8, 8\], not nothing"):
        other(tensors={})
    with pytest.raises(DesignError, match="task enc1 is not quantised"):
        other(tasks={})
    with pytest.raises(DesignError, match="noise has no scale"):
        other(scales={n: s for n, s in quant.scales.items() if n != "noise"})
    with pytest.raises(DesignError, match="a shift of 1 to 63, not"):
        QuantTask((1,), 0)
    wide = card({"a": {"op": "matmul", "inputs": ["x", "w"]}}, {"x": [1, 40000]}, {"w": [40000, 1]})
    with pytest.raises(DesignError, match="task a sums 40000 products"):
        quantised(wide, 0)


def test_inputs_are_not_those_of_calibration() -> None:
    quant = quantised(load_graph("vae"), 0)
    a, b = integer_inputs(quant, 0), integer_inputs(quant, 1)
    assert not np.array_equal(a["image"], b["image"])
    assert kernel.forward(quant, a)["dec2"].shape == (2, 28, 28)
