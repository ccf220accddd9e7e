# SPDX-License-Identifier: Apache-2.0
"""The float decoders: equal to Hugging Face's, and observed under the Model's names.

Hugging Face's logits for tiny-gpt2 are in ``hf_tiny_gpt2.npz``, so that the comparison also runs
without PyTorch; ``python tests/sim/golden/test_float_transformer.py`` writes them again.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from designs.cards import ModelCard, load_model_card
from designs.catalogue import ROOT
from designs.checkpoint import Checkpoint
from designs.tokenizer import ByteTokenizer
from designs.transformer import PREFIXES, transformer_model, weight_shapes, weight_sources
from sim.golden import float_transformer

FIXTURE = Path(__file__).with_name("hf_tiny_gpt2.npz")
TINY = load_model_card("tiny-gpt2")
ODD = ModelCard(name="odd", layers=3, width=96, heads=6, ffn=200, vocabulary=300, context=50)
LLAMA = ModelCard(
    name="llama", family="llama", layers=3, width=96, heads=6, kv_heads=2, ffn=200, vocabulary=300,
    context=50,
)  # fmt: skip
OPT = ModelCard(
    name="opt", family="opt", layers=3, width=96, heads=6, ffn=200, vocabulary=300, context=50
)
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
LLAMA_TOLERANCE = 2e-5
"""Of LLaMA in float64: Hugging Face's norms and angles are float32, whatever the model is."""
WITHOUT = "compares with Hugging Face, which is not installed (the extra `hf`)"
Weights = dict[str, NDArray[Any]]


def tiny_weights(card: ModelCard = TINY) -> Weights:
    """Return the weights that come with a card."""
    assert card.checkpoint_folder is not None
    return dict(Checkpoint.open(card.checkpoint_folder).weights(card))


def stored_logits() -> Weights:
    """Return ``tokens [4, 256]``, ``rows [5]`` and Hugging Face's ``logits [4, 5, 128]``."""
    with np.load(FIXTURE) as stored:
        return dict(stored)


def random_weights(card: ModelCard, seed: int = 5) -> Weights:
    """Return weights whose biases and norms are not 0 and 1, so that a dropped one shows."""
    draw = np.random.default_rng(seed)
    return {
        name: draw.standard_normal(shape) * 0.15 + (".ln_" in f".{name}" and "weight" in name)
        for name, shape in weight_shapes(card).items()
    }


def checkpoint_tensors(card: ModelCard, weights: Weights) -> Weights:
    """Return weights as a checkpoint has them, under Hugging Face's names."""
    found = {name: np.zeros(shape) for name, shape in weight_sources(card).items()}
    for tensor in transformer_model(card).weights:
        value = weights[tensor.name].T if tensor.transposed else weights[tensor.name]
        rows = slice(*(tensor.rows or (None,)))
        columns = slice(*(tensor.columns or (None,)))
        if value.ndim == 1:
            found[tensor.source][columns] = value
        else:
            found[tensor.source][rows, columns] = value
    prefix = PREFIXES[card.family]
    return {n if n == "lm_head.weight" else prefix + n: v for n, v in found.items()}


