// Two libraries take turns at one address: the same return addresses, other frames. Whatever a cache remembers of the one is
// wrong for the other. Two threads allocate all the while. Usage: dl_same_address LEFT RIGHT [ROUNDS]
#include <atomic>
#include <cstdlib>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#include "expect.h"

constexpr int kPerRound = 5, kAtLeast = 200000, kThreads = 2;

SITE void* site_bystander() { return keep(malloc(64)); }

SITE void* bystander(void* stop) {
  long blocks = 0;
  for (; blocks < kAtLeast || !static_cast<std::atomic<bool>*>(stop)->load(); blocks++) free(site_bystander());
  return reinterpret_cast<void*>(blocks);
}

int main(int argc, char** argv) {
  int rounds = argc > 3 ? atoi(argv[3]) : 2000;
  pthread_t threads[kThreads];
  std::atomic<bool> stop{false};
  for (auto& thread : threads) pthread_create(&thread, nullptr, bystander, &stop);

  void* address[2] = {};
  int same = 0;
  for (int round = 0; round < rounds; round++) {
    int side = round % 2;
    void* library = dlopen(argv[1 + side], RTLD_NOW | RTLD_LOCAL);
    if (!library) return 2;
    auto entry = reinterpret_cast<void* (*)(size_t)>(dlsym(library, "plugin_entry"));
    address[side] = reinterpret_cast<void*>(reinterpret_cast<link_map*>(library)->l_addr);
    same += address[0] == address[1];
    for (int i = 0; i < kPerRound; i++) {
      void* block = entry(side ? 3003 : 2002);
      if (i != 0) free(block);
    }
    dlclose(library);
  }
  stop = true;
  long bystanders = 0;
  for (auto& thread : threads) {
    void* blocks;
    pthread_join(thread, &blocks);
    bystanders += reinterpret_cast<long>(blocks);
  }

  expect("plugin_left_site", rounds / 2 * kPerRound, 2002, rounds / 2 * (kPerRound - 1));
  expect("plugin_right_site", rounds / 2 * kPerRound, 3003, rounds / 2 * (kPerRound - 1));
  expect("site_bystander", bystanders, 64, bystanders);
  expect_callers("plugin_left_site", "plugin_entry main");
  expect_callers("plugin_right_site", "plugin_entry main");
  dprintf(2, "same address in %d of %d rounds\n", same, rounds);
  return same > rounds / 2 ? 0 : 3;   // 3: the loader put them elsewhere, the test would show nothing
}
