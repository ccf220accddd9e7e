// SPDX-License-Identifier: Apache-2.0
// The memory behind the AXI4 ports of an accelerator: one striped space, a latency, a bandwidth, and
// checks of the protocol. Nothing here depends combinationally on the outputs of the same cycle.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "report.h"
#include "verilated.h"

namespace hwgen {

// Stripe s of the space is bytes [s * ports * port_bytes, ...) of the image; port p holds bytes
// p * port_bytes .. of every stripe. The image is mapped privately: the file never changes.
class Memory {
public:
    Memory(unsigned ports, unsigned port_bytes, uint64_t stripes, int fill)
        : m_ports{ports}, m_port_bytes{port_bytes}, m_stripes{stripes} {
        void* const at = mmap(nullptr, size(), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) throw std::runtime_error("no address space for the memory image");
        m_bytes = static_cast<uint8_t*>(at);
        m_fill = fill;
    }
    ~Memory() { munmap(m_bytes, size()); }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;

    uint64_t size() const { return m_stripes * m_ports * m_port_bytes; }
    uint64_t stripes() const { return m_stripes; }
    uint64_t bytes_per_port() const { return m_stripes * m_port_bytes; }
    unsigned port_bytes() const { return m_port_bytes; }

    // Map the file over the start of the space and fill what lies behind it.
    void load(const std::string& path) {
        uint64_t length = 0;
        if (!path.empty()) {
            const int file = open(path.c_str(), O_RDONLY);
            struct stat facts;
            if (file < 0 || fstat(file, &facts)) throw std::runtime_error("cannot read " + path);
            length = static_cast<uint64_t>(facts.st_size);
            if (length > size()) throw std::runtime_error(path + " is larger than the memory");
            if (length
                && mmap(m_bytes, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0)
                       == MAP_FAILED) {
                throw std::runtime_error("cannot map " + path);
            }
            close(file);
        }
        if (m_fill) std::memset(m_bytes + length, m_fill, size() - length);
    }

    // Copy a file into the space.
    void poke(uint64_t offset, const std::string& path) {
        std::ifstream file{path, std::ios::binary | std::ios::ate};
        if (!file) throw std::runtime_error("cannot read " + path);
        const uint64_t length = static_cast<uint64_t>(file.tellg());
        if (offset + length > size()) throw std::runtime_error(path + " lies beyond the memory");
        file.seekg(0);
        file.read(reinterpret_cast<char*>(m_bytes + offset), static_cast<std::streamsize>(length));
    }

    // Copy a part of the space into a file.
    void dump(uint64_t offset, uint64_t length, const std::string& path) const {
        if (offset + length > size()) throw std::runtime_error("dump lies beyond the memory");
        std::ofstream file{path, std::ios::binary};
        file.write(reinterpret_cast<const char*>(m_bytes + offset), static_cast<std::streamsize>(length));
        if (!file.flush()) throw std::runtime_error("cannot write " + path);
    }

    // Writes are allowed in these stripes only; everywhere if there are none.
    void allow_writes(uint64_t first, uint64_t end) { m_writable.push_back({first, end}); }
    bool writable(uint64_t stripe) const {
        if (m_writable.empty()) return true;
        for (const auto& range : m_writable) {
            if (stripe >= range.first && stripe < range.second) return true;
        }
        return false;
    }

    uint8_t* at(unsigned port, uint64_t stripe) const {
        return m_bytes + (stripe * m_ports + port) * m_port_bytes;
    }

private:
    unsigned m_ports, m_port_bytes;
    uint64_t m_stripes;
    int m_fill = 0;
    uint8_t* m_bytes = nullptr;
    std::vector<std::pair<uint64_t, uint64_t>> m_writable;
};

// Signals of one AXI4 initiator of the top.
struct Pins {
    CData *awid, *awlen, *awsize, *awburst, *awvalid, *awready;
    QData* awaddr;
    CData *wlast, *wvalid, *wready;
    void *wdata, *wstrb;
    CData *bid, *bresp, *bvalid, *bready;
    CData *arid, *arlen, *arsize, *arburst, *arvalid, *arready;
    QData* araddr;
    CData *rid, *rresp, *rlast, *rvalid, *rready;
    void* rdata;
};

struct Timing {
    unsigned latency = 1;         // cycles from an address to its first beat or to the answer of a write
    uint64_t bytes_num = 1;       // a port carries bytes_num / bytes_den bytes a cycle, reads and writes
    uint64_t bytes_den = 1;       //   together; at least a whole beat is no limit
    unsigned outstanding = 32;    // bursts of each direction that a port accepts before it answers
    unsigned stall_percent = 0;   // chance of a ready or valid to be withheld for a cycle
    uint64_t seed = 1;
};

struct Statistics {
    uint64_t read_bursts = 0, read_beats = 0, write_bursts = 0, write_beats = 0;
};

// One port of the memory.
class Port {
public:
    static constexpr unsigned kOkay = 0, kDecodeError = 3;

