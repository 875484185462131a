// All at once: threads that allocate, throw, come and go, load and unload plugins, and fork, with their counts known. Arguments:
// rounds, then plugins.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <pthread.h>
#include <stdexcept>
#include <sys/wait.h>

#include "expect.h"

SITE void* site_allocating() { return keep(malloc(56)); }
SITE void* site_short_lived() { return keep(malloc(120)); }
SITE void* site_at_exit() { return keep(malloc(136)); }
SITE void* site_in_a_loader() { return keep(malloc(152)); }
SITE void* site_after_fork() { return keep(malloc(168)); }

static long rounds;
static char** plugins;
static int plugin_count;
static std::atomic<bool> over;
static std::atomic<long> allocated;
static pthread_key_t key;

FRAME void at_exit(void*) { free(site_at_exit()); }
FRAME void throws(int depth) {
  void* volatile block = site_allocating();
  allocated++;
  free(block);
  if (depth) throws(depth - 1);
  throw std::runtime_error("as planned");
}

SITE void* allocating_main(void*) {
  while (!over) {
    try {
      throws(5);
    } catch (const std::exception&) {
    }
  }
  return nullptr;
}
SITE void* short_main(void*) {
  pthread_setspecific(key, &key);
  free(site_short_lived());
  return nullptr;
}
SITE void* loading_main(void* which) {
  for (long i = 0; i < rounds * 4; i++) {
    void* handle = dlopen(plugins[(long(which) + i) % plugin_count], RTLD_NOW);
    if (!handle) abort();
    auto entry = reinterpret_cast<void* (*)(size_t)>(dlsym(handle, "plugin_entry"));
    free(site_in_a_loader());
    free(entry(184));
    dlclose(handle);
  }
  return nullptr;
}

int main(int argc, char** argv) {
  rounds = atol(argv[1]);
  plugins = argv + 2;
  plugin_count = argc - 2;
  pthread_key_create(&key, at_exit);
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 16384);
  pthread_t allocating[2], loading[2];
  for (auto& t : allocating) pthread_create(&t, nullptr, allocating_main, nullptr);
  for (long i = 0; i < 2; i++) pthread_create(&loading[i], nullptr, loading_main, reinterpret_cast<void*>(i));
  for (long i = 0; i < rounds; i++) {
    pthread_t t[4];
    for (auto& each : t) pthread_create(&each, &small, short_main, nullptr);
    pid_t child = fork();
    if (child == 0) {
      free(site_after_fork());
      _exit(7);
    }
    int status = 0;
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) abort();
    for (auto& each : t) pthread_join(each, nullptr);
  }
  for (auto& t : loading) pthread_join(t, nullptr);
  over = true;
  for (auto& t : allocating) pthread_join(t, nullptr);
  expect("site_allocating", allocated, 56, allocated);
  expect("site_short_lived", rounds * 4, 120, rounds * 4);
  expect("site_at_exit", rounds * 4, 136, rounds * 4);
  expect("site_in_a_loader", rounds * 8, 152, rounds * 8);
  // Each loader takes the plugins in turn.
  for (int i = 0; i < plugin_count; i++) {
    const char* name = strrchr(plugins[i], '_') + 1;
    char site[64];
    snprintf(site, sizeof site, "plugin_%.*s_site", int(strcspn(name, ".")), name);
    expect(site, rounds * 8 / plugin_count, 184, rounds * 8 / plugin_count);
  }
}
