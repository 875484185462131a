#include <elf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "analyzer/launch/elf_file.h"
#include "analyzer/launch/entry.h"
#include "analyzer/launch/library.h"
#include "analyzer/launch/program.h"
#include "tests/unit/support/scratch.h"

namespace tidemark::launch {

using test::Scratch;
namespace {

constexpr const char* kGlibc = "/lib64/ld-linux-x86-64.so.2";

// An executable as far as headers go. No interpreter: statically linked.
std::string elf(const std::string& interpreter, uint16_t machine = EM_X86_64, uint8_t word = ELFCLASS64) {
  Elf64_Ehdr header{};
  memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = word;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_DYN;
  header.e_machine = machine;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 2;
  Elf64_Phdr segments[2] = {};
  segments[0].p_type = PT_LOAD;
  segments[1].p_type = interpreter.empty() ? PT_NOTE : PT_INTERP;
  segments[1].p_offset = sizeof header + sizeof segments;
  segments[1].p_filesz = interpreter.size() + 1;
  return std::string(reinterpret_cast<char*>(&header), sizeof header) +
         std::string(reinterpret_cast<char*>(segments), sizeof segments) + interpreter + '\0';
}

class EntryTest : public testing::Test {
 protected:
  Entry examine_file(const std::string& name, const std::string& content) {
    return examine(scratch.write(name, content), scratch.path().c_str());
  }
  Barrier barrier(const std::string& content) { return examine_file("victim", content).barrier; }

