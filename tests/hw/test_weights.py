# SPDX-License-Identifier: Apache-2.0
"""The compressed weight stream in hardware: its sizes, and the ring with its decoder on Verilator."""

import json
from pathlib import Path

import pytest

from designs.weight_format import WeightFormat
from generators.weight_stream import stream_shape
from hw.core.decoder import WeightDecoder
from hw.core.operands import OperandMemory
from hw.core.weights import WeightStream
from hw.memory import PortShape, StripedMemory
from hw.memory.port import SidePlane, SideShape
from tests.bench import run_bench
from tests.hw.weight_devices import DEVICES, device_shape


def test_on_verilator(tmp_path: Path) -> None:
    """Formats and shapes that differ in all that the wires depend on; see ``weight_devices.py``."""
    units = {}
    for name, (_, lanes, ports, _) in DEVICES.items():
        stream, shape = device_shape(name)
        units[name] = OperandMemory(
            StripedMemory(ports=ports, shape=shape),
            lanes=lanes,
            stripe_bytes=stream.stripe_bytes,
            stream=stream,
        )
    run_bench(units, "cocotb_weights", tmp_path, {"SIZES": json.dumps({})})


def test_the_devices_differ() -> None:
    """A value beat below and above a stripe, indices of several stripes, both kinds of indices, ..."""
    streams = {name: device_shape(name)[0] for name in DEVICES}
    assert any(s.value_bytes < s.stripe_bytes for s in streams.values())
    assert any(s.value_bytes > s.stripe_bytes for s in streams.values())
    assert any(s.index_bytes > s.stripe_bytes for s in streams.values())
    assert {s.share for s in streams.values()} == {1, 2}
    assert {bool(s.position_bits) for s in streams.values() if s.m > 1} == {False, True}
    assert {(bool(s.index_bytes), bool(s.factor_bytes)) for s in streams.values()} == {
        (True, True), (True, False), (False, True),
    }  # fmt: skip
    assert any(s.factors > 1 for s in streams.values())


class TestSizes:
    def test_a_stream_without_compression_has_no_decoder(self) -> None:
        with pytest.raises(ValueError, match="needs no decoder"):
            WeightDecoder(WeightStream(lanes=8, stripe_bytes=32))
        with pytest.raises(ValueError, match="keeps all weights has no positions"):
            WeightDecoder(stream_shape(WeightFormat(4, 32), 8, 32), kept=True)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"bits": 6}, "bits of the weight stream must be a power of two, not 6"),
            ({"n": 8, "m": 16}, "8:16 sparsity needs at least 16 lanes, there are 8"),
            ({"stripe_bytes": 128}, "a beat of 64 bytes must be a whole number of stripes of 128"),
        ],
    )
    def test_init_wrong(self, change: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            WeightStream(**{"lanes": 8, "stripe_bytes": 32, **change})

    def test_planes(self) -> None:
        with pytest.raises(ValueError, match="stripes of plane i must be a power of two, not 3"):
            SidePlane("i", 3, 1)
        with pytest.raises(ValueError, match="A period must have a power of two of beats"):
            SideShape(3, (SidePlane("i", 1, 1),))

    def test_window_of_whole_periods(self) -> None:
        """A reader may hold all beats but those of the period that it holds for its last beat, and a burst's."""
        side = SideShape(4, (SidePlane("i", 1, 1),))
        shape = PortShape(
            port_bytes=8, beat_stripes=2, w_depth=32, k_depth=4, v_depth=4, max_burst=16, side=side
        )
        assert (shape.periods, shape.period_stripes, shape.capacity["w"]) == (8, 9, 72)
        assert shape.limits["w"] == 16
        assert shape.window["w"] == ((72 - 15) // 9 - 1) * 4

    def test_of_a_format(self) -> None:
        found = stream_shape(WeightFormat(4, 32, 4, 8, 2), 16, 64)
        assert found == WeightStream(
            lanes=16, stripe_bytes=64, bits=4, group=32, n=4, m=8, share=2, position_bits=0
        )
