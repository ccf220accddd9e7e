# SPDX-License-Identifier: Apache-2.0
"""The numbers of a machine that its schedules depend on."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from schedules.errors import ScheduleError
from schedules.pim import PimMachine

__all__ = ["Machine", "ReadClient"]


@dataclass(frozen=True, kw_only=True)
class ReadClient:
    """A prefetcher of the memory system.

    Parameters
    ----------
    words : words of a port that its buffer holds.
    burst : words of its longest burst, which is also the block that bursts stay in.
    flight : it asks for no more while this many words of all clients are on their way; None for no limit.
    """

    words: int
    burst: int
    flight: int | None = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Sizes in elements, beats or words; latencies in cycles, from one event to the other.

    ``generators.machine.measure`` reads them off the hardware.

    Parameters
    ----------
    array, pe : of the engine.
    tokens, lanes : T; R = O. A beat is ``lanes * lanes`` bytes of weights.
    chunk, context, slots : most tokens of a pass, of attention; attention items in flight.
    ports, port_bytes : memory ports, and bytes of a word of one.
    port_rate : bytes that the memory grants to a port in a cycle, reads and writes together.
    memory_latency : from the transfer of an address to the first word, or from a written word to its answer.
    memory_outstanding : bursts that the memory accepts on a port before it has answered the first.
    clients : prefetchers by name, in the order of their priority: ``e``, ``k``, ``v``, ``w``.
    bursts : read bursts asked for and not received, of all clients of a port.
    writes : writes of a port that are not yet answered.
    request_latency : from a descriptor to ``arvalid``, everything being idle.
    arrival_latency : from the last word's transfer to the cycle in which the feeder may issue the beat.
    stream_latency : from a word's transfer to the cycle in which the embedding sees it.
    write_latency : from a write's entry into the memory system to ``awvalid``.
    header_tiles : consecutive tiles whose headers share a beat.
    header_buffers : header beats held at once.
    engine_latency : from the last beat's transfer to the first row.
    beat_cycles : for which a beat of 1, 2, ... rows occupies the engine.
    multipliers : multiplications a cycle; with weights, those that are left out included.
    requantise_latency : of a row.
    activation_latency : of a row behind it; of a gated network, of the activation and the product.
    rotary_latency : of a row of queries, keys or values behind it; 0 if they are not turned.
    residual_latency : from a requantised row to its write.
    norm_row, norm_latency : a LayerNorm of n rows takes ``n * norm_row + norm_latency`` cycles.
    norm_parameters : beats of parameters of a LayerNorm; one beat of constants comes before them.
    norm_beat : cycles that the LayerNorm takes to store a beat of parameters.
    norm_sums : of these cycles, from the last word of a row to its sums.
    softmax_latency : an item of r rows and c words takes ``r * c + softmax_latency`` cycles, the unit being idle.
    softmax_wait : from an item to its first read.
    argmax_latency : from the last row of logits to the result.
    embed_words : words of ``lanes`` elements in a stripe of an embedding row.
    row_stripes, position_stripes : stripes of an embedding row, and of a row of positions.
    turns : beats of the engine for a beat of keys or values.
    span : beats of weights that it takes at once.
    stream_row, stream_period : beats of weights whose values take as many bytes as an uncompressed beat, and beats
        of a period, at whose end layers end.
    stream_side : words of a port in a period that come before its values.
    stream_terms : beats of weights for an engine step of a matrix, by phase (``lm_head``), or by layer and phase
        (``h3.fc2``); 1 if not named.
    stream_words : words of the operand that a tile has weights of, likewise; all if not named.
    words_wait : cycles that tiles wait behind their header for the words that they have weights of.
    layers : how often the layers' phases repeat.
    pim : channels that hold keys and values and multiply them; None: the engine does, out of its rings.
    """

    array: str
    pe: str
    tokens: int
    lanes: int
    chunk: int
    context: int
    slots: int
    ports: int
    port_bytes: int
    port_rate: Fraction
    memory_latency: int
    memory_outstanding: int
    clients: tuple[tuple[str, ReadClient], ...]
    bursts: int
    writes: int
    request_latency: int
    arrival_latency: int
    stream_latency: int
    write_latency: int
    header_tiles: int
    header_buffers: int
    engine_latency: int
    beat_cycles: tuple[int, ...]
    multipliers: int
    requantise_latency: int
    activation_latency: int
    rotary_latency: int
    residual_latency: int
    norm_row: int
    norm_latency: int
    norm_parameters: int
    norm_beat: int
    norm_sums: int
    softmax_latency: int
    softmax_wait: int
    argmax_latency: int
    embed_words: int
    row_stripes: int
    position_stripes: int
    turns: int = 1
    span: int = 1
    stream_row: int = 1
    stream_period: int = 1
    stream_side: int = 0
    stream_terms: tuple[tuple[str, int], ...] = ()
    stream_words: tuple[tuple[str, int], ...] = ()
    words_wait: int = 0
    layers: int = 1
    pim: PimMachine | None = None

    def __post_init__(self) -> None:
        for name in (
            "tokens",
            "lanes",
            "chunk",
            "context",
            "slots",
            "ports",
            "port_bytes",
            "header_tiles",
        ):
            if getattr(self, name) < 1:
                raise ScheduleError(
                    f"Machine: {name} must be at least 1, not {getattr(self, name)!r}"
                )
        if not 0 < self.port_rate <= self.port_bytes:
            raise ScheduleError(
                f"Machine: a port of {self.port_bytes} bytes carries at most that in a cycle, not {self.port_rate}"
            )
        if self.beat_bytes % self.stripe_bytes:
            raise ScheduleError(
                f"Machine: a beat of {self.beat_bytes} bytes must be whole stripes of {self.stripe_bytes} bytes"
            )
        if {name for name, _ in self.clients} != {"e", "k", "v", "w"}:
            raise ScheduleError("Machine: clients must be e, k, v and w")
        if len(self.beat_cycles) != self.tokens or min(self.beat_cycles) < 1:
            raise ScheduleError(
                f"Machine: beat_cycles must be {self.tokens} numbers of at least 1, one for each number of rows"
            )

    @property
    def beat_bytes(self) -> int:
        """Bytes of one step of the engine."""
        return self.lanes * self.lanes

    @property
    def stripe_bytes(self) -> int:
        """Bytes of one transfer on every port."""
        return self.ports * self.port_bytes

    @property
    def beat_words(self) -> int:
        """Words of a port in a beat."""
        return self.beat_bytes // self.stripe_bytes

    @property
    def period_words(self) -> int:
        """Words of a port in a period of the weight stream."""
        return self.stream_side + self.stream_period // self.stream_row * self.beat_words

    def stream_bytes(self, beats: int) -> int:
        """Bytes of beats of weights, with their share of what comes before the values."""
        return -(-beats * self.period_words * self.stripe_bytes // self.stream_period)

    def tile_words(self, phase: str, layer: int, k: int) -> int:
        """Words of the operand, of k elements, that a tile of a phase has weights of, in a layer if it is of one."""
        return _of_phase(self.stream_words, phase, layer, -(-k // self.lanes))

    def tile_beats(self, phase: str, layer: int, k: int) -> int:
        """Beats of weights of such a tile."""
        return self.tile_words(phase, layer, k) * _of_phase(self.stream_terms, phase, layer, 1)

    def stored_share(self, phase: str, k: int) -> Fraction:
        """The part of a phase's weights that is not in blocks which are left out, over all layers."""
        words = sum(self.tile_words(phase, layer, k) for layer in range(self.layers))
        return Fraction(words, -(-k // self.lanes) * self.layers)

    @property
    def bytes_per_cycle(self) -> Fraction:
        """What all ports together are granted."""
        return self.ports * self.port_rate

    def client(self, name: str) -> ReadClient:
        """A prefetcher by its name."""
        return dict(self.clients)[name]

    def ring_bytes(self, name: str) -> int:
        """What a prefetcher's buffers hold, over all ports; of weights, the bytes that they are for the engine."""
        words = self.client(name).words
        if name != "w":
            return words * self.stripe_bytes
        return words // self.period_words * self.stream_period * self.beat_bytes


def _of_phase(known: tuple[tuple[str, int], ...], phase: str, layer: int, otherwise: int) -> int:
    found = dict(known)
    return found.get(f"h{layer}.{phase}", found.get(phase, otherwise))
