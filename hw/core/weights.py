# SPDX-License-Identifier: Apache-2.0
"""The weight stream in numbers: beats, the rows of memory that hold them, and what travels beside them."""

from dataclasses import dataclass

__all__ = ["WeightStream"]


@dataclass(frozen=True, kw_only=True)
class WeightStream:
    """Sizes of a weight stream (``docs/weight_format.md``).

    A **row** is ``lanes * lanes`` bytes: the weights of one engine step if nothing is compressed. A compressed
    **beat** is the values of one engine step, and ``row_beats`` of them fill a row. The indices and factors of
    ``period_beats`` beats come as whole stripes in front of the rows with their values; together they are a
    **period**. Without compression a period is a row, and a row is a beat.

    Parameters
    ----------
    lanes : R = O, a power of two
    stripe_bytes : bytes of a stripe, a power of two
    bits : of a value, 8 or 4; values of 4 bits have factors
    group : inputs that share a factor; a beat has factors of its own, whatever the group
    n, m : values kept of ``m`` inputs; 1, 1: all
    share : outputs that share their indices
    position_bits : of the position of a value among M; 0: a bit for each of M inputs instead

    Raises
    ------
    ValueError
        If a beat cannot have this format.
    """

    lanes: int
    stripe_bytes: int
    bits: int = 8
    group: int = 0
    n: int = 1
    m: int = 1
    share: int = 1
    position_bits: int = 0

    def __post_init__(self) -> None:
        for name in ("lanes", "stripe_bytes", "bits", "n", "m", "share"):
            value = getattr(self, name)
            if value < 1 or value & (value - 1):
                raise ValueError(
                    f"{name} of the weight stream must be a power of two, not {value!r}"
                )
        if self.lanes % self.m:
            raise ValueError(
                f"{self.n}:{self.m} sparsity needs at least {self.m} lanes, there are {self.lanes}"
            )
        if self.row_bytes % self.stripe_bytes:
            raise ValueError(
                f"a beat of {self.row_bytes} bytes must be a whole number of stripes of {self.stripe_bytes} bytes"
            )

    @property
    def compressed(self) -> bool:
        return bool(self.index_bytes or self.factor_bytes)

    @property
    def row_bytes(self) -> int:
        return self.lanes * self.lanes

    @property
    def row_stripes(self) -> int:
        return self.row_bytes // self.stripe_bytes

    @property
    def row_beats(self) -> int:
        """Beats whose values fill a row."""
        return 8 * self.m // (self.bits * self.n)

    @property
    def value_bytes(self) -> int:
        """Values of a beat."""
        return self.row_bytes // self.row_beats

    @property
    def taps(self) -> int:
        """Values of an output in a beat."""
        return self.lanes // self.m * self.n

    @property
    def turns(self) -> int:
        """Beats of ``taps`` values for each output that all its weights take."""
        return self.m // self.n

    @property
    def place_bits(self) -> int:
        """Bits of a position among M."""
        return (self.m - 1).bit_length()

    @property
    def place_count(self) -> int:
        """Positions of a beat: outputs that share them have them once."""
        return self.lanes // self.share * self.taps

    @property
    def index_bits(self) -> int:
        """Bits that say which of M inputs are kept."""
        if self.m == 1:
            return 0
        return self.n * self.position_bits or self.m

    @property
    def index_bytes(self) -> int:
        """Indices of a beat."""
        return self.row_bytes // self.m * self.index_bits // (8 * self.share)

    @property
    def factors(self) -> int:
        """Factors of an output in a beat."""
        return 0 if self.bits == 8 else max(1, self.lanes // self.group)

    @property
    def factor_bytes(self) -> int:
        """Factors of a beat, 4 bits each."""
        return self.lanes * self.factors // 2

    @property
    def beat_bytes(self) -> int:
        """Values, indices and factors of a beat."""
        return self.value_bytes + self.index_bytes + self.factor_bytes

    @property
    def period_beats(self) -> int:
        sides = [b for b in (self.index_bytes, self.factor_bytes) if b]
        return max([self.row_beats, *(self.stripe_bytes // b for b in sides)])

    @property
    def period_rows(self) -> int:
        return self.period_beats // self.row_beats

    @property
    def index_stripes(self) -> int:
        """Stripes of indices in a period."""
        return self.period_beats * self.index_bytes // self.stripe_bytes

    @property
    def factor_stripes(self) -> int:
        """Stripes of factors in a period."""
        return self.period_beats * self.factor_bytes // self.stripe_bytes

    @property
    def side_stripes(self) -> int:
        """Stripes of a period before its values: factors, then indices."""
        return self.factor_stripes + self.index_stripes

    @property
    def period_stripes(self) -> int:
        return self.side_stripes + self.period_rows * self.row_stripes
