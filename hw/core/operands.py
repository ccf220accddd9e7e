"""Operands: the memory with its rings, of which one gives the beat that the engine or a header takes."""

from typing import Any

from amaranth.lib import stream
from amaranth.lib.wiring import In, Out, Signature

from hw.core.feeder import Source
from hw.memory import StripedMemory
from hw.memory.port import RINGS, Release
from hw.unit import TemplateUnit, Unit

__all__ = ["OperandMemory"]

Reader = Signature({"rd_index": Out(16), "ok": In(1), "rd_en": Out(1), "release": Out(Release)})
"""A ring from the side of its reader, without the data, which all rings share."""


class OperandMemory(TemplateUnit):
    """A :class:`hw.memory.StripedMemory` whose rings share one output, and whose stripes come as words.

    A beat of values lies ``[position][feature]`` in memory; the engine wants ``[output][reduction]`` =
    ``[feature][position]``, so it is turned by wires. A template, because a simulator then turns only what is
    used, and because the wide wires stay out of Amaranth's netlist.

    Latency
    -------
    As of the memory; ``beat`` follows ``source`` in the same cycle.

    Parameters
    ----------
    memory : what is wrapped
    lanes : R = O
    stripe_bytes : of the memory

    Members
    -------
    source : the ring that was read in the cycle before (:class:`hw.core.feeder.Source`)
    beat : ``lanes * lanes`` bytes
    words : stream of ``2 * lanes`` bytes; every stripe of the client E gives ``stripe_bytes / (2 * lanes)``
    w, k, v : the rings without their data; all other members are those of the memory
    """

    template = "core/operands.sv.j2"

    def __init__(self, memory: StripedMemory, *, lanes: int, stripe_bytes: int) -> None:
        self._memory, self._lanes, self._stripe_bytes = memory, lanes, stripe_bytes
        kept = {
            name: member
            for name, member in memory.signature.members.items()
            if name not in (*RINGS, "e")
        }
        super().__init__(
            {
                **kept,
                **{ring: In(Reader) for ring in RINGS},
                "source": In(Source),
                "beat": Out(8 * lanes * lanes),
                "words": Out(stream.Signature(16 * lanes)),
            },
            {"l": lanes} | memory.key,
        )

    def parts(self) -> list[Unit]:
        return [self._memory]

    def context(self) -> dict[str, Any]:
        inner = [name for name, _, _ in self._memory.ports()]
        words = self._stripe_bytes // (2 * self._lanes)
        return {
            "header": [
                {"name": name, "bits": len(value), "direction": "input" if is_input else "output"}
                for name, value, is_input in self.ports()
            ],
            "memory": self._memory.module_name,
            "passed": [n for n in inner if not n.endswith("__rd_data") and not n.startswith("e__")],
            "rings": RINGS,
            "lanes": self._lanes,
            "beat_bits": 8 * self._lanes * self._lanes,
            "stripe_bits": 8 * self._stripe_bytes,
            "word_bits": 16 * self._lanes,
            "words": words,
            "word_index_bits": max(1, (words - 1).bit_length()),
            "is_keys": Source.KEYS.value,
            "is_values": Source.VALUES.value,
        }
