# SPDX-License-Identifier: Apache-2.0
"""The devices of ``test_weights.py``, and the sizes of each: what test and testbench must agree on."""

from dataclasses import replace

from designs.weight_format import WeightFormat
from generators.weight_stream import stream_shape
from hw.core.weights import WeightStream
from hw.memory.port import PortShape, SidePlane, SideShape

DEVICES = {
    # name: format, lanes, ports, bytes of a port
    "both": (WeightFormat(4, 32, 2, 4, 2), 8, 2, 16),  # half a stripe of values
    "four": (WeightFormat(4, 32), 16, 2, 16),  # two factors of an output, four stripes of values
    "masks": (WeightFormat(8, n=4, m=8), 8, 1, 16),
    "long": (WeightFormat(8, n=8, m=16), 16, 1, 16),  # two stripes of indices
    "few": (WeightFormat(4, 64, 2, 8, 1), 16, 4, 32),  # a quarter of a stripe of values
}


def device_shape(name: str) -> tuple[WeightStream, PortShape]:
    """The stream of a device, and its ports: rings of 4 periods."""
    form, lanes, ports, port_bytes = DEVICES[name]
    stream = stream_shape(form, lanes, ports * port_bytes)
    if name == "four":  # the least group has two in a beat of 64 lanes only, which takes minutes
        stream = replace(stream, group=lanes // 2)
    planes = []
    if stream.factor_bytes:
        lane = max(1, stream.factor_bytes // stream.stripe_bytes)
        planes.append(SidePlane("f", stream.factor_stripes, lane))
    if stream.index_bytes:
        lane = max(1, stream.index_bytes // stream.stripe_bytes)
        planes.append(SidePlane("i", stream.index_stripes, lane))
    return stream, PortShape(
        port_bytes=port_bytes, beat_stripes=stream.row_stripes, w_depth=4 * stream.period_rows,
        k_depth=4, v_depth=4, max_burst=16, outstanding=8, flight=32, writes=4, descriptors=4,
        side=SideShape(stream.period_rows, tuple(planes)),
    )  # fmt: skip
