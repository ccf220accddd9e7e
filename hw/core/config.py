# SPDX-License-Identifier: Apache-2.0
"""Integers that shape a core: lanes, buffer sizes, the network's dimensions, where things lie in memory."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from hw.core.weights import WeightStream
from hw.memory.port import PortShape, SidePlane, SideShape
from hw.pim.cache import CacheShape
from hw.pim.config import PimConfig
from hw.pim.timing import PimTiming

__all__ = ["CoreConfig"]


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """Shape of a core and of the network that its program was made for.

    Attributes
    ----------
    array, pe, encoding : names of the engine's array, processing element and encoding ("": its default)
    sparsity : of the engine: ``"dense"``, or that of the weight stream, whose kept weights it then takes
    span : beats of the weight stream that such an engine takes at once, a power of two, M / N at most: ``span * R``
        inputs, as words side by side
    dsp : what ``dsp_packed`` is made of
    buffer_style : what the activation and residual buffers are made of: ``"block"`` or ``"ultra"`` RAM
    ring_style : what the weight ring is made of, likewise
    tokens, lanes : T, and R = O (``docs/architecture.md``); powers of two, at least 1 and 8
    width, heads, kv_heads, head_size, ffn, vocabulary, context, layers : of the network; ``heads / kv_heads``
        query heads share a head of keys and values
    centred : LayerNorm; else RMSNorm
    rotary : queries and keys are turned by rows of the region ``wpe``; else these are added to the embedding
    gate : of the activation, a key of ``hw.sfu.tables.GATE_TABLE``
    gated : activated values are multiplied by a second product
    chunk : most tokens of a pass, a multiple of ``tokens``
    slots : attention items in flight, a power of two
    ports, port_bytes : memory ports
    w_depth, k_depth, v_depth : beats held by each ring, powers of two; of compressed weights: rows
    w_bits, w_group, w_n, w_m, w_share, w_position_bits : format of the weight stream
        (:class:`hw.core.weights.WeightStream`)
    w_terms : beats of the stream for one engine step of weights, by matrix (``lm_head``, or ``h3.fc2`` of one
        layer), 1 if not named
    w_masks : headers say of which words of the operand a tile has weights; the others are left out
    w_words : words of the operand that a tile of a matrix has weights of, by matrix as ``w_terms``; all if not named
    layer_ends : stripes up to the end of each layer's weight stream, if layers differ
    pim, pim_channels : keys and values live in so many channels of this kind, where attention's products are made
        (:class:`hw.pim.cache.CacheShape`); the memory has none then
    tokens_at, weights_at, layer_stripes, head_at, head_stripes, wte_at, wpe_at, row_stripes,
    position_stripes, k_at, v_at, kv_layer_stripes, kv_head_stripes : the memory map, in stripes
    """

    array: str = "tree"
    pe: str = "mac"
    encoding: str = ""
    sparsity: str = "dense"
    span: int = 1
    dsp: str = "generic"
    buffer_style: str = "block"
    ring_style: str = "block"
    centred: bool = True
    rotary: bool = False
    gate: str = "gelu"
    gated: bool = False
    tokens: int
    lanes: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    context: int
    layers: int
    chunk: int
    slots: int
    ports: int
    port_bytes: int
    w_depth: int
    k_depth: int
    v_depth: int
    tokens_at: int
    weights_at: int
    layer_stripes: int
    head_at: int
    head_stripes: int
    wte_at: int
    wpe_at: int
    row_stripes: int
    position_stripes: int
    k_at: int
    v_at: int
    kv_layer_stripes: int
    kv_head_stripes: int
    w_bits: int = 8
    w_group: int = 0
    w_n: int = 1
    w_m: int = 1
    w_share: int = 1
    w_position_bits: int = 0
    w_terms: tuple[tuple[str, int], ...] = ()
    w_masks: bool = False
    w_words: tuple[tuple[str, int], ...] = ()
    layer_ends: tuple[int, ...] = ()
    pim: PimConfig | None = None
    pim_channels: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.pim, dict):
            timing = PimTiming(**self.pim["timing"])
            object.__setattr__(self, "pim", PimConfig(**{**self.pim, "timing": timing}))
        object.__setattr__(self, "w_terms", tuple((name, n) for name, n in self.w_terms))
        object.__setattr__(self, "w_words", tuple((name, n) for name, n in self.w_words))
        object.__setattr__(self, "layer_ends", tuple(self.layer_ends))
        if self.layer_ends and len(self.layer_ends) != self.layers:
            raise ValueError(f"layer_ends must be {self.layers} numbers, not {self.layer_ends!r}")
        if self.sparsity not in ("dense", f"{self.w_n}:{self.w_m}"):
            raise ValueError(
                f"an engine of sparsity {self.sparsity} takes weights of that sparsity, not {self.w_n}:{self.w_m}"
            )
        self._check_span()
        for name, n in self.w_terms:
            if not _power_of_two(n):
                raise ValueError(f"terms of {name} must be a power of two, not {n!r}")
        if self.w_words and not self.w_masks:
            raise ValueError("words are left out where headers say which: w_masks")
        if self.w_masks and self.operand_words > 8 * self.lanes:
            raise ValueError(
                f"headers of {self.lanes} lanes say of {8 * self.lanes} words which have weights, "
                f"not of {self.operand_words}"
            )
        for name, least in (
            ("tokens", 1),
            ("lanes", 8),
            ("slots", 2),
            ("w_depth", 4),
            ("k_depth", 4),
            ("v_depth", 4),
        ):
            value = getattr(self, name)
            if value < least or not _power_of_two(value):
                raise ValueError(f"{name} must be a power of two, at least {least}, not {value!r}")
        for name in ("width", "ffn", "head_size"):
            if getattr(self, name) % self.lanes:
                raise ValueError(
                    f"{name} must be a multiple of the {self.lanes} lanes, not {getattr(self, name)!r}"
                )
        if not _power_of_two(self.head_size // self.lanes):
            raise ValueError(
                f"head_size must be a power of two times {self.lanes} lanes, not {self.head_size!r}"
            )
        if self.heads * self.head_size != self.width:
            raise ValueError(
                f"heads * head_size must be width, not {self.heads} * {self.head_size} for {self.width}"
            )
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(
                f"heads must be a multiple of kv_heads, not {self.heads} for {self.kv_heads}"
            )
        if self.chunk % self.tokens or not self.chunk:
            raise ValueError(
                f"chunk must be a multiple of {self.tokens} tokens, not {self.chunk!r}"
            )
        if not _power_of_two(self.stripe_bytes) or self.stripe_bytes < 2 * self.lanes:
            raise ValueError(
                f"ports * port_bytes must be a power of two, at least {2 * self.lanes} bytes, not {self.stripe_bytes}"
            )
        if self.beat_bytes % self.stripe_bytes:
            raise ValueError(
                f"a beat of {self.beat_bytes} bytes must be a whole number of stripes of {self.stripe_bytes} bytes"
            )
        # A reader waits for the last beat of a tile (of a head's keys) while it holds the others.
        window = self.port_shape.window
        held = 0 if self.pim else self.context_beats
        for ring, what, need in (
            ("w", "the longest tile", -(-self.longest_tile // self.stream.row_beats)),
            ("k", "one head's context", held),
            ("v", "one head's context", held),
        ):
            if window[ring] < need:
                raise ValueError(
                    f"{ring}_depth must hold {what}, {need} beats: of {getattr(self, f'{ring}_depth')} beats a reader "
                    f"can hold {window[ring]}"
                )

        if self.pim is not None:
            if self.slots < self.heads:
                raise ValueError(
                    f"slots must hold the {self.heads} heads of a token, not {self.slots!r}"
                )
            self.cache  # noqa: B018 (checks itself)

    def _check_span(self) -> None:
        most = 1 if self.sparsity == "dense" else self.stream.turns
        if not _power_of_two(self.span) or self.span > most:
            raise ValueError(
                f"an engine of sparsity {self.sparsity} takes a power of two of beats at once, at most {most}, "
                f"not {self.span!r}"
            )
        if self.span > 1 and self.w_masks:
            raise ValueError(
                "words of blocks that are left out are not side by side: span must be 1"
            )
        for name in ("width", "ffn"):
            words = getattr(self, name) // self.lanes
            if words % self.span:
                raise ValueError(
                    f"{name} must be a multiple of {self.span} words of {self.lanes} lanes, not {words} of them"
                )

    @property
    def cache(self) -> CacheShape:
        """Where keys and values lie in the channels; only if there are some.

        Raises
        ------
        ValueError
            If there are none, or they do not suit the network.
        """
        if self.pim is None:
            raise ValueError("The core has no PIM channels")
        return CacheShape(
            channel=self.pim,
            channels=self.pim_channels,
            lanes=self.lanes,
            kv_heads=self.kv_heads,
            shared=self.shared,
            head_size=self.head_size,
            context=self.context,
            layers=self.layers,
            chunk=self.chunk,
        )

    @property
    def stream(self) -> WeightStream:
        """Sizes of the weight stream."""
        return WeightStream(
            lanes=self.lanes,
            stripe_bytes=self.stripe_bytes,
            bits=self.w_bits,
            group=self.w_group,
            n=self.w_n,
            m=self.w_m,
            share=self.w_share,
            position_bits=self.w_position_bits,
        )

    def terms(self, matrix: str, layer: int = 0) -> int:
        """Beats of the weight stream for one engine step of a matrix, in a layer if it is of one."""
        return self._of_matrix(self.w_terms, matrix, layer, 1)

    def words(self, matrix: str, layer: int, words: int) -> int:
        """Words of the operand, of so many, that a tile of a matrix has weights of."""
        return self._of_matrix(self.w_words, matrix, layer, words)

    def _of_matrix(
        self, known: tuple[tuple[str, int], ...], matrix: str, layer: int, otherwise: int
    ) -> int:
        found = dict(known)
        return found.get(f"h{layer}.{matrix}", found.get(matrix, otherwise))

    @property
    def operand_words(self) -> int:
        """Most words that a product reduces."""
        return max(self.width_words, self.ffn_words)

    def stream_stripes(self, layers: int) -> int:
        """Stripes of the weight streams of the first layers."""
        return self.layer_ends[layers - 1] if self.layer_ends else layers * self.layer_stripes

    @property
    def longest_tile(self) -> int:
        """Most beats of the weight stream that a tile may take."""
        longest = max(self.width_words, self.ffn_words)
        return max(
            longest,
            *(
                n * (self.ffn_words if name.endswith("fc2") else self.width_words)
                for name, n in self.w_terms
            ),
            1,
        )

    @property
    def side(self) -> SideShape | None:
        """What travels beside the values of the weight stream."""
        stream, planes = self.stream, []
        for name, size, stripes in (
            ("f", stream.factor_bytes, stream.factor_stripes),
            ("i", stream.index_bytes, stream.index_stripes),
        ):
            if size:
                row = max(1, self.span * size // self.stripe_bytes)
                planes.append(SidePlane(name, stripes, row))
        return SideShape(stream.period_rows, tuple(planes)) if planes else None

    @property
    def port_shape(self) -> PortShape:
        """Sizes of a memory port."""
        return PortShape(
            port_bytes=self.port_bytes,
            beat_stripes=self.beat_stripes,
            w_depth=self.w_depth,
            k_depth=self.k_depth,
            v_depth=self.v_depth,
            side=self.side,
            # A write is answered after the reads that wait before it: few ports carry long queues.
            writes=max(16, 128 // self.ports),
            w_ultra=self.ring_style == "ultra",
        )

    @property
    def engine_name(self) -> str:
        """The engine as a user asks for it."""
        pe = f"{self.pe}.{self.encoding}" if self.encoding else self.pe
        pe += "" if self.sparsity == "dense" else f":{self.sparsity}"
        return f"{self.array}:{pe}:{self.tokens}x{self.reduce}x{self.lanes}"

    @property
    def reduce(self) -> int:
        """Inputs that the engine takes of each row in a beat."""
        return self.span * self.lanes

    @property
    def turns(self) -> int:
        """Beats of the engine for one of keys or values, which have all their weights."""
        return 1 if self.sparsity == "dense" else self.stream.turns // self.span

    @property
    def beat_bytes(self) -> int:
        return self.lanes * self.lanes

    @property
    def stripe_bytes(self) -> int:
        return self.ports * self.port_bytes

    @property
    def beat_stripes(self) -> int:
        return self.beat_bytes // self.stripe_bytes

    @property
    def header_tiles(self) -> int:
        """Consecutive tiles whose headers share a beat."""
        return self.lanes // 8

    @property
    def width_words(self) -> int:
        return self.width // self.lanes

    @property
    def ffn_words(self) -> int:
        return self.ffn // self.lanes

    @property
    def head_words(self) -> int:
        return self.head_size // self.lanes

    @property
    def shared(self) -> int:
        """Query heads that share a head of keys and values."""
        return self.heads // self.kv_heads

    @property
    def norm_bytes(self) -> int:
        """Bytes of a channel of a norm: gamma, and beta if there is one."""
        return 4 if self.centred else 2

    @property
    def variant(self) -> dict[str, int | str]:
        """What the names of units say of a network that is not like GPT-2."""
        kinds = {
            "kv": self.kv_heads if self.shared > 1 else 0,
            "rot": int(self.rotary),
            "up": int(self.gated),
        }
        return {name: value for name, value in kinds.items() if value} | (
            {} if self.gate == "gelu" else {"": self.gate}
        )

    @property
    def context_chunks(self) -> int:
        """Words of O positions that cover the context."""
        return -(-self.context // self.lanes)

    @property
    def context_beats(self) -> int:
        """Beats of the keys (or values) of one head at full context."""
        return self.context_chunks * self.head_words

    @property
    def groups(self) -> int:
        """Groups of T tokens in a full pass."""
        return self.chunk // self.tokens

    @property
    def vocabulary_tiles(self) -> int:
        return -(-self.vocabulary // self.lanes)

    # The activation buffer, in words of each bank: norm output, then queries and context, which the hidden
    # activations overlay (neither outlives the attention that precedes the feed-forward part).
    @property
    def norm_base(self) -> int:
        return 0

    @property
    def query_base(self) -> int:
        return self.groups * self.width_words

    @property
    def context_base(self) -> int:
        return 2 * self.groups * self.width_words

    @property
    def hidden_base(self) -> int:
        return self.query_base

    @property
    def activation_depth(self) -> int:
        return self.groups * (self.width_words + max(2 * self.width_words, self.ffn_words))

    def to_dict(self) -> dict[str, Any]:
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.pim is None:
            del found["pim"], found["pim_channels"]
        else:
            found["pim"] = asdict(self.pim)
        return found
