// What the shim itself, and its jemalloc, ask of the kernel by functions of libc: the linker binds those names to these here (--wrap, own_calls.cmake), so that
// they reach nobody else who has one of them. Another preloaded library may (fakeroot, libfaketime, cwrap's, padsp), or the program: that would take our
// threads' descriptors, which have a table of their own, for the program's, our time for its time, and its locks, which one of our threads would hold
// while the program forks, or which a child's fork handlers have not given back yet.
//
// Bare system calls, those that glibc makes for each (2.35 and later), for a filter may list what programs are seen to use; none is a cancellation point. Fit for any thread and for signal handlers. errno as libc's.
#include "preload/base/own_calls.h"

#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstring>

#include "preload/base/jemalloc.h"
#include "preload/base/symbols.h"

namespace tidemark::base {
namespace {

template <class... Arguments>
long ask(long number, Arguments... arguments) {
  long a[6] = {(long)arguments...}, result = number;
  register long fourth asm("r10") = a[3];
  register long fifth asm("r8") = a[4];
  register long sixth asm("r9") = a[5];
  asm volatile("syscall" : "+a"(result) : "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(fourth), "r"(fifth), "r"(sixth) : "rcx", "r11", "memory");
  if (result >= -4095 && result < 0) {
    errno = int(-result);
    return -1;
  }
  return result;
}

constinit decltype(&::clock_gettime) libc_clock_gettime = nullptr;
constinit decltype(&::pthread_create) libc_pthread_create = nullptr;
// These are more than one call: what glibc does where the kernel or the file system has none.
constinit decltype(&::posix_fallocate) libc_posix_fallocate = nullptr;
constinit decltype(&::faccessat) libc_faccessat = nullptr;

// By the library's own table: dlopen, without which dlsym knows no library by itself, may be somebody else's, too.
template <class Function>
void find(const link_map& library, const char* name, Function& found) {
  const ElfW(Sym)* symbol = find_function(library, name);
  if (symbol && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC)
    __atomic_store_n(&found, reinterpret_cast<Function>(library.l_addr + symbol->st_value), __ATOMIC_RELAXED);
}

void find_mutexes(const link_map& library) {
  tmje_mutex_functions found{};
  find(library, "pthread_mutex_init", found.init);
  find(library, "pthread_mutex_lock", found.lock);
  find(library, "pthread_mutex_trylock", found.trylock);
  find(library, "pthread_mutex_unlock", found.unlock);
  if (found.init && found.lock && found.trylock && found.unlock) tmje_use_mutexes(&found);
}

const link_map* libc() {
  constexpr const char* kName = "/libc.so.6";
  for (const link_map* m = _r_debug.r_map; m; m = m->l_next) {
    size_t n = strlen(m->l_name);
    if (n >= strlen(kName) && strcmp(m->l_name + n - strlen(kName), kName) == 0) return m;
  }
  return nullptr;
}
}  // namespace

void learn_own_calls() {
  const link_map* library = libc();
  if (!library) return;
  find(*library, "clock_gettime", libc_clock_gettime);
  find(*library, "posix_fallocate", libc_posix_fallocate);
  find(*library, "faccessat", libc_faccessat);
  find_mutexes(*library);
}

void learn_to_make_threads() {
  if (const link_map* library = libc()) find(*library, "pthread_create", libc_pthread_create);
}
}  // namespace tidemark::base

using tidemark::base::ask;
#define TIDEMARK_WRAP extern "C" __attribute__((visibility("hidden"), used))

TIDEMARK_WRAP int __wrap_access(const char* path, int mode) { return int(ask(SYS_access, path, mode)); }
TIDEMARK_WRAP int __wrap_chmod(const char* path, mode_t mode) { return int(ask(SYS_chmod, path, mode)); }
TIDEMARK_WRAP int __wrap_close(int fd) { return int(ask(SYS_close, fd)); }
TIDEMARK_WRAP int __wrap_fchmod(int fd, mode_t mode) { return int(ask(SYS_fchmod, fd, mode)); }
TIDEMARK_WRAP int __wrap_fstat(int fd, struct stat* out) { return int(ask(SYS_newfstatat, fd, "", out, AT_EMPTY_PATH)); }
TIDEMARK_WRAP int __wrap_fstatfs(int fd, struct statfs* out) { return int(ask(SYS_fstatfs, fd, out)); }
TIDEMARK_WRAP int __wrap_ftruncate(int fd, off_t bytes) { return int(ask(SYS_ftruncate, fd, bytes)); }
TIDEMARK_WRAP ssize_t __wrap_getdents64(int fd, void* out, size_t bytes) { return ask(SYS_getdents64, fd, out, bytes); }
TIDEMARK_WRAP gid_t __wrap_getegid() { return gid_t(ask(SYS_getegid)); }
TIDEMARK_WRAP uid_t __wrap_geteuid() { return uid_t(ask(SYS_geteuid)); }
TIDEMARK_WRAP gid_t __wrap_getgid() { return gid_t(ask(SYS_getgid)); }
TIDEMARK_WRAP uid_t __wrap_getuid() { return uid_t(ask(SYS_getuid)); }
TIDEMARK_WRAP pid_t __wrap_getpid() { return pid_t(ask(SYS_getpid)); }
TIDEMARK_WRAP pid_t __wrap_getppid() { return pid_t(ask(SYS_getppid)); }
TIDEMARK_WRAP int __wrap_getresuid(uid_t* real, uid_t* effective, uid_t* saved) { return int(ask(SYS_getresuid, real, effective, saved)); }
TIDEMARK_WRAP int __wrap_getrlimit(__rlimit_resource_t resource, rlimit* out) { return int(ask(SYS_prlimit64, 0, resource, nullptr, out)); }
TIDEMARK_WRAP int __wrap_ioctl(int fd, unsigned long request, void* argument) { return int(ask(SYS_ioctl, fd, request, argument)); }
TIDEMARK_WRAP int __wrap_linkat(int from, const char* path, int to, const char* name, int flags) { return int(ask(SYS_linkat, from, path, to, name, flags)); }
TIDEMARK_WRAP off_t __wrap_lseek(int fd, off_t offset, int whence) { return ask(SYS_lseek, fd, offset, whence); }
TIDEMARK_WRAP int __wrap_madvise(void* start, size_t bytes, int advice) { return int(ask(SYS_madvise, start, bytes, advice)); }
TIDEMARK_WRAP int __wrap_memfd_create(const char* name, unsigned flags) { return int(ask(SYS_memfd_create, name, flags)); }
TIDEMARK_WRAP int __wrap_mincore(void* start, size_t bytes, unsigned char* out) { return int(ask(SYS_mincore, start, bytes, out)); }
TIDEMARK_WRAP int __wrap_mkdir(const char* path, mode_t mode) { return int(ask(SYS_mkdir, path, mode)); }
TIDEMARK_WRAP int __wrap_mprotect(void* start, size_t bytes, int protection) { return int(ask(SYS_mprotect, start, bytes, protection)); }
TIDEMARK_WRAP int __wrap_nanosleep(const timespec* time, timespec* left) { return int(ask(SYS_clock_nanosleep, CLOCK_REALTIME, 0, time, left)); }
TIDEMARK_WRAP ssize_t __wrap_pread(int fd, void* out, size_t bytes, off_t offset) { return ask(SYS_pread64, fd, out, bytes, offset); }
TIDEMARK_WRAP ssize_t __wrap_pwrite(int fd, const void* from, size_t bytes, off_t offset) { return ask(SYS_pwrite64, fd, from, bytes, offset); }
TIDEMARK_WRAP ssize_t __wrap_read(int fd, void* out, size_t bytes) { return ask(SYS_read, fd, out, bytes); }
TIDEMARK_WRAP ssize_t __wrap_readlink(const char* path, char* out, size_t bytes) { return ask(SYS_readlink, path, out, bytes); }
TIDEMARK_WRAP int __wrap_sched_yield() { return int(ask(SYS_sched_yield)); }
TIDEMARK_WRAP int __wrap_stat(const char* path, struct stat* out) { return int(ask(SYS_newfstatat, AT_FDCWD, path, out, 0)); }
TIDEMARK_WRAP int __wrap_unlink(const char* path) { return int(ask(SYS_unlink, path)); }
TIDEMARK_WRAP ssize_t __wrap_write(int fd, const void* from, size_t bytes) { return ask(SYS_write, fd, from, bytes); }
TIDEMARK_WRAP int __wrap_open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, int) : 0;
  va_end(list);
  return int(ask(SYS_openat, AT_FDCWD, path, flags, mode));
}
TIDEMARK_WRAP int __wrap_prctl(int operation, ...) {
  va_list list;
  va_start(list, operation);
  long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long), d = va_arg(list, long);
  va_end(list);
  return int(ask(SYS_prctl, operation, a, b, c, d));
}
TIDEMARK_WRAP int __wrap_usleep(useconds_t us) {
  timespec time{time_t(us / 1'000'000), long(us % 1'000'000) * 1000};
  return __wrap_nanosleep(&time, nullptr);
}
TIDEMARK_WRAP int __wrap_clock_gettime(clockid_t clock, timespec* out) {
  auto* known = __atomic_load_n(&tidemark::base::libc_clock_gettime, __ATOMIC_RELAXED);   // which need not ask the kernel
  return known ? known(clock, out) : int(ask(SYS_clock_gettime, clock, out));
}
TIDEMARK_WRAP int __wrap_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*main)(void*), void* argument) {
  auto* known = __atomic_load_n(&tidemark::base::libc_pthread_create, __ATOMIC_RELAXED);
  return known ? known(thread, attributes, main, argument) : EAGAIN;
}
TIDEMARK_WRAP int __wrap_posix_fallocate(int fd, off_t offset, off_t bytes) {
  auto* known = __atomic_load_n(&tidemark::base::libc_posix_fallocate, __ATOMIC_RELAXED);
  return known ? known(fd, offset, bytes) : ask(SYS_fallocate, fd, 0, offset, bytes) == 0 ? 0 : errno;
}
TIDEMARK_WRAP int __wrap_faccessat(int folder, const char* path, int mode, int flags) {
  auto* known = __atomic_load_n(&tidemark::base::libc_faccessat, __ATOMIC_RELAXED);
  return known ? known(folder, path, mode, flags) : int(ask(SYS_faccessat2, folder, path, mode, flags));
}

// As glibc's (sysdeps/unix/sysv/linux/x86_64/syscall.S); the program's calls end here, too (hooks/confinement.cpp).
asm(R"(
  .text
  .globl __wrap_syscall
  .hidden __wrap_syscall
  .type __wrap_syscall, @function
  .p2align 4
__wrap_syscall:
  .cfi_startproc
  endbr64
  movq %rdi, %rax
  movq %rsi, %rdi
  movq %rdx, %rsi
  movq %rcx, %rdx
  movq %r8, %r10
  movq %r9, %r8
  movq 8(%rsp), %r9
  syscall
  cmpq $-4095, %rax
  jae 1f
  ret
1:
  negq %rax
  pushq %rax
  .cfi_adjust_cfa_offset 8
  call *__errno_location@GOTPCREL(%rip)
  popq %rdx
  .cfi_adjust_cfa_offset -8
  movl %edx, (%rax)
  movq $-1, %rax
  ret
  .cfi_endproc
  .size __wrap_syscall, . - __wrap_syscall
)");
