# SPDX-License-Identifier: Apache-2.0
"""Operands: the memory with its rings, of which one gives the beat that the engine or a header takes."""

from typing import Any

from amaranth.lib.stream import Signature as Stream
from amaranth.lib.wiring import In, Out, Signature

from hw.core.decoder import WeightDecoder
from hw.core.feeder import Source
from hw.core.weights import WeightStream
from hw.memory import StripedMemory
from hw.memory.port import RINGS, Release
from hw.unit import TemplateUnit, Unit

__all__ = ["OperandMemory"]


def reader(index_bits: int = 16) -> Signature:
    """A ring from the side of its reader, without the data, which all rings share."""
    return Signature(
        {"rd_index": Out(index_bits), "ok": In(1), "rd_en": Out(1), "release": Out(Release)}
    )


class OperandMemory(TemplateUnit):
    """A :class:`hw.memory.StripedMemory` whose rings share one output, and whose stripes come as words.

    A beat of values lies ``[position][feature]`` in memory; the engine wants ``[output][reduction]`` =
    ``[feature][position]``, so it is turned by wires. A template, because a simulator then turns only what is
    used, and because the wide wires stay out of Amaranth's netlist.

    Compressed weights are decoded here; the reader of ring W counts their beats, and releases them one by one. An
    engine that selects activations takes kept weights and their places instead of a beat, those of ``span`` beats side
    by side; a beat of keys or values, which has all of its weights, has ``m / n`` such parts, of which it takes
    ``span`` at once.

    Latency
    -------
    As of the memory; ``beat`` follows ``source`` in the same cycle.

    Parameters
    ----------
    memory : what is wrapped
    lanes : R = O
    stripe_bytes : of the memory
    stream : the weight stream
    kept : the engine takes kept weights
    span : of so many beats, whose rows and sides are read at once; the index of the first is a multiple of it

    Members
    -------
    source : the ring that was read in the cycle before (:class:`hw.core.feeder.Source`)
    beat : ``lanes * lanes`` bytes, or more if kept weights of several beats and their places take more
    raw : if weights are compressed: give the row of the weight stream that was read as it is
    turn : if ``kept`` and a beat of keys or values has more than ``span`` parts: which of them
        With ``kept``, ``beat`` is, unless ``raw``, weights and behind them their places: of each output (group of
        outputs) those of ``span`` beats, in each as of :class:`hw.core.decoder.WeightDecoder`
    words : stream of ``2 * lanes`` bytes; every stripe of the client E gives ``stripe_bytes / (2 * lanes)``
    w, k, v : the rings without their data; all other members are those of the memory
    """

    template = "core/operands.sv.j2"

    def __init__(
        self, memory: StripedMemory, *, lanes: int, stripe_bytes: int, stream: WeightStream,
        kept: bool = False, span: int = 1,
    ) -> None:  # fmt: skip
        self._memory, self._lanes, self._stripe_bytes = memory, lanes, stripe_bytes
        self._stream, self._kept, self._span = stream, kept, span
        self._turns = stream.turns // span if kept else 1
        self._place_bits = stream.place_count * stream.place_bits * span if kept else 0
        self._kept_bits = 8 * lanes * stream.taps * span
        beat_bits = max(8 * lanes * lanes, self._kept_bits + self._place_bits if kept else 0)
        self._decoder = WeightDecoder(stream, kept=kept) if stream.compressed else None
        row_bits = stream.row_beats.bit_length() - 1
        readers = {ring: In(reader(16 + row_bits if ring == "w" else 16)) for ring in RINGS}
        same = {
            name: member
            for name, member in memory.signature.members.items()
            if name not in (*RINGS, "e")
        }
        super().__init__(
            {
                **same,
                **readers,
                "source": In(Source),
                "beat": Out(beat_bits),
                **({"raw": In(1)} if stream.compressed else {}),
                **({"turn": In(range(self._turns))} if self._turns > 1 else {}),
                "words": Out(Stream(16 * lanes)),
            },
            {"l": lanes}
            | memory.key
            | ({"int": stream.bits} if stream.compressed else {})
            | ({"kept": stream.n} if kept else {})
            | ({"span": span} if span > 1 else {}),
        )

    def parts(self) -> list[Unit]:
        decoders = [] if self._decoder is None else [self._decoder] * self._span
        return [self._memory, *decoders]

    def context(self) -> dict[str, Any]:
        inner = [name for name, _, _ in self._memory.ports()]
        words = self._stripe_bytes // (2 * self._lanes)
        own: set[str] = set()
        if self._decoder is not None:
            own = {"w__rd_index", "w__release__valid", "w__release__count"}
            own |= {name for name in inner if name.startswith(("w__f_", "w__i_"))}
        return {
            "header": [
                {"name": name, "bits": len(value), "direction": "input" if is_input else "output"}
                for name, value, is_input in self.ports()
            ],
            "memory": self._memory.module_name,
            "passed": [
                n
                for n in inner
                if not n.endswith("__rd_data") and not n.startswith("e__") and n not in own
            ],
            "stream": self._stream,
            "kept": self._kept,
            "span": self._span,
            "span_bits": (self._span - 1).bit_length(),
            "kept_bits": self._kept_bits,
            "place_bits": self._place_bits,
            "out_bits": len(self.beat),
            **self._parts(),
            "decoder": "" if self._decoder is None else self._decoder.module_name,
            "planes": self._planes(),
            "period_bits": (self._stream.period_beats - 1).bit_length(),
            "row_beat_bits": (self._stream.row_beats - 1).bit_length(),
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

    def _parts(self) -> dict[str, Any]:
        """Turns of a beat of keys or values, and the places of a block's values in each of its parts."""
        s = self._stream
        bits = s.n * s.place_bits
        places = [
            sum((part * s.n + j) << (j * s.place_bits) for j in range(s.n))
            for part in range(s.turns)
        ]
        return {
            "turns": self._turns,
            "turn_bits": (self._turns - 1).bit_length(),
            "places_of_part": [f"{bits}'d{value}" for value in places],
        }

    def _planes(self) -> list[dict[str, Any]]:
        """Beside the values: the bits of a beat and of a row of memory, and of the index of a row."""
        ports = {name: len(value) for name, value, _ in self._memory.ports()}
        s, found = self._stream, []
        for name, called, size in (
            ("f", "factors", s.factor_bytes),
            ("i", "indices", s.index_bytes),
        ):
            if size:
                row = ports[f"w__{name}_data"] // 8
                beats = (row // size).bit_length() - 1  # at least `span` of them
                found.append(
                    {
                        "name": name,
                        "called": called,
                        "bits": 8 * size,
                        "row_bits": 8 * row,
                        "beat_bits": beats,
                        "index_bits": ports[f"w__{name}_row"],
                    }
                )
        return found
