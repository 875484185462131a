// Four threads that allocate, reallocate and free through more than 4000 call stacks without end, and note in a shared file,
// after each operation, what they have done so far. Whoever kills them can compare. Usage: kill_nine MARKER [OPERATIONS]
// MARKER: for each thread two slots that it writes in turn, then the number of the finished one: never torn.
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "expect.h"

constexpr int kThreads = 4, kLeaves = 4, kDepth = 6, kHeld = 4096, kMail = 256;
// A leaf's blocks have a size of its own: its bytes are count × size.
constexpr long kSize[kLeaves] = {1000, 33, 200, 17000};

struct Slot {
  uint64_t allocated[kLeaves + 1], freed[kLeaves + 1];   // [kLeaves]: by realloc, kReallocSize
};
constexpr long kReallocSize = 4321;
struct Marker {
  std::atomic<uint64_t> finished;   // operations so far; the slot of the last one is finished % 2
  Slot slots[2];
};
static Marker* markers;

struct Block {
  void* pointer;
  int kind;
  std::atomic<bool> in_mail;
  Block& operator=(const Block& other) {
    pointer = other.pointer;
    kind = other.kind;
    return *this;
  }
  Block(const Block& other) : pointer(other.pointer), kind(other.kind), in_mail(false) {}
  constexpr Block() : pointer(nullptr), kind(0), in_mail(false) {}
};
// Blocks given away. Entry i of a thread's pool is in its box i or in none.
static Block pool[kThreads][kMail];
static std::atomic<Block*> mail[kThreads][kMail];
static thread_local Block held[kHeld];

SITE void* leaf_0() { return keep(malloc(kSize[0])); }
SITE void* leaf_1() { return keep(malloc(kSize[1])); }
SITE void* leaf_2() { return keep(calloc(1, kSize[2])); }
SITE void* leaf_3() { return keep(malloc(kSize[3])); }
SITE void* leaf_realloc(void* p) { return keep(realloc(p, kReallocSize)); }

// A tree of call paths: level × branch are different functions with frames of different size; 4^6 = 4096 stacks.
template <int Level, int Branch>
FRAME void* path(uint32_t choice) {
  volatile char room[8 + Branch * 24 + Level * 8];
  room[0] = 1;
  void* p;
  if constexpr (Level == kDepth) {
    p = Branch == 0 ? leaf_0() : Branch == 1 ? leaf_1() : Branch == 2 ? leaf_2() : leaf_3();
  } else {
    switch (choice >> (2 * Level) & 3) {
      case 0: p = path<Level + 1, 0>(choice); break;
      case 1: p = path<Level + 1, 1>(choice); break;
      case 2: p = path<Level + 1, 2>(choice); break;
      default: p = path<Level + 1, 3>(choice); break;
    }
  }
  return room[0] ? keep(p) : nullptr;
}

struct Worker {
  int me;
  uint64_t done = 0, random;
  Slot now = {};
  uint32_t next() {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    return uint32_t(random >> 16);
  }
  void note() {
    Marker& marker = markers[me];
    done++;
    marker.slots[done % 2] = now;
    marker.finished.store(done, std::memory_order_release);
  }
};

SITE void* worker_main(void* argument) {
  Worker worker{.me = int(long(argument) & 0xff), .random = 0x9e3779b97f4a7c15u * uint64_t(1 + (long(argument) & 0xff))};
  uint64_t limit = uint64_t(long(argument) >> 8);
  while (limit == 0 || worker.done < limit) {
    uint32_t r = worker.next();
    Block& block = held[r % kHeld];
    if (!block.pointer) {
      uint32_t choice = worker.next();
      block.pointer = path<0, 0>(choice);
      block.kind = choice >> (2 * (kDepth - 1)) & 3;
      worker.now.allocated[block.kind]++;
      worker.note();
    } else if (r >> 20 & 1 && block.kind != kLeaves) {
      block.pointer = leaf_realloc(block.pointer);
      worker.now.freed[block.kind]++;
      block.kind = kLeaves;
      worker.now.allocated[kLeaves]++;
      worker.note();
    } else {
      // Half of what dies, dies on another thread: it goes into a box, and what lies in the neighbour's box is freed here. One operation at most in
      // each round, or there would be one too many at the end.
      if (r >> 21 & 1) {
        int box = worker.next() % kMail;
        if (Block* theirs = mail[(worker.me + 1) % kThreads][box].exchange(nullptr, std::memory_order_acq_rel)) {
          Block taken = *theirs;
          theirs->in_mail.store(false, std::memory_order_release);
          free(taken.pointer);
          worker.now.freed[taken.kind]++;
          worker.note();
          continue;
        }
        Block& mine = pool[worker.me][box];
        if (!mine.in_mail.load(std::memory_order_acquire)) {
          mine = block;
          block.pointer = nullptr;
          mine.in_mail.store(true, std::memory_order_relaxed);
          mail[worker.me][box].store(&mine, std::memory_order_release);
          continue;
        }
      }
      Block dead = block;
      block.pointer = nullptr;
      free(dead.pointer);
      worker.now.freed[dead.kind]++;
      worker.note();
    }
  }
  return nullptr;
}

int main(int argc, char** argv) {
  int fd = open(argv[1], O_RDWR | O_CREAT, 0600);
  size_t bytes = kThreads * sizeof(Marker);
  if (fd < 0 || ftruncate(fd, bytes) != 0) return 2;
  markers = static_cast<Marker*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  if (markers == MAP_FAILED) return 2;
  long limit = argc > 2 ? atol(argv[2]) : 0;
  pthread_t threads[kThreads];
  for (long i = 0; i < kThreads; i++) pthread_create(&threads[i], nullptr, worker_main, reinterpret_cast<void*>(i | limit << 8));
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
}
