// SPDX-License-Identifier: Apache-2.0
// Processes side by side in one thread: each runs until a stream makes it wait. Always the same order, and a deadlock is
// found when it happens.
#pragma once
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace fibers {

struct Fiber {
  ucontext_t context;
  std::function<void()> work;
  void *stack = nullptr;
  std::string waits;  // for a stream, in which direction
  bool done = false;
};

constexpr std::size_t STACK = std::size_t(1) << 30;  // reserved, not used: scratchpads are local arrays

inline std::vector<std::unique_ptr<Fiber>> all;
inline Fiber *current = nullptr;
inline ucontext_t scheduler;
inline bool moved = false;  // has any stream moved since the last round?

inline void enter() {
  current->work();
  current->done = true;
  moved = true;
  swapcontext(&current->context, &scheduler);
}

inline void add(std::function<void()> work) {
  auto fiber = std::make_unique<Fiber>();
  fiber->work = std::move(work);
  fiber->stack = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (fiber->stack == MAP_FAILED) {
    std::fprintf(stderr, "no memory for a process\n");
    std::exit(3);
  }
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = STACK;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, enter, 0);
  all.push_back(std::move(fiber));
}

// The current process waits: others go on.
inline void wait(const char *what, const std::string &stream) {
  current->waits = std::string(what) + " " + stream;
  swapcontext(&current->context, &scheduler);
}

// Until all have ended; a deadlock ends the program with 4.
inline void run() {
  for (;;) {
    bool open = false;
    moved = false;
    for (auto &fiber : all) {
      if (fiber->done) continue;
      open = true;
      current = fiber.get();
      swapcontext(&scheduler, &current->context);
    }
    if (!open) break;
    if (!moved) {
      std::printf("deadlock:");
      for (auto &fiber : all)
        if (!fiber->done) std::printf(" %s;", fiber->waits.c_str());
      std::printf("\n");
      std::fflush(stdout);
      std::_Exit(4);
    }
  }
  for (auto &fiber : all) munmap(fiber->stack, STACK);
  all.clear();
}

// A stream that holds no more than `depth`, and knows how full it was.
template <typename T>
class Queue {
 public:
  Queue(const char *name, std::size_t depth) : name_(name), depth_(depth) {}
  Queue(const Queue &) = delete;
  ~Queue() {
    if (!items_.empty()) {
      std::printf("stream %s: %zu left\n", name_.c_str(), items_.size());
      std::fflush(stdout);
      std::_Exit(5);
    }
  }
  T read() {
    while (items_.empty()) wait("reads", name_);
    T value = items_.front();
    items_.pop_front();
    moved = true;
    return value;
  }
  void write(const T &value) {
    while (items_.size() >= depth_) wait("writes", name_);
    items_.push_back(value);
    moved = true;
  }

 private:
  std::string name_;
  std::size_t depth_;
  std::deque<T> items_;
};

}  // namespace fibers
