# SPDX-License-Identifier: Apache-2.0
"""The quantised model: every integer that a design computes with, as one value.

`QuantModel` is what quantisation makes, the golden model runs, and the memory image holds. The
integers mean what ``sim/golden/ops.py`` and ``docs/architecture.md`` (section 4) say; of the
``scales`` beside them only that of the logits is ever computed with, to measure perplexity.
`Ranges` is what calibration saw of the float model.
"""

from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from designs.cards import Norm, Position
from designs.errors import DesignError
from designs.weight_format import INT8, WeightFormat

__all__ = [
    "FORMATS", "Activation", "Dimensions", "LazyLayers", "ModelShape", "Observed", "QuantLayer",
    "QuantLinear", "QuantModel", "QuantNorm", "Ranges", "Scaling", "load", "save",
]  # fmt: skip

FORMATS = {"w8a8": "int8 weights per output channel, int8 activations per tensor"}
"""The number formats a model can be quantised to, with one line each for people."""

ACTIVATIONS = ("gelu", "relu", "silu")
"""Kinds of gated activation, the keys of ``sim.golden.ops.GATE_TABLE``."""

_ARCHIVE_VERSION = 3


class Dimensions(Protocol):
    """The sizes of a decoder: a model card has them, and so has a `ModelShape`."""

    @property
    def layers(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def ffn(self) -> int: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def norm(self) -> Norm: ...
    @property
    def position(self) -> Position: ...
    @property
    def gated(self) -> bool: ...


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder, and what its layers are made of (see `designs.cards.ModelCard`).

    Raises
    ------
    DesignError
        If a size is not positive, or the heads do not divide the width.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    context: int
    norm: Norm = "layernorm"
    position: Position = "learned"
    gated: bool = False

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "kv_heads", "ffn", "vocabulary", "context"):
            if getattr(self, name) < 1:
                raise DesignError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.heads % self.kv_heads:
            raise DesignError(
                f"kv_heads must divide the heads: {self.kv_heads} does not divide {self.heads}"
            )
        if self.width % self.heads:
            raise DesignError(
                f"heads must divide the width: {self.heads} does not divide {self.width}"
            )

    @property
    def head_size(self) -> int:
        """Features of one head."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Features of the keys (or values) of a token."""
        return self.kv_heads * self.head_size

    @property
    def position_width(self) -> int:
        """Numbers of a row of positions: what is added to a token, or its cosines and sines."""
        return self.head_size if self.position == "rotary" else self.width

    @classmethod
    def of(cls, card: Dimensions, layers: int | None = None) -> ModelShape:
        """The sizes of a card, of only its first ``layers`` layers if that is given."""
        if layers is not None and not 1 <= layers <= card.layers:
            raise DesignError(f"layers must be 1 to {card.layers}, not {layers}")
        return cls(
            layers=card.layers if layers is None else layers,
            width=card.width,
            heads=card.heads,
            kv_heads=card.kv_heads,
            ffn=card.ffn,
            vocabulary=card.vocabulary,
            context=card.context,
            norm=card.norm,
            position=card.position,
            gated=card.gated,
        )


