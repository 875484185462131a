// Threads that have no slot any more, or never got one, and allocate.
#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {

void wait_for(const std::atomic<bool>& flag) {
  while (!flag.load()) sched_yield();
}
bool all_idle() {
  bool idle = heap::lock_idle_threads();
  if (idle) heap::unlock_threads();
  return idle;
}
// A thread that is inside a hook, until it is told.
struct Inside {
  std::atomic<bool> entered{false}, leave{false}, left{false}, end{false};
  void be() {
    base::thread_state.busy = base::kBusy;
    entered.store(true);
    wait_for(leave);
    base::thread_state.busy = 0;
    left.store(true);
    wait_for(end);
  }
  void expect_waited_for() {
    wait_for(entered);
    EXPECT_FALSE(all_idle());
    leave.store(true);
    wait_for(left);
    EXPECT_TRUE(all_idle());
    end.store(true);
  }
};

class SlotlessThreadsTest : public CoreTest {};

TEST_F(SlotlessThreadsTest, WhoLeftItsSlotIsWaitedFor) {
  Inside inside;
  std::thread thread([&] {
    heap::attach_thread();
    heap::detach_thread();
    inside.be();
  });
  inside.expect_waited_for();
  thread.join();
  EXPECT_TRUE(all_idle());
}

TEST_F(SlotlessThreadsTest, WhoFoundNoSlotIsWaitedFor) {
  while (base::take_lines(format::PageKind::kThreads, 1)) {}
  Inside inside;
  std::thread thread([&] {
    heap::attach_thread();
    EXPECT_EQ(nullptr, base::thread_state.slot);
    inside.be();
  });
  inside.expect_waited_for();
  thread.join();
}

// Whatever comes to lie where its state was, or if nothing does.
TEST_F(SlotlessThreadsTest, WhoIsNoMoreIsNotWaitedFor) {
  constexpr size_t kStack = 256 << 10;
  for (int i = 0; i < 2; i++) {
    void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(MAP_FAILED, stack);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    ASSERT_EQ(0, pthread_attr_setstack(&attributes, stack, kStack));
    auto leaves_its_slot = [](void*) -> void* {
      heap::attach_thread();
      heap::detach_thread();
      return &base::thread_state;
    };
    void* state;
    ASSERT_EQ(0, pthread_create(&thread, &attributes, leaves_its_slot, nullptr));
    ASSERT_EQ(0, pthread_join(thread, &state));
    pthread_attr_destroy(&attributes);
    memset(stack, 0, kStack);
    static_cast<base::ThreadState*>(state)->busy = base::kBusy;
    if (i) munmap(stack, kStack);
    EXPECT_TRUE(all_idle());
    if (!i) munmap(stack, kStack);
  }
}

TEST_F(SlotlessThreadsTest, AChildOfForkHasNone) {
  Inside inside;
  std::thread thread([&] {
    heap::attach_thread();
    heap::detach_thread();
    inside.be();
  });
  wait_for(inside.entered);
  heap::forget_threads();
  EXPECT_TRUE(all_idle());
  inside.leave.store(true);
  inside.end.store(true);
  thread.join();
}

}  // namespace
}  // namespace tidemark
