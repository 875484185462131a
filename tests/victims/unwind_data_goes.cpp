// A thread closes and opens its program's unwind data all the time, while another one allocates from functions that never allocated before.
//
//   unwind_data_goes WAY   mprotect, syscall, filter: by mprotect, behind a seccomp filter
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <utility>

#include "expect.h"

constexpr size_t kFunctions = 4000;
constexpr uintptr_t kPage = 4096, kLeast = 24;   // bytes of .eh_frame for each function
static void* volatile kept;
SITE void site() {
  kept = malloc(40);
  free(kept);
}
template <size_t>
FRAME void function() {
  site();
  asm volatile("");
}
template <size_t... n>
static void call_each(std::index_sequence<n...>) { (function<n>(), ...); }

struct Pages {
  uintptr_t start, end;
};
// All that lie in the table and in what it leads to, behind it, so that nobody but who unwinds needs them.
static int find(dl_phdr_info* module, size_t, void* found) {
  for (int i = 0; i < module->dlpi_phnum; i++) {
    const auto& part = module->dlpi_phdr[i];
    const uintptr_t start = module->dlpi_addr + part.p_vaddr;
    if (part.p_type == PT_GNU_EH_FRAME) *static_cast<Pages*>(found) = {(start + kPage - 1) & ~(kPage - 1), (start + part.p_memsz + kFunctions * kLeast) & ~(kPage - 1)};
  }
  return 1;   // the program itself, no other module
}

static bool put_filter() {
  sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program{1, allow};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int main(int count, char** arguments) {
  if (count != 2) return 2;
  Pages table{};
  dl_iterate_phdr(find, &table);
  if (table.end <= table.start) return 3;
  auto protect = [&](int protection) {
    auto* start = reinterpret_cast<void*>(table.start);
    if (*arguments[1] == 's') syscall(SYS_mprotect, start, table.end - table.start, protection);
    else mprotect(start, table.end - table.start, protection);
  };
  site();
  if (*arguments[1] == 'f' && !put_filter()) return 4;
  std::atomic<bool> closes{false}, stop{false};
  std::thread closer([&] {
    while (!stop.load()) {
      protect(PROT_NONE);
      protect(PROT_READ);
      closes.store(true);
    }
  });
  while (!closes.load()) {}
  call_each(std::make_index_sequence<kFunctions>());
  stop.store(true);
  closer.join();
  expect("site", kFunctions + 1, 40, kFunctions + 1);
}
