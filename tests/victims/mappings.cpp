// Threads that map, cut, move and unmap for a while, and keep some; two of four by the calls' numbers. Prints what the kernel was asked for in all, and what is still mapped.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

constexpr size_t kPage = 4096;
static std::atomic<uint64_t> calls, mapped, live, failures;

struct Piece {
  char* start;
  size_t bytes;
};

static thread_local bool by_number = false;

static void* ask_map(void* start, size_t bytes, int flags) {
  flags |= MAP_PRIVATE | MAP_ANONYMOUS;
  return by_number ? reinterpret_cast<void*>(syscall(SYS_mmap, start, bytes, PROT_NONE, flags, -1, 0)) : mmap(start, bytes, PROT_NONE, flags, -1, 0);
}
static void* ask_remap(void* old, size_t old_bytes, size_t bytes, int flags) {
  return by_number ? reinterpret_cast<void*>(syscall(SYS_mremap, old, old_bytes, bytes, flags, nullptr)) : mremap(old, old_bytes, bytes, flags);
}
static int ask_unmap(void* start, size_t bytes) { return by_number ? int(syscall(SYS_munmap, start, bytes)) : munmap(start, bytes); }

static void* mapped_now(void* at, size_t bytes) {
  if (at == MAP_FAILED) return failures++, nullptr;
  calls++, mapped += bytes, live += bytes;
  return at;
}

static __attribute__((noinline)) Piece map(size_t bytes) {
  return {static_cast<char*>(mapped_now(ask_map(nullptr, bytes, 0), bytes)), bytes};
}

// In its middle, which leaves two ends.
static __attribute__((noinline)) void map_over(const Piece& p) {
  size_t bytes = p.bytes / 3 / kPage * kPage;
  if (!bytes) return;
  mapped_now(ask_map(p.start + bytes, bytes, MAP_FIXED), bytes);
  live -= bytes;
}

static __attribute__((noinline)) void grow(Piece& p, size_t bytes) {
  void* at = ask_remap(p.start, p.bytes, bytes, MREMAP_MAYMOVE);
  if (at == MAP_FAILED) return (void)failures++;   // of several mappings: EFAULT; all of it stays
  live -= p.bytes;
  mapped_now(at, bytes);
  p = {static_cast<char*>(at), bytes};
}

static __attribute__((noinline)) void cut(Piece& p, size_t from, size_t bytes) {
  if (ask_unmap(p.start + from, bytes) != 0) failures++;
  else live -= bytes;
}

static void unmap(Piece& p) { cut(p, 0, p.bytes); }

// What fails changes nothing.
static void fail(Piece& p) {
  if (ask_unmap(p.start + 1, p.bytes) == 0 || ask_remap(p.start, p.bytes, size_t{1} << 60, 0) != MAP_FAILED || ask_remap(p.start + 8, p.bytes, kPage, 0) != MAP_FAILED)
    failures += 1'000'000;
}

static void work(unsigned seed) {
  std::mt19937 random(seed);
  by_number = seed % 2;
  std::vector<Piece> pieces;
  for (int i = 0; i < 3000; i++) {
    size_t bytes = (1 + random() % 64) * kPage;
    Piece p = map(bytes);
    fail(p);
    switch (random() % 5) {
      case 0: unmap(p); break;
      case 1: map_over(p), unmap(p); break;
      case 2: grow(p, (1 + random() % 128) * kPage), pieces.push_back(p); break;
      case 3: pieces.push_back(p); break;
      case 4:
        cut(p, bytes / kPage / 2 * kPage, kPage);   // a hole, which a larger call goes over
        live += kPage, unmap(p);
        break;
    }
    if (pieces.size() > 20) {
      size_t n = random() % pieces.size();
      unmap(pieces[n]);
      pieces[n] = pieces.back();
      pieces.pop_back();
    }
  }
}

int main() {
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 4; i++) threads.emplace_back(work, i);
  for (std::thread& t : threads) t.join();
  printf("{\"calls\": %llu, \"mapped\": %llu, \"live\": %llu, \"failures\": %llu}\n", static_cast<unsigned long long>(calls),
         static_cast<unsigned long long>(mapped), static_cast<unsigned long long>(live), static_cast<unsigned long long>(failures));
  return 0;
}