  Scratch scratch;
};

TEST_F(EntryTest, TellsExecutablesApart) {
  EXPECT_EQ(barrier(elf(kGlibc)), Barrier::kNone);
  EXPECT_EQ(barrier(elf("")), Barrier::kStatic);
  EXPECT_EQ(barrier(elf("/lib/ld-musl-x86_64.so.1")), Barrier::kMusl);
  EXPECT_EQ(barrier(elf(kGlibc, EM_AARCH64)), Barrier::kOtherMachine);
  EXPECT_EQ(barrier(elf(kGlibc, EM_386, ELFCLASS32)), Barrier::kOtherMachine);
  EXPECT_EQ(barrier(elf(kGlibc, EM_X86_64, ELFCLASS32)), Barrier::kOtherMachine);
}

TEST_F(EntryTest, LeavesDamagedFilesToExecve) {
  std::string whole = elf(kGlibc);
  for (size_t length : {size_t{5}, sizeof(Elf32_Ehdr) - 1, sizeof(Elf64_Ehdr) + 10}) {
    EXPECT_EQ(barrier(whole.substr(0, length)), Barrier::kNone) << length;
  }
}

TEST(NeededLibraries, AreThoseOfTheExecutable) {
  auto libraries = needed_libraries("/proc/self/exe");
  EXPECT_TRUE(std::find(libraries.begin(), libraries.end(), "libc.so.6") != libraries.end());
  EXPECT_TRUE(needed_libraries("/proc/self/none").empty());
  Scratch scratch;
  EXPECT_TRUE(needed_libraries(scratch.write("headers_only", elf(kGlibc))).empty());
  EXPECT_TRUE(needed_libraries(scratch.write("text", "text")).empty());
}

TEST_F(EntryTest, KnowsTheLoader) { EXPECT_EQ(examine_file("ld-linux-x86-64.so.2", elf("")).barrier, Barrier::kNone); }

TEST_F(EntryTest, FollowsScripts) {
  std::string inner = scratch.write("static", elf(""));
  std::string middle = scratch.write("middle", "#! " + inner + " -x\nrest\n");
  Entry entry = examine_file("outer", "#!" + middle + "\n");
  EXPECT_EQ(entry.barrier, Barrier::kStatic);
  EXPECT_EQ(entry.file, inner);
  EXPECT_FALSE(entry.python);
}

TEST_F(EntryTest, FollowsEnv) {
  scratch.write("shell", elf("/lib/ld-musl-x86_64.so.1"));
  for (const char* line : {"#!/usr/bin/env shell\n", "#!/usr/bin/env -S shell -x\n", "#!/usr/bin/env -S A=b shell\n"}) {
    EXPECT_EQ(barrier(line), Barrier::kMusl) << line;
  }
  EXPECT_EQ(barrier("#!/usr/bin/env nowhere\n"), Barrier::kNone);
}

TEST_F(EntryTest, NamesAnInterpreterThatIsNotThere) {
  Entry entry = examine_file("victim", "#!/no/such/interpreter\n");
  EXPECT_EQ(entry.barrier, Barrier::kMissing);
  EXPECT_EQ(explain(entry), "its interpreter /no/such/interpreter does not exist");
}

TEST_F(EntryTest, TextWithoutAnInterpreterIsTheShells) { EXPECT_EQ(barrier("echo hello\n"), Barrier::kNone); }

TEST_F(EntryTest, ScriptLoopsEnd) {
  std::string self = scratch / "loop";
  EXPECT_EQ(examine_file("loop", "#!" + self + "\n").barrier, Barrier::kNone);
}

TEST_F(EntryTest, SeesPrivileges) {
  std::string path = scratch.write("suid", elf(kGlibc), 0755);
  EXPECT_FALSE(gains_privileges(path));
  // Another owner needs root; a set-user-id file of our own changes nothing.
  chmod(path.c_str(), 04755);
  EXPECT_FALSE(gains_privileges(path));
  if (geteuid() == 0 && chown(path.c_str(), 65534, 65534) == 0) {
    chmod(path.c_str(), 04755);
    EXPECT_TRUE(gains_privileges(path));
    EXPECT_EQ(examine(path, "").barrier, Barrier::kPrivileged);
    chmod(path.c_str(), 02755);
    EXPECT_TRUE(gains_privileges(path));
    chmod(path.c_str(), 02745);  // no execute bit for the group: mandatory locking, not set-group-id
    EXPECT_FALSE(gains_privileges(path));
  }
}

TEST_F(EntryTest, FindsPython) {
  scratch.write("python3.11", elf(kGlibc));
  scratch.write("python3.13t", elf(kGlibc));
  auto python = [&](const char* name, const std::string& content) { return examine_file(name, content).python; };
  EXPECT_TRUE(python("python3", elf(kGlibc)));
  EXPECT_TRUE(python("bot", "#!" + scratch.path() + "/python3.11 -u\n"));
  EXPECT_TRUE(python("bot", "#!/usr/bin/env python3.11\n"));
  EXPECT_TRUE(python("pip", "#!/bin/sh\n'''exec' \"" + scratch.path() + "/python3.11\" \"$0\" \"$@\"\n' '''\n"));
  EXPECT_TRUE(python("python3", "#!/bin/sh\nexec something\n"));  // pyenv's shims
  EXPECT_FALSE(python("bot", elf(kGlibc)));
  EXPECT_FALSE(python("bot", "#!/usr/bin/env python3.13t\n"));
  symlink("python3.13t", (scratch / "python").c_str());
  EXPECT_FALSE(examine(scratch / "python", "").python);
}

TEST(PythonMalloc, YieldsToTheUser) {
  OptionSet options;
  Entry python{Barrier::kNone, "python3", true};
  EXPECT_EQ(python_malloc(python, options, nullptr), "malloc");
  EXPECT_EQ(python_malloc(python, options, "debug"), "");
  EXPECT_EQ(python_malloc(Entry{}, options, nullptr), "");
  options.set("py_malloc", "keep");
  EXPECT_EQ(python_malloc(python, options, nullptr), "");
}

TEST(FindProgram, SearchesAsExecvpDoes) {
  Scratch a, b;
  b.write("tool", "#!/bin/sh\n");
  b.write("plain", "text", 0644);
  std::string both = a.path() + ':' + b.path();
  EXPECT_EQ(find_program("tool", both.c_str()).path, b / "tool");
  EXPECT_EQ(find_program("tool", a.path().c_str()).status, kNotFound);
  EXPECT_EQ(find_program("plain", both.c_str()).status, kNotExecutable);
  EXPECT_EQ(find_program("", both.c_str()).status, kNotFound);
  EXPECT_EQ(find_program(a.path(), both.c_str()).status, kNotExecutable);
  EXPECT_EQ(find_program(a / "none", both.c_str()).status, kNotFound);
  EXPECT_EQ(find_program("sh", nullptr).path, "/bin/sh");
}

TEST(PreloadList, PutsOursFirstAndOnce) {
  EXPECT_EQ(preload_list("/l.so", nullptr), "/l.so");
  EXPECT_EQ(preload_list("/l.so", "a.so b.so"), "/l.so:a.so:b.so");
  EXPECT_EQ(preload_list("/l.so", "a.so::/l.so:b.so"), "/l.so:a.so:b.so");
}

TEST(FindLibrary, RefusesWhatLdSoCannotRead) {
  Scratch scratch;
  EXPECT_EQ(find_library(scratch.write("good.so", "").c_str()).error, "");
  EXPECT_NE(find_library(scratch.write("a b.so", "").c_str()).error, "");
  EXPECT_NE(find_library(scratch.write("a:b.so", "").c_str()).error, "");
  EXPECT_NE(find_library((scratch / "none.so").c_str()).error, "");
}

}  // namespace
}  // namespace tidemark::launch
