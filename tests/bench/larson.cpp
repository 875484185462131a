// Producers and consumers after Larson and Krishnan (1998): each thread allocates blocks of random sizes and hands them to the next one, which
// frees them. larson THREADS BLOCKS_PER_THREAD
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

constexpr unsigned kSlots = 1024;
struct alignas(64) Ring {
  std::atomic<void*> slots[kSlots];
};

__attribute__((noinline)) void* make_small(unsigned n) { return malloc(16 + n % 112); }
__attribute__((noinline)) void* make_middle(unsigned n) { return malloc(128 + n % 896); }
__attribute__((noinline)) void* make(unsigned n) { return n & 64 ? make_small(n) : make_middle(n); }

void work(Ring& in, Ring& out, unsigned blocks, unsigned seed) {
  for (unsigned i = 0; i < blocks; i++) {
    seed = seed * 1664525 + 1013904223;
    char* block = static_cast<char*>(make(seed >> 8));
    block[0] = char(i);
    free(out.slots[i % kSlots].exchange(block, std::memory_order_acq_rel));
    free(in.slots[seed >> 20 & (kSlots - 1)].exchange(nullptr, std::memory_order_acq_rel));
  }
}

}  // namespace

int main(int, char** arguments) {
  unsigned threads = unsigned(atoi(arguments[1])), blocks = unsigned(atoi(arguments[2]));
  std::vector<Ring> rings(threads);
  std::vector<std::thread> running;
  for (unsigned i = 0; i < threads; i++) running.emplace_back([&, i] { work(rings[i], rings[(i + 1) % threads], blocks, i + 1); });
  for (auto& thread : running) thread.join();
  for (auto& ring : rings)
    for (auto& slot : ring.slots) free(slot.load());
  printf("%u threads, %u blocks each\n", threads, blocks);
}
