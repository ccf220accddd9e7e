# SPDX-License-Identifier: Apache-2.0
"""What a PIM channel consists of."""

from dataclasses import dataclass, field
from typing import Literal

from hw.pim.timing import PRESETS, PimTiming

__all__ = ["BURST_BITS", "PimConfig"]

BURST_BITS = 512
"""One transfer on the data bus of a channel: two cycles of 256 bits."""


@dataclass(frozen=True, kw_only=True)
class PimConfig:
    """Parameters of one channel; derived sizes are properties.

    Attributes
    ----------
    banks, ranks, groups : banks of the channel; ranks; bank groups of a rank.
    rows : of a bank. Timing does not depend on it; simulations take few.
    page_bytes : of a row.
    lanes : products of a bank in one step.
    fmt : ``int8`` with 32-bit sums; ``bf16`` with sums in float32, rounded to nearest in a fixed
        order; ``bf16-block``: aligned to the largest exponent, 24-bit sums.
    dual : a row buffer for the multipliers beside that for reads and writes; if False, both share
        one, and the memory waits while a sequence computes.
    buffers : row buffers for the multipliers, 2 in turns.
    entries : pages in the vector buffer.
    act_group : banks that one GACT opens. It always takes the whole ``faw`` window, so that more
        than four presuppose a supply that can open them.
    prea : one command closes the multipliers' rows of all banks (else bank by bank).
    refresh : ranks one after the other, or all together.
    subarrays : two rows of a bank can be open at once only if their subarrays differ; 0: only one
        and the same row cannot.
    array : ``registers``, behavioural: an activation copies the row into a buffer; ``block_ram``:
        a buffer is the number of the open row, and columns are read on demand.
    share : cycles after which a waiting read or write may open its row before GACT does; 0: never. A
        shorter wait is more bandwidth for them and slower multipliers.
    patience : cycles after which a waiting read or write keeps the next sequence from starting.
    timing : of the commands.
    """

    banks: int = 32
    ranks: int = 2
    groups: int = 4
    rows: int = 64
    page_bytes: int = 1024
    lanes: int = 16
    fmt: Literal["int8", "bf16", "bf16-block"] = "int8"
    dual: bool = True
    buffers: int = 1
    entries: int = 1
    act_group: int = 4
    prea: bool = False
    refresh: Literal["staggered", "together"] = "staggered"
    subarrays: int = 0
    array: Literal["registers", "block_ram"] = "registers"
    share: int = 0
    patience: int = 512
    timing: PimTiming = field(default_factory=lambda: PRESETS["neupims-hbm"])

    def __post_init__(self) -> None:
        def require(holds: bool, text: str) -> None:
            if not holds:
                raise ValueError(text)

        def power(name: str, low: int, high: int) -> None:
            value = getattr(self, name)
            require(
                isinstance(value, int) and low <= value <= high and value & (value - 1) == 0,
                f"{name} must be a power of two from {low} to {high}, not {value!r}",
            )

        power("banks", 2, 64)
        power("ranks", 1, 2)
        power("groups", 1, 8)
        power("rows", 4, 1 << 16)
        power("page_bytes", 128, 4096)
        power("lanes", 4, 32)
        power("entries", 1, 8)
        power("act_group", 1, self.banks // self.ranks)
        require(self.banks >= self.ranks * self.groups,
                f"{self.banks} banks cannot make {self.ranks} ranks of {self.groups} groups")  # fmt: skip
        require(self.fmt in ("int8", "bf16", "bf16-block"),
                f"fmt must be int8, bf16 or bf16-block, not {self.fmt!r}")  # fmt: skip
        require(self.buffers in (1, 2), f"buffers must be 1 or 2, not {self.buffers!r}")
        require(self.dual or self.buffers == 1, "Two buffers in turns need dual row buffers")
        require(self.dual or not self.share, "A share needs dual row buffers")
        require(self.refresh in ("staggered", "together"),
                f"refresh must be staggered or together, not {self.refresh!r}")  # fmt: skip
        require(self.array in ("registers", "block_ram"),
                f"array must be registers or block_ram, not {self.array!r}")  # fmt: skip
        if self.subarrays:
            power("subarrays", 2, self.rows)
        require(self.col_bits <= BURST_BITS,
                f"{self.lanes} lanes of {self.elem_bits} bits exceed {BURST_BITS} bits")  # fmt: skip
        require(self.timing.rl >= self.lanes.bit_length() + 4,
                f"Results of {self.lanes} lanes need rl of {self.lanes.bit_length() + 4} or more, "
                f"not {self.timing.rl}")  # fmt: skip
        require(0 <= self.share < self.patience,
                f"share must be 0 to {self.patience - 1}, not {self.share!r}")  # fmt: skip
        require(1 <= self.patience < 4096, f"patience must be 1 to 4095, not {self.patience!r}")
        require(self.gwrite >= self.bursts + 4,
                f"A page of {self.bursts} bursts cannot be copied in {self.gwrite} cycles")  # fmt: skip
        longest = self.estimate(1, self.group_cycles(self.cols), self.group_cycles(self.cols))
        require(self.slack > longest,
                f"No sequence fits between two refreshes: {self.slack} cycles, "
                f"a tile takes up to {longest}")  # fmt: skip

    @property
    def banks_per_rank(self) -> int:
        return self.banks // self.ranks

    @property
    def banks_per_group(self) -> int:
        return self.banks // (self.ranks * self.groups)

    @property
    def near_shift(self) -> int:
        """Low bits of a row that do not matter to whether two rows can be open at once."""
        return (self.rows // self.subarrays).bit_length() - 1 if self.subarrays else 0

    @property
    def elem_bits(self) -> int:
        """Bits of a number in the array."""
        return 8 if self.fmt == "int8" else 16

    @property
    def col_bits(self) -> int:
        """Bits that a bank's multipliers take in one step."""
        return self.lanes * self.elem_bits

    @property
    def cols(self) -> int:
        """Steps of a page."""
        return self.page_bytes * 8 // self.col_bits

    @property
    def bursts(self) -> int:
        """Transfers of a page."""
        return self.page_bytes * 8 // BURST_BITS

    @property
    def page_elements(self) -> int:
        return self.cols * self.lanes

    @property
    def res_bits(self) -> int:
        """Bits of a bank's result."""
        return 32 if self.fmt == "int8" else 16

    @property
    def res_bursts(self) -> int:
        """Transfers that READRES takes."""
        return -(-self.banks * self.res_bits // BURST_BITS)

    @property
    def gwrite(self) -> int:
        """Cycles that a page takes into the vector buffer."""
        return self.timing.gwrite_column * self.page_bytes * 8 // 256

    def group_cycles(self, k: int) -> int:
        """Cycles for which a composite command of ``k`` steps occupies the multipliers."""
        return self.timing.comp * max(k, self.timing.fill) + self.res_bursts * max(
            self.timing.comp, self.timing.burst
        )

    @property
    def tile_base(self) -> int:
        """Cycles that closing and opening one row in all banks takes at most."""
        t = self.timing
        slots = 1 if self.prea else self.banks
        # Rows that opened last close last: tRAS rarely waits.
        early = max(0, t.ras - t.rcd_pim - self.group_cycles(1) - max(0, slots - self.act_group))
        closing = slots + early + t.rp
        window = max(t.faw, t.rrd_l) * (2 if self.share else 1)
        opening = -(-self.banks_per_rank // self.act_group) * window + self.ranks
        return max(closing + opening + t.rcd_pim + 4, self.gwrite)

    def estimate(self, tiles: int, cycles: int, before: int = 0) -> int:
        """Cycles that a sequence takes at most: what HEADER promises to the refresh arbiter.

        Parameters
        ----------
        tiles : rows that are opened.
        cycles : of the multipliers, :meth:`group_cycles` of each composite.
        before : cycles for which the multipliers may still be busy at the header.
        """
        spread = self.timing.ras if tiles > 1 else 0  # of rows that the header does not name
        return tiles * (self.tile_base + spread) + cycles + before

    @property
    def slack(self) -> int:
        """Cycles between the refreshes of any rank, and so the longest sequence."""
        apart = self.timing.refi // (self.ranks if self.refresh == "staggered" else 1)
        t = self.timing
        return apart - t.rfc - self.banks - t.ras - 2 * t.rp - t.write_end - t.wr - 4

    @property
    def key(self) -> dict[str, int | str]:
        """What names the modules of this channel."""
        return {
            "b": self.banks, "k": self.ranks, "g": self.groups, "r": self.rows,
            "p": self.page_bytes, "l": self.lanes, "f": self.fmt.replace("-", "_") + "_",
            "d": int(self.dual), "n": self.buffers, "e": self.entries, "a": self.act_group,
            "x": int(self.prea), "j": int(self.refresh == "together"), "s": self.subarrays,
            "m": int(self.array == "block_ram"), "w": self.patience, "o": self.share,
            "t": "_" + self.timing.name.replace("-", "_"),
        }  # fmt: skip
