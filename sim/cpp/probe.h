// SPDX-License-Identifier: Apache-2.0
// What the probes of the RTL saw: one file for each width of data, records of fixed size.
#pragma once

#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>

namespace hwgen {

// Little endian, without gaps; sim/compare.py reads it as a numpy dtype.
struct ProbeHeader {
    int64_t cycle;
    uint16_t row, chunk;
    uint8_t unit, phase, layer, zero;
};
static_assert(sizeof(ProbeHeader) == 16, "the header has no gaps");

class ProbeLog {
public:
    int64_t cycle = 0;  // kept up to date by the main loop

    void open(const std::string& folder) { m_folder = folder; }

    void record(unsigned unit, unsigned phase, unsigned layer, unsigned row, unsigned chunk,
                const void* data, unsigned bits) {
        if (m_folder.empty()) return;
        std::FILE* const file = of(bits);
        const ProbeHeader header{cycle, uint16_t(row), uint16_t(chunk), uint8_t(unit), uint8_t(phase),
                                 uint8_t(layer), 0};
        std::fwrite(&header, sizeof header, 1, file);
        std::fwrite(data, (bits + 7) / 8, 1, file);
    }

    void close() {
        for (auto& entry : m_files) {
            const bool failed = std::ferror(entry.second);
            if (std::fclose(entry.second) || failed) throw std::runtime_error("cannot write the probe log");
        }
        m_files.clear();
    }

private:
    std::FILE* of(unsigned bits) {
        std::FILE*& file = m_files[bits];
        if (!file) {
            const std::string path = m_folder + "/" + std::to_string(bits) + ".bin";
            file = std::fopen(path.c_str(), "wb");
            if (!file) throw std::runtime_error("cannot write " + path);
            std::setvbuf(file, nullptr, _IOFBF, 1 << 20);
        }
        return file;
    }

    std::string m_folder;
    std::map<unsigned, std::FILE*> m_files;
};

}  // namespace hwgen