class _Value:
    """Equality of dataclasses that hold arrays."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # pyright: ignore
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Scaling:
    """A real factor as ``multiplier / 2**shift``; a multiplier of 16 bits, a shift of 1 to 63."""

    multiplier: int
    shift: int

    def __post_init__(self) -> None:
        _within("multiplier", self.multiplier, 0, 2**16 - 1)
        _within("shift", self.shift, 1, 63)

    @property
    def factor(self) -> float:
        """The real factor."""
        return self.multiplier / 2.0**self.shift


@dataclass(frozen=True)
class Activation(Scaling):
    """The requantisation after a gated activation, and which activation it is."""

    kind: str = "gelu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ACTIVATIONS:
            raise DesignError(
                f'activation "{self.kind}" is not known; known are {", ".join(ACTIVATIONS)}'
            )


@dataclass(frozen=True, eq=False)
class QuantLinear(_Value):
    """A linear layer: ``requantise(x @ weight, bias, multiplier, shift, bits)``.

    Parameters
    ----------
    weight : int8 [k, n], -127 to 127
    bias : int32 [n], in the scale of the accumulator; small enough that no sum leaves 32 bits.
    multiplier : uint16 [n]
    shift : uint8 [n], 1 to 63
    format : how the weight is stored; it holds it without loss.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.uint16]
    shift: NDArray[np.uint8]
    format: WeightFormat = INT8

    def __post_init__(self) -> None:
        _array("weight", self.weight, np.int8, (None, None))
        k, n = self.weight.shape
        _array("bias", self.bias, np.int32, (n,))
        _array("multiplier", self.multiplier, np.uint16, (n,))
        _array("shift", self.shift, np.uint8, (n,))
        _within("weight", int(self.weight.min()), -127, 127)
        _within("shift", int(self.shift.min()), 1, 63)
        _within("shift", int(self.shift.max()), 1, 63)
        reach = int(np.abs(self.bias.astype(np.int64)).max()) + k * 128 * 127
        if reach >= 2**31:
            raise DesignError(
                f"a linear layer of {k} inputs can reach {reach}, which is more than 32 bits"
            )
        if self.format != INT8:
            self.format.check("a linear layer", self.weight)


@dataclass(frozen=True, eq=False)
class QuantNorm(_Value):
    """A normalisation, see ``sim.golden.ops.layernorm`` and ``rmsnorm``.

    Parameters
    ----------
    gamma, beta : int16 [d]; beta is zero in a model of RMSNorm, where hardware has none.
    gamma_shift : 0 to 15
    epsilon : 1 to 2**56 - 1
    """

    gamma: NDArray[np.int16]
    beta: NDArray[np.int16]
    gamma_shift: int
    epsilon: int

    def __post_init__(self) -> None:
        _array("gamma", self.gamma, np.int16, (None,))
        _array("beta", self.beta, np.int16, self.gamma.shape)
        _within("gamma_shift", self.gamma_shift, 0, 15)
        _within("epsilon", self.epsilon, 1, 2**56 - 1)


@dataclass(frozen=True, eq=False)
class QuantLayer(_Value):
    """One transformer block, in the order of the weight stream.

    ``scores`` turns ``q . k`` into a score; ``context`` is ``scale(v) / scale(context)``, whose
    multiplier is 2**14 to 2**15 - 1 and whose shift leaves room for that of the row's sum
    (``ops.reciprocal``); ``activation`` turns the activation's product into the int8 hidden value.
    Of a gated model ``fc1`` is the gate, ``activation`` gives int16, and ``up`` is its factor
    (``ops.gated_product``). In a rotary model the outputs of ``k`` and ``q`` are int16 with
    ``ops.ROTARY_FRACTION`` more fraction bits, and a pair that is turned is two adjacent features.
    """

    ln_1: QuantNorm
    k: QuantLinear
    v: QuantLinear
    q: QuantLinear
    scores: Scaling
    context: Scaling
    proj: QuantLinear
    ln_2: QuantNorm
    fc1: QuantLinear
    activation: Activation
    fc2: QuantLinear
    up: QuantLinear | None = None

    def __post_init__(self) -> None:
        _within("the multiplier of the context", self.context.multiplier, 2**14, 2**15 - 1)
        _within("the shift of the context", self.context.shift, 1, 63 - 24)


