# SPDX-License-Identifier: Apache-2.0
"""The memory image: where everything lies, and the integers of a model as bytes there.

The formats are sections 2 and 3 of ``docs/architecture.md``, and for compressed weights
``docs/weight_format.md``. `memory_map` and `phase_beats` need
only the sizes of a model; `write_image` needs its integers, one layer at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from designs.cards import Norm
from designs.errors import DesignError
from designs.memory_map import MemoryMap
from designs.progress import Progress
from designs.quantised import (
    Dimensions,
    ModelShape,
    QuantLayer,
    QuantLinear,
    QuantModel,
    QuantNorm,
    Scaling,
)
from designs.weight_format import INT8, WeightFormat
from generators.compress import Compression, terms
from generators.weight_stream import (
    Beats,
    encode,
    interleave,
    kept_words,
    raw,
    split,
    stream_shape,
    words_as_bytes,
)
from hw.core.weights import WeightStream

__all__ = [
    "HEAD_PHASES", "LAYER_PHASES", "PHASES", "PhaseBeats", "WeightItem", "header_tiles", "memory_map",
    "pack_head", "pack_layer", "phase_beats", "weight_items", "write_image",
]  # fmt: skip

LAYER_PHASES = ("ln_1", "k", "v", "q", "attention", "proj", "ln_2", "fc1", "fc2")
"""What consumes the weight stream of a layer, in order."""

HEAD_PHASES = ("ln_f", "lm_head")
"""What consumes the weight stream of the head, in order."""

PHASES = LAYER_PHASES + HEAD_PHASES

PAGE = 4096
"""No AXI burst crosses such a boundary: a region starts on one, on every port."""

CHANNEL_BYTES = 8
CONSTANT_BYTES = 16
_HEADER = np.dtype([("bias", "<i4"), ("multiplier", "<u2"), ("shift", "u1"), ("words", "u1")])
_SLAB_BYTES = 1 << 24

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class WeightItem:
    """One item of the weight stream: ``kind`` is constant, parameters, header or tile."""

    phase: str
    kind: str
    beats: int


@dataclass(frozen=True)
class PhaseBeats:
    """The beats that a phase consumes.

    Parameters
    ----------
    lead : items before the first tile: the constant and the parameters of a norm, the two headers
        of attention, the header of the activation.
    tiles : tiles of O outputs.
    header : beats of the headers of ``header_tiles`` consecutive tiles, which come before these tiles.
    data : beats of one tile's weights.
    row : beats of a row of memory, which what is not a tile takes whole; 1 unless they are compressed.
    """

    phase: str
    lead: tuple[WeightItem, ...]
    tiles: int = 0
    header: int = 0
    data: int = 0
    header_tiles: int = 1
    row: int = 1

    @property
    def lead_beats(self) -> int:
        """Beats before the first tile."""
        return sum(item.beats for item in self.lead)

    @property
    def total(self) -> int:
        """Beats of the phase, whole rows of them."""
        beats = (
            self.lead_beats
            + _ceil(self.tiles, self.header_tiles) * self.header
            + self.tiles * self.data
        )
        return _ceil(beats, self.row) * self.row

    def items(self) -> Iterator[WeightItem]:
        """Every item, in the order of the stream."""
        yield from self.lead
        for tile in range(self.tiles):
            if tile % self.header_tiles == 0:
                yield WeightItem(self.phase, "header", self.header)
            yield WeightItem(self.phase, "tile", self.data)


def header_tiles(lanes: int) -> int:
    """Consecutive tiles whose headers share a beat."""
    return max(1, lanes // CHANNEL_BYTES)


def phase_beats(
    card: Dimensions, lanes: int, compression: Compression | None = None, layer: int | None = None
) -> dict[str, PhaseBeats]:
    """The beats of every phase, by its name, in the order of `PHASES`.

    Parameters
    ----------
    compression : how weights are stored, int8 if None.
    layer : whose matrices may have formats of their own.

    Raises
    ------
    DesignError
        If the lanes, or the formats of the weights, do not fit the model.
    """
    _check_lanes(card, lanes)
    asked = compression or Compression()
    beat = lanes * lanes
    row = stream_shape(asked.stream, lanes, beat).row_beats
    d, f, header = card.width, card.ffn, row * _ceil(CHANNEL_BYTES, lanes)
    kv, channel = d // card.heads * card.kv_heads, 4 if card.norm == "layernorm" else 2

    def norm(phase: str) -> PhaseBeats:
        return PhaseBeats(
            phase,
            (
                WeightItem(phase, "constant", row * _ceil(CONSTANT_BYTES, beat)),
                WeightItem(phase, "parameters", row * _ceil(channel * d, beat)),
            ),
            row=row,
        )

    def linear(phase: str, k: int, n: int, lead: int = 0) -> PhaseBeats:
        leads = (WeightItem(phase, "header", header),) * lead
        form, group = asked.of(phase, layer), header_tiles(lanes)
        form.check_reduction(phase, k)
        data = form.kept_inputs(k) // lanes * terms(form, asked.stream, phase)
        if asked.stream.block and k // lanes > 8 * lanes:
            raise DesignError(
                f"{phase} has {k} inputs: a header of {lanes} lanes says of {8 * lanes * lanes} at most which are in "
                f"blocks that are kept; use more lanes, or no blocks"
            )
        if group * data % row:
            raise DesignError(
                f"{phase} has {k} inputs: in weights {asked.stream} headers come after {group * data} "
                f"beats, which are no whole rows of {row}; use more lanes, or int8"
            )
        return PhaseBeats(phase, leads, _ceil(n, lanes), header, data, group, row)

    attention = PhaseBeats("attention", (WeightItem("attention", "header", header),) * 2, row=row)
    phases = [
        norm("ln_1"), linear("k", d, kv), linear("v", d, kv), linear("q", d, d), attention,
        linear("proj", d, d), norm("ln_2"), linear("fc1", d, 2 * f if card.gated else f, lead=1),
        linear("fc2", f, d),
        norm("ln_f"), linear("lm_head", d, card.vocabulary),
    ]  # fmt: skip
    return {beats.phase: beats for beats in phases}


def weight_items(
    card: Dimensions, lanes: int, phases: tuple[str, ...] = LAYER_PHASES
) -> list[WeightItem]:
    """Every item of the weight stream of a layer (or of other phases), in order."""
    beats = phase_beats(card, lanes)
    return [item for phase in phases for item in beats[phase].items()]


def memory_map(
    card: Dimensions,
    *,
    lanes: int,
    ports: int,
    port_bytes: int,
    context: int | None = None,
    layers: int | None = None,
    capacity_per_port: int | None = None,
    compression: Compression | None = None,
    cache: bool = True,
) -> MemoryMap:
    """Lay out the memory of a design.

    Parameters
    ----------
    card : sizes of the model.
    lanes : R = O.
    ports, port_bytes : P and PB.
    context : positions that the design holds, all of the model's if None.
    layers : layers that the design holds, all of the model's if None.
    capacity_per_port : bytes behind one port; None for no limit.
    compression : how weights are stored, int8 if None.
    cache : keys and values live here; else their regions are empty.

    Raises
    ------
    DesignError
        If the lanes or the formats of the weights do not fit the model, a beat is not a whole number of
        stripes, or the memory is too small.
    """
    form = (compression or Compression()).stream
    shape = ModelShape.of(card, layers)
    context = shape.context if context is None else context
    if not 1 <= context <= shape.context:
        raise DesignError(f"context must be 1 to {shape.context}, not {context}")
    _check_lanes(shape, lanes)
    stripe, beat = ports * port_bytes, lanes * lanes
    if ports < 1 or port_bytes < 4 or PAGE % port_bytes:
        raise DesignError(
            f"memory ports must be at least one, of 4 to {PAGE} bytes in a power of two, "
            f"not {ports} of {port_bytes}"
        )
    if beat % stripe:
        raise DesignError(
            f"a beat must be a whole number of stripes: {lanes} x {lanes} lanes take {beat} bytes, "
            f"{ports} ports of {port_bytes} bytes give {stripe}; use fewer ports or more lanes"
        )
    per_beat, align = beat // stripe, PAGE // port_bytes
    stream = stream_shape(form, lanes, stripe)

    def stripes(phases: tuple[str, ...], layer: int | None = None) -> int:
        beats = phase_beats(shape, lanes, compression, layer)
        total = sum(beats[phase].total for phase in phases)
        return _ceil(total, stream.period_beats) * stream.period_stripes

    mixed = compression is not None and compression.layered(shape.layers)
    each = [
        stripes(LAYER_PHASES, i if mixed else None) for i in range(shape.layers if mixed else 1)
    ]
    layer, head, ends = max(each), stripes(HEAD_PHASES), tuple(accumulate(each)) if mixed else ()
    row, position = (_ceil(2 * n, stripe) for n in (shape.width, shape.position_width))
    kv_head = _ceil(context, lanes) * (shape.head_size // lanes) * per_beat if cache else 0
    kv_layer = shape.kv_heads * kv_head
    sizes = {
        "tokens": context + 1,
        "weights": ends[-1] if ends else shape.layers * layer,
        "head": head,
        "wte": shape.vocabulary * row,
        "wpe": context * position,
        "k": shape.layers * kv_layer,
        "v": shape.layers * kv_layer,
    }
    starts, end = {}, 0
    for region, size in sizes.items():
        starts[region] = _ceil(end, align) * align
        end = starts[region] + size
    found = MemoryMap(
        ports=ports,
        port_bytes=port_bytes,
        lanes=lanes,
        layers=shape.layers,
        width=shape.width,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        ffn=shape.ffn,
        vocabulary=shape.vocabulary,
        context=context,
        **starts,
        layer_stripes=layer,
        head_stripes=head,
        row_stripes=row,
        position_stripes=position,
        kv_head_stripes=kv_head,
        kv_layer_stripes=kv_layer,
        total_stripes=_ceil(end, align) * align,
        w_bits=form.bits,
        w_group=form.group,
        w_n=form.n,
        w_m=form.m,
        w_share=form.share,
        w_block=form.block,
        w_keep=form.keep,
        layer_ends=ends,
    )
    if capacity_per_port is not None and found.bytes_per_port > capacity_per_port:
        raise DesignError(
            f"the model needs {found.bytes_per_port} bytes behind each port, but there are "
            f"{capacity_per_port}; use a smaller context, or more ports"
        )
    return found


def write_image(
    model: QuantModel,
    memory: MemoryMap,
    path: Path,
    layers: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Write the image file: the striped space from stripe 0 to the end of wpe.

    What is not written (padding, tokens, layers left out) is zero, and a hole where the file system
    has them. One layer is in memory at a time.

    Parameters
    ----------
    layers : write only the first ``layers`` layers, all of the map's if None.
    progress : told after each layer, and after the head and the embeddings.

    Raises
    ------
    DesignError
        If the map was made for a model of other sizes.
    """
    count = memory.layers if layers is None else layers
    for name in ("width", "heads", "kv_heads", "ffn", "vocabulary"):
        if getattr(model.shape, name) != getattr(memory, name):
            raise DesignError(
                f"the memory map is for {name} {getattr(memory, name)}, "
                f"the model has {getattr(model.shape, name)}"
            )
    if model.shape.context < memory.context:
        raise DesignError(
            f"the memory map is for {memory.context} positions, the model has {model.shape.context}"
        )
    if not 0 <= count <= min(memory.layers, model.shape.layers):
        raise DesignError(
            f"cannot write {count} layers of {model.shape.layers} "
            f"into a memory map for {memory.layers}"
        )
    done, stripe = 0, memory.stripe_bytes
    form = memory.weight_format
    shape = stream_shape(form, memory.lanes, stripe)

    def advance(step: int = 1) -> None:
        nonlocal done
        done += step
        if progress is not None:
            progress.advance(done, count + 2)

    norm = model.shape.norm
    with path.open("wb") as file:
        for i in range(count):
            file.seek((memory.weights + memory.stream_stripes(i)) * stripe)
            _write(file, _stream(pack_layer(model.layers[i], memory.lanes, form, norm), shape))
            _expect(file, (memory.weights + memory.stream_stripes(i + 1)) * stripe)
            advance()
        file.seek(memory.head * stripe)
        _write(file, _stream(pack_head(model.ln_f, model.head, memory.lanes, form, norm), shape))
        _expect(file, (memory.head + memory.head_stripes) * stripe)
        advance()
        for start, table, size in (
            (memory.wte, model.wte, memory.row_stripes),
            (memory.wpe, model.wpe[: memory.context], memory.position_stripes),
        ):
            file.seek(start * stripe)
            _write(file, _rows(table, size * stripe))
        _expect(file, memory.image_bytes)
        advance()


