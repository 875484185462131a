// The reader: what a sound region says, and that unsound ones are refused or read as far as they go.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "analyzer/region/region.h"
#include "tests/unit/support/region_builder.h"
#include "tests/unit/support/scratch.h"

namespace tidemark::test {
namespace {

using namespace format;
using region::ReadError;
using region::Region;

std::vector<region::StackEntry> stacks(const Region& region) {
  std::vector<region::StackEntry> all;
  region.for_each_stack([&](const region::StackEntry& entry) { all.push_back(entry); });
  EXPECT_GE(region.most_stacks(), all.size());
  return all;
}

std::string refusal(std::vector<std::byte> bytes) {
  try {
    Region::parse(std::move(bytes));
  } catch (const ReadError& error) {
    return error.what();
  }
  return "read";
}

TEST(AnalyzerRegion, RoundTrip) {
  RegionBuilder builder;
  uint32_t leaf = builder.path({0x1000, 0x2000});
  uint32_t id = builder.stack(leaf, {.allocated_count = 3, .allocated_bytes = 300, .freed_count = 1, .freed_bytes = 100});
  builder.module({0x1000, 0x3000, 0x1000, "/lib/libx.so", "12345678901234567890"});
  builder.thread(77);

  Region region = Region::parse(builder.used());
  EXPECT_EQ(region.text(region.header().name), "server");
  ASSERT_EQ(stacks(region).size(), 1u);
  auto entry = stacks(region)[0];
  EXPECT_EQ(entry.id, id);
  EXPECT_EQ(entry.leaf, leaf);
  EXPECT_EQ(entry.kind, StackKind::kOwn);
  EXPECT_EQ(entry.allocated_bytes, 300u);
  EXPECT_EQ(entry.freed_count, 1u);
  ASSERT_EQ(region.modules().size(), 1u);
  EXPECT_EQ(region.text(region.modules()[0].path), "/lib/libx.so");
  ASSERT_EQ(region.threads().size(), 1u);
  EXPECT_EQ(region.missing_pages(), 0u);
}

TEST(AnalyzerRegion, WholeAndCutFileReadTheSame) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8});
  Region cut = Region::parse(builder.used()), whole = Region::parse(builder.whole());
  EXPECT_EQ(cut.used_pages(), whole.used_pages());
  EXPECT_EQ(whole.missing_pages(), 0u);
  EXPECT_EQ(stacks(cut).size(), stacks(whole).size());
}

TEST(AnalyzerRegion, AddsAllStripesOfSharedCounters) {
  RegionBuilder builder;
  uint32_t id = builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 10});
  uint32_t shared = builder.shared(id);
  for (uint32_t i = 0; i < kStripes; ++i) builder.at<SharedCounters>(shared + i) = {100, 1000, 10, 100, 64 + i, 0, 0, 0, {}};
  auto entry = stacks(Region::parse(builder.used())).at(0);
  EXPECT_EQ(entry.allocated_count, 1 + 100u * kStripes);
  EXPECT_EQ(entry.allocated_bytes, 10 + 1000u * kStripes);
  EXPECT_EQ(entry.freed_bytes, 100u * kStripes);
  EXPECT_EQ(entry.max_request_shared, 64u + kStripes - 1);
  EXPECT_TRUE(entry.any_thread_shares);
  builder.at<SharedCounters>(shared) = {};
  EXPECT_FALSE(stacks(Region::parse(builder.used())).at(0).any_thread_shares) << "the other stripes are a thread's each";
}

TEST(AnalyzerRegion, LineIdsOfAForkedChildBeginAboveItsParents) {
  RegionBuilder builder(kMinRegionBytes, 1 << 20);
  uint32_t leaf = builder.path({0x1000});
  uint32_t id = builder.stack(leaf, {.allocated_count = 1, .allocated_bytes = 8});
  EXPECT_GT(leaf, 1u << 20);
  Region region = Region::parse(builder.used());
  EXPECT_TRUE(region.node(leaf));
  EXPECT_FALSE(region.node(leaf - (1 << 20)));
  EXPECT_EQ(stacks(region).at(0).id, id);
  EXPECT_EQ(region.stack(id)->leaf, leaf);
}

TEST(AnalyzerRegion, IdsOfOtherRecordsAreNoNodes) {
  RegionBuilder builder;
  uint32_t leaf = builder.path({0x1000});
  uint32_t id = builder.stack(leaf, {.allocated_count = 1, .allocated_bytes = 8});
  Region region = Region::parse(builder.used());
  EXPECT_FALSE(region.node(0));
  EXPECT_FALSE(region.node(5));  // header
  EXPECT_FALSE(region.node(id));
  EXPECT_FALSE(region.node(kMaxLineId));
  EXPECT_FALSE(region.node(UINT32_MAX));
  EXPECT_FALSE(region.detail(leaf));
  EXPECT_FALSE(region.stack(leaf));
}

TEST(AnalyzerRegion, SkipsPagesOfUnknownKind) {
  RegionBuilder builder;
  builder.page(PageKind(200));
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8});
  EXPECT_EQ(stacks(Region::parse(builder.used())).size(), 1u);
}

