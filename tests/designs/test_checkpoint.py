# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: reading every format, and one clear line for every kind of damage."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from designs.cards import ModelCard, load_model_card
from designs.checkpoint import Checkpoint, find_model
from designs.errors import DesignError
from designs.transformer import transformer_model, weight_sources

CARD = ModelCard(name="small", layers=2, width=12, heads=3, ffn=20, vocabulary=17, context=9)
CONFIG = {
    "model_type": "gpt2", "n_layer": 2, "n_embd": 12, "n_head": 3, "n_inner": 20,
    "vocab_size": 17, "n_positions": 9, "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}  # fmt: skip
Arrays = dict[str, NDArray[Any]]
DTYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16", "float64": "F64", "uint8": "U8"}


def arrays(dtype: str = "float32", prefix: str = "", card: ModelCard = CARD) -> Arrays:
    """Return random weights for a card."""
    draw = np.random.default_rng(1)
    return {
        prefix + name: draw.standard_normal(shape).astype(dtype)
        for name, shape in weight_sources(card).items()
    }


def pack(tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """Return a safetensors file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in tensors.items():
        raw = value.tobytes()
        header[name] = {
            "dtype": DTYPES[value.dtype.name],
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def folder(
    path: Path, tensors: Mapping[str, NDArray[Any]], config: Mapping[str, object] = CONFIG
) -> Path:
    """Write a checkpoint."""
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(pack(tensors))
    return path


def failure(path: Path, card: ModelCard = CARD) -> str:
    """Return the one line that opening and checking a checkpoint fails with."""
    with pytest.raises(DesignError) as error:
        Checkpoint.open(path).check_against(card)
    message = str(error.value)
    assert "\n" not in message
    return message


LLAMA = ModelCard(
    name="small", family="llama", layers=2, width=12, heads=3, kv_heads=1, ffn=20, vocabulary=17,
    context=9,
)  # fmt: skip
LLAMA_CONFIG = {
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 3,
    "num_key_value_heads": 1, "intermediate_size": 20, "vocab_size": 17,
    "max_position_embeddings": 9, "rms_norm_eps": 1e-5, "hidden_act": "silu", "rope_theta": 1e4,
}  # fmt: skip
OPT = ModelCard(
    name="small", family="opt", layers=2, width=12, heads=3, ffn=20, vocabulary=17, context=9
)
OPT_CONFIG = {
    "model_type": "opt", "num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 3,
    "ffn_dim": 20, "vocab_size": 17, "max_position_embeddings": 9, "activation_function": "relu",
    "word_embed_proj_dim": 12,
}  # fmt: skip


class TestFamilies:
    @pytest.mark.parametrize("prefix", ["", "model."])
    @pytest.mark.parametrize(("card", "config"), [(LLAMA, LLAMA_CONFIG), (OPT, OPT_CONFIG)])
    def test_weights(
        self, tmp_path: Path, card: ModelCard, config: dict[str, object], prefix: str
    ) -> None:
        tensors = arrays(card=card)
        named = {n if n == "lm_head.weight" else prefix + n: v for n, v in tensors.items()}
        checkpoint = Checkpoint.open(folder(tmp_path, named, config))
        assert checkpoint.card == card.model_copy(update={"name": tmp_path.name})
        checkpoint.check_against(card)
        weights = checkpoint.weights(card)
        layers = "layers.1." if card is LLAMA else "decoder.layers.1."
        for name, source in (
            ("q", "self_attn.q_proj"),
            ("v", "self_attn.v_proj"),
            ("fc1", "mlp.gate_proj" if card is LLAMA else "fc1"),
        ):
            found = weights[f"h1.{name}.weight"]
            np.testing.assert_array_equal(found, tensors[f"{layers}{source}.weight"].T)
        if card is OPT:  # position 0 is the third row
            table = tensors["decoder.embed_positions.weight"]
            assert table.shape == (11, 12)
            np.testing.assert_array_equal(weights["wpe.weight"], table[2:])

    def test_not_finite_names_the_row_of_the_file(self, tmp_path: Path) -> None:
        tensors = arrays(card=OPT)
        tensors["decoder.embed_positions.weight"][5, 7] = np.inf
        weights = Checkpoint.open(folder(tmp_path, tensors, OPT_CONFIG)).weights(OPT)
        with pytest.raises(DesignError, match=r"embed_positions.weight is inf at index \[5, 7\]"):
            weights["wpe.weight"]

    @pytest.mark.parametrize(
        ("config", "changes", "message"),
        [
            (LLAMA_CONFIG, {"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling of kind 'llama3'"),
            (LLAMA_CONFIG, {"rope_scaling": {"type": "linear"}}, "kind 'linear' is not supported"),
            (LLAMA_CONFIG, {"attention_bias": True}, "attention_bias must be false, not true"),
            (LLAMA_CONFIG, {"head_dim": 8}, "head_dim must be hidden_size / num_attention_heads, 4"),
            (LLAMA_CONFIG, {"num_key_value_heads": 2}, "heads must be a multiple of kv_heads"),
            (LLAMA_CONFIG, {"hidden_act": "tanh"}, "field activation"),
            (
                LLAMA_CONFIG,
                {"num_attention_heads": 4, "num_key_value_heads": 4},
                "the head size must be even, but 12 / 4 is 3",
            ),
            (OPT_CONFIG, {"do_layer_norm_before": False}, "do_layer_norm_before must be true"),
            (OPT_CONFIG, {"word_embed_proj_dim": 6}, "word_embed_proj_dim must be hidden_size, 12"),
        ],
    )  # fmt: skip
    def test_refuses(
        self, tmp_path: Path, config: dict[str, object], changes: dict[str, object], message: str
    ) -> None:
        card = LLAMA if config is LLAMA_CONFIG else OPT
        found = failure(folder(tmp_path, arrays(card=card), {**config, **changes}), card)
        assert message in found
        assert "config.json" in found

    def test_rope_theta_among_the_parameters(self, tmp_path: Path) -> None:
        config = {**LLAMA_CONFIG, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
        config["rope_theta"] = None
        assert Checkpoint.open(folder(tmp_path, arrays(card=LLAMA), config)).card.rope_theta == 5e5

    def test_another_family(self, tmp_path: Path) -> None:
        found = failure(folder(tmp_path, arrays(card=OPT), OPT_CONFIG), LLAMA)
        assert "model_type is opt, but model small is of family llama" in found


class TestReading:
    @pytest.mark.parametrize("prefix", ["", "transformer."])
    def test_prefix(self, tmp_path: Path, prefix: str) -> None:
        tensors = arrays(prefix=prefix)
        checkpoint = Checkpoint.open(folder(tmp_path, tensors))
        checkpoint.check_against(CARD)
        assert checkpoint.names == tuple(sorted(weight_sources(CARD)))
        for name in checkpoint.names:
            expected = tensors[prefix + name]
            np.testing.assert_array_equal(checkpoint.tensor(name), expected)
            np.testing.assert_array_equal(checkpoint.tensor(f"transformer.{name}"), expected)

    def test_card(self, tmp_path: Path) -> None:
        card = Checkpoint.open(folder(tmp_path, arrays())).card
        assert card == CARD.model_copy(update={"name": tmp_path.name})

    def test_half(self, tmp_path: Path) -> None:
        tensors = arrays("float16")
        value = Checkpoint.open(folder(tmp_path, tensors)).tensor("wte.weight")
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, tensors["wte.weight"].astype(np.float32))

    def test_bfloat16(self, tmp_path: Path) -> None:
        whole = arrays()
        high = {n: (v.view(np.uint32) >> 16).astype(np.uint16) for n, v in whole.items()}
        checkpoint = Checkpoint.open(folder(tmp_path, high))
        for name, value in whole.items():
            cut = (value.view(np.uint32) & 0xFFFF0000).view(np.float32)
            np.testing.assert_array_equal(checkpoint.tensor(name), cut)

    def test_odd_alignment(self, tmp_path: Path) -> None:
        tensors = {"h.0.attn.bias": np.zeros(3, np.uint8), **arrays()}
        checkpoint = Checkpoint.open(folder(tmp_path, tensors))
        np.testing.assert_array_equal(checkpoint.tensor("wpe.weight"), tensors["wpe.weight"])

    def test_masks_and_a_tied_head_are_ignored(self, tmp_path: Path) -> None:
        extra = {"h.0.attn.bias": np.zeros(81, np.uint8), "lm_head.weight": np.zeros(3, np.float32)}
        Checkpoint.open(folder(tmp_path, {**arrays(), **extra})).check_against(CARD)

    def test_shards(self, tmp_path: Path) -> None:
        tensors = arrays(prefix="transformer.")
        names = list(tensors)
        parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        for file, members in parts.items():
            (tmp_path / file).write_bytes(pack({n: tensors[n] for n in members}))
        places = {n: file for file, members in parts.items() for n in members}
        index = tmp_path / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": places}))
        checkpoint = Checkpoint.open(tmp_path)
        checkpoint.check_against(CARD)
        weights = checkpoint.weights()
        for name, source in (("h1.fc2.weight", "h.1.mlp.c_proj.weight"), ("ln_f.bias",) * 2):
            np.testing.assert_array_equal(weights[name], tensors[f"transformer.{source}"])
        assert len(weights) == len(list(weights)) == 36

        index.write_text(json.dumps({"weight_map": {**places, names[0]: "b.safetensors"}}))
        assert f"tensor {names[0]} should be in b.safetensors" in failure(tmp_path)
        index.write_text(json.dumps({"weight_map": {**places, names[0]: "../b.safetensors"}}))
        assert "must be in a file here" in failure(tmp_path)
        index.write_text(json.dumps({"weight_map": {**places, names[0]: "c.safetensors"}}))
        assert "c.safetensors, but there is no such file" in failure(tmp_path)
        index.write_text("{}")
        assert "weight_map must map" in failure(tmp_path)

    def test_weights_of_a_model(self, tmp_path: Path) -> None:
        tensors = arrays()
        checkpoint = Checkpoint.open(folder(tmp_path, tensors))
        model = transformer_model(CARD)
        fused = tensors["h.1.attn.c_attn.weight"]
        for i, part in enumerate("qkv"):
            value = checkpoint.weight(model.tensor(f"h1.{part}.weight"))
            np.testing.assert_array_equal(value, fused[:, 12 * i : 12 * i + 12])
        for tensor in model.weights:
            assert checkpoint.weight(tensor).shape == tensor.shape
        with pytest.raises(DesignError, match="is activation, not a weight"):
            checkpoint.weight(model.tensor("h0.q"))

    def test_opening_reads_no_data(self, tmp_path: Path) -> None:
        tensors = arrays()
        tensors["wte.weight"][3, 4] = np.nan
        checkpoint = Checkpoint.open(folder(tmp_path, tensors))
        checkpoint.tensor("wpe.weight")

    @pytest.mark.parametrize("missing", ["n_inner", "n_positions", "layer_norm_epsilon"])
    def test_older_configs(self, tmp_path: Path, missing: str) -> None:
        config = {k: v for k, v in CONFIG.items() if k != missing}
        if missing == "n_positions":
            config["n_ctx"] = 9
        card = Checkpoint.open(folder(tmp_path, arrays(), config)).card
        assert card.ffn == (48 if missing == "n_inner" else 20)
        assert (card.context, card.norm_eps) == (9, 1e-5)


class TestDamage:
    def test_no_folder(self, tmp_path: Path) -> None:
        assert "is not a folder" in failure(tmp_path / "nowhere")

    def test_no_config(self, tmp_path: Path) -> None:
        assert "has no config.json; give a Hugging Face model folder" in failure(tmp_path)

    def test_no_weights(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG))
        assert "has neither model.safetensors nor" in failure(tmp_path)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"model_type": "bert"}, "model_type is 'bert', not 'gpt2' or 'opt' or 'llama'"),
            ({"n_layer": None}, "n_layer is missing"),
            ({"n_head": 5}, "width must be a multiple of heads"),
            ({"n_embd": "wide"}, "width: input should be a valid integer"),
            ({"activation_function": "swish2"}, "field activation"),
            ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx must be"),
            ({"scale_attn_weights": False}, "scale_attn_weights must be true"),
        ],
    )
    def test_config(self, tmp_path: Path, changes: dict[str, object], message: str) -> None:
        found = failure(folder(tmp_path, arrays(), {**CONFIG, **changes}))
        assert message in found
        assert "config.json" in found

    @pytest.mark.parametrize(
        ("text", "message"), [("{", "is not valid JSON"), ("[]", "must hold a JSON object")]
    )
    def test_config_is_no_object(self, tmp_path: Path, text: str, message: str) -> None:
        folder(tmp_path, arrays())
        (tmp_path / "config.json").write_text(text)
        assert message in failure(tmp_path)

    def test_another_model(self, tmp_path: Path) -> None:
        message = failure(folder(tmp_path, arrays()), load_model_card("gpt2-medium"))
        assert "config.json: n_layer is 2, but model gpt2-medium has layers 24" in message
        assert message.endswith("; tensor wte.weight has shape [17, 12], not [50257, 1024]")

    def test_missing_tensor(self, tmp_path: Path) -> None:
        tensors = arrays()
        del tensors["h.1.ln_2.bias"]
        assert "has no tensor h.1.ln_2.bias" in failure(folder(tmp_path, tensors))

    def test_untied_head_is_needed(self, tmp_path: Path) -> None:
        folder(tmp_path, arrays(), {**CONFIG, "tie_word_embeddings": False})
        untied = CARD.model_copy(update={"tied_head": False})
        assert "has no tensor lm_head.weight" in failure(tmp_path, untied)

    def test_misshaped(self, tmp_path: Path) -> None:
        tensors = arrays()
        tensors["h.0.mlp.c_fc.weight"] = tensors["h.0.mlp.c_fc.weight"].T
        message = failure(folder(tmp_path, tensors))
        assert "model.safetensors: tensor h.0.mlp.c_fc.weight has shape [20, 12]" in message
        assert "needs [12, 20]" in message

    @pytest.mark.parametrize("shown", ["nan", "inf", "-inf"])
    def test_not_finite(self, tmp_path: Path, shown: str) -> None:
        tensors = arrays()
        tensors["h.1.mlp.c_proj.weight"][7, 2] = float(shown)
        tensors["h.1.mlp.c_proj.weight"][9, 1] = np.nan
        message = failure(folder(tmp_path, tensors))
        assert f"tensor h.1.mlp.c_proj.weight is {shown} at index [7, 2]" in message

    def test_wrong_dtype(self, tmp_path: Path) -> None:
        tensors = arrays()
        tensors["wpe.weight"] = tensors["wpe.weight"].astype(np.float64)
        message = failure(folder(tmp_path, tensors))
        assert "tensor wpe.weight has dtype F64; weights must be F32, F16, BF16" in message

    @pytest.mark.parametrize("keep", [0, 5, 8, 100, -1])
    def test_truncated(self, tmp_path: Path, keep: int) -> None:
        file = folder(tmp_path, arrays()) / "model.safetensors"
        file.write_bytes(file.read_bytes()[:keep])
        message = failure(tmp_path)
        assert "model.safetensors is truncated" in message
        if keep == -1:
            assert "tensor ln_f.bias ends at byte" in message

    def test_header_length_of_nonsense(self, tmp_path: Path) -> None:
        file = folder(tmp_path, arrays()) / "model.safetensors"
        file.write_bytes(b"\xff" * 8 + file.read_bytes()[8:])
        assert "truncated or no safetensors file" in failure(tmp_path)

    def test_header_is_no_json(self, tmp_path: Path) -> None:
        file = folder(tmp_path, arrays()) / "model.safetensors"
        raw = bytearray(file.read_bytes())
        raw[8:10] = b"\xff["
        file.write_bytes(raw)
        assert "the header is not valid JSON" in failure(tmp_path)

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "takes 8 bytes.*hold 4"),
            ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "must have dtype, shape"),
            ({"dtype": "F32", "shape": [1]}, "must have dtype, shape"),
            ({"dtype": "Q9", "shape": [1], "data_offsets": [0, 4]}, "has dtype Q9"),
            (3, "must have dtype, shape"),
        ],
    )
    def test_header_entries(self, tmp_path: Path, entry: object, message: str) -> None:
        folder(tmp_path, arrays())
        text = json.dumps({"wte.weight": entry}).encode()
        raw = len(text).to_bytes(8, "little") + text + b"\0" * 8
        (tmp_path / "model.safetensors").write_bytes(raw)
        assert re.search(message, failure(tmp_path))

    def test_header_list(self, tmp_path: Path) -> None:
        folder(tmp_path, arrays())
        (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
        assert "the header must be a JSON object" in failure(tmp_path)

    def test_a_tensor_twice(self, tmp_path: Path) -> None:
        tensors = {**arrays(), "transformer.ln_f.bias": np.zeros(12, np.float32)}
        assert "with and without the prefix" in failure(folder(tmp_path, tensors))


class TestTinyGpt2:
    def test_it_is_what_the_card_says(self) -> None:
        card = load_model_card("tiny-gpt2")
        assert card.checkpoint_folder is not None
        checkpoint = Checkpoint.open(card.checkpoint_folder)
        checkpoint.check_against(card)
        assert checkpoint.card == card.model_copy(update={"checkpoint": None})


class TestFindModel:
    def test_a_card(self) -> None:
        card, weights = find_model("tiny-gpt2")
        assert card == load_model_card("tiny-gpt2")
        assert weights == card.checkpoint_folder
        assert find_model("gpt2")[1] is None

    def test_a_folder(self, tmp_path: Path) -> None:
        card, weights = find_model(str(folder(tmp_path, arrays())))
        assert card == CARD.model_copy(update={"name": tmp_path.name})
        assert weights == tmp_path

    def test_a_card_goes_before_a_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "gpt2").mkdir()
        folder(tmp_path / "gpt2", arrays())
        monkeypatch.chdir(tmp_path)
        assert find_model("gpt2")[0].width == 768
        assert find_model("./gpt2")[0].width == 12

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("gpt2-medum", 'model "gpt2-medum" is not known; did you mean gpt2-medium?'),
            ("", 'model "" is not known'),
            ("./gpt2", "checkpoint gpt2 is not a folder"),
            ("empty", "checkpoint empty has no config.json"),
        ],
    )
    def test_neither(
        self, name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path)
        with pytest.raises(DesignError, match=re.escape(message)):
            find_model(name)
