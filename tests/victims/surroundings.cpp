// What a program finds of its process, and does to it. 77: not possible here.
//
//   surroundings environment     is the last variable on the stack, behind argv[0]?
//   surroundings hard            lowers its limits on address space a little, as root in a container, who may not raise them
//   surroundings limit           limits its address space before its first allocation, reads that back, then allocates and maps
//   surroundings twice           forks, and its child does
//   surroundings restless        changes its user's rights and back, again and again, for half a second
//   surroundings vfork           puts a filter on itself; a vfork child finds nothing to execute; waits for its end
//   surroundings chroot FOLDER   forks; the child goes there, and allocates
//   surroundings lie             a function whose unwind data lead above a coroutine's stack, where zeros were, and nothing is later
//   surroundings guard           runs a coroutine on a part of its own stack, with a page behind it that can't be read
#include <alloca.h>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <csignal>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "expect.h"

static int environment(char** arguments) {
  char** last = environ;
  if (!*last) return 77;
  while (last[1]) last++;
  return *last > arguments[0] && *last - arguments[0] < (1 << 20) ? 0 : 1;
}

// What the kernel refuses.
static bool refused(const struct rlimit* limit, int error) { return setrlimit(RLIMIT_AS, limit) != 0 && errno == error; }

static int limit() {
  struct rlimit upside_down{300 << 20, 200 << 20};
  if (!refused(&upside_down, EINVAL) || !refused(reinterpret_cast<struct rlimit*>(8), EFAULT)) return 5;
  constexpr size_t kLimit = 200 << 20;
  struct rlimit wanted{kLimit, RLIM_INFINITY}, found;
  if (setrlimit(RLIMIT_AS, &wanted) || getrlimit(RLIMIT_AS, &found)) return 77;
  if (found.rlim_cur != kLimit || found.rlim_max != RLIM_INFINITY) return 2;
  int blocks = 0;
  while (blocks < 20'000 && keep(malloc(1000))) blocks++;
  if (blocks < 20'000 || mmap(nullptr, 12'288, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) return 3;
  return keep(malloc(size_t{2} << 30)) ? 4 : 0;   // there is a limit
}

static int hard() {
  __user_cap_header_struct self{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct capabilities[2];
  if (syscall(SYS_capget, &self, capabilities)) return 77;
  capabilities[0].effective = capabilities[0].permitted &= ~(1u << CAP_SYS_RESOURCE);
  struct rlimit limit;
  if (syscall(SYS_capset, &self, capabilities) || getrlimit(RLIMIT_AS, &limit) || limit.rlim_max == RLIM_INFINITY) return 77;
  limit.rlim_cur = limit.rlim_max -= 100 << 20;
  if (setrlimit(RLIMIT_AS, &limit)) return 1;
  struct rlimit higher{limit.rlim_cur, limit.rlim_max + (1 << 20)};
  return !refused(&higher, EPERM) || !keep(malloc(50 << 20));
}

static int status_of(pid_t child) {
  int status;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static int twice() {
  pid_t child = fork();
  if (child) return status_of(child);
  pid_t grandchild = fork();
  _exit(grandchild ? status_of(grandchild) : 0);
}

static int restless() {
  for (int i = 0; i < 25; i++) {
    if (prctl(PR_SET_KEEPCAPS, i % 2) || seteuid(geteuid())) return 77;
    if (!keep(malloc(100))) return 1;
    usleep(20'000);
  }
  return 0;
}

static int vfork_behind_filter() {
  sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  sock_fprog program{1, &allow};
  if (!keep(malloc(100)) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) return 77;
  pid_t child = vfork();
  if (child == 0) {
    execl("/nothing/there", "nothing", nullptr);
    _exit(66);
  }
  if (status_of(child) != 66) return 1;
  raise(SIGKILL);
  return 2;
}

static int go_to(const char* folder) {
  pid_t child = fork();
  if (child) return status_of(child);
  if (chroot(folder) || chdir("/")) _exit(77);
  for (int i = 0; i < 5000; i++)
    if (!keep(malloc(100))) _exit(1);
  _exit(0);
}

static ucontext_t host, guest;
SITE void deep(int depth) {
  volatile char room[100];
  room[0] = 1;
  if (depth) deep(depth - 1);
  else free(keep(malloc(33)));
  room[1] = room[0];
}
static void coroutine() {
  for (int i = 0; i < 20; i++) free(keep(malloc(44)));
  swapcontext(&guest, &host);
}
static int guard() {
  constexpr uintptr_t kPage = 4096, kBytes = 256 << 10;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 40; i++) deep(200);   // leaves its return addresses where the coroutine's stack and the guard will be
    auto area = uintptr_t(alloca(kBytes)), low = (area + kPage - 1) & ~(kPage - 1), top = (area + kBytes - kPage) & ~(kPage - 1);
    if (mprotect((void*)top, kPage, PROT_NONE)) return 77;
    getcontext(&guest);
    guest.uc_stack.ss_sp = (void*)low;
    guest.uc_stack.ss_size = top - low;
    makecontext(&guest, coroutine, 0);
    swapcontext(&host, &guest);
    if (mprotect((void*)top, kPage, PROT_READ | PROT_WRITE)) return 77;
  }
  return 0;
}

// "cfa = rsp + 0x400": it is rsp + 16. And a switch of stacks, whose frame is found by rbp.
asm(R"(
  .text
  .type liar, @function
liar:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 0x400
  call site_of_a_liar
  pop %rbp
  ret
  .cfi_endproc
  .size liar, . - liar
  .type on_stack, @function
on_stack:
  .cfi_startproc
  push %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  mov %rsp, %rbp
  .cfi_def_cfa_register %rbp
  mov %rdi, %rsp
  call *%rsi
  mov %rbp, %rsp
  pop %rbp
  .cfi_def_cfa %rsp, 8
  ret
  .cfi_endproc
  .size on_stack, . - on_stack
)");
extern "C" void* liar();
extern "C" void on_stack(void* sp, void (*body)());
SITE void* site_of_a_liar() { return keep(malloc(48)); }
FRAME static void on_a_coroutine() {
  for (int i = 0; i < 50; i++) free(liar());
}
static int lie() {
  constexpr size_t kPage = 4096;
  free(keep(malloc(100)));
  void* area = mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* top = static_cast<char*>(area) + 3 * kPage;
  on_stack(top, on_a_coroutine);   // the page above holds zeros
  if (mprotect(top, kPage, PROT_NONE)) return 77;
  on_stack(top, on_a_coroutine);   // now it is a guard page
  return 0;
}

int main(int count, char** arguments) {
  const char* what = arguments[1];
  if (!strcmp(what, "environment")) return environment(arguments);
  if (!strcmp(what, "hard")) return hard();
  if (!strcmp(what, "limit")) return limit();
  if (!strcmp(what, "twice")) return twice();
  if (!strcmp(what, "guard")) return guard();
  if (!strcmp(what, "restless")) return restless();
  if (!strcmp(what, "vfork")) return vfork_behind_filter();
  if (!strcmp(what, "lie")) return lie();
  if (!strcmp(what, "chroot") && count == 3) return go_to(arguments[2]);
  void* (*volatile allocate)(size_t) = malloc;   // where the executable is at fixed addresses, its code says malloc's address: in its own PLT
  free(allocate(100));
  return 0;
}
