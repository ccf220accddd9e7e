// SPDX-License-Identifier: Apache-2.0
// XRT's header of this name, as far as exported host programs use it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "xrt_device.h"

enum xclBOSyncDirection { XCL_BO_SYNC_BO_TO_DEVICE = 0, XCL_BO_SYNC_BO_FROM_DEVICE };

namespace hwgen {
struct Buffer;
}

namespace xrt {

class bo {
public:
    bo(const device& device, std::size_t bytes, std::uint32_t group);

    std::uint64_t address() const;
    std::size_t size() const;
    template <typename Pointer> Pointer map() { return reinterpret_cast<Pointer>(host()); }
    void sync(xclBOSyncDirection direction) { sync(direction, size(), 0); }
    void sync(xclBOSyncDirection direction, std::size_t bytes, std::size_t offset);

    std::shared_ptr<hwgen::Buffer> buffer;

private:
    std::uint8_t* host();
};

}  // namespace xrt