def pack_layer(
    layer: QuantLayer, lanes: int, form: WeightFormat = INT8, norm: Norm = "layernorm"
) -> Iterator[Bytes | Beats]:
    """The weight stream of one layer, in pieces: bytes of whole rows, and beats of compressed weights."""
    yield from _norm(layer.ln_1, lanes, norm)
    for part in (layer.k, layer.v, layer.q):
        yield from _linear(part, lanes, form)
    yield _scaling_header(layer.scores, lanes, channels=lanes)
    yield _scaling_header(layer.context, lanes, channels=1)
    yield from _linear(layer.proj, lanes, form)
    yield from _norm(layer.ln_2, lanes, norm)
    yield _scaling_header(layer.activation, lanes, channels=1)
    first = layer.fc1 if layer.up is None else _pairs(layer.fc1, layer.up, lanes)
    yield from _linear(first, lanes, form)
    yield from _linear(layer.fc2, lanes, form)


def pack_head(
    ln_f: QuantNorm,
    head: QuantLinear,
    lanes: int,
    form: WeightFormat = INT8,
    norm: Norm = "layernorm",
) -> Iterator[Bytes | Beats]:
    """The weight stream of the final norm and the language-model head, in pieces as `pack_layer`."""
    yield from _norm(ln_f, lanes, norm)
    yield from _linear(head, lanes, form)


