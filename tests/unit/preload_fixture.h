// A store in private memory with its tables, as a child in its grace has one.
#pragma once
#include <gtest/gtest.h>
#include <pthread.h>

#include <cerrno>

#include "preload/base/memory.h"
#include "preload/base/store.h"
#include "preload/base/thread_state.h"
#include "preload/heap/session.h"
#include "preload/heap/threads.h"
#include "preload/heap/tracker.h"
#include "preload/stacks/cache.h"
#include "preload/stacks/frame_tree.h"
#include "preload/stacks/path.h"
#include "preload/stacks/rules.h"

namespace tidemark {

// What a hook hands over, seen from the function that calls this one.
#define HERE \
  Caller { reinterpret_cast<address>(__builtin_return_address(0)), reinterpret_cast<address>(__builtin_frame_address(0)) + 16, \
           *reinterpret_cast<address*>(__builtin_frame_address(0)) }

// As a thread that has joined a session: it knows its stack's bounds, and has a path.
inline stacks::Path& own_path() {
  static thread_local stacks::Path path;
  return path;
}
inline void know_own_stack() {
  pthread_attr_t attributes;
  void* low;
  size_t bytes;
  ASSERT_EQ(0, pthread_getattr_np(pthread_self(), &attributes));
  ASSERT_EQ(0, pthread_attr_getstack(&attributes, &low, &bytes));
  pthread_attr_destroy(&attributes);
  base::thread_state.set_stack(reinterpret_cast<address>(low), reinterpret_cast<address>(low) + bytes);
  own_path() = {};
  base::thread_state.path = &own_path();
}

inline uint32_t put_node(format::Node& n) {
  uint32_t room[64];
  stacks::PathHash hash = stacks::path_hash(n.caller, room, 64);
  hash.add(n);
  return stacks::put_node(n, stacks::hash_of_sum(hash.sum));
}

class CoreTest : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 4 << 20;

  void SetUp() override { open_store(kBytes, 0); }
  void TearDown() override { base::unmap(base::store.start, base::store.bytes); }

  void open_store(uint64_t bytes, uint32_t first_line) {
    base::forget_store_cursors();
    heap::forget_threads();
    heap::session_serial = 0;   // as a thread's state has it that never joined a session
    auto* memory = static_cast<char*>(base::reserve(bytes));
    ASSERT_TRUE(base::format_store(base::store, memory, bytes, first_line));
    ASSERT_TRUE(stacks::start_rules() && stacks::start_tree() && stacks::start_caches());
    base::thread_state = {};
    base::thread_state.owner = base::kNoOwner;
    base::thread_state.errno_at = &errno;
    static const bool started = (heap::start_heap(), true);
    (void)started;
    word_ = 7;
    base::session_word = &word_;
    base::thread_state.generation = word_;
  }

  // A stack of its own for each n.
  uint32_t some_stack(uint64_t n) {
    format::Node node{};
    for (auto& word : node.words) word = (0x1000 + n) | uint64_t{2} << 48;
    return stacks::stack_of(put_node(node));
  }

  uint32_t word_ = 7;
};

}  // namespace tidemark
