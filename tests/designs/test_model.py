# SPDX-License-Identifier: Apache-2.0
"""The Model: round trip, counts, and every promise of its validation."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from designs.cards import ModelCard, list_models, load_model_card
from designs.errors import DesignError
from designs.model import KINDS, Kind, Model, Task, Tensor, register
from designs.transformer import transformer_model, weight_sources

PARTS = (
    "ln_1", "q", "k", "v", "scores", "softmax", "context", "proj", "add_1",
    "ln_2", "fc1", "act", "fc2", "add_2",
)  # fmt: skip
PARAMETERS = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama2-7b": 6_738_415_616,
    "tinyllama-1.1b": 1_100_048_384,
    "opt-6.7b": 6_658_473_984 - 2 * 4096,  # but the two rows before position 0
}
ODD = ModelCard(
    name="odd", layers=2, width=48, heads=3, ffn=100, vocabulary=300, context=40, tied_head=False
)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return transformer_model(load_model_card("tiny-gpt2"))


def edited(model: Model, **changes: Any) -> Model:
    """Return a model with other fields, validated anew."""
    return Model(**{**{name: getattr(model, name) for name in Model.model_fields}, **changes})


def with_task(model: Model, name: str, **changes: Any) -> Model:
    """Return a model in which one task is changed."""
    tasks = tuple(
        Task(**{**t.model_dump(), **changes}) if t.name == name else t for t in model.tasks
    )
    return edited(model, tasks=tasks)


def with_tensor(model: Model, name: str, **changes: Any) -> Model:
    """Return a model in which one tensor is changed."""
    tensors = tuple(
        Tensor(**{**t.model_dump(), **changes}) if t.name == name else t for t in model.tensors
    )
    return edited(model, tensors=tensors)


class TestGraph:
    @pytest.mark.parametrize("name", PARAMETERS)
    def test_weights_of_the_real_sizes(self, name: str) -> None:
        card = load_model_card(name)
        model = transformer_model(card)
        assert model.weight_elements == PARAMETERS[name]
        rotary = 2 if card.position == "rotary" else 0
        assert len(model.tasks) == 4 + card.layers * (len(PARTS) + rotary)

    @pytest.mark.parametrize("card", [ODD, load_model_card("tiny-gpt2")], ids=lambda c: c.name)
    def test_weights_are_the_checkpoint(self, card: ModelCard) -> None:
        sources = weight_sources(card)
        covered = dict.fromkeys(sources, 0)
        for tensor in transformer_model(card).weights:
            covered[tensor.source] += math.prod(int(dim) for dim in tensor.shape)
        assert covered == {name: math.prod(shape) for name, shape in sources.items()}

    def test_llama(self) -> None:
        model = transformer_model(load_model_card("tinyllama-1.1b"))
        assert model.size("h0.k_rotary", tokens=3, past=10) == (13, 256)
        assert model.tensor("h0.k").kind == "activation"
        assert [t.name for t in model.weights][:2] == ["wte.weight", "h0.ln_1.weight"]
        width, kv, ffn, heads = 2048, 256, 5632, 32
        linear = 22 * (2 * width * (width + kv) + 3 * width * ffn) + width * 32000
        assert model.macs(1, 9) == linear + 22 * 2 * 10 * heads * 64
        assert Model.from_yaml(model.to_yaml()) == model

    def test_names(self, tiny: Model) -> None:
        names = [task.name for task in tiny.tasks]
        assert names[:2] == ["embed", "h0.ln_1"]
        assert names[-3:] == ["ln_f", "lm_head", "argmax"]
        assert [f"h3.{part}" for part in PARTS] == names[-17:-3]
        assert all(task.outputs == (task.name,) for task in tiny.tasks)

    def test_edges(self, tiny: Model) -> None:
        assert [t.name for t in tiny.inputs] == ["tokens"]
        assert [t.name for t in tiny.outputs] == ["argmax"]
        assert [t.name for t in tiny.consumers("h1.add_2")] == ["h2.ln_1", "h2.add_1"]
        assert [t.name for t in tiny.consumers("wte.weight")] == ["embed", "lm_head"]
        assert tiny.producer("wte.weight") is None
        producer = tiny.producer("h0.k")
        assert producer is not None
        assert producer.name == "h0.k"
        assert tiny.task("h0.scores").get("heads") == 4
        assert tiny.task("h0.scores").get("scale") == 0.25

    def test_sizes_bind_the_pass(self, tiny: Model) -> None:
        assert tiny.size("h0.softmax", tokens=3, past=10) == (4, 3, 13)
        assert tiny.size("h0.k", tokens=3, past=10) == (13, 64)

    def test_macs_by_hand(self, tiny: Model) -> None:
        # 5 tokens after 7: row i of attention sees 8 + i.
        linear = 5 * (4 * (3 * 64 * 64 + 64 * 64 + 2 * 64 * 256) + 64 * 128)
        attention = 4 * 2 * 64 * (8 + 9 + 10 + 11 + 12)
        assert tiny.macs(5, 7) == linear + attention

    @pytest.mark.parametrize("name", ["tiny-gpt2", "gpt2-medium"])
    def test_macs_do_not_depend_on_how_a_prompt_is_cut(self, name: str) -> None:
        model = transformer_model(load_model_card(name))
        assert model.macs(40) == model.macs(25) + model.macs(15, 25)
        assert model.macs(40) == sum(model.macs(1, past) for past in range(40))

    def test_matmul_shapes(self, tiny: Model) -> None:
        scores, context = tiny.matmul("h0.scores", 5, 7), tiny.matmul("h0.context", 5, 7)
        assert (scores.heads, scores.rows, scores.reduce, scores.outputs) == (4, 5, 16, 12)
        assert (context.heads, context.rows, context.reduce, context.outputs) == (4, 5, 12, 16)
        head = tiny.matmul("lm_head", 5)
        assert (head.heads, head.rows, head.reduce, head.outputs) == (1, 5, 64, 128)

    @pytest.mark.parametrize(("tokens", "past"), [(0, 0), (257, 0), (1, 256), (1, -1)])
    def test_a_pass_must_fit(self, tiny: Model, tokens: int, past: int) -> None:
        with pytest.raises(DesignError, match="at most 256"):
            tiny.macs(tokens, past)

    def test_a_layernorm_has_no_matmul_shape(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"h0\.ln_1 is a layernorm, not a matmul"):
            tiny.matmul("h0.ln_1", 1)

    def test_unknown_names_get_the_nearest(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"no task h0\.fc3; did you mean h0\.fc"):
            tiny.task("h0.fc3")
        with pytest.raises(DesignError, match=r"no tensor h9\.q"):
            tiny.tensor("h9.q")


class TestRoundTrip:
    @pytest.mark.parametrize("name", list_models())
    def test_yaml(self, name: str) -> None:
        model = transformer_model(load_model_card(name))
        text = model.to_yaml()
        again = Model.from_yaml(text)
        assert again == model
        assert hash(again) == hash(model)
        assert again.to_yaml() == text

    def test_untied(self) -> None:
        model = transformer_model(ODD)
        assert Model.from_yaml(model.to_yaml()) == model
        assert model.task("lm_head").inputs == ("ln_f", "lm_head.weight")

    def test_a_line_for_each_task_and_tensor(self, tiny: Model) -> None:
        assert len(tiny.to_yaml().splitlines()) == 11 + len(tiny.tensors) + len(tiny.tasks)
        assert "- {name: h0.q, shape: [L, 64], kind: activation}" in tiny.to_yaml()

    def test_prints(self, tiny: Model) -> None:
        text = str(tiny)
        assert text.startswith("tiny-gpt2: 4 layers, width 64, 4 heads")
        assert "h0.scores   matmul causal=True form=scores heads=4" in text

    def test_pickles(self, tiny: Model) -> None:
        assert pickle.loads(pickle.dumps(tiny)) == tiny

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("layers: 4", "layers: four", "field layers: input should be a valid integer"),
            ("layers: 4", "layer: 4", "field layers is missing; field layer is not known"),
            ("{name: h0.q, kind: matmul", "{name: h0.q, knd: matmul", "field tasks.2.kind is"),
            ("tensors:", "tensors: [", "model: not valid YAML"),
            ("kind: cache", "kind: cash", "field tensors."),
        ],
    )
    def test_bad_text_is_one_line(self, tiny: Model, old: str, new: str, message: str) -> None:
        text = tiny.to_yaml()
        assert old in text
        with pytest.raises(DesignError) as error:
            Model.from_yaml(text.replace(old, new, 1))
        assert message in str(error.value)
        assert "\n" not in str(error.value)

    def test_a_list_is_no_model(self) -> None:
        with pytest.raises(DesignError, match="must be a mapping"):
            Model.from_yaml("[1, 2]")


class TestValidation:
    def test_two_producers(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"h0\.q is made by task h0\.q and by task h0\.add_1"):
            with_task(tiny, "h0.add_1", outputs=("h0.q",))

    def test_missing_input(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"task h0\.fc1 \(matmul\): tensor h0\.ln_3 does not"):
            with_task(tiny, "h0.fc1", inputs=("h0.ln_3", "h0.fc1.weight", "h0.fc1.bias"))

    def test_wrong_shape(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"\[L, 64\] has 64 columns.*\[60, 256\] reduces 60"):
            with_tensor(tiny, "h0.fc1.weight", shape=(60, 256))

    def test_wrong_bias(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"the bias must be \[256\], not \[255\]"):
            with_tensor(tiny, "h0.fc1.bias", shape=(255,))

    def test_wrong_output_shape(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"h0\.fc1 is declared \[L, 255\], but is made"):
            with_tensor(tiny, "h0.fc1", shape=("L", 255))

    def test_cache_must_have_the_rows_of_the_task(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"h0\.k is declared \[C, 32\]"):
            with_tensor(tiny, "h0.k", shape=("C", 32))

    def test_order(self, tiny: Model) -> None:
        tasks = list(tiny.tasks)
        tasks[1], tasks[2] = tasks[2], tasks[1]
        with pytest.raises(DesignError, match=r"h0\.q .*it reads h0\.ln_1, which the later task"):
            edited(tiny, tasks=tuple(tasks))

    def test_a_tensor_that_nobody_makes(self, tiny: Model) -> None:
        extra = Tensor(name="ghost", shape=("L",), kind="activation")
        with pytest.raises(DesignError, match="no task makes activation ghost"):
            edited(tiny, tensors=(*tiny.tensors, extra))

    def test_a_weight_that_nobody_reads(self, tiny: Model) -> None:
        extra = Tensor(name="ghost", shape=(3,), kind="weight")
        with pytest.raises(DesignError, match="no task reads weight ghost"):
            edited(tiny, tensors=(*tiny.tensors, extra))

    def test_a_weight_is_not_made(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match="is declared as input"):
            with_tensor(tiny, "argmax", kind="input")

    def test_names_are_unique(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match=r"two tensors are called h0\.q"):
            edited(tiny, tensors=(*tiny.tensors, tiny.tensor("h0.q")))
        with pytest.raises(DesignError, match=r"two tasks are called h0\.q"):
            edited(tiny, tasks=(*tiny.tasks, tiny.task("h0.q")))

    def test_unknown_kind_and_attribute(self, tiny: Model) -> None:
        with pytest.raises(DesignError, match="kind is not known; did you mean softmax"):
            with_task(tiny, "h0.softmax", kind="sofmax")
        with pytest.raises(DesignError, match="attribute casual is not known; did you mean causal"):
            with_task(tiny, "h0.softmax", attributes={"casual": True})

    @pytest.mark.parametrize(
        ("task", "attributes", "message"),
        [
            ("h0.scores", {"form": "scores", "heads": 5}, "a multiple of 5 heads"),
            ("h0.scores", {"form": "scores", "heads": 0}, "heads must be positive"),
            ("h0.scores", {"form": "scores", "heads": 4, "kv_heads": 3}, "a multiple of kv_heads"),
            ("h0.scores", {"form": "scores", "heads": 4, "kv_heads": 2}, "must be equally wide"),
            ("h0.scores", {"form": "sores", "heads": 4}, "linear, pair, scores or context"),
            ("h0.context", {"form": "context", "heads": 2}, r"\[2, L, C\]"),
            ("h0.ln_1", {}, "eps must be given"),
            ("h0.act", {}, "function must be given"),
            ("h0.add_1", {"operation": "sub"}, "add or mul, not 'sub'"),
        ],
    )
    def test_attributes(
        self, tiny: Model, task: str, attributes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(DesignError, match=message):
            with_task(tiny, task, attributes=attributes)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"shape": (0,), "kind": "weight"}, "not 0"),
            ({"shape": ("M",), "kind": "activation"}, "not 'M'"),
            ({"shape": ("L",), "kind": "weight"}, r"fixed shape, not \[L\]"),
            ({"shape": ("L", 4), "kind": "cache"}, "C as its first dimension"),
            ({"shape": (4,), "kind": "activation", "source": "x"}, "only a weight has a source"),
            ({"shape": (4,), "kind": "weight", "columns": (0, 3)}, "columns 0:3 do not give"),
        ],
    )
    def test_tensors(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(DesignError, match=message):
            Tensor(name="t", **fields)

    def test_a_new_kind_of_task(self, monkeypatch: pytest.MonkeyPatch, tiny: Model) -> None:
        monkeypatch.setattr("designs.model.KINDS", dict(KINDS))
        register(Kind("rope", lambda task, shapes: [shapes[0]], ("base",)))
        tensors = (*tiny.tensors, Tensor(name="r", shape=("L", 64), kind="activation"))
        task = Task(name="r", kind="rope", inputs=("h0.q",), outputs=("r",), attributes={"base": 2})  # pyright: ignore[reportArgumentType]
        model = edited(tiny, tensors=tensors, tasks=(*tiny.tasks, task))
        assert Model.from_yaml(model.to_yaml()) == model
        with pytest.raises(DesignError, match="rope is already registered"):
            register(Kind("rope", lambda task, shapes: [shapes[0]]))
