#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <span>
#include <vector>

#include "preload/heap/mapped_table.h"
#include "preload/heap/mappings.h"
#include "preload/heap/session.h"
#include "preload/platform/kept_file.h"
#include "tests/unit/preload_fixture.h"

namespace tidemark {
namespace {

using heap::MappedRange;

class MappedTable : public testing::Test {
 protected:
  void SetUp() override { heap::clear_mapped(); }
  void TearDown() override { heap::clear_mapped(); }

  using Parts = std::vector<std::vector<uint64_t>>;
  static Parts list(const std::vector<MappedRange>& ranges) {
    Parts parts;
    for (const MappedRange& r : ranges) parts.push_back({r.start, r.end, r.owner});
    return parts;
  }
  static Parts all() {
    std::vector<MappedRange> ranges(heap::kMostMapped);
    ranges.resize(heap::copy_mapped(0, UINTPTR_MAX, ranges.data(), heap::kMostMapped));
    return list(ranges);
  }
  static Parts cut(uintptr_t start, uintptr_t end) {
    std::vector<MappedRange> parts;
    EXPECT_TRUE(heap::cut_mapped(start, end, [](void* p, const MappedRange& part) { static_cast<std::vector<MappedRange>*>(p)->push_back(part); }, &parts));
    return list(parts);
  }
};

TEST_F(MappedTable, HighestFirstWhateverTheOrder) {
  for (uintptr_t start : {30, 10, 50, 20, 40}) EXPECT_TRUE(heap::put_mapped({start, start + 5, 1}));
  EXPECT_EQ((Parts{{50, 55, 1}, {40, 45, 1}, {30, 35, 1}, {20, 25, 1}, {10, 15, 1}}), all());
}

TEST_F(MappedTable, NeighboursOfOneOwnerAreJoined) {
  heap::put_mapped({10, 20, 1});
  heap::put_mapped({30, 40, 1});
  heap::put_mapped({20, 30, 2});
  EXPECT_EQ((Parts{{30, 40, 1}, {20, 30, 2}, {10, 20, 1}}), all());
  EXPECT_EQ((Parts{{20, 30, 2}}), cut(20, 30));
  heap::put_mapped({20, 30, 1});
  EXPECT_EQ((Parts{{10, 40, 1}}), all());
  heap::put_mapped({40, 50, 1});
  heap::put_mapped({0, 10, 1});
  EXPECT_EQ((Parts{{0, 50, 1}}), all());
}

TEST_F(MappedTable, ACutLeavesBothEnds) {
  heap::put_mapped({10, 90, 1});
  EXPECT_EQ((Parts{{40, 50, 1}}), cut(40, 50));
  EXPECT_EQ((Parts{{50, 90, 1}, {10, 40, 1}}), all());
  heap::put_mapped({100, 120, 2});
  heap::put_mapped({120, 130, 3});
  EXPECT_EQ((Parts{{120, 125, 3}, {100, 120, 2}, {50, 90, 1}, {30, 40, 1}}), cut(30, 125));
  EXPECT_EQ((Parts{{125, 130, 3}, {10, 30, 1}}), all());
  EXPECT_EQ(Parts{}, cut(30, 125));
}

TEST_F(MappedTable, FullIsSaid) {
  for (uint32_t i = 0; i < heap::kMostMapped; i++) EXPECT_TRUE(heap::put_mapped({i * 10, i * 10 + 3, i}));
  EXPECT_FALSE(heap::put_mapped({5, 6, 1}));
  std::vector<MappedRange> parts;   // two ends of one should stay
  EXPECT_FALSE(heap::cut_mapped(1, 2, [](void* p, const MappedRange& part) { static_cast<std::vector<MappedRange>*>(p)->push_back(part); }, &parts));
  EXPECT_EQ((Parts{{1, 2, 0}, {2, 3, 0}}), list(parts));
}

class MappingsTest : public CoreTest {
 protected:
  static constexpr size_t kPage = format::kPageBytes;

  void SetUp() override {
    CoreTest::SetUp();
    heap::forget_mappings();
  }
  void TearDown() override {
    heap::forget_mappings();
    CoreTest::TearDown();
  }