TEST(AnalyzerRegion, TextOutsideOfTextPagesIsEmpty) {
  RegionBuilder builder;
  Region region = Region::parse(builder.used());
  EXPECT_EQ(region.text({0, 8}), "");
  EXPECT_EQ(region.text({UINT32_MAX, UINT32_MAX}), "");
  EXPECT_EQ(region.text({region.header().name.offset, UINT32_MAX}), "");
}

TEST(AnalyzerRegion, RefusesWhatIsNoRegion) {
  EXPECT_NE(refusal({}).find("empty"), std::string::npos);
  EXPECT_NE(refusal(std::vector<std::byte>(100, std::byte('x'))).find("not a tidemark region"), std::string::npos);
  EXPECT_NE(refusal(std::vector<std::byte>(8192, std::byte(0))).find("still being created"), std::string::npos);
  RegionBuilder builder;
  std::memset(builder.header().magic, 0, sizeof(kMagic));
  EXPECT_NE(refusal(builder.used()).find("still being created"), std::string::npos);
}

TEST(AnalyzerRegion, RefusesOtherVersionsAndByteOrders) {
  RegionBuilder version, order, records;
  version.header().version = kVersion + 1;
  EXPECT_NE(refusal(version.used()).find("version " + std::to_string(kVersion + 1)), std::string::npos);
  order.header().endian = __builtin_bswap32(kEndianMark);
  EXPECT_NE(refusal(order.used()).find("byte order"), std::string::npos);
  records.header().records[1].bytes = 128;
  EXPECT_NE(refusal(records.used()).find("record sizes"), std::string::npos);
}

TEST(AnalyzerRegion, TruncatedAtEveryPage) {
  RegionBuilder builder;
  for (uint64_t i = 1; i <= 200; ++i) builder.stack(builder.path({i << 12}), {.allocated_count = 1, .allocated_bytes = 8});
  auto bytes = builder.used();
  uint64_t pages = bytes.size() / kPageBytes;
  for (uint64_t kept = 0; kept < pages; ++kept) {
    std::vector<std::byte> cut(bytes.begin(), bytes.begin() + long(kept * kPageBytes));
    if (kept < 2) {
      EXPECT_NE(refusal(cut), "read");
    } else {
      EXPECT_EQ(Region::parse(cut).missing_pages(), pages - kept);
    }
  }
  std::vector<std::byte> header_only(bytes.begin(), bytes.begin() + kPageBytes);
  EXPECT_NE(refusal(header_only).find("truncated: 1 of"), std::string::npos);
}

TEST(AnalyzerRegion, HugeCountsInTheHeaderAreBounded) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8});
  builder.header().used_pages = UINT64_MAX;
  EXPECT_EQ(stacks(Region::parse(builder.whole())).size(), 1u);
  builder.header().directory_bytes = UINT64_MAX;
  builder.header().directory_offset = UINT64_MAX - 5;
  EXPECT_NE(refusal(builder.whole()), "read");
}

class AnalyzerFile : public testing::Test {
 protected:
  std::string refusal_of(const std::string& path) {
    try {
      Region::open(path);
    } catch (const ReadError& error) {
      return error.what();
    }
    return "read";
  }

  Scratch scratch_;
};

TEST_F(AnalyzerFile, OpensRegion) {
  RegionBuilder builder;
  builder.stack(builder.path({0x1000}), {.allocated_count = 1, .allocated_bytes = 8});
  builder.save(scratch_ / "a.tide");
  EXPECT_EQ(stacks(Region::open(scratch_ / "a.tide")).size(), 1u);
  builder.header().ending = uint32_t(Ending::kExited);
  builder.save(scratch_ / "b.tide");
  EXPECT_EQ(stacks(Region::open(scratch_ / "b.tide")).size(), 1u);
}

TEST_F(AnalyzerFile, SaysWhyNot) {
  EXPECT_EQ(refusal_of(scratch_ / "none"), "no such file");
  EXPECT_NE(refusal_of(scratch_.path()).find("folder"), std::string::npos);
  mkfifo((scratch_ / "fifo").c_str(), 0600);
  EXPECT_NE(refusal_of(scratch_ / "fifo").find("not a regular file"), std::string::npos);
  std::ofstream(scratch_ / "empty").close();
  EXPECT_NE(refusal_of(scratch_ / "empty").find("empty"), std::string::npos);
  std::ofstream(scratch_ / "zeros").close();
  std::filesystem::resize_file(scratch_ / "zeros", 1 << 20);
  EXPECT_NE(refusal_of(scratch_ / "zeros").find("still being created"), std::string::npos);
}

TEST_F(AnalyzerFile, AHugeFileCostsOnlyWhatItUses) {
  RegionBuilder builder;
  builder.save(scratch_ / "a.tide");
  std::filesystem::resize_file(scratch_ / "a.tide", 1ull << 40);
  EXPECT_EQ(refusal_of(scratch_ / "a.tide"), "read");
}

}  // namespace
}  // namespace tidemark::test
