#include <gtest/gtest.h>

#include "preload/keeper/region_files.h"

namespace tidemark::keeper {
namespace {

TEST(RegionFilesTest, NamesEndWithAPidAndPerhapsANumber) {
  auto both = [](const char* name) {
    Numbers n = numbers_in(name);
    return std::pair(n.last, n.before);
  };
  EXPECT_EQ(std::pair(17, 0), both("server.17.tide"));
  EXPECT_EQ(std::pair(2, 17), both("server.17.2.tide"));
  EXPECT_EQ(std::pair(17, 12), both("python3.12.17.tide"));   // of either
  EXPECT_EQ(std::pair(0, 0), both("17.tide")) << "a name comes first";
  EXPECT_EQ(std::pair(0, 0), both("server.tide"));
  EXPECT_EQ(std::pair(0, 0), both("server.1x.tide"));
  EXPECT_EQ(std::pair(0, 0), both("server.99999999999999999999.tide"));
  EXPECT_EQ(std::pair(0, 0), both(".tide"));
  EXPECT_EQ(std::pair(0, 0), both("x"));
  EXPECT_TRUE(numbers_in("server.17.2.tide").has(17));
  EXPECT_FALSE(numbers_in("server.17.2.tide").has(1));
  EXPECT_FALSE(numbers_in("server.tide").has(0));
}

}  // namespace
}  // namespace tidemark::keeper
