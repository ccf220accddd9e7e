# SPDX-License-Identifier: Apache-2.0
"""Normalisation of rows of the residual stream: LayerNorm, or RMSNorm, which is that without mean and beta."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import stream
from amaranth.lib.data import ArrayLayout, StructLayout
from amaranth.lib.wiring import In, Out, Signature

from hw.sfu.memory import WordMemory
from hw.sfu.tables import RSQRT_TABLE, concatenation
from hw.sfu.tree import radix_4, tree
from hw.unit import TemplateUnit, Unit, place

__all__ = ["InverseRoot", "LayerNorm", "NormLanes", "NormParameters", "NormSums"]


def _kind(centred: bool) -> dict[str, int | str]:
    """What the name of a unit says of a norm without a mean."""
    return {} if centred else {"": "rms"}


class NormSums(TemplateUnit):
    """Exact sums of a row and of its squares, a word per cycle.

    A square is three 8x8 products in logic; the trees have a register behind two additions.

    Latency
    -------
    ``done`` is high, and the sums are valid, ``latency`` cycles after the row's last word. They
    stay until the next row's sums.

    Parameters
    ----------
    width : numbers of a row.
    lanes : numbers of a word.

    Members
    -------
    valid, first, last : ``In(1)``; accompany ``x``, the flags say where a row begins and ends.
    x : ``In``, s16 per lane.
    done : ``Out(1)``; a pulse.
    total, squares : ``Out``; the sums, signed and unsigned. Without a mean there is no ``total``.
    """

    template = "sfu/norm_sums.sv.j2"

    def __init__(self, width: int, lanes: int, centred: bool = True) -> None:
        self.width, self.lanes, self.centred = width, lanes, centred
        self.total_bits = ((width << 15) - 1).bit_length() + 1
        self.squares_bits = (width << 30).bit_length()
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "x": In(ArrayLayout(signed(16), lanes)),
                "done": Out(1),
                **({"total": Out(signed(self.total_bits))} if centred else {}),
                "squares": Out(self.squares_bits),
            },
            {"d": width, "l": lanes} | _kind(centred),
        )

    @property
    def latency(self) -> int:
        """Cycles from a row's last word to its sums."""
        return 4 + radix_4(self.lanes)

    def context(self) -> dict[str, Any]:
        depth = radix_4(self.lanes)
        return {
            "lanes": self.lanes,
            "total_bits": self.total_bits,
            "squares_bits": self.squares_bits,
            "depth": depth,
            "centred": self.centred,
            "sums": tree("s", self.lanes, 16, [2, 2, *[4] * depth]) if self.centred else [],
            "squares": tree("q", self.lanes, 31, [4] * depth),
        }


class InverseRoot(TemplateUnit):
    """``1 / sqrt(d*Q - S*S + epsilon)`` as a 16-bit mantissa and a shift; one row per cycle.

    A guess from a 192-entry table, then one Newton step ``r * (3 - v*r*r) / 2``; the square of
    the guess is a table too. The value is normalised by pairs of bits.

    Latency
    -------
    ``r`` and ``shift`` are valid ``latency`` cycles after ``valid``, ``total_o`` one cycle and
    ``early`` two cycles before them. All but ``early`` stay until the next row's.

    Parameters
    ----------
    width : numbers of a row, ``d``.
    total_bits, squares_bits : widths of the sums.

    Members
    -------
    valid : ``In(1)``; accompanies ``total`` and ``squares``.
    total, squares : ``In``; ``S`` and ``Q``.
    epsilon : ``In(64)``; stable from ``valid`` on.
    early : ``Out(1)``; a pulse.
    total_o : ``Out``; ``S`` of the row.
    r : ``Out(16)``; mantissa.
    shift : ``Out(6)``; by how much ``(d*x - S) * r`` is shifted to have 10 fraction bits, 6 to 37.
    """

    template = "sfu/inverse_root.sv.j2"
    latency = 9

    def __init__(
        self, width: int, total_bits: int, squares_bits: int, centred: bool = True
    ) -> None:
        self.width, self.total_bits, self.squares_bits = width, total_bits, squares_bits
        self.centred = centred
        super().__init__(
            {
                "valid": In(1),
                **({"total": In(signed(total_bits))} if centred else {}),
                "squares": In(squares_bits),
                "epsilon": In(64),
                "early": Out(1),
                **({"total_o": Out(signed(total_bits))} if centred else {}),
                "r": Out(16),
                "shift": Out(6),
            },
            {"d": width, "s": total_bits, "q": squares_bits} | _kind(centred),
        )

    def context(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "total_bits": self.total_bits,
            "squares_bits": self.squares_bits,
            "centred": self.centred,
            "guesses": concatenation(RSQRT_TABLE, 16),
            "guess_squares": concatenation(RSQRT_TABLE**2, 32),
        }


