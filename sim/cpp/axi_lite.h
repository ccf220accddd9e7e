// SPDX-License-Identifier: Apache-2.0
// The host: an AXI4-Lite initiator that plays reads and writes in order.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "report.h"
#include "verilated.h"

namespace hwgen {

// Signals of the AXI4-Lite port of the top.
struct LitePins {
    SData* awaddr;
    CData *awvalid, *awready;
    IData* wdata;
    CData *wstrb, *wvalid, *wready;
    CData *bresp, *bvalid, *bready;
    SData* araddr;
    CData *arvalid, *arready;
    IData* rdata;
    CData *rresp, *rvalid, *rready;
};

class Lite {
public:
    static constexpr int64_t kPatience = 10000;  // cycles for one access

    Lite(const LitePins& pins, Report& report) : m_pins{pins}, m_report{report} {
        *m_pins.awvalid = *m_pins.wvalid = *m_pins.arvalid = 0;
        *m_pins.bready = *m_pins.rready = 0;
    }

    using Done = std::function<void(int64_t cycle, uint32_t value)>;

    // `done` is called with the cycle in which the data of the write was taken.
    void write(uint32_t address, uint32_t value, Done done = {}) {
        m_queue.push_back({true, address, value, std::move(done)});
    }
    void read(uint32_t address, Done done) { m_queue.push_back({false, address, 0, std::move(done)}); }

    bool idle() const { return m_queue.empty(); }

    void sample(int64_t cycle) {
        if (!m_active) return;
        Access& access = m_queue.front();
        if (*m_pins.awvalid && *m_pins.awready) m_address_taken = true, m_taken = cycle;
        if (*m_pins.wvalid && *m_pins.wready) m_data_taken = true, m_taken = cycle;
        if (*m_pins.arvalid && *m_pins.arready) m_address_taken = true;
        const bool answered = access.is_write ? *m_pins.bvalid && *m_pins.bready
                                              : *m_pins.rvalid && *m_pins.rready;
        if (answered) {
            const unsigned response = access.is_write ? *m_pins.bresp : *m_pins.rresp;
            if (!m_address_taken || (access.is_write && !m_data_taken)) {
                m_report.error(cycle, "s_axi_control", "register 0x%x answered before it was asked", access.address);
            }
            if (response) {
                m_report.error(cycle, "s_axi_control", "register 0x%x answered with error %u",
                               access.address, response);
            }
            const uint32_t value = access.is_write ? access.value : *m_pins.rdata;
            const Done done = std::move(access.done);
            const int64_t when = access.is_write ? m_taken : cycle;
            m_active = false;
            m_queue.pop_front();
            if (done) done(when, value);
        } else if (cycle - m_began > kPatience && !m_complained) {
            m_complained = true;
            m_report.error(cycle, "s_axi_control", "register 0x%x does not answer", access.address);
        }
    }

    bool stuck() const { return m_complained; }

    void drive(int64_t cycle) {
        if (!m_active && !m_queue.empty()) {
            const Access& access = m_queue.front();
            m_active = true;
            m_address_taken = m_data_taken = false;
            m_began = cycle;
            *m_pins.awaddr = *m_pins.araddr = access.address;
            *m_pins.wdata = access.value;
            *m_pins.wstrb = 15;
        }
        const bool writing = m_active && m_queue.front().is_write, reading = m_active && !writing;
        *m_pins.awvalid = writing && !m_address_taken;
        *m_pins.wvalid = writing && !m_data_taken;
        *m_pins.bready = writing;
        *m_pins.arvalid = reading && !m_address_taken;
        *m_pins.rready = reading;
    }

private:
    struct Access {
        bool is_write;
        uint32_t address, value;
        Done done;
    };

    const LitePins m_pins;
    Report& m_report;
    std::deque<Access> m_queue;
    bool m_active = false, m_address_taken = false, m_data_taken = false, m_complained = false;
    int64_t m_began = 0, m_taken = 0;
};

}  // namespace hwgen
