# SPDX-License-Identifier: Apache-2.0
"""The engine contract: what every array of multipliers promises to the core around it."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

import numpy as np
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from hw.arith.adders import check_adder
from hw.arith.digits import DIGIT_BITS, DigitEncoder, digit_count
from hw.arith.pe import CarrySavePe, chain_bits
from hw.arith.resolve import Resolve
from hw.arith.saved import SavedAccumulate
from hw.unit import TemplateUnit

__all__ = [
    "DSPS",
    "PE_ENCODINGS",
    "CarrySave",
    "Engine",
    "Resources",
    "accumulator_bits",
    "check_encoding",
    "nearest",
    "side_by_side",
    "skew",
]


@dataclass(frozen=True)
class Resources:
    """An estimate of what a unit occupies on an AMD UltraScale+ device.

    Attributes
    ----------
    dsp : DSP48E2 slices
    lut : LUTs, those that serve as shift registers included
    ff : flip-flops
    bram : block RAMs of 36 kbit
    """

    dsp: int
    lut: int
    ff: int
    bram: int


def accumulator_bits(k: int, x_bits: int = 8, w_bits: int = 8) -> int:
    """Smallest signed width that holds every dot product of ``k`` elements.

    The largest product is ``(-2**(x_bits-1)) * (-2**(w_bits-1)) = 2**(x_bits+w_bits-2)``, and no
    product is smaller than its negative, so ``k * 2**(x_bits+w_bits-2)`` bounds the magnitude of
    the sum and is reached.
    """
    return (k << (x_bits + w_bits - 2)).bit_length() + 1


PE_ENCODINGS: dict[str, tuple[str, ...]] = {
    "mac": (),
    "dsp_packed": (),
    "opt1": ("booth", "array", "csd", "ent"),
    "opt2": ("booth", "csd", "ent"),
    "opt3": ("csd", "ent", "booth"),
    "opt4c": ("csd", "ent", "booth"),
    "opt4e": ("csd", "ent", "booth"),
}
"""Encodings that each processing element can take, the default first. ``array`` is none: a row for each bit."""


DSPS = ("dsp48e2", "generic")
"""What ``dsp_packed`` can be made of."""


def check_encoding(pe: str, encoding: str | None) -> None:
    """Raise ValueError unless the PE can take this encoding, or it is None."""
    known = PE_ENCODINGS[pe]
    if encoding is not None and encoding not in known:
        raise ValueError(
            f"PE {pe!r} takes no encoding {encoding!r} (it takes {', '.join(known) or 'none'})"
        )


def nearest(name: str, names: tuple[str, ...]) -> str:
    """The legal name closest to ``name`` (the first one if none is close)."""
    return (*get_close_matches(name, names, 1, 0.5), *names)[0]


def skew(lines: int, bits: int) -> int:
    """LUTs that delay line n of ``lines`` lines of ``bits`` bits by n cycles; a LUT delays a bit by up to 32."""
    return bits * sum(1 + (n - 1) // 32 for n in range(1, lines))


@dataclass(frozen=True)
class CarrySave:
    """What an array is made of if its PEs are ``opt1`` or ``opt2``.

    Attributes
    ----------
    element : the processing element
    resolve : makes numbers of finished sums
    encoder : recodes the activations before they enter the array; None if they are not recoded
    lane_bits : bits of an activation inside the array
    """

    element: CarrySavePe
    resolve: Resolve
    encoder: DigitEncoder | None
    lane_bits: int

    def after_chain(self, width: int) -> SavedAccumulate:
        """Adds what leaves a chain of elements to an accumulator of ``width`` bits."""
        chain = self.element.words[0]
        return SavedAccumulate(
            width=width, group=chain.group, rows_bits=min(chain.width, width),
            bias=-1 << (chain.width - 1),
        )  # fmt: skip


class Engine(TemplateUnit):
    """Multiplies tiles: activations ``[rows, k]`` by weights ``[k, outputs]``, exact accumulators.

    A tile is a sequence of beats of ``reduce`` elements of k each. ``first`` starts new sums,
    ``last`` ends the tile; a tile of one beat has both. The rows of a finished tile leave one by
    one, while the next tiles compute. Every stall pattern on both streams is legal. ``i.ready`` is
    a register: it depends on neither ``i.valid`` nor ``o.ready`` within a cycle. ``o.valid`` does
    not wait for ``o.ready``.

    Latency
    -------
    The first row of a tile is valid ``latency`` cycles after its last beat was transferred, if
    nothing stalls. In steady state a tile costs ``interval(k, rows)`` cycles. Engines that skip zeros take
    fewer, depending on the activations: exactly ``cycles(x)``, and ``delay(x)`` instead of ``latency``.

    Parameters
    ----------
    tokens, reduce, outputs : int
        T activation rows, R elements of k per beat, O outputs; any positive numbers.
    x_bits, w_bits : int
        Widths of activations and weights, both signed.
    acc_bits : int
        Width of the accumulators, see :func:`accumulator_bits`.
    pe : str
        Processing element, one of ``known_pes()``: ``mac`` multiplies and adds; ``dsp_packed`` makes two or more
        products in a DSP48E2; the others transform the multiplier (HPCA 2025, "Transformation in the Bit-weight
        Dimension of MACs"), ``docs/engines.md`` describes them.
    encoding : str
        How such an element recodes one operand, one of ``PE_ENCODINGS[pe]``.
    adder : str
        The adders that resolve carry-save sums, one of :data:`hw.arith.adders.ADDERS`: ``plain`` for FPGAs and
        synthesisers that choose by themselves.
    dsp : str
        With ``dsp_packed``: what it is made of, one of :data:`DSPS`: slices, or ``generic`` multipliers (``*``),
        which pack nothing.
    group : int
        Bits between the saved carries of such sums, see :class:`hw.arith.saved.Saved`: 1 is the carry-save form of the
        paper, more takes fewer flip-flops and a short carry chain.

    Members
    -------
    i : ``In(stream.Signature(StructLayout(x, w, first, last, rows)))``
        One beat. Element ``x[t*R + r]`` is activation r of row t, ``w[o*R + r]`` weight r of output
        o, the first one in the lowest bits. ``rows`` (1..T) says how many rows are real; it is the
        same in all beats of a tile. Rows from ``rows`` on are ignored, not computed, and do not
        leave.
    o : ``Out(stream.Signature(StructLayout(acc, last)))``
        Rows 0..rows-1 of a tile, O accumulators each, ``last`` with the last one.

    Raises
    ------
    ValueError
        For sizes that are not positive, accumulators narrower than the sum of one beat, an unknown
        PE, or an encoding or adder that it cannot take.
    """

    array: ClassVar[str]
    pes: ClassVar[tuple[str, ...]] = ("mac",)
    sparsities: ClassVar[tuple[str, ...]] = ("dense",)
    in_core: ClassVar[bool] = True
    """A core can be built around it."""

    i: stream.Interface
    o: stream.Interface

    def __init__(
        self,
        *,
        tokens: int,
        reduce: int,
        outputs: int,
        x_bits: int = 8,
        w_bits: int = 8,
        acc_bits: int = 32,
        pe: str = "mac",
        encoding: str | None = None,
        adder: str = "plain",
        dsp: str = "dsp48e2",
        group: int = 4,
        key: dict[str, int | str] | None = None,
        operands: dict[str, int] | None = None,
        row_outputs: int | None = None,
    ) -> None:
        for name, size in {
            "tokens": tokens, "reduce": reduce, "outputs": outputs, "group": group
        }.items():  # fmt: skip
            if size < 1:
                raise ValueError(f"{name} must be at least 1, not {size!r}")
        for name, bits in {"x_bits": x_bits, "w_bits": w_bits}.items():
            if not 2 <= bits <= 16:
                raise ValueError(f"{name} must be 2 to 16 (signed numbers), not {bits!r}")
        if acc_bits < accumulator_bits(reduce, x_bits, w_bits):
            least = accumulator_bits(reduce, x_bits, w_bits)
            raise ValueError(f"acc_bits must be at least {least} for one beat, not {acc_bits!r}")
        if pe not in self.known_pes():
            raise ValueError(
                f"array {self.array!r} has no PE {pe!r} (it has {', '.join(self.known_pes())}); "
                f"use {self.array}:{nearest(pe, self.known_pes())}"
            )
        check_encoding(pe, encoding)
        check_adder(adder)
        if dsp not in DSPS:
            raise ValueError(f"dsp must be one of {', '.join(DSPS)}, not {dsp!r}")
        self.sliced = pe == "dsp_packed" and dsp != "generic"
        encodings = PE_ENCODINGS[pe]
        self.encoding = encoding or (encodings[0] if encodings else "")
        self.adder, self.group, self.dsp = adder, group, dsp
        self.tokens, self.reduce, self.outputs = tokens, reduce, outputs
        self.x_bits, self.w_bits, self.acc_bits = x_bits, w_bits, acc_bits
        self.pe = pe
        self.row_outputs = row_outputs or outputs
        if operands is None:
            operands = {"x": tokens * reduce * x_bits, "w": outputs * reduce * w_bits}
        beat = StructLayout(operands | {"first": 1, "last": 1, "rows": bits_for(tokens)})
        row = StructLayout({"acc": self.row_outputs * acc_bits, "last": 1})
        sizes: dict[str, int | str] = {
            "t": tokens,
            "r": reduce,
            "o": outputs,
            "x": x_bits,
            "w": w_bits,
            "a": acc_bits,
        }
        super().__init__(
            {"i": In(stream.Signature(beat)), "o": Out(stream.Signature(row))},
            sizes
            | ({"p": pe} if pe != "mac" else {})
            | ({"e": self.encoding} if encodings and self.encoding != encodings[0] else {})
            | ({"f": adder} if adder != "plain" else {})
            | ({"g": group} if encodings else {})
            | ({"d": dsp} if pe == "dsp_packed" and not self.sliced else {})
            | (key or {}),
        )

    def carry_save(self, lanes: int, *, cut: int = 0, chain: int = 0, encoders: int) -> CarrySave:
        """The parts of an array whose elements sum ``lanes`` products a cycle.

        Parameters
        ----------
        lanes : products that an element sums
        cut : levels of adders between registers, see :class:`hw.arith.pe.CarrySavePe`
        chain : elements that pass a sum on; 0: each keeps its own, of the accumulators' width
        encoders : activations that an encoder takes side by side
        """
        recoded = self.encoding != "array"
        encoding = "digits" if recoded else "array"
        operands: dict[str, Any] = {"lanes": lanes, "x_bits": self.x_bits, "w_bits": self.w_bits}
        width = chain_bits(chain, encoding=encoding, **operands) if chain else self.acc_bits
        element = CarrySavePe(
            width=width, apart=self.pe == "opt2", encoding=encoding, group=self.group, cut=cut,
            chained=bool(chain), **operands,
        )  # fmt: skip
        resolve = Resolve(
            width=self.acc_bits, words=len(element.words), group=self.group,
            step=2 if element.apart else 0, style=self.adder, stages=2,
        )  # fmt: skip
        if not recoded:
            return CarrySave(element, resolve, None, self.x_bits)
        encoder = DigitEncoder(lanes=encoders, bits=self.x_bits, encoding=self.encoding)
        return CarrySave(element, resolve, encoder, digit_count(self.x_bits) * DIGIT_BITS)

    @classmethod
    def known_pes(cls) -> tuple[str, ...]:
        """The processing elements that the array can have now: ``pes``, and those that a user defined for it."""
        return cls.pes

    @classmethod
    def check_sparsity(cls, pe: str, sparsity: str) -> None:
        """Raise ValueError, with the nearest legal one, unless the array can have this sparsity."""
        if sparsity not in cls.sparsities:
            raise ValueError(
                f"{cls.array}:{pe} has no sparsity {sparsity!r} (it has {', '.join(cls.sparsities)}); "
                f"use {cls.array}:{pe}:{nearest(sparsity, cls.sparsities)}"
            )

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a last beat to the cycle in which the first row is valid."""
        raise NotImplementedError(f"{type(self).__name__} must say its latency")

    def resources(self) -> Resources:
        """Estimate of the occupied resources."""
        raise NotImplementedError(f"{type(self).__name__} must estimate its resources")

    def delay(self, x: np.ndarray) -> int:
        """Like ``latency``, for the tile of ``x`` ``[rows, k]``, if its beats come without a pause.

        They differ only where the cycles of a beat depend on the data.
        """
        return self.latency

    @property
    def grain(self) -> tuple[int, int] | None:
        """Token rows and outputs in whose multiples the text around its parts grows; None: its parts are most of it."""
        return None if self.parts() else (1, 1)

    @property
    def macs(self) -> int:
        """Products per cycle."""
        return self.tokens * self.reduce * self.outputs

    def beats(self, k: int) -> int:
        """Beats of a tile with ``k`` elements (the last beat is padded with zeros)."""
        return -(-k // self.reduce)

    def beat_cycles(self, rows: int) -> int:
        """Cycles from one beat of a tile with ``rows`` rows to the next, if nothing stalls."""
        return 1

    def interval(self, k: int, rows: int) -> int:
        """Cycles from one tile to the next in steady state."""
        return max(self.beats(k) * self.beat_cycles(rows), rows)

    def cycles(self, x: np.ndarray) -> int:
        """Cycles from one tile of ``x`` ``[rows, k]`` to the next in steady state, ``interval`` at most."""
        rows, k = x.shape
        return self.interval(k, rows)

    def golden(self, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Exact sums ``[rows, outputs]`` of ``x`` ``[rows, k]`` and ``w`` ``[k, outputs]``.

        Raises
        ------
        OverflowError
            If a sum does not fit ``acc_bits``.
        """
        acc = x.astype(np.int64) @ w.astype(np.int64)
        limit = 1 << (self.acc_bits - 1)
        if acc.size and (acc.min() < -limit or acc.max() >= limit):
            raise OverflowError(f"k={x.shape[1]} overflows {self.acc_bits} bits of accumulator")
        return acc

    def pack(self, x: np.ndarray, w: np.ndarray) -> list[int]:
        """Payloads of ``i`` for the tile ``x`` ``[rows, k]`` by ``w`` ``[k, outputs]``."""
        rows, k = x.shape
        shape, beats = self.i.payload.shape(), self.beats(k)
        xs = np.zeros((self.tokens, beats * self.reduce), np.int64)
        ws = np.zeros((self.outputs, beats * self.reduce), np.int64)
        xs[:rows, :k], ws[: w.shape[1], :k] = x, w.T
        payloads = []
        for beat in range(beats):
            lanes = slice(beat * self.reduce, (beat + 1) * self.reduce)
            fields = {
                "x": side_by_side(xs[:, lanes], self.x_bits),
                "w": side_by_side(ws[:, lanes], self.w_bits),
                "first": int(beat == 0),
                "last": int(beat == beats - 1),
                "rows": rows,
            }
            payloads.append(sum(value << shape[name].offset for name, value in fields.items()))
        return payloads

    def unpack(self, payload: int) -> tuple[np.ndarray, bool]:
        """Accumulators and ``last`` of a payload of ``o``."""
        bits = self.acc_bits
        lanes = [(payload >> (n * bits)) & ((1 << bits) - 1) for n in range(self.row_outputs)]
        acc = np.array([lane - ((lane >> (bits - 1)) << bits) for lane in lanes], np.int64)
        return acc, bool(payload >> (self.row_outputs * bits))

    def context(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "reduce": self.reduce,
            "outputs": self.outputs,
            "x_bits": self.x_bits,
            "w_bits": self.w_bits,
            "acc_bits": self.acc_bits,
            "rows_bits": bits_for(self.tokens),
            "beat_bits": self.i.payload.shape().size,
            "row_bits": self.o.payload.shape().size,
            "pe": self.pe,
            "group": self.group,
        }

    def dot_context(self, lanes: int) -> dict[str, Any]:
        """What the function ``dot`` of ``parts.sv.j2`` needs to sum ``lanes`` products.

        It reads the operands in words of ``group`` elements (32 bits where it can), gives each word
        a ``part`` of the sum, and adds the parts pairwise: ``halves`` are pairs (additions,
        distance).
        """
        bits = accumulator_bits(lanes, self.x_bits, self.w_bits)
        fits = (g for g in (4, 2) if lanes % g == 0 and g * max(self.x_bits, self.w_bits) <= 32)
        group = next(fits, 1)
        halves, left = [], lanes // group
        while left > 1:
            halves.append((left // 2, left - left // 2))
            left -= left // 2
        return {
            "dot": {
                "lanes": lanes,
                "bits": bits,
                "group": group,
                "words": lanes // group,
                "part": 32 if bits <= 32 else 64,
                "halves": halves,
            }
        }


def side_by_side(values: np.ndarray, bits: int) -> int:
    """Two's-complement values of ``bits`` bits side by side, the first one lowest."""
    fields = values.reshape(-1) & ((1 << bits) - 1)
    if bits == 8:
        return int.from_bytes(fields.astype(np.uint8).tobytes(), "little")
    word = 0
    for n, field in enumerate(fields.tolist()):
        word |= field << (n * bits)
    return word