def _stream(pieces: Iterable[Bytes | Beats], shape: WeightStream) -> Iterator[Bytes]:
    """Pieces as bytes in memory."""
    if shape.compressed:
        beats = (raw(p, shape) if isinstance(p, np.ndarray) else p for p in pieces)
        yield from interleave(beats, shape)
        return
    for piece in pieces:
        yield piece if isinstance(piece, np.ndarray) else piece.values.reshape(-1)


def _pairs(gate: QuantLinear, up: QuantLinear, lanes: int) -> QuantLinear:
    """Two products as one, whose tiles take turns: of the same outputs first the gate, then its factor."""

    def turns(name: str) -> NDArray[Any]:
        a, b = (getattr(part, name) for part in (gate, up))
        tiles = [x.reshape(*x.shape[:-1], -1, lanes) for x in (a, b)]
        return np.stack(tiles, axis=-2).reshape(*a.shape[:-1], -1)

    if gate.format != up.format:
        raise DesignError(
            f"fc1 and up share a stream of tiles and must have one format, not {gate.format} and "
            f"{up.format}"
        )
    names = ("weight", "bias", "multiplier", "shift")
    return replace(gate, **{name: turns(name) for name in names})


def _norm(part: QuantNorm, lanes: int, kind: Norm) -> Iterator[Bytes]:
    constant = np.zeros(CONSTANT_BYTES, np.uint8)
    constant[:8] = np.frombuffer(part.epsilon.to_bytes(8, "little"), np.uint8)
    constant[8] = part.gamma_shift
    yield _padded(constant, lanes)
    channels = [part.gamma, part.beta] if kind == "layernorm" else [part.gamma]
    yield _padded(np.stack(channels, axis=1).astype("<i2"), lanes)


