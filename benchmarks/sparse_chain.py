"""Sparse chains: products of a slice and cycle, utilisation with fill and drain, LUTs of a slice.

``python -m benchmarks.sparse_chain [N:M ...] [--k K] [--no-synth]``

32 chains of 8 slices (64 outputs) and 4-bit weights that accumulate in the slices; the figures beside ours are of
prototypes of 16 such chains. Utilisation is that of one tile alone, and of 8 tiles (512 outputs), fill and drain
included. Cycles are those of the compiled RTL, every row compared with numpy. LUTs are yosys's (synth_xilinx, xcup), of
the chains alone (weights and positions arrive skewed; windows of activations are delayed inside) and of the whole
engine, in which operands wait in shift registers and rows leave through a bank. Nothing is placed or timed.
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
from hw.arrays import make_engine
from hw.arrays.chain import ChainArray
from hw.dsp.packed_dot import PackedDot
from hw.sparse.select import Select
from hw.unit import TemplateUnit, Unit

__all__ = ["SkewedChains", "main", "sparse_weights"]

CHAINS, TAPS, TILES = 32, 8, 8
PROTOTYPE = {  # LUTs of a slice: measured before, with inferred selections where marked *
    "dense": "0", "1:2": "8", "2:4": "8", "1:4": "8", "4:8": "16", "2:8": "32*", "1:8": "24*", "8:16": "40*",
}  # fmt: skip
GATES = {"dense": 1.0, "2:4": 9.0, "1:4": 9.0, "2:8": 17.0}
"""LUTs of a slice at most."""


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


def engine_of(sparsity: str, **options: Any) -> ChainArray:
    """The engine of the prototypes: as many elements a beat as fill the taps of a chain."""
    n, m = (1, 1) if sparsity == "dense" else map(int, sparsity.split(":"))
    found = make_engine(
        "chain", "dsp_packed", sparsity, tokens=1, reduce=TAPS * m // n, outputs=2 * CHAINS,
        w_bits=4, accumulate="dsp", adjusted=True, **options,
    )  # fmt: skip
    assert isinstance(found, ChainArray)
    return found


def measure(sparsity: str, k: int, synth: bool) -> Row:
    engine, rng = engine_of(sparsity), np.random.default_rng(1)
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
    parser.add_argument("--no-synth", dest="synth", action="store_false")
    options = parser.parse_args(arguments)
    print(
        f"{CHAINS} chains of {TAPS} DSP48E2, W4A8, pairs of outputs share positions, K={options.k}"
    )
    print(
        f"{'':8}{'products a slice and cycle':^28}{'utilisation, 1 and 8 tiles':^28}{'LUT a slice (yosys, xcup)':^40}"
    )
    print(f"{'N:M':8}{'real':>9}{'dense-equivalent':>18} {'1 tile':>13}{'product':>13}"
          f"{'chains':>12}{'prototype':>11}{'at most':>9}{'engine':>9}  cascades")  # fmt: skip
    missed = []
    for sparsity in options.sparsities:
        row = measure(sparsity, options.k, options.synth)
        n, m = (1, 1) if sparsity == "dense" else map(int, sparsity.split(":"))
        line = f"{sparsity:8}{row.real:9.3f}{row.equivalent:18.3f} {row.alone:13.1%}{row.utilisation:13.1%}"
        if abs(row.real - 2) > 0.005 or abs(row.equivalent - 2 * m / n) > 0.01 * m / n:
            missed.append(f"{sparsity}: {row.real:.3f} products a slice and cycle")
        if row.utilisation < 0.95:
            missed.append(f"{sparsity}: {row.utilisation:.1%} busy")
        if row.chains and row.whole:
            found, gate = row.chains.lut_per_slice, GATES.get(sparsity)
            line += f"{found:12.2f}{PROTOTYPE.get(sparsity, ''):>11}{gate or '':>9}{row.whole.lut_per_slice:9.2f}"
            line += f"  {len(row.chains.chains)} x {row.chains.chains[0]}"
            if gate is not None and found > gate:
                missed.append(f"{sparsity}: {found:.2f} LUT a slice")
            if set(row.chains.chains) != {TAPS} or set(row.whole.chains) != {TAPS}:
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
    print("\n".join(f"missed: {text}" for text in missed) or "all gates met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
