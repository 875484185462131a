// Which programs take the libraries that LD_PRELOAD names.
#include <elf.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "preload/platform/executable.h"
#include "tests/unit/support/scratch.h"

namespace tidemark {
namespace {

using platform::search_path;
using platform::takes_preload;

std::string elf(const char* loader, uint16_t machine = EM_X86_64, uint8_t bits = ELFCLASS64) {
  Elf64_Ehdr head{};
  memcpy(head.e_ident, ELFMAG, SELFMAG);
  head.e_ident[EI_CLASS] = bits;
  head.e_machine = machine;
  head.e_phoff = sizeof(head);
  head.e_phentsize = sizeof(Elf64_Phdr);
  head.e_phnum = loader ? 2 : 1;
  Elf64_Phdr parts[2]{};
  parts[0].p_type = PT_LOAD;
  parts[1].p_type = PT_INTERP;
  parts[1].p_offset = sizeof(head) + sizeof(parts);
  parts[1].p_filesz = loader ? strlen(loader) + 1 : 0;
  std::string bytes(reinterpret_cast<char*>(&head), sizeof(head));
  bytes.append(reinterpret_cast<char*>(parts), sizeof(parts));
  return loader ? bytes + loader + '\0' : bytes;
}
constexpr const char* kOurs = "/lib64/ld-linux-x86-64.so.2";

class ExecutableTest : public testing::Test {
 protected:
  bool takes(const std::string& content, mode_t mode = 0755) {
    std::string path = scratch.write("program", content, mode);
    chmod(path.c_str(), mode);
    return takes_preload(path.c_str());
  }
  test::Scratch scratch;
};

TEST_F(ExecutableTest, OnlyOurLoaderDoes) {
  EXPECT_TRUE(takes(elf(kOurs)));
  EXPECT_FALSE(takes(elf("/lib/ld-musl-x86_64.so.1")));
  EXPECT_FALSE(takes(elf(nullptr))) << "static";
  EXPECT_FALSE(takes(elf("/lib/ld-linux-aarch64.so.1", EM_AARCH64)));
  EXPECT_FALSE(takes(elf("/lib/ld-linux.so.2", EM_386, ELFCLASS32)));
  EXPECT_TRUE(takes(elf((std::string(300, '/') + kOurs).c_str()))) << "in a folder with a long name";
  EXPECT_TRUE(takes_preload(kOurs)) << "is given a program that does";
  std::filesystem::create_symlink(kOurs, scratch / "by another name");
  EXPECT_TRUE(takes_preload((scratch / "by another name").c_str()));
}

TEST_F(ExecutableTest, WhatCannotBeToldDoes) {
  EXPECT_TRUE(takes(""));
  EXPECT_TRUE(takes("echo hello\n"));
  EXPECT_TRUE(takes(elf(nullptr).substr(0, 70))) << "its program headers are cut off";
  EXPECT_TRUE(takes_preload((scratch / "nothing").c_str()));
  EXPECT_TRUE(takes_preload(scratch.path().c_str())) << "a folder";
  EXPECT_TRUE(takes_preload(reinterpret_cast<const char*>(1)));
}

TEST_F(ExecutableTest, AScriptIsWhatExecutesIt) {
  std::string small = scratch.write("small", elf(nullptr), 0755), shell = scratch.write("shell", elf(kOurs), 0755);
  EXPECT_FALSE(takes("#! " + small + " -x\n"));
  EXPECT_FALSE(takes("#!" + small));
  EXPECT_TRUE(takes("#!" + shell + "\n"));
  std::string other = scratch.write("other", "#!" + small + "\n", 0755);
  EXPECT_FALSE(takes("#!" + other + "\n"));
  EXPECT_TRUE(takes("#!" + (scratch / "program") + "\n")) << "its own: the kernel refuses";
  EXPECT_TRUE(takes("#!"));
}

TEST_F(ExecutableTest, AnotherUsersDoesNot) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(takes(elf(kOurs), 04755)) << "root's own";
  std::string path = scratch.write("program", elf(kOurs), 0755);
  ASSERT_EQ(0, chown(path.c_str(), 65534, 65534));
  EXPECT_TRUE(takes_preload(path.c_str()));
  for (mode_t mode : {04755, 02755}) {
    chmod(path.c_str(), mode);
    EXPECT_FALSE(takes_preload(path.c_str())) << mode;
  }
  chmod(path.c_str(), 02745);
  EXPECT_TRUE(takes_preload(path.c_str())) << "without the group's right to execute that bit means locks";
}

TEST_F(ExecutableTest, NorDoesOneWithMorePrivileges) {
  std::string path = scratch.write("program", elf(kOurs), 0755);
  const uint32_t net_raw[] = {VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE, 1u << CAP_NET_RAW, 0, 0, 0};
  chmod(scratch.path().c_str(), 0755);
  if (geteuid() != 0 || setxattr(path.c_str(), "security.capability", net_raw, sizeof(net_raw), 0) != 0) GTEST_SKIP() << "not possible here";
  EXPECT_TRUE(takes_preload(path.c_str())) << "root has them anyway";
  pid_t child = fork();
  if (child == 0) _exit(setresuid(65534, 65534, 65534) != 0 || takes_preload(path.c_str()));
  int status;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_EQ(0, status);
}

TEST_F(ExecutableTest, IsFoundAsExecvpFindsIt) {
  scratch.write("program", elf(kOurs), 0755);
  scratch.write("data", "", 0644);
  char out[platform::kMostPath], path[2000], other[] = "OTHER=/bin";
  snprintf(path, sizeof(path), "PATH=/nowhere:%s:/bin", scratch.path().c_str());
  char* environment[] = {other, path, nullptr};
  EXPECT_EQ(scratch / "program", search_path("program", environment, out));
  EXPECT_STREQ("/bin/sh", search_path("sh", environment, out));
  EXPECT_STREQ("", search_path("data", environment, out));
  EXPECT_STREQ("", search_path("no-such-program", environment, out));
  environment[1] = nullptr;
  EXPECT_STREQ("/bin/sh", search_path("sh", environment, out));
  snprintf(path, sizeof(path), "PATH=/%s:/bin", std::string(1500, 'x').c_str());
  environment[1] = path;
  EXPECT_STREQ("/bin/sh", search_path("sh", environment, out)) << "too long a folder is left out";
}

}  // namespace
}  // namespace tidemark
