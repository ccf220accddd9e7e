# SPDX-License-Identifier: Apache-2.0
"""AXI4 and AXI4-Lite as signatures, from the initiator's side, with the names of the specification.

Only what the accelerators use: increasing bursts, one identifier, no narrow transfers.
"""

from amaranth.lib.wiring import In, Out, Signature

__all__ = ["Axi4Signature", "AxiLiteSignature"]


class Axi4Signature(Signature):
    """All five channels of AXI4.

    Parameters
    ----------
    data_bits : width of ``wdata`` and ``rdata``, a power of two from 8 to 1024
    address_bits : width of ``awaddr`` and ``araddr``
    id_bits : width of ``awid``, ``bid``, ``arid`` and ``rid``
    """

    def __init__(self, data_bits: int, address_bits: int = 64, id_bits: int = 1) -> None:
        if data_bits not in (8, 16, 32, 64, 128, 256, 512, 1024):
            raise ValueError(f"Data must be a power of two from 8 to 1024 bits, not {data_bits!r}")
        address = {
            "id": id_bits, "addr": address_bits, "len": 8, "size": 3, "burst": 2,
            "lock": 1, "cache": 4, "prot": 3, "qos": 4, "valid": 1,
        }  # fmt: skip
        super().__init__(
            {f"aw{name}": Out(bits) for name, bits in address.items()}
            | {"awready": In(1)}
            | {"wdata": Out(data_bits), "wstrb": Out(data_bits // 8), "wlast": Out(1)}
            | {"wvalid": Out(1), "wready": In(1)}
            | {"bid": In(id_bits), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
            | {f"ar{name}": Out(bits) for name, bits in address.items()}
            | {"arready": In(1)}
            | {"rid": In(id_bits), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1)}
            | {"rvalid": In(1), "rready": Out(1)}
        )


class AxiLiteSignature(Signature):
    """All five channels of AXI4-Lite.

    Parameters
    ----------
    data_bits : width of ``wdata`` and ``rdata``, 32 or 64
    address_bits : width of ``awaddr`` and ``araddr``
    """

    def __init__(self, data_bits: int = 32, address_bits: int = 12) -> None:
        if data_bits not in (32, 64):
            raise ValueError(f"Data must be 32 or 64 bits, not {data_bits!r}")
        super().__init__(
            {"awaddr": Out(address_bits), "awprot": Out(3), "awvalid": Out(1), "awready": In(1)}
            | {"wdata": Out(data_bits), "wstrb": Out(data_bits // 8)}
            | {"wvalid": Out(1), "wready": In(1)}
            | {"bresp": In(2), "bvalid": In(1), "bready": Out(1)}
            | {"araddr": Out(address_bits), "arprot": Out(3), "arvalid": Out(1), "arready": In(1)}
            | {"rdata": In(data_bits), "rresp": In(2), "rvalid": In(1), "rready": Out(1)}
        )
