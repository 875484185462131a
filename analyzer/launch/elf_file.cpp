#include "analyzer/launch/elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <gelf.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "analyzer/launch/descriptor.h"

namespace tidemark::launch {
namespace {

constexpr size_t kScriptHead = 256;  // what the kernel reads of a script
constexpr size_t kMaxInterpreter = 4096;

std::string read_at(int fd, size_t bytes, uint64_t offset) {
  std::string data(bytes, '\0');
  ssize_t got = pread(fd, data.data(), bytes, off_t(offset));
  data.resize(got > 0 ? size_t(got) : 0);
  return data;
}

bool for_this_machine(const Elf64_Ehdr& header) {
  return header.e_ident[EI_CLASS] == ELFCLASS64 && header.e_ident[EI_DATA] == ELFDATA2LSB && header.e_machine == EM_X86_64;
}

FileFacts elf_facts(int fd, const std::string& head) {
  Elf64_Ehdr header{};
  memcpy(&header, head.data(), std::min(head.size(), sizeof header));
  FileFacts facts{FileKind::kDamagedElf, {}, {}, {}};
  if (head.size() < sizeof(Elf32_Ehdr)) return facts;
  facts.kind = FileKind::kForeignElf;
  if (!for_this_machine(header)) return facts;
  facts.kind = FileKind::kDamagedElf;
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return facts;
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0) return facts;
  std::string table = read_at(fd, header.e_phnum * sizeof(Elf64_Phdr), header.e_phoff);
  if (table.size() != header.e_phnum * sizeof(Elf64_Phdr)) return facts;
  facts.kind = FileKind::kElf;
  for (size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    memcpy(&segment, table.data() + i * sizeof segment, sizeof segment);
    if (segment.p_type != PT_INTERP) continue;
    facts.interpreter = read_at(fd, std::min<size_t>(segment.p_filesz, kMaxInterpreter), segment.p_offset).c_str();
    break;
  }
  return facts;
}

std::string trimmed(const std::string& text) {
  size_t first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

FileFacts script_facts(const std::string& head) {
  FileFacts facts{FileKind::kScript, {}, {}, {}};
  size_t end = std::min(head.find('\n'), head.size());
  std::string line = trimmed(head.substr(2, end - 2));
  size_t space = line.find_first_of(" \t");
  facts.interpreter = line.substr(0, space);
  if (space != line.npos) facts.argument = trimmed(line.substr(space));
  if (end < head.size()) facts.second_line = head.substr(end + 1, head.find('\n', end + 1) - end - 1);
  return facts;
}

// Whether the file's capabilities would raise the permitted set of a process that has none.
bool has_capabilities(const std::string& path) {
  vfs_ns_cap_data data{};
  if (getxattr(path.c_str(), "security.capability", &data, sizeof data) < ssize_t(XATTR_CAPS_SZ_1)) return false;
  return (data.magic_etc & VFS_CAP_FLAGS_EFFECTIVE) || data.data[0].permitted || data.data[1].permitted;
}

// Mode bits and capabilities count for nothing on such a mount, or after PR_SET_NO_NEW_PRIVS.
bool privileges_ignored(const std::string& path) {
  struct statvfs mount;
  return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 || (statvfs(path.c_str(), &mount) == 0 && (mount.f_flag & ST_NOSUID));
}

}  // namespace

FileFacts read_file_facts(const std::string& path) {
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return {errno == ENOENT || errno == ENOTDIR ? FileKind::kMissing : FileKind::kUnreadable, {}, {}, {}};
  std::string head = read_at(file.get(), kScriptHead, 0);
  if (head.compare(0, SELFMAG, ELFMAG, SELFMAG) == 0) return elf_facts(file.get(), head);
  if (head.compare(0, 2, "#!") == 0) return script_facts(head);
  return {FileKind::kOther, {}, {}, {}};
}

std::vector<std::string> needed_libraries(const std::string& path) {
  std::vector<std::string> names;
  Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  elf_version(EV_CURRENT);
  Elf* elf = file ? elf_begin(file.get(), ELF_C_READ, nullptr) : nullptr;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section));) {
    GElf_Shdr header;
    Elf_Data* data = gelf_getshdr(section, &header) && header.sh_type == SHT_DYNAMIC ? elf_getdata(section, nullptr) : nullptr;
    GElf_Dyn entry;
    for (int i = 0; data && gelf_getdyn(data, i, &entry) && entry.d_tag != DT_NULL; ++i) {
      const char* name = entry.d_tag == DT_NEEDED ? elf_strptr(elf, header.sh_link, entry.d_un.d_val) : nullptr;
      if (name) names.emplace_back(name);
    }
  }
  elf_end(elf);
  return names;
}

bool gains_privileges(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return false;
  bool ignored = privileges_ignored(path);
  uid_t user = (info.st_mode & S_ISUID) && !ignored ? info.st_uid : geteuid();
  bool sets_group = (info.st_mode & S_ISGID) && (info.st_mode & S_IXGRP) && !ignored;
  gid_t group = sets_group ? info.st_gid : getegid();
  if (user != getuid() || group != getgid()) return true;
  return getuid() != 0 && !ignored && has_capabilities(path);  // root has them all: nothing is gained
}

}  // namespace tidemark::launch
