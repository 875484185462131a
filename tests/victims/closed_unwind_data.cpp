// A program that closes its own unwind data once some of it was read, and goes on allocating from functions that never allocated before.
//
//   closed_unwind_data WAY   mprotect, munmap, syscall
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "expect.h"

SITE void* site_before() { return keep(malloc(40)); }
SITE void* site_after() { return keep(malloc(56)); }
FRAME void before() { free(site_before()); }
FRAME void after() { free(site_after()); }

static int find(dl_phdr_info* module, size_t, void* found) {
  for (int i = 0; i < module->dlpi_phnum; i++) {
    const auto& part = module->dlpi_phdr[i];
    if (part.p_type == PT_GNU_EH_FRAME) *static_cast<uintptr_t*>(found) = module->dlpi_addr + part.p_vaddr;
  }
  return 1;   // the program itself, no other module
}

int main(int count, char** arguments) {
  constexpr uintptr_t kPage = 4096;
  if (count != 2) return 2;
  const char* way = arguments[1];
  uintptr_t table = 0;
  dl_iterate_phdr(find, &table);
  auto* page = reinterpret_cast<void*>(table & ~(kPage - 1));
  expect("site_before", 1, 40, 1);   // now, for constants go with the page
  expect("site_after", 1, 56, 1);
  before();
  int result = strcmp(way, "munmap") == 0    ? munmap(page, kPage)
               : strcmp(way, "syscall") == 0 ? int(syscall(SYS_mprotect, page, kPage, PROT_NONE))
                                             : mprotect(page, kPage, PROT_NONE);
  after();
  _exit(result);   // what runs at an exit may read there, too
}
