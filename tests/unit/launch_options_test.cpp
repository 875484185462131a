#include <gtest/gtest.h>

#include "analyzer/launch/command_line.h"
#include "analyzer/launch/options.h"

namespace tidemark::launch {
namespace {

std::string error_of(const std::vector<std::string>& words) { return parse_command_line(words, nullptr).error; }

TEST(OptionTable, FindsRowsWithDashesAndUnderscores) {
  ASSERT_NE(find_option("region_size"), nullptr);
  EXPECT_EQ(find_option("region-size"), find_option("region_size"));
  EXPECT_EQ(find_option("region"), nullptr);
}

TEST(OptionTable, DefaultsPassTheirOwnCheck) {
  for (const OptionRow& row : option_rows()) EXPECT_EQ(check_value(row, row.default_value), "") << row.name;
}

TEST(OptionTable, SuggestsOnlyWhatIsNear) {
  EXPECT_EQ(nearest_option("regionsize"), "region_size");
  EXPECT_EQ(nearest_option("folow"), "follow");
  EXPECT_EQ(nearest_option("frobnicate"), "");
}

TEST(OptionValues, ChecksTypes) {
  struct {
    const char *name, *value;
    bool good;
  } cases[] = {
      {"enable", "yes", true},
      {"enable", "OFF", true},
      {"enable", "2", false},
      {"check", "100", true},
      {"check", "-1", false},
      {"check", "1K", false},
      {"region_size", "1M", true},
      {"region_size", "1G", true},
      {"region_size", "1023K", false},
      {"region_size", "2G", false},
      {"region_size", "64MB", false},
      {"region_size", "", false},
      {"regions_max", "99999999999999999999", false},
      {"regions_max", "18446744073709551615G", false},
      {"child_grace", "100", true},
      {"child_grace", "2s", true},
      {"child_grace", "1d", true},
      {"child_grace", "2 s", false},
      {"child_grace", "1.5s", false},
      {"py_malloc", "keep", true},
      {"py_malloc", "pymalloc", false},
      {"follow", "a,b*", true},
  };
  for (const auto& c : cases) EXPECT_EQ(check_value(*find_option(c.name), c.value).empty(), c.good) << c.name << '=' << c.value;
}

TEST(OptionValues, Sizes) {
  EXPECT_EQ(parse_size("64M"), uint64_t{64} << 20);
  EXPECT_EQ(parse_size("3"), 3u);
  EXPECT_EQ(parse_size("2g"), uint64_t{2} << 30);
  EXPECT_EQ(parse_size("M"), std::nullopt);
}

TEST(OptionText, QuotesOnlyWhatNeedsIt) {
  OptionSet options;
  options.set("follow", "redis-*");
  options.set("dir", "/tmp/a:b \"c\\d\"");
  EXPECT_EQ(options.text(), "follow=redis-*:dir=\"/tmp/a:b \\\"c\\\\d\\\"\"");
}

TEST(OptionText, ComesBackAsItWas) {
  for (std::string dir : {"/plain", "/with:colon", "/with\"quote", "/back\\slash", "/all:\"\\", "/tail\\:", "/x=y", ":", "\""}) {
    OptionSet options, again;
    options.set("check", "7");
    options.set("dir", dir);
    options.set("enable", "0");
    EXPECT_EQ(again.parse(options.text()), "") << dir;
    EXPECT_EQ(again.get("dir"), dir);
    EXPECT_EQ(again.get("check"), "7");
    EXPECT_EQ(again.get("enable"), "0");
  }
}

TEST(OptionText, RefusesWhatIsNone) {
  for (const char* text : {"dir", "dir=\"/open", "dir=\"/a\"b", "nonsense=1", "enable=maybe", "=1", "check=1:dir"}) {
    OptionSet options;
    EXPECT_NE(options.parse(text), "") << text;
  }
  OptionSet options;
  EXPECT_EQ(options.parse(":check=3::enable=1:"), "");
  EXPECT_EQ(options.get("check"), "3");
}

TEST(CommandLine, SplitsOptionsFromTheCommand) {
  CommandLine line =
      parse_command_line({"-o", "out", "--check=5", "--child-grace", "1s", "--strict", "prog", "--check=6", "-o"}, nullptr);
  EXPECT_EQ(line.error, "");
  EXPECT_TRUE(line.strict);
  EXPECT_EQ(line.options.get("dir"), "out");
  EXPECT_EQ(line.options.get("check"), "5");
  EXPECT_EQ(line.options.get("child_grace"), "1s");
  EXPECT_EQ(line.command, (std::vector<std::string>{"prog", "--check=6", "-o"}));
}

TEST(CommandLine, DoubleDashEndsOptions) {
  EXPECT_EQ(parse_command_line({"--", "--strict"}, nullptr).command, std::vector<std::string>{"--strict"});
  EXPECT_EQ(parse_command_line({"-oout", "--", "-"}, nullptr).options.get("dir"), "out");
}

TEST(CommandLine, BeatsTheEnvironment) {
  CommandLine line = parse_command_line({"--check=2", "x"}, "check=1:follow=none:dir=\"/a:b\"");
  EXPECT_EQ(line.error, "");
  EXPECT_EQ(line.options.get("check"), "2");
  EXPECT_EQ(line.options.get("follow"), "none");
  EXPECT_EQ(line.options.get("dir"), "/a:b");
  EXPECT_EQ(line.options.text(), "check=2:follow=none:dir=\"/a:b\"");
}

TEST(CommandLine, SaysWhatIsWrong) {
  EXPECT_EQ(error_of({"--regoin_size=1M", "x"}), "unknown option --regoin_size; did you mean --region_size?");
  EXPECT_EQ(error_of({"--region_size=1", "x"}), "region_size must lie between 1M and 1G");
  EXPECT_NE(error_of({"--check"}).find("needs a value"), std::string::npos);
  EXPECT_NE(error_of({"--check", "--", "x"}).find("needs a value"), std::string::npos);
  EXPECT_NE(error_of({"-x", "y"}).find("unknown option -x"), std::string::npos);
  EXPECT_NE(error_of({"-o", "", "y"}).find("empty name"), std::string::npos);
  EXPECT_NE(error_of({}).find("needs a command"), std::string::npos);
  EXPECT_NE(parse_command_line({"x"}, "nope=1").error.find("TIDEMARK_OPTIONS"), std::string::npos);
}

TEST(CommandLine, HelpNamesEveryOption) {
  EXPECT_TRUE(parse_command_line({"--help"}, nullptr).help);
  EXPECT_EQ(parse_command_line({"--help"}, "nope=1").error, "");
  std::string help = run_help();
  for (const OptionRow& row : option_rows()) EXPECT_NE(help.find("--" + std::string(row.name) + "="), std::string::npos);
}

}  // namespace
}  // namespace tidemark::launch