def hugging_face(card: ModelCard, weights: Weights, tokens: NDArray[np.int64]) -> NDArray[Any]:
    """Return the float64 logits of Hugging Face's model with a head, ``[B, L, vocabulary]``."""
    torch = pytest.importorskip("torch", reason=WITHOUT)
    transformers = pytest.importorskip("transformers", reason=WITHOUT)
    common = {
        "vocab_size": card.vocabulary, "tie_word_embeddings": card.tied_head,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    shared = {
        "hidden_size": card.width, "num_hidden_layers": card.layers,
        "num_attention_heads": card.heads, "max_position_embeddings": card.context,
    }  # fmt: skip
    if card.family == "gpt2":
        config = transformers.GPT2Config(
            n_positions=card.context, n_embd=card.width, n_layer=card.layers, n_head=card.heads,
            n_inner=card.ffn, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
            layer_norm_epsilon=card.norm_eps, activation_function=card.activation, **common,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
    elif card.family == "opt":
        config = transformers.OPTConfig(
            ffn_dim=card.ffn, dropout=0, activation_function=card.activation,
            word_embed_proj_dim=card.width, **shared, **common,
        )  # fmt: skip
        model = transformers.OPTForCausalLM(config)
    else:
        config = transformers.LlamaConfig(
            intermediate_size=card.ffn, num_key_value_heads=card.kv_heads, rms_norm_eps=card.norm_eps,
            hidden_act=card.activation, rope_parameters={"rope_type": "default", "rope_theta": card.rope_theta},
            **shared, **common,
        )  # fmt: skip
        model = transformers.LlamaForCausalLM(config)
    model = model.double().eval()
    named = {n: torch.from_numpy(v) for n, v in checkpoint_tensors(card, weights).items()}
    missing, unexpected = model.load_state_dict(named, strict=False)
    assert not unexpected
    tied = ("lm_head.weight",) if card.tied_head else ()
    assert all(name.endswith((".attn.bias", ".attn.masked_bias", *tied)) for name in missing)
    model.tie_weights()
    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.numpy()


def tolerance(card: ModelCard, dtype: str) -> float:
    """Return how far logits may be from Hugging Face's float64 ones."""
    return max(TOLERANCE[dtype], LLAMA_TOLERANCE if card.family == "llama" else 0)


def random_tokens(card: ModelCard, length: int, seed: int) -> NDArray[np.int64]:
    """Return four sequences of random ids."""
    return np.random.default_rng(seed).integers(0, card.vocabulary, (4, length))


class TestAgainstHuggingFace:
    @pytest.mark.parametrize("dtype", TOLERANCE)
    @pytest.mark.parametrize(
        "card",
        [
            ODD,
            ODD.model_copy(update={"tied_head": False}),
            ODD.model_copy(update={"activation": "gelu"}),
            ODD.model_copy(update={"activation": "relu"}),
            ODD.model_copy(update={"activation": "silu"}),
            ODD.model_copy(update={"norm_eps": 0.1, "heads": 2, "kv_heads": 2}),
            LLAMA,
            LLAMA.model_copy(update={"kv_heads": 6, "tied_head": True}),
            LLAMA.model_copy(update={"kv_heads": 1, "rope_theta": 500.0, "norm_eps": 0.1}),
            OPT,
            OPT.model_copy(update={"activation": "gelu", "tied_head": False}),
        ],
        ids=[
            "odd",
            "untied",
            "gelu",
            "relu",
            "silu",
            "eps",
            "llama",
            "llama-tied",
            "llama-theta",
            "opt",
            "opt-untied",
        ],
    )
    def test_random(self, card: ModelCard, dtype: str) -> None:
        weights, tokens = random_weights(card), random_tokens(card, card.context, 1)
        expected = hugging_face(card, weights, tokens)
        for row, want in zip(tokens, expected, strict=True):
            found = float_transformer.logits(weights, card, row, dtype=dtype)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, want, rtol=0, atol=tolerance(card, dtype))

    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_tiny(self, dtype: str) -> None:
        weights, tokens = tiny_weights(), random_tokens(TINY, TINY.context, 2)
        expected = hugging_face(TINY, weights, tokens)
        for row, want in zip(tokens, expected, strict=True):
            found = float_transformer.logits(weights, TINY, row, dtype=dtype)
            np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype])

    @pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
    def test_the_folder_is_one_that_hugging_face_loads(self, name: str) -> None:
        torch = pytest.importorskip("torch", reason=WITHOUT)
        transformers = pytest.importorskip("transformers", reason=WITHOUT)
        card = load_model_card(name)
        load = transformers.AutoModelForCausalLM.from_pretrained
        model = load(card.checkpoint_folder, dtype=torch.float64).eval()
        tokens = random_tokens(card, 20, 3)
        with torch.no_grad():
            expected = model(torch.from_numpy(tokens)).logits.numpy()
        found = float_transformer.logits(tiny_weights(card), card, tokens[0], dtype=np.float64)
        np.testing.assert_allclose(found, expected[0], rtol=0, atol=tolerance(card, "float64"))

    def test_the_stored_logits_are_fresh(self) -> None:
        stored = stored_logits()
        fresh = hugging_face(TINY, tiny_weights(), stored["tokens"])[:, stored["rows"]]
        np.testing.assert_allclose(stored["logits"], fresh, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_stored_logits(self, dtype: str) -> None:
        stored, weights = stored_logits(), tiny_weights()
        assert len(stored["tokens"]) == 4
        for row, want in zip(stored["tokens"], stored["logits"], strict=True):
            found = float_transformer.logits(weights, TINY, row, dtype=dtype)[stored["rows"]]
            np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype])


