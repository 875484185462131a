#include <vector>

#include "preload/keeper/session.h"
#include "preload/keeper/warnings.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

constexpr uint64_t kMiB = 1 << 20;

class WarningsTest : public CoreTest {
 protected:
  void SetUp() override {
    CoreTest::SetUp();
    keeper::set_defaults(keeper::options);
    keeper::forget_warnings();
  }
  void TearDown() override {
    keeper::options = {};
    CoreTest::TearDown();
  }

  void at_second(uint32_t second) { base::header().tick = second * kTicksPerSecond; }

  std::vector<EventKind> warnings() const {
    std::vector<EventKind> kinds;
    const Header& h = base::header();
    for (uint64_t p = 0; p < h.used_pages; p++) {
      if (base::store.start[h.directory_offset + p] != char(PageKind::kEvents)) continue;
      auto* events = reinterpret_cast<const Event*>(base::store.start + p * kPageBytes);
      for (uint32_t i = 0; i < kLinesPerPage && events[i].kind; i++) kinds.push_back(EventKind(events[i].kind));
    }
    return kinds;
  }
};

TEST_F(WarningsTest, GrowthWarnsAtEachDoubling) {
  keeper::take_baseline(100 * kMiB, 500 * kMiB);
  size_t wanted[] = {0, 0, 1, 1, 1, 2, 2, 3, 3};
  uint64_t grown[] = {0, 10, 11, 19, 20, 21, 40, 90, 160};
  for (size_t i = 0; i < std::size(grown); i++) {
    keeper::watch_rss((100 + grown[i]) * kMiB);
    EXPECT_EQ(wanted[i], warnings().size()) << grown[i];
  }
  keeper::watch_rss(50 * kMiB);
  keeper::watch_rss(UINT64_MAX);
  EXPECT_EQ(3u, warnings().size());
}

TEST_F(WarningsTest, AChangedOptionCountsAtOnce) {
  keeper::options.warn_expired = 100 * kMiB;
  keeper::watch_expired(50 * kMiB);
  EXPECT_TRUE(warnings().empty());
  keeper::options.warn_expired = 10 * kMiB;
  keeper::watch_expired(50 * kMiB);
  EXPECT_EQ(std::vector{EventKind::kExpiredBlocks}, warnings());
  keeper::options.warn_expired = 0;
  keeper::watch_expired(5000 * kMiB);
  EXPECT_EQ(1u, warnings().size());
}

TEST_F(WarningsTest, TheLimitIsSeenComing) {
  for (uint32_t second = 0; second < 60; second++) {   // 1 MiB a second, 1000 MiB left: in 1000 s
    at_second(second);
    keeper::watch_cgroup((1000 + second) * kMiB, 2000 * kMiB);
  }
  EXPECT_TRUE(warnings().empty());
  for (uint32_t second = 60; second < 600; second++) {
    at_second(second);
    keeper::watch_cgroup((1000 + second) * kMiB, 2000 * kMiB);
  }
  EXPECT_EQ(std::vector{EventKind::kCgroupLimit}, warnings()) << "once, when 600 s are left";
}

TEST_F(WarningsTest, AStepIsNoSlope) {
  for (uint32_t second = 0; second < 120; second++) {
    at_second(second);
    keeper::watch_cgroup((second < 30 ? 1000 : 1900) * kMiB, 2000 * kMiB);
  }
  EXPECT_TRUE(warnings().empty());
}

TEST_F(WarningsTest, NeitherUnknownNorUnlimitedWarns) {
  for (uint32_t second = 0; second < 60; second++) {
    at_second(second);
    keeper::watch_cgroup((1000 + second) * kMiB, UINT64_MAX);
    keeper::watch_cgroup(UINT64_MAX, 1001 * kMiB);
  }
  EXPECT_TRUE(warnings().empty());
}

}  // namespace
}  // namespace tidemark
