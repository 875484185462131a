#include <gtest/gtest.h>
#include <sched.h>

#include <memory>
#include <thread>

#include "preload/heap/threads.h"

namespace tidemark::heap {
namespace {

// The first thread counts without a lock as long as it is alone, and is interrupted when it is so no more: on one processor, anywhere.
TEST(LiveBytesTest, NothingIsLostWhenASecondThreadBegins) {
  constexpr int64_t kRounds = 20'000'000;
  cpu_set_t before, one;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof before, &before));
  CPU_ZERO(&one);
  for (int cpu = 0; !CPU_COUNT(&one); cpu++)
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  ASSERT_EQ(0, sched_setaffinity(0, sizeof one, &one));
  auto header = std::make_unique<format::Header>();
  std::thread first([&] {
    for (int64_t i = 0; i < kRounds; i++) add_live_alone(*header, 3), take_live_alone(*header, 2);
  });
  for (int64_t i = 0; i < kRounds; i++) __atomic_fetch_add(&header->live_bytes, 1, __ATOMIC_RELAXED);
  first.join();
  sched_setaffinity(0, sizeof before, &before);
  EXPECT_EQ(2 * kRounds, header->live_bytes);
  EXPECT_GE(int64_t(header->peak_live_bytes), kRounds);
}

}  // namespace
}  // namespace tidemark::heap
