# SPDX-License-Identifier: Apache-2.0
"""Where keys and values of a network lie in PIM channels, and what their products take."""

from dataclasses import dataclass

from hw.pim.config import BURST_BITS, PimConfig

__all__ = ["BURST_BYTES", "RESULTS", "CacheShape"]

BURST_BYTES = BURST_BITS // 8

MOST_ROWS = 256
"""Rows of features that a station holds for the sake of prompts."""

RESULTS = 32
"""Results of READRES that a station holds: those of a sequence while those of the one before leave."""


def _floor_power(value: int) -> int:
    return 1 << value.bit_length() - 1 if value else 0


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """Keys and values in the channels' banks.

    Head ``h`` of keys and values lives in channel ``h % channels``, as head ``h // channels`` there; all channels are
    alike. A layer takes ``key_rows`` rows of every bank, then ``value_rows``.

    - Keys: position p in bank ``p % banks``; a row holds ``key_slots`` positions, all heads of one side by side.
    - Values: feature f in bank ``f % banks``; a row holds ``span`` positions, for each head its ``pieces`` features of
      that bank one after the other.

    Attributes
    ----------
    channel : of each channel; its format is int8.
    channels : a power of two that divides ``kv_heads``.
    lanes : features of a row that the core writes or reads at once.
    kv_heads, shared, head_size, context, layers : of the network; ``shared`` query heads share a head.
    chunk : tokens of a pass.
    """

    channel: PimConfig
    channels: int
    lanes: int
    kv_heads: int
    shared: int
    head_size: int
    context: int
    layers: int
    chunk: int

    def __post_init__(self) -> None:
        c = self.channel

        def require(holds: bool, text: str) -> None:
            if not holds:
                raise ValueError(text)

        require(c.fmt == "int8", f"Keys and values are int8, the channels compute {c.fmt}")
        require(c.dual and c.buffers == 1 and c.prea,
                "Attention needs channels with dual row buffers, one for the multipliers, and PIMPREA")  # fmt: skip
        require(
            c.ranks == 1 or c.refresh == "together",
            "Attention needs channels whose ranks refresh together",
        )
        require(self.channels > 0 and not self.channels & (self.channels - 1) and not self.kv_heads % self.channels,
                f"channels must be a power of two that divides {self.kv_heads} heads, not {self.channels}")  # fmt: skip
        require(not self.head_size % c.lanes,
                f"head size {self.head_size} is not a multiple of the {c.lanes} lanes of a PIM bank")  # fmt: skip
        require(self.shared <= 8,
                f"{self.shared} query heads share keys; a channel's vector buffer holds at most 8 vectors")  # fmt: skip
        token = self.heads_here * self.head_size
        require(token <= c.page_bytes,
                f"keys of a token take {token} bytes of a channel ({self.heads_here} heads of {self.head_size}), "
                f"a row has {c.page_bytes}")  # fmt: skip
        slots = self.heads_here * self.pieces
        require(slots * BURST_BYTES <= c.page_bytes,
                f"values of {self.heads_here} heads of {self.head_size} share rows of {c.banks} banks: "
                f"{slots} features of {BURST_BYTES} positions take {slots * BURST_BYTES} bytes, "
                f"a row has {c.page_bytes}")  # fmt: skip
        require(self.most >= 1, "No product fits between two refreshes")
        entries = self.channel.entries
        require(entries >= self.shared and self.rows <= c.rows,
                f"channels need {self.shared} vectors and {self.rows} rows, "
                f"not {entries} and {c.rows}")  # fmt: skip

    @property
    def heads_here(self) -> int:
        """Heads of keys and values in a channel."""
        return self.kv_heads // self.channels

    @property
    def vectors_here(self) -> int:
        """Query heads of a channel."""
        return self.heads_here * self.shared

    @property
    def head_words(self) -> int:
        """Rows of ``lanes`` features in a head."""
        return self.head_size // self.lanes

    @property
    def rows_depth(self) -> int:
        """Rows of features that wait in a station.

        Those of a pass of one token find room, and of a prompt all rows of a head, up to a block RAM's depth: while one
        channel writes them, the next heads' go to others.
        """
        rows = max(
            4, 2 * self.heads_here * self.head_words, min(MOST_ROWS, self.chunk * self.head_words)
        )
        return 1 << (rows - 1).bit_length()

    @property
    def key_slots(self) -> int:
        """Positions in a row of a bank."""
        most = _floor_power(self.channel.page_bytes // (self.heads_here * self.head_size))
        return min(most, 1 << max(0, (-(-self.context // self.channel.banks) - 1).bit_length()))

    @property
    def tile(self) -> int:
        """Positions in a row of all banks."""
        return self.key_slots * self.channel.banks

    @property
    def pieces(self) -> int:
        """Features of a head in one bank."""
        return -(-self.head_size // self.channel.banks)

    @property
    def span(self) -> int:
        """Positions of values in a row."""
        return _floor_power(self.channel.page_bytes // (self.heads_here * self.pieces))

    @property
    def key_rows(self) -> int:
        return -(-self.context // self.tile)

    @property
    def value_rows(self) -> int:
        return -(-self.context // self.span)

    @property
    def layer_rows(self) -> int:
        """Rows of every bank that a layer takes."""
        return self.key_rows + self.value_rows

    @property
    def rows(self) -> int:
        """Rows of every bank that all layers take."""
        return self.layers * self.layer_rows

    @property
    def bytes(self) -> int:
        """Of all channels."""
        return self.rows * self.channel.banks * self.channel.page_bytes * self.channels

    @property
    def query_bursts(self) -> int:
        """Transfers of the queries of one turn: of each head in a channel one."""
        return -(-self.heads_here * self.head_size // BURST_BYTES)

    @property
    def span_bursts(self) -> int:
        return self.span // BURST_BYTES

    @property
    def vector_words(self) -> int:
        """Bursts of vectors that a station holds: the queries of a token, then its probabilities."""
        weights = self.value_rows * self.vectors_here * self.span_bursts
        return max(weights, self.shared * self.query_bursts)

    @property
    def key_steps(self) -> int:
        """Steps of a product of keys."""
        return self.head_size // self.channel.lanes

    @property
    def longest(self) -> int:
        """Cycles of the longest product."""
        steps = min(self.span, -(-self.context // self.channel.lanes) * self.channel.lanes)
        return self.channel.group_cycles(max(self.key_steps, steps // self.channel.lanes))

    @property
    def promise(self) -> int:
        """Cycles of a sequence beside its products: one row is opened, a product may be under way."""
        return self.channel.estimate(1, 0, self.longest)

    @property
    def most(self) -> int:
        """Products of a sequence: so many fit between two refreshes, and their results into the station."""
        return min(RESULTS // 2, (self.channel.slack - self.promise) // self.longest)

    @property
    def key(self) -> dict[str, int | str]:
        """What names the modules of a station."""
        c = self.channel
        return {
            "b": c.banks, "g": c.page_bytes, "q": c.lanes, "w": self.lanes, "h": self.heads_here,
            "s": self.shared, "d": self.head_size, "c": self.context, "l": self.layers,
            "f": self.rows_depth, "t": "_" + c.timing.name.replace("-", "_"),
        }  # fmt: skip