class TestForward:
    @pytest.mark.parametrize("card", [ODD, LLAMA, OPT], ids=lambda card: card.name)
    def test_observed_names_and_shapes_are_the_models(self, card: ModelCard) -> None:
        seen: dict[str, NDArray[Any]] = {}

        def observe(name: str, value: NDArray[Any]) -> None:
            assert name not in seen
            seen[name] = value

        weights, tokens = random_weights(card), random_tokens(card, 7, 4)[0]
        found = float_transformer.forward(weights, card, tokens, observe=observe)
        model = transformer_model(card)
        made = [task.name for task in model.tasks if task.kind != "argmax"]
        assert list(seen) == made
        assert {n: v.shape for n, v in seen.items()} == {n: model.size(n, 7) for n in made}
        assert {v.dtype for v in seen.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(seen["lm_head"], found)

    @pytest.mark.parametrize("card", [ODD, LLAMA], ids=lambda card: card.name)
    def test_causal(self, card: ModelCard) -> None:
        weights, tokens = random_weights(card), random_tokens(card, 20, 6)[0]
        other = tokens.copy()
        other[12:] = (other[12:] + 1) % card.vocabulary
        a, b = (
            float_transformer.logits(weights, card, t, dtype=np.float64) for t in (tokens, other)
        )
        np.testing.assert_allclose(a[:12], b[:12], rtol=0, atol=1e-12)
        assert (np.abs(a[12:] - b[12:]).max(axis=1) > 1e-3).all()

    def test_softmax_of_large_scores(self) -> None:
        p = float_transformer.softmax(np.array([[1e4, 1e4, -np.inf]], np.float32))
        np.testing.assert_array_equal(p, [[0.5, 0.5, 0.0]])

    @pytest.mark.parametrize("tokens", [[], list(range(51)), [[1]]])
    def test_length(self, tokens: Any) -> None:
        with pytest.raises(ValueError, match="1 to 50 tokens"):
            float_transformer.logits(random_weights(ODD), ODD, tokens)

    @pytest.mark.parametrize("token", [-1, 300, 1.5])
    def test_vocabulary(self, token: Any) -> None:
        with pytest.raises(ValueError, match="from 0 to 299"):
            float_transformer.logits(random_weights(ODD), ODD, [3, token])

    def test_greedy_must_fit(self) -> None:
        with pytest.raises(ValueError, match="not 3 and 48"):
            float_transformer.greedy(random_weights(ODD), ODD, [1, 2, 3], 48)


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
class TestTiny:
    def test_held_out_text(self, name: str) -> None:
        card = load_model_card(name)
        text = (ROOT / "texts/kjv-heldout.txt").read_text(encoding="ascii")[:4097]
        tokens = ByteTokenizer().encode(text)
        found = float_transformer.perplexity(
            tiny_weights(card), card, tokens, window=256, stride=256
        )
        assert found.tokens == 4096
        assert 1.3 < found.bits < 2.0

    def test_it_writes_words(self, name: str) -> None:
        tokenizer, card = ByteTokenizer(), load_model_card(name)
        prompt = tokenizer.encode("And the LORD said unto ")
        text = tokenizer.decode(float_transformer.greedy(tiny_weights(card), card, prompt, 60))
        known = set((ROOT / "texts/kjv-heldout.txt").read_text().lower().split())
        known |= set((ROOT / "texts/kjv-calibration.txt").read_text().lower().split())
        words = text.lower().split()[:-1]
        assert len(words) > 8
        assert sum(word in known for word in words) > 0.6 * len(words)

    def test_untrained_is_worse(self, name: str) -> None:
        card = load_model_card(name).model_copy(update={"layers": 1})
        tokens = ByteTokenizer().encode("In the beginning God created the heaven and the earth.")
        found = float_transformer.perplexity(
            random_weights(card), card, tokens, window=32, stride=16
        )
        assert found.nats > 0.9 * math.log(card.vocabulary)


def write_fixture() -> None:
    """Write what Hugging Face computes for four passages of the held-out text."""
    text = (ROOT / "texts/kjv-heldout.txt").read_text(encoding="ascii")
    ids = np.array(ByteTokenizer().encode(text))
    tokens = np.stack([ids[i : i + TINY.context] for i in range(0, 20000, 5000)])
    rows = np.array([0, 1, 31, 128, TINY.context - 1])
    logits = hugging_face(TINY, tiny_weights(), tokens)[:, rows]
    np.savez(FIXTURE, tokens=tokens.astype(np.int64), rows=rows, logits=logits)


if __name__ == "__main__":
    write_fixture()
