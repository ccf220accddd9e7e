"""How fast Verilator simulates an engine, and that every accumulator is right meanwhile.

``python -m benchmarks.engine_speed [ENGINE ...] [--cycles N]``, e.g. ``tree:mac:1x64x64``. The
model streams a ring of random tiles without a pause; a C++ main compares each row that leaves with
numpy's result.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from hw.arrays import make_engine, parse_engine
from hw.arrays.engine import Engine
from sim import verilator

__all__ = ["main", "measure"]

DEFAULT = ("tree:mac:1x64x64", "tree:mac:2x64x64", "systolic_os:mac:64x1x64")
# The fastest of the published generators that was measured on a machine of this kind.
PEER = "cgra4ml 32x32 (1024 MACs): 86 M MAC/s, built in 117 s"
TILES = 8

MAIN = r"""
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <vector>
#include "Vtop.h"

// Verilator writes the second of two underscores as __05F.
static std::vector<char> file(const char* name) {
  std::ifstream in(name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

int main(int, char** argv) {
  Vtop top;
  const std::vector<char> beats = file(argv[1]), rows = file(argv[2]);
  const long cycles = std::atol(argv[3]);
  const size_t beat = sizeof(top.i___05Fpayload), row = sizeof(top.o___05Fpayload);
  size_t in = 0, out = 0;
  long taken = 0, given = 0;
  const auto tick = [&] { top.clk = 0; top.eval(); top.clk = 1; top.eval(); };
  top.rst = 1; tick(); tick(); top.rst = 0;
  top.i___05Fvalid = top.o___05Fready = 1;
  std::memcpy(&top.i___05Fpayload, beats.data(), beat);
  const std::clock_t start = std::clock();  // of this process only: the machine may be busy
  for (long n = 0; n < cycles; n++) {
    top.clk = 0; top.eval();
    const bool take = top.i___05Fready;
    if (top.o___05Fvalid) {
      if (std::memcmp(&top.o___05Fpayload, rows.data() + out, row)) {
        std::printf("row %ld differs in cycle %ld\n", given, n);
        return 1;
      }
      out = out + row == rows.size() ? 0 : out + row;
      given++;
    }
    top.clk = 1; top.eval();
    if (take) {
      in = in + beat == beats.size() ? 0 : in + beat;
      taken++;
      std::memcpy(&top.i___05Fpayload, beats.data() + in, beat);
    }
  }
  const double spent = double(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%.6f %ld %ld\n", spent, taken, given);
  return 0;
}
"""


def measure(
    engine: Engine, cycles: int, beats: int, folder: Path
) -> tuple[float, float, float, int]:
    """Build ``engine`` in ``folder`` and stream tiles of ``beats`` beats for ``cycles`` cycles.

    Returns
    -------
    tuple
        CPU seconds to build, CPU seconds to run, beats taken, rows that were compared.

    Raises
    ------
    RuntimeError
        If the build failed or a row differed.
    """
    source = folder / f"{engine.module_name}.sv"
    source.write_text(engine.render())
    (folder / "main.cpp").write_text(MAIN)
    begin = _child_seconds()
    _run(
        [
            "verilator", "--cc", "--exe", "--build", "-j", "2", "--no-timing", "--x-assign", "fast",
            "-Wno-fatal", "--output-split", "20000", "--output-split-cfuncs", "500",
            "--expand-limit", "16", "-CFLAGS", "-O3 -march=native", "--prefix", "Vtop",
            "--Mdir", str(folder / "obj"), "--top-module", engine.module_name,
            str(source), str(folder / "main.cpp"),
        ]
    )  # fmt: skip
    built = _child_seconds() - begin

    rng = np.random.default_rng(1)
    sent, expected = bytearray(), bytearray()
    for _ in range(TILES):
        x = rng.integers(-128, 128, (engine.tokens, beats * engine.reduce))
        w = rng.integers(-128, 128, (beats * engine.reduce, engine.outputs))
        for payload in engine.pack(x, w):
            sent += payload.to_bytes(_port_bytes(engine.i.payload.shape().size), "little")
        rows = engine.golden(x, w)
        for n, row in enumerate(rows):
            last = int(n == len(rows) - 1)
            payload = int.from_bytes(row.astype("<i4").tobytes(), "little") | last << (
                32 * row.size
            )
            expected += payload.to_bytes(_port_bytes(engine.o.payload.shape().size), "little")
    (folder / "beats.bin").write_bytes(sent)
    (folder / "rows.bin").write_bytes(expected)
    answer = _run(
        [
            str(folder / "obj" / "Vtop"),
            *map(str, (folder / "beats.bin", folder / "rows.bin", cycles)),
        ]
    )
    seconds, taken, given = answer.split()
    return built, float(seconds), float(taken), int(given)


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _port_bytes(bits: int) -> int:
    """Bytes of a port in Verilator's model."""
    return next((size for size in (1, 2, 4, 8) if bits <= 8 * size), -(-bits // 32) * 4)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, env=verilator.environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_speed")
    parser.add_argument("engines", nargs="*", default=DEFAULT, help="array:pe:TxRxO")
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--beats", type=int, default=64, help="beats of a tile")
    options = parser.parse_args(arguments)
    for text in options.engines:
        spec = parse_engine(text)
        if spec.tokens is None or spec.reduce is None or spec.outputs is None:
            parser.error(f"{text!r} needs a shape, e.g. {text}:1x64x64")
        engine = make_engine(
            spec.array, spec.pe, spec.sparsity,
            tokens=spec.tokens, reduce=spec.reduce, outputs=spec.outputs,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            built, seconds, taken, given = measure(
                engine, options.cycles, options.beats, Path(folder)
            )
        print(
            f"{text:26} {engine.macs:6} MACs  built in {built:5.1f} CPU s"
            f"  {options.cycles / seconds / 1e3:7.1f} k cycles/s"
            f"  {taken * engine.macs / seconds / 1e6:7.0f} M MAC/s  {given} rows equal numpy's",
            flush=True,
        )
    print(f"peer: {PEER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
