// SPDX-License-Identifier: Apache-2.0
// Streams tiles through an engine alone. Made by hwgen from sim/cpp/engine/main.cpp.
//
// Usage: simulator BEATS ROWS COUNT IDLE. BEATS holds payloads of the stream i, ROWS gets COUNT payloads of o, both
// as Verilator keeps them. Prints the cycles from the first beat's transfer to the last row's; ends with 1 if nothing
// is transferred for IDLE cycles while rows are missing, or a row too many comes.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "Vtop.h"

int main(int count, char** arguments) {
    if (count != 5) {
        std::fprintf(stderr, "usage: %s BEATS ROWS COUNT IDLE\n", arguments[0]);
        return 2;
    }
    std::ifstream in{arguments[1], std::ios::binary};
    const std::vector<char> beats{std::istreambuf_iterator<char>(in), {}};
    std::ofstream out{arguments[2], std::ios::binary};
    const long wanted = std::atol(arguments[3]), idle_limit = std::atol(arguments[4]);
    VerilatedContext context;
    context.randReset(2);
    context.randSeed(1);
    Vtop top{&context, "engine"};
    // Verilator writes the second of two underscores as __05F.
    const size_t beat = sizeof(top.i___05Fpayload), row = sizeof(top.o___05Fpayload);
    if (!in || !out || beats.size() % beat) {
        std::fprintf(stderr, "the beats or the rows cannot be used\n");
        return 2;
    }
    const long linger = 64;  // cycles after the last row, in which none may come
    size_t sent = 0;
    long given = 0, cycle = 0, first = -1, last = 0, idle = 0, extra = 0;
    top.i___05Fvalid = top.o___05Fready = 0;
    top.rst = 1;
    for (int n = 0; n < 4; ++n) top.clk = 0, top.eval(), top.clk = 1, top.eval();
    top.rst = 0;
    top.o___05Fready = 1;
    while (extra < linger) {
        const bool offered = sent < beats.size();
        top.i___05Fvalid = offered;
        if (offered) std::memcpy(&top.i___05Fpayload, beats.data() + sent, beat);
        top.clk = 0;
        top.eval();
        const bool taken = offered && top.i___05Fready;
        ++idle;
        if (taken) {
            if (first < 0) first = cycle;
            sent += beat;
            idle = 0;
        }
        if (top.o___05Fvalid) {
            if (given == wanted) {
                std::fprintf(stderr, "a row too many in cycle %ld\n", cycle);
                return 1;
            }
            out.write(reinterpret_cast<const char*>(&top.o___05Fpayload), std::streamsize(row));
            ++given;
            last = cycle;
            idle = 0;
        }
        if (given == wanted && sent == beats.size()) ++extra;
        else if (idle > idle_limit) {
            std::fprintf(stderr, "%ld of %ld rows after %ld cycles, and nothing moves\n", given, wanted, cycle);
            return 1;
        }
        top.clk = 1;
        top.eval();
        ++cycle;
    }
    top.final();
    std::printf("%ld\n", last - first + 1);
    return out.flush() ? 0 : 2;
}
