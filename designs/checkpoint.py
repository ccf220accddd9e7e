# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a Hugging Face folder (config.json and safetensors), read lazily from a map.

The format of a safetensors file: 8 bytes of length, that many bytes of JSON header (name -> dtype,
shape, start and end in the data), then the data. It is read here and not by the ``safetensors``
library because numpy knows no bfloat16, and to name the tensor at fault.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from designs.cards import ModelCard, list_models, load_model_card
from designs.catalogue import explain
from designs.errors import DesignError
from designs.model import Tensor, show
from designs.transformer import PREFIXES, transformer_model, weight_sources

FloatArray = NDArray[np.float32]

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of an element, by safetensors dtype."""

FLOATS = ("F32", "F16", "BF16")
"""The dtypes that weights may have."""

MAX_HEADER = 100_000_000
"""Longest header that is believed, in bytes: the limit of the ``safetensors`` library."""

MAX_AXES, MAX_ELEMENTS = 8, 1 << 56
"""Of a tensor; of its axes without elements, too, if another one has none: numpy counts them."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Files of weights that are programs: never opened."""

FIELDS = {
    "gpt2": {
        "layers": "n_layer",
        "width": "n_embd",
        "heads": "n_head",
        "ffn": "n_inner",
        "vocabulary": "vocab_size",
        "context": "n_positions",
        "norm_eps": "layer_norm_epsilon",
        "activation": "activation_function",
        "tied_head": "tie_word_embeddings",
    },
    "opt": {
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "ffn": "ffn_dim",
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "activation": "activation_function",
        "tied_head": "tie_word_embeddings",
    },
    "llama": {
        "layers": "num_hidden_layers",
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "ffn": "intermediate_size",
        "vocabulary": "vocab_size",
        "context": "max_position_embeddings",
        "norm_eps": "rms_norm_eps",
        "rope_theta": "rope_theta",
        "activation": "hidden_act",
        "tied_head": "tie_word_embeddings",
    },
}
"""The card's fields that config.json must agree with, and what each family calls them there."""

