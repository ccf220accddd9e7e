# SPDX-License-Identifier: Apache-2.0
"""How weights are stored: their bits, the inputs that share a factor, and which of them are left out.

Whatever the format, a weight that the engine multiplies with is an int8 integer, and the format says
which int8 matrices it can hold without loss (`WeightFormat.check`). With 4 bits an integer is
``w4 * factor``: ``w4`` from -7 to 7, and a factor of 1 to 16 for each output and ``group`` inputs
(progressive group quantisation, Lin et al. 2024, arXiv 2405.04532, section 4.1). With N:M sparsity,
of every M consecutive inputs of an output at most N are not zero; with ``share`` 2 they are the same
ones for outputs ``2 * i`` and ``2 * i + 1``. With block sparsity a matrix is cut into squares, and of each
column of them so many percent are not zero: they alone are stored. ``docs/weight_format.md`` has the bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from designs.errors import DesignError

__all__ = ["BLOCKS", "FACTORS", "GROUPS", "INT8", "SPARSITIES", "WeightFormat", "least_factors"]

FACTORS = 16
"""Factors of 4-bit weights are 1 to this, so that one takes 4 bits too."""

GROUPS = (32, 64, 128)
"""Inputs that may share a factor."""

SPARSITIES = ((2, 4), (1, 4), (2, 8), (4, 8), (8, 16))
"""Weights kept, of how many consecutive inputs."""


BLOCKS = (8, 16, 32, 64, 128)
"""Inputs and outputs of a block of weights that is stored or not."""


@dataclass(frozen=True)
class WeightFormat:
    """The format of a weight matrix.

    Parameters
    ----------
    bits : 8 or 4.
    group : inputs that share a factor, one of `GROUPS`; of 4 bits only, 0 for 8.
    n, m : at most ``n`` of ``m`` consecutive inputs are not zero, one of `SPARSITIES`; 1, 1 if all may be.
    share : outputs whose inputs that are not zero are the same ones, 1 or 2.
    block : inputs, and outputs, of a block, one of `BLOCKS`; 0 if there are none.
    keep : of the blocks of the same outputs at most so many percent, rounded up, are not zero; 100 without blocks.

    Raises
    ------
    DesignError
        If there is no such format.
    """

    bits: int = 8
    group: int = 0
    n: int = 1
    m: int = 1
    share: int = 1
    block: int = 0
    keep: int = 100

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise DesignError(f"weights have 4 or 8 bits, not {self.bits}")
        if self.bits == 4 and self.group not in GROUPS:
            raise DesignError(f"a group must be {_listed(GROUPS)} inputs, not {self.group}")
        if self.bits == 8 and self.group:
            raise DesignError("a group is of int4 weights: int8 weights have no factors")
        if self.n > self.m:
            raise DesignError(
                f"sparsity {self.n}:{self.m} keeps more than there are; N is at most M"
            )
        if (self.n, self.m) not in ((1, 1), *SPARSITIES):
            known = ", ".join(f"{n}:{m}" for n, m in SPARSITIES)
            raise DesignError(f"sparsity {self.n}:{self.m} is not known; known are dense, {known}")
        if self.block not in (0, *BLOCKS):
            raise DesignError(f"a block has {_listed(BLOCKS)} inputs and outputs, not {self.block}")
        if not (1 <= self.keep <= 99 if self.block else self.keep == 100):
            raise DesignError(
                f"of blocks a part of 0.01 to 0.99 is kept, not {self.keep / 100:g}; all of them: dense"
            )
        if self.share not in (1, 2) or (self.share == 2 and not self.sparse):
            raise DesignError(
                f"1 or, if weights are sparse, 2 outputs share their inputs, not {self.share}"
            )

    @classmethod
    def parse(
        cls,
        weights: str = "int8",
        group: int | None = None,
        sparsity: str = "dense",
        share: int | None = None,
    ) -> WeightFormat:
        """What ``--weights``, ``--group``, ``--sparsity`` and ``--share`` ask for.

        Defaults: groups of 64 inputs, and indices for each output.

        Raises
        ------
        DesignError
            If one of them is not known, or they do not go together.
        """
        if weights not in ("int8", "int4"):
            raise DesignError(f'weights are int8 or int4, not "{weights}"')
        bits = int(weights[3:])
        if group is None:
            group = 64 if bits == 4 else 0
        n, m, block, keep = 1, 1, 0, 100
        for part in [] if sparsity == "dense" else sparsity.split("+"):
            if (found := re.fullmatch(r"(\d{1,3}):(\d{1,3})", part)) and m == 1:
                n, m = int(found[1]), int(found[2])
            elif (found := re.fullmatch(r"block(\d{1,3}):(0?\.\d{1,2})", part)) and not block:
                block, keep = int(found[1]), round(100 * float(found[2]))
            else:
                raise DesignError(
                    f'sparsity is dense, or like 2:4, block16:0.5 or 2:4+block16:0.5, not "{sparsity}"'
                )
        return cls(bits, group, n, m, share or 1, block, keep)

    @property
    def sparsity(self) -> str:
        """What ``--sparsity`` takes for this format."""
        parts = [f"{self.n}:{self.m}"] if self.sparse else []
        parts += [f"block{self.block}:{self.keep / 100:g}"] if self.block else []
        return "+".join(parts) or "dense"

    def kept_blocks(self, k: int) -> int:
        """Blocks of the same outputs that are not zero, at most; of ``k`` inputs."""
        return max(1, -(-self.keep * (k // self.block) // 100))

    def kept_inputs(self, k: int) -> int:
        """Inputs of ``k`` that are in blocks which are kept."""
        return self.kept_blocks(k) * self.block if self.block else k

    @property
    def sparse(self) -> bool:
        """Whether weights are left out."""
        return self.n < self.m

    @property
    def limit(self) -> int:
        """The largest magnitude of an integer."""
        return 127 if self.bits == 8 else 7 * FACTORS

    def limit_in(self, stream: WeightFormat) -> int:
        """The largest magnitude of an integer that is stored in the stream of another format.

        A weight of 8 bits takes two of 4 in a stream of these: ``16 * high + low``, each -8 to 7.
        """
        return 119 if self.bits > stream.bits else self.limit

    @property
    def index_bits(self) -> int:
        """Bits that say which of M inputs are kept: positions, or M bits where these are fewer.

        A position takes a power of two of bits, so that no beat's indices straddle a byte.
        """
        if not self.sparse:
            return 0
        return min(self.m, self.n * self.position_bits)

    @property
    def position_bits(self) -> int:
        """Bits of one position: 2 of four inputs, else 4."""
        return 2 if self.m == 4 else 4

    @property
    def by_position(self) -> bool:
        """Whether positions say which inputs are kept, and not one bit for each input."""
        return self.sparse and self.n * self.position_bits <= self.m

    def bits_per_weight(self, lanes: int = 128) -> float:
        """Stored bits per weight of the dense matrix, indices and factors included, headers not.

        Parameters
        ----------
        lanes : of the engine; with fewer than the group a factor is stored more than once.
        """
        factors = 4 / min(self.group, lanes) if self.bits == 4 else 0.0
        each = self.bits * self.n / self.m + self.index_bits / self.m / self.share + factors
        return each * self.keep / 100

    def __str__(self) -> str:
        parts = [f"int{self.bits}"]
        if self.group:
            parts.append(f"g{self.group}")
        if self.sparse:
            parts.append(f"{self.n}:{self.m}" + ("/2" if self.share == 2 else ""))
        if self.block:
            parts.append(f"block{self.block}:{self.keep / 100:g}")
        return " ".join(parts)

    def check_reduction(self, what: str, k: int) -> None:
        """Raise a DesignError if ``k`` inputs are no whole number of groups and of M."""
        if self.group and k % self.group:
            raise DesignError(
                f"{what} has {k} inputs: groups of {self.group} do not divide them; "
                f"{_dividing(k, GROUPS, 'int8')}"
            )
        if k % self.m:
            raise DesignError(
                f"{what} has {k} inputs: {self.n}:{self.m} needs a multiple of {self.m}"
            )
        if self.block and k % self.block:
            raise DesignError(
                f"{what} has {k} inputs: blocks of {self.block} do not divide them; "
                f"{_dividing(k, BLOCKS, 'smaller blocks')}"
            )

    def check(self, what: str, weight: NDArray[np.int8]) -> None:
        """Raise a DesignError, naming the first place, if int8 [k, n] cannot be stored without loss."""
        self.check_reduction(what, weight.shape[0])
        self.check_sparsity(what, weight)
        if self.bits == 4:
            factors = least_factors(weight, self.group)
            if not factors.all():
                at, row = np.argwhere(factors.T == 0)[0][::-1]
                raise DesignError(
                    f"{what}: row {row}, inputs {at * self.group} to {(at + 1) * self.group - 1} "
                    f"are not -7 to 7 times one factor of 1 to {FACTORS}"
                )

    def check_sparsity(self, what: str, weight: NDArray[np.generic]) -> None:
        """Raise a DesignError, naming the place, if more weights or blocks are not zero than the format keeps."""
        if self.block:
            self._check_blocks(what, weight)
        if not self.sparse:
            return
        blocks = self.used(weight).reshape(-1, self.m, weight.shape[1]).sum(axis=1)
        over = blocks > self.n
        if over.any():
            row, block = np.argwhere(over.T)[0]
            rows = f"rows {row} and {row + 1} together" if self.share == 2 else f"row {row}"
            raise DesignError(
                f"{what} is not {self.n}:{self.m}: {rows}, block {block} (inputs {block * self.m} to "
                f"{block * self.m + self.m - 1}), have {blocks[block, row]} weights that are not zero"
            )

    def _check_blocks(self, what: str, weight: NDArray[np.generic]) -> None:
        counts = (self.of_blocks(weight != 0) > 0).sum(axis=0)
        most = self.kept_blocks(weight.shape[0])
        if (counts > most).any():
            column = int(np.argmax(counts > most))
            raise DesignError(
                f"{what} is not block{self.block}:{self.keep / 100:g}: rows {column * self.block} to "
                f"{(column + 1) * self.block - 1} have {counts[column]} blocks that are not zero, of which "
                f"{most} are kept"
            )

    def of_blocks(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Sums of [k, n] over blocks, float [k / block, n / block rounded up]."""
        k, n = values.shape
        columns = -(-n // self.block)
        padded = np.zeros((k, columns * self.block))
        padded[:, :n] = values
        return padded.reshape(k // self.block, self.block, columns, self.block).sum(axis=(1, 3))

    def in_blocks(self, kept: NDArray[np.bool_], n: int) -> NDArray[np.bool_]:
        """Which weights are in blocks that are kept: bool [k / block, columns] as [k, n]."""
        return kept.repeat(self.block, axis=0).repeat(self.block, axis=1)[:, :n]

    def used(self, weight: NDArray[np.generic]) -> NDArray[np.bool_]:
        """Which inputs an output, or one that it shares them with, uses; bool [k, n]."""
        return self.shared(weight != 0) > 0

    def shared(self, values: NDArray[np.generic]) -> NDArray[np.float64]:
        """Sums over the outputs that share their inputs, for each of them; float [k, n]."""
        if self.share == 1:
            return values.astype(np.float64)
        k, n = values.shape
        padded = np.zeros((k, n + n % 2))
        padded[:, :n] = values
        return padded.reshape(k, -1, 2).sum(axis=2).repeat(2, axis=1)[:, :n]


INT8 = WeightFormat()
"""Every weight, 8 bits."""


def least_factors(weight: NDArray[np.int8], group: int) -> NDArray[np.uint8]:
    """The least factor of each group of inputs of each output; 0 where there is none.

    Parameters
    ----------
    weight : int8 [k, n].
    group : inputs of a group, must divide k.

    Returns
    -------
    uint8 [k / group, n] : 1 to `FACTORS`, or 0.
    """
    k, n = weight.shape
    possible = _POSSIBLE[np.abs(weight.astype(np.int16))].reshape(k // group, group, n)
    common = np.bitwise_and.reduce(possible, axis=1)
    least = common & -common.astype(np.int32)  # the lowest bit that is set
    return np.frexp(least.astype(np.float32))[1].astype(np.uint8)


def _possible() -> NDArray[np.uint16]:
    """For each magnitude the factors it can have; bit i stands for factor i + 1."""
    size, factor = np.arange(129)[:, None], np.arange(1, FACTORS + 1)
    able = (size % factor == 0) & (size <= 7 * factor)
    return (able << np.arange(FACTORS)).sum(axis=1).astype(np.uint16)


_POSSIBLE = _possible()


def _dividing(k: int, sizes: tuple[int, ...], otherwise: str) -> str:
    able = [str(size) for size in sizes if k % size == 0]
    return f"use {' or '.join(able)}" if able else f"use {otherwise}"


def _listed(sizes: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, sizes[:-1]))} or {sizes[-1]}"
