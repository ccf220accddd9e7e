# SPDX-License-Identifier: Apache-2.0
"""The memory side: AXI4 ports with prefetching rings, and the striped space that they form."""

from hw.memory.axi import Axi4Signature, AxiLiteSignature
from hw.memory.burst import Descriptor
from hw.memory.port import MemoryPort, PortShape
from hw.memory.striped import RingSignature, StripedMemory

__all__ = [
    "Axi4Signature",
    "AxiLiteSignature",
    "Descriptor",
    "MemoryPort",
    "PortShape",
    "RingSignature",
    "StripedMemory",
]
