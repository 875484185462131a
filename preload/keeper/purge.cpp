#include "preload/keeper/purge.h"

#include "preload/base/store.h"
#include "preload/heap/allocator.h"
#include "preload/keeper/monitor.h"
#include "preload/platform/procfs.h"
#include "preload/platform/usage.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr uint32_t kPerPage = kPageBytes / sizeof(Purge);
constinit uint32_t pages[kPurges / kPerPage]{};

// The record of purge `number`; nullptr: there is no room.
Purge* slot_of(uint32_t number) {
  uint32_t slot = (number - 1) % kPurges;
  uint32_t& page = pages[slot / kPerPage];
  if (!page && !(page = base::take_pages(PageKind::kPurges, 1))) return nullptr;
  return reinterpret_cast<Purge*>(base::store.start + uint64_t{page} * kPageBytes) + slot % kPerPage;
}

HeapFigures figures() {
  HeapFigures f{};
  heap::read_allocator(f);
  platform::Usage usage;
  if (!monitor_is_confined()) platform::read_memory(usage);
  f.rss = usage.rss;
  return f;
}

void record(const Purge& purge) {
  Header& h = base::header();
  h.purged_bytes += purge.bytes_returned;
  if (purge.ns > h.longest_purge_ns) h.longest_purge_ns = purge.ns;
  __atomic_store_n(&h.purges, purge.number, __ATOMIC_RELEASE);
  Purge* slot = slot_of(purge.number);
  if (!slot) return base::count(kPurgesLost);
  __atomic_store_n(&slot->number, 0, __ATOMIC_RELEASE);
  Purge uncommitted = purge;
  uncommitted.number = 0;
  *slot = uncommitted;
  __atomic_store_n(&slot->number, purge.number, __ATOMIC_RELEASE);
}
}  // namespace

Purge purge(PurgeReason reason) {
  Purge p{};
  p.tick = base::header().tick;
  p.number = base::header().purges + 1;
  p.reason = uint32_t(reason);
  p.before = figures();
  int64_t begin = platform::monotonic_ns();
  heap::purge_allocator();
  p.ns = uint64_t(platform::monotonic_ns() - begin);
  p.after = figures();
  bool rss_known = p.before.rss != kUnknown && p.after.rss != kUnknown;
  uint64_t before = rss_known ? p.before.rss : p.before.resident, after = rss_known ? p.after.rss : p.after.resident;
  if (after < before) p.bytes_returned = before - after;
  record(p);
  return p;
}

void forget_purges() {
  for (uint32_t& page : pages) page = 0;
}

}  // namespace tidemark::keeper
