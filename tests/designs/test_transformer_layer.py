# SPDX-License-Identifier: Apache-2.0
"""A layer of a GPT-2 as a kernel: the numbers are those of the float model, in integers too."""

from dataclasses import dataclass

import numpy as np
import pytest

from designs.cards import ModelCard, load_model_card
from designs.checkpoint import Checkpoint, find_model
from designs.errors import DesignError
from designs.graph import GraphCard
from designs.graph_machine import MachineOptions
from designs.transformer_layer import layer_kernel, layer_parameters
from hwgen.kernels import quantised
from sim.golden import float_kernel, float_transformer, kernel

TEXT = np.frombuffer(b"In the beginning God", np.uint8)
MACHINE = MachineOptions(lanes="2x4x8", grow="outputs", cores=2).machine(1)


@dataclass
class Layer:
    """Layer 1 of the trained model, and what it takes and makes of a text."""

    model: ModelCard
    card: GraphCard
    parameters: dict[str, np.ndarray]
    x: np.ndarray
    seen: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def layer() -> Layer:
    model, folder = find_model("tiny-gpt2")
    assert folder is not None
    weights = Checkpoint.open(folder).weights(model)
    seen: dict[str, np.ndarray] = {}
    float_transformer.forward(weights, model, TEXT, dtype=np.float64, observe=seen.__setitem__)
    card = layer_kernel(model, len(TEXT), MACHINE)
    return Layer(model, card, layer_parameters(model, weights, 1), seen["h0.add_2"], seen)


def test_float_is_that_of_the_model(layer: Layer) -> None:
    made = float_kernel.forward(layer.card, layer.parameters, {"x": layer.x})
    size = layer.model.head_size
    pairs = {
        "y": layer.seen["h1.add_2"], "p2": layer.seen["h1.softmax"][2], "fc1": layer.seen["h1.act"],
        "context3": layer.seen["h1.context"][:, 3 * size : 4 * size],
    }  # fmt: skip
    for name, wanted in pairs.items():
        np.testing.assert_allclose(made[name], wanted, atol=2e-6)  # float32 weights
    assert (made["p0"][np.triu_indices(len(TEXT), 1)] == 0).all()


def test_integers_are_close(layer: Layer) -> None:
    quant = quantised(layer.card, 0, dict(layer.parameters), [{"x": layer.x}])
    exact = float_kernel.forward(layer.card, layer.parameters, {"x": layer.x})
    made = kernel.forward(quant, {"x": quant.integers("x", layer.x)})
    for name in layer.card.tasks:
        noise = np.square(made[name] * quant.scales[name] - exact[name]).mean()
        assert np.square(exact[name]).mean() > 10**5.5 * noise, name  # 55 dB


def test_mistakes() -> None:
    with pytest.raises(DesignError, match="only layers like those of GPT-2"):
        layer_kernel(load_model_card("tiny-llama"), 8, MACHINE)
    with pytest.raises(DesignError, match="tokens must be 1 to 256, not 257"):
        layer_kernel(load_model_card("tiny-gpt2"), 257, MACHINE)
