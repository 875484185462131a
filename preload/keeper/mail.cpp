#include "preload/keeper/mail.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstring>

#include "preload/base/store.h"
#include "preload/keeper/errand.h"
#include "preload/keeper/monitor.h"
#include "preload/keeper/purge.h"
#include "preload/keeper/rss_ledger.h"
#include "preload/keeper/session.h"
#include "preload/keeper/snapshot.h"

namespace tidemark::keeper {
using namespace format;
namespace {

Mailbox& box() { return base::header().mailbox; }

uint32_t word() { return __atomic_load_n(&box().state, __ATOMIC_ACQUIRE); }

void become(Mail state) {
  __atomic_store_n(&box().state, mail_word(state, mail_client(word())), __ATOMIC_RELEASE);
  syscall(SYS_futex, &box().state, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void answer(int error, const char* text) {
  box().error = error;
  strncpy(box().text, text, kMailText - 1);
  box().text[kMailText - 1] = 0;
}

// What may change while the program runs; the rest was used up at the start.
bool may_be_set(const char* name) {
  constexpr const char* kNames[] = {"cleanup_interval", "sample_interval", "warn_increase", "cache_duration", "warn_expired", "warn_eta",
                                    "log", "log_size", "dirty_decay_ms", "muzzy_decay_ms", "background_thread"};
  for (const char* known : kNames)
    if (strcmp(known, name) == 0) return true;
  return false;
}

void change_option() {
  char name[kMailText];
  memcpy(name, box().text, kMailText);
  name[kMailText - 1] = 0;
  char* value = strchr(name, '=');
  if (value) *value++ = 0;
  if (!may_be_set(name)) return answer(EINVAL, "this option cannot be changed while the program runs");
  static Options changed;
  changed = options;
  if (!value || !set_option(changed, name, value)) return answer(EINVAL, "the value is not understood");
  make_sensible(changed);
  options = changed;
  replan();
  answer(0, "");
}

void take_snapshot() {
  char text[kMailText];
  int error = snapshot(text, sizeof(text));
  answer(error, text);
}

void measure_if_allowed() {
  if (!monitor_is_confined()) measure_ledger();
}

void run_command() {
  switch (Command(box().command)) {
    case Command::kStats:
      sample();
      measure_if_allowed();
      return answer(0, "");
    case Command::kCleanup:
      box().purge = purge(PurgeReason::kControl);
      sample();
      measure_if_allowed();
      return answer(0, "");
    case Command::kSnapshot: return take_snapshot();
    case Command::kSet: return change_option();
    case Command::kStop:
      answer(0, "");
      return end_recording();
    case Command::kNone: break;
  }
  answer(ENOSYS, "this libtidemark.so does not know the command");
}

void serve() {
  run_command();
  become(Mail::kDone);
}
}  // namespace

bool mail_waits() { return recording() && mail_state(word()) == Mail::kRequested; }

void serve_mail() {
  uint32_t requested = word();   // its client may take it back
  if (mail_state(requested) != Mail::kRequested) return;
  uint32_t served = mail_word(Mail::kServed, mail_client(requested));
  if (!__atomic_compare_exchange_n(&box().state, &requested, served, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return;
  if (start_errand(serve)) return;
  answer(EAGAIN, "no thread could be made in the process");
  become(Mail::kDone);
}

}  // namespace tidemark::keeper
