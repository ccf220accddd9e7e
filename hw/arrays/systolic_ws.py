"""Weight-stationary systolic array: weights stay in their PEs while rows of activations pass."""

from typing import Any

from hw.arith.adders import Adder
from hw.arith.dot import CarrySaveAccumulate, CarrySaveDot
from hw.arrays.engine import Engine, Resources, accumulator_bits
from hw.unit import Unit

__all__ = ["SystolicWsArray"]


class SystolicWsArray(Engine):
    """R x O processing elements, one multiplier each, that take the rows of a beat one after the other.

    A beat's weights wait where they arrived; the first row takes them along, PE by PE, as it passes. Activations hop
    right, partial sums hop down; below the last PE a memory of T rows adds the beats of a tile. So this array has
    R*O multipliers, and T is how long it keeps a set of weights: with ``tokens >= reduce + outputs - 1`` rows follow
    each other without a gap. With fewer rows the weights of the next beat wait for the last PE.

    With ``opt1`` partial sums hop as two rows without a carry chain, and one adder per column resolves them.

    Latency
    -------
    ``reduce + outputs + stages + 3``, one more with ``opt1``: the beat, the hops, the operands and the products of a
    PE, the memory's operands, its sum.

    Parameters
    ----------
    stages : int
        Registers between the operands of a PE and its partial sum; by default 1 with ``mac`` (0 for ``opt1``: the
        product joins the partial sum in one compressor tree).

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "systolic_ws"
    pes = ("mac", "opt1")
    template = "arrays/systolic_ws.sv.j2"

    def __init__(
        self, *, reduce: int, outputs: int, pe: str = "mac", stages: int | None = None, **common: Any
    ) -> None:
        if stages is None:
            stages = 1 if pe == "mac" else 0
        least, most = (1, 4) if pe == "mac" else (0, 1)
        if not least <= stages <= most:
            raise ValueError(f"stages of {self.array}:{pe} must be {least} to {most}, not {stages!r}")
        self.stages = stages
        super().__init__(reduce=reduce, outputs=outputs, pe=pe, key={"s": stages}, **common)
        self.sum_bits = accumulator_bits(reduce, self.x_bits, self.w_bits)
        self._dot = self._accumulate = self._resolve = None
        if pe == "opt1":
            self._dot = CarrySaveDot(
                lanes=1, x_bits=self.x_bits, w_bits=self.w_bits, encoding=self.encoding,
                width=None if stages else self.sum_bits,
            )  # fmt: skip
            self._resolve = Adder(width=self.sum_bits, style=self.adder)
            if stages:
                self._accumulate = CarrySaveAccumulate(
                    width=self.sum_bits, rows_bits=self._dot.out_bits, bias=self._dot.bias
                )

    @property
    def macs(self) -> int:
        return self.reduce * self.outputs

    @property
    def latency(self) -> int:
        return self.reduce + self.outputs + self.stages + 3 + (self.pe == "opt1")

    @property
    def hold(self) -> int:
        """Cycles for which a beat's weights must wait: until the last PE has them, or sums have been written."""
        return max(self.reduce + self.outputs - 1, 2)

    def beat_cycles(self, rows: int) -> int:
        return max(rows, self.hold)

    def parts(self) -> list[Unit]:
        if self._dot is None or self._resolve is None:
            return []
        pe = [self._dot, *([self._accumulate] if self._accumulate else [])]
        return pe * self.macs + [self._resolve] * self.outputs

    def resources(self) -> Resources:
        """One DSP a multiplier, or compressors in LUTs; skews and the memory of sums in LUTs."""

        def skew(lines: int, bits: int) -> int:
            return bits * sum(1 + (n - 1) // 32 for n in range(1, lines))

        twice = 1 if self.pe == "mac" else 2  # words of a partial sum
        operands = self.x_bits + self.w_bits
        multiplier = 0 if self.pe == "mac" else self.x_bits // 2 * self.w_bits * 2
        memory = -(-self.tokens // 32) * self.outputs * self.acc_bits
        return Resources(
            dsp=self.macs if self.pe == "mac" else 0,
            lut=self.macs * (multiplier + twice * self.sum_bits)
            + skew(self.reduce, self.x_bits)
            + skew(self.outputs, self.sum_bits)
            + 2 * memory
            + self.outputs * (self.acc_bits + (twice - 1) * self.sum_bits),
            ff=self.macs * (operands + self.stages * operands + twice * self.sum_bits)
            + self.i.payload.shape().size
            + self.outputs * (3 * self.acc_bits + 2 * self.sum_bits),
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        width = max(self.x_bits, self.w_bits)
        group = next((g for g in (4, 2) if self.outputs % g == 0 and g * width <= 32), 1)
        return (
            super().context()
            | self.dot_context(1)
            | {
                "stages": self.stages,
                "sum_bits": self.sum_bits,
                "hold": self.hold,
                "group": group,
                "dot_unit": self._dot,
                "accumulate_unit": self._accumulate,
                "resolve_unit": self._resolve,
            }
        )
