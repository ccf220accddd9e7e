// SPDX-License-Identifier: Apache-2.0
// As much of TAPA as the kernel needs, for C-simulation with g++.
#pragma once
#include <array>
#include <vector>

#include "fibers.h"

namespace tapa {

template <typename T, int N>
using vec_t = std::array<T, N>;

template <typename T>
class istream : public fibers::Queue<T> {
 public:
  using fibers::Queue<T>::Queue;
};

template <typename T>
using ostream = istream<T>;

template <typename T, int DEPTH>
class stream : public istream<T> {
 public:
  explicit stream(const char *name) : istream<T>(name, DEPTH) {}
};

template <typename T>
class mmap {
 public:
  explicit mmap(T *data) : data_(data) {}
  T &operator[](std::ptrdiff_t at) const { return data_[at]; }

 private:
  T *data_;
};

class task {
 public:
  task() = default;
  task(const task &) = delete;
  ~task() { fibers::run(); }
  template <typename R, typename... P, typename... A>
  task &invoke(R (*function)(P...), A &...given) {
    fibers::add([=, &given...] { function(given...); });
    return *this;
  }
};

template <typename T, typename V>
mmap<T> wrapped(V &words) {
  return mmap<T>(words.data());
}
template <typename T, typename V>
mmap<T> read_only_mmap(V &words) {
  return wrapped<T>(words);
}
template <typename T, typename V>
mmap<T> write_only_mmap(V &words) {
  return wrapped<T>(words);
}
template <typename T, typename V>
mmap<T> read_write_mmap(V &words) {
  return wrapped<T>(words);
}

template <typename F, typename... A>
void invoke(F *function, const std::string &, A... given) {
  function(given...);
}

}  // namespace tapa
