#include "preload/keeper/process_series.h"

#include <cstring>

#include "preload/base/store.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr uint32_t kPerPage = kPageBytes / sizeof(ProcessPoint);
constexpr uint32_t kPages = kProcessPoints / kPerPage;
constinit uint32_t pages[kPages]{};
constinit uint32_t pages_used = 0;

ProcessPoint& point(uint32_t i) {
  return reinterpret_cast<ProcessPoint*>(base::store.start + uint64_t{pages[i / kPerPage]} * kPageBytes)[i % kPerPage];
}

// Pages come in the order of their points; false: there is no room.
bool have_room_for(uint32_t i) {
  while (i / kPerPage >= pages_used) {
    if (pages_used == kPages) return false;
    uint32_t page = base::take_pages(PageKind::kPoints, 1);
    if (!page) return false;
    pages[pages_used++] = page;
  }
  return true;
}

void merge(GaugeRange& into, const GaugeRange& later) {
  if (later.last == kUnknown) return;
  if (into.last == kUnknown) {
    into = later;
    return;
  }
  if (later.min < into.min) into.min = later.min;
  if (later.max > into.max) into.max = later.max;
  into.last = later.last;
}

ProcessPoint joined(const ProcessPoint& a, const ProcessPoint& b) {
  if (!a.samples || !b.samples) return a.samples ? a : b;
  ProcessPoint p = a;
  p.samples += b.samples;
  p.last_tick = b.last_tick;
  for (uint32_t i = 0; i < kGauges; i++) merge(p.gauges[i], b.gauges[i]);
  memcpy(p.counters, b.counters, sizeof(p.counters));
  return p;
}

void halve_resolution() {
  Header& h = base::header();
  __atomic_add_fetch(&h.series_sequence, 1, __ATOMIC_ACQ_REL);
  uint32_t used = h.series_used, half = (used + 1) / 2;
  for (uint32_t i = 0; i < half; i++) point(i) = 2 * i + 1 < used ? joined(point(2 * i), point(2 * i + 1)) : point(2 * i);
  for (uint32_t i = half; i < used; i++) memset(&point(i), 0, sizeof(ProcessPoint));
  h.series_ticks *= 2;
  h.series_used = half;
  __atomic_add_fetch(&h.series_sequence, 1, __ATOMIC_ACQ_REL);
}

void start_point(ProcessPoint& p, uint32_t now) {
  p.first_tick = now;
  for (GaugeRange& g : p.gauges) g = {kUnknown, kUnknown, kUnknown};
}

void begin(uint32_t now) {
  Header& h = base::header();
  h.series_first_tick = now;
  h.series_ticks = kTicksPerSecond;
}
}  // namespace

void add_sample(const uint64_t (&gauges)[kGauges], const uint64_t (&counters)[kCounters]) {
  Header& h = base::header();
  uint32_t now = h.tick, at;
  if (!h.series_ticks) begin(now);
  while ((at = (now - h.series_first_tick) / h.series_ticks) >= kProcessPoints || !have_room_for(at)) {
    if (!at) return base::count(kSamplesLost);
    halve_resolution();
  }
  ProcessPoint& p = point(at);
  if (!p.samples) start_point(p, now);
  for (uint32_t i = 0; i < kGauges; i++) merge(p.gauges[i], {gauges[i], gauges[i], gauges[i]});
  memcpy(p.counters, counters, sizeof(p.counters));
  p.last_tick = now;
  if (at >= h.series_used) h.series_used = at + 1;
  __atomic_store_n(&p.samples, p.samples + 1, __ATOMIC_RELEASE);
}

void forget_series() { pages_used = 0; }

}  // namespace tidemark::keeper
