// SPDX-License-Identifier: Apache-2.0
// What the runner says: one JSON object a line on standard output, read by sim/model.py.
#pragma once

#include <cinttypes>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <string>

namespace hwgen {

class Report {
public:
    // Errors after this many are counted, not printed.
    static constexpr unsigned kShown = 20;

    uint64_t errors = 0;
    int64_t origin = 0;  // the cycle in which the accelerator was started: what is said counts from it

    // Something that the hardware must not do. Messages are printable ASCII without quotes.
    __attribute__((format(printf, 4, 5))) void error(int64_t cycle, const char* where,
                                                     const char* format, ...) {
        if (++errors > kShown) return;
        char text[512];
        va_list arguments;
        va_start(arguments, format);
        std::vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        std::printf("{\"event\": \"error\", \"cycle\": %" PRId64 ", \"where\": \"%s\", \"what\": \"%s\"}\n",
                    cycle - origin, where, text);
        std::fflush(stdout);
    }

    __attribute__((format(printf, 2, 3))) void event(const char* format, ...) {
        va_list arguments;
        va_start(arguments, format);
        std::vprintf(format, arguments);
        va_end(arguments);
        std::putchar('\n');
        std::fflush(stdout);
    }
};

}  // namespace hwgen
