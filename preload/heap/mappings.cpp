#include "preload/heap/mappings.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "preload/base/spin_lock.h"
#include "preload/heap/residency.h"
#include "preload/heap/session.h"
#include "preload/heap/tracker.h"
#include "preload/stacks/modules.h"
#include "preload/stacks/rules.h"

namespace tidemark::heap {
using namespace format;
namespace {

constexpr uintptr_t kPage = kPageBytes;

// A call stack that mapped something. Its place here is what ranges name it by.
struct MappingOwner {
  uint32_t leaf;
  uint32_t record;   // MappingStack
  uint64_t resident;
};
constexpr uint32_t kMostOwners = 4096, kIndex = 8192, kNoOwner = kMostOwners;
constinit MappingOwner owners[kMostOwners]{};
constinit uint16_t owner_index[kIndex]{};   // open addressing, by leaf; 0: free, else 1 + the place
constinit std::atomic<uint32_t> owner_count{0};
constinit std::atomic<uint32_t> confined{0};   // filters that came, or are about to
constinit base::SpinLock lock;   // of all that is here, and of the table

// Whoever is here takes no signal: a handler that leaves by siglongjmp or pthread_exit would leave a lock locked for ever. A bare mmap may be left
// so. All signals, also those that libc keeps for itself; libc's function would spare them.
class NoSignals {
 public:
  NoSignals() : held_back_(confined.load(std::memory_order_relaxed) == 0) {
    if (held_back_) syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all_, &before_, sizeof(before_));
  }
  ~NoSignals() {
    if (held_back_) syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before_, nullptr, sizeof(before_));
  }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  const bool held_back_;
  uint64_t all_ = ~uint64_t{0}, before_ = 0;   // the kernel's set (asm/signal.h)
};

MappingStack& record_of(uint32_t owner) { return *base::line<MappingStack>(owners[owner].record); }

// kNoOwner: no room. The last place is for all that find none.
uint32_t make_owner(uint32_t leaf) {
  uint32_t n = owner_count.load(std::memory_order_relaxed);
  uint32_t id = n < kMostOwners - (leaf != kCutNode) ? base::take_lines(PageKind::kMappingStacks, 1) : 0;
  if (!id) return kNoOwner;
  auto* record = base::line<MappingStack>(id);
  record->first_tick = base::header().tick;
  __atomic_store_n(&record->leaf, leaf, __ATOMIC_RELEASE);
  owners[n] = {leaf, id, 0};
  owner_count.store(n + 1, std::memory_order_release);
  return n;
}

uint32_t find_owner(uint32_t leaf) {
  uint32_t i = leaf * 0x9E3779B1u % kIndex;
  for (; owner_index[i]; i = (i + 1) % kIndex)
    if (owners[owner_index[i] - 1].leaf == leaf) return owner_index[i] - 1u;
  uint32_t made = make_owner(leaf);
  if (made == kNoOwner) return leaf == kCutNode ? kNoOwner : find_owner(kCutNode);
  owner_index[i] = uint16_t(made + 1);
  return made;
}

void count_unmapped(void*, const MappedRange& part) { record_of(part.owner).unmapped_bytes += part.end - part.start; }

void count_mapped(uint32_t owner, uint64_t bytes) {
  MappingStack& m = record_of(owner);
  m.mapped_count++;
  m.mapped_bytes += bytes;
  uint64_t now = m.mapped_bytes - m.unmapped_bytes;
  if (now > m.peak_bytes) m.peak_bytes = now;
  m.last_tick = base::header().tick;
}

void forget(bool really) {
  if (really) base::count(kMappingsForgotten);
}

// Enters as malloc does (tracker.h). False: nothing is recorded here, or not now: then the loss is counted.
bool begin(base::ThreadState& t, Coverage loss) {
  if (TIDEMARK_UNLIKELY(t.busy) && still_inside(own_sp())) {
    if (!t.internal && base::store.start && *base::session_word != base::kInert) base::count(loss);
    return false;
  }
  return enter(t) || pass_gate(Call::kOther) == Gate::kTrack;
}

struct Pages {
  uintptr_t start, end;
};
Pages pages_of(const void* start, size_t bytes) {
  auto from = reinterpret_cast<uintptr_t>(start);
  if (!bytes || from % kPage || from + bytes < from || from + bytes > ~kPage) return {0, 0};   // the kernel takes none of these
  return {from, (from + bytes + kPage - 1) & ~(kPage - 1)};
}
}  // namespace

void note_mapped(const void* start, size_t bytes, const Caller& caller) {
  Pages pages = pages_of(start, bytes);
  base::ThreadState& t = base::thread_state;
  int saved = errno;
  if (pages.end && begin(t, kMappingsForgotten)) {
    {
      NoSignals held_back;
      stacks::lose_generated_code(pages.start, pages.end);
      stacks::Lookup lookup = stacks::begin_lookup(caller);
      uint32_t leaf = stacks::find_leaf(lookup);
      base::SpinGuard guard(lock);
      bool whole = cut_mapped(pages.start, pages.end, count_unmapped, nullptr);
      uint32_t owner = find_owner(leaf == stacks::kNoNode ? kCutNode : leaf);
      bool noted = owner != kNoOwner && put_mapped({pages.start, pages.end, owner});
      if (noted) count_mapped(owner, pages.end - pages.start);
      forget(!noted || !whole);
    }
    leave(t);
  }
  errno = saved;
}