    Port(unsigned index, uint64_t base, Memory& memory, const Timing& timing, const Pins& pins,
         Report& report)
        : m_index{index}, m_base{base}, m_memory{memory}, m_timing{timing}, m_pins{pins},
          m_report{report}, m_size{log2_of(memory.port_bytes())},
          m_need{memory.port_bytes() * timing.bytes_den},
          m_random{timing.seed * 0x9e3779b97f4a7c15ULL + index + 1},
          m_held_data(memory.port_bytes()), m_held_strobe((memory.port_bytes() + 7) / 8) {
        std::snprintf(m_name, sizeof m_name, "m_axi_g%02u", index);
        *m_pins.awready = *m_pins.wready = *m_pins.arready = 0;
        *m_pins.bvalid = *m_pins.rvalid = 0;
    }

    Statistics statistics;
    uint64_t moves = 0;  // transfers on any channel, to see that something still happens

    // A write of a whole u32 at the start of a stripe of this port: what a token looks like.
    bool wrote_word = false;
    uint64_t written_stripe = 0;
    uint32_t written_word = 0;

    // Beats read from these stripes are counted in `counted`.
    uint64_t count_first = 0, count_end = 0, counted = 0;

    bool writes_pending() const { return !m_writes.empty() || !m_answers.empty(); }
    const char* name() const { return m_name; }

    std::string state() const {
        char text[160];
        std::snprintf(text, sizeof text, "%s: %zu reads and %zu writes under way, ar %d/%d r %d/%d aw %d/%d w %d/%d b %d/%d",
                      m_name, m_reads.size(), m_writes.size(), *m_pins.arvalid, *m_pins.arready,
                      *m_pins.rvalid, *m_pins.rready, *m_pins.awvalid, *m_pins.awready, *m_pins.wvalid,
                      *m_pins.wready, *m_pins.bvalid, *m_pins.bready);
        return text;
    }

    // Look at the signals just before the edge that ends `cycle`.
    void sample(int64_t cycle) {
        m_credit = std::min<int64_t>(m_credit + int64_t(m_timing.bytes_num),
                                     int64_t(m_need + m_timing.bytes_num) - 1);
        sample_address(cycle, m_write_address, *m_pins.awvalid, *m_pins.awready, *m_pins.awaddr,
                       *m_pins.awlen, *m_pins.awsize, *m_pins.awburst, *m_pins.awid, m_writes, "write");
        sample_address(cycle, m_read_address, *m_pins.arvalid, *m_pins.arready, *m_pins.araddr,
                       *m_pins.arlen, *m_pins.arsize, *m_pins.arburst, *m_pins.arid, m_reads, "read");
        wrote_word = false;
        sample_write_data(cycle);
        if (*m_pins.rvalid && *m_pins.rready) {
            ++moves;
            m_presented = false;
        }
        if (*m_pins.bvalid && *m_pins.bready) {
            ++moves;
            m_answered = false;
            m_answers.pop_front();
        }
    }

