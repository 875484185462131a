#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "preload/platform/cgroup_room.h"
#include "tests/unit/support/scratch.h"

namespace tidemark::platform {
namespace {
namespace fs = std::filesystem;

constexpr uint64_t kMiB = 1 << 20;

// Files as a cgroup has them, of one that is two levels below its mount.
class CgroupRoomTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    fs::create_directories(root_ / "above" / "own");
    cgroup_.found = true;
    cgroup_.version_2 = GetParam();
    cgroup_.mount_length = uint32_t(root_.string().size());
    strcpy(cgroup_.folder, (root_ / "above" / "own").c_str());
  }

  void put(const fs::path& folder, const char* file, const std::string& text) { std::ofstream(root_ / folder / file) << text; }
  void put_limit(const fs::path& folder, uint64_t bytes) { put(folder, GetParam() ? "memory.max" : "memory.limit_in_bytes", std::to_string(bytes) + "\n"); }
  // What is used, how much of it by files' pages, how much of those lies on tmpfs.
  void put_usage(const fs::path& folder, uint64_t usage, uint64_t files, uint64_t shared) {
    put(folder, GetParam() ? "memory.current" : "memory.usage_in_bytes", std::to_string(usage) + "\n");
    std::string f = std::to_string(files), s = std::to_string(shared);
    put(folder, "memory.stat", GetParam() ? "anon 1\nfile " + f + "\nkernel 1\nshmem " + s + "\n"
                                          : "cache 0\nrss 1\nshmem 0\ntotal_cache " + f + "\ntotal_rss 1\ntotal_shmem " + s + "\n");
  }

  test::Scratch scratch_;
  fs::path root_ = scratch_.path();
  Cgroup cgroup_{};
};

TEST_P(CgroupRoomTest, AnEighthIsLeft) {
  put_limit("above/own", 80 * kMiB);
  put_usage("above/own", 10 * kMiB, 0, 0);
  EXPECT_TRUE(cgroup_has_room(cgroup_, 56 * kMiB));   // 10 + 56 + 4
  EXPECT_FALSE(cgroup_has_room(cgroup_, 56 * kMiB + 1));
}

TEST_P(CgroupRoomTest, FilesPagesAreDroppedButThoseOnTmpfs) {
  put_limit("above/own", 80 * kMiB);
  put_usage("above/own", 75 * kMiB, 70 * kMiB, 5 * kMiB);
  EXPECT_TRUE(cgroup_has_room(cgroup_, 56 * kMiB));
  EXPECT_FALSE(cgroup_has_room(cgroup_, 57 * kMiB));
}

TEST_P(CgroupRoomTest, LimitsAboveCount) {
  put_limit("above/own", 1024 * kMiB);
  put_usage("above/own", 1 * kMiB, 0, 0);
  put_limit("above", 80 * kMiB);
  put_usage("above", 60 * kMiB, 0, 0);
  EXPECT_FALSE(cgroup_has_room(cgroup_, 16 * kMiB));
  EXPECT_TRUE(cgroup_has_room(cgroup_, 6 * kMiB));
}

TEST_P(CgroupRoomTest, WhatCannotBeReadIsNoLimit) {
  EXPECT_TRUE(cgroup_has_room(cgroup_, 64 * kMiB));
  put_limit("above/own", 1 * kMiB);
  EXPECT_TRUE(cgroup_has_room(cgroup_, 64 * kMiB)) << "usage is not known";
  put("above/own", GetParam() ? "memory.max" : "memory.limit_in_bytes", GetParam() ? "max\n" : "9223372036854771712\n");
  put_usage("above/own", 1 * kMiB, 0, 0);
  EXPECT_TRUE(cgroup_has_room(cgroup_, 64 * kMiB));
}

INSTANTIATE_TEST_SUITE_P(Versions, CgroupRoomTest, testing::Values(false, true), [](const auto& info) { return info.param ? "Two" : "One"; });

}  // namespace
}  // namespace tidemark::platform
