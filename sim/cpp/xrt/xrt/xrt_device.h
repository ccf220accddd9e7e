// SPDX-License-Identifier: Apache-2.0
// XRT's header of this name, as far as exported host programs use it: the card is the simulated RTL.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace hwgen {
class Card;
}

namespace xrt {

class uuid {
public:
    explicit uuid(std::string text = "") : m_text{std::move(text)} {}
    const std::string& to_string() const { return m_text; }

private:
    std::string m_text;
};

class device {
public:
    explicit device(unsigned index);
    // Takes the path of a kernel.xml; link.cfg lies beside it.
    uuid load_xclbin(const std::string& path);

    std::shared_ptr<hwgen::Card> card;
};

}  // namespace xrt
