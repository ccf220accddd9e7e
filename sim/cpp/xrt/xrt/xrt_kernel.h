// SPDX-License-Identifier: Apache-2.0
// XRT's header of this name, as far as exported host programs use it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "xrt_bo.h"
#include "xrt_device.h"

enum ert_cmd_state { ERT_CMD_STATE_NEW = 1, ERT_CMD_STATE_RUNNING = 3, ERT_CMD_STATE_COMPLETED = 4, ERT_CMD_STATE_TIMEOUT = 8 };

namespace xrt {

class kernel {
public:
    enum class cu_access_mode : std::uint8_t { exclusive = 0, shared = 1, none = 2 };
    kernel(const device& device, const uuid& id, const std::string& name, cu_access_mode mode = cu_access_mode::shared);

    int group_id(int argument) const;
    std::uint32_t read_register(std::uint32_t offset) const;

    std::shared_ptr<hwgen::Card> card;

private:
    cu_access_mode m_mode;
};

class run {
public:
    explicit run(const kernel& kernel);

    void set_arg(int index, std::uint32_t value);
    void set_arg(int index, const bo& value);
    void start();
    ert_cmd_state wait(const std::chrono::milliseconds& limit = std::chrono::milliseconds{0});

private:
    std::shared_ptr<hwgen::Card> m_card;
};

}  // namespace xrt
