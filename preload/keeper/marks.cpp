#include "preload/keeper/marks.h"

#include <cstring>
#include <optional>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/base/store.h"
#include "preload/base/thread_state.h"
#include "preload/heap/threads.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/session.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr uint32_t kPerPage = kPageBytes / sizeof(MarkRecord);
constinit MarkRecord* records[kMarkNames]{};
constinit uint32_t used = 0;
constinit base::SpinLock lock;

MarkRecord* add(const char* name) {
  static constinit MarkRecord* page = nullptr;
  if (used == kMarkNames) return nullptr;
  if (used % kPerPage == 0) {
    uint32_t index = base::take_pages(PageKind::kMarks, 1);
    if (!index) return nullptr;
    page = reinterpret_cast<MarkRecord*>(base::store.start + uint64_t{index} * kPageBytes);
  }
  MarkRecord* r = page + used % kPerPage;
  strncpy(r->name, name, kMarkName - 1);
  r->stride = 1;
  r->first_tick = base::header().tick;
  return records[used++] = r;
}

MarkRecord* find(const char* name) {
  for (uint32_t i = 0; i < used; i++)
    if (strncmp(records[i]->name, name, kMarkName - 1) == 0) return records[i];
  return add(name);
}

// Every other point goes: those whose number is no multiple of the new stride.
void thin(MarkRecord& r) {
  __atomic_add_fetch(&r.sequence, 1, __ATOMIC_ACQ_REL);
  r.stride *= 2;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < r.used; i++)
    if (r.points[i].number % r.stride == 0) r.points[kept++] = r.points[i];
  r.used = kept;
  __atomic_add_fetch(&r.sequence, 1, __ATOMIC_ACQ_REL);
}

void count(MarkRecord& r, uint64_t live) {
  uint64_t number = r.count + 1;
  r.last_tick = base::header().tick;
  if (number % r.stride == 0 && number <= UINT32_MAX) {
    if (r.used == kMarkPoints) thin(r);
    if (number % r.stride == 0) {
      r.points[r.used] = {uint32_t(number), r.last_tick, live};
      __atomic_store_n(&r.used, r.used + 1, __ATOMIC_RELEASE);
    }
  }
  __atomic_store_n(&r.count, number, __ATOMIC_RELEASE);
}
}  // namespace

namespace {
// A handler that jumped out would leave the locks held for good; but behind a filter, which may kill who holds handlers back, it could.
void mark_now(const char* name) {
  std::optional<base::NoHandlers> no_handlers;
  if (!base::filter_came()) no_handlers.emplace();
  int64_t live = heap::total_live();
  base::SpinGuard guard(lock);
  MarkRecord* r = find(name);
  if (r) count(*r, live > 0 ? uint64_t(live) : 0);
  else base::count(kMarksLost);
}
}  // namespace

// Enters as malloc does (heap/tracker.h): a child in its grace has its marks in private memory, like all else, and who moves that waits for this thread.
void mark(const char* name) {
  base::ThreadState& t = base::thread_state;
  if (!name || !*name) return;
  if (t.busy && heap::still_inside(heap::own_sp())) {   // a handler inside the allocator, which may hold these locks
    if (base::store.start && *base::session_word != base::kInert) base::count(kMarksLost);
    return;
  }
  if (!heap::enter(t) && heap::pass_gate(heap::Call::kOther) == heap::Gate::kPass) return;
  if (is_own_process()) mark_now(name);
  else base::count(kMarksLost);   // of a vfork child
  heap::leave(t);
}

void reset_marks() {
  used = 0;
  lock.reset();
}
void reset_marks_lock() { lock.reset(); }
void lock_marks() { lock.lock(); }
void unlock_marks() { lock.unlock(); }

}  // namespace tidemark::keeper
