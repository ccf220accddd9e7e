// SPDX-License-Identifier: Apache-2.0
// The part of LZ4's interface that Verilator's FST writer uses, so that waveforms need no package: a greedy
// compressor of the LZ4 block format (lz4_Block_format.md of github.com/lz4/lz4).
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

// Returns the bytes written, 0 if they do not fit.
inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    if (capacity < LZ4_compressBound(size)) return 0;
    constexpr int kMinimum = 4, kTail = 5, kLastMatch = 12, kBits = 13;
    const auto* const in = reinterpret_cast<const uint8_t*>(source);
    auto* out = reinterpret_cast<uint8_t*>(target);
    const auto word = [in](int at) {
        uint32_t value;
        std::memcpy(&value, in + at, 4);
        return value;
    };
    const auto put_length = [&out](int length) {
        for (; length >= 255; length -= 255) *out++ = 255;
        *out++ = static_cast<uint8_t>(length);
    };
    const auto put_literals = [&](int from, int length, int match) {
        uint8_t* const token = out++;
        *token = static_cast<uint8_t>(std::min(length, 15) << 4 | std::min(match, 15));
        if (length >= 15) put_length(length - 15);
        std::memcpy(out, in + from, static_cast<size_t>(length));
        out += length;
    };
    std::vector<int> last(1 << kBits, -1);
    int anchor = 0;  // first byte not yet written
    for (int at = 0; at + kLastMatch <= size;) {
        int& slot = last[word(at) * 2654435761u >> (32 - kBits)];
        const int candidate = slot;
        slot = at;
        if (candidate < 0 || at - candidate > 65535 || word(candidate) != word(at)) {
            ++at;
            continue;
        }
        int length = kMinimum;
        while (at + length < size - kTail && in[candidate + length] == in[at + length]) ++length;
        put_literals(anchor, at - anchor, length - kMinimum);
        const int offset = at - candidate;
        *out++ = static_cast<uint8_t>(offset);
        *out++ = static_cast<uint8_t>(offset >> 8);
        if (length - kMinimum >= 15) put_length(length - kMinimum - 15);
        at += length;
        anchor = at;
    }
    put_literals(anchor, size - anchor, 0);
    return static_cast<int>(reinterpret_cast<char*>(out) - target);
}
