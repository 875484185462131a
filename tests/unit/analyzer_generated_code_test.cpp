// Names of JIT code: files that others write, perhaps half.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "analyzer/symbolize/generated_code.h"
#include "analyzer/symbolize/symbolizer.h"
#include "tests/unit/support/parsed.h"
#include "tests/unit/support/scratch.h"

namespace tidemark::test {
namespace {

using symbolize::GeneratedCode;

std::string name_at(const GeneratedCode& code, uint64_t address) {
  auto* frame = code.find(address);
  return frame ? frame->function : "";
}

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// A record of a jitdump file with its prefix.
std::string record(uint32_t id, const std::string& content) {
  std::string bytes;
  put(bytes, id);
  put(bytes, uint32_t(16 + content.size()));
  put(bytes, uint64_t{1});
  return bytes + content;
}

// What begins both: process, thread, then words of 8 bytes.
std::string of_thread(std::initializer_list<uint64_t> words) {
  std::string bytes;
  put(bytes, uint32_t{1});
  put(bytes, uint32_t{1});
  for (uint64_t word : words) put(bytes, word);
  return bytes;
}

std::string load(uint64_t address, uint64_t size, const std::string& name) {
  return record(0, of_thread({address, address, size, 0}) + name + '\0' + std::string(size, '\x90'));
}

std::string move(uint64_t from, uint64_t to, uint64_t size) { return record(1, of_thread({to, from, to, size, 0})); }

std::string lines(uint64_t address) {
  std::string bytes;
  put(bytes, address);
  put(bytes, uint64_t{2});
  for (uint64_t i = 0; i < 2; ++i) {
    put(bytes, address + i * 8);
    put(bytes, uint32_t(10 + i));
    put(bytes, uint32_t{0});
    bytes += (i == 0 ? std::string("/src/a.js") : std::string("\xff")) + '\0';
  }
  return record(2, bytes);
}

std::string jitdump() {
  std::string bytes;
  put(bytes, uint32_t{0x4A695444});
  put(bytes, uint32_t{1});
  put(bytes, uint32_t{40});
  bytes.resize(40);
  return bytes + load(0x1000, 32, "first") + lines(0x2000) + load(0x2000, 16, "JS:second @x") + move(0x1000, 0x3000, 32);
}

TEST(AnalyzerGeneratedCode, APerfMapAndItsOddLines) {
  GeneratedCode code;
  code.add_perf_map("1000 20 old name\n\nrubbish\n2000 zz x\n3000 0 empty\nffffffffffffffff 10 wraps\n0x4000 0x10 with prefix\n"
                    "5000 100 wide\n5010 10 later\n1010 8 new\n6000 10 _ZN3foo3barEi\n7000 10 file:///@scope/x.js\n8000 10 no newline");
  code.finish();
  EXPECT_EQ(name_at(code, 0xfff), "");
  EXPECT_EQ(name_at(code, 0x1000), "old name");
  EXPECT_EQ(name_at(code, 0x100f), "old name");
  EXPECT_EQ(name_at(code, 0x1010), "new");
  EXPECT_EQ(name_at(code, 0x1018), "old name");
  EXPECT_EQ(name_at(code, 0x1020), "");
  EXPECT_EQ(name_at(code, 0x3000), "");
  EXPECT_EQ(name_at(code, 0x4000), "with prefix");
  EXPECT_EQ(name_at(code, 0x5000), "wide");
  EXPECT_EQ(name_at(code, 0x501f), "later");
  EXPECT_EQ(name_at(code, 0x50ff), "wide");
  EXPECT_EQ(name_at(code, 0x6000), "foo::bar(int)");
  EXPECT_EQ(name_at(code, 0x7000), "file:///@scope/x.js");
  EXPECT_EQ(name_at(code, 0x800f), "no newline");
}

TEST(AnalyzerGeneratedCode, ALaterWideOneHidesAllThatWasThere) {
  GeneratedCode code;
  code.add_perf_map("1000 10 a\n1020 10 b\n1040 10 c\n1008 30 wide\n");
  code.finish();
  EXPECT_EQ(name_at(code, 0x1007), "a");
  for (uint64_t address = 0x1008; address < 0x1038; ++address) EXPECT_EQ(name_at(code, address), "wide") << address;
  EXPECT_EQ(name_at(code, 0x1038), "");
  EXPECT_EQ(name_at(code, 0x1040), "c");
}

// Any order, any overlap: as if each address were looked for in all of them, the latest first.
TEST(AnalyzerGeneratedCode, EachAddressHasTheLatestThatCoversIt) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::ostringstream map;
    std::string expected[64];
    for (uint64_t i = 0, count = random() % 20; i < count; ++i) {
      uint64_t start = random() % 60, bytes = 1 + random() % (64 - start);
      std::string name(1, char('a' + i));
      map << std::hex << 0x1000 + start << ' ' << bytes << ' ' << name << '\n';
      std::fill_n(expected + start, bytes, name);
    }
    GeneratedCode code;
    code.add_perf_map(map.str());
    code.finish();
    for (uint64_t i = 0; i < 64; ++i) ASSERT_EQ(name_at(code, 0x1000 + i), expected[i]) << i << " of\n" << map.str();
  }
}

