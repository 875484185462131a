#include "preload/keeper/monitor.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/store.h"
#include "preload/heap/allocator.h"
#include "preload/heap/threads.h"
#include "preload/heap/tracker.h"
#include "preload/keeper/ageing.h"
#include "preload/keeper/budget.h"
#include "preload/keeper/errand.h"
#include "preload/keeper/process_events.h"
#include "preload/keeper/process_series.h"
#include "preload/keeper/purge.h"
#include "preload/keeper/rss_ledger.h"
#include "preload/keeper/session.h"
#include "preload/keeper/warnings.h"
#include "preload/platform/cgroup.h"
#include "preload/platform/kept_file.h"
#include "preload/platform/procfs.h"
#include "preload/platform/usage.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr int64_t kMs = 1'000'000, kDecayInterval = 1000 * kMs;

// 0: not known yet. `baseline`: until it is taken, its moment is one to sample at.
struct Due {
  int64_t sample, purge, baseline, decay;
};
constinit Due due{};
constinit int64_t born = 0;   // CLOCK_MONOTONIC
constinit std::atomic<bool> plan_is_old{false};
constinit bool settings_made = false;
constinit bool purge_wanted = false;   // of the errand under way
constinit PurgeReason purge_reason = PurgeReason::kInterval;
constinit std::atomic<bool> purge_asked{false};
constinit std::atomic<uint64_t> rss_of_sample{0};
constinit Budget pss_budget(400);
constinit uint32_t cgroup_age = 0;   // samples since it was looked for

// Takes as long as there are pages.
uint64_t pss(uint64_t rss) {
  int64_t now = platform::monotonic_ns();
  return pss_budget.allows(now, rss) ? pss_budget.spend(now, rss, platform::read_pss) : kUnknown;
}

// Which cgroup it is takes longer to find out than to read: looked for again once in a while, for a process can be moved.
const platform::Cgroup& present_cgroup() {
  constexpr uint32_t kEvery = 60;   // samples
  static platform::Cgroup cgroup;
  if (cgroup_age++ % kEvery == 0 && platform::find_cgroup(cgroup)) {
    Header& h = base::header();
    size_t n = strlen(cgroup.folder);
    if (n != h.cgroup.length || memcmp(base::store.start + h.cgroup.offset, cgroup.folder, n) != 0)
      h.cgroup = base::take_text(cgroup.folder, n);
    h.cgroup_inode = cgroup.inode;
  }
  return cgroup;
}

void put_cgroup(uint64_t (&gauges)[kGauges], uint64_t (&counters)[kCounters]) {
  platform::CgroupMemory memory{kUnknown, kUnknown, kUnknown, kUnknown, kUnknown, kUnknown};
  const platform::Cgroup& cgroup = present_cgroup();
  if (cgroup.found) platform::read_cgroup(cgroup, memory);
  gauges[kCgroupCurrent] = memory.current;
  gauges[kCgroupWorkingSet] = memory.working_set;
  gauges[kCgroupLimit] = memory.limit;
  gauges[kMemoryPressure] = memory.pressure;
  counters[kCgroupMaxEvents] = memory.max_events;
  counters[kCgroupOomKills] = memory.oom_kills;
}

void put_usage(const platform::Usage& usage, uint64_t (&gauges)[kGauges], uint64_t (&counters)[kCounters]) {
  gauges[kRss] = usage.rss;
  gauges[kSwap] = usage.swap;
  gauges[kVms] = usage.vms;
  gauges[kThreads] = usage.threads == kUnknown ? kUnknown : usage.threads - own_threads();
  gauges[kDescriptors] = usage.descriptors;
  counters[kMinorFaults] = usage.minor_faults;
  counters[kMajorFaults] = usage.major_faults;
  counters[kUserMs] = usage.user_ms;
  counters[kSystemMs] = usage.system_ms;
}

void put_allocator(uint64_t (&gauges)[kGauges]) {
  HeapFigures figures{};
  heap::read_allocator(figures);
  gauges[kAllocated] = figures.allocated;
  gauges[kActive] = figures.active;
  gauges[kDirty] = figures.dirty;
  gauges[kMuzzy] = figures.muzzy;
  gauges[kRetained] = figures.retained;
  gauges[kMetadata] = figures.metadata;
  gauges[kResident] = figures.resident;
}

// The ledger comes with PSS: the kernel need not go through all pages once more, and not soon again.
uint64_t pss_with_ledger(uint64_t rss) {
  pss_budget.note(platform::monotonic_ns(), rss, cost_of_ledger());
  return pss_of_ledger();
}

