#include "analyzer/control/mailbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

#include "analyzer/region/region.h"

namespace tidemark::control {

using format::Command;
using format::Header;
using format::Mail;
using format::Mailbox;

namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kLookEvery = 100 * kMs;   // whether the process, or the client before us, still lives

int64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

void wait_while(uint32_t& word, uint32_t value, int64_t at_most_ns) {
  timespec t{at_most_ns / 1'000'000'000, at_most_ns % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, value, &t, nullptr, 0);
}
void wake_all(uint32_t& word) { syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0); }

uint32_t load(const uint32_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE); }
void store(uint32_t& word, Mail state, uint32_t client) {
  __atomic_store_n(&word, format::mail_word(state, client), __ATOMIC_RELEASE);
  wake_all(word);
}

}  // namespace

Box::Box(const std::string& path, int32_t pid) : pid_(pid) {
  int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (file < 0) throw ControlError(fmt::format("{}: {}; only the region's owner may control the process", path, strerror(errno)));
  struct stat status;
  void* page = MAP_FAILED;
  if (fstat(file, &status) == 0 && status.st_size >= off_t(sizeof(Header)))
    page = mmap(nullptr, format::kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (page == MAP_FAILED) throw ControlError(fmt::format("{}: it cannot be mapped, or is no region", path));
  header_ = static_cast<Header*>(page);
  try {
    region::check_identity(*header_, uint64_t(status.st_size));
  } catch (const region::ReadError& error) {
    munmap(page, format::kPageBytes);
    throw ControlError(fmt::format("{}: {}", path, error.what()));
  }
}

Box::~Box() { munmap(header_, format::kPageBytes); }

// Why there is no answer.
void Box::give_up(const char* what) {
  if (!is_alive(pid_)) throw ControlError(fmt::format("process {} has ended", pid_));
  if (stopped_) throw ControlError(fmt::format("process {} is stopped (SIGSTOP or a debugger); let it go on, then try again", pid_));
  if (header_->stopped_realtime_ns != 0) throw ControlError(fmt::format("recording of process {} was ended by `tidemark stop`", pid_));
  throw ControlError(what);
}

bool Box::is_hopeless(int64_t deadline) {
  int64_t now = now_ns();
  stopped_ = stop_detector_.stays_stopped(pid_, now);
  return stopped_ || !is_alive(pid_) || now > deadline;
}

void Box::take(int64_t deadline) {
  uint32_t ours = format::mail_word(Mail::kTaken, uint32_t(getpid()));
  for (;;) {
    uint32_t word = load(box().state);
    Mail state = format::mail_state(word);
    // Where its client is gone, what that had asked for has been answered, or was never sent.
    bool left = (state == Mail::kTaken || state == Mail::kDone) && !is_alive(int32_t(format::mail_client(word)));
    if (state == Mail::kFree || left) {
      if (__atomic_compare_exchange_n(&box().state, &word, ours, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) return;
      continue;
    }
    if (is_hopeless(deadline)) give_up("another tidemark command is still waiting for this process; try again later");
    wait_while(box().state, word, kLookEvery);
  }
}

void Box::wait_for_answer(int64_t deadline) {
  for (uint32_t word; format::mail_state(word = load(box().state)) != Mail::kDone;) {
    if (is_hopeless(deadline)) {
      // Not yet begun: taken back. One that is being served is left to the next client.
      if (format::mail_state(word) == Mail::kRequested &&
          __atomic_compare_exchange_n(&box().state, &word, uint32_t(Mail::kFree), false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        wake_all(box().state);
      give_up("the process does not answer: tidemark's thread there is stuck, or was never started");
    }
    wait_while(box().state, word, kLookEvery);
  }
}

Mailbox Box::ask(Command command, const std::string& argument, int patience_ms) {
  if (argument.size() >= format::kMailText) throw ControlError(fmt::format("longer than {} characters", format::kMailText - 1));
  int64_t deadline = now_ns() + patience_ms * kMs;
  if (header_->stopped_realtime_ns != 0) give_up("");
  take(deadline);
  Mailbox& mail = box();
  mail.command = uint32_t(command);
  mail.error = 0;
  std::memset(mail.text, 0, sizeof(mail.text));
  std::memcpy(mail.text, argument.c_str(), argument.size());
  store(mail.state, Mail::kRequested, uint32_t(getpid()));
  __atomic_add_fetch(&mail.doorbell, 1, __ATOMIC_ACQ_REL);
  wake_all(mail.doorbell);
  wait_for_answer(deadline);
  Mailbox answer = mail;
  store(mail.state, Mail::kFree, 0);
  answer.text[format::kMailText - 1] = 0;
  if (answer.error != 0) throw ControlError(fmt::format("process {} refuses: {} ({})", pid_, answer.text, strerror(answer.error)));
  return answer;
}

}  // namespace tidemark::control