UNUSUAL: dict[str, dict[str, tuple[object, ...]]] = {
    "gpt2": {
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
    },
    "opt": {
        "do_layer_norm_before": (True,),
        "enable_bias": (True,),
        "layer_norm_elementwise_affine": (True,),
        "_remove_final_layer_norm": (False,),
    },
    "llama": {"attention_bias": (False,), "mlp_bias": (False,), "partial_rotary_factor": (1, 1.0)},
}
"""Keys of config.json that change the network, and the values with which it is what we know."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor is: file, dtype, shape, and the bytes ``start`` to ``stop`` of the file."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a trained model in a Hugging Face folder.

    Parameters
    ----------
    path : Path
        The folder.
    card : ModelCard
        What config.json says; its name is the folder's.
    stored : dict of str to StoredTensor
        Where each tensor is, by its name without the family's prefix.
    """

    path: Path
    card: ModelCard
    stored: dict[str, StoredTensor]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Read config.json and the headers; the data stays on disk until it is asked for.

        Raises
        ------
        DesignError
            If the folder, config.json or a safetensors file is missing or damaged, or the config
            is not one of a family we know.
        """
        folder = Path(path)
        if folder.suffix in PICKLES:
            raise DesignError(_pickle(folder))
        if not folder.is_dir():
            raise DesignError(f"checkpoint {folder} is not a folder")
        card = _read_config(folder)
        stored: dict[str, StoredTensor] = {}
        for file, wanted in _files(folder).items():
            found = _read_header(file)
            for name in wanted or found:
                if name not in found:
                    raise DesignError(
                        f"{folder / 'model.safetensors.index.json'}: tensor {name} should be in "
                        f"{file.name}, but is not there"
                    )
                prefix = PREFIXES[card.family]
                short = name.removeprefix(prefix)
                if short in stored:
                    raise DesignError(
                        f"{file}: tensor {short} is there with and without the prefix {prefix}"
                    )
                stored[short] = found[name]
        return cls(folder, card, stored)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, without the family's prefix, sorted."""
        return tuple(sorted(self.stored))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape; DesignError if there is no such tensor."""
        return self._find(name).shape

    def tensor(
        self,
        name: str,
        rows: tuple[int, int] | None = None,
        columns: tuple[int, int] | None = None,
    ) -> FloatArray:
        """Return a tensor as float32, read from disk now.

        Parameters
        ----------
        name : str
            Its name, with or without the family's prefix.
        rows, columns : tuple of int, optional
            The half-open range of its first and last axis, if not all of them.

        Raises
        ------
        DesignError
            If there is no such tensor, its dtype is not F32, F16 or BF16, or an element is NaN or
            infinite (with the first one's index).
        """
        at = self._find(name)
        if at.dtype not in FLOATS:
            raise DesignError(
                f"{at.file}: tensor {at.name} has dtype {at.dtype}; weights must be "
                f"{', '.join(FLOATS)}"
            )
        kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[at.dtype]
        raw = self._map(at.file)[at.start : at.stop].view(kind).reshape(at.shape)
        first = (0 if rows is None else rows[0], 0 if columns is None else columns[0])
        if rows is not None:
            raw = raw[slice(*rows)]
        if columns is not None:
            raw = raw[..., slice(*columns)]
        if at.dtype == "BF16":
            values = (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            values = raw.astype(np.float32)
        if not np.isfinite(values).all():
            found = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
            index = [int(i) for i in found]
            shown = values[found]
            index[0] += first[0]
            index[-1] += first[1]
            raise DesignError(
                f"{at.file}: tensor {at.name} is {shown} at index {index}; weights must be finite"
            )
        return values

    def weight(self, tensor: Tensor) -> FloatArray:
        """Return the numbers of a Model's weight, as float32 in its shape.

        Raises
        ------
        DesignError
            As `tensor` does, or if the tensor is not a weight, or its shape here is another.
        """
        if tensor.kind != "weight":
            raise DesignError(f"tensor {tensor.name} is {tensor.kind}, not a weight")
        found = self.tensor(tensor.source, tensor.rows, tensor.columns)
        if tensor.transposed:
            found = found.T
        if found.shape != tensor.shape:
            at = self._find(tensor.source)
            raise DesignError(
                f"{at.file}: tensor {at.name} gives {tensor.name} the shape "
                f"{show(found.shape)}, not {tensor.shown}"
            )
        return found

    def weights(self, card: ModelCard | None = None) -> Mapping[str, FloatArray]:
        """Return the weights of a model, by their names in the Model, as float32.

        A weight is read from disk whenever it is asked for, and never kept: a model may be larger
        than the memory.

        Parameters
        ----------
        card : ModelCard, optional
            The model; by default what config.json says.

        Raises
        ------
        DesignError
            As `check_against` does, but for elements that are not finite, which show when their
            tensor is read.
        """
        card = self.card if card is None else card
        self._check_shapes(card)
        return _Weights(self, {t.name: t for t in transformer_model(card).weights})

    def check_against(self, card: ModelCard) -> None:
        """Check that every tensor a model needs is here, in its shape, a float, and finite.

        Tensors that the model does not need (attention masks, a tied head) are ignored.

        Raises
        ------
        DesignError
            Names the file, the tensor, what it is and what it must be.
        """
        self._check_shapes(card)
        for name in weight_sources(card):
            self.tensor(name)

    def _check_shapes(self, card: ModelCard) -> None:
        config = self.path / "config.json"
        if self.card.family != card.family:
            raise DesignError(
                f"{config}: model_type is {self.card.family}, but model {card.name} is of family "
                f"{card.family}"
            )
        for field, key in FIELDS[card.family].items():
            here, there = getattr(self.card, field), getattr(card, field)
            if here != there:
                raise DesignError(
                    f"{config}: {key} is {here}, but model {card.name} has {field} {there}"
                    + self._misshaped(card)
                )
        for name, shape in weight_sources(card).items():
            at = self._find(name)
            if at.shape != shape:
                raise DesignError(
                    f"{at.file}: tensor {at.name} has shape {show(at.shape)}, but model "
                    f"{card.name} needs {show(shape)}"
                )

    def _misshaped(self, card: ModelCard) -> str:
        """The first tensor of another shape than a model's, for the end of a message."""
        for name, shape in weight_sources(card).items():
            at = self.stored.get(name)
            if at is not None and at.shape != shape:
                return f"; tensor {at.name} has shape {show(at.shape)}, not {show(shape)}"
        return ""

    def _find(self, name: str) -> StoredTensor:
        prefix = PREFIXES[self.card.family]
        short = name.removeprefix(prefix)
        if short not in self.stored:
            raise DesignError(
                f"checkpoint {self.path} has no tensor {short} (nor {prefix}{short}) among its "
                f"{len(self.stored)} tensors"
            )
        return self.stored[short]

    @cached_property
    def _maps(self) -> dict[Path, NDArray[np.uint8]]:
        return {}

    def _map(self, file: Path) -> NDArray[np.uint8]:
        if file not in self._maps:
            try:
                self._maps[file] = np.memmap(file, dtype=np.uint8, mode="r")
            except (OSError, ValueError) as error:
                raise DesignError(f"{file} cannot be read: {error}") from error
        return self._maps[file]


class _Weights(Mapping[str, FloatArray]):
    """The weights of a model, each read when it is asked for."""

    def __init__(self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor]) -> None:
        self._checkpoint, self._tensors = checkpoint, tensors

    def __getitem__(self, name: str) -> FloatArray:
        return self._checkpoint.weight(self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def find_model(name: str) -> tuple[ModelCard, Path | None]:
    """Return the card of a model, and the folder of its weights if it comes with any.

    Parameters
    ----------
    name : str
        Name of a card (which goes first), or path of a Hugging Face folder.

    Raises
    ------
    DesignError
        If there is neither (with the nearest match), or the card or the folder is faulty.
    """
    if name and name not in list_models() and ("/" in name or Path(name).is_dir()):
        return Checkpoint.open(name).card, Path(name)
    card = load_model_card(name)
    return card, card.checkpoint_folder


def _read_json(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DesignError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DesignError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(data, dict):
        raise DesignError(f"{file} must hold a JSON object, not a {type(data).__name__}")
    return data


def _read_config(folder: Path) -> ModelCard:
    """Return the card that config.json describes."""
    file = folder / "config.json"
    if not file.is_file():
        raise DesignError(
            f"checkpoint {folder} has no config.json; give a Hugging Face model folder with "
            f"config.json and model.safetensors"
        )
    config = _read_json(file)
    family = config.get("model_type")
    if not isinstance(family, str) or family not in FIELDS:
        raise DesignError(
            f"{file}: model_type is {family!r}, not {' or '.join(repr(f) for f in FIELDS)}"
        )
    for key, usual in UNUSUAL[family].items():
        if config.get(key, usual[0]) not in usual:
            raise DesignError(
                f"{file}: {key} must be {json.dumps(usual[0])}, not {json.dumps(config[key])}: "
                f"other kinds of {family} are not supported"
            )
    if family != "gpt2":
        _check_sizes(file, config)
    data: dict[str, Any] = {"name": folder.resolve().name, "family": family}
    data["tokenizer"] = config.get("hwgen_tokenizer", "none")
    if family == "llama":
        config = {"rms_norm_eps": 1e-6} | config | {"rope_theta": _rope_theta(file, config)}
    for field, key in FIELDS[family].items():
        if config.get(key) is not None:
            data[field] = config[key]
        elif field == "ffn" and family == "gpt2":
            width = config.get("n_embd")
            data[field] = 4 * width if isinstance(width, int) else None
        elif field == "context" and "n_ctx" in config:
            data[field] = config["n_ctx"]
        elif ModelCard.model_fields[field].is_required():
            raise DesignError(f"{file}: {key} is missing")
    try:
        return ModelCard.model_validate(data)
    except ValidationError as error:
        raise DesignError(f"{file}: {explain(error)}") from error


def _check_sizes(file: Path, config: Mapping[str, Any]) -> None:
    """Sizes that a config may give apart, but our layers do not."""
    width, heads = config.get("hidden_size"), config.get("num_attention_heads")
    if not isinstance(width, int) or not isinstance(heads, int) or heads < 1:
        return  # the card's own check says what is wrong
    for key, only, what in (
        ("word_embed_proj_dim", width, "hidden_size"),
        ("head_dim", width // heads, "hidden_size / num_attention_heads"),
    ):
        if config.get(key) not in (None, only):
            raise DesignError(f"{file}: {key} must be {what}, {only}, not {config[key]!r}")


def _rope_theta(file: Path, config: Mapping[str, Any]) -> object:
    """The base of the rotary frequencies; a key of its own, or among the parameters beside it."""
    theta = config.get("rope_theta")
    for key in ("rope_scaling", "rope_parameters"):
        found = config.get(key)
        if found is None:
            continue
        kind = found.get("rope_type", found.get("type")) if isinstance(found, dict) else found
        if kind not in (None, "default"):
            raise DesignError(
                f"{file}: {key} of kind {kind!r} is not supported; positions must be rotated as "
                f"they are (null or 'default')"
            )
        theta = found.get("rope_theta", theta)
    return theta


def _files(folder: Path) -> dict[Path, list[str]]:
    """Return the safetensors files, each with the tensors to take from it (none named: all)."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return {single: []}
    if not index.is_file():
        pickles = [path for path in sorted(folder.iterdir()) if path.suffix in PICKLES]
        if pickles:
            raise DesignError(_pickle(pickles[0]))
        raise DesignError(
            f"checkpoint {folder} has neither model.safetensors nor model.safetensors.index.json"
        )
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise DesignError(f"{index}: weight_map must map tensors to files")
    files: dict[Path, list[str]] = {}
    for name, place in places.items():
        if not isinstance(place, str) or not place or Path(place).name != place:
            raise DesignError(f"{index}: tensor {name} must be in a file here, not {place!r}")
        if not (folder / place).is_file():
            raise DesignError(f"{index}: tensor {name} is in {place}, but there is no such file")
        files.setdefault(folder / place, []).append(name)
    return files


def _pickle(file: Path) -> str:
    return (
        f"{file} is a pickle, which can run code when it is opened: hwgen reads safetensors only; "
        "convert it where you trust it (safetensors.torch.save_file)"
    )


def _read_header(file: Path) -> dict[str, StoredTensor]:
    """Return where each tensor of a safetensors file is."""
    try:
        total = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if total < 8:
                raise DesignError(f"{file} is truncated: {total} bytes, too short for a header")
            if length > min(total - 8, MAX_HEADER):
                raise DesignError(
                    f"{file} is truncated or no safetensors file: its header should be {length} "
                    f"bytes, but {total - 8} bytes follow"
                )
            text = stream.read(length)
    except OSError as error:
        raise DesignError(f"{file} cannot be read: {error.strerror}") from error
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DesignError(f"{file}: the header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise DesignError(f"{file}: the header must be a JSON object")
    header.pop("__metadata__", None)
    for name in header:
        if not name.isprintable():  # it will stand in messages
            raise DesignError(f"{file}: {name[:80]!a} is no name of a tensor")
    return {name: _place(file, name, entry, 8 + length, total) for name, entry in header.items()}


def _place(file: Path, name: str, entry: object, data: int, total: int) -> StoredTensor:
    """Return where a tensor is, from its header entry; the data starts at byte `data`."""
    fields = entry if isinstance(entry, dict) else {}
    dtype = fields.get("dtype")
    shape, span = _naturals(fields.get("shape")), _naturals(fields.get("data_offsets"))
    if not isinstance(dtype, str) or shape is None or span is None or len(span) != 2:
        raise DesignError(
            f"{file}: the header of tensor {name} must have dtype, shape and two data_offsets"
        )
    if dtype not in ITEM_BYTES:
        raise DesignError(
            f"{file}: tensor {name} has dtype {dtype}; weights must be {', '.join(FLOATS)}"
        )
    if len(shape) > MAX_AXES or math.prod(n or 1 for n in shape) > MAX_ELEMENTS:
        raise DesignError(f"{file}: tensor {name} cannot have the shape {str(list(shape))[:80]}")
    start, stop = span
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if stop - start != size:
        raise DesignError(
            f"{file}: tensor {name} of shape {show(shape)} and dtype {dtype} takes {size} "
            f"bytes, but its data_offsets hold {stop - start}"
        )
    if data + stop > total:
        raise DesignError(
            f"{file} is truncated: tensor {name} ends at byte {data + stop}, the file at {total}"
        )
    return StoredTensor(file, name, dtype, shape, data + start, data + stop)


def _naturals(value: Any) -> tuple[int, ...] | None:
    """Return a JSON list of naturals as a tuple; None if it is something else."""
    if isinstance(value, list) and all(type(item) is int and item >= 0 for item in value):
        return tuple(value)
    return None