void put_ledger(uint64_t (&gauges)[kGauges], bool at_once) {
  bool measured = at_once ? measure_ledger() : measure_ledger_now_and_then(platform::monotonic_ns(), gauges[kRss]);
  gauges[kPss] = measured ? pss_with_ledger(gauges[kRss]) : pss(gauges[kRss]);
  const RssLedger& ledger = base::header().rss_ledger;
  gauges[kLedgerLive] = measured ? ledger.live : kUnknown;
  gauges[kLedgerUntouched] = measured ? ledger.live_untouched : kUnknown;
  gauges[kLedgerRounding] = measured ? ledger.rounding : kUnknown;
  gauges[kLedgerAllocator] = measured ? ledger.allocator : kUnknown;
  gauges[kLedgerMappings] = measured ? ledger.mappings : kUnknown;
  gauges[kLedgerStacks] = measured ? ledger.thread_stacks : kUnknown;
  gauges[kLedgerTidemark] = measured ? ledger.tidemark : kUnknown;
}

// A seccomp filter that came after us may kill who makes a system call that it does not list: what was read so far is still read, from
// files that are open. Where a hook saw the filter come, it may be any filter: then nothing is read at all.
constinit uint32_t confined = 0;   // filters that came, or are about to
constinit uint64_t first_seccomp = 0;
constinit bool seen_unannounced = false;

void look_for_filter() {
  uint64_t now = platform::seccomp_state();
  if (!first_seccomp) first_seccomp = now;
  if (now == first_seccomp) return;
  __atomic_store_n(&seen_unannounced, true, __ATOMIC_RELAXED);
  platform::stop_opening();
  base::forbid_kernel_copies();
}

// Behind a filter that came later, which may kill who calls madvise, or a thread that has to wait for us, jemalloc does as it always does.
bool behind_filter() { return monitor_is_confined() || !platform::may_open(); }
bool may_purge() {
  if (!monitor_is_confined()) look_for_filter();
  return !behind_filter();
}

// Where RSS is not known, as without /proc, not at each tick again.
void try_baseline(const platform::Usage& usage) {
  constexpr int64_t kAgain = 60'000 * kMs;
  int64_t now = platform::monotonic_ns();
  if (now < due.baseline) return;
  take_baseline(usage.rss, usage.vms);
  if (!base::header().baseline_tick) due.baseline = now + kAgain;
}

}  // namespace

void sample() {
  if (__atomic_load_n(&confined, __ATOMIC_SEQ_CST)) return base::count(kSamplesConfined);
  look_for_filter();
  uint64_t gauges[kGauges], counters[kCounters];
  platform::Usage usage;
  platform::read_usage(usage);
  put_usage(usage, gauges, counters);
  if (usage.rss != kUnknown) rss_of_sample = usage.rss;
  gauges[kLive] = uint64_t(std::max<int64_t>(heap::total_live(), 0));
  put_allocator(gauges);
  put_cgroup(gauges, counters);
  bool has_baseline = base::header().baseline_tick;
  if (has_baseline) watch_rss(usage.rss);
  else try_baseline(usage);
  put_ledger(gauges, !has_baseline && base::header().baseline_tick);
  add_sample(gauges, counters);
  watch_expired(expired_bytes());
  watch_cgroup(gauges[kCgroupWorkingSet], gauges[kCgroupLimit]);
}