  // Two call stacks, wherever they are called from.
  __attribute__((noinline)) static void map(uintptr_t start, size_t bytes) {
    heap::note_mapped(reinterpret_cast<void*>(start), bytes, HERE);
    asm volatile("");
  }
  __attribute__((noinline)) static void map_by_one(uintptr_t start, size_t bytes) {
    map(start, bytes);
    asm volatile("");
  }
  __attribute__((noinline)) static void map_by_other(uintptr_t start, size_t bytes) {
    map(start, bytes);
    asm volatile("nop");
  }
  struct Call {
    void (*by)(uintptr_t, size_t);
    uintptr_t start;
    size_t bytes;
  };
  // All from one place: no loop is made into several.
  __attribute__((noinline)) static void make(std::span<const Call> calls) {
#pragma GCC unroll 1
    for (const Call& c : calls) {
      c.by(c.start, c.bytes);
      asm volatile("");
    }
  }
  static heap::Unmapping unmap(uintptr_t start, size_t bytes) { return heap::Unmapping(reinterpret_cast<void*>(start), bytes); }

  // In the order of their making.
  std::vector<const format::MappingStack*> stacks() {
    std::vector<const format::MappingStack*> found;
    const format::Header& h = base::header();
    const auto* directory = reinterpret_cast<const uint8_t*>(base::store.start + h.directory_offset);
    for (uint64_t page = 0; page < h.used_pages; page++)
      for (uint32_t i = 0; directory[page] == uint8_t(format::PageKind::kMappingStacks) && i < format::kLinesPerPage; i++) {
        const auto* s = reinterpret_cast<const format::MappingStack*>(base::store.start + page * kPage) + i;
        if (s->leaf) found.push_back(s);
      }
    return found;
  }
};

TEST_F(MappingsTest, EachStackHasItsOwnCounts) {
  const Call calls[] = {{map_by_one, 0x10000000, 5 * kPage}, {map_by_one, 0x10100000, 5 * kPage}, {map_by_one, 0x10200000, 5 * kPage},
                        {map_by_other, 0x20000000, kPage + 1}, {map_by_other, 0x10101000, kPage + 1}};   // the last one in another's middle
  make(calls);
  ASSERT_EQ(2u, stacks().size());
  const format::MappingStack &a = *stacks()[0], &b = *stacks()[1];
  EXPECT_EQ(3u, a.mapped_count);
  EXPECT_EQ(15 * kPage, a.mapped_bytes);
  EXPECT_EQ(2u, b.mapped_count);
  EXPECT_EQ(4 * kPage, b.mapped_bytes);   // whole pages
  unmap(0x10000000, kPage);
  unmap(0x10000000, kPage);   // nothing is there any more
  EXPECT_EQ(3 * kPage, a.unmapped_bytes);
  EXPECT_EQ(15 * kPage, a.peak_bytes);
  EXPECT_EQ(0u, b.unmapped_bytes);
  EXPECT_EQ(0u, base::header().coverage[format::kMappingsForgotten]);
}

TEST_F(MappingsTest, WhatFailsIsPutBack) {
  const Call calls[] = {{map_by_one, 0x10000000, 4 * kPage}, {map_by_other, 0x10004000, 4 * kPage}};
  make(calls);
  unmap(0x10002000, 4 * kPage).failed();
  for (const auto* s : stacks()) EXPECT_EQ(0u, s->unmapped_bytes);
  unmap(0x10000000, 8 * kPage);
  for (const auto* s : stacks()) EXPECT_EQ(4 * kPage, s->unmapped_bytes);
}

// The path is the number, bit by bit.
__attribute__((noinline)) void map_by_path(uint32_t number, int bits, void (*map)(uintptr_t, size_t)) {
  if (bits == 0) {
    map(0x10000000, 4096);
  } else if (number & 1) {
    map_by_path(number >> 1, bits - 1, map);
    asm volatile("");
  } else {
    map_by_path(number >> 1, bits - 1, map);
    asm volatile("nop");
  }
}

TEST_F(MappingsTest, ManyStacksShareTheLastPlace) {
  constexpr uint32_t kMost = 4096, kPaths = 5000;
#pragma GCC unroll 1
  for (uint32_t i = 0; i < kPaths; i++) map_by_path(i, 13, map);
  ASSERT_EQ(kMost, stacks().size());
  EXPECT_EQ(format::kCutNode, stacks().back()->leaf);
  EXPECT_EQ(kPaths - (kMost - 1), stacks().back()->mapped_count);
  uint64_t live = 0;
  for (const auto* s : stacks()) live += s->mapped_bytes - s->unmapped_bytes;
  EXPECT_EQ(kPage, live);   // each lay where the one before it had been
  EXPECT_EQ(0u, base::header().coverage[format::kMappingsForgotten]);
}

TEST_F(MappingsTest, WhatIsNotPutBackIsCounted) {
  constexpr uint32_t kParts = 20, kPutBack = 16;
  Call calls[kParts];
  for (uint32_t i = 0; i < kParts; i++) calls[i] = {i % 2 ? map_by_one : map_by_other, 0x10000000 + i * kPage, kPage};
  make(calls);
  unmap(0x10000000, kParts * kPage).failed();
  uint64_t live = 0;
  for (const auto* s : stacks()) live += s->mapped_bytes - s->unmapped_bytes;
  EXPECT_EQ(kPutBack * kPage, live);
  EXPECT_EQ(kParts - kPutBack, base::header().coverage[format::kMappingsForgotten]);
}

TEST_F(MappingsTest, AChildThatAHandlerForkedPutsNothingBack) {
  map(0x10000000, kPage);
  heap::Unmapping unmapping(reinterpret_cast<void*>(0x10000000), kPage);
  heap::session_serial++;
  heap::forget_mappings();
  unmapping.failed();
  EXPECT_EQ(kPage, stacks()[0]->unmapped_bytes);
}

TEST_F(MappingsTest, InsideTheAllocatorItIsCounted) {
  base::thread_state.busy = reinterpret_cast<address>(__builtin_frame_address(0)) - 65536;   // a hook further in
  base::thread_state.set_stack(1, 2);
  map(0x10000000, kPage);
  base::thread_state.busy = 0;
  EXPECT_EQ(0u, stacks().size());
  EXPECT_EQ(1u, base::header().coverage[format::kMappingsForgotten]);
}

TEST_F(MappingsTest, WhatIsOddIsLeftAlone) {
  map(0x10000001, kPage);
  map(0x10000000, 0);
  map(0x10000000, SIZE_MAX);
  unmap(0x10000001, kPage);
  unmap(0x10000000, SIZE_MAX - kPage).failed();
  EXPECT_EQ(0u, stacks().size());
  EXPECT_EQ(0u, base::header().coverage[format::kMappingsForgotten]);
}

TEST_F(MappingsTest, ResidentPagesGoToWhoMappedThem) {
  platform::begin_kept_files(true);
  auto* memory = static_cast<char*>(mmap(nullptr, 64 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  auto at = reinterpret_cast<uintptr_t>(memory);
  const Call calls[] = {{map_by_one, at, 32 * kPage}, {map_by_other, at + 32 * kPage, 32 * kPage}};
  make(calls);
  memset(memory, 1, 10 * kPage);
  memset(memory + 32 * kPage, 1, 20 * kPage);
  auto measure = [&](bool baseline) {
    heap::add_resident_mapping(at - 5 * kPage, at + 64 * kPage, 30 * kPage);   // joined with something else
    heap::publish_resident_mappings(baseline);
  };
  measure(true);
  EXPECT_EQ(10 * kPage, stacks()[0]->resident_bytes);
  EXPECT_EQ(20 * kPage, stacks()[1]->resident_bytes);
  EXPECT_EQ(20 * kPage, stacks()[1]->baseline_resident_bytes);
  unmap(at + 32 * kPage, 32 * kPage);
  munmap(memory + 32 * kPage, 32 * kPage);
  measure(false);
  EXPECT_EQ(10 * kPage, stacks()[0]->resident_bytes);
  EXPECT_EQ(0u, stacks()[1]->resident_bytes);
  EXPECT_EQ(20 * kPage, stacks()[1]->baseline_resident_bytes);
  heap::add_resident_mapping(at, at + 32 * kPage, 10 * kPage);
  heap::exclude_from_mappings(at, at + 4 * kPage);   // a thread's stack
  heap::publish_resident_mappings(false);
  EXPECT_EQ(6 * kPage, stacks()[0]->resident_bytes);
  munmap(memory, 32 * kPage);
}

// Joined by the kernel with pages that are nobody's, or the allocator's.
TEST_F(MappingsTest, AVastMappingHasWhatTheOthersHaveNot) {
  constexpr size_t kVast = (size_t{16} << 30) + 4096, kOthers = 64 * kPage;
  platform::begin_kept_files(true);
  void* memory = mmap(nullptr, kVast + kOthers, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(MAP_FAILED, memory);
  auto at = reinterpret_cast<uintptr_t>(memory);
  const Call calls[] = {{map_by_one, at + kOthers, kVast}};
  make(calls);
  madvise(memory, kVast + kOthers, MADV_NOHUGEPAGE);
  memset(memory, 1, 5 * kPage);
  memset(reinterpret_cast<void*>(at + kOthers + kPage), 1, 10 * kPage);
  heap::add_resident_mapping(at, at + kVast + kOthers, 15 * kPage);
  heap::publish_resident_mappings(false);
  EXPECT_EQ(10 * kPage, stacks()[0]->resident_bytes);
  munmap(memory, kVast + kOthers);
}

}  // namespace
}  // namespace tidemark
