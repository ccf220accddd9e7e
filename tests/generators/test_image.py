# SPDX-License-Identifier: Apache-2.0
"""The memory image, read back by a slow reader that knows only docs/architecture.md."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from designs.cards import ModelCard, load_model_card
from designs.errors import DesignError
from designs.memory_map import REGIONS, MemoryMap
from designs.progress import SilentProgress
from designs.quantised import ModelShape, QuantLinear, QuantModel, QuantNorm
from designs.weight_format import INT8, WeightFormat
from generators.compress import Compression, terms
from generators.image import (
    HEAD_PHASES,
    LAYER_PHASES,
    PHASES,
    memory_map,
    phase_beats,
    weight_items,
    write_image,
)
from generators.quantise import random_quantised
from generators.weight_stream import decode, parse, stream_shape

CARD = ModelCard(name="small", layers=2, width=32, heads=2, ffn=48, vocabulary=29, context=21)

LLAMA = ModelCard(
    name="llama", family="llama", layers=2, width=32, heads=2, kv_heads=1, ffn=48, vocabulary=29,
    context=21,
)  # fmt: skip

SHAPES = [  # lanes, ports, bytes of a port: 1, 2 and 4 stripes in a beat, headers of 1 and 2 beats
    (4, 1, 16),
    (8, 2, 32),
    (8, 1, 32),
    (16, 2, 32),
]


def lay_out(lanes: int, ports: int, port_bytes: int, **more: Any) -> MemoryMap:
    return memory_map(CARD, lanes=lanes, ports=ports, port_bytes=port_bytes, **more)


WIDE = ModelCard(name="wide", layers=2, width=64, heads=2, ffn=96, vocabulary=29, context=21)


def compressed_image(
    tmp_path: Path, asked: Compression
) -> tuple[MemoryMap, np.ndarray, QuantModel]:
    model = random_quantised(WIDE, 7, compression=asked)
    memory = memory_map(WIDE, lanes=8, ports=2, port_bytes=16, compression=asked)
    write_image(model, memory, tmp_path / "w.bin")
    image = np.fromfile(tmp_path / "w.bin", np.uint8)
    assert image.size == memory.image_bytes
    return memory, image.reshape(-1, memory.stripe_bytes), model


class TestCompressed:
    """Streams of layers and head, read back beat by beat."""

    @pytest.mark.parametrize(
        "asked",
        [
            Compression(WeightFormat(4, 32)),
            Compression(WeightFormat(8, n=2, m=4)),
            Compression(WeightFormat(4, 32, 2, 4, 2)),
            Compression(WeightFormat(4, 32, 2, 8), tensors={"fc2": INT8, "lm_head": WeightFormat(4, 32)}),
        ],
        ids=str,
    )  # fmt: skip
    def test_reads_back(self, asked: Compression, tmp_path: Path) -> None:
        memory, stripes, model = compressed_image(tmp_path, asked)
        shape = stream_shape(asked.stream, 8, 32)
        expected = phase_beats(WIDE, 8, asked)
        for layer in range(3):  # the third is the head
            phases = LAYER_PHASES if layer < 2 else HEAD_PHASES
            start = memory.weights + layer * memory.layer_stripes if layer < 2 else memory.head
            count = memory.layer_stripes if layer < 2 else memory.head_stripes
            beats = parse(stripes[start : start + count].reshape(-1), shape)
            at = 0
            for phase in phases:
                begin = at
                if expected[phase].tiles:
                    part = model.head if layer == 2 else getattr(model.layers[layer], phase)
                    at = self.linear(
                        beats, at + expected[phase].lead_beats, shape, asked, phase, part
                    )
                else:
                    at += expected[phase].lead_beats
                at += -at % shape.row_beats
                assert at - begin == expected[phase].total, phase
            assert at + -at % shape.period_beats == len(beats)

    @staticmethod
    def linear(beats, at, shape, asked, phase, part: QuantLinear) -> int:
        """Compare the tiles of a matrix, each behind its header; where they end."""
        k, n = part.weight.shape
        times = terms(asked.of(phase), asked.stream)
        wanted = np.pad(part.weight, ((0, 0), (0, -n % 8))).reshape(k // 8, 8, -1, 8)
        for tile in range(-(-n // 8)):
            header = beats.values[at : at + shape.row_beats].reshape(-1)
            bias = header.reshape(8, 8)[:, :4].copy().view("<i4")[: n - 8 * tile, 0]
            np.testing.assert_array_equal(bias, part.bias[8 * tile : 8 * tile + 8])
            at += shape.row_beats
            found = decode(beats.part(at, at + k // 8 * times), shape).astype(np.int64)
            found = found.reshape(k // 8, times, 8, 8).sum(axis=1)  # word, output, input
            np.testing.assert_array_equal(found.transpose(0, 2, 1), wanted[:, :, tile])
            at += k // 8 * times
        return at

    def test_fewer_bytes(self) -> None:
        """Of a layer of gpt2-medium on u280: as the formats say, but for norms, headers and padding."""
        card = load_model_card("gpt2-medium")
        sizes = {}
        for form in (INT8, WeightFormat(4, 64), WeightFormat(4, 64, 2, 4, 2)):
            found = memory_map(
                card, lanes=64, ports=32, port_bytes=64, compression=Compression(form)
            )
            sizes[form] = found.layer_stripes * found.stripe_bytes / (12 * 1024**2)
            assert form.bits_per_weight(64) / 8 < sizes[form] < form.bits_per_weight(64) / 8 + 0.02

    def test_headers_must_fall_on_rows(self) -> None:
        with pytest.raises(DesignError, match=r"k has 32 inputs: .* headers come after 4 beats"):
            lay_out(8, 2, 32, compression=Compression(WeightFormat(4, 32, 2, 8)))


class Reader:
    """Reads a weight stream beat by beat, as section 3 says."""

    def __init__(self, image: bytes, start: int, lanes: int) -> None:
        self.image, self.at, self.lanes, self.beat = image, start, lanes, lanes * lanes

    def take(self, beats: int) -> bytes:
        taken = self.image[self.at : self.at + beats * self.beat]
        assert len(taken) == beats * self.beat
        self.at += len(taken)
        return taken

    def beats_of(self, size: int) -> int:
        return (size + self.beat - 1) // self.beat

    def header(self, tiles: int = 1) -> list[tuple[int, int, int]]:
        """Bias, multiplier and shift of each channel of some tiles."""
        raw = self.take((8 + self.lanes - 1) // self.lanes)
        assert not any(raw[8 * self.lanes * tiles :])
        found = [struct.unpack_from("<iHBB", raw, 8 * o) for o in range(self.lanes * tiles)]
        assert all(zero == 0 for *_, zero in found)
        return [(bias, multiplier, shift) for bias, multiplier, shift, _ in found]

    def norm(self, part: QuantNorm, *, beta: bool) -> None:
        raw = self.take(self.beats_of(16))
        assert struct.unpack_from("<QB", raw) == (part.epsilon, part.gamma_shift)
        assert not any(raw[9:])
        d = part.gamma.shape[0]
        size = (4 if beta else 2) * d
        raw = self.take(self.beats_of(size))
        if beta:
            pairs = list(struct.iter_unpack("<hh", raw[:size]))
            assert pairs == list(zip(part.gamma.tolist(), part.beta.tolist(), strict=True))
        else:
            assert list(struct.unpack(f"<{d}h", raw[:size])) == part.gamma.tolist()
        assert not any(raw[size:])

    def pairs(self, gate: QuantLinear, up: QuantLinear) -> None:
        """Tiles of a gate and of its factor in turns."""
        lanes, order = self.lanes, []
        for n0 in range(0, gate.bias.size, lanes):
            order += [(part, n0 + o) for part in (gate, up) for o in range(lanes)]

        def column(name: str) -> np.ndarray:
            kind = getattr(gate, name).dtype
            return np.array([getattr(part, name)[n] for part, n in order], kind)

        weight = np.stack([part.weight[:, n] for part, n in order], axis=1)
        self.linear(QuantLinear(weight, column("bias"), column("multiplier"), column("shift")))

    def linear(self, part: QuantLinear) -> None:
        k, n = part.weight.shape
        lanes = self.lanes
        group = lanes // 8 or 1  # as many headers as a beat holds
        for n0 in range(0, n, lanes):
            left = (n - n0 + lanes - 1) // lanes
            headers = self.header(min(group, left)) if n0 // lanes % group == 0 else []
            for o, found in enumerate(headers):
                at = n0 + o
                real = (part.bias, part.multiplier, part.shift)
                assert found == (tuple(int(a[at]) for a in real) if at < n else (0, 0, 0))
            for k0 in range(0, k, lanes):
                beat = struct.unpack(f"{self.beat}b", self.take(1))
                for o in range(lanes):
                    for r in range(lanes):
                        real = int(part.weight[k0 + r, n0 + o]) if n0 + o < n else 0
                        assert beat[o * lanes + r] == real, (k0, n0, o, r)


@pytest.mark.parametrize("card", [CARD, LLAMA], ids=lambda card: card.name)
@pytest.mark.parametrize(("lanes", "ports", "port_bytes"), SHAPES)
def test_image_holds_the_model(
    lanes: int, ports: int, port_bytes: int, card: ModelCard, tmp_path: Path
) -> None:
    model, beta = random_quantised(card, seed=3), card.norm == "layernorm"
    memory = memory_map(card, lanes=lanes, ports=ports, port_bytes=port_bytes)
    write_image(model, memory, tmp_path / "image.bin")
    image = (tmp_path / "image.bin").read_bytes()
    stripe = ports * port_bytes
    assert len(image) == memory.image_bytes == (memory.wpe + 21 * memory.position_stripes) * stripe
    assert not any(image[: memory.weights * stripe]), "tokens"
    for i, layer in enumerate(model.layers):
        start = (memory.weights + i * memory.layer_stripes) * stripe
        reader = Reader(image, start, lanes)
        reader.norm(layer.ln_1, beta=beta)
        for part in (layer.k, layer.v, layer.q):
            reader.linear(part)
        scores, context = layer.scores, layer.context
        assert reader.header() == [(0, scores.multiplier, scores.shift)] * lanes
        none = [(0, 0, 0)] * (lanes - 1)
        assert reader.header() == [(0, context.multiplier, context.shift), *none]
        reader.linear(layer.proj)
        reader.norm(layer.ln_2, beta=beta)
        activation = layer.activation
        assert reader.header() == [(0, activation.multiplier, activation.shift), *none]
        if layer.up is None:
            reader.linear(layer.fc1)
        else:
            reader.pairs(layer.fc1, layer.up)
        reader.linear(layer.fc2)
        assert reader.at == start + memory.layer_stripes * stripe
    reader = Reader(image, memory.head * stripe, lanes)
    reader.norm(model.ln_f, beta=beta)
    reader.linear(model.head)
    assert reader.at == (memory.head + memory.head_stripes) * stripe
    for first, table, stripes in (
        (memory.wte, model.wte, memory.row_stripes),
        (memory.wpe, model.wpe, memory.position_stripes),
    ):
        for i, row in enumerate(table):
            at = (first + i * stripes) * stripe
            raw = image[at : at + stripes * stripe]
            assert list(struct.unpack_from(f"<{row.size}h", raw)) == row.tolist()
            assert not any(raw[2 * row.size :])


class TestWriteImage:
    def test_first_layers_only(self, tmp_path: Path) -> None:
        model, memory = random_quantised(CARD, seed=3), lay_out(8, 2, 32)
        for layers in (None, 1):
            write_image(model, memory, tmp_path / f"{layers}.bin", layers)
        whole, one = (np.fromfile(tmp_path / f"{n}.bin", np.uint8) for n in (None, 1))
        start = (memory.weights + memory.layer_stripes) * memory.stripe_bytes
        end = start + memory.layer_stripes * memory.stripe_bytes
        assert whole[start:end].any()
        whole[start:end] = 0
        np.testing.assert_array_equal(whole, one)

    def test_a_shorter_context(self, tmp_path: Path) -> None:
        model, memory = random_quantised(CARD, seed=3), lay_out(8, 2, 32, context=10)
        write_image(model, memory, tmp_path / "image.bin")
        assert (tmp_path / "image.bin").stat().st_size == memory.image_bytes
        assert memory.image_stripes == memory.wpe + 10 * memory.row_stripes

    def test_slabs_change_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        model, memory = random_quantised(CARD, seed=3), lay_out(8, 2, 32)
        write_image(model, memory, tmp_path / "large.bin")
        monkeypatch.setattr("generators.image._SLAB_BYTES", 1000)
        write_image(model, memory, tmp_path / "small.bin")
        assert (tmp_path / "large.bin").read_bytes() == (tmp_path / "small.bin").read_bytes()

    def test_reports_progress(self, tmp_path: Path) -> None:
        class Watch(SilentProgress):
            told: list[tuple[int, int]] = []  # noqa: RUF012

            def advance(self, done: int, total: int, note: str = "") -> None:
                self.told.append((done, total))

        write_image(
            random_quantised(CARD, 0), lay_out(8, 2, 32), tmp_path / "i.bin", progress=Watch()
        )
        assert Watch.told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def test_refuses_another_model(self, tmp_path: Path) -> None:
        other = random_quantised(CARD.model_copy(update={"ffn": 64}), seed=3)
        with pytest.raises(DesignError, match="the memory map is for ffn 48, the model has 64"):
            write_image(other, lay_out(8, 2, 32), tmp_path / "image.bin")
        fewer = random_quantised(CARD, seed=3, layers=1)
        with pytest.raises(DesignError, match="cannot write 2 layers of 1"):
            write_image(fewer, lay_out(8, 2, 32), tmp_path / "image.bin")


class TestMemoryMap:
    @pytest.mark.parametrize(("lanes", "ports", "port_bytes"), SHAPES)
    def test_regions_follow_each_other_on_pages(
        self, lanes: int, ports: int, port_bytes: int
    ) -> None:
        memory = lay_out(lanes, ports, port_bytes)
        sizes = {
            "tokens": 22,
            "weights": 2 * memory.layer_stripes,
            "head": memory.head_stripes,
            "wte": 29 * memory.row_stripes,
            "wpe": 21 * memory.row_stripes,
            "k": 2 * memory.kv_layer_stripes,
            "v": 2 * memory.kv_layer_stripes,
        }
        assert tuple(sizes) == REGIONS
        for name, size in sizes.items():
            start, end = memory.region(name)
            assert start * port_bytes % 4096 == 0, name
            assert 0 <= end - (start + size) < 4096 // port_bytes, name
        assert memory.total_stripes * port_bytes == memory.bytes_per_port

    def test_gpt2_medium_on_u280(self) -> None:
        card = load_model_card("gpt2-medium")
        memory = memory_map(card, lanes=64, ports=32, port_bytes=64)
        assert (memory.stripe_bytes, memory.beat_bytes, memory.beat_stripes) == (2048, 4096, 2)
        # norms 2 + 2 beats; k, v, q, proj 16 tiles of 16 and 2 headers; attention 2; fc1 1 and 64
        # tiles of 16 and 8 headers; fc2 16 tiles of 64 and 2 headers
        layer = 2 * 2 + 4 * (16 * 16 + 2) + 2 + 1 + 64 * 16 + 8 + 16 * 64 + 2
        assert memory.layer_stripes == 2 * layer
        assert memory.head_stripes == 2 * (2 + 786 * 16 + 99)
        assert memory.row_stripes == 1
        assert memory.kv_head_stripes == 2 * 16
        assert memory.kv_layer_stripes == 16 * 2 * 16
        assert memory.bytes_per_port < 2**25

    def test_kv_addresses(self) -> None:
        memory = lay_out(
            8, 1, 32
        )  # heads of 16: two blocks; beats of two stripes; 21 -> 24 positions
        assert memory.kv_head_stripes == 3 * 2 * 2
        assert memory.kv_stripe("k", 0, 0, 0, 0) == memory.k
        assert memory.kv_stripe("k", 0, 0, 7, 1) == memory.k + 2
        assert memory.kv_stripe("v", 0, 0, 8, 0) == memory.v + 4
        assert memory.kv_stripe("v", 1, 1, 17, 1) == memory.v + 24 + 12 + (2 * 2 + 1) * 2
        assert memory.kv_offset("v", 0, 0, 9, 1) == (memory.v + 6) * 32 + 8

    @pytest.mark.parametrize(("lanes", "ports", "port_bytes"), SHAPES)
    def test_keys_and_values(self, lanes: int, ports: int, port_bytes: int) -> None:
        memory = lay_out(lanes, ports, port_bytes)
        space = np.zeros(memory.total_bytes, np.uint8)
        draw = np.random.default_rng(0)
        kept = {}
        for which in ("k", "v"):
            for layer in range(2):
                rows = draw.integers(-128, 128, (21, 32))
                kept[which, layer] = rows
                memory.write_kv(space, which, layer, 0, rows[:5])
                memory.write_kv(space, which, layer, 5, rows[5:])
        for (which, layer), rows in kept.items():
            np.testing.assert_array_equal(memory.read_kv(space, which, layer, 21), rows)
            np.testing.assert_array_equal(memory.read_kv(space, which, layer, 3), rows[:3])
            for position in range(21):
                for feature in range(32):
                    head, inner = divmod(feature, 16)
                    block, r = divmod(inner, lanes)
                    at = memory.kv_offset(which, layer, head, position, block) + r
                    # section 2, in full
                    beat = (position // lanes) * (16 // lanes) + block
                    beats = -(-21 // lanes) * (16 // lanes)
                    start = memory.region(which)[0] * ports * port_bytes
                    whole = ((layer * 2 + head) * beats + beat) * lanes * lanes
                    assert at == start + whole + (position % lanes) * lanes + r
                    assert np.int8(space[at].view(np.int8)) == rows[position, feature]

    def test_tokens_and_ports(self) -> None:
        memory = lay_out(8, 2, 32)
        space = np.zeros(memory.total_bytes, np.uint8)
        memory.write_tokens(space, 2, [7, 50256])
        assert space[2 * 64 : 2 * 64 + 4].tolist() == [7, 0, 0, 0]
        assert space[3 * 64 : 3 * 64 + 4].tolist() == [0x50, 0xC4, 0, 0]
        assert memory.read_tokens(space, 1, 3).tolist() == [0, 7, 50256]
        space[:] = np.arange(space.size) % 251
        for port in range(2):
            view = memory.port_view(space, port)
            assert view.shape == (memory.total_stripes, 32)
            assert view[5].tolist() == space[5 * 64 + port * 32 :][:32].tolist()

    def test_files(self) -> None:
        memory = lay_out(8, 2, 32)
        assert MemoryMap.from_yaml(memory.to_yaml()) == memory
        data = memory.to_dict()
        with pytest.raises(DesignError, match="field wpe is missing"):
            MemoryMap.from_dict({k: v for k, v in data.items() if k != "wpe"})
        with pytest.raises(DesignError, match="field wqe is not known"):
            MemoryMap.from_dict({**data, "wqe": 1})
        with pytest.raises(DesignError, match="wpe must be a whole number, not 'x'"):
            MemoryMap.from_dict({**data, "wpe": "x"})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"lanes": 2}, "lanes must be a power of two, at least 4, not 2"),
            ({"lanes": 12}, "lanes must be a power of two, at least 4, not 12"),
            ({"lanes": 64}, "the width of 32 is not a multiple of 64 lanes"),
            ({"lanes": 32}, "the head size of 16 is not a multiple of 32 lanes"),
            ({"ports": 4}, "a beat must be a whole number of stripes: 8 x 8 lanes take 64 bytes"),
            ({"port_bytes": 24}, "4 to 4096 bytes in a power of two, not 2 of 24"),
            ({"context": 22}, "context must be 1 to 21, not 22"),
            ({"layers": 3}, "layers must be 1 to 2, not 3"),
            ({"capacity_per_port": 4096}, "bytes behind each port, but there are 4096"),
        ],
    )
    def test_refuses(self, change: dict[str, int], message: str) -> None:
        with pytest.raises(DesignError, match=message):
            lay_out(**{"lanes": 8, "ports": 2, "port_bytes": 32, **change})

    def test_refuses_a_feed_forward_width(self) -> None:
        card = CARD.model_copy(update={"ffn": 44})
        with pytest.raises(DesignError, match="feed-forward width of 44 is not a multiple of 8"):
            memory_map(card, lanes=8, ports=2, port_bytes=32)


class TestPhaseBeats:
    def test_items_add_up(self) -> None:
        for lanes in (4, 8, 16):
            beats = phase_beats(CARD, lanes)
            assert tuple(beats) == PHASES == LAYER_PHASES + HEAD_PHASES
            for phase in PHASES:
                items = weight_items(CARD, lanes, (phase,))
                assert sum(item.beats for item in items) == beats[phase].total
            layer = sum(beats[phase].total for phase in LAYER_PHASES)
            assert sum(item.beats for item in weight_items(CARD, lanes)) == layer
            memory = memory_map(CARD, lanes=lanes, ports=1, port_bytes=16)
            assert memory.layer_stripes == layer * memory.beat_stripes

    def test_headers_share_a_beat(self) -> None:
        head = phase_beats(load_model_card("gpt2-medium"), 64)["lm_head"]
        assert (head.tiles, head.header, head.header_tiles, head.total) == (
            786,
            1,
            8,
            786 * 16 + 99,
        )
        kinds = [item.kind for item in head.items()]
        assert kinds[:10] == ["header", *["tile"] * 8, "header"]
        assert kinds[-3:] == ["header", "tile", "tile"]

    def test_fc1(self) -> None:
        fc1 = phase_beats(ModelShape.of(CARD), 8)["fc1"]
        assert (fc1.lead_beats, fc1.tiles, fc1.header, fc1.data) == (1, 6, 1, 4)
        assert fc1.total == 1 + 6 * 5
        kinds = [item.kind for item in fc1.items()]
        assert kinds == ["header", *["header", "tile"] * 6]
