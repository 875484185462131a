#include "preload/keeper/warnings.h"

#include "preload/base/store.h"
#include "preload/keeper/log.h"
#include "preload/keeper/session.h"

namespace tidemark::keeper {
using namespace format;
namespace {

// A threshold that doubles each time it is passed. Begins anew when its option is changed; 0: never.
struct Threshold {
  uint64_t first, next;

  bool passed_by(uint64_t value, uint64_t option) {
    if (first != option) first = next = option;
    if (!next || value <= next) return false;
    while (next < value && !__builtin_mul_overflow(next, 2, &next)) {}
    return true;
  }
};
constinit Threshold increase{}, expired{};

void warn(EventKind kind, uint64_t a, uint64_t b) {
  Header& h = base::header();
  Event event{uint32_t(kind), h.tick, a, b, {}};
  uint32_t id = h.warnings < kEvents ? base::take_lines(PageKind::kEvents, 1) : 0;
  h.warnings++;
  if (id) {
    auto* e = base::line<Event>(id);
    *e = event;
    e->kind = uint32_t(EventKind::kNone);
    __atomic_store_n(&e->kind, event.kind, __ATOMIC_RELEASE);
  } else {
    base::count(kEventsLost);
  }
  log_event(event);
}

// The slope of what counts against the limit, by least squares over the last samples; they must span some time.
struct Slope {
  static constexpr uint32_t kSamples = 60;
  static constexpr uint32_t kMinSpan = 10 * kTicksPerSecond;
  uint32_t ticks[kSamples];
  uint64_t values[kSamples];
  uint32_t count;

  void add(uint32_t tick, uint64_t value) {
    ticks[count % kSamples] = tick;
    values[count % kSamples] = value;
    count++;
  }
  // Bytes a tick; 0: falling, flat, or not known yet.
  double rise() const {
    uint32_t n = count < kSamples ? count : kSamples, oldest = count - n;
    if (n < 5 || ticks[(count - 1) % kSamples] - ticks[oldest % kSamples] < kMinSpan) return 0;
    double t0 = ticks[oldest % kSamples], mean_t = 0, mean_v = 0, covariance = 0, variance = 0;
    for (uint32_t i = oldest; i < count; i++) mean_t += (ticks[i % kSamples] - t0) / n, mean_v += double(values[i % kSamples]) / n;
    for (uint32_t i = oldest; i < count; i++) {
      double t = ticks[i % kSamples] - t0 - mean_t;
      covariance += t * (double(values[i % kSamples]) - mean_v);
      variance += t * t;
    }
    // Growth that went on in both halves, not one step.
    uint64_t first = values[oldest % kSamples], middle = values[(oldest + n / 2) % kSamples], last = values[(count - 1) % kSamples];
    return variance > 0 && covariance > 0 && first < middle && middle < last ? covariance / variance : 0;
  }
};
constinit Slope slope{};
constinit bool limit_near = false;   // warned, and not far from it since
}  // namespace

void take_baseline(uint64_t rss, uint64_t vms) {
  Header& h = base::header();
  if (rss == kUnknown) return;
  h.baseline_rss = rss;
  h.baseline_vms = vms;
  __atomic_store_n(&h.baseline_tick, h.tick ? h.tick : 1, __ATOMIC_RELEASE);
}

void watch_rss(uint64_t rss) {
  uint64_t baseline = base::header().baseline_rss;
  if (rss != kUnknown && rss > baseline && increase.passed_by(rss - baseline, options.warn_increase)) warn(EventKind::kRssIncrease, rss, baseline);
}

void watch_expired(uint64_t bytes) {
  if (expired.passed_by(bytes, options.warn_expired)) warn(EventKind::kExpiredBlocks, bytes, options.cache_duration);
}

void watch_cgroup(uint64_t working_set, uint64_t limit) {
  if (working_set == kUnknown || limit == kUnknown || !options.warn_eta) return;
  slope.add(base::header().tick, working_set);
  double rise = slope.rise();
  double left = working_set < limit ? double(limit - working_set) : 0;
  double eta_ms = rise > 0 ? left / rise * 1000 / kTicksPerSecond : -1;
  bool near = eta_ms >= 0 && eta_ms <= double(options.warn_eta);
  if (near && !limit_near) warn(EventKind::kCgroupLimit, limit, uint64_t(eta_ms));
  if (near) limit_near = true;
  else if (eta_ms < 0 || eta_ms > 2 * double(options.warn_eta)) limit_near = false;
}

void forget_warnings() {
  increase = expired = {};
  slope = {};
  limit_near = false;
}

}  // namespace tidemark::keeper
