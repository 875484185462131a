// From addresses to source: this very program has functions whose lines are known.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <link.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "analyzer/symbolize/debug_file.h"
#include "analyzer/symbolize/demangle.h"
#include "analyzer/symbolize/module_symbols.h"
#include "analyzer/symbolize/packages.h"
#include "analyzer/symbolize/symbolizer.h"
#include "tests/unit/support/known_lines.h"
#include "tests/unit/support/parsed.h"
#include "tests/unit/support/scratch.h"

namespace tidemark::test {
namespace {

using model::ModuleFile;
using symbolize::FileMatch;
using symbolize::find_file;
using symbolize::SymbolState;

struct Self {
  uint64_t bias = 0, start = UINT64_MAX, end = 0;
  std::string path, build_id;
};

Self self() {
  Self self;
  self.path = std::filesystem::read_symlink("/proc/self/exe");
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* to) {
        auto& self = *static_cast<Self*>(to);
        self.bias = info->dlpi_addr;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& segment = info->dlpi_phdr[i];
          uint64_t at = self.bias + segment.p_vaddr;
          if (segment.p_type == PT_LOAD) {
            self.start = std::min(self.start, at);
            self.end = std::max(self.end, at + segment.p_memsz);
          }
          for (uint64_t note = at; segment.p_type == PT_NOTE && note < at + segment.p_memsz;) {
            auto* header = reinterpret_cast<const ElfW(Nhdr)*>(note);
            const char* content = reinterpret_cast<const char*>(header + 1) + (header->n_namesz + 3) / 4 * 4;
            if (header->n_type == NT_GNU_BUILD_ID) self.build_id.assign(content, header->n_descsz);
            note = reinterpret_cast<uint64_t>(content) + (header->n_descsz + 3) / 4 * 4;
          }
        }
        return 1;  // the program itself comes first
      },
      &self);
  return self;
}

ModuleFile module_file(const std::string& path, const std::string& build_id) {
  ModuleFile file;
  file.path = path;
  file.build_id = build_id;
  return file;
}

