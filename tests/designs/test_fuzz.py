# SPDX-License-Identifier: Apache-2.0
"""Whatever a checkpoint or a card holds: it is read, or refused in one line; nothing else happens."""

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from designs import catalogue
from designs.cards import ModelCard
from designs.checkpoint import Checkpoint
from designs.errors import DesignError
from designs.graph import GraphCard
from designs.target import TargetCard

FUZZ = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

CONFIG = {
    "model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 5, "n_positions": 6,
}  # fmt: skip

numbers = st.integers() | st.integers(-(2**70), 2**70) | st.floats()
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def safetensors(header: object, data: bytes = b"") -> bytes:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


WHOLE = safetensors(
    {
        "wte.weight": {"dtype": "F32", "shape": [5, 8], "data_offsets": [0, 160]},
        "h.0.ln_1.bias": {"dtype": "BF16", "shape": [8], "data_offsets": [160, 176]},
    },
    np.arange(44, dtype="<f4").tobytes(),
)


def read(folder: Path) -> None:
    """Read all of a checkpoint; a refusal must be one line."""
    try:
        checkpoint = Checkpoint.open(folder)
        for name in checkpoint.names:
            checkpoint.tensor(name)
        checkpoint.check_against(checkpoint.card)
    except DesignError as error:
        assert str(error) and "\n" not in str(error)


@FUZZ
@given(st.binary(max_size=200))
@example(safetensors(b"[" * 100_000))
@example(safetensors({"x": {"dtype": "F32", "shape": [2**70, 0], "data_offsets": [0, 0]}}))
@example(safetensors({"\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}))
@example(safetensors(b'{"x": ' + b"9" * 5000 + b"}"))
def test_any_bytes_as_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(content)
    read(tmp_path)


@FUZZ
@given(
    st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6
    ),
    st.integers(0, len(WHOLE)),
)
def test_damaged_weights(tmp_path: Path, changes: list[tuple[int, int]], length: int) -> None:
    content = bytearray(WHOLE)
    for position, value in changes:
        content[position] = value
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    for damaged in (content, content[:length]):
        (tmp_path / "model.safetensors").write_bytes(damaged)
        read(tmp_path)


@FUZZ
@given(
    st.dictionaries(
        st.text(max_size=6),
        st.fixed_dictionaries(
            {},
            optional={
                "dtype": st.sampled_from(["F32", "BF16", "I64", "F8_E4M3", "X", 4, None]),
                "shape": st.lists(numbers, max_size=3) | json_values,
                "data_offsets": st.lists(numbers, max_size=3) | json_values,
            },
        )
        | json_values,
        max_size=3,
    )
)
def test_any_header(tmp_path: Path, header: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(safetensors(header, bytes(64)))
    read(tmp_path)


@FUZZ
@given(
    st.sampled_from(["gpt2", "opt", "llama"]),
    st.dictionaries(
        st.sampled_from(
            [
                *CONFIG, "tie_word_embeddings", "scale_attn_weights", "rope_scaling", "rope_parameters", "rope_theta",
                "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size",
                "max_position_embeddings", "hidden_act", "word_embed_proj_dim", "head_dim", "rms_norm_eps",
                "hwgen_tokenizer", "num_key_value_heads", "ffn_dim", "activation_function",
            ]
        ),
        json_values,
        max_size=6,
    ),
)  # fmt: skip
@example("gpt2", {"model_type": []})
@example("gpt2", {"n_layer": 10**30})
@example("llama", {"hidden_size": 10**400})
def test_any_config(tmp_path: Path, family: str, changes: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "model_type": family, **changes}))
    (tmp_path / "model.safetensors").write_bytes(WHOLE)
    read(tmp_path)


@settings(FUZZ, max_examples=20)
@given(st.text(max_size=60) | json_values.map(json.dumps))
@example("[" * 1100)
@example("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]")
@example("!!python/object/apply:os.system ['exit 1']")
@example("? [a]\n: b")
@example("2001-99-99")
def test_any_text_as_a_card(tmp_path: Path, text: str) -> None:
    path = tmp_path / "card.yaml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    for model in (ModelCard, TargetCard, GraphCard):
        with pytest.raises(DesignError) as error:
            catalogue.load_file(path, model)
        assert "\n" not in str(error.value)


class _Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "model.ckpt"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    witness = tmp_path.parent / f"{tmp_path.name}-was-run"
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / name).write_bytes(pickle.dumps(_Bomb(witness)))
    with pytest.raises(DesignError, match=f"{name} is a pickle, which can run code.*safetensors"):
        Checkpoint.open(tmp_path)
    with pytest.raises(DesignError, match=f"{name} is a pickle, which can run code.*safetensors"):
        Checkpoint.open(tmp_path / name)
    # Nor under the name of weights.
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(_Bomb(witness)))
    read(tmp_path)
    assert not witness.exists()


def test_an_archive_of_objects_is_not_opened(tmp_path: Path) -> None:
    from hwgen.kernels import load_parameters

    witness, path = tmp_path / "was-run", tmp_path / "w.npz"
    np.savez(path, w=np.array([_Bomb(witness)], dtype=object), allow_pickle=True)
    for content in (path.read_bytes(), path.read_bytes()[:100], b"PK\x03\x04", b"", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(DesignError, match=r"is no \.npz file of weights") as error:
            load_parameters(path)
        assert "\n" not in str(error.value)
    assert not witness.exists()


@pytest.mark.parametrize("place", ["../w.safetensors", "/etc/passwd", "a/../../w", ""])
def test_shards_lie_in_the_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    index = {"weight_map": {"wte.weight": place}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DesignError, match=r"tensor wte\.weight must be in a file here"):
        Checkpoint.open(tmp_path)
