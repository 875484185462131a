// A signal handler that maps and unmaps, wherever it interrupts: the allocator, a call of mmap, or neither.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>

static constexpr int kSignals = 2000, kKept = 1000;
static std::atomic<int> handled;

static void* map() { return mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void handle(int) {
  munmap(map(), 8192);
  handled++;
}

int main() {
  struct sigaction action{};
  action.sa_handler = handle;
  sigaction(SIGUSR1, &action, nullptr);
  std::thread sender([main = pthread_self()] {
    for (int i = 0; i < kSignals; i++) {
      pthread_kill(main, SIGUSR1);
      while (handled <= i) {}
    }
  });
  int own = 0;
  for (; handled < kSignals; own++) {
    for (int i = 0; i < 50; i++) free(malloc(i * 8));
    size_t cut = own < kKept ? 4096 : 8192;   // a half stays of the first ones
    munmap(map(), cut);
  }
  sender.join();
  printf("%d %d %d\n", kSignals, own, own < kKept ? own : kKept);
  return 0;
}