void note_changed_rights(const void* start, size_t bytes) {
  Pages pages = pages_of(start, bytes);
  if (TIDEMARK_LIKELY(!pages.end) || TIDEMARK_LIKELY(!stacks::may_have_code_rules(pages.start, pages.end))) return;
  base::ThreadState& t = base::thread_state;
  int saved = errno;
  if (begin(t, kUnmappingsMissed)) {
    {
      NoSignals held_back;
      stacks::note_changed_code(pages.start, pages.end);
    }
    leave(t);
  }
  errno = saved;
}

void Unmapping::take(void* unmapping, const MappedRange& part) {
  auto& u = *static_cast<Unmapping*>(unmapping);
  if (u.count_ < kKept) u.parts_[u.count_] = part;
  u.count_++;
  count_unmapped(nullptr, part);
}

Unmapping::Unmapping(const void* start, size_t bytes) {
  Pages pages = pages_of(start, bytes);
  base::ThreadState& t = base::thread_state;
  int saved = errno;
  if (pages.end && begin(t, kUnmappingsMissed)) {
    session_ = session_serial;
    {
      NoSignals held_back;
      stacks::lose_generated_code(pages.start, pages.end);
      base::SpinGuard guard(lock);
      forget(!cut_mapped(pages.start, pages.end, take, this));
    }
    leave(t);
  }
  errno = saved;
}

void Unmapping::failed() {
  base::ThreadState& t = base::thread_state;
  int saved = errno;
  if (count_ && begin(t, kMappingsForgotten)) {
    if (session_ == session_serial) {   // else this is a child that a signal handler forked meanwhile: it has forgotten them
      NoSignals held_back;
      base::SpinGuard guard(lock);
      for (uint32_t i = 0; i < count_; i++) {
        bool put = i < kKept && put_mapped(parts_[i]);
        if (put) record_of(parts_[i].owner).unmapped_bytes -= parts_[i].end - parts_[i].start;
        forget(!put);
      }
    }
    leave(t);
  }
  errno = saved;
}

namespace {

constexpr uint32_t kPartsAtOnce = 64;

// Calls visit(part) for each part of the program's mappings in [start, end).
template <class Visit>
void for_each_part(uintptr_t start, uintptr_t end, Visit visit) {
  MappedRange parts[kPartsAtOnce];
  for (uint32_t n = kPartsAtOnce; n == kPartsAtOnce;) {
    {
      base::SpinGuard guard(lock);
      n = copy_mapped(start, end, parts, kPartsAtOnce);
    }
    for (uint32_t i = 0; i < n; i++) visit(parts[i]);
    if (n) end = parts[n - 1].start;
  }
}
}  // namespace

// The kernel joins neighbours, so that a mapping may be of several owners, the allocator and tidemark among them: then each page is asked for. But not
// those of a range of terabytes, of which little is used: it has what the rest of the mapping has not.
uint64_t add_resident_mapping(uintptr_t start, uintptr_t end, uint64_t rss) {
  constexpr uint64_t kMostAsked = uint64_t{16} << 30;
  if (!rss) return 0;
  uint64_t left = rss, sum = 0;
  MappedRange vast{};
  uintptr_t above = end;
  bool all_asked = end - start <= kMostAsked;
  auto take = [&left](uintptr_t from, uintptr_t to) {
    uint64_t resident = to - from <= kMostAsked ? std::min(left, resident_in(from, to)) : 0;
    left -= resident;
    return resident;
  };
  auto give = [&sum](uint32_t owner, uint64_t resident) { owners[owner].resident += resident, sum += resident; };
  for_each_part(start, end, [&](const MappedRange& part) {
    uint64_t bytes = part.end - part.start;
    if (!all_asked && part.end < above) take(part.end, above);   // not the program's
    above = part.start;
    if (bytes == end - start || bytes > kMostAsked) vast = part;
    else give(part.owner, take(part.start, part.end));
  });
  if (!vast.end) return sum;
  if (start < above) take(start, above);
  give(vast.owner, std::min(left, vast.end - vast.start));
  return sum;
}

uint64_t exclude_from_mappings(uintptr_t start, uintptr_t end) {
  uint64_t excluded = 0;
  for_each_part(start, end, [&excluded](const MappedRange& part) {
    uint64_t& sum = owners[part.owner].resident;
    uint64_t resident = std::min(resident_in(part.start, part.end), sum);
    sum -= resident;
    excluded += resident;
  });
  return excluded;
}

void publish_resident_mappings(bool baseline) {
  for (uint32_t i = 0, n = owner_count.load(std::memory_order_acquire); i < n; i++) {
    MappingStack& m = record_of(i);
    if (m.resident_bytes != owners[i].resident) m.resident_bytes = owners[i].resident;   // no page is written without need
    if (baseline && owners[i].resident) m.baseline_resident_bytes = owners[i].resident;
    owners[i].resident = 0;
  }
}

void confine_mappings() { confined.fetch_add(1, std::memory_order_relaxed); }
void unconfine_mappings() { confined.fetch_sub(1, std::memory_order_relaxed); }
void reset_mappings_lock() { lock.reset(); }

void forget_mappings() {
  lock.reset();
  clear_mapped();
  if (owner_count.exchange(0)) memset(owner_index, 0, sizeof(owner_index));
}

}  // namespace tidemark::heap