class NormLanes(TemplateUnit):
    """``(d*x - S) * r``, shifted, times gamma plus beta, rounded to 8 bits; a word per cycle.

    Without a mean, ``S`` and beta are left out.

    Latency
    -------
    ``y`` is valid ``latency`` cycles after ``x``. ``r`` and ``shift`` are read one cycle after
    ``x``, ``parameters`` ``parameters_at`` cycles after ``x``.

    Parameters
    ----------
    width : numbers of a row, ``d``.
    lanes : numbers of a word.

    Members
    -------
    valid : ``In(1)``; accompanies ``x`` and ``total``.
    x : ``In``, s16 per lane.
    total : ``In``; ``S``.
    r, shift : ``In(16)``, ``In(6)``; see :class:`InverseRoot`.
    parameters : ``In``; per lane gamma (s16, low) and, with a mean, beta (s16, high).
    gamma_shift : ``In(4)``; stable.
    y : ``Out``, s8 per lane.
    """

    template = "sfu/norm_lanes.sv.j2"
    latency = 8
    parameters_at = 4

    def __init__(self, width: int, lanes: int, centred: bool = True) -> None:
        self.width, self.lanes, self.centred = width, lanes, centred
        self.total_bits = ((width << 15) - 1).bit_length() + 1
        super().__init__(
            {
                "valid": In(1),
                "x": In(ArrayLayout(signed(16), lanes)),
                **({"total": In(signed(self.total_bits))} if centred else {}),
                "r": In(16),
                "shift": In(6),
                "parameters": In(ArrayLayout(32 if centred else 16, lanes)),
                "gamma_shift": In(4),
                "y": Out(ArrayLayout(signed(8), lanes)),
            },
            {"d": width, "l": lanes} | _kind(centred),
        )

    def context(self) -> dict[str, Any]:
        reach = self.width * (0xFFFF if self.centred else 0x8000)  # of what meets the root
        centred_bits = reach.bit_length() + 1
        # |d*x - S| is at most d*sqrt(d-1) standard deviations, and the root is good to 2**-13.
        largest = int(self.width**0.5 * 1024 * (1 + 2**-12)) + 1
        return {
            "width": self.width,
            "lanes": self.lanes,
            "total_bits": self.total_bits,
            "centred": self.centred,
            "centred_bits": centred_bits,
            "cut": 17 if centred_bits > 27 else 0,  # what one DSP48E2 takes beside 17 bits
            "n_bits": largest.bit_length() + 1,
        }