namespace {

void read_rules() {
  constexpr size_t kKept = 4000;   // what a text may hold
  if (!options.rules.value[0]) return;
  char text[kKept + 1];
  size_t n = platform::may_open() ? platform::read_file(options.rules.value, text, sizeof(text)) : 0;
  if (n == 0 || n > kKept) base::count(kRulesUnread);
  if (n) base::header().rules = base::take_text(text, n < kKept ? n : kKept);
}

// Before the first sample a process may be killed, too.
void note_cgroup_at_first(uint64_t limit, uint64_t oom_kills) {
  base::header().cgroup_limit = limit;
  base::header().cgroup_oom_kills = oom_kills;
}

// Opens what will be read, while that is surely allowed.
void prepare() {
  if (__atomic_load_n(&confined, __ATOMIC_SEQ_CST)) return;
  look_for_filter();
  platform::Usage usage;
  platform::read_usage(usage);
  pss(usage.rss);
  uint64_t gauges[kGauges], counters[kCounters];
  put_cgroup(gauges, counters);
  note_cgroup_at_first(gauges[kCgroupLimit], counters[kCgroupOomKills]);
  measure_ledger_now_and_then(platform::monotonic_ns(), usage.rss);
  read_rules();
}

void decay() {
  if (!behind_filter()) heap::decay_allocator();
  if (behind_filter()) heap::stop_decay();   // by now, perhaps
}
void decay_between_samples() {
  if (!monitor_is_confined()) look_for_filter();
  decay();
}

// Whoever asks for one by name gets it.
void purge_if_allowed() {
  if (purge_reason != PurgeReason::kInterval || may_purge()) purge(purge_reason);
  else base::count(kPurgesConfined);
}

void run_errand() {
  if (purge_wanted) purge_if_allowed();
  heap::release_what_others_handlers_freed();
  sample();
  decay();
}

struct AllocatorSettings {
  uint64_t dirty_ms, muzzy_ms;
  bool background_thread;
};
constinit bool child_settings = false;   // fork leaves jemalloc's own threads behind

void apply_settings() {
  settings_made = true;
  static AllocatorSettings made{10000, 0, false};   // jemalloc's own
  AllocatorSettings wanted{options.dirty_decay_ms, options.muzzy_decay_ms, options.background_thread};
  if (wanted.dirty_ms != made.dirty_ms || wanted.muzzy_ms != made.muzzy_ms) heap::set_decay(wanted.dirty_ms, wanted.muzzy_ms);
  if (wanted.background_thread != made.background_thread || child_settings) heap::set_background_thread(wanted.background_thread);
  child_settings = false;
  made = wanted;
}

void plan(int64_t now) {
  // A fork child's clock is its parent's: its own life began about when it is first looked at.
  if (!born) born = base::header().origin == uint32_t(Origin::kForked) ? now : base::header().started_monotonic_ns;
  due.sample = now + int64_t(options.sample_interval) * kMs;
  due.purge = options.cleanup_interval ? now + int64_t(options.cleanup_interval) * kMs : INT64_MAX;
  due.baseline = born + int64_t(options.baseline_after) * kMs;
}

// The next multiple that is not over yet: after a stop no burst makes up for what was missed.
int64_t following(int64_t when, int64_t interval, int64_t now) { return when + ((now - when) / interval + 1) * interval; }
}  // namespace

void monitor(int64_t now) {
  if (!recording() || errand_under_way()) return;
  if (plan_is_old.exchange(false)) settings_made = false, due = {};
  if (!settings_made) apply_settings();
  if (!due.sample) {
    plan(now);
    start_errand(prepare);
    return;
  }
  bool first = !base::header().baseline_tick && now >= due.baseline && !monitor_is_confined();
  bool at_interval = now >= due.purge;
  purge_wanted = at_interval || purge_asked.exchange(false);
  purge_reason = at_interval ? PurgeReason::kInterval : PurgeReason::kInside;
  bool sample_wanted = purge_wanted || now >= due.sample || first;
  if (!sample_wanted && now < due.decay) return;
  due.decay = now + kDecayInterval;
  if (at_interval) due.purge = following(due.purge, int64_t(options.cleanup_interval) * kMs, now);
  if (now >= due.sample) due.sample = following(due.sample, int64_t(options.sample_interval) * kMs, now);
  if (!start_errand(sample_wanted ? run_errand : decay_between_samples) && sample_wanted) base::count(kKeeperMissing);
}

uint64_t latest_rss() { return rss_of_sample; }
void want_purge() { purge_asked = true; }
void replan() { plan_is_old = true; }

void confine_monitor() {
  __atomic_add_fetch(&confined, 1, __ATOMIC_SEQ_CST);
  base::forbid_kernel_copies();
}
void unconfine_monitor() {
  base::permit_kernel_copies();
  __atomic_sub_fetch(&confined, 1, __ATOMIC_SEQ_CST);
}
bool filter_was_seen() { return monitor_is_confined() || __atomic_load_n(&seen_unannounced, __ATOMIC_RELAXED); }
bool monitor_is_confined() { return __atomic_load_n(&confined, __ATOMIC_SEQ_CST); }

void stop_monitor() {
  end_errands();
  heap::stop_decay();   // after the last one that may have called it
}

void forget_monitor() {
  forget_errands();
  forget_series();
  forget_purges();
  forget_ledger();
  forget_warnings();
  forget_ageing();
  heap::stop_decay();
  due = {};
  born = 0;
  settings_made = false;
  child_settings = options.background_thread;
  pss_budget.forget();
  cgroup_age = 0;
  purge_asked = false;
  rss_of_sample = 0;
  first_seccomp = 0;
}

}  // namespace tidemark::keeper
