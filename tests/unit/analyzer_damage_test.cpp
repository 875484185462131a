// Any file at all: refused with a ReadError, or reported. The fuzz target goes further; this runs everywhere, always the same.
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <sstream>

#include "analyzer/output/json.h"
#include "analyzer/output/text.h"
#include "tests/unit/support/parsed.h"

namespace tidemark::test {
namespace {

using namespace format;

RegionBuilder busy_region() {
  RegionBuilder builder;
  for (uint64_t i = 0; i < 4; ++i)
    builder.module({0x10000 * (i + 1), 0x10000 * (i + 2), 0x10000 * (i + 1), "/no/such/lib.so", "id"});
  uint32_t outer = builder.path({0x10100, 0x20200, 0x30300, 0x400});
  for (uint64_t i = 0; i < 150; ++i) {
    uint32_t leaf = builder.group({0x11000 + i, 0x21000 + i}, outer);
    if (i % 10 == 0) leaf = builder.lone(0x12000 + i, i % 20 == 0 ? kRuleSignal : kRuleGuess, leaf);
    uint32_t id =
        builder.stack(leaf, {.allocated_count = i, .allocated_bytes = i * 100, .freed_count = i / 2, .freed_bytes = i * 50});
    if (i % 3 == 0) builder.shared(id);
    if (i % 5 == 0) builder.at<Detail>(builder.detail(id)).lifetime[9] = uint32_t(i);
  }
  builder.thread(1);
  return builder;
}

// Returns whether it was read.
bool read_all(std::vector<std::byte> bytes) {
  try {
    auto report = report_of(std::move(bytes));
    std::ostringstream text, json;
    output::write_text(text, report, {.top = 10, .full = true});
    output::write_json(json, report, {.top = 20, .details = true});
    EXPECT_FALSE(text.str().empty());
    auto& totals = report.profile->totals.counters;
    EXPECT_LE(totals.freed_bytes, totals.allocated_bytes);
    return true;
  } catch (const region::ReadError&) {
    return false;
  }
}

TEST(AnalyzerDamage, RandomBytes) {
  const std::vector<std::byte> sound = busy_region().used();
  std::mt19937 random(1);
  int read = 0;
  for (int round = 0; round < 1500; ++round) {
    auto bytes = sound;
    // Mostly where it hurts: header, directory, records; from one flipped bit to a mess.
    size_t changes = size_t(1) << random() % 10;
    for (size_t i = 0; i < changes; ++i) {
      size_t reach = random() % 4 == 0 ? 2 * kPageBytes : bytes.size();
      bytes[random() % reach] ^= random() % 2 ? std::byte(1 << random() % 8) : std::byte(random());
    }
    read += read_all(std::move(bytes));
  }
  EXPECT_GT(read, 300);
}

TEST(AnalyzerDamage, RandomWords) {
  // Words that mean something elsewhere: ids, offsets, extreme counts.
  const std::vector<std::byte> sound = busy_region().used();
  std::mt19937 random(2);
  const uint32_t words[] = {0,  1,   2,   0x7fffffff, 0x80000000, UINT32_MAX, kMaxLineId, 1u << 24, uint32_t(sound.size()),
                            64, 128, 4096};
  for (int round = 0; round < 1500; ++round) {
    auto bytes = sound;
    for (int i = 0; i < 8; ++i) {
      uint32_t word = random() % 2 ? words[random() % std::size(words)] : random() % uint32_t(bytes.size() / kLineBytes);
      size_t reach = i < 2 ? sizeof(Header) : bytes.size() - 4;
      std::memcpy(bytes.data() + random() % reach / 4 * 4, &word, sizeof(word));
    }
    read_all(std::move(bytes));
  }
}

TEST(AnalyzerDamage, CutAnywhere) {
  const std::vector<std::byte> sound = busy_region().used();
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    auto bytes = sound;
    bytes.resize(random() % bytes.size());
    read_all(std::move(bytes));
  }
}

TEST(AnalyzerDamage, ManyStacksOnALongChainStayCheap) {
  RegionBuilder builder(kMinRegionBytes * 2);
  std::vector<uint64_t> pcs;
  for (uint64_t i = 0; i < 40000; ++i) pcs.push_back(0x1000 + i);
  uint32_t leaf = builder.path(pcs);
  for (int i = 0; i < 5000; ++i) builder.stack(leaf, {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  EXPECT_EQ(report.profile->sites.size(), 1u);
  EXPECT_EQ(report.profile->frames(report.profile->sites[0]).size(), 40000u);
}

}  // namespace
}  // namespace tidemark::test