// Each around or within all others: quadratic time would be minutes.
TEST(AnalyzerGeneratedCode, ManyNestedOnesTakeNoTime) {
  constexpr uint64_t kMany = 60000, kBase = 0x10000000;
  std::ostringstream inwards, outwards;
  inwards << std::hex, outwards << std::hex;
  for (uint64_t i = 0; i < kMany; ++i) {
    inwards << kBase + 8 * i << ' ' << (kMany - i) * 16 << " f" << i << '\n';
    uint64_t j = kMany - 1 - i;
    outwards << kBase + 8 * j << ' ' << (kMany - j) * 16 << " f" << j << '\n';
  }
  auto started = std::chrono::steady_clock::now();
  GeneratedCode code, hidden;
  code.add_perf_map(inwards.str());
  code.finish();
  hidden.add_perf_map(outwards.str());
  hidden.finish();
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(10));
  EXPECT_EQ(name_at(code, kBase + 8 * 100), "f64");
  EXPECT_EQ(name_at(code, kBase + 16 * kMany - 8 * 100 - 1), "f64");
  EXPECT_EQ(name_at(hidden, kBase + 8 * 100), "f0");
}

TEST(AnalyzerGeneratedCode, AJitdumpWithLinesAndMoves) {
  GeneratedCode code;
  code.add_jitdump(jitdump());
  code.finish();
  EXPECT_EQ(name_at(code, 0x101f), "first");
  EXPECT_EQ(name_at(code, 0x301f), "first");
  EXPECT_EQ(name_at(code, 0x3020), "");
  auto* second = code.find(0x2009);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->function, "JS:second @x");
  EXPECT_EQ(second->file, "/src/a.js");
  EXPECT_EQ(second->line, 11u);
}

TEST(AnalyzerGeneratedCode, AJitdumpThatEndsAnywhere) {
  std::string whole = jitdump();
  for (size_t bytes = 0; bytes <= whole.size(); ++bytes) {
    GeneratedCode code;
    code.add_jitdump(whole.substr(0, bytes));
    code.finish();
    EXPECT_EQ(name_at(code, 0x1000), bytes < 40 + 16 + 40 + 6 + 32 ? "" : "first") << bytes;
  }
  for (size_t at = 0; at < whole.size(); ++at) {   // or holds anything
    std::string damaged = whole;
    damaged[at] = '\xff';
    GeneratedCode code;
    code.add_jitdump(damaged);
    code.finish();
    code.find(0x2009);
  }
}

// Of the process itself: what another one with the same id left is not believed.
TEST(AnalyzerGeneratedCode, OnlyAFileOfThisProcess) {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / ("tidemark-generated-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  model::Process process;
  process.pid = 0x7ffffff0;   // above any that Linux gives
  process.uid = getuid();
  auto path = folder / ("perf-" + std::to_string(process.pid) + ".map");
  std::ofstream(path) << "1000 10 here\n";
  EXPECT_EQ(name_at(GeneratedCode::of(process, folder), 0x1000), "here");
  EXPECT_EQ(name_at(GeneratedCode::of(process, "/no/such/folder"), 0x1000), "");
  process.started_ns = (time(nullptr) + 3600) * 1'000'000'000;
  EXPECT_EQ(name_at(GeneratedCode::of(process, folder), 0x1000), "");
  std::filesystem::remove_all(folder);
}

// Its id may be another process's since. What lies beside the region was put there by whoever keeps it, perhaps as a copy made later.
TEST(AnalyzerGeneratedCode, NoFileThatWasWrittenAfterTheEnd) {
  Scratch beside, started;
  model::Process process;
  process.pid = 0x7ffffff0;
  process.uid = getuid();
  process.cwd = started.path();
  process.ending = model::Ending::kExited;
  std::string path = started.write("perf-" + std::to_string(process.pid) + ".map", "1000 10 here\n");
  auto name_when = [&](int64_t seconds_ago) {
    process.ended_ns = (time(nullptr) - seconds_ago) * 1'000'000'000;
    return name_at(GeneratedCode::of(process, beside.path()), 0x1000);
  };
  EXPECT_EQ(name_when(0), "here");
  EXPECT_EQ(name_when(3600), "");
  EXPECT_EQ(GeneratedCode::of(process, beside.path()).too_new(), std::vector{path});
  EXPECT_EQ(name_at(GeneratedCode::of(process, started.path()), 0x1000), "here");
  process.snapshot = true;   // it goes on
  EXPECT_EQ(name_when(3600), "here");
}

// Links are not followed: the file they lead to counts where it lies itself, and once.
TEST(AnalyzerGeneratedCode, ALinkHidesNothing) {
  Scratch beside, started;
  model::Process process;
  process.pid = 0x7ffffff0;
  process.uid = getuid();
  process.cwd = started.path();
  std::string name = "perf-" + std::to_string(process.pid) + ".map", real = started.write(name, "1000 10 here\n");
  ASSERT_EQ(symlink(real.c_str(), (beside / name).c_str()), 0);
  EXPECT_EQ(name_at(GeneratedCode::of(process, beside.path()), 0x1000), "here");
  process.cwd = "/no/such/folder";
  EXPECT_EQ(name_at(GeneratedCode::of(process, beside.path()), 0x1000), "");
}

TEST(AnalyzerGeneratedCode, TheSymbolizerLooksBesideTheRegion) {
  std::filesystem::path folder = std::filesystem::temp_directory_path() / ("tidemark-beside-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  auto report = report_of(RegionBuilder());
  model::Process process = report.profile->process;
  process.uid = getuid();
  process.started_ns = 0;
  std::ofstream(folder / ("perf-" + std::to_string(process.pid) + ".map")) << "1000 10 here\n";
  symbolize::ModuleCache cache;
  symbolize::Symbolizer symbols(report.profile->modules, process, cache, folder / "x.tide");
  EXPECT_EQ(symbols.find({.offset = 0x1010})[0].function, "here");   // a return address at its end
  EXPECT_EQ(symbols.unnamed(), 0u);
  EXPECT_EQ(symbols.find({.offset = 0x1010, .exact = true})[0].function, "");
  EXPECT_EQ(symbols.unnamed(), 1u);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tidemark::test
