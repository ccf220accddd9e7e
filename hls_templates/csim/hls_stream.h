// SPDX-License-Identifier: Apache-2.0
// hls::stream for C-simulation with g++: blocking and of bounded depth, unlike the vendor's.
#pragma once
#include "fibers.h"

#define hls_thread_local
#define PROCESS(function, ...) fibers::add([&] { function(__VA_ARGS__); })
#define ALL_PROCESSES() fibers::run()

namespace hls {

template <typename T, int DEPTH = 0>
class stream;

template <typename T>
class stream<T, 0> : public fibers::Queue<T> {
 public:
  using fibers::Queue<T>::Queue;
};

template <typename T, int DEPTH>
class stream : public stream<T, 0> {
 public:
  explicit stream(const char *name) : stream<T, 0>(name, DEPTH) {}
};

}  // namespace hls
