# SPDX-License-Identifier: Apache-2.0
"""The striped memory: many ports that transfer the same stripes, each at its own pace."""

from typing import Any

from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, Signature

from hw.memory.axi import Axi4Signature
from hw.memory.burst import Descriptor
from hw.memory.port import RINGS, MemoryPort, PortShape, Release, write_layout
from hw.unit import TemplateUnit, Unit

__all__ = ["RingSignature", "StripedMemory"]


class RingSignature(Signature):
    """A ring of beats, from the side of the memory.

    Beats are counted from reset, modulo 2**16, over all descriptors. The consumer reads those that
    have arrived and that it has not released, in any order.

    Parameters
    ----------
    beat_bits : bits of a beat
    planes : what is read beside a beat: bits of a row's index and of a row, by name

    Members
    -------
    rd_index : ``In(16)``
        A beat.
    ok : ``Out(1)``
        In the same cycle: this beat has arrived. Once up for a beat, it stays up until its release.
    rd_en : ``In(1)``
        Read this beat.
    rd_data : ``Out(beat_bits)``
        One cycle after ``rd_en``: the beat. Holds while ``rd_en`` is low.
    release : ``In(Release)``
        The oldest ``count`` beats are no longer needed; with planes, periods.
    x_row, x_data : ``In``, ``Out``
        Of every plane x: which row to read with the beat, and the row.
    """

    def __init__(self, beat_bits: int, planes: dict[str, tuple[int, int]] | None = None) -> None:
        super().__init__(
            {
                "rd_index": In(16),
                "ok": Out(1),
                "rd_en": In(1),
                "rd_data": Out(beat_bits),
                "release": In(Release),
            }
            | {f"{name}_row": In(row) for name, (row, _) in (planes or {}).items()}
            | {f"{name}_data": Out(bits) for name, (_, bits) in (planes or {}).items()}
        )


class StripedMemory(TemplateUnit):
    """``ports`` memory ports as one memory of stripes of ``ports * port_bytes`` bytes.

    Byte ``b`` of a stripe lies in port ``b // port_bytes``. A beat is ``beat_stripes`` consecutive
    stripes in the order of memory. All ports get the same descriptors and writes; a beat has
    arrived when it has in all.

    Latency
    -------
    ``arvalid`` rises ``request_latency`` cycles after a descriptor was taken; ``ok`` rises
    ``data_latency`` cycles after the last word of the beat was transferred on the last port; a
    stripe is on ``e`` two cycles after.

    Parameters
    ----------
    ports : number of ports
    shape : of each port

    Members
    -------
    m_axi_g00, m_axi_g01, ... : ``Out(Axi4Signature(8 * port_bytes))``
        The ports; :meth:`axi` gives one by number.
    base : ``In(64).array(ports)``
        Their addresses of stripe 0.
    w_desc, k_desc, v_desc, e_desc : ``In(stream.Signature(Descriptor))``
        Stripes to read. The rings take whole beats, over one or more descriptors.
    w, k, v : ``Out(RingSignature(...))``
        The rings.
    e : ``Out(stream.Signature(8 * ports * port_bytes))``
        Whole stripes.
    write : ``In(stream.Signature(write_layout(ports * port_bytes)))``
        Writes to a stripe. Nothing orders them with reads: wait for ``write_idle``.
    write_idle : ``Out(1)``
        Every write so far has been acknowledged.
    error : ``Out(1)``
        Since reset, some response of a memory was not OKAY.
    """

    request_latency = MemoryPort.request_latency
    data_latency = 3
    template = "memory/striped_memory.sv.j2"

    def __init__(self, *, ports: int, shape: PortShape) -> None:
        if ports < 1:
            raise ValueError(f"Memory must have at least 1 port, not {ports!r}")
        self._ports, self._shape, self._port = ports, shape, MemoryPort(shape)
        stripe_bits = 8 * ports * shape.port_bytes
        self._planes = {
            p.name: ((shape.side_rows(p) - 1).bit_length(), stripe_bits * p.lanes)
            for p in (shape.side.planes if shape.side is not None else ())
        }
        planes = {"w": self._planes}
        super().__init__(
            {f"m_axi_g{p:02d}": Out(Axi4Signature(8 * shape.port_bytes)) for p in range(ports)}
            | {"base": In(64).array(ports)}
            | {f"{name}_desc": In(stream.Signature(Descriptor)) for name in (*RINGS, "e")}
            | {
                name: Out(RingSignature(stripe_bits * shape.beat_stripes, planes.get(name)))
                for name in RINGS
            }
            | {
                "e": Out(stream.Signature(stripe_bits)),
                "write": In(stream.Signature(write_layout(stripe_bits // 8))),
                "write_idle": Out(1),
                "error": Out(1),
            },
            {"p": ports, **shape.key},
        )

    def axi(self, port: int):
        """The AXI4 interface of a port."""
        return getattr(self, f"m_axi_g{port:02d}")

    def parts(self) -> list[Unit]:
        return [self._port] * self._ports

    def context(self) -> dict[str, Any]:
        return {
            "header": [
                {"name": name, "bits": len(value), "direction": "input" if is_input else "output"}
                for name, value, is_input in self.ports()
            ],
            "port_module": self._port.module_name,
            "ports": self._ports,
            "word_bits": 8 * self._shape.port_bytes,
            "lanes": self._shape.beat_stripes,
            "planes": [
                (p.name, p.lanes)
                for p in (self._shape.side.planes if self._shape.side is not None else ())
            ],
            "row_bits": {name: d.bit_length() - 1 for name, d in self._shape.depths.items()},
            "axi": list(self.axi(0).signature.members),
        }
