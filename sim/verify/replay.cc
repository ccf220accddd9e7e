// Plays recorded inputs to a design that Verilator compiled with coverage, and compares its outputs.
//
// usage: replay INPUTS OUTPUTS CYCLES COVERAGE EDGE; rows of 32-bit words as wide as hwgen_in and hwgen_out.
// Says "differs CYCLE" for the first cycle in which an output is not the recorded one, then "cycles N".
#include "Vhwgen_top.h"
#include "verilated.h"
#include "verilated_cov.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  const auto context = std::make_unique<VerilatedContext>();
  const auto top = std::make_unique<Vhwgen_top>(context.get());
  const size_t cycles = std::strtoul(argv[3], nullptr, 10);
  const int edge = std::atoi(argv[5]);
  std::vector<uint32_t> in(sizeof(top->hwgen_in) / 4), out(sizeof(top->hwgen_out) / 4);
  std::ifstream inputs(argv[1], std::ios::binary), outputs(argv[2], std::ios::binary);
  top->hwgen_clock = !edge;
  top->eval();
  for (size_t cycle = 0; cycle < cycles; cycle++) {
    inputs.read(reinterpret_cast<char *>(in.data()), in.size() * 4);
    outputs.read(reinterpret_cast<char *>(out.data()), out.size() * 4);
    std::memcpy(&top->hwgen_in, in.data(), in.size() * 4);
    top->eval();
    if (std::memcmp(&top->hwgen_out, out.data(), out.size() * 4)) {
      std::printf("differs %zu\n", cycle);
      break;
    }
    if (top->hwgen_bad) {
      std::printf("violated %zu\n", cycle);
      break;
    }
    top->hwgen_clock = edge;
    context->timeInc(1);
    top->eval();
    top->hwgen_clock = !edge;
    context->timeInc(1);
    top->eval();
    std::fflush(stdout);
  }
  std::printf("cycles %zu\n", cycles);
  top->final();
  context->coveragep()->write(argv[4]);
}
