#include "preload/keeper/region_move.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/own_mappings.h"
#include "preload/base/store.h"
#include "preload/base/thread_state.h"
#include "preload/heap/inherited.h"
#include "preload/heap/session.h"
#include "preload/heap/threads.h"
#include "preload/keeper/identity.h"
#include "preload/keeper/region_file.h"
#include "preload/keeper/run.h"
#include "preload/keeper/session.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
using namespace format;

namespace {
constinit int64_t acting_since = 0;      // CLOCK_MONOTONIC; in another user's name
constexpr uint32_t kFreezeTries = 70;   // 20 ms: meanwhile whoever calls malloc waits
// A thread whose handler jumped out of the allocator, and which never calls it again, is busy for ever: each try is twice as long after the last one, and at
// last, after some 100 s, the process stays unrecorded.
constexpr uint32_t kMostFreezes = 10;
constexpr int64_t kFirstPauseNs = 100'000'000;
constinit uint32_t freezes_failed = 0;
constinit int64_t next_freeze = 0;      // CLOCK_MONOTONIC
}  // namespace

void set_word(uint32_t word) { __atomic_store_n(base::session_word, word, __ATOMIC_RELEASE); }
void wake_waiters() { syscall(SYS_futex, base::session_word, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0); }

bool freeze() {
  syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
  set_word(base::kFrozen);
  if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0) usleep(10'000);   // store buffers drain by themselves
  for (uint32_t i = 0; i < kFreezeTries; i++) {
    if (heap::lock_idle_threads()) return true;
    if (i < 50) sched_yield();
    else usleep(1000);
  }
  return false;
}

namespace {
// Everything outside of malloc waits while this runs. On failure `file` is left with what can be given back of it.
bool replace_memory(RegionFile& file) {
  base::Store& s = base::store;
  heap::adopt_inherited();
  uint64_t used = base::header().used_pages * kPageBytes;
  memcpy(file.memory, s.start, used);
  if (mprotect(file.memory + s.opened, file.bytes - s.opened, PROT_NONE) != 0 && s.opened < file.bytes) return false;
  // Two mappings of unlike protection cannot be moved by one call.
  uint64_t opened = s.opened;
  if (base::own_mremap(file.memory, opened, opened, MREMAP_MAYMOVE | MREMAP_FIXED, s.start) == MAP_FAILED) return false;
  file.memory += opened;
  file.bytes -= opened;
  return !file.bytes || base::own_mremap(file.memory, file.bytes, file.bytes, MREMAP_MAYMOVE | MREMAP_FIXED, s.start + opened) != MAP_FAILED;
}

void count_refused_child(Refusal reason, int error) {
  Coverage what = reason == Refusal::kRegionsMax ? kChildrenOverLimit : kChildrenUnrecorded;
  if (geteuid() != base::header().uid && (error == EACCES || error == EPERM)) what = kChildrenOtherUser;
  note_in_parent(what, region_folder());
}

bool refuse_child(Refusal reason, int error, const char* detail) {
  count_refused_child(reason, error);
  note_refusal(reason, error, detail);
  stop_recording();
  return true;
}
// From here to the last line every thread that calls malloc waits.
bool move_into(RegionFile& file) {
  base::header().region_in_memory = file.in_memory;
  if (heap::without_keeper && !base::header().coverage[kKeeperMissing]) base::count(kKeeperMissing);
  fill_identity();
  if (!freeze()) {
    set_word(base::kGrace);
    wake_waiters();
    base::count(kSwitchTimeouts);
    discard_region_file(file);
    unbook_region(base::store.bytes);
    next_freeze = platform::monotonic_ns() + (kFirstPauseNs << freezes_failed);
    return ++freezes_failed == kMostFreezes && refuse_child(Refusal::kNeverIdle, 0, nullptr);
  }
  if (!replace_memory(file)) {
    discard_region_file(file);
    unbook_region(base::store.bytes);
    refuse_child(Refusal::kMapFile, ENOMEM, region_folder());
  } else if (publish_region_file(file)) {
    note_region_made();
    set_word(heap::session_serial);
  } else {
    unbook_region(base::store.bytes);
    refuse_child(file.reason, file.error, file.path);
  }
  heap::unlock_threads();
  wake_waiters();
  return true;
}

// As the user that this thread is for files. false: try again later.
bool make_region_now() {
  read_identity();
  if (!book_region(base::store.bytes)) return refuse_child(Refusal::kRegionsMax, 0, region_folder());
  char name[64];
  region_name(name);
  RegionFile& file = create_region_file(region_folder(), name, int32_t(syscall(SYS_getpid)), base::store.bytes);
  if (file.memory && base::open_memory(file.memory, file.bytes)) return move_into(file);
  unbook_region(base::store.bytes);
  if (file.memory) {
    discard_region_file(file);
    return refuse_child(Refusal::kMapFile, ENOMEM, file.path);
  }
  return refuse_child(file.reason, file.error, file.path);
}

// The users that this thread may be again, and is for files (credentials(7)). Where it acts for another one just now, as a file server does for a session,
// a file that it makes is that user's, who could change all that the shim does here.
struct Users {
  uid_t real, effective, saved, files;
  Users() : files(uid_t(syscall(SYS_setfsuid, -1))) {   // no user's number: the answer is who it is
    if (getresuid(&real, &effective, &saved) != 0) real = saved = effective = files;
  }
  bool differ() const { return real != effective || saved != effective || files != effective; }
  bool any_is_root() const { return !real || !effective || !saved; }
};
// Files that this thread makes are root's. It alone: a raw call is not repeated on others.
class FilesOfRoot {
 public:
  FilesOfRoot() : before_(uid_t(syscall(SYS_setfsuid, 0))) {}
  ~FilesOfRoot() { syscall(SYS_setfsuid, before_); }
  FilesOfRoot(const FilesOfRoot&) = delete;
  FilesOfRoot& operator=(const FilesOfRoot&) = delete;

 private:
  uid_t before_;
};
}  // namespace

bool make_region() {
  constexpr int64_t kPatience = 10'000'000'000;   // ns
  if (platform::monotonic_ns() < next_freeze) return false;
  Users users;
  if (!users.differ()) return make_region_now();
  if (users.any_is_root()) {
    FilesOfRoot scope;
    return make_region_now();
  }
  if (!acting_since) acting_since = platform::monotonic_ns();
  return platform::monotonic_ns() - acting_since > kPatience && refuse_child(Refusal::kOtherUser, EPERM, region_folder());
}

int64_t next_move_ns() { return next_freeze; }

void forget_moves() { freezes_failed = 0, next_freeze = acting_since = 0; }

}  // namespace tidemark::keeper
