#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "preload/base/ranges.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {
using namespace format;

TEST_F(CoreTest, HeaderDescribesItself) {
  const Header& h = base::header();
  EXPECT_EQ(0, memcmp(h.magic, kMagic, sizeof(kMagic)));
  EXPECT_EQ(kVersion, h.version);
  EXPECT_EQ(kBytes, h.region_bytes);
  EXPECT_EQ(0, memcmp(h.records, kRecords, sizeof(kRecords)));
}

TEST_F(CoreTest, PagesAreTakenInARowAndNamedInTheDirectory) {
  uint32_t a = base::take_pages(PageKind::kModules, 2), b = base::take_pages(PageKind::kText, 1);
  EXPECT_EQ(a + 2, b);
  const auto* directory = reinterpret_cast<const uint8_t*>(base::store.start + base::header().directory_offset);
  EXPECT_EQ(uint8_t(PageKind::kModules), directory[a + 1]);
  EXPECT_EQ(uint8_t(PageKind::kText), directory[b]);
  EXPECT_EQ(b + 1, base::header().used_pages);
}

TEST_F(CoreTest, FullTablesLeaveRoomForWhatMatters) {
  uint32_t stacks = 0;
  while (base::take_stack()) stacks++;
  EXPECT_GT(stacks, 50'000u);
  EXPECT_EQ(0u, base::take_lines(PageKind::kNodes, 1));
  EXPECT_NE(0u, base::take_pages(PageKind::kModules, 1));
  EXPECT_NE(0u, base::take_text("x", 1).length);
}

TEST_F(CoreTest, DetailsTakeAnEighthAtMost) {
  uint32_t details = 0;
  while (base::take_lines(PageKind::kDetails, sizeof(Detail) / kLineBytes)) details++;
  EXPECT_EQ(kBytes / kPageBytes / 8 * 2, details);
  EXPECT_NE(0u, base::take_stack());
}

TEST_F(CoreTest, LongTextIsCutAndCounted) {
  std::string text(5000, 'x');
  EXPECT_EQ(4000u, base::take_text(text.data(), text.size()).length);
  EXPECT_EQ(1u, base::header().coverage[kTextTruncated]);
}

TEST_F(CoreTest, IdsOfAChildBeginAboveItsParents) {
  base::unmap(base::store.start, base::store.bytes);
  open_store(kBytes, 100'000);
  uint32_t id = base::take_stack();
  EXPECT_GT(id, 100'000u);
  EXPECT_EQ(base::store.start + (id - 100'000) * 64, reinterpret_cast<char*>(base::line<StackRecord>(id)));
}

TEST_F(CoreTest, AStoreThatIsGivenUpGivesNothing) {
  ASSERT_NE(0u, base::take_lines(PageKind::kNodes, 1));
  ASSERT_NE(0u, base::take_text("x", 1).length);
  uint64_t used = base::header().used_pages;
  base::give_up_shared_store();
  EXPECT_EQ(0u, base::take_lines(PageKind::kNodes, 1));   // of a page that was begun
  EXPECT_EQ(0u, base::take_text("x", 1).length);
  EXPECT_EQ(0u, base::take_stack());
  EXPECT_EQ(0u, base::take_pages(PageKind::kModules, 1));
  EXPECT_EQ(used, base::header().used_pages);
}

// Threads take pages while one of them closes: each lies before what is said to be out of reach.
TEST_F(CoreTest, AClosedStoreGivesNoPages) {
  constexpr int kThreads = 4;
  std::atomic<uint32_t> highest{0}, taken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; i++)
    threads.emplace_back([&] {
      while (uint32_t page = base::take_pages(PageKind::kModules, 1)) {
        taken++;
        for (uint32_t seen = highest; seen < page && !highest.compare_exchange_weak(seen, page);) {
        }
      }
    });
  while (taken < 100) std::this_thread::yield();
  uint64_t end = base::close_store();
  for (std::thread& thread : threads) thread.join();
  ASSERT_NE(0u, end);
  EXPECT_LT(highest, end);
  EXPECT_EQ(highest + 1, base::header().used_pages);
  EXPECT_EQ(0u, base::close_store()) << "once";
}

// Destructors and other threads go on for a while.
TEST_F(CoreTest, AClosedStoreGivesAFewPages) {
  uint64_t end = base::close_store();
  uint32_t given = 0;
  while (uint32_t page = base::take_pages(PageKind::kStacks, 1)) {
    ASSERT_LT(page, end);
    given++;
  }
  EXPECT_EQ(256u, given);
}

TEST_F(CoreTest, AStoreIsOpenAgainInAChild) {
  base::close_store();
  base::unmap(base::store.start, base::store.bytes);
  open_store(kBytes, 100'000);
  EXPECT_NE(0u, base::take_pages(PageKind::kModules, 1));
}

TEST(MemoryTest, AnOutgrownTableKeepsItsFirstPageAndReadsAsZerosBeyond) {
  constexpr size_t kBytes = 40000;
  auto* table = static_cast<unsigned char*>(base::small_table(kBytes));
  ASSERT_NE(nullptr, table);
  memset(table, 1, kBytes);
  base::discard_table(table, kBytes);
  EXPECT_EQ(1, table[0]);
  EXPECT_EQ(1, table[4095]);
  for (size_t i = 4096; i < kBytes; i++) ASSERT_EQ(0, table[i]) << i;
  table[5000] = 2;   // who lingers may write, too
  auto* small = static_cast<unsigned char*>(base::small_table(1000));
  memset(small, 1, 1000);
  base::discard_table(small, 1000);
  for (size_t i = 0; i < 1000; i++) ASSERT_EQ(1, small[i]);
}

TEST(MemoryTest, LargeTablesLieWhereHugePagesMayBeginAndTakeNoMoreRoom) {
  constexpr size_t kHuge = 2 << 20, kBytes = kHuge + 100;
  auto ours = [] {
    static base::Range ranges[base::kMaxRanges];
    size_t bytes = 0;
    for (uint32_t i = 0, n = base::copy_ranges(ranges); i < n; i++)
      if (ranges[i].owner == base::Owner::kTidemark) bytes += ranges[i].end - ranges[i].start;
    return bytes;
  };
  size_t before = ours();
  for (int i = 0; i < 5; i++) {
    auto* table = static_cast<char*>(base::small_table(kBytes));
    ASSERT_NE(nullptr, table);
    EXPECT_EQ(0u, reinterpret_cast<uintptr_t>(table) % kHuge);
    EXPECT_TRUE(std::all_of(table, table + kBytes, [](char c) { return c == 0; }));
    memset(table, 1, kBytes);
  }
  EXPECT_EQ(5 * (kHuge + 4096), ours() - before);
}

}  // namespace
}  // namespace tidemark
