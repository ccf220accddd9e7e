# SPDX-License-Identifier: Apache-2.0
"""The memory ports and the striped memory."""

import dataclasses
import json
from pathlib import Path

import pytest

from hw.memory import Axi4Signature, PortShape, StripedMemory
from hw.memory.buffers import Queue, RingMemory
from hw.memory.burst import BurstCutter
from tests.bench import run_bench

SHAPE = PortShape(port_bytes=8, beat_stripes=2, w_depth=16, k_depth=8, v_depth=4)
SMALL = dataclasses.replace(
    SHAPE, e_depth=8, max_burst=4, outstanding=4, flight=16, writes=4, descriptors=2
)
# A burst is a whole page.
WIDE = PortShape(
    port_bytes=16, beat_stripes=1, w_depth=1024, k_depth=64, v_depth=64, max_burst=256, flight=512
)


def test_on_verilator(tmp_path: Path) -> None:
    devices = {
        "small": StripedMemory(ports=2, shape=SMALL),
        "wide": StripedMemory(ports=1, shape=WIDE),
    }
    sizes = {
        name: {
            "ports": ports,
            "shape": dataclasses.asdict(shape),
            "limits": shape.limits,
            "window": shape.window,
            "request_latency": devices[name].request_latency,
            "data_latency": devices[name].data_latency,
        }
        for name, ports, shape in (("small", 2, SMALL), ("wide", 1, WIDE))
    }
    run_bench(devices, "cocotb_memory", tmp_path, {"SIZES": json.dumps(sizes)}, inside=True)


class TestPortShape:
    @pytest.mark.parametrize("port_bytes", [1, 16, 32, 64, 128])
    def test_burst_fits_in_a_page(self, port_bytes: int) -> None:
        sizes = {"port_bytes": port_bytes, "w_depth": 4096, "max_burst": 256}
        shape = dataclasses.replace(SHAPE, **sizes)
        assert shape.limits["w"] == min(256, 4096 // port_bytes)

    def test_burst_leaves_a_window(self) -> None:
        shape = dataclasses.replace(SHAPE, w_depth=64, k_depth=2, e_depth=64)
        assert shape.limits == {"e": 16, "k": 1, "v": 2, "w": 32}
        assert shape.window == {"w": 48, "k": 2, "v": 3}

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"port_bytes": 24}, "port_bytes must be a power of two from 1 to 128, not 24"),
            ({"w_depth": 1}, "w_depth must be a power of two from 2 to 32768, not 1"),
            ({"k_depth": 65536}, "k_depth must be a power of two from 2 to 32768, not 65536"),
            ({"max_burst": 512}, "max_burst must be a power of two from 1 to 256, not 512"),
            ({"beat_stripes": 0}, "beat_stripes must be at least 1, not 0"),
            ({"flight": 7}, "flight must be at least a burst of W, 8, not 7"),
        ],
    )
    def test_init_wrong(self, change: dict[str, int], text: str) -> None:
        with pytest.raises(ValueError, match=text):
            dataclasses.replace(SHAPE, **change)


def test_init_wrong_units() -> None:
    with pytest.raises(ValueError, match="at least 1 port, not 0"):
        StripedMemory(ports=0, shape=SHAPE)
    with pytest.raises(ValueError, match="power of two from 8 to 1024 bits, not 24"):
        Axi4Signature(24)
    with pytest.raises(ValueError, match="Limit must be a power of two, not 3"):
        BurstCutter(limit=3)
    with pytest.raises(ValueError, match="Depth must be a power of two from 2, not 3"):
        Queue(bits=8, depth=3)
    with pytest.raises(ValueError, match="Depth must be a power of two from 2, not 1"):
        RingMemory(bits=8, lanes=1, depth=1)


def test_names() -> None:
    names = [name for name, _, _ in StripedMemory(ports=2, shape=SHAPE).ports()]
    assert {"m_axi_g00__awaddr", "m_axi_g01__rdata", "base__1", "w_desc__payload"} <= set(names)
    assert {"w__ok", "v__release__count", "e__valid", "write__payload", "write_idle"} <= set(names)