def _linear(part: QuantLinear, lanes: int, form: WeightFormat) -> Iterator[Bytes | Beats]:
    """Groups of tiles of O outputs: the headers of a group, then k/R beats a tile; padded outputs are zero."""
    k, n = part.weight.shape
    group = header_tiles(lanes)
    tiles, data = _ceil(n, lanes), k * lanes
    groups = _ceil(tiles, group)
    header = np.zeros(groups * group * lanes, _HEADER)
    for field in ("bias", "multiplier", "shift"):
        header[field][:n] = getattr(part, field)
    lead = _ceil(CHANNEL_BYTES, lanes) * lanes * lanes
    heads = header.view(np.uint8).reshape(groups, group * lanes * CHANNEL_BYTES)
    if form != INT8:
        if form.block:
            words = kept_words(part.weight, part.format, lanes)
            header["words"].reshape(-1, lanes)[:tiles] = words_as_bytes(words, lanes)
        yield from _compressed(part, lanes, form, heads)
        return
    slab = max(1, _SLAB_BYTES // (lead + group * data))
    for first in range(0, groups, slab):
        count = min(slab, groups - first)
        out = np.zeros((count, lead + group * data), np.uint8)
        out[:, : heads.shape[1]] = heads[first : first + count]
        wanted = count * group * lanes
        weight = part.weight[:, first * group * lanes :][:, :wanted].view(np.uint8)
        if weight.shape[1] < wanted:
            weight = np.pad(weight, ((0, 0), (0, wanted - weight.shape[1])))
        # weight[b * R + r, t * O + o] goes to byte o * R + r of beat b of tile t
        blocks = weight.reshape(k // lanes, lanes, count, group, lanes).transpose(2, 3, 0, 4, 1)
        out[:, lead:].reshape(count, group, k // lanes, lanes, lanes)[:] = blocks
        missing = max(0, (first + count) * group - tiles)  # of the last group, at its end
        flat = out.reshape(-1)
        yield flat[: flat.size - missing * data]


def _compressed(
    part: QuantLinear, lanes: int, form: WeightFormat, heads: Bytes
) -> Iterator[Bytes | Beats]:
    """The same in a compressed stream: beats instead of bytes; it ends with a whole row."""
    shape = stream_shape(form, lanes, lanes * lanes)
    width = heads.shape[1] // CHANNEL_BYTES  # outputs of a group
    count = 0
    for index, head in enumerate(heads):
        yield _padded(head, lanes)
        weight = part.weight[:, index * width : (index + 1) * width]
        missing = -weight.shape[1] % lanes
        if missing:
            weight = np.pad(weight, ((0, 0), (0, missing)))
        parts = [encode(t, form, shape, factor) for t, factor in split(weight, part.format, form)]
        if form.block:
            kept = kept_words(weight, part.format, lanes).reshape(-1)
            parts = [of.only(kept) for of in parts]
        beats = Beats.alternate(parts)
        count += len(beats)
        yield beats
    yield raw(np.zeros(-count % shape.row_beats * shape.value_bytes, np.uint8), shape)


def _scaling_header(scaling: Scaling, lanes: int, channels: int) -> Bytes:
    header = np.zeros(lanes, _HEADER)
    header["multiplier"][:channels] = scaling.multiplier
    header["shift"][:channels] = scaling.shift
    return _padded(header, lanes)


def _rows(table: NDArray[np.int16], row_bytes: int) -> Iterator[Bytes]:
    slab = max(1, _SLAB_BYTES // row_bytes)
    for first in range(0, table.shape[0], slab):
        part = np.ascontiguousarray(table[first : first + slab], "<i2").view(np.uint8)
        out = np.zeros((part.shape[0], row_bytes), np.uint8)
        out[:, : part.shape[1]] = part
        yield out.reshape(-1)


def _padded(values: NDArray[np.generic], lanes: int) -> Bytes:
    """The bytes of an array, padded to whole beats."""
    raw = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    return np.pad(raw, (0, -raw.size % (lanes * lanes)))


def _write(file: BinaryIO, pieces: Iterator[Bytes]) -> None:
    for piece in pieces:
        file.write(piece.data)


def _expect(file: BinaryIO, position: int) -> None:
    if file.tell() != position:
        raise RuntimeError(f"the image is at byte {file.tell()}, the memory map says {position}")


def _check_lanes(card: Dimensions, lanes: int) -> None:
    if lanes < 4 or lanes & (lanes - 1):
        raise DesignError(f"lanes must be a power of two, at least 4, not {lanes}")
    for what, size in (
        ("width", card.width),
        ("head size", card.width // card.heads),
        ("feed-forward width", card.ffn),
    ):
        if size % lanes:
            raise DesignError(f"the {what} of {size} is not a multiple of {lanes} lanes")


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
