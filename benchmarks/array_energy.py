# SPDX-License-Identifier: Apache-2.0
"""Energy of a product in arrays of MACs and of carry-save elements: an estimate from toggles of mapped netlists.

``python -m benchmarks.array_energy --liberty FILE [ARRAY ...]``. Netlists are those of ``benchmarks.array_area`` at the
best area-delay product; the operands those of the shipped checkpoint in the order in which an engine sees them, the
normal distribution of the paper, and uniform ones. Zero delay (no glitches), no wires: for ratios only. What leaves a
netlist is compared with the engine's golden rows.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.array_area import ARRAYS, MAC, SAVED, array_engine
from benchmarks.cells import map_unit, verilog_of
from designs.checkpoint import find_model
from designs.progress import SilentProgress
from generators.energy import Energy, energy
from generators.gates import side_by_side
from generators.liberty import Liberty
from generators.netlist import Netlist, map_netlist
from generators.weights import calibrate_checkpoint, calibration_tokens, quantise_checkpoint
from hw.arrays import Engine
from hwgen.evaluate import CALIBRATION
from sim.calibrate import observe_ranges
from sim.operands import Operand, observe_operands
from sim.traces import Tile, Trace, model_trace, random_trace

__all__ = ["measure_energy", "stimulus"]

PUBLISHED = {"systolic_os": 1.04, "systolic_ws": 1.04, "cube": 1.56, "tree": 1.49, "matrix": 1.20}
"""Energy efficiency over the array of MACs, in the paper's abstract."""

BEATS, STREAMS = 96, 64
RESET, SKIPPED = 4, 8  # cycles before the first beat, cycles that are not counted


def stimulus(engine: Engine, trace: Trace) -> dict[str, np.ndarray]:
    """Every beat for as long as it occupies the engine; the rows leave at once."""
    held = engine.beat_cycles(engine.tokens)
    beats, streams = trace.first.shape
    rows = np.full((beats, streams), engine.tokens)
    rows_bits = engine.i.payload.shape()["rows"].width
    payload = side_by_side(
        (trace.x, 8), (trace.w, 8), (trace.first, 1), (trace.last, 1), (rows, rows_bits)
    )
    payload = np.repeat(payload, held, axis=0)
    before = np.zeros((RESET, *payload.shape[1:]), payload.dtype)
    cycles = RESET + len(payload)
    valid = np.ones((cycles, streams), int)
    reset = np.zeros((cycles, streams), int)
    valid[:RESET], reset[: RESET // 2] = 0, 1
    return {
        "i__payload": np.concatenate([before, payload]),
        "i__valid": valid,
        "o__ready": np.ones((cycles, streams), int),
        "rst": reset,
    }


def golden_rows(engine: Engine, trace: Trace, stream: int) -> list[np.ndarray]:
    """The rows of a stream's whole tiles."""
    rows: list[np.ndarray] = []
    begin = None
    for beat in range(len(trace.x)):
        if trace.first[beat, stream]:
            begin = beat
        if trace.last[beat, stream] and begin is not None:
            x = trace.x[begin : beat + 1, stream].reshape(-1, engine.tokens, engine.reduce)
            w = trace.w[begin : beat + 1, stream].reshape(-1, engine.outputs, engine.reduce)
            x = x.transpose(1, 0, 2).reshape(engine.tokens, -1)
            w = w.transpose(1, 0, 2).reshape(engine.outputs, -1)
            rows += list(engine.golden(x, w.T))
    return rows


def measure_energy(engine: Engine, netlist: Netlist, library: Liberty, trace: Trace) -> Energy:
    """Energy of a product of ``engine``.

    Raises
    ------
    RuntimeError
        If a row that the netlist gave is not the golden one, or none came.
    """
    given = stimulus(engine, trace)
    products = engine.tokens * engine.reduce * engine.outputs
    operations = (len(given["rst"]) - RESET) // engine.beat_cycles(engine.tokens)
    found = energy(
        netlist, library, given, vectors=trace.description, skip=SKIPPED,
        operations=operations * trace.first.shape[1] * products,
    )  # fmt: skip
    valid, payload = found.outputs["o__valid"], found.outputs["o__payload"]
    for stream in (0, 1):
        rows = [engine.unpack(int(p))[0] for p in payload[valid[:, stream] == 1, stream]]
        expected = golden_rows(engine, trace, stream)[: len(rows)]
        if not rows or not all(map(np.array_equal, rows, expected)):
            raise RuntimeError(f"{engine.module_name}: a mapped netlist gave a wrong row")
    return found


def _operands() -> list[Operand]:
    card, folder = find_model("tiny-gpt2")
    assert folder is not None
    progress = SilentProgress()
    given = calibrate_checkpoint(folder, card, CALIBRATION, observe_ranges, progress)
    quantised = quantise_checkpoint(given, progress)
    tokens, _ = calibration_tokens(card, quantised.tokenizer, CALIBRATION)
    found: list[Operand] = []
    observe_operands(quantised.model, tokens, found.append, progress=progress.advance)
    return found


def _traces(operands: list[Operand], tile: Tile) -> Iterator[Trace]:
    sizes = {"cycles": BEATS, "streams": STREAMS}
    yield random_trace(None, tile, **sizes)
    yield random_trace(30, tile, **sizes)
    yield model_trace(operands, tile, name="tiny-gpt2", **sizes)


def _mapped(engine: Engine, library: Liberty) -> Netlist:
    choice = map_unit(engine, library, **(MAC if engine.pe == "mac" else SAVED)).best.choice
    with verilog_of(engine) as (files, top):
        return map_netlist(files, top, library, choice)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.array_energy")
    parser.add_argument("--liberty", type=Path, required=True, help="cells to map to")
    parser.add_argument("arrays", nargs="*", default=list(ARRAYS))
    options = parser.parse_args(arguments)
    library = Liberty.load(options.liberty)
    operands = _operands()
    print(f"energy of a product, {library.name} at {library.voltage:g} V; zero delay, no wires")
    print(
        f"{'array':12}{'pe':>6} {'operands':<30}{'data fF':>9}{'clock fF':>9}{'inside fJ':>10}{'pJ':>8}"
        f"{'mac over it':>13}{'published':>11}"
    )
    for array in options.arrays:
        base: dict[str, float] = {}
        for pe in ("mac", "opt1"):
            engine = array_engine(array, pe)
            netlist = _mapped(engine, library)
            tile = Tile(engine.tokens, engine.reduce, engine.outputs)
            for trace in _traces(operands, tile):
                found = measure_energy(engine, netlist, library, trace)
                total = base.setdefault(trace.description, found.total_pj) / found.total_pj
                ratio = "" if pe == "mac" else f"{total:12.2f}x{PUBLISHED[array]:10.2f}x"
                print(
                    f"{array:12}{pe:>6} {trace.description:<30}{found.data_ff:9.0f}{found.clock_ff:9.0f}"
                    f"{found.internal_fj or 0:10.0f}{found.total_pj:8.2f}{ratio}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