class LazyLayers(Sequence[QuantLayer]):
    """Layers that are made when they are asked for; the last ``keep`` of them stay in memory.

    Parameters
    ----------
    count : how many layers there are.
    make : layer ``i``; must return equal layers for equal ``i``.
    keep : layers to hold, at least 1.
    """

    def __init__(self, count: int, make: Callable[[int], QuantLayer], keep: int = 1) -> None:
        self._count, self._make, self._keep = count, make, keep
        self._held: OrderedDict[int, QuantLayer] = OrderedDict()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> QuantLayer: ...
    @overload
    def __getitem__(self, index: slice) -> LazyLayers: ...
    def __getitem__(self, index: int | slice) -> QuantLayer | LazyLayers:
        if isinstance(index, slice):
            chosen = range(self._count)[index]
            return LazyLayers(len(chosen), lambda i: self._make(chosen[i]), self._keep)
        index = range(self._count)[index]  # negative indices, and IndexError
        if index not in self._held:
            while len(self._held) >= self._keep:
                self._held.popitem(last=False)
            self._held[index] = self._make(index)
        self._held.move_to_end(index)
        return self._held[index]

    def __iter__(self) -> Iterator[QuantLayer]:
        return (self[i] for i in range(self._count))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class QuantModel(_Value):
    """A decoder in integers.

    Parameters
    ----------
    name : of the model, for people.
    shape : its sizes; ``shape.layers`` is ``len(layers)``.
    layers : the blocks; a `LazyLayers` if they would fill the memory.
    ln_f : the final norm.
    head : the language-model head, weight [d, V].
    wte : int16 [V, d], in the scale of the residual stream.
    wpe : learned positions, int16 [C, d] in that scale; or of a rotary model int16 [C, dh]: cosine
        and sine of each pair of a head, ``ops.ANGLE_FRACTION`` fraction bits.
    scales : real value of one step, by tensor: ``residual``, ``logits``, ``h0.ln_1``, ``h0.k``, ...
    format : a key of `FORMATS`.
    """

    name: str
    shape: ModelShape
    layers: Sequence[QuantLayer]
    ln_f: QuantNorm
    head: QuantLinear
    wte: NDArray[np.int16]
    wpe: NDArray[np.int16]
    scales: Mapping[str, float]
    format: str = "w8a8"

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise DesignError(
                f'format "{self.format}" is not known; known are {", ".join(FORMATS)}'
            )
        shape = self.shape
        if len(self.layers) != shape.layers:
            raise DesignError(f"the model has {len(self.layers)} layers, not {shape.layers}")
        _array("wte", self.wte, np.int16, (shape.vocabulary, shape.width))
        _array("wpe", self.wpe, np.int16, (shape.context, shape.position_width))
        _array("head", self.head.weight, np.int8, (shape.width, shape.vocabulary))
        _array("ln_f", self.ln_f.gamma, np.int16, (shape.width,))
        if not isinstance(self.layers, LazyLayers):
            for layer in self.layers:
                check_layer(layer, shape)


def check_layer(layer: QuantLayer, shape: ModelShape) -> QuantLayer:
    """The layer itself, if it has the sizes of the model.

    Raises
    ------
    DesignError
        Naming the tensor that has not.
    """
    d, f, kv = shape.width, shape.ffn, shape.kv_width
    sizes = {"k": (d, kv), "v": (d, kv), "q": (d, d), "proj": (d, d), "fc1": (d, f), "fc2": (f, d)}
    if shape.gated:
        sizes["up"] = (d, f)
    for name, size in sizes.items():
        part = getattr(layer, name)
        if part is None:
            raise DesignError(f"{name} is missing: the model is gated")
        _array(name, part.weight, np.int8, size)
    for name in ("ln_1", "ln_2"):
        _array(name, getattr(layer, name).gamma, np.int16, (d,))
    return layer


# ---- What calibration saw ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Observed(_Value):
    """One tensor of the float model over the calibration text.

    Parameters
    ----------
    maximum : float32 [features]: the largest magnitude of each feature over all rows.
    rows : float32 [n, features]: an even sample of the rows, to choose a clip by its error.
    """

    maximum: NDArray[np.float32]
    rows: NDArray[np.float32]

    @property
    def peak(self) -> float:
        """The largest magnitude of all."""
        return float(self.maximum.max())


@dataclass(frozen=True)
class Ranges:
    """What calibration saw, by the names of ``designs.transformer`` (``h0.ln_1``, ``ln_f``, ...)."""

    tokens: int
    tensors: Mapping[str, Observed]

    def __getitem__(self, name: str) -> Observed:
        if name not in self.tensors:
            raise DesignError(
                f"calibration has not seen {name}; it has {', '.join(self.tensors) or 'nothing'}"
            )
        return self.tensors[name]


# ---- Files ---------------------------------------------------------------------------------------


