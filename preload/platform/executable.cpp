#include "preload/platform/executable.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace tidemark::platform {
namespace {

class File {
 public:
  explicit File(const char* path) : fd_(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  explicit operator bool() const { return fd_ >= 0; }
  int get() const { return fd_; }
  size_t read(void* out, size_t bytes, uint64_t at) const {
    auto n = pread(fd_, out, bytes, off_t(at));
    return n > 0 ? size_t(n) : 0;
  }

 private:
  int fd_;
};

// execve(2): another effective than real user or group makes the loader careful (AT_SECURE).
bool becomes_secure(const File& file) {
  struct stat info;
  struct statfs system;
  if (fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
  bool user = info.st_mode & S_ISUID && info.st_uid != getuid();
  bool group = (info.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && info.st_gid != getgid();
  char capabilities[64];
  bool more = getuid() != 0 && syscall(SYS_fgetxattr, file.get(), "security.capability", capabilities, sizeof(capabilities)) > 0;
  if (!user && !group && !more) return false;
  return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 && (fstatfs(file.get(), &system) != 0 || !(system.f_flags & ST_NOSUID));
}

// By whichever of its names.
bool is_loader(const File& file, const char* path) {
  struct stat info, loader;
  const char* slash = strrchr(path, '/');
  const char* name = slash ? slash + 1 : path;
  if (strncmp(name, "ld-linux", 8) == 0 || strncmp(name, "ld-2.", 5) == 0 || strcmp(name, "ld.so") == 0) return true;
  return fstat(file.get(), &info) == 0 && stat("/lib64/ld-linux-x86-64.so.2", &loader) == 0 && info.st_dev == loader.st_dev && info.st_ino == loader.st_ino;
}

constexpr size_t kHead = 1024;   // of a file: has the program headers, as linkers lay it out

bool has_our_loader(const File& file, const char* head, size_t bytes, const char* path) {
  Elf64_Ehdr elf;
  memcpy(&elf, head, sizeof(elf));
  if (elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_machine != EM_X86_64) return false;
  if (elf.e_phentsize != sizeof(Elf64_Phdr)) return true;
  for (uint64_t i = 0, at = elf.e_phoff; i < elf.e_phnum; i++, at += sizeof(Elf64_Phdr)) {
    Elf64_Phdr part;
    if (at > bytes || bytes - at < sizeof(part)) return true;
    memcpy(&part, head + at, sizeof(part));
    if (part.p_type != PT_INTERP) continue;
    char name[64] = {};   // its end
    size_t n = std::min<size_t>(part.p_filesz, sizeof(name) - 1);
    file.read(name, n, part.p_offset + part.p_filesz - n);
    return strstr(name, "ld-linux-x86-64") != nullptr;
  }
  return is_loader(file, path);   // which is given a program
}

// Behind "#!"; "": none.
void script_interpreter(const char* head, size_t bytes, char (&out)[256]) {
  size_t i = 2, n = 0;
  while (i < bytes && (head[i] == ' ' || head[i] == '\t')) i++;
  while (i < bytes && n + 1 < sizeof(out) && !memchr(" \t\n", head[i], 4)) out[n++] = head[i++];
  out[n] = 0;
}
}  // namespace

bool takes_preload(const char* path) {
  char interpreter[256];
  for (int depth = 0; depth < 5; depth++) {   // as far as the kernel follows (fs/exec.c, exec_binprm)
    File file(path);
    char head[kHead];
    size_t bytes = file ? file.read(head, sizeof(head), 0) : 0;
    if (bytes > 2 && head[0] == '#' && head[1] == '!') {
      script_interpreter(head, bytes, interpreter);
      path = interpreter;
      continue;
    }
    if (bytes < sizeof(Elf64_Ehdr) || memcmp(head, ELFMAG, SELFMAG) != 0) return true;
    return has_our_loader(file, head, bytes, path) && !becomes_secure(file);
  }
  return true;
}

const char* search_path(const char* name, char* const* environment, char* out) {
  const char* folders = "/bin:/usr/bin";   // execvp(3)
  for (; environment && *environment; environment++)
    if (strncmp(*environment, "PATH=", 5) == 0) folders = *environment + 5;
  size_t length = strlen(name);
  for (const char* p = folders;; p++) {
    size_t n = strcspn(p, ":");
    if (n + length + 2 < kMostPath) {
      memcpy(out, p, n);
      if (n) out[n++] = '/';
      memcpy(out + n, name, length + 1);
      if (access(out, X_OK) == 0) return out;
      n -= n ? 1 : 0;
    }
    p += strcspn(p, ":");
    if (!*p) break;
  }
  *out = 0;
  return out;
}

}  // namespace tidemark::platform
