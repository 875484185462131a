#include "analyzer/commands/run.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/launch/child.h"
#include "analyzer/launch/closing_note.h"
#include "analyzer/launch/command_line.h"
#include "analyzer/launch/entry.h"
#include "analyzer/launch/ledger_file.h"
#include "analyzer/launch/library.h"
#include "analyzer/launch/process.h"
#include "analyzer/launch/program.h"
#include "analyzer/launch/region_folder.h"
#include "analyzer/launch/signals.h"
#include "analyzer/output/printable.h"

namespace tidemark {
namespace {

using namespace launch;

// How often regions of ended processes are cut: sooner while a quarter of regions_max is taken, which many short-lived children
// at once, as in a parallel build, fill quickly.
constexpr int kCalmSweepMillis = 5000, kBusySweepMillis = 250, kLookMillis = 1000;

// One write, so that a line stays whole beside the program's own. Names in it are anybody's: that of a script's interpreter is in its bytes.
void say(const std::string& text) {
  std::string line = "tidemark: " + output::printable(text) + '\n';
  SurvivesFileSizeLimit scope;  // standard error may be a file
  ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  (void)written;  // nobody to tell
}

int fail(const std::string& text, int status = kCannotRun) {
  say(text);
  return status;
}

int exec_failed(const std::string& name, int error) {
  return fail(name + ": " + strerror(error), error == ENOENT ? kNotFound : kNotExecutable);
}

// The program runs in our place: nothing is left for us to do after it.
int run_in_place(const CommandLine& line, const Environment& environment) {
  return exec_failed(line.command[0], execute(line.command, environment));
}

int run_unrecorded(const CommandLine& line, const std::string& why) {
  if (line.strict) return fail("not started (--strict): " + why);
  say("runs unrecorded: " + why);
  return run_in_place(line, {});
}

std::optional<std::string> absolute_folder(const std::string& folder) {
  if (folder[0] == '/') return folder;
  char* current = getcwd(nullptr, 0);
  if (!current) return std::nullopt;
  std::string path = current;
  free(current);
  if (path[0] != '/') return std::nullopt;  // "(unreachable)…"
  return folder == "." ? path : (path == "/" ? "" : path) + '/' + folder;
}

// Makes the folder when it is missing. Returns what stands against regions in it, or an empty string.
std::string prepare_folder(const std::string& path) {
  const char* folder = path.c_str();
  struct stat info;
  constexpr const char* kAdvice = "; use another folder with -o DIR";
  if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
    int error = errno;
    if (stat(folder, &info) != 0) return "the folder " + path + " could not be created (" + strerror(error) + ")" + kAdvice;
  }
  if (stat(folder, &info) == 0 && !S_ISDIR(info.st_mode)) return path + " is not a folder" + kAdvice;
  if (eaccess(folder, W_OK | X_OK) != 0)
    return "the folder " + path + " cannot be written to (" + strerror(errno) + ")" + kAdvice;
  return {};
}

uint64_t new_run_id() {
  uint64_t id = 0;
  if (getrandom(&id, sizeof id, GRND_NONBLOCK) != sizeof id) {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    id = uint64_t(now.tv_sec) << 30 ^ uint64_t(now.tv_nsec) ^ uint64_t(getpid()) << 44;
  }
  return id ? id : 1;
}

int64_t realtime_ns() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

std::string run_prefix(uint64_t run_id) {
  char text[32];
  snprintf(text, sizeof text, "v1,%016" PRIx64 ",", run_id);
  return text;
}

struct Plan {
  CommandLine line;
  Environment environment;
  std::string folder;        // absolute
  std::string folder_shown;  // as the user named it
};

void finish(const Plan& plan, const Child& child, uint64_t start, int wait_status, RegionFolder& regions, LedgerFile& ledger) {
  int64_t ended = realtime_ns();
  regions.find_new();
  std::optional<RegionFile> region = regions.region_of(child.pid(), start);
  if (region) {  // of a process that waitpid buried, whatever /proc says
    region->note_ending(wait_status, ended);
    ledger.give_back(region->give_back_tail());
  }
  regions.trim_ended();
  Run run{plan.line.command[0], plan.folder_shown, child.pid(), wait_status, regions.count()};
  bool watched = isatty(STDERR_FILENO);
  for (const Note& note : closing_notes(run, region ? &*region : nullptr, ledger))
    if (watched || note.trouble) say(note.text);
}

std::string no_ledger(int error) {
  if (error == EFBIG) return "the file size limit (RLIMIT_FSIZE, ulimit -f) leaves no room for the run's ledger; raise it";
  return std::string("no memory file for the run's ledger (") + strerror(error) + ")";
}

int run_recorded(const Plan& plan) {
  auto ledger = LedgerFile::create(new_run_id(), *parse_size(plan.line.options.get("regions_max")));
  if (!ledger) return run_unrecorded(plan.line, no_ledger(errno));
  RegionFolder regions(plan.folder, *ledger);
  SignalGate gate;
  Child child(plan.line.command, plan.environment, run_prefix(ledger->run_id()), ',' + ledger->path(), gate);
  if (child.pid() < 0) {
    int error = errno;
    gate.restore();
    return fail(std::string("no new process (") + strerror(error) + ")");
  }
  uint64_t start = process_start(child.pid());
  int since_sweep = 0;
  int status = gate.wait_for(child.pid(), kLookMillis, [&] {
    bool busy = ledger->used_bytes() > ledger->limit_bytes() / 4;
    if (busy || (since_sweep += kLookMillis) >= kCalmSweepMillis) regions.sweep(), since_sweep = 0;
    return busy ? kBusySweepMillis : kLookMillis;
  });
  if (int error = child.exec_error()) return exec_failed(plan.line.command[0], error);
  finish(plan, child, start, status, regions, *ledger);
  end_like(status);
}

}  // namespace

