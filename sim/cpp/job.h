// SPDX-License-Identifier: Apache-2.0
// What one run has to do: a text file of lines `key values ...`, written by sim/model.py. A path is the
// last value of its line and may hold spaces.
#pragma once

#include <cstdint>
#include <fstream>
#include <iomanip>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "axi_memory.h"

namespace hwgen {

struct Job {
    struct Part {
        uint64_t offset, length;
        std::string path;
    };
    struct Value {
        uint32_t address;
        std::string name;
    };

    uint64_t stripes = 1;
    int fill = 0;
    std::string image;
    std::vector<uint64_t> bases;                           // of each port
    Timing timing;
    std::vector<std::pair<uint64_t, uint64_t>> writable;   // stripes
    std::vector<Part> pokes, dumps;
    std::vector<std::pair<uint32_t, uint32_t>> writes;     // registers, in order, before the start
    std::vector<Value> reads;                              // registers, after the end
    uint64_t tokens_first = 0, tokens_end = 0, tokens_origin = 0;  // stripes that get generated tokens
    uint64_t count_first = 0, count_end = 0;               // stripes whose reading is progress
    std::string probes, waves;
    uint64_t seed = 1;                                     // of what registers hold before reset
    int64_t poll = 256;                                    // cycles between two looks at the status
    int64_t idle_limit = 1000000;                          // cycles without any transfer: it hangs
    int64_t cycle_limit = INT64_MAX;
    double report_seconds = 0.25;

    explicit Job(const std::string& path) {
        std::ifstream file{path};
        if (!file) throw std::runtime_error("cannot read the job " + path);
        std::string line;
        while (std::getline(file, line)) {
            std::istringstream words{line};
            words >> std::setbase(0);
            std::string key;
            words >> key;
            if (key == "stripes") words >> stripes;
            else if (key == "fill") words >> fill;
            else if (key == "image") image = rest(words);
            else if (key == "base") words >> bases.emplace_back();
            else if (key == "latency") words >> timing.latency;
            else if (key == "bandwidth") words >> timing.bytes_num >> timing.bytes_den;
            else if (key == "outstanding") words >> timing.outstanding;
            else if (key == "stalls") words >> timing.stall_percent >> timing.seed;
            else if (key == "writable") words >> writable.emplace_back().first >> writable.back().second;
            else if (key == "poke") words >> pokes.emplace_back().offset, pokes.back().path = rest(words);
            else if (key == "dump") words >> dumps.emplace_back().offset >> dumps.back().length, dumps.back().path = rest(words);
            else if (key == "write") words >> writes.emplace_back().first >> writes.back().second;
            else if (key == "read") words >> reads.emplace_back().address >> reads.back().name;
            else if (key == "tokens") words >> tokens_first >> tokens_end >> tokens_origin;
            else if (key == "count") words >> count_first >> count_end;
            else if (key == "probes") probes = rest(words);
            else if (key == "waves") waves = rest(words);
            else if (key == "seed") words >> seed;
            else if (key == "poll") words >> poll;
            else if (key == "idle_limit") words >> idle_limit;
            else if (key == "cycle_limit") words >> cycle_limit;
            else if (key == "report_seconds") words >> report_seconds;
            else if (!key.empty()) throw std::runtime_error("unknown line in the job: " + line);
            if (words.fail()) throw std::runtime_error("bad line in the job: " + line);
        }
    }

private:
    static std::string rest(std::istringstream& words) {
        std::string path;
        std::getline(words >> std::ws, path);
        return path;
    }
};

}  // namespace hwgen
