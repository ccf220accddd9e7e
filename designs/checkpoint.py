"""Checkpoints: a Hugging Face folder (config.json and safetensors), read lazily from a map.

The format of a safetensors file: 8 bytes of length, that many bytes of JSON header (name -> dtype,
shape, start and end in the data), then the data. It is read here and not by the ``safetensors``
library because numpy knows no bfloat16, and to name the tensor at fault.
"""

from __future__ import annotations

import json
import math
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
from designs.gpt2 import gpt2_sources
from designs.model import Tensor, show

FloatArray = NDArray[np.float32]

PREFIX = "transformer."
"""What Hugging Face puts before the names of a GPT2LMHeadModel, and not of a GPT2Model."""

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2,
    "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes of an element, by safetensors dtype."""

FLOATS = ("F32", "F16", "BF16")
"""The dtypes that weights may have."""

MAX_HEADER = 100_000_000
"""Longest header that is believed, in bytes: the limit of the ``safetensors`` library."""

FIELDS = {
    "layers": "n_layer",
    "width": "n_embd",
    "heads": "n_head",
    "ffn": "n_inner",
    "vocabulary": "vocab_size",
    "context": "n_positions",
    "layernorm_eps": "layer_norm_epsilon",
    "activation": "activation_function",
    "tied_head": "tie_word_embeddings",
}
"""The card's fields that config.json must agree with, and what they are called there."""


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
        Where each tensor is, by its name without a ``transformer.`` prefix.
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
            is not one of a GPT-2.
        """
        folder = Path(path)
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
                short = name.removeprefix(PREFIX)
                if short in stored:
                    raise DesignError(
                        f"{file}: tensor {short} is there with and without the prefix {PREFIX}"
                    )
                stored[short] = found[name]
        return cls(folder, card, stored)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, without a ``transformer.`` prefix, sorted."""
        return tuple(sorted(self.stored))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape; DesignError if there is no such tensor."""
        return self._find(name).shape

    def tensor(self, name: str) -> FloatArray:
        """Return a tensor as float32, read from disk now.

        Parameters
        ----------
        name : str
            Its name, with or without the ``transformer.`` prefix.

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
        raw = self._map(at.file)[at.start : at.stop]
        if at.dtype == "BF16":
            wide = raw.view("<u2").astype(np.uint32) << np.uint32(16)
            values = wide.view(np.float32)
        else:
            values = raw.view("<f4" if at.dtype == "F32" else "<f2").astype(np.float32)
        values = values.reshape(at.shape)
        if not np.isfinite(values).all():
            first = np.unravel_index(int(np.argmin(np.isfinite(values))), values.shape)
            index = tuple(int(i) for i in first)
            raise DesignError(
                f"{at.file}: tensor {at.name} is {values[index]} at index {list(index)}; "
                f"weights must be finite"
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
        whole = self.tensor(tensor.source)
        if tensor.columns is not None:
            whole = whole[..., slice(*tensor.columns)]
        if whole.shape != tensor.shape:
            at = self._find(tensor.source)
            raise DesignError(
                f"{at.file}: tensor {at.name} gives {tensor.name} the shape "
                f"{show(whole.shape)}, not {tensor.shown}"
            )
        return np.ascontiguousarray(whole)

    def weights(self, card: ModelCard | None = None) -> dict[str, FloatArray]:
        """Return all tensors that a model needs, by name without prefix, as float32.

        Parameters
        ----------
        card : ModelCard, optional
            The model; by default what config.json says.

        Raises
        ------
        DesignError
            As `check_against` does.
        """
        card = self.card if card is None else card
        self._check_shapes(card)
        return {name: self.tensor(name) for name in gpt2_sources(card)}

    def check_against(self, card: ModelCard) -> None:
        """Check that every tensor a model needs is here, in its shape, a float, and finite.

        Tensors that the model does not need (attention masks, a tied head) are ignored.

        Raises
        ------
        DesignError
            Names the file, the tensor, what it is and what it must be.
        """
        self._check_shapes(card)
        for name in gpt2_sources(card):
            self.tensor(name)

    def _check_shapes(self, card: ModelCard) -> None:
        config = self.path / "config.json"
        for field, key in FIELDS.items():
            here, there = getattr(self.card, field), getattr(card, field)
            if here != there:
                raise DesignError(
                    f"{config}: {key} is {here}, but model {card.name} has {field} {there}"
                    + self._misshaped(card)
                )
        for name, shape in gpt2_sources(card).items():
            at = self._find(name)
            if at.shape != shape:
                raise DesignError(
                    f"{at.file}: tensor {at.name} has shape {show(at.shape)}, but model "
                    f"{card.name} needs {show(shape)}"
                )

    def _misshaped(self, card: ModelCard) -> str:
        """The first tensor of another shape than a model's, for the end of a message."""
        for name, shape in gpt2_sources(card).items():
            at = self.stored.get(name)
            if at is not None and at.shape != shape:
                return f"; tensor {at.name} has shape {show(at.shape)}, not {show(shape)}"
        return ""

    def _find(self, name: str) -> StoredTensor:
        short = name.removeprefix(PREFIX)
        if short not in self.stored:
            raise DesignError(
                f"checkpoint {self.path} has no tensor {short} (nor {PREFIX}{short}) among its "
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
    except ValueError as error:
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
    if config.get("model_type") != "gpt2":
        raise DesignError(f"{file}: model_type is {config.get('model_type')!r}, not 'gpt2'")
    for key, only in (
        ("scale_attn_weights", True),
        ("scale_attn_by_inverse_layer_idx", False),
        ("add_cross_attention", False),
    ):
        if config.get(key, only) is not only:
            raise DesignError(f"{file}: {key} must be {json.dumps(only)}, which is GPT-2's own")
    data: dict[str, Any] = {"name": folder.resolve().name, "family": "gpt2"}
    data["tokenizer"] = config.get("hwgen_tokenizer", "none")
    for field, key in FIELDS.items():
        if config.get(key) is not None:
            data[field] = config[key]
        elif field == "ffn":
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


def _files(folder: Path) -> dict[Path, list[str]]:
    """Return the safetensors files, each with the tensors to take from it (none named: all)."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return {single: []}
    if not index.is_file():
        raise DesignError(
            f"checkpoint {folder} has neither model.safetensors nor model.safetensors.index.json"
        )
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise DesignError(f"{index}: weight_map must map tensors to files")
    files: dict[Path, list[str]] = {}
    for name, place in places.items():
        if not isinstance(place, str) or Path(place).name != place:
            raise DesignError(f"{index}: tensor {name} must be in a file here, not {place!r}")
        if not (folder / place).is_file():
            raise DesignError(f"{index}: tensor {name} is in {place}, but there is no such file")
        files.setdefault(folder / place, []).append(name)
    return files


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
    except ValueError as error:
        raise DesignError(f"{file}: the header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise DesignError(f"{file}: the header must be a JSON object")
    header.pop("__metadata__", None)
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
