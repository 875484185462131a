#include "preload/keeper/run_room.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "preload/base/own_calls.h"
#include "preload/format/region.h"
#include "preload/keeper/region_files.h"
#include "preload/platform/procfs.h"

namespace tidemark::keeper {
using namespace format;
namespace {

constexpr int kPatience = 20;   // milliseconds: who holds a lock against others is done in less, unless it is stopped
constinit int booking = -1;     // the ledger's file
constinit uint64_t booking_inode = 0;

// A lock of the open file, not of the process: the program's own locks, and our threads, have nothing to do with it.
bool lock_now(int fd, short kind) {
  struct flock whole {};
  whole.l_type = kind;
  whole.l_whence = SEEK_SET;
  return syscall(SYS_fcntl, fd, F_OFD_SETLK, &whole) == 0;
}
bool lock_soon(int fd, short kind) {
  for (int i = 0; !lock_now(fd, kind); i++) {
    if ((errno != EAGAIN && errno != EACCES) || i == kPatience) return false;
    usleep(1000);
  }
  return true;
}

uint64_t inode_of(int fd) {
  struct stat s;
  return fstat(fd, &s) == 0 ? s.st_ino : 0;
}

// 2: a filter, be it an ancestor's.
bool is_filtered() { return prctl(PR_GET_SECCOMP) != 0; }

bool has_room(const RunLedger& ledger, uint64_t bytes) { return __atomic_load_n(&ledger.used_bytes, __ATOMIC_RELAXED) + bytes <= ledger.limit_bytes; }

// First the header, as note_given_back does: whoever is killed in between leaves the ledger too high. A hole, where the launcher cuts: should another process have
// the dead one's memory yet (a vfork child), it may write there. The lock is the launcher's, too: the tail is given back once.
void give_back_tail(int fd, Header& h, RunLedger& ledger) {
  struct stat s;
  if (!lock_soon(fd, F_WRLCK) || fstat(fd, &s) != 0) return;
  const uint64_t used = h.used_pages * kPageBytes, booked = h.booked_bytes;
  if (booked <= used || booked > uint64_t(s.st_size)) return;   // it was given back, or it is no region
  __atomic_store_n(&h.booked_bytes, used, __ATOMIC_RELEASE);
  if (syscall(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, used, uint64_t(s.st_size) - used) == 0) take_off(ledger.used_bytes, booked - used);
  else __atomic_store_n(&h.booked_bytes, booked, __ATOMIC_RELEASE);
}
}  // namespace

void take_off(uint64_t& word, uint64_t bytes) {
  uint64_t before = __atomic_load_n(&word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(&word, &before, before > bytes ? before - bytes : 0, true, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
  }
}

bool book_in(RunLedger& ledger, uint64_t bytes) {
  uint64_t used = __atomic_add_fetch(&ledger.used_bytes, bytes, __ATOMIC_ACQ_REL);
  if (used <= ledger.limit_bytes) return true;
  take_off(ledger.used_bytes, bytes);
  return false;
}

// Two descriptors more can be had: the region's own, and that of what is read meanwhile.
static bool leaves_descriptors(int fd) {
  int one = int(syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0)), two = one < 0 ? -1 : int(syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0));
  if (one >= 0) close(one);
  if (two >= 0) close(two);
  return two >= 0;
}

bool begin_booking(const char* ledger_path) {
  booking = open(ledger_path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (booking < 0) return false;
  booking_inode = inode_of(booking);
  if (leaves_descriptors(booking) && lock_soon(booking, F_RDLCK)) return true;
  end_booking();
  return false;
}

void end_booking() {
  if (booking >= 0 && inode_of(booking) == booking_inode) close(booking);   // else the program did, and may have opened something else there
  booking = -1;
}

void take_back_pending(LauncherLedger& ledger) {
  if (booking < 0 || !__atomic_load_n(&ledger.pending_bytes, __ATOMIC_RELAXED)) return;
  lock_now(booking, F_UNLCK);   // or two that are at this would wait for each other
  if (lock_soon(booking, F_WRLCK)) take_off(ledger.run.used_bytes, __atomic_exchange_n(&ledger.pending_bytes, 0, __ATOMIC_ACQ_REL));
  if (!lock_soon(booking, F_RDLCK)) end_booking();
}

void give_back_tails_of_dead(RunLedger& ledger, uint64_t run_id, const char* dir, uint64_t bytes) {
  if (is_filtered()) return;
  const uint64_t own_namespace = platform::pid_namespace();
  if (!own_namespace) return;
  for_each_region_file(dir, [&](const char* path, const char* name) {
    int fd = has_room(ledger, bytes) ? -1 : open_trusted(path);
    Header* h = fd < 0 ? nullptr : map_header(fd);
    // By its name: a copy that somebody made has the same header.
    bool dead = h && h->run_id == run_id && numbers_in(name).has(h->pid) && h->pid_namespace == own_namespace && platform::process_is_gone(h->pid);
    if (dead) give_back_tail(fd, *h, ledger);
    if (h) unmap_page(h);
    if (fd >= 0) close(fd);
  });
}

}  // namespace tidemark::keeper