int run_command(int argc, char** argv) {
  guard_standard_streams();
  Plan plan;
  CommandLine& line = plan.line;
  line = parse_command_line({argv + 1, argv + argc}, getenv("TIDEMARK_OPTIONS"));
  if (!line.error.empty()) return fail(line.error);
  if (line.help) return fputs(run_help().c_str(), stdout) >= 0 && fflush(stdout) == 0 ? 0 : kCannotRun;

  const char* search_path = getenv("PATH");
  Program program = find_program(line.command[0], search_path);
  if (program.path.empty()) return fail(program.error, program.status);
  Library library = find_library(getenv("TIDEMARK_LIBRARY"));
  if (!library.error.empty()) return fail(library.error);
  Entry entry = examine(program.path, search_path);
  if (entry.barrier == Barrier::kMissing) return fail(line.command[0] + ": " + explain(entry), kNotFound);
  if (entry.barrier != Barrier::kNone) return run_unrecorded(line, explain(entry));
  bool enabled = *parse_bool(line.options.get("enable"));
  // The library gives the region its name through /proc.
  if (enabled && pid_in_proc().empty()) return run_unrecorded(line, "/proc is not mounted, and recording needs it");

  plan.folder_shown = line.options.get("dir").empty() ? "." : std::string(line.options.get("dir"));
  auto folder = absolute_folder(plan.folder_shown);
  if (!folder) return run_unrecorded(line, std::string("the current folder has no name any more; use another with -o DIR"));
  plan.folder = *folder;
  line.options.set("dir", plan.folder);

  if (enabled) {
    std::string obstacle = prepare_folder(plan.folder);
    if (!obstacle.empty()) return run_unrecorded(line, obstacle);
  }
  plan.environment = {{"LD_PRELOAD", preload_list(library.path, getenv("LD_PRELOAD"))},
                      {"TIDEMARK_OPTIONS", line.options.text()}};
  std::string python = python_malloc(entry, line.options, getenv("PYTHONMALLOC"));
  if (enabled && !python.empty()) plan.environment.emplace_back("PYTHONMALLOC", python);
  return enabled ? run_recorded(plan) : run_in_place(line, plan.environment);
}

}  // namespace tidemark