TEST(AnalyzerSymbols, InlinedCallsAndLinesOfThisProgram) {
  Self self = test::self();
  ASSERT_EQ(self.build_id.size(), 20u);
  KnownPlace known = known_place();
  RegionBuilder builder;
  builder.module({self.start, self.end, self.bias, self.path, self.build_id});
  builder.stack(builder.path({known.return_address}), {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  symbolize::ModuleCache cache;
  symbolize::Symbolizer symbols(report.profile->modules, report.profile->process, cache);
  auto frames = symbols.find(report.profile->frames(report.profile->sites[0]).at(0));
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_NE(frames[0].function.find("known_inlined"), std::string::npos);
  EXPECT_TRUE(frames[0].inlined);
  EXPECT_EQ(frames[0].line, uint32_t(known.inlined_line));
  EXPECT_TRUE(frames[0].file.ends_with("/known_lines.cpp")) << frames[0].file;
  EXPECT_NE(frames[1].function.find("test::(anonymous namespace)::known_outer()"), std::string::npos) << frames[1].function;
  EXPECT_FALSE(frames[1].inlined);
  EXPECT_EQ(frames[1].line, uint32_t(known.outer_line));
  EXPECT_EQ(symbols.states().at(0), SymbolState::kLines);
}

TEST(AnalyzerSymbols, NamesWithoutDebugInformation) {
  Dl_info info;
  ASSERT_NE(dladdr(reinterpret_cast<void*>(&std::strerror), &info), 0);
  ModuleFile file = module_file(std::filesystem::canonical(info.dli_fname), "");
  struct stat status;
  ASSERT_EQ(stat(file.path.c_str(), &status), 0);
  file.file_bytes = uint64_t(status.st_size);
  file.mtime_ns = int64_t(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
  symbolize::ModuleSymbols symbols(file, {});
  uint64_t address = reinterpret_cast<uint64_t>(&std::strerror) - reinterpret_cast<uint64_t>(info.dli_fbase);
  auto frames = symbols.find(address + 1).frames;
  ASSERT_FALSE(frames.empty());
  EXPECT_EQ(frames.back().function, "strerror");
}

TEST(AnalyzerSymbols, AFileThatRegionsShareIsReadOnce) {
  Self self = test::self();
  symbolize::ModuleCache cache;
  auto opened = cache.open(module_file(self.path, self.build_id), {});
  EXPECT_EQ(opened->state(), SymbolState::kLines);
  EXPECT_EQ(cache.open(module_file("/elsewhere", self.build_id), {}), opened);
  // Found nowhere: may be found from another process's folder.
  auto missing = cache.open(module_file("/no/such/file.so", std::string(20, 'x')), {});
  EXPECT_NE(cache.open(module_file("/no/such/file.so", std::string(20, 'x')), {}), missing);
  EXPECT_NE(cache.open(module_file("", ""), {}), cache.open(module_file("", ""), {}));
}

TEST(AnalyzerSymbols, OnlyTheSameFileIsBelieved) {
  Self self = test::self();
  std::string other_id(20, 'x');
  EXPECT_EQ(find_file(module_file(self.path, self.build_id), {}).match, FileMatch::kSame);
  EXPECT_EQ(find_file(module_file(self.path + " (deleted)", self.build_id), {}).match, FileMatch::kSame);
  EXPECT_EQ(find_file(module_file(self.path, other_id), {}).match, FileMatch::kChanged);
  EXPECT_EQ(find_file(module_file("/no/such/file.so", other_id), {}).match, FileMatch::kMissing);
  EXPECT_EQ(find_file(module_file("/proc/self/status", other_id), {}).match, FileMatch::kUnreadable);
  EXPECT_EQ(find_file(module_file("", ""), {}).match, FileMatch::kMissing);
  EXPECT_EQ(find_file(module_file("relative.so", ""), {}).match, FileMatch::kMissing);
}

TEST(AnalyzerSymbols, RelativeNamesAreMeantFromTheProcessesFolder) {
  Self self = test::self();
  std::filesystem::path path = self.path;
  std::string relative = "./" + path.filename().string(), folder = path.parent_path();
  EXPECT_EQ(find_file(module_file(relative, self.build_id), {.working_folder = folder}).match, FileMatch::kSame);
  EXPECT_EQ(find_file(module_file(relative, self.build_id), {.working_folder = "/no/such"}).match, FileMatch::kMissing);
  EXPECT_EQ(find_file(module_file(relative, self.build_id), {}).match, FileMatch::kMissing);
  EXPECT_EQ(find_file(module_file(relative, std::string(20, 'x')), {.working_folder = folder}).match, FileMatch::kChanged);
}

TEST(AnalyzerSymbols, WithoutABuildIdSizeAndMtimeDecide) {
  Self self = test::self();
  struct stat status;
  ASSERT_EQ(stat(self.path.c_str(), &status), 0);
  ModuleFile file = module_file(self.path, "");
  file.file_bytes = uint64_t(status.st_size);
  file.mtime_ns = int64_t(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
  EXPECT_EQ(find_file(file, {}).match, FileMatch::kSame);
  file.mtime_ns += 1;
  EXPECT_EQ(find_file(file, {}).match, FileMatch::kChanged);
  file.file_bytes = 0;  // not recorded
  EXPECT_EQ(find_file(file, {}).match, FileMatch::kChanged);
  EXPECT_EQ(find_file(file, {.process_started_ns = file.mtime_ns + 1'000'000'000}).match, FileMatch::kSame);
}

TEST(AnalyzerSymbols, FramesWithoutAModule) {
  auto report = report_of(RegionBuilder());
  symbolize::ModuleCache cache;
  symbolize::Symbolizer symbols(report.profile->modules, report.profile->process, cache);
  auto& unknown = symbols.find({.offset = 0x1234});
  ASSERT_EQ(unknown.size(), 1u);
  EXPECT_EQ(unknown[0].function, "");
  EXPECT_EQ(symbols.find({.signal = true})[0].function, "<signal handler called>");
}

TEST(AnalyzerSymbols, TheVdsoHasNoFile) {
  RegionBuilder builder;
  builder.module({0x10000, 0x20000, 0x10000, "linux-vdso.so.1", "1"});
  builder.stack(builder.path({0x10100}), {.allocated_count = 1, .allocated_bytes = 8});
  auto report = report_of(builder);
  symbolize::ModuleCache cache;
  symbolize::Symbolizer symbols(report.profile->modules, report.profile->process, cache);
  EXPECT_NE(symbols.find(report.profile->frames(report.profile->sites[0])[0])[0].function, "");
}

TEST(AnalyzerDemangle, CxxRustAndOthers) {
  using symbolize::demangle;
  EXPECT_EQ(demangle("_ZN3foo3barEi"), "foo::bar(int)");
  EXPECT_EQ(demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"), "std::vector<int, std::allocator<int> >::push_back(int const&)");
  EXPECT_EQ(demangle("_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
  EXPECT_EQ(demangle("_ZN4core3fmt5write17h0123456789abcdefE.llvm.123456"), "core::fmt::write");
  EXPECT_EQ(demangle("_RNvC6_123foo3bar"), "123foo::bar");
  EXPECT_EQ(demangle("main"), "main");
  EXPECT_EQ(demangle("memcpy@@GLIBC_2.14"), "memcpy");
  EXPECT_EQ(demangle("_Zgarbage"), "_Zgarbage");
  EXPECT_EQ(demangle(""), "");
}

TEST(AnalyzerPackages, FindsTheOwnerAcrossMergedUsr) {
  Scratch scratch;
  const std::string& folder = scratch.path();
  std::ofstream(scratch / "libx1:amd64.list") << "/.\n/lib/x86_64-linux-gnu/libx-of-test.so.1\n";
  std::ofstream(scratch / "other.list") << "/usr/bin/other-of-test\n";
  auto owners = symbolize::owning_packages({"/usr/lib/x86_64-linux-gnu/libx-of-test.so.1", "/nobodys"}, folder);
  EXPECT_EQ(owners, (std::map<std::string, std::string>{{"/usr/lib/x86_64-linux-gnu/libx-of-test.so.1", "libx1"}}));
  std::filesystem::remove_all(folder);
  EXPECT_TRUE(symbolize::owning_packages({"/x"}, folder).empty());
  EXPECT_EQ(symbolize::debug_package("libx1"), "libx1-dbgsym");
  EXPECT_EQ(symbolize::debug_package("libc6"), "libc6-dbg");
  EXPECT_EQ(symbolize::debug_package("libpython3.11-minimal"), "libpython3.11-dbg");
}

}  // namespace
}  // namespace tidemark::test