    // Set the signals for `cycle`, just after the edge that began it.
    void drive(int64_t cycle) {
        *m_pins.arready = m_reads.size() < m_timing.outstanding && !stalls();
        *m_pins.awready = m_writes.size() < m_timing.outstanding && !stalls();
        drive_read(cycle);
        *m_pins.wready = !m_writes.empty() && m_credit >= int64_t(m_need) && !stalls();
        if (!m_answered && !m_answers.empty() && cycle >= m_answers.front().ready_at && !stalls()) {
            *m_pins.bid = m_answers.front().id;
            *m_pins.bresp = m_answers.front().bad ? kDecodeError : kOkay;
            m_answered = true;
        }
        *m_pins.bvalid = m_answered;
    }

private:
    struct Burst {
        int64_t ready_at;
        uint64_t first, stripe;  // of the burst, and of its next beat
        unsigned beats, left;
        CData id;
        bool bad;
    };
    struct Address {  // what a channel showed in the last cycle, if it was not taken
        bool held = false;
        QData address = 0;
        CData length = 0, size = 0, burst = 0, id = 0;
    };

    static unsigned log2_of(unsigned value) {
        unsigned result = 0;
        while ((1u << result) < value) ++result;
        return result;
    }

    bool stalls() {
        if (!m_timing.stall_percent) return false;
        m_random ^= m_random << 13;
        m_random ^= m_random >> 7;
        m_random ^= m_random << 17;
        return (m_random >> 20) % 100 < m_timing.stall_percent;
    }

    void sample_address(int64_t cycle, Address& last, bool valid, bool ready, QData address,
                        CData length, CData size, CData burst, CData id, std::deque<Burst>& queue,
                        const char* what) {
        if (last.held) {
            if (!valid) {
                m_report.error(cycle, m_name, "%s address: valid fell before the transfer", what);
            } else if (address != last.address || length != last.length || size != last.size
                       || burst != last.burst || id != last.id) {
                m_report.error(cycle, m_name, "%s address: changed while it waited", what);
            }
        }
        last = {valid && !ready, address, length, size, burst, id};
        if (!valid || !ready) return;
        ++moves;
        const uint64_t beats = uint64_t(length) + 1, bytes = beats << m_size;
        if (size != m_size) {
            m_report.error(cycle, m_name, "%s burst: size %u, must be %u (no narrow transfers)", what,
                           unsigned(size), m_size);
        }
        if (burst != 1) {
            m_report.error(cycle, m_name, "%s burst: type %u, must be 1 (incrementing)", what,
                           unsigned(burst));
        }
        if (address & ((uint64_t(1) << m_size) - 1)) {
            m_report.error(cycle, m_name, "%s burst: address 0x%" PRIx64 " is not a multiple of %u",
                           what, uint64_t(address), 1u << m_size);
        }
        if ((address & 4095) + bytes > 4096) {
            m_report.error(cycle, m_name,
                           "%s burst: %" PRIu64 " bytes at 0x%" PRIx64 " cross a 4 KiB boundary", what,
                           bytes, uint64_t(address));
        }
        const bool bad = address < m_base || address - m_base + bytes > m_memory.bytes_per_port();
        if (bad) {
            m_report.error(cycle, m_name,
                           "%s burst: %" PRIu64 " bytes at 0x%" PRIx64 " are outside 0x%" PRIx64
                           " to 0x%" PRIx64 " (answered with DECERR)",
                           what, bytes, uint64_t(address), m_base, m_base + m_memory.bytes_per_port());
        }
        ++(what[0] == 'r' ? statistics.read_bursts : statistics.write_bursts);
        const uint64_t stripe = bad ? 0 : (address - m_base) >> m_size;
        queue.push_back({cycle + m_timing.latency, stripe, stripe, unsigned(beats), unsigned(beats), id, bad});
        if (bad) return;
        if (what[0] == 'r') {
            check_order(cycle, queue.back(), m_writes, "read", "write");
            check_order(cycle, queue.back(), m_answers, "read", "write");
        } else {
            check_order(cycle, queue.back(), m_reads, "write", "read");
        }
    }

    // AXI orders nothing between reads and writes: only its answer says that the other one is done.
    void check_order(int64_t cycle, const Burst& burst, const std::deque<Burst>& others, const char* what,
                     const char* other_kind) {
        for (const Burst& other : others) {
            if (!other.bad && burst.first < other.first + other.beats
                && other.first < burst.first + burst.beats) {
                m_report.error(cycle, m_name,
                               "%s burst of stripe %" PRIu64 " may overtake an unanswered %s of stripe %" PRIu64,
                               what, burst.first, other_kind, other.first);
            }
        }
    }

