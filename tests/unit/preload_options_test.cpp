#include <gtest/gtest.h>

#include "preload/keeper/follow.h"
#include "preload/keeper/options.h"

namespace tidemark::keeper {
namespace {

Options parsed(const char* text, bool expected = true) {
  Options o;
  set_defaults(o);
  const char* error = nullptr;
  EXPECT_EQ(expected, parse_options(text, o, &error)) << text;
  return o;
}

TEST(PreloadOptions, DefaultsAreTheTables) {
  Options o = parsed(nullptr);
  EXPECT_TRUE(o.enable);
  EXPECT_EQ(64u << 20, o.region_size);
  EXPECT_EQ(100u, o.child_grace);
  EXPECT_STREQ("all", o.follow.value);
}

TEST(PreloadOptions, UnitsAndQuotes) {
  Options o = parsed("region_size=2M:child_grace=3s:enable=off:dir=\"/a:b\\\"c\\\\\":check=9");
  EXPECT_EQ(2u << 20, o.region_size);
  EXPECT_EQ(3000u, o.child_grace);
  EXPECT_FALSE(o.enable);
  EXPECT_STREQ("/a:b\"c\\", o.dir.value);
  EXPECT_EQ(9u, o.check);
}

TEST(PreloadOptions, RefusesWhatItDoesNotKnow) {
  for (const char* text : {"nonsense=1", "region_size=2X", "region_size=", "enable=maybe", "dir=\"open", "check=-1", "check",
                           "region_size=99999999999999999999"})
    parsed(text, false);
}

TEST(PreloadOptions, WhatCameBeforeAnErrorHolds) { EXPECT_EQ(5u, parsed("check=5:bad=1", false).check); }

TEST(PreloadFollow, PatternLists) {
  EXPECT_TRUE(matches("redis-server,janus", "janus"));
  EXPECT_TRUE(matches("red*,x", "redis-server"));
  EXPECT_TRUE(matches("py?hon*", "python3.11"));
  EXPECT_TRUE(matches("a*b*c", "aXXbYbc"));
  EXPECT_FALSE(matches("redis", "redis-server"));
  EXPECT_FALSE(matches("", "x"));
}

}  // namespace
}  // namespace tidemark::keeper
