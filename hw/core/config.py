"""Integers that shape a core: lanes, buffer sizes, the network's dimensions, where things lie in memory."""

from dataclasses import dataclass, fields

from hw.memory.port import PortShape

__all__ = ["CoreConfig"]


def _power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """Shape of a core and of the network that its program was made for.

    Attributes
    ----------
    array, pe, encoding : names of the engine's array, processing element and encoding ("": its default)
    dsp : what ``dsp_packed`` is made of
    buffer_style : what the activation and residual buffers are made of: ``"block"`` or ``"ultra"`` RAM
    tokens, lanes : T, and R = O (``docs/architecture.md``); powers of two, at least 1 and 8
    width, heads, head_size, ffn, vocabulary, context, layers : of the network
    chunk : most tokens of a pass, a multiple of ``tokens``
    slots : attention items in flight, a power of two
    ports, port_bytes : memory ports
    w_depth, k_depth, v_depth : beats held by each ring, powers of two
    tokens_at, weights_at, layer_stripes, head_at, head_stripes, wte_at, wpe_at, row_stripes, k_at, v_at,
    kv_layer_stripes, kv_head_stripes : the memory map, in stripes
    """

    array: str = "tree"
    pe: str = "mac"
    encoding: str = ""
    dsp: str = "generic"
    buffer_style: str = "block"
    tokens: int
    lanes: int
    width: int
    heads: int
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
    k_at: int
    v_at: int
    kv_layer_stripes: int
    kv_head_stripes: int

    def __post_init__(self) -> None:
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
        for ring, what, need in (
            ("w", "the longest tile", max(self.width_words, self.ffn_words)),
            ("k", "one head's context", self.context_beats),
            ("v", "one head's context", self.context_beats),
        ):
            if window[ring] < need:
                raise ValueError(
                    f"{ring}_depth must hold {what}, {need} beats: of {getattr(self, f'{ring}_depth')} beats a reader "
                    f"can hold {window[ring]}"
                )

    @property
    def port_shape(self) -> PortShape:
        """Sizes of a memory port."""
        return PortShape(
            port_bytes=self.port_bytes,
            beat_stripes=self.beat_stripes,
            w_depth=self.w_depth,
            k_depth=self.k_depth,
            v_depth=self.v_depth,
        )

    @property
    def engine_name(self) -> str:
        """The engine as a user asks for it."""
        pe = f"{self.pe}.{self.encoding}" if self.encoding else self.pe
        return f"{self.array}:{pe}:{self.tokens}x{self.lanes}x{self.lanes}"

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

    def to_dict(self) -> dict[str, int | str]:
        return {f.name: getattr(self, f.name) for f in fields(self)}
