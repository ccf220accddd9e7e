// SPDX-License-Identifier: Apache-2.0
// Clocks pim_bench until every channel is done; exit code 4 after argv[1] cycles.
#include <cstdlib>
#include "Vpim_bench.h"
#include "verilated.h"

int main(int argc, char** argv) {
  VerilatedContext context;
  context.commandArgs(argc, argv);
  Vpim_bench bench{&context};
  const long limit = argc > 1 ? std::atol(argv[1]) : 1000000;
  bench.rst = 1;
  for (long half = 0; half < 2 * limit && !context.gotFinish(); half++) {
    bench.clk = half & 1;
    if (half == 8) bench.rst = 0;
    bench.eval();
    if (half > 20 && (bench.done + 1) == (1u << DEVICES)) {
      bench.final();
      return 0;
    }
  }
  bench.final();
  return context.gotFinish() ? 5 : 4;
}
