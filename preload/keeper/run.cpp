#include "preload/keeper/run.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "preload/base/memory.h"
#include "preload/base/own_mappings.h"
#include "preload/base/store.h"
#include "preload/heap/inherited.h"
#include "preload/keeper/kinship.h"
#include "preload/keeper/region_files.h"
#include "preload/keeper/run_room.h"
#include "preload/keeper/session.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
using namespace format;

constinit Run run{};
namespace {
constinit RunLedger* ledger = nullptr;
constexpr uint32_t kAncestors = 8;
constinit Header* kept = nullptr;      // of the nearest recorded ancestor
constinit char kept_name[16]{};        // TASK_COMM_LEN
constinit uint64_t bytes_before = 0;
constinit uint64_t booked = 0;         // with the launcher, by the last book_region
constinit uint64_t pending = 0;        // of that, in LauncherLedger::pending_bytes
constinit int32_t kept_by = 0;         // the process that looked for it: a child's nearest ancestor may be another

bool is_launchers(const char* ledger_path) { return strncmp(ledger_path, "/proc/", 6) == 0; }   // its memory file, by descriptor

RunLedger* ledger_in(void* page) {
  auto* direct = static_cast<RunLedger*>(page);
  if (memcmp(direct->magic, kLedgerMagic, sizeof(kLedgerMagic)) == 0) return direct;
  auto* h = static_cast<Header*>(page);
  if (memcmp(h->magic, kMagic, sizeof(kMagic)) == 0 && h->version == kVersion &&
      memcmp(h->ledger.magic, kLedgerMagic, sizeof(kLedgerMagic)) == 0)
    return &h->ledger;
  return nullptr;
}

// The first page of a region of this run, mapped; nullptr: it is none.
Header* map_own_runs_header(const char* path) {
  Header* h = map_header(path);
  if (!h || h->run_id == run.id) return h;
  unmap_page(h);
  return nullptr;
}

// The newest region of `pid` in this run, its first page mapped; nullptr: none.
Header* find_region(const char* dir, int32_t pid) {
  Header* found = nullptr;
  for_each_region_file(dir, [&](const char* path, const char* name) {
    Header* h = numbers_in(name).has(pid) ? map_own_runs_header(path) : nullptr;
    if (!h) return;
    bool newer = h->pid == pid && (!found || h->started_monotonic_ns > found->started_monotonic_ns);
    if (newer) std::swap(found, h);
    if (h) unmap_page(h);
  });
  return found;
}

uint64_t bytes_on_disk(const char* path) {
  struct stat s;
  return stat(path, &s) == 0 ? uint64_t(s.st_blocks) * 512 : 0;
}

// What the run's regions in that folder take on the disk, as far as this process may read them.
uint64_t bytes_of_run(const char* dir) {
  uint64_t sum = 0;
  for_each_region_file(dir, [&](const char* path, const char*) {
    Header* h = map_own_runs_header(path);
    if (!h) return;
    sum += bytes_on_disk(path);
    unmap_page(h);
  });
  return sum;
}

// What all regions there do, whosever they are.
uint64_t bytes_of_folder(const char* dir) {
  uint64_t sum = 0;
  for_each_region_file(dir, [&](const char* path, const char*) { sum += bytes_on_disk(path); });
  return sum;
}

// Where nobody looks after the run, its first region has the ledger, and regions_max is for the folder.
bool is_hosted(const RunLedger* l) { return l && !is_launchers(run.ledger_path); }

// A ledger in a region does not hear of files that their owner removed, or whose processes were killed: before it refuses, they are counted. What another
// process has booked and not made yet is missed.
bool book_after_counting(RunLedger* l, uint64_t bytes) {
  uint64_t used = __atomic_load_n(&l->used_bytes, __ATOMIC_RELAXED), counted = bytes_of_folder(region_folder());
  if (counted + bytes > l->limit_bytes) return false;
  bool unchanged = __atomic_compare_exchange_n(&l->used_bytes, &used, counted + bytes, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
  return unchanged || book_in(*l, bytes);
}

// The launcher gives back what is left by those that were killed a few times a second at most, and many may come at once: before it refuses, that is done here.
bool book_after_giving_back(LauncherLedger& l, uint64_t bytes) {
  take_back_pending(l);
  if (book_in(l.run, bytes)) return true;
  give_back_tails_of_dead(l.run, run.id, region_folder(), bytes);
  return book_in(l.run, bytes);
}

// Noted as pending until it is settled, if the lock that goes with that is to be had.
bool book_with_launcher(LauncherLedger& l, uint64_t bytes) {
  const bool locked = begin_booking(run.ledger_path);
  if (!book_in(l.run, bytes) && !book_after_giving_back(l, bytes)) {
    end_booking();
    return false;
  }
  booked = bytes;
  pending = locked ? bytes : 0;
  __atomic_add_fetch(&l.pending_bytes, pending, __ATOMIC_ACQ_REL);
  return true;
}

// The region has its name, or there is none.
void settle(RunLedger& l) {
  if (pending) take_off(reinterpret_cast<LauncherLedger&>(l).pending_bytes, pending);
  pending = 0;
  end_booking();
}

// The run's first process has no ledger yet, unless its launcher has: it takes its place among what is there from earlier ones. Of a ledger that cannot be
// opened, for the launcher is gone, or this is another user, the run's files tell; each process counts them that comes to this.
bool book_without_ledger(uint64_t bytes) {
  if (!is_root(int32_t(syscall(SYS_getpid))) || run.ledger_path[0]) return bytes_of_run(region_folder()) + bytes <= options.regions_max;
  bytes_before = bytes_of_folder(region_folder());
  return bytes_before + bytes <= options.regions_max;
}
}  // namespace

void read_run(const char* value, const char* dir) {
  run = {};
  if (value && strncmp(value, "v1,", 3) == 0) {
    char* end;
    run.id = strtoull(value + 3, &end, 16);
    if (*end == ',') run.root_pid = int32_t(strtol(end + 1, &end, 10));
    if (*end == ',' && strlen(end + 1) < sizeof(run.ledger_path)) strcpy(run.ledger_path, end + 1);
    if (run.id) return;
  }
  run = {};
  if (join_run_of_ancestor(dir, run)) return;
  run.root_pid = int32_t(syscall(SYS_getpid));
  if (syscall(SYS_getrandom, &run.id, sizeof(run.id), GRND_NONBLOCK) != sizeof(run.id) || !run.id)
    run.id = uint64_t(platform::monotonic_ns()) << 16 ^ uint64_t(run.root_pid);
}

RunLedger* open_ledger() {
  if (ledger || !run.ledger_path[0]) return ledger;
  void* page = map_first_page(run.ledger_path);
  if (page && !(ledger = ledger_in(page))) unmap_page(page);
  return ledger;
}

void use_own_ledger() {
  void* page = base::own_mremap(base::store.start, 0, kPageBytes, MREMAP_MAYMOVE, nullptr);   // of what is shared: the same once more, mremap(2)
  if (page != MAP_FAILED) ledger = ledger_in(page);
}

bool book_region(uint64_t bytes) {
  RunLedger* l = open_ledger();
  booked = pending = 0;
  if (!l) return book_without_ledger(bytes);
  bool done = is_hosted(l) ? book_in(*l, bytes) || book_after_counting(l, bytes) : book_with_launcher(reinterpret_cast<LauncherLedger&>(*l), bytes);
  if (!done) return false;
  __atomic_add_fetch(&l->regions, 1, __ATOMIC_RELAXED);
  return true;
}

void unbook_region(uint64_t bytes) {
  RunLedger* l = open_ledger();
  if (!l) return;
  settle(*l);
  take_off(l->used_bytes, bytes);
  __atomic_sub_fetch(&l->regions, 1, __ATOMIC_RELAXED);
}

void note_region_made() {
  if (!booked) return;
  settle(*ledger);
  __atomic_store_n(&base::header().booked_bytes, booked, __ATOMIC_RELEASE);
}

// A ledger in a region hears of it before: who counts files meanwhile corrects what is too low, not what is taken off twice.
void note_giving_back(uint64_t bytes) {
  if (is_hosted(ledger)) take_off(ledger->used_bytes, bytes);
}

// The launcher's hears of it after, when it is true; before that the header, which tells the launcher what is left for it to take off. Who is killed
// in between leaves the ledger too high.
void note_given_back(uint64_t bytes, bool done) {
  uint64_t& left = base::header().booked_bytes;
  if (is_hosted(ledger) && !done) __atomic_add_fetch(&ledger->used_bytes, bytes, __ATOMIC_ACQ_REL);
  if (is_hosted(ledger) || !done || left < bytes) return;
  __atomic_store_n(&left, left - bytes, __ATOMIC_RELEASE);
  take_off(ledger->used_bytes, bytes);
}

uint64_t bytes_before_run() { return bytes_before; }

void keep_name() { prctl(PR_GET_NAME, kept_name); }

void note_refusal(Refusal reason, int error, const char* detail) {
  RunLedger* l = open_ledger();
  if (!l) return;
  uint32_t n = __atomic_fetch_add(&l->refused, 1, __ATOMIC_RELAXED);
  if (n >= kRefusalNotes) return;
  RefusalNote& note = l->notes[n];
  note.pid = int32_t(syscall(SYS_getpid));
  note.error = error;
  static_assert(sizeof(note.name) >= 16);   // TASK_COMM_LEN
  prctl(PR_GET_NAME, note.name);   // of /proc behind a chroot there may be nothing
  if (strcmp(note.name, "tidemark") == 0) strcpy(note.name, kept_name);   // a thread of ours
  if (detail) strncpy(note.detail, detail, sizeof(note.detail) - 1);
  __atomic_store_n(&note.reason, uint32_t(reason), __ATOMIC_RELEASE);
}

void keep_parent_header(const char* dir) {
  if (kept_by == int32_t(getpid())) return;
  kept_by = int32_t(getpid());
  Header* parent = heap::parent_header();
  kept = parent && memcmp(parent->magic, kMagic, sizeof(kMagic)) == 0 && parent->name.length ? parent : nullptr;
  int32_t pid = int32_t(getppid());
  for (uint32_t i = 0; !kept && i < kAncestors && pid > 1; i++, pid = platform::process_parent(pid)) kept = find_region(dir, pid);
}

void forget_ancestor() {
  kept = nullptr;
  kept_by = 0;
}

void keep_what_tells(const char* dir) {
  keep_parent_header(dir);
  open_ledger();
}

Header* recorded_ancestor(const char* dir) {
  keep_parent_header(dir);
  return kept;
}

void note_in_parent(Coverage what, const char* dir) {
  if (Header* ancestor = recorded_ancestor(dir)) __atomic_fetch_add(&ancestor->coverage[what], 1, __ATOMIC_RELAXED);
}

void export_run() {
  constexpr size_t kRoom = 600;
  auto* text = static_cast<char*>(base::map_private(kRoom));
  if (!text || strlen(run.ledger_path) > 500) return;
  memcpy(text, "TIDEMARK_RUN=v1,", 16);
  char* p = text + 16;
  for (int shift = 60; shift >= 0; shift -= 4) *p++ = "0123456789abcdef"[run.id >> shift & 15];
  *p++ = ',';
  p = platform::put_number(p, uint64_t(run.root_pid));
  *p++ = ',';
  strcpy(p, run.ledger_path);
  // First of all, for programs that write their titles over argv and environment take them to end where the last variable does.
  size_t n = 0;
  while (environ && environ[n]) {
    if (strncmp(environ[n], text, 13) == 0) {
      memmove(environ + 1, environ, n * sizeof(char*));
      environ[0] = text;
      return;
    }
    n++;
  }
  // A new array, as setenv would make it; the old one stays where it is for whoever holds it.
  auto** grown = static_cast<char**>(base::map_private((n + 2) * sizeof(char*)));
  if (!grown) return;
  grown[0] = text;
  if (n) memcpy(grown + 1, environ, n * sizeof(char*));
  environ = grown;
}

}  // namespace tidemark::keeper
