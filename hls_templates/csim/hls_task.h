// SPDX-License-Identifier: Apache-2.0
// hls::task for C-simulation with g++: the process runs once.
#pragma once
#include "fibers.h"

namespace hls {

class task {
 public:
  template <typename F, typename... A>
  explicit task(F *function, A &...streams) {
    fibers::add([=, &streams...] { function(streams...); });
  }
};

}  // namespace hls
