#include "analyzer/launch/closing_note.h"

#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "analyzer/launch/program.h"

namespace tidemark::launch {
namespace {

using format::Refusal;
using format::RefusalNote;

std::string sentence(Refusal reason) {
  switch (reason) {
#define X(enumerator, text) \
  case Refusal::enumerator: \
    return text;
    TIDEMARK_REFUSALS(X)
#undef X
  }
  return "reason " + std::to_string(uint32_t(reason));
}

std::string advice(Refusal reason) {
  switch (reason) {
    case Refusal::kOpenFolder:
    case Refusal::kCreateFile:
    case Refusal::kCopyOnWrite:
      return "use another folder with -o DIR";
    case Refusal::kAllocateFile:
      return "use a smaller --region_size, or a folder with more room with -o DIR";
    case Refusal::kMapFile:
    case Refusal::kNoMemory:
      return "use a smaller --region_size, or raise the memory limit (ulimit -v)";
    case Refusal::kFileSizeLimit:
      return "use a smaller --region_size, or raise the limit (ulimit -f)";
    case Refusal::kRegionsMax:
      return "raise --regions_max, or use a smaller --child_region_size";
    case Refusal::kOtherUser:
      return "use a folder with -o DIR that this user may write to";
    case Refusal::kBadOptions:
      return "correct TIDEMARK_OPTIONS";
    case Refusal::kOverCgroupLimit:
      return "use a folder on a disk with -o DIR, or a smaller --region_size";
    case Refusal::kNoProc:
      return "mount /proc where the program runs";
    case Refusal::kNone:
    case Refusal::kUnsupported:
    case Refusal::kNeverIdle:
      break;
  }
  return {};
}

std::string bounded(const char* text, size_t room) { return {text, strnlen(text, room)}; }

// The reason with its detail and errno, then what to do.
std::string why(const RefusalNote& note) {
  std::string text = sentence(Refusal(note.reason)), detail = bounded(note.detail, sizeof note.detail);
  if (!detail.empty()) text += ": " + detail;
  if (note.error) text += std::string(" (") + strerror(note.error) + ")";
  std::string what = advice(Refusal(note.reason));
  return what.empty() ? text : text + "; " + what;
}

std::string ending(int wait_status) {
  if (!WIFSIGNALED(wait_status)) return "exited " + std::to_string(WEXITSTATUS(wait_status));
  int signal = WTERMSIG(wait_status);
  const char* name = sigabbrev_np(signal);
  return "killed by " + (name ? std::string("SIG") + name : "signal " + std::to_string(signal));
}

Note region_note(const Run& run, const RegionFile& region) {
  std::string path = run.folder + '/' + region.name();
  std::string text = "region " + region.name() + " (" + ending(run.wait_status) + ", " + readable_size(region.file_bytes());
  if (run.regions > 1) text += ", and " + std::to_string(run.regions - 1) + " of other processes beside it";
  return {text + "); next: tidemark report " + shell_word(path), false};
}

const RefusalNote* note_of(pid_t pid, const LedgerFile& ledger) {
  for (uint32_t i = 0; i < format::kRefusalNotes; ++i)
    if (const RefusalNote* note = ledger.note(i); note && note->pid == pid) return note;
  return nullptr;
}

const RefusalNote* note_of_another(pid_t pid, const LedgerFile& ledger) {
  for (uint32_t i = 0; i < format::kRefusalNotes; ++i)
    if (const RefusalNote* note = ledger.note(i); note && note->pid != pid) return note;
  return nullptr;
}

// A server that drops its privileges does what it should, and its parent's report counts it: no trouble. (The folder was
// found writable for us: whom it is denied is another user.)
bool changed_user(const RefusalNote& note) { return Refusal(note.reason) == Refusal::kOtherUser || note.error == EACCES; }

bool all_changed_user(pid_t pid, const LedgerFile& ledger) {
  for (uint32_t i = 0; i < format::kRefusalNotes; ++i) {
    const RefusalNote* note = ledger.note(i);
    if (note && note->pid != pid && !changed_user(*note)) return false;
  }
  return true;
}

Note refused_others(uint32_t count, pid_t pid, const LedgerFile& ledger) {
  std::string text = std::to_string(count) + (count == 1 ? " other process" : " other processes") + " ran unrecorded";
  const RefusalNote* first = note_of_another(pid, ledger);
  if (!first) return {text, true};
  text += "; the first, " + bounded(first->name, sizeof first->name) + "." + std::to_string(first->pid) + ": " + why(*first);
  return {text, !all_changed_user(pid, ledger)};
}

std::string why_there_is_none(const LedgerFile& ledger) {
  return ledger.regions() ? "the file was removed, cut or written over while it ran (which may end it by SIGBUS)"
                          : "it ended before its first allocation, or the library did not get into it";
}

}  // namespace

std::vector<Note> closing_notes(const Run& run, const RegionFile* region, const LedgerFile& ledger) {
  std::vector<Note> notes;
  const RefusalNote* own = note_of(run.pid, ledger);
  if (region) notes.push_back(region_note(run, *region));
  if (own) {
    notes.push_back({base_name(run.command) + "." + std::to_string(run.pid) + " ran unrecorded: " + why(*own), true});
  } else if (!region) {
    notes.push_back({base_name(run.command) + " left no region in " + run.folder + ": " + why_there_is_none(ledger), true});
  }
  uint32_t others = ledger.refused() - (own && ledger.refused() ? 1 : 0);
  if (others) notes.push_back(refused_others(others, run.pid, ledger));
  return notes;
}

std::string readable_size(uint64_t bytes) {
  double mebibytes = double(bytes) / (1 << 20);
  char text[32];
  if (mebibytes < 1) {
    snprintf(text, sizeof text, "%llu KiB", (unsigned long long)(bytes + 1023) / 1024);
  } else if (mebibytes < 1024) {
    snprintf(text, sizeof text, mebibytes < 10 ? "%.1f MiB" : "%.0f MiB", mebibytes);
  } else {
    snprintf(text, sizeof text, "%.1f GiB", mebibytes / 1024);
  }
  return text;
}

std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+,:=@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == text.npos) return text;
  std::string word = "'";
  for (char c : text) c == '\'' ? word += "'\\''" : word += c;
  return word + "'";
}

}  // namespace tidemark::launch
