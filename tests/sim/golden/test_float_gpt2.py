"""The float GPT-2: equal to Hugging Face's, and observed under the Model's names.

Hugging Face's logits for tiny-gpt2 are in ``hf_tiny_gpt2.npz``, so that the comparison also runs
without PyTorch; ``python tests/sim/golden/test_float_gpt2.py`` writes them again.
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
from designs.gpt2 import gpt2_model, gpt2_sources
from designs.tokenizer import ByteTokenizer
from sim.golden import float_gpt2

FIXTURE = Path(__file__).with_name("hf_tiny_gpt2.npz")
TINY = load_model_card("tiny-gpt2")
ODD = ModelCard(name="odd", layers=3, width=96, heads=6, ffn=200, vocabulary=300, context=50)
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
WITHOUT = "compares with Hugging Face, which is not installed (the extra `hf`)"
Weights = dict[str, NDArray[Any]]


def tiny_weights() -> Weights:
    """Return the weights of tiny-gpt2."""
    assert TINY.checkpoint_folder is not None
    return dict(Checkpoint.open(TINY.checkpoint_folder).weights(TINY))


def stored_logits() -> Weights:
    """Return ``tokens [4, 256]``, ``rows [5]`` and Hugging Face's ``logits [4, 5, 128]``."""
    with np.load(FIXTURE) as stored:
        return dict(stored)


def random_weights(card: ModelCard, seed: int = 5) -> Weights:
    """Return weights whose biases and norms are not 0 and 1, so that a dropped one shows."""
    draw = np.random.default_rng(seed)
    return {
        name: draw.standard_normal(shape) * 0.15 + (".ln_" in f".{name}" and "weight" in name)
        for name, shape in gpt2_sources(card).items()
    }