class NormParameters(TemplateUnit):
    """Memory of gammas and betas: beats are cut into words as they come, a word per cycle.

    A transfer ends with the last word of its beat; so the source holds the beat, as the rules of
    streams say, and there is no register as wide as a beat.

    Parameters
    ----------
    words : words of a row.
    lanes : channels of a word.
    beat_words : words of a beat.
    bits : of a channel: 32, or 16 if there is no beta.

    Members
    -------
    i : ``In(stream)`` of ``index`` (of the beat in the row) and ``data``.
    en, chunk : ``In``; read this word.
    word : ``Out``; the cycle after ``en``.
    """

    template = "sfu/norm_parameters.sv.j2"

    def __init__(self, words: int, lanes: int, beat_words: int, bits: int = 32) -> None:
        self.words, self.lanes, self.beat_words, self.bits = words, lanes, beat_words, bits
        self.chunk_bits = max(1, (words - 1).bit_length())
        self.index_bits = max(1, ((words - 1) // beat_words).bit_length())
        self.i_layout = StructLayout({"index": self.index_bits, "data": beat_words * lanes * bits})
        super().__init__(
            {
                "i": In(stream.Signature(self.i_layout)),
                "en": In(1),
                "chunk": In(self.chunk_bits),
                "word": Out(ArrayLayout(bits, lanes)),
            },
            {"w": words, "l": lanes, "b": beat_words} | _kind(bits == 32),
        )

    def context(self) -> dict[str, Any]:
        return {
            "words": self.words,
            "beat_words": self.beat_words,
            "bits": self.lanes * self.bits,
            "chunk_bits": self.chunk_bits,
            "index_bits": self.index_bits,
        }


class LayerNorm(Unit):
    """Normalises rows of the residual buffer to 8 bits (``layernorm``; ``rmsnorm`` if not ``centred``).

    Every row is read once: a statistics pass sums it and keeps a copy, from which it is normalised.
    The passes of successive rows overlap: in steady state a row costs ``width / lanes`` cycles.

    Latency
    -------
    ``done`` comes :meth:`cycles` cycles after the job was accepted, if its parameters were there.
    Otherwise the first row waits for them behind its sums, and the others before they are read.

    Parameters
    ----------
    width : numbers of a row, a multiple of ``lanes``, at most 16384.
    lanes : numbers of a word, at least 2.
    rows_bits : width of a row's index.
    beat_bytes : size of a beat of parameters, a multiple of a word's: of ``4 * lanes``, without a mean of
        ``2 * lanes``.
    centred : whether the mean is subtracted and beta is added.

    Members
    -------
    job : ``In(stream)`` of ``first`` (row of the residual buffer), ``count`` (rows, at least 1) and
        ``to`` (row of the first result). Accepted when the unit is not busy.
    x_en, x_row, x_chunk : ``Out``; read port of the residual buffer.
    x_data : ``In``, s16 per lane; the cycle after ``x_en``.
    constants : ``In``; ``epsilon`` (u64, below 2**56) and ``gamma_shift`` (u4), taken when
        ``valid``.
    param : ``In(stream)`` of ``index`` and ``data``: a beat of gamma s16 (and beta s16) of successive
        channels. A beat is cut into words, so ``ready`` rises with its last word (of the row).
    param_done : ``In(1)``; a pulse with or after the last transfer: the job's constants and
        parameters are in. Those of a job come after the ``done`` of the job before.
    y_valid, y_row, y_chunk, y_data : ``Out``; results, s8 per lane, always accepted.
    done : ``Out(1)``; a pulse in the cycle after the last result.
    busy : ``Out(1)``; from the cycle after the job was accepted to ``done``.

    Raises
    ------
    ValueError
        If a parameter is out of its range.
    """

    def __init__(
        self, width: int, lanes: int, rows_bits: int, beat_bytes: int, centred: bool = True
    ) -> None:
        word_bytes = (4 if centred else 2) * lanes
        if lanes < 2:
            raise ValueError(f"A word needs at least 2 lanes, not {lanes!r}")
        if width < 1 or width % lanes or width > 16384:
            raise ValueError(f"Width must be a multiple of {lanes} up to 16384, not {width!r}")
        if beat_bytes < 1 or beat_bytes % word_bytes:
            raise ValueError(
                f"A beat must be a multiple of {word_bytes} bytes, the parameters of a word, "
                f"not {beat_bytes!r}"
            )
        if rows_bits < 1:
            raise ValueError(f"The index of a row needs at least 1 bit, not {rows_bits!r}")
        self.width, self.lanes = width, lanes
        self.rows_bits, self.beat_bytes, self.centred = rows_bits, beat_bytes, centred
        self.words = width // lanes
        self._sums = NormSums(width, lanes, centred)
        self._root = InverseRoot(width, self._sums.total_bits, self._sums.squares_bits, centred)
        self._lanes = NormLanes(width, lanes, centred)
        self._parameters = NormParameters(
            self.words, lanes, beat_bytes // word_bytes, 8 * word_bytes // lanes
        )
        self.chunk_bits = self._parameters.chunk_bits
        self.job_layout = StructLayout(
            {"first": rows_bits, "count": rows_bits + 1, "to": rows_bits}
        )
        self.param_layout = self._parameters.i_layout
        super().__init__(
            {
                "job": In(stream.Signature(self.job_layout)),
                "x_en": Out(1),
                "x_row": Out(rows_bits),
                "x_chunk": Out(self.chunk_bits),
                "x_data": In(ArrayLayout(signed(16), lanes)),
                "constants": In(
                    Signature({"valid": Out(1), "epsilon": Out(64), "gamma_shift": Out(4)})
                ),
                "param": In(stream.Signature(self.param_layout)),
                "param_done": In(1),
                "y_valid": Out(1),
                "y_row": Out(rows_bits),
                "y_chunk": Out(self.chunk_bits),
                "y_data": Out(ArrayLayout(signed(8), lanes)),
                "done": Out(1),
                "busy": Out(1),
            },
            {"d": width, "l": lanes, "r": rows_bits, "b": beat_bytes} | _kind(centred),
        )

    @property
    def _start(self) -> int:
        """Cycles from the sums of a row to its second pass: the first word meets ``r``."""
        return InverseRoot.latency - 2

    def cycles(self, count: int) -> int:
        """Cycles from the one that accepts a job of ``count`` rows to ``done``."""
        first_pass = count * self.words + 1 + self._sums.latency
        return first_pass + self._start + 1 + NormLanes.latency + self.words

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        sums, root = place(m, "sums", self._sums), place(m, "root", self._root)
        lanes, parameters = place(m, "lanes", self._lanes), place(m, "parameters", self._parameters)
        last_chunk = self.words - 1

        # What the job and its parameters say.
        to = Signal(self.rows_bits)
        last_row = Signal(self.rows_bits)
        epsilon = Signal(64)
        gamma_shift = Signal(4)
        known = Signal()
        with m.If(self.constants.valid):
            m.d.sync += [
                epsilon.eq(self.constants.epsilon),
                gamma_shift.eq(self.constants.gamma_shift),
            ]
        with m.If(self.done):
            m.d.sync += [self.busy.eq(0), known.eq(0)]
        with m.If(self.param_done):
            m.d.sync += known.eq(1)
        m.d.comb += [
            self.job.ready.eq(~self.busy),
            parameters.i.valid.eq(self.param.valid),
            parameters.i.payload.eq(self.param.payload),
            self.param.ready.eq(parameters.i.ready),
        ]

        # First pass: all rows but the first wait for the parameters; so nothing behind overflows.
        reading = Signal()
        row = Signal(self.rows_bits)
        m.d.comb += self.x_en.eq(reading & ((row == 0) | known))
        with m.If(self.job.valid & self.job.ready):
            m.d.sync += [
                self.busy.eq(1),
                reading.eq(1),
                row.eq(0),
                self.x_row.eq(self.job.payload.first),
                self.x_chunk.eq(0),
                to.eq(self.job.payload.to),
                last_row.eq(self.job.payload.count - 1),
            ]
        with m.Elif(self.x_en):
            m.d.sync += self.x_chunk.eq(self.x_chunk + 1)
            with m.If(self.x_chunk == last_chunk):
                m.d.sync += [
                    self.x_chunk.eq(0),
                    self.x_row.eq(self.x_row + 1),
                    row.eq(row + 1),
                    reading.eq(row != last_row),
                ]
        m.d.sync += [
            sums.valid.eq(self.x_en),
            sums.first.eq(self.x_chunk == 0),
            sums.last.eq(self.x_chunk == last_chunk),
        ]
        m.d.comb += sums.x.eq(self.x_data)

        # Sums of the first row may have to wait for epsilon.
        waiting = Signal()
        m.d.comb += [
            root.valid.eq((sums.done | waiting) & known),
            *([root.total.eq(sums.total)] if self.centred else []),
            root.squares.eq(sums.squares),
            root.epsilon.eq(epsilon),
        ]
        m.d.sync += waiting.eq((sums.done | waiting) & ~known)

        # The copy between the passes: as many words as fit between a word's write and its read.
        depth = 1 << (self.words + self._sums.latency + self._start).bit_length()
        copy = place(m, "copy", WordMemory(depth, self.lanes * 16))
        m.d.comb += [copy.w_en.eq(sums.valid), copy.w_data.eq(self.x_data)]
        m.d.sync += [
            copy.w_addr.eq(copy.w_addr + copy.w_en),
            copy.r_addr.eq(copy.r_addr + copy.r_en),
        ]

        # Second pass: starts with each row's `early`; rows are at least `words` cycles apart.
        chunk = Signal(self.chunk_bits)
        result_row = Signal(self.rows_bits)
        m.d.comb += copy.r_en.eq(root.early | (chunk != 0))
        with m.If(copy.r_en):
            m.d.sync += chunk.eq(Mux(chunk == last_chunk, 0, chunk + 1))
            with m.If(chunk == last_chunk):
                m.d.sync += result_row.eq(Mux(result_row == last_row, 0, result_row + 1))
        final = Signal()
        m.d.comb += final.eq((chunk == last_chunk) & (result_row == last_row))
        stages: list[tuple[Any, Any, Any]] = [(copy.r_en, chunk, Cat(result_row, final))]
        for k in range(1 + NormLanes.latency):
            valid = Signal(name=f"valid_{k + 1}")
            at = Signal(self.chunk_bits, name=f"chunk_{k + 1}")
            tag = Signal(self.rows_bits + 1, name=f"row_{k + 1}")
            m.d.sync += [valid.eq(stages[-1][0]), at.eq(stages[-1][1]), tag.eq(stages[-1][2])]
            stages.append((valid, at, tag))
        m.d.comb += [
            lanes.valid.eq(stages[1][0]),
            lanes.x.eq(copy.r_data),
            *([lanes.total.eq(root.total_o)] if self.centred else []),
            lanes.r.eq(root.r),
            lanes.shift.eq(root.shift),
            lanes.gamma_shift.eq(gamma_shift),
            lanes.parameters.eq(parameters.word),
            parameters.en.eq(stages[NormLanes.parameters_at][0]),
            parameters.chunk.eq(stages[NormLanes.parameters_at][1]),
            self.y_data.eq(lanes.y),
            self.y_valid.eq(stages[-1][0]),
            self.y_chunk.eq(stages[-1][1]),
            self.y_row.eq(to + stages[-1][2][: self.rows_bits]),
        ]
        m.d.sync += self.done.eq(self.y_valid & stages[-1][2][-1])
        return m
