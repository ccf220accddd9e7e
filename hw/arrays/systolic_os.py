# SPDX-License-Identifier: Apache-2.0
"""Output-stationary arrays: every sum stays in its PE, operands move to a neighbour or are broadcast along a row."""

from typing import Any

from hw.arith.digits import digit_count
from hw.arrays.engine import Engine, Resources, accumulator_bits, skew
from hw.dsp.packed_dot import PackedDot
from hw.dsp.packing import best
from hw.unit import Unit

__all__ = ["MatrixArray", "SystolicOsArray"]


class SystolicOsArray(Engine):
    """T x O processing elements with R multipliers each; activations hop right, weights hop down.

    Beats are skewed inside: row t works t cycles after row 0 and output o o cycles after output 0.
    So the results of a column finish one row per cycle, and a tree of registered ORs over the
    column carries them out as they finish; the next tile already accumulates behind them, without a
    second set of accumulators. Columns are aligned again at the output, where whole token rows
    leave.

    With ``dsp_packed`` neighbours that share an activation's register share slices: the products of two outputs (three
    of narrow weights) in each (:class:`hw.dsp.packed_dot.PackedDot`). Chains of slices sum the R products of a PE, so
    element r enters the array late, by its place in its chain; that costs shift registers at the edges only, because
    operands hop as they came. A sum leaves its chain in every beat, so fields never overflow. Made of ``generic``
    multipliers it is ``mac``.

    With ``opt1`` and ``opt2`` (HPCA 2025) a PE accumulates in carry-save form; the column carries the
    whole form out and one adder per column resolves it. Activations are recoded before they enter;
    their digits hop.

    Latency
    -------
    ``ceil(outputs / hop) + stages + levels + 2``: the beat's register, the skew of the last output, a PE
    (operands, products, accumulator), the OR tree of ``levels`` over ``merge`` rows each; then the
    resolving adder.

    Parameters
    ----------
    stages : int
        With ``mac``: registers behind the products of a PE, for synthesis to retime (see
        :class:`hw.arrays.tree.TreeArray`); by default one for the products and one for every two
        levels of adders.
    hop : int
        PEs of a row that share an activation's register, by default 1, with ``dsp_packed`` as many as share a slice, of
        which it is a multiple (or the whole row): a larger number shortens the skew.
    merge : int
        Results that a level of the OR tree merges.
    cut : int
        With the others: levels of carry-save adders between registers; 0: none.

    For the others, the members and the errors see :class:`Engine`.
    """

    array = "systolic_os"
    pes = ("mac", "dsp_packed", "opt1", "opt2")
    template = "arrays/systolic_os.sv.j2"

    def __init__(
        self, *, tokens: int, reduce: int, outputs: int, pe: str = "mac", stages: int | None = None,
        hop: int | None = None, merge: int = 16, cut: int = 3, **common: Any,
    ) -> None:  # fmt: skip
        slices = None
        if pe == "dsp_packed" and common.get("dsp") != "generic":
            packing = best(common.get("w_bits", 8), common.get("x_bits", 8), 1)
            slices = PackedDot(elements=max(1, reduce), packing=packing)
            stages = int(slices.latency)
        together = int(slices.packing.wide.count) if slices else 1
        hop = together if hop is None else hop
        if stages is None:
            stages = 1 + ((reduce - 1).bit_length() + 1) // 2
        if stages < 1:
            raise ValueError(f"stages must be at least 1, not {stages!r}")
        if hop < 1:
            raise ValueError(f"hop must be at least 1, not {hop!r}")
        if merge < 2:
            raise ValueError(f"merge must be at least 2, not {merge!r}")
        if cut < 0:
            raise ValueError(f"cut must be 0 or more, not {cut!r}")
        if hop % together and hop < outputs:
            raise ValueError(
                f"hop must be a multiple of the {together} outputs that share a slice, not {hop!r}"
            )
        self.hop, self.merge = min(hop, outputs), merge
        self.levels: list[int] = []
        left = tokens
        while left > 1:
            left = -(-left // merge)
            self.levels.append(left)
        plain = pe in ("mac", "dsp_packed")
        key: dict[str, int | str] = {"s": stages} if plain else {"c": cut}
        key["m"] = merge
        if self.hop > 1:
            key["h"] = self.hop
        super().__init__(tokens=tokens, reduce=reduce, outputs=outputs, pe=pe, key=key, **common)
        self._parts, self._packed = None, slices
        if not plain:
            self._parts = self.carry_save(reduce, cut=cut, encoders=reduce)
            stages = int(self._parts.element.latency)
        self.stages = stages

    @property
    def phases(self) -> int:
        """Cycles over which a row's outputs are spread."""
        return -(-self.outputs // self.hop)

    @property
    def latency(self) -> int:
        resolve = self._parts.resolve.latency if self._parts else 0
        return self.phases + self.stages + len(self.levels) + 2 + resolve

    @property
    def _pairs(self) -> int:
        """Sets of neighbours in a row that share slices."""
        assert self._packed is not None
        return -(-self.outputs // self._packed.packing.wide.count)

    @property
    def grain(self) -> tuple[int, int] | None:
        if self._packed:  # operands and sums are outside of the parts
            return 1, self._packed.packing.wide.count
        return super().grain

    def parts(self) -> list[Unit]:
        if self._packed:
            return [self._packed] * (self.tokens * self._pairs)
        if self._parts is None:
            return []
        encoders = [self._parts.encoder] * self.tokens if self._parts.encoder else []
        elements = [self._parts.element] * (self.tokens * self.outputs)
        return [*encoders, *elements, *[self._parts.resolve] * self.outputs]

    def resources(self) -> Resources:
        """DSPs as multipliers, or compressors in LUTs; skews in LUTs, up to 32 cycles a bit in each."""
        pes, dot = (
            self.tokens * self.outputs,
            accumulator_bits(self.reduce, self.x_bits, self.w_bits),
        )
        parts = self._parts
        if parts:
            lane_bits, word = parts.lane_bits, parts.element.word_bits
            adders = self.reduce * digit_count(self.x_bits) * 2 * (self.w_bits + 1) + word
            held = 2 * parts.element.dot.out_bits * len(parts.element.words) * self.stages
        else:
            lane_bits, word = self.x_bits, self.acc_bits
            adders = (self.reduce - 1) * (self.x_bits + self.w_bits + 1)
            held = (self.stages - 1) * dot
        hops = self.reduce * (self.w_bits + lane_bits // self.hop)
        waiting = skew(self.tokens, self.reduce * self.x_bits)
        waiting += self.hop * skew(self.phases, self.reduce * self.w_bits + self.acc_bits)
        collected = (sum(self.levels) + 1) * self.outputs * word
        dsp = 0 if parts else self.macs
        if slices := self._packed:
            groups = self.tokens * self._pairs
            dsp = groups * self.reduce
            adders, held = groups * slices.lut // pes, groups * slices.ff // pes
            late = self.tokens * self.x_bits + self.outputs * self.w_bits
            waiting += late * sum(1 + (delay - 1) // 32 for delay in slices.delays if delay)
        return Resources(
            dsp=dsp,
            lut=pes * (adders + word + word // 2) + waiting + collected,
            ff=pes * (hops + held + word)
            + collected
            + self.i.payload.shape().size
            + 3 * self.tokens * (self.tokens // 2 + self.phases + self.stages + 1),
            bram=0,
        )

    def context(self) -> dict[str, Any]:
        # PEs that share a 32-bit word of operands are written out: aligned selections are fast.
        width = self.reduce * max(self.x_bits, self.w_bits)
        together = next((g for g in (4, 2) if self.outputs % g == 0 and g * width <= 32), 1)
        found = super().context() | {
            "stages": self.stages,
            "levels": self.levels,
            "merge": self.merge,
            "together": together,
            "hop": self.hop,
            "phases": self.phases,
            "parts_of": self._parts,
            "packed": self._packed,
            "pairs": self._pairs if self._packed else 0,
        }
        if self.pe == "dsp_packed":
            found["pe"] = "mac"  # the plain body is that of multipliers
        return found if self._parts else found | self.dot_context(self.reduce)


class MatrixArray(SystolicOsArray):
    """T x O processing elements with R multipliers each; activations are broadcast, weights hop down.

    The 2D matrix whose rows share their operand in the same cycle (FlexFlow's kind): no PE holds an
    activation, outputs need no skew, and results leave aligned. Weights still take a cycle from row to
    row: so rows finish one after the other, and the column that collects them needs no second set
    of accumulators.

    Latency
    -------
    ``stages + levels + 3``, then the resolving adder.

    For parameters, members and errors see :class:`SystolicOsArray`.
    """

    array = "matrix"

    def __init__(self, *, outputs: int, **options: Any) -> None:
        super().__init__(outputs=outputs, hop=max(1, outputs), **options)