def hugging_face(card: ModelCard, weights: Weights, tokens: NDArray[np.int64]) -> NDArray[Any]:
    """Return GPT2LMHeadModel's float64 logits, ``[B, L, vocabulary]``."""
    torch = pytest.importorskip("torch", reason=WITHOUT)
    transformers = pytest.importorskip("transformers", reason=WITHOUT)
    config = transformers.GPT2Config(
        vocab_size=card.vocabulary, n_positions=card.context, n_embd=card.width,
        n_layer=card.layers, n_head=card.heads, n_inner=card.ffn, resid_pdrop=0, embd_pdrop=0,
        attn_pdrop=0, layer_norm_epsilon=card.layernorm_eps, activation_function=card.activation,
        bos_token_id=None, eos_token_id=None, tie_word_embeddings=card.tied_head,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config).double().eval()
    named = {f"transformer.{n}": torch.from_numpy(np.array(v, float)) for n, v in weights.items()}
    named["lm_head.weight"] = named["transformer.wte.weight"]
    if not card.tied_head:
        named["lm_head.weight"] = named.pop("transformer.lm_head.weight")
    missing, unexpected = model.load_state_dict(named, strict=False)
    assert not unexpected
    assert all(name.endswith((".attn.bias", ".attn.masked_bias")) for name in missing)
    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.numpy()


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
            ODD.model_copy(update={"layernorm_eps": 0.1, "heads": 2}),
        ],
        ids=["odd", "untied", "gelu", "relu", "silu", "eps"],
    )
    def test_random(self, card: ModelCard, dtype: str) -> None:
        weights, tokens = random_weights(card), random_tokens(card, card.context, 1)
        expected = hugging_face(card, weights, tokens)
        for row, want in zip(tokens, expected, strict=True):
            found = float_gpt2.logits(weights, card, row, dtype=dtype)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype])

    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_tiny(self, dtype: str) -> None:
        weights, tokens = tiny_weights(), random_tokens(TINY, TINY.context, 2)
        expected = hugging_face(TINY, weights, tokens)
        for row, want in zip(tokens, expected, strict=True):
            found = float_gpt2.logits(weights, TINY, row, dtype=dtype)
            np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype])

    def test_the_folder_is_one_that_hugging_face_loads(self) -> None:
        torch = pytest.importorskip("torch", reason=WITHOUT)
        transformers = pytest.importorskip("transformers", reason=WITHOUT)
        load = transformers.GPT2LMHeadModel.from_pretrained
        model = load(TINY.checkpoint_folder, dtype=torch.float64).eval()
        tokens = random_tokens(TINY, 20, 3)
        with torch.no_grad():
            expected = model(torch.from_numpy(tokens)).logits.numpy()
        found = float_gpt2.logits(tiny_weights(), TINY, tokens[0], dtype=np.float64)
        np.testing.assert_allclose(found, expected[0], rtol=0, atol=1e-10)

    def test_the_stored_logits_are_fresh(self) -> None:
        stored = stored_logits()
        fresh = hugging_face(TINY, tiny_weights(), stored["tokens"])[:, stored["rows"]]
        np.testing.assert_allclose(stored["logits"], fresh, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("dtype", TOLERANCE)
    def test_stored_logits(self, dtype: str) -> None:
        stored, weights = stored_logits(), tiny_weights()
        assert len(stored["tokens"]) == 4
        for row, want in zip(stored["tokens"], stored["logits"], strict=True):
            found = float_gpt2.logits(weights, TINY, row, dtype=dtype)[stored["rows"]]
            np.testing.assert_allclose(found, want, rtol=0, atol=TOLERANCE[dtype])


class TestForward:
    def test_observed_names_and_shapes_are_the_models(self) -> None:
        seen: dict[str, NDArray[Any]] = {}

        def observe(name: str, value: NDArray[Any]) -> None:
            assert name not in seen
            seen[name] = value

        weights, tokens = random_weights(ODD), random_tokens(ODD, 7, 4)[0]
        found = float_gpt2.forward(weights, ODD, tokens, observe=observe)
        model = gpt2_model(ODD)
        made = [task.name for task in model.tasks if task.kind != "argmax"]
        assert list(seen) == made
        assert {n: v.shape for n, v in seen.items()} == {n: model.size(n, 7) for n in made}
        assert {v.dtype for v in seen.values()} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(seen["lm_head"], found)

    def test_causal(self) -> None:
        weights, tokens = random_weights(ODD), random_tokens(ODD, 20, 6)[0]
        other = tokens.copy()
        other[12:] = (other[12:] + 1) % ODD.vocabulary
        a, b = (float_gpt2.logits(weights, ODD, t, dtype=np.float64) for t in (tokens, other))
        np.testing.assert_allclose(a[:12], b[:12], rtol=0, atol=1e-12)
        assert (np.abs(a[12:] - b[12:]).max(axis=1) > 1e-3).all()

    def test_softmax_of_large_scores(self) -> None:
        p = float_gpt2.softmax(np.array([[1e4, 1e4, -np.inf]], np.float32))
        np.testing.assert_array_equal(p, [[0.5, 0.5, 0.0]])

    @pytest.mark.parametrize("tokens", [[], list(range(51)), [[1]]])
    def test_length(self, tokens: Any) -> None:
        with pytest.raises(ValueError, match="1 to 50 tokens"):
            float_gpt2.logits(random_weights(ODD), ODD, tokens)

    @pytest.mark.parametrize("token", [-1, 300, 1.5])
    def test_vocabulary(self, token: Any) -> None:
        with pytest.raises(ValueError, match="from 0 to 299"):
            float_gpt2.logits(random_weights(ODD), ODD, [3, token])

    def test_greedy_must_fit(self) -> None:
        with pytest.raises(ValueError, match="not 3 and 48"):
            float_gpt2.greedy(random_weights(ODD), ODD, [1, 2, 3], 48)


class TestTinyGpt2:
    def test_held_out_text(self) -> None:
        text = (ROOT / "texts/kjv-heldout.txt").read_text(encoding="ascii")[:4097]
        tokens = ByteTokenizer().encode(text)
        found = float_gpt2.perplexity(tiny_weights(), TINY, tokens, window=256, stride=256)
        assert found.tokens == 4096
        assert 1.3 < found.bits < 2.0

    def test_it_writes_words(self) -> None:
        tokenizer = ByteTokenizer()
        prompt = tokenizer.encode("And the LORD said unto ")
        text = tokenizer.decode(float_gpt2.greedy(tiny_weights(), TINY, prompt, 60))
        known = set((ROOT / "texts/kjv-heldout.txt").read_text().lower().split())
        known |= set((ROOT / "texts/kjv-calibration.txt").read_text().lower().split())
        words = text.lower().split()[:-1]
        assert len(words) > 8
        assert sum(word in known for word in words) > 0.6 * len(words)

    def test_untrained_is_worse(self) -> None:
        card = TINY.model_copy(update={"layers": 1})
        tokens = ByteTokenizer().encode("In the beginning God created the heaven and the earth.")
        found = float_gpt2.perplexity(random_weights(card), card, tokens, window=32, stride=16)
        assert found.nats > 0.9 * math.log(TINY.vocabulary)


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
