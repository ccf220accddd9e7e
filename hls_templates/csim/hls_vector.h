// SPDX-License-Identifier: Apache-2.0
// hls::vector for C-simulation with g++.
#pragma once
#include <array>

namespace hls {

template <typename T, int N>
using vector = std::array<T, N>;

}  // namespace hls