    void sample_write_data(int64_t cycle) {
        const bool valid = *m_pins.wvalid, ready = *m_pins.wready;
        if (m_data_held) {
            if (!valid) {
                m_report.error(cycle, m_name, "write data: valid fell before the transfer");
            } else if (std::memcmp(m_held_data.data(), m_pins.wdata, m_held_data.size())
                       || std::memcmp(m_held_strobe.data(), m_pins.wstrb, m_held_strobe.size())
                       || m_held_last != *m_pins.wlast) {
                m_report.error(cycle, m_name, "write data: changed while it waited");
            }
        }
        m_data_held = valid && !ready;
        if (m_data_held) {
            std::memcpy(m_held_data.data(), m_pins.wdata, m_held_data.size());
            std::memcpy(m_held_strobe.data(), m_pins.wstrb, m_held_strobe.size());
            m_held_last = *m_pins.wlast;
        }
        if (!valid || !ready) return;
        ++moves;
        ++statistics.write_beats;
        m_credit -= int64_t(m_need);
        Burst& burst = m_writes.front();
        const bool last = --burst.left == 0;
        if (bool(*m_pins.wlast) != last) {
            m_report.error(cycle, m_name, "write data: wlast is %d on a beat that %s the last of its burst",
                           int(*m_pins.wlast), last ? "is" : "is not");
        }
        if (!burst.bad) write(cycle, burst.stripe++);
        if (last) {
            burst.ready_at = cycle + m_timing.latency;
            m_answers.push_back(burst);
            m_writes.pop_front();
        }
    }

    void write(int64_t cycle, uint64_t stripe) {
        const auto* const data = static_cast<const uint8_t*>(m_pins.wdata);
        const auto* const strobe = static_cast<const uint8_t*>(m_pins.wstrb);
        uint8_t* const target = m_memory.at(m_index, stripe);
        bool any = false;
        for (unsigned i = 0; i < m_memory.port_bytes(); ++i) {
            if (strobe[i >> 3] >> (i & 7) & 1) {
                target[i] = data[i];
                any = true;
            }
        }
        if (!any) return;
        if (!m_memory.writable(stripe)) {
            m_report.error(cycle, m_name, "write to stripe %" PRIu64 ", where the accelerator must not write",
                           stripe);
        }
        if ((strobe[0] & 15) == 15) {
            wrote_word = true;
            written_stripe = stripe;
            std::memcpy(&written_word, target, 4);
        }
    }

    void drive_read(int64_t cycle) {
        if (!m_presented && !m_reads.empty() && cycle >= m_reads.front().ready_at
            && m_credit >= int64_t(m_need) && !stalls()) {
            Burst& burst = m_reads.front();
            if (burst.bad) {
                std::memset(m_pins.rdata, 0xa5, m_memory.port_bytes());
            } else {
                if (burst.stripe >= count_first && burst.stripe < count_end) ++counted;
                std::memcpy(m_pins.rdata, m_memory.at(m_index, burst.stripe++), m_memory.port_bytes());
            }
            *m_pins.rid = burst.id;
            *m_pins.rresp = burst.bad ? kDecodeError : kOkay;
            *m_pins.rlast = --burst.left == 0;
            if (*m_pins.rlast) m_reads.pop_front();
            m_credit -= int64_t(m_need);
            ++statistics.read_beats;
            m_presented = true;
        }
        *m_pins.rvalid = m_presented;
    }

    const unsigned m_index;
    const uint64_t m_base;
    Memory& m_memory;
    const Timing m_timing;
    const Pins m_pins;
    Report& m_report;
    const unsigned m_size;
    const uint64_t m_need;  // credit of one beat
    uint64_t m_random;
    char m_name[16];

    int64_t m_credit = 0;
    std::deque<Burst> m_reads, m_writes, m_answers;
    bool m_presented = false, m_answered = false;
    Address m_read_address, m_write_address;
    bool m_data_held = false;
    CData m_held_last = 0;
    std::vector<uint8_t> m_held_data, m_held_strobe;
};

}  // namespace hwgen
