#include "preload/heap/nested_heap.h"

#include <sys/resource.h>

#include <atomic>
#include <cstdint>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"

namespace tidemark::heap {

constinit address nested_begin = 0, nested_bytes = 0;

namespace {
constexpr size_t kRange = 256 << 20, kLeastRange = 1 << 20, kStep = 64 << 10;
constexpr size_t kHeader = 16;
constexpr uint32_t kClasses = 28;   // powers of two from 32 bytes

struct Header {
  uint64_t size_class;
  uint64_t unused;
};
struct Free {
  Free* next;
};
constinit std::atomic<address> next{0};
constinit std::atomic<address> opened{0};
constinit base::SpinLock lists_lock;   // only ever tried: whoever was interrupted may hold it
constinit Free* lists[kClasses]{};

// Address space only; but where that is limited, it is the program's.
size_t wanted_range() {
  constexpr size_t kShare = 64;
  rlimit limit;
  size_t range = kRange;
  if (getrlimit(RLIMIT_AS, &limit) == 0)
    while (range > limit.rlim_cur / kShare && range > kLeastRange) range /= 4;
  return range;
}

bool make_range() {
  if (__atomic_load_n(&nested_bytes, __ATOMIC_ACQUIRE)) return true;
  size_t range = wanted_range();
  auto memory = reinterpret_cast<address>(base::reserve(range));
  while (!memory && range > kLeastRange) memory = reinterpret_cast<address>(base::reserve(range /= 4));
  if (!memory) return false;
  address none = 0;
  // Another thread, or a handler that interrupted us here, may have been first.
  if (!__atomic_compare_exchange_n(&nested_begin, &none, memory, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
    base::unmap(reinterpret_cast<void*>(memory), range);
    return __atomic_load_n(&nested_bytes, __ATOMIC_ACQUIRE);
  }
  opened.store(memory);
  next.store(memory);
  __atomic_store_n(&nested_bytes, range, __ATOMIC_RELEASE);
  return true;
}

bool open_up_to(address end) {
  address now = opened.load(std::memory_order_acquire);
  if (end <= now) return true;
  address wanted = (end + kStep - 1) / kStep * kStep;
  if (wanted > nested_begin + nested_bytes || !base::open_memory(reinterpret_cast<void*>(now), wanted - now)) return false;
  while (now < wanted && !opened.compare_exchange_weak(now, wanted)) {}
  return true;
}

uint32_t class_of(size_t bytes) {
  uint32_t c = 0;
  while ((size_t{32} << c) < bytes) c++;
  return c;
}

void* take_free(uint32_t c) {
  if (!lists[c] || !lists_lock.try_lock()) return nullptr;
  Free* f = lists[c];
  if (f) lists[c] = f->next;
  lists_lock.unlock();
  return f;
}

Header* header_of(const void* p) { return reinterpret_cast<Header*>(reinterpret_cast<address>(p) - kHeader); }
}  // namespace

void* nested_allocate(size_t bytes, size_t alignment, bool zero) {
  if (bytes > kRange / 2 || alignment > kRange / 2 || !make_range()) return nullptr;
  uint32_t c = class_of(bytes);
  size_t room = size_t{32} << c;
  if (alignment <= 16) {
    if (void* p = take_free(c)) return zero ? memset(p, 0, room) : p;
  } else {
    room += alignment;
  }
  address at = next.load(std::memory_order_acquire);
  do {   // what does not fit takes nothing from what would
    if (at + room + kHeader > nested_begin + nested_bytes) return nullptr;
  } while (!next.compare_exchange_weak(at, at + room + kHeader, std::memory_order_acq_rel));
  if (!open_up_to(at + room + kHeader)) return nullptr;
  address block = (at + kHeader + alignment - 1) & ~(alignment - 1);
  if (alignment <= 16) block = at + kHeader;
  auto* p = reinterpret_cast<void*>(block);
  header_of(p)->size_class = c;
  return p;
}

void nested_release(void* p) {
  uint32_t c = uint32_t(header_of(p)->size_class);
  if (!lists_lock.try_lock()) return;   // rare; the block is lost to reuse, nothing else
  auto* f = static_cast<Free*>(p);
  f->next = lists[c];
  lists[c] = f;
  lists_lock.unlock();
}

void reset_nested_lock() { lists_lock.reset(); }

size_t nested_usable_size(const void* p) { return size_t{32} << header_of(p)->size_class; }

}  // namespace tidemark::heap
