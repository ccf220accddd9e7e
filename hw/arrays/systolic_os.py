"""Output-stationary systolic array: every operand moves to a neighbour only."""

from typing import Any

from hw.arith.adders import Adder
from hw.arith.digits import DIGIT_BITS, DigitEncoder, digit_count
from hw.arith.dot import CarrySaveAccumulate, CarrySaveDot
from hw.arrays.engine import Engine, Resources, accumulator_bits
from hw.unit import Unit

__all__ = ["SystolicOsArray"]

RECODE = ("pe", "row")


class SystolicOsArray(Engine):
    """T x O processing elements with R multipliers each; activations hop right, weights hop down.

    Beats are skewed inside: row t works t cycles after row 0 and output o o cycles after output 0.
    So the results of a column finish one row per cycle, and a tree of registered ORs over the
    column carries them out as they finish; the next tile already accumulates behind them, without a
    second set of accumulators. Columns are aligned again at the output, where whole token rows
    leave.

    With ``opt1`` (HPCA 2025) a PE accumulates in carry-save form; the column carries both rows out
    and one adder per column resolves them. Activations are recoded before they enter (``recode``
    "row", the digits hop) or in every PE ("pe").

    Latency
    -------
    ``outputs + stages + levels + 2``, one more with ``opt1``: the beat's register, the skew of the
    last output, a PE (operands, products, accumulator), the OR tree of ``levels`` over ``merge``
    rows each, the resolving adder.

    Parameters
    ----------
    stages : int
        Registers behind the products of a PE, for synthesis to retime (see
        :class:`hw.arrays.tree.TreeArray`); by default one for the products and one for every two
        levels of adders. With ``opt1`` 0 puts the products into the accumulator's own tree, 1
        registers them as two rows.
    merge : int
        Results that a level of the OR tree merges.
    recode : str
        With ``opt1``: where activations become digits.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "systolic_os"
    pes = ("mac", "opt1")
    template = "arrays/systolic_os.sv.j2"

    def __init__(
        self,
        *,
        tokens: int,
        reduce: int,
        pe: str = "mac",
        stages: int | None = None,
        merge: int = 16,
        recode: str = "pe",
        **common: Any,
    ) -> None:
        if stages is None:
            stages = 1 + ((reduce - 1).bit_length() + 1) // 2 if pe == "mac" else int(reduce > 1)
        least, most = (1, 64) if pe == "mac" else (0, 1)
        if not least <= stages <= most:
            raise ValueError(
                f"stages of {self.array}:{pe} must be {least} to {most}, not {stages!r}"
            )
        if merge < 2:
            raise ValueError(f"merge must be at least 2, not {merge!r}")
        if recode not in RECODE:
            raise ValueError(f"recode must be {' or '.join(RECODE)}, not {recode!r}")
        self.stages, self.merge, self.recode = stages, merge, recode
        self.levels: list[int] = []
        left = tokens
        while left > 1:
            left = -(-left // merge)
            self.levels.append(left)
        key: dict[str, int | str] = {"s": stages, "m": merge}
        if pe != "mac" and recode == "row":
            key["c"] = recode
        super().__init__(tokens=tokens, reduce=reduce, pe=pe, key=key, **common)
        if recode == "row" and self.encoding in ("", "array"):
            raise ValueError(f"recode 'row' needs digits: PE {pe!r} has none")
        self._dot = self._accumulate = self._resolve = self._encoder = None
        if pe == "opt1":
            if recode == "row":
                self._encoder = DigitEncoder(
                    lanes=reduce, bits=self.x_bits, encoding=self.encoding
                )
            self._dot = CarrySaveDot(
                lanes=reduce, x_bits=self.x_bits, w_bits=self.w_bits,
                encoding="digits" if self._encoder else self.encoding,
                width=None if stages else self.acc_bits,
            )  # fmt: skip
            self._resolve = Adder(width=self.acc_bits, style=self.adder)
            if stages:
                self._accumulate = CarrySaveAccumulate(
                    width=self.acc_bits, rows_bits=self._dot.out_bits, bias=self._dot.bias
                )

    @property
    def latency(self) -> int:
        return self.outputs + self.stages + len(self.levels) + 2 + (self.pe == "opt1")

    @property
    def hop_bits(self) -> int:
        """Bits of an activation, or of its digits, as they hop from PE to PE."""
        if self._encoder:
            return digit_count(self.x_bits) * DIGIT_BITS
        return self.x_bits

    def parts(self) -> list[Unit]:
        if self._dot is None or self._resolve is None:
            return []
        pe = [self._dot, *([self._accumulate] if self._accumulate else [])]
        encoders = [self._encoder] * self.tokens if self._encoder else []
        return pe * (self.tokens * self.outputs) + [self._resolve] * self.outputs + encoders

    def resources(self) -> Resources:
        """DSPs as multipliers, or compressors in LUTs; skews in LUTs, up to 32 cycles a bit in each."""
        pes, dot = self.macs // self.reduce, accumulator_bits(self.reduce, self.x_bits, self.w_bits)
        carry_save = self.pe == "opt1"
        words = 2 if carry_save else 1  # of an accumulator
        operands = self.reduce * (self.hop_bits + self.w_bits)
        adders = (self.reduce - 1) * (self.x_bits + self.w_bits + 1)
        if carry_save:  # rows of partial products and their compressors, about a LUT a bit each
            adders = self.reduce * digit_count(self.x_bits) * 2 * (self.w_bits + 1)
        rows = sum(self.levels) + 1  # registers as wide as a row of accumulators

        def skew(lines: int, bits: int) -> int:
            return bits * sum(1 + (n - 1) // 32 for n in range(1, lines))

        waiting = (
            skew(self.tokens, self.reduce * self.hop_bits)
            + skew(self.outputs, self.reduce * self.w_bits)
            + skew(self.outputs, self.acc_bits)
        )
        collected = rows * self.outputs * self.acc_bits * words
        return Resources(
            dsp=0 if carry_save else self.macs,
            lut=pes * (adders + words * (self.acc_bits + self.acc_bits // 2))
            + waiting
            + collected,
            ff=pes * (operands + max(0, self.stages - 1) * dot + words * self.acc_bits)
            + (pes * 2 * dot if carry_save and self.stages else 0)
            + collected
            + self.i.payload.shape().size
            + 3 * self.tokens * (self.tokens // 2 + self.outputs + self.stages + 1),
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        # PEs that share a 32-bit word of operands are written out: aligned selections are fast.
        width = self.reduce * max(self.x_bits, self.w_bits)
        group = next((g for g in (4, 2) if self.outputs % g == 0 and g * width <= 32), 1)
        return (
            super().context()
            | self.dot_context(self.reduce)
            | {
                "stages": self.stages,
                "levels": self.levels,
                "merge": self.merge,
                "group": group,
                "hop_bits": self.hop_bits,
                "dot_unit": self._dot,
                "accumulate_unit": self._accumulate,
                "resolve_unit": self._resolve,
                "encoder_unit": self._encoder,
            }
        )