def save(model: QuantModel, path: Path) -> None:
    """Write a model into an uncompressed ``.npz``, one layer in memory at a time.

    The same model gives the same bytes. ``model.json`` in the archive holds what is not an array. Each
    layer is asked for once, in order; scales may come with them.
    """
    facts: dict[str, Any] = {
        "version": _ARCHIVE_VERSION,
        "name": model.name,
        "format": model.format,
        "shape": {f.name: getattr(model.shape, f.name) for f in fields(model.shape)},
        "scales": {},
        "parts": {},
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def put(key: str, part: object) -> None:
            plain = {}
            for field in fields(part):  # type: ignore[arg-type]
                if getattr(part, field.name) is None:
                    continue
                value, name = getattr(part, field.name), f"{key}.{field.name}"
                if isinstance(value, np.ndarray):
                    _put_array(archive, name, value)
                elif hasattr(value, "__dataclass_fields__"):
                    put(name, value)
                else:
                    plain[field.name] = value
            if plain:
                facts["parts"][key] = plain

        _put_array(archive, "wte", model.wte)
        _put_array(archive, "wpe", model.wpe)
        for i, layer in enumerate(model.layers):
            put(f"h.{i}", layer)
        put("ln_f", model.ln_f)
        put("head", model.head)
        facts["scales"] = dict(model.scales)
        _put_bytes(archive, "model.json", json.dumps(facts, indent=1).encode())


def load(path: Path, keep: int | None = None) -> QuantModel:
    """Read what `save` wrote; layers are read when they are asked for.

    Parameters
    ----------
    path : the ``.npz``; it must stay where it is while the model is in use.
    keep : layers to hold in memory at a time; None holds all that were asked for.

    Raises
    ------
    DesignError
        If it is not such a file.
    """
    try:
        archive = zipfile.ZipFile(path)
        facts = json.loads(archive.read("model.json"))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise DesignError(f"{path.name} is not a quantised model: {error}") from error
    if facts.get("version") != _ARCHIVE_VERSION:
        raise DesignError(
            f"{path.name} has version {facts.get('version')}, not {_ARCHIVE_VERSION}; "
            "build it again"
        )

    def array(name: str) -> NDArray[Any]:
        with archive.open(name + ".npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    members = frozenset(archive.namelist())
    Part = TypeVar("Part")

    def part(key: str, kind: Callable[..., Part]) -> Part:
        values = dict(facts["parts"].get(key, {}))
        for field in fields(kind):  # type: ignore[arg-type]
            if field.name in values:
                continue
            name = f"{key}.{field.name}"
            if field.default is None and f"{name}.weight.npy" not in members:
                continue
            nested = _PARTS.get(str(field.type).removesuffix(" | None"))
            values[field.name] = array(name) if nested is None else part(name, nested)
        return kind(**values)

    shape = ModelShape(**facts["shape"])

    def layer(i: int) -> QuantLayer:
        return check_layer(part(f"h.{i}", QuantLayer), shape)

    try:
        return QuantModel(
            name=facts["name"],
            shape=shape,
            layers=LazyLayers(shape.layers, layer, keep or shape.layers),
            ln_f=part("ln_f", QuantNorm),
            head=part("head", QuantLinear),
            wte=array("wte"),
            wpe=array("wpe"),
            scales=facts["scales"],
            format=facts["format"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DesignError(f"{path.name} is not a quantised model: {error}") from error


_PARTS: dict[str, Callable[..., Any]] = {
    kind.__name__: kind for kind in (QuantNorm, QuantLinear, Scaling, Activation, WeightFormat)
}


def _put_array(archive: zipfile.ZipFile, name: str, value: NDArray[Any]) -> None:
    info = zipfile.ZipInfo(name + ".npy")  # its date is 1980: the same model, the same bytes
    with archive.open(info, "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)


def _put_bytes(archive: zipfile.ZipFile, name: str, value: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name), value)


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise DesignError(f"{what} must be {low} to {high}, not {value}")


def _array(what: str, value: NDArray[Any], dtype: Any, shape: tuple[int | None, ...]) -> None:
    fits = value.ndim == len(shape) and all(
        want is None or have == want for have, want in zip(value.shape, shape, strict=True)
    )
    if value.dtype != dtype or not fits:
        size = ", ".join("*" if n is None else str(n) for n in shape)
        raise DesignError(
            f"{what} must be {np.dtype(dtype)} [{size}], not {value.dtype} {list(value.shape)}"
        )
