# SPDX-License-Identifier: Apache-2.0
"""Digits, columns, products and adders against integers: exhaustive where the space allows it."""

import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.verilog import emit
from hw.arith.adders import ADDERS, Adder
from hw.arith.columns import COMPRESSORS, Columns, stage_heights
from hw.arith.digits import ENCODINGS, DigitEncoder, digit_count, digits, nonzero, nonzero_table
from hw.arith.dot import CarrySaveDot, Multiplier
from hw.arith.saved import SavedAccumulate
from hw.unit import Unit
from sim import verilator
from tests.hw.arith.evaluate import evaluate

SIGNS = [(True, True), (True, False), (False, True), (False, False)]
STYLE = (
    "-Wno-UNUSEDSIGNAL",
    "-Wno-PROCASSINIT",
)  # combinational units have a clock; what yosys writes
PRODUCTS = ("array", *ENCODINGS)


def span(bits: int, signed: bool) -> np.ndarray:
    return np.arange(-(1 << (bits - 1)), 1 << (bits - 1)) if signed else np.arange(1 << bits)


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Lanes ``[n, lanes]`` side by side, as Python integers."""
    fields = values.astype(object) & ((1 << bits) - 1)
    return fields @ np.array([1 << (lane * bits) for lane in range(values.shape[1])], object)


class TestDigits:
    @pytest.mark.parametrize("bits", range(2, 13))
    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_are_the_number(self, bits: int, signed: bool, encoding: str) -> None:
        values = span(bits, signed)
        found = digits(values, bits, signed=signed, encoding=encoding).astype(int)
        assert np.abs(found).max() <= 2
        np.testing.assert_array_equal(found @ 4 ** np.arange(found.shape[1]), values)

    @pytest.mark.parametrize("bits", range(2, 13))
    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_hardware(self, bits: int, signed: bool, encoding: str) -> None:
        values = span(bits, signed)
        unit = DigitEncoder(lanes=1, bits=bits, signed=signed, encoding=encoding)
        code = evaluate(unit, value=values)["code"]
        for i in range(digit_count(bits, signed=signed)):
            one, two, negative = (code >> (3 * i + n) & 1 for n in range(3))
            assert not (one & two).any()
            want = digits(values, bits, signed=signed, encoding=encoding)[:, i]
            np.testing.assert_array_equal((one + 2 * two) * (1 - 2 * negative), want)

    @pytest.mark.parametrize(
        ("encoding", "counts"),  # how many int8 numbers have 0..4 digits, and what the paper states
        [
            ("booth", [1, 12, 54, 108, 81]),
            ("ent", [1, 15, 60, 108, 72]),
            ("csd", [1, 15, 72, 120, 48]),
        ],
    )
    def test_histogram(self, encoding: str, counts: list[int]) -> None:
        assert np.bincount(nonzero(span(8, True), 8, encoding=encoding)).tolist() == counts

    @pytest.mark.parametrize("signed", [True, False])
    def test_csd_is_minimal(self, signed: bool) -> None:
        values = span(8, signed)
        best = nonzero(values, 8, signed=signed, encoding="csd")
        for encoding in ("booth", "ent"):
            assert (best <= nonzero(values, 8, signed=signed, encoding=encoding)).all()

    @pytest.mark.parametrize("bits", [2, 5, 8])
    @pytest.mark.parametrize("signed", [True, False])
    def test_no_radix_4_digits_are_fewer_than_csd(self, bits: int, signed: bool) -> None:
        count = digit_count(bits, signed=signed)
        strings = np.stack(np.meshgrid(*[np.arange(-2, 3)] * count), axis=-1).reshape(-1, count)
        used, fewest = np.count_nonzero(strings, axis=1), {}
        for value, n in zip(strings @ 4 ** np.arange(count), used, strict=True):
            fewest[int(value)] = min(int(n), fewest.get(int(value), count))
        values = span(bits, signed)
        found = nonzero(values, bits, signed=signed, encoding="csd")
        assert found.tolist() == [fewest[int(v)] for v in values]

    @pytest.mark.parametrize("signed", [True, False])
    @pytest.mark.parametrize("encoding", ENCODINGS)
    def test_table_is_by_the_bits(self, signed: bool, encoding: str) -> None:
        table = nonzero_table(7, signed=signed, encoding=encoding)
        for value in span(7, signed):
            want = np.count_nonzero(digits(value, 7, signed=signed, encoding=encoding))
            assert table[value & 127] == want
        assert nonzero_table(7, signed=signed, encoding=encoding) is table
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 1

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="bits must be 2 to 16 bits, not 17"):
            nonzero_table(17)
        with pytest.raises(ValueError, match=r"values -9..3 are outside -8..7 \(4 bits\)"):
            nonzero(np.array([3, -9]), 4)
        with pytest.raises(ValueError, match=r"encoding 'bost' is not known \(known: booth"):
            digits(np.array([1]), 8, encoding="bost")
        with pytest.raises(ValueError, match=r"values 128..128 are outside -128..127 \(8 bits\)"):
            digits(np.array([128]), 8)
        with pytest.raises(ValueError, match="bits must be 2 to 16 bits, not 17"):
            DigitEncoder(lanes=1, bits=17, encoding="csd")


class Compressed(Unit):
    """A profile of columns, compressed; input bit n belongs to column ``places[n]``."""

    def __init__(
        self, places: list[int], width: int, constant: int, rows: int, compressor: str
    ) -> None:
        self.places, self.width, self.constant, self.rows = places, width, constant, rows
        self.compressor = compressor
        super().__init__(
            {"bits": In(len(places)), **{f"row{n}": Out(width) for n in range(rows)}}, {}
        )

    def elaborate(self, platform) -> Module:
        m = Module()
        columns = Columns(self.width)
        for bit, place in zip(self.bits, self.places, strict=True):
            columns.add(bit, place)
        columns.constant(self.constant)
        height, stages = columns.height, columns.stages(self.rows)
        assert stages == len(stage_heights(self.rows, height))
        for n, row in enumerate(columns.reduce(m, self.rows, compressor=self.compressor)):
            m.d.comb += getattr(self, f"row{n}").eq(row)
        return m


class TestColumns:
    @settings(max_examples=25, deadline=None)
    @given(
        places=st.lists(st.integers(0, 9), min_size=1, max_size=60),
        width=st.integers(10, 14),
        constant=st.integers(-5000, 5000),
        rows=st.integers(2, 4),
        compressor=st.sampled_from(COMPRESSORS),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_any_profile(
        self, places: list[int], width: int, constant: int, rows: int, compressor: str, seed: int
    ) -> None:
        bits = np.random.default_rng(seed).integers(0, 2, (64, len(places)))
        bits[0], bits[1] = 0, 1
        unit = Compressed(places, width, constant, rows, compressor)
        found = evaluate(unit, bits=packed(bits, 1))
        want = (bits @ (1 << np.array(places)) + constant) % (1 << width)
        np.testing.assert_array_equal(sum(found.values()) % (1 << width), want)

    def test_heights_are_daddas(self) -> None:
        assert stage_heights(2, 28) == [19, 13, 9, 6, 4, 3, 2]
        assert stage_heights(2, 2) == []
        for height in range(3, 200):
            heights = [height, *stage_heights(2, height)]
            assert all(3 * low // 2 >= high > low for high, low in pairwise(heights))

    def test_a_sign_costs_one_bit(self) -> None:
        columns = Columns(16)
        columns.add(Signal(4), 2, signed=True)
        assert columns.maximum == 15 << 2
        assert columns.take_constant() == -1 << 5
        assert columns.take_constant() == 0


class TestAdders:
    @pytest.mark.parametrize("style", ADDERS)
    @pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 33, 61])
    def test_adds(self, style: str, width: int) -> None:
        if width <= 5:
            a, b = (v.ravel() for v in np.meshgrid(span(width, False), span(width, False)))
        else:
            rng, top = np.random.default_rng(1), (1 << width) - 1
            a, b = rng.integers(0, top, (2, 500), endpoint=True)
            a[:4], b[:4] = [0, top, top, 1], [0, top, 1, top]  # the longest carries
        np.testing.assert_array_equal(
            evaluate(Adder(width=width, style=style), a=a, b=b)["total"], a + b
        )

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match=r"adder 'riple' is not known \(known: plain, ripple"):
            Adder(width=8, style="riple")


class TestMultiplier:
    @pytest.mark.parametrize("encoding", PRODUCTS)
    @pytest.mark.parametrize("signs", SIGNS)
    def test_all_pairs_of_bytes(self, encoding: str, signs: tuple[bool, bool]) -> None:
        x, w = (v.ravel() for v in np.meshgrid(span(8, signs[0]), span(8, signs[1])))
        unit = Multiplier(
            x_bits=8, w_bits=8, x_signed=signs[0], w_signed=signs[1], encoding=encoding, adder="brent_kung"
        )  # fmt: skip
        assert len(x) == 65_536
        np.testing.assert_array_equal(evaluate(unit, x=x, w=w)["product"], (x * w) % (1 << 16))

    @settings(max_examples=15, deadline=None)
    @given(
        x_bits=st.integers(2, 16),
        w_bits=st.integers(2, 16),
        signs=st.sampled_from(SIGNS),
        encoding=st.sampled_from(PRODUCTS),
        adder=st.sampled_from(ADDERS),
        compressor=st.sampled_from(COMPRESSORS),
        seed=st.integers(0, 2**32 - 1),
    )
    def test_any_width(self, x_bits, w_bits, signs, encoding, adder, compressor, seed) -> None:
        rng = np.random.default_rng(seed)
        x, w = (rng.choice(span(b, s), 200) for b, s in zip((x_bits, w_bits), signs, strict=True))
        edges = [
            (span(b, s)[0], span(b, s)[-1]) for b, s in zip((x_bits, w_bits), signs, strict=True)
        ]
        x[:4], w[:4] = np.repeat(edges[0], 2), np.tile(edges[1], 2)
        unit = Multiplier(
            x_bits=x_bits, w_bits=w_bits, x_signed=signs[0], w_signed=signs[1], encoding=encoding, adder=adder,
            compressor=compressor,
        )  # fmt: skip
        want = (x * w) % (1 << (x_bits + w_bits))
        np.testing.assert_array_equal(evaluate(unit, x=x, w=w)["product"], want)

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="x_bits must be 2 to 16 bits, not 1"):
            Multiplier(x_bits=1, w_bits=8)
        with pytest.raises(ValueError, match="encodes by itself"):
            Multiplier(x_bits=8, w_bits=8, encoding="digits")


def lanes_of(seed: int, lanes: int, bits: int, count: int = 200) -> np.ndarray:
    values = np.random.default_rng(seed).integers(
        -(1 << (bits - 1)), 1 << (bits - 1), (count, lanes)
    )
    values[0], values[1], values[2] = -(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0
    return values


class TestCarrySave:
    @pytest.mark.parametrize("encoding", PRODUCTS)
    @pytest.mark.parametrize(
        ("lanes", "x_bits", "w_bits"), [(1, 8, 8), (5, 8, 8), (3, 5, 9), (7, 4, 4), (64, 4, 3)]
    )
    def test_exact_rows(self, encoding: str, lanes: int, x_bits: int, w_bits: int) -> None:
        """They may be extended with zeros: their plain sum and the bias are the number, at every extreme."""
        unit = CarrySaveDot(lanes=lanes, x_bits=x_bits, w_bits=w_bits, encoding=encoding)
        x, w = lanes_of(1, lanes, x_bits), lanes_of(2, lanes, w_bits)
        w[3], x[3] = w[0], x[1]
        found = evaluate(unit, x=packed(x, x_bits), w=packed(w, w_bits))
        np.testing.assert_array_equal(found["s"] + found["c"] + unit.bias, (x * w).sum(1))

    def test_digits_from_outside(self) -> None:
        """One bit weight of recoded operands, as OPT2 adds it."""
        unit = CarrySaveDot(lanes=6, x_bits=8, w_bits=8, encoding="digits", digits=1)
        d = np.random.default_rng(3).integers(-2, 3, (200, 6))
        d[0] = -2
        w = lanes_of(4, 6, 8)
        code = (np.abs(d) == 1) | (np.abs(d) == 2) * 2 | (d < 0) * 4
        found = evaluate(unit, x=packed(code, 3), w=packed(w, 8))
        np.testing.assert_array_equal(found["s"] + found["c"] + unit.bias, (d * w).sum(1))

    @pytest.mark.parametrize("width", [16, 20, 32])
    @pytest.mark.parametrize(
        ("group", "style"), [(1, "ripple"), (3, "ripple"), (4, "ripple"), (64, "sklansky")]
    )
    def test_accumulates_and_wraps(self, width: int, group: int, style: str) -> None:
        """Whatever the form of the sum, and with rows as any products leave them."""
        dot = CarrySaveDot(lanes=1, x_bits=8, w_bits=8)
        unit = SavedAccumulate(
            width=width, group=group, rows_bits=min(dot.out_bits, width), bias=dot.bias, style=style
        )
        rng = np.random.default_rng(8)
        s = rng.integers(0, 1 << dot.out_bits, 300)
        c = rng.integers(0, (1 << dot.out_bits) - s)  # together they fit, see CarrySaveDot
        acc = rng.integers(0, 1 << 62, 300) & ((1 << unit.word.bits) - 1)

        def value(word: np.ndarray) -> np.ndarray:
            total = word & ((1 << width) - 1)
            for n, place in enumerate(unit.word.boundaries):
                total = total + ((word >> (width + n) & 1) << place)
            return total

        for first in (0, 1):
            found = evaluate(unit, s=s, c=c, acc=acc, first=np.full(300, first))["next"]
            want = s + c + dot.bias + (0 if first else value(acc))
            np.testing.assert_array_equal(value(found) % (1 << width), want % (1 << width))

    def test_refuses(self) -> None:
        with pytest.raises(ValueError, match="rows of 20 bits exceed an accumulator of 16"):
            SavedAccumulate(width=16, group=4, rows_bits=20)
        with pytest.raises(ValueError, match="group must be at least 1 bit, not 0"):
            SavedAccumulate(width=16, group=0, rows_bits=8)
        with pytest.raises(ValueError, match="lanes must be at least 1, not 0"):
            CarrySaveDot(lanes=0, x_bits=8, w_bits=8)


def test_lint(tmp_path: Path) -> None:
    units = [
        DigitEncoder(lanes=2, bits=8, encoding="ent"),
        Adder(width=16, style="han_carlson"),
        Multiplier(x_bits=7, w_bits=5, encoding="csd", adder="sklansky"),
        CarrySaveDot(lanes=4, x_bits=8, w_bits=8, cut=2),
        SavedAccumulate(width=32, group=4, rows_bits=17, bias=-5),
    ]
    for unit in units:
        emission = emit(unit)
        for file, text in emission.files.values():
            (tmp_path / file).write_text(text)
        names = [str(tmp_path / file) for file, _ in emission.files.values()]
        lint = subprocess.run(
            ["verilator", "--lint-only", "-Wall", *STYLE, "--top", emission.top, *names],
            env=verilator.environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert lint.returncode == 0 and "%Warning" not in lint.stderr, lint.stderr
