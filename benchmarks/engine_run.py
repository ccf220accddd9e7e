# SPDX-License-Identifier: Apache-2.0
"""Runs an engine alone as compiled RTL: a C++ main streams tiles into it and compares what leaves."""

import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from generators.verilog import emit
from hw.arrays.engine import Engine
from sim import verilator

__all__ = ["Run", "build_engine", "run_engine"]

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
  const long wanted = std::atol(argv[4]);  // rows to stop after, 0: none
  size_t in = 0, out = 0;
  long taken = 0, given = 0, first = -1, last = -1;
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
      last = n;
      if (given == wanted) break;
    }
    top.clk = 1; top.eval();
    if (take) {
      if (first < 0) first = n;
      in = in + beat == beats.size() ? 0 : in + beat;
      taken++;
      std::memcpy(&top.i___05Fpayload, beats.data() + in, beat);
    }
  }
  const double spent = double(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%.6f %ld %ld %ld\n", spent, taken, given, last - first + 1);
  return wanted && given != wanted ? 1 : 0;
}
"""


@dataclass(frozen=True)
class Run:
    """What came of a run; every row equalled numpy's.

    Attributes
    ----------
    seconds : CPU seconds
    taken, given : beats, rows
    cycles : from the first beat's transfer to the last row, both included
    """

    seconds: float
    taken: int
    given: int
    cycles: int


def build_engine(engine: Engine, folder: Path) -> float:
    """Compile ``engine`` in ``folder``; CPU seconds that it took.

    Raises
    ------
    RuntimeError
        If that failed.
    """
    sources = []
    for name, text in emit(engine).files.values():
        (folder / name).write_text(text)
        sources.append(str(folder / name))
    (folder / "main.cpp").write_text(MAIN)
    begin = _child_seconds()
    _run(
        [
            "verilator", "--cc", "--exe", "--build", "-j", "2", "--no-timing", "--x-assign", "fast",
            "-Wno-fatal", "-Wno-lint", "--output-split", "20000", "--output-split-cfuncs", "500",
            "--expand-limit", "16", "-CFLAGS", "-O3 -march=native", "--prefix", "Vtop",
            "--Mdir", str(folder / "obj"), "--top-module", engine.module_name,
            *sources, str(folder / "main.cpp"),
        ]
    )  # fmt: skip
    return _child_seconds() - begin


def run_engine(
    engine: Engine,
    tiles: Sequence[tuple[np.ndarray, np.ndarray]],
    folder: Path,
    *,
    cycles: int,
    once: bool = False,
) -> Run:
    """Stream tiles ``(x, w)`` without a pause into an engine that was built in ``folder``.

    Parameters
    ----------
    cycles : after which it ends
    once : it ends when all rows of ``tiles`` have left; else they are repeated

    Raises
    ------
    RuntimeError
        If a row differed, or rows are missing.
    """
    sent, expected = bytearray(), bytearray()
    left = 0
    acc_mask = (1 << engine.acc_bits) - 1
    for x, w in tiles:
        for payload in engine.pack(x, w):
            sent += payload.to_bytes(_port_bytes(engine.i.payload.shape().size), "little")
        rows = engine.golden(x, w)
        left += len(rows)
        for n, row in enumerate(rows):
            payload = int(n == len(rows) - 1) << (engine.acc_bits * row.size)
            for o, value in enumerate(row.tolist()):
                payload |= (value & acc_mask) << (engine.acc_bits * o)
            expected += payload.to_bytes(_port_bytes(engine.o.payload.shape().size), "little")
    (folder / "beats.bin").write_bytes(sent)
    (folder / "rows.bin").write_bytes(expected)
    arguments = (folder / "beats.bin", folder / "rows.bin", cycles, left if once else 0)
    seconds, taken, given, lasted = _run(
        [str(folder / "obj" / "Vtop"), *map(str, arguments)]
    ).split()
    return Run(float(seconds), int(taken), int(given), int(lasted))


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
