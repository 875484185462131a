// A signal handler that jumps out of whatever it interrupts, mostly calls of mmap and munmap: for bare system calls that is allowed.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <thread>

static constexpr int kJumps = 2000;
static sigjmp_buf back;
static std::atomic<int> jumps;
static std::atomic<bool> armed, done;

static void jump(int) {
  if (!armed.exchange(false)) return;
  jumps++;
  siglongjmp(back, 1);
}

static void map_and_unmap() { munmap(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 8192); }

int main() {
  struct sigaction action{};
  action.sa_handler = jump;
  sigaction(SIGUSR1, &action, nullptr);
  std::thread sender([main = pthread_self()] {
    while (!done) pthread_kill(main, SIGUSR1), map_and_unmap();   // which waits if the other one has left a lock behind
  });
  sigsetjmp(back, 1);
  while (jumps < kJumps) {
    armed = true;
    for (int i = 0; i < 100 && armed; i++) map_and_unmap();
  }
  armed = false;
  done = true;
  sender.join();
  printf("%d\n", jumps.load());
  return 0;
}
