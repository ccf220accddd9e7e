# SPDX-License-Identifier: Apache-2.0
"""Chains of DSP48E2 slices that multiply only the weights that are kept (N of every M)."""

import re
from typing import Any

import numpy as np

from hw.arrays.engine import Engine, Resources, accumulator_bits, side_by_side
from hw.dsp.packed_dot import PackedDot
from hw.dsp.packing import Packing, acts, weights
from hw.sparse.select import CANDIDATES, Select
from hw.unit import Unit

__all__ = ["ACCUMULATE", "ChainArray"]

ACCUMULATE = ("lut", "dsp")


class ChainArray(Engine):
    """T x O cells, each with ``taps`` = R * N / M slots: slot by slot a kept weight, and one of M activations.

    Two cells share the slices of their products. With ``share`` 2 these are two outputs that keep the same positions:
    one selection serves both, for one token as for many. With ``share`` 1 every output keeps its own, and two token
    rows share a weight (a selection for each of them).

    A beat carries R activations of each row and, for every output, N weights and their positions in each block of M.
    Where a block keeps more than N weights, it takes several beats with the same activations: a dense matrix runs on
    the same engine in M / N times as many, and N may differ from block to block. A beat in which no output keeps a
    weight is left out: blocks of R by O that are zero cost nothing.

    Latency
    -------
    ``stages + 1``: the chains and the tree behind them, then the accumulator in LUTs, if it is there.

    Parameters
    ----------
    sparsity : str
        ``"N:M"``, M one of 2, 4, 8, 16; or ``"dense"``: no selection.
    share : int
        Outputs that keep the same positions, 1 or 2.
    accumulate : str
        Where sums grow from beat to beat: ``lut``, or ``dsp``: the last slice of a chain, whose fields limit a tile to
        ``longest`` beats.
    split : int
        1, 2 or 4, with ``dsp``: a tile may have so many times O outputs if it keeps as many times fewer weights. OPMODE
        cuts each chain, from tile to tile.
    adjusted : bool
        Weights of a pair are packed offline (:meth:`hw.dsp.packing.Packing.adjusted`), without the pre-adder; then
        none may be the most negative number.

    Members
    -------
    i : ``In(stream.Signature(StructLayout(x, w, index, split, first, last, rows)))``
        ``x`` as of every engine. ``w[o*taps + s]``: weight in slot s of output o; ``index[h*taps + s]``: which of its M
        activations, for the outputs ``share * h`` on. Slot s belongs to block ``s // N``, or, if there is a split,
        ``s % (R / M)``. ``index`` is missing if the engine is dense, ``split`` (bit 0: in two, bit 1: in four) if
        there is none.
    o : ``Out(stream.Signature(StructLayout(acc, last)))``
        ``O * split`` accumulators. A tile that is cut in c parts has outputs ``p * O`` to ``p * O + O - 1`` at the
        accumulators from ``(split - (p + 1) * split / c) * O`` on, see :meth:`place`.

    For the others, and the errors, see :class:`Engine`.
    """

    array = "chain"
    pes = ("dsp_packed",)
    sparsities = ("dense", "1:2", "2:4", "1:4", "4:8", "2:8", "1:8", "8:16", "4:16", "2:16", "1:16")
    template = "arrays/chain.sv.j2"

    def __init__(
        self, *, tokens: int, reduce: int, outputs: int, sparsity: str = "dense", share: int = 2,
        accumulate: str = "lut", split: int = 1, adjusted: bool = False, x_bits: int = 8, w_bits: int = 8,
        pe: str = "dsp_packed", **common: Any,
    ) -> None:  # fmt: skip
        self.check_sparsity(pe, sparsity)
        self.n, self.m = (1, 1) if sparsity == "dense" else map(int, sparsity.split(":"))
        if share not in (1, 2):
            raise ValueError(f"1 or 2 outputs share their positions, not {share!r}")
        if accumulate not in ACCUMULATE:
            raise ValueError(f"accumulate must be lut or dsp, not {accumulate!r}")
        if min(tokens, reduce, outputs) >= 1 and reduce % self.m:
            raise ValueError(
                f"sparsity {sparsity}: reduce must be a multiple of {self.m}, not {reduce}"
            )
        if split not in (1, 2, 4) or (
            split > 1 and (accumulate == "lut" or self.n % split or share == 1)
        ):
            raise ValueError(
                f"split must be 1, or 2 or 4 that divides N, with accumulate dsp and share 2, not {split!r} for "
                f"{sparsity}, accumulate {accumulate}, share {share}"
            )
        if split > 1 and outputs % 2:
            raise ValueError(f"split {split}: outputs must be even, not {outputs}")
        if adjusted and share == 1:
            raise ValueError("weights are adjusted in pairs: share must be 2")
        self.sparsity, self.share, self.accumulate = sparsity, share, accumulate
        self.split, self.adjusted = split, adjusted
        self.taps = reduce // self.m * self.n
        self.groups = -(-outputs // share)
        self.index_bits = self.m.bit_length() - 1
        operands = {"x": tokens * reduce * x_bits, "w": outputs * self.taps * w_bits}
        if self.index_bits:
            operands["index"] = self.groups * self.taps * self.index_bits
        if split > 1:
            operands["split"] = 2
        key: dict[str, int | str] = {"n": self.n, "m": self.m}
        key |= {"h": 1} if share == 1 else {}
        key |= {"c": "dsp"} if accumulate == "dsp" else {}
        key |= ({"split": split} if split > 1 else {}) | ({"adjusted": 1} if adjusted else {})
        super().__init__(
            tokens=tokens, reduce=reduce, outputs=outputs, x_bits=x_bits, w_bits=w_bits, pe=pe,
            operands=operands, row_outputs=outputs * split, key=key, **common,
        )  # fmt: skip
        self.packing = self._packing()
        self._dot = PackedDot(
            elements=self.taps, packing=self.packing, adjusted=adjusted,
            segments=split if accumulate == "dsp" else 0,
        )  # fmt: skip
        self._select = Select(candidates=self.m, bits=x_bits) if self.m > 1 else None
        self.stages = self._dot.latency if self.sliced else 3  # plain registers, to be retimed

    def _packing(self) -> Packing:
        if self.share == 2:
            found = weights(2, self.w_bits, self.x_bits, symmetric=self.adjusted)
        else:
            found = acts(2, self.w_bits, self.x_bits)
        return found

    @classmethod
    def check_sparsity(cls, pe: str, sparsity: str) -> None:
        pair = re.fullmatch(r"(\d+):(\d+)", sparsity)
        if pair and int(pair[1]) > int(pair[2]):
            raise ValueError(
                f"{cls.array}:{pe}:{sparsity} keeps {pair[1]} of {pair[2]} weights: N must be at most M; "
                f"use {cls.array}:{pe}:{pair[2]}:{pair[1]}"
            )
        if pair and int(pair[2]) not in CANDIDATES:
            known = ", ".join(map(str, CANDIDATES))
            raise ValueError(
                f"{cls.array}:{pe}:{sparsity}: M must be one of {known}, not {pair[2]}"
            )
        super().check_sparsity(pe, sparsity)

    @property
    def latency(self) -> int:
        return self.stages + 1

    @property
    def macs(self) -> int:
        return self.tokens * self.taps * self.outputs

    @property
    def longest(self) -> int | None:
        """Beats of a tile at most; None: any number."""
        if self.accumulate == "lut" or not self.sliced:
            return None
        return self.packing.exact // self._dot.taps

    @property
    def _dots(self) -> int:
        """Sets of cells that share their slices."""
        return self.tokens * self.groups if self.share == 2 else -(-self.tokens // 2) * self.groups

    def parts(self) -> list[Unit]:
        if not self.sliced:
            return []
        each = self.taps * (1 if self.share == 2 else 2)
        selects = [self._select] * (self._dots * each) if self._select else []
        return [*[self._dot] * self._dots, *selects]

    def resources(self) -> Resources:
        """Slices, selections, shift registers of operands, the tree, accumulators and the bank."""
        cells = self.tokens * self.outputs
        rows = (self.tokens + 1) * self.row_outputs * self.acc_bits
        grown = cells * self.acc_bits if self.accumulate == "lut" else 0
        if not self.sliced:
            dot = accumulator_bits(self.taps, self.x_bits, self.w_bits)
            adders = (self.taps - 1) * (self.x_bits + self.w_bits + 1)
            return Resources(
                dsp=self.macs,
                lut=cells * adders + grown + rows,
                ff=3 * cells * dot + grown + rows,
                bram=0,
            )
        dot, each = self._dot, 1 if self.share == 2 else 2
        bits = self.tokens * self.m * self.x_bits + self.outputs * self.w_bits
        bits += self.groups * self.index_bits
        short = bits * sum(delay for delay in dot.delays if delay < 3)
        long = bits * sum(1 + (delay - 1) // 32 for delay in dot.delays if delay > 2)
        chosen = self._dots * self.taps * each * self._select.lut if self._select else 0
        return Resources(
            dsp=self._dots * self.taps,
            lut=self._dots * dot.lut + chosen + long + grown + rows,
            ff=self._dots * dot.ff + short + grown + rows,
            bram=0,
        )

    # Tiles of this engine.

    def _slot(self, block: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """Where slot 0..N-1 of a block lies among the taps."""
        return slot * (self.reduce // self.m) + block if self.split > 1 else block * self.n + slot

    def cuts(self, outputs: int) -> int:
        """Parts into which the chains are cut for a tile of so many outputs."""
        cuts = next((c for c in (1, 2, 4) if outputs <= c * self.outputs), None)
        if cuts is None or cuts > self.split:
            raise ValueError(f"a tile has at most {self.row_outputs} outputs, not {outputs}")
        return cuts

    def place(self, output: int, cuts: int) -> int:
        """The accumulator in which an output of a tile leaves whose chains are cut."""
        part, within = divmod(output, self.outputs)
        return (self.split - (part + 1) * self.split // cuts) * self.outputs + within

    def schedule(self, w: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Beats of the weights ``[k, outputs]``: ``(first element of k, values, positions)``.

        Values ``[outputs', taps]`` and positions ``[outputs' / share, taps]``, both filled up with zeros, for all
        outputs that a tile with these cuts has, each with its share of the slots.
        """
        k, given = w.shape
        cuts = self.cuts(given)
        slots, outputs = self.n // cuts if self.split > 1 else self.n, self.outputs * cuts
        groups = -(-outputs // self.share)
        blocks = self.reduce // self.m
        padded = np.zeros((self.beats(k) * self.reduce, groups * self.share), np.int64)
        padded[:k, :given] = w
        found = []
        for beat in range(self.beats(k)):
            of = padded[beat * self.reduce : (beat + 1) * self.reduce]
            of = of.reshape(blocks, self.m, groups, self.share)
            used = (of != 0).any(3)  # [block, position, group]
            rank = used.cumsum(1) - 1
            last = beat == self.beats(k) - 1 and not found  # a tile has one beat at least
            turns = max(last, -(-int(used.sum(1).max()) // slots))
            block, position, group = np.nonzero(used)
            turn, slot = np.divmod(rank[block, position, group], slots)
            for now in range(turns):
                here = turn == now
                b, p, g = block[here], position[here], group[here]
                at = self._slot(b, slot[here])
                values = np.zeros((groups, self.share, self.taps // cuts), np.int64)
                positions = np.zeros((groups, self.taps // cuts), np.int64)
                values[g, :, at] = of[b, p, g]
                positions[g, at] = p
                values = values.reshape(groups * self.share, -1)[:outputs]
                found.append((beat * self.reduce, values, positions))
        return found

    def pack(self, x: np.ndarray, w: np.ndarray) -> list[int]:
        """Payloads of ``i`` for ``x`` ``[rows, k]`` by ``w`` ``[k, outputs]``, which may be of any sparsity.

        Raises
        ------
        ValueError
            If the tile takes more than ``longest`` beats, or weights are not symmetric where they are adjusted.
        """
        rows, k = x.shape
        shape, beats, cuts = self.i.payload.shape(), self.schedule(w), self.cuts(w.shape[1])
        if self.longest is not None and len(beats) > self.longest:
            raise ValueError(
                f"a tile of {len(beats)} beats overflows the fields of a slice: at most {self.longest} "
                f"({self.longest * self._dot.taps} products), or accumulate in LUTs"
            )
        xs = np.zeros((self.tokens, self.beats(k) * self.reduce), np.int64)
        xs[:rows, :k] = x
        payloads = []
        for n, (at, values, positions) in enumerate(beats):
            fields = {
                "x": side_by_side(xs[:, at : at + self.reduce], self.x_bits),
                "w": side_by_side(
                    self._stored(self._by_chain(values, self.outputs, cuts)), self.w_bits
                ),
                "first": int(n == 0),
                "last": int(n == len(beats) - 1),
                "rows": rows,
            }
            if self.index_bits:
                chains = self._by_chain(positions, self.groups, cuts)
                fields["index"] = side_by_side(chains, self.index_bits)
            if self.split > 1:
                fields["split"] = {1: 0, 2: 1, 4: 3}[cuts]
            payloads.append(sum(value << shape[name].offset for name, value in fields.items()))
        return payloads

    def _by_chain(self, numbers: np.ndarray, chains: int, cuts: int) -> np.ndarray:
        """Numbers of all outputs ``[cuts * chains, taps / cuts]`` as chains hold them, part behind part."""
        parts = numbers.reshape(cuts, chains, self.taps // cuts)
        return parts.transpose(1, 0, 2).reshape(chains, self.taps)

    def _stored(self, values: np.ndarray) -> np.ndarray:
        if not self.adjusted:
            return values
        if values.min() < self.packing.wide.low:
            raise ValueError(f"weights that are adjusted must be {self.packing.wide.low} or more")
        pairs = np.zeros((2 * self.groups, self.taps), np.int64)
        pairs[: self.outputs] = values
        stored = self.packing.adjusted(pairs.reshape(self.groups, 2, -1).transpose(0, 2, 1))
        return stored.transpose(0, 2, 1).reshape(2 * self.groups, -1)[: self.outputs]

    def context(self) -> dict[str, Any]:
        return super().context() | self.dot_context(self.taps) | {
            "sliced": self.sliced,
            "stages": self.stages,
            "n": self.n,
            "m": self.m,
            "taps": self.taps,
            "share": self.share,
            "groups": self.groups,
            "index_bits": self.index_bits,
            "split": self.split,
            "row_outputs": self.row_outputs,
            "accumulate": self.accumulate,
            "adjusted": self.adjusted,
            "fields": {name: (field.offset, field.width) for name, field in self.i.payload.shape()},
            "packed": self._dot,
            "select": self._select,
            "delays": self._dot.delays,
        }  # fmt: skip
