# SPDX-License-Identifier: Apache-2.0
"""Sparse chains: products of a slice and cycle, utilisation with fill and drain, LUTs of a slice.

``python -m benchmarks.sparse_chain [N:M ...] [--k K] [--taps N] [--no-synth]``

256 slices, and 4-bit weights that accumulate in them, in chains of 8: 32 chains (64 outputs). Where a quarter of the
weights is kept, chains of 8 take K = 4096 in 128 beats, of which their fill and drain are too large a part: there are
64 chains of 4 then, ``--taps 8`` shows the others. The figures beside ours are of prototypes of 16 chains of 8.
Utilisation is that of one tile alone, and of 8 tiles one after the other, fill and drain included. Cycles are those of
the compiled RTL, every row compared with numpy. LUTs are yosys's (synth_xilinx, xcup), of the chains alone (weights and
positions arrive skewed; windows of activations are delayed inside) and of the whole engine, in which operands wait in
shift registers and rows leave through a bank. Nothing is placed or timed.

The second table is of decoding: the slices that take weights as fast as a memory of 460 GB/s delivers them, at 300 MHz
and for one token, with the bytes of the weight stream (int4 in groups of 64, pairs of outputs share positions) and the
engine of a core (8-bit weights, sums in LUTs), whose RTL runs with exactly so many slices. Beside it FlightLLM, by its
artifact's configuration: 12 bits for a kept weight, half a product a slice and cycle in its matrix-vector mode.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.lib.wiring import In, Out

from benchmarks.engine_run import build_engine, run_engine
from benchmarks.slices import Mapped, map_unit
from designs.weight_format import WeightFormat
from generators.weight_stream import stream_shape
from hw.arrays import make_engine
from hw.arrays.chain import ChainArray
from hw.dsp.packed_dot import PackedDot
from hw.sparse.select import Select
from hw.unit import TemplateUnit, Unit

__all__ = ["SkewedChains", "main", "sparse_weights"]

SLICES, TAPS, TILES = 256, 8, 8
PROTOTYPE = {  # LUTs of a slice: measured before, with inferred selections where marked *
    "dense": "0", "1:2": "8", "2:4": "8", "1:4": "8", "4:8": "16", "2:8": "32*", "1:8": "24*", "8:16": "40*",
}  # fmt: skip
GATES = {"dense": 1.0, "2:4": 9.0, "1:4": 9.0, "2:8": 17.0}
"""LUTs of a slice at most."""
BUSY = 0.95
"""Of the cycles of a tile alone, at least."""
MEMORY, CLOCK, LANES = 460e9, 300e6, 64
"""Of u280: bytes a second. Assumed: cycles a second. Inputs of a beat of the engine that decodes."""
SATURATE = {"2:4": 1300}
"""Slices that take as much at most."""
STREAMS = ("2:4", "1:4", "2:8")
"""Sparsities whose engine takes the positions of a stream as they are."""
FLIGHTLLM_BITS, FLIGHTLLM_PRODUCTS = 12, 0.5


class SkewedChains(TemplateUnit):
    """Chains alone: what their slices, selections and delayed windows take, with operands that arrive skewed."""

    def __init__(self, engine: ChainArray) -> None:
        self.engine = engine
        self._dot = PackedDot(
            elements=engine.taps, packing=engine.packing, adjusted=True, segments=1
        )
        self._select = Select(candidates=engine.m, bits=8) if engine.m > 1 else None
        groups, taps = engine.groups, engine.taps
        ports = {
            "run": In(1),
            "x": In(8 * engine.reduce),
            "w": In(groups * 2 * taps * engine.w_bits),
            "first": In(taps),
            "valid": In(taps),
            "sums": Out(groups * len(self._dot.sums)),
        }
        if engine.index_bits:
            ports["index"] = In(groups * taps * engine.index_bits)
        super().__init__(ports, {"n": engine.n, "m": engine.m})

    def parts(self) -> list[Unit]:
        selects = [self._select] * (self.engine.groups * self.engine.taps) if self._select else []
        return [*[self._dot] * self.engine.groups, *selects]

    def render(self) -> str:
        e, out = self.engine, len(self._dot.sums)
        ports = ", ".join(
            f"{'input' if inward else 'output'} wire [{len(value) - 1}:0] {name}"
            for name, value, inward in self.ports()
        )
        lines = [f"module {self.module_name} (input wire clk, input wire rst, {ports});"]
        for tap, delay in enumerate(self._dot.delays):
            bits = 8 * e.m
            source = f"x[{tap // e.n * bits} +: {bits}]"
            lines.append(f"wire [{bits - 1}:0] window_{tap};")
            if delay:
                lines += [
                    f"reg [{delay * bits - 1}:0] line_{tap};",
                    f"always @(posedge clk) if (run) line_{tap} <= {{line_{tap}, {source}}};",
                    f"assign window_{tap} = line_{tap}[{(delay - 1) * bits} +: {bits}];",
                ]
            else:
                lines.append(f"assign window_{tap} = {source};")
        for group in range(e.groups):
            lines.append(f"wire [{8 * e.taps - 1}:0] chosen_{group};")
            for tap in range(e.taps):
                y, at = f"chosen_{group}[{8 * tap} +: 8]", group * e.taps + tap
                if self._select:
                    index = f"index[{at * e.index_bits} +: {e.index_bits}]"
                    lines.append(
                        f"{self._select.module_name} select_{group}_{tap} "
                        f"(.clk(clk), .rst(rst), .index({index}), .x(window_{tap}), .y({y}));"
                    )
                else:
                    lines.append(f"assign {y} = window_{tap};")
            wide = 2 * e.taps * e.w_bits
            lines.append(
                f"{self._dot.module_name} dot_{group} (.clk(clk), .rst(rst), .run(run), .first(first), .valid(valid), "
                f".wide(w[{group * wide} +: {wide}]), .narrow(chosen_{group}), .sums(sums[{group * out} +: {out}]));"
            )
        return "\n".join([*lines, "endmodule\n"])


@dataclass(frozen=True)
class Row:
    """Figures of one sparsity."""

    sparsity: str
    taps: int
    real: float
    equivalent: float
    alone: float
    utilisation: float
    chains: Mapped | None
    whole: Mapped | None


def sparse_weights(engine: ChainArray, k: int, rng: np.random.Generator, least: int) -> np.ndarray:
    """Weights ``[k, outputs]`` of which every group of outputs keeps N of every M."""
    half = 1 << (engine.w_bits - 1)
    blocks = -(-k // engine.m)
    order = rng.random((blocks, engine.m, engine.groups)).argsort(1).argsort(1)
    kept = (order < engine.n).reshape(-1, engine.groups).repeat(engine.share, 1)
    return rng.integers(least, half, (k, engine.outputs)) * kept[:k, : engine.outputs]


def _kept(sparsity: str) -> tuple[int, int]:
    """N and M."""
    n, m = (1, 1) if sparsity == "dense" else map(int, sparsity.split(":"))
    return n, m


def engine_of(sparsity: str, taps: int | None = None, **options: Any) -> ChainArray:
    """The engine of the prototypes: as many elements a beat as fill the taps of a chain."""
    n, m = _kept(sparsity)
    taps = taps or (TAPS // 2 if m >= 4 * n else TAPS)
    found = make_engine(
        "chain", "dsp_packed", sparsity, tokens=1, reduce=taps * m // n, outputs=2 * SLICES // taps,
        w_bits=4, accumulate="dsp", adjusted=True, **options,
    )  # fmt: skip
    assert isinstance(found, ChainArray)
    return found


@dataclass(frozen=True)
class Decode:
    """An engine of one token row that takes weights as fast as memory delivers them.

    Attributes
    ----------
    bits : of the stream for a weight, those that are not kept included
    needed : slices that take `MEMORY` at `CLOCK`, by what a slice was measured to do
    shape, slices : of the engine, whose chains come in whole pairs of outputs
    rate : bytes a second that it takes, by its RTL
    """

    bits: float
    needed: float
    shape: str
    slices: int
    rate: float


def decode(sparsity: str) -> Decode:
    """Build the smallest engine that saturates the memory, and run its RTL."""
    form = WeightFormat.parse("int4", 64, sparsity, 2)
    stream = stream_shape(form, lanes=LANES, stripe_bytes=32 * LANES)
    bits = 8 * stream.beat_bytes / LANES**2
    wanted = MEMORY / CLOCK * 8 / bits  # weights a cycle
    outputs = -(-wanted // (2 * LANES)) * 2
    engine = make_engine(
        "chain", "dsp_packed", sparsity, tokens=1, reduce=LANES, outputs=int(outputs)
    )
    assert isinstance(engine, ChainArray)
    slices, rng, k = engine.resources().dsp, np.random.default_rng(2), 1024
    # Products of 4-bit weights and their factors, as the decoder gives them.
    tiles = [
        (rng.integers(-128, 128, (1, k)), sparse_weights(engine, k, rng, -112) // 16 * 16)
        for _ in range(4)
    ]
    with tempfile.TemporaryDirectory(prefix="hwgen-chain-") as name:
        build_engine(engine, Path(name))
        one = run_engine(engine, tiles[:1], Path(name), cycles=100_000, once=True)
        many = run_engine(engine, tiles, Path(name), cycles=100_000, once=True)
    a_cycle = (many.taken - one.taken) / (many.cycles - one.cycles) * LANES * engine.outputs
    return Decode(
        bits=bits,
        needed=wanted / (a_cycle / slices),
        shape=f"1x{LANES}x{engine.outputs}",
        slices=slices,
        rate=a_cycle * bits / 8 * CLOCK,
    )


def measure(sparsity: str, k: int, synth: bool, taps: int | None = None) -> Row:
    engine, rng = engine_of(sparsity, taps), np.random.default_rng(1)
    dsp = engine.resources().dsp
    tiles = [
        (rng.integers(-128, 128, (1, k)), sparse_weights(engine, k, rng, -7)) for _ in range(TILES)
    ]
    with tempfile.TemporaryDirectory(prefix="hwgen-chain-") as name:
        build_engine(engine, Path(name))
        # One tile, with fill and drain; and many tiles, of which all but the first are steady.
        one = run_engine(engine, tiles[:1], Path(name), cycles=100_000, once=True)
        many = run_engine(engine, tiles, Path(name), cycles=100_000, once=True)
    steady = engine.macs * (many.taken - one.taken) / (many.cycles - one.cycles) / dsp
    return Row(
        sparsity=sparsity,
        taps=engine.taps,
        real=steady,
        equivalent=steady * engine.m / engine.n,
        alone=engine.beats(k) / one.cycles,
        utilisation=TILES * engine.beats(k) / many.cycles,
        chains=map_unit(SkewedChains(engine)) if synth else None,
        whole=map_unit(engine) if synth else None,
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 if a gate is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sparse_chain")
    parser.add_argument("sparsities", nargs="*", default=["dense", "2:4", "1:4", "4:8", "2:8"])
    parser.add_argument("--k", type=int, default=4096, help="elements of a tile's reduction")
    parser.add_argument("--taps", type=int, help="slices of a chain.  [default: 8, or 4]")
    parser.add_argument("--no-synth", dest="synth", action="store_false")
    options = parser.parse_args(arguments)
    print(f"{SLICES} DSP48E2, W4A8, pairs of outputs share positions, K={options.k}")
    print(
        f"{'':18}{'products a slice and cycle':^28}{'utilisation, 1 and 8 tiles':^28}{'LUT a slice (yosys, xcup)':^40}"
    )
    print(f"{'N:M':8}{'chains':10}{'real':>9}{'dense-equivalent':>18} {'1 tile':>13}{'product':>13}"
          f"{'chains':>12}{'prototype':>11}{'at most':>9}{'engine':>9}  cascades")  # fmt: skip
    missed = []
    for sparsity in options.sparsities:
        row = measure(sparsity, options.k, options.synth, options.taps)
        n, m = _kept(sparsity)
        line = (
            f"{sparsity:8}{f'{SLICES // row.taps} x {row.taps}':10}{row.real:9.3f}{row.equivalent:18.3f} "
            f"{row.alone:13.1%}{row.utilisation:13.1%}"
        )
        if abs(row.real - 2) > 0.005 or abs(row.equivalent - 2 * m / n) > 0.01 * m / n:
            missed.append(f"{sparsity}: {row.real:.3f} products a slice and cycle")
        if row.alone < BUSY:
            missed.append(f"{sparsity}: a tile alone {row.alone:.1%} busy")
        if row.chains and row.whole:
            found, gate = row.chains.lut_per_slice, GATES.get(sparsity)
            line += f"{found:12.2f}{PROTOTYPE.get(sparsity, ''):>11}{gate or '':>9}{row.whole.lut_per_slice:9.2f}"
            line += f"  {len(row.chains.chains)} x {row.chains.chains[0]}"
            if gate is not None and found > gate:
                missed.append(f"{sparsity}: {found:.2f} LUT a slice")
            if set(row.chains.chains) != {row.taps} or set(row.whole.chains) != {row.taps}:
                missed.append(f"{sparsity}: chains of {sorted(set(row.whole.chains))}")
        print(line, flush=True)
    print(
        "FlightLLM: 2 products a slice in prefill, 0.5 in decode (its configuration); it publishes no RTL"
    )
    print(
        "every inner tap is fed by PCIN, its sum read by nothing else"
        if options.synth
        else "not synthesised"
    )
    missed += _decode_table([s for s in options.sparsities if s in STREAMS])
    print("\n".join(f"missed: {text}" for text in missed) or "all gates met")
    return 1 if missed else 0


def _decode_table(sparsities: list[str]) -> list[str]:
    """Print the slices that decoding takes; what is missed."""
    if not sparsities:
        return []
    missed = []
    theirs = MEMORY / CLOCK * 8 / FLIGHTLLM_BITS / FLIGHTLLM_PRODUCTS
    print(
        f"\ndecoding at {MEMORY / 1e9:.0f} GB/s and {CLOCK / 1e6:.0f} MHz, int4 g64, one token\n"
        f"{'N:M':8}{'bits a weight':>14}{'slices needed':>15}{'at most':>9}{'engine':>12}{'its slices':>12}"
        f"{'takes, RTL':>14}"
    )
    for sparsity in sparsities:
        found, most = decode(sparsity), SATURATE.get(sparsity)
        print(
            f"{sparsity:8}{found.bits:14.3f}{found.needed:15,.0f}{most or '':>9}{found.shape:>12}{found.slices:12,}"
            f"{found.rate / 1e9:9.0f} GB/s",
            flush=True,
        )
        if found.rate < MEMORY or (most is not None and found.slices > most):
            missed.append(f"{sparsity}: {found.slices} slices take {found.rate / 1e9:.0f} GB/s")
    print(
        f"FlightLLM: {theirs:,.0f} slices, of {FLIGHTLLM_BITS} bits a kept weight and {FLIGHTLLM_PRODUCTS} products "
        "a slice"
    )
    return missed


if __name__ == "__main__":
    sys.exit(main())
