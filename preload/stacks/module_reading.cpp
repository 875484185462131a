#include "preload/stacks/module_reading.h"

#include <algorithm>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/base/thread_state.h"
#include "preload/stacks/parts.h"

namespace tidemark::stacks {
using format::kPageBytes;

constinit std::atomic<address> readable_pages[kReadablePages]{};

namespace {
constinit Parts readable_parts;   // in which some are, or were

// How many are in something, or were until a handler of theirs jumped away: those are forgotten, after a while. A ticket says which ones were.
class Crowd {
 public:
  uint32_t enter() {
    entered_.fetch_add(1);
    return uint32_t(word_.fetch_add(1) >> 32);
  }
  void leave(uint32_t ticket) {
    uint64_t word = word_.load(std::memory_order_relaxed);
    while (word >> 32 == ticket && !word_.compare_exchange_weak(word, word - 1)) {}
  }
  bool any() const { return uint32_t(word_.load()); }
  uint32_t entered() const { return entered_.load(); }   // so far
  void forget() {
    uint64_t word = word_.load();
    word_.compare_exchange_strong(word, ((word >> 32) + 1) << 32);   // or others came: not now
  }

 private:
  std::atomic<uint64_t> word_{0};
  std::atomic<uint32_t> entered_{0};
};
constinit Crowd readers, closers;

// A reader of this thread's own, which a handler interrupted, would be waited for in vain, and so would one that wants a lock that a fork holds.
bool may_wait() {
  const base::ThreadState& t = base::thread_state;
  return !t.busy && !t.forking && *base::session_word != base::kWiped;
}

// They read for microseconds, if they have a processor; those that begin now do not count.
void wait_for_readers() {
  constexpr uint32_t kPauses = 1000, kMorePauses = 50'000, kRests = 200;   // the latter two take some milliseconds, and 10 at least
  for (uint32_t i = 0; readers.any(); i++) {
    if (i < kPauses || (base::filter_came() && i < kMorePauses)) __builtin_ia32_pause();   // who sleeps may be killed there
    else if (!base::filter_came() && i < kPauses + kRests) base::SpinLock::rest();
    else return readers.forget();
  }
}

void forget_each_page(address first, address last) {
  for (uint64_t i = 0; i < std::min(last - first + 1, kReadablePages); i++) {
    std::atomic<address>& known = readable_pages[(first + i) % kReadablePages];
    address page = known.load(std::memory_order_relaxed);
    if (page >= first && page <= last) known.compare_exchange_strong(page, 0, std::memory_order_relaxed);
  }
}
}  // namespace

ModuleReading::ModuleReading() : ticket_(readers.enter()) {
  if (TIDEMARK_UNLIKELY(closers.any())) begin_by_kernel();
}
ModuleReading::~ModuleReading() {
  if (!by_kernel_) readers.leave(ticket_);
}
TIDEMARK_COLD void ModuleReading::begin_by_kernel() {
  by_kernel_ = true;
  readers.leave(ticket_);
}

// Who closes pages of this part from now on sees that there may be some to wait for; who began before is seen here.
TIDEMARK_COLD bool ModuleReading::ask(address page) {
  const uint32_t before = closers.entered();
  readable_parts.note(page * kPageBytes);
  if (closers.any()) return begin_by_kernel(), true;
  if (!base::readable(reinterpret_cast<const void*>(page * kPageBytes))) return disturbed_ |= closers.entered() != before, false;
  std::atomic<address>& known = readable_pages[page % kReadablePages];
  known.store(page);
  if (closers.entered() != before) known.store(0);   // who came meanwhile may have forgotten all before that
  return true;
}

// By pieces that lie in one page each: most of what is read follows what was read before.
TIDEMARK_COLD bool ModuleReading::copy_by_kernel(void* to, address from, size_t bytes) {
  for (auto* out = static_cast<uint8_t*>(to); bytes;) {
    const address at = from & ~(kChunk - 1);
    if (at != chunk_at_ && (base::filter_came() || !base::copy_if_readable(chunk_, reinterpret_cast<const void*>(at), kChunk))) {
      chunk_at_ = 0;
      disturbed_ = true;
      return false;
    }
    chunk_at_ = at;
    const size_t part = std::min<size_t>(bytes, at + kChunk - from);
    memcpy(out, chunk_ + (from - at), part);
    out += part, from += part, bytes -= part;
  }
  return true;
}

uint32_t begin_to_close(address start, address end) {
  const uint32_t ticket = closers.enter();
  if (readable_parts.may_have(start, end) && may_wait()) wait_for_readers();
  return ticket;
}

void end_to_close(uint32_t ticket) { closers.leave(ticket); }

void forget_readable_pages(address start, address end) {
  if (readable_parts.may_have(start, end)) forget_each_page(start / kPageBytes, (end - 1) / kPageBytes);
}

void forget_lost_closers() {
  static constinit uint32_t entered_before = 0;
  const uint32_t entered = closers.entered();
  if (closers.any() && entered == entered_before) closers.forget();
  entered_before = entered;
}

void reset_module_reading() {
  readers.forget();
  closers.forget();
}

}  // namespace tidemark::stacks
