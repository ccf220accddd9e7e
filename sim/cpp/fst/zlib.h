// SPDX-License-Identifier: Apache-2.0
// The part of zlib's interface that Verilator's FST writer uses, so that waveforms need no package: it
// writes stored blocks (RFC 1950, RFC 1951 section 3.2.4), which the writer then leaves out as larger than
// the data itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

using Bytef = unsigned char;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0, Z_BUF_ERROR = -5;

inline uLong compressBound(uLong size) { return size + 5 * (size / 65535 + 1) + 6; }

inline int compress2(Bytef* target, uLongf* target_size, const Bytef* source, uLong size, int /*level*/) {
    if (*target_size < compressBound(size)) return Z_BUF_ERROR;
    Bytef* out = target;
    *out++ = 0x78;
    *out++ = 0x01;
    uint32_t a = 1, b = 0;  // Adler-32
    uLong at = 0;
    do {
        const auto part = static_cast<unsigned>(std::min<uLong>(size - at, 65535));
        *out++ = at + part == size;
        *out++ = static_cast<Bytef>(part);
        *out++ = static_cast<Bytef>(part >> 8);
        *out++ = static_cast<Bytef>(~part);
        *out++ = static_cast<Bytef>(~part >> 8);
        std::memcpy(out, source + at, part);
        for (unsigned i = 0; i < part; ++i) {
            a = (a + source[at + i]) % 65521;
            b = (b + a) % 65521;
        }
        out += part;
        at += part;
    } while (at < size);
    for (const uint32_t half : {b, a}) {
        *out++ = static_cast<Bytef>(half >> 8);
        *out++ = static_cast<Bytef>(half);
    }
    *target_size = static_cast<uLongf>(out - target);
    return Z_OK;
}
