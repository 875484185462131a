#include "analyzer/launch/entry.h"

#include <cstdlib>
#include <cstring>
#include <sstream>

#include "analyzer/launch/elf_file.h"
#include "analyzer/launch/program.h"

namespace tidemark::launch {
namespace {

constexpr int kMaxScripts = 8;  // the kernel follows five; env may stand between

bool is_python_name(const std::string& name) {
  if (name.compare(0, 6, "python") != 0) return false;
  size_t last = name.size() - 1;  // python3.13t, the free-threaded build, aborts on any PYTHONMALLOC but its own
  return !(name[last] == 't' && name[last - 1] >= '0' && name[last - 1] <= '9');
}

// Both names of a link must agree that it isn't the free-threaded build; either may be the one that says python.
bool is_python(const std::string& path) {
  std::string given = base_name(path), real = given;
  if (char* resolved = realpath(path.c_str(), nullptr)) {
    real = base_name(resolved);
    free(resolved);
  }
  if (real.compare(0, 6, "python") == 0) return is_python_name(real);
  return is_python_name(given);
}

// The command in env's arguments as they stand on a #! line, past its options and settings; empty: none that we see.
std::string command_of_env(const std::string& argument) {
  std::istringstream words(argument);
  std::string word;
  while (words >> word) {
    if (word.compare(0, 15, "--split-string=") == 0) word.erase(0, 15);
    if (word.compare(0, 2, "-S") == 0) word.erase(0, 2);
    if (word == "-u" || word == "-C") words >> word, word.clear();
    if (word.empty() || word[0] == '-' || word.find('=') != word.npos) continue;
    return word;
  }
  return {};
}

// pip writes this where the path of a virtual environment is too long for a #! line: a shell script that is Python, too.
std::string command_of_polyglot(const std::string& second_line) {
  constexpr char kStart[] = "'''exec' ";
  if (second_line.compare(0, sizeof kStart - 1, kStart) != 0) return {};
  std::string rest = second_line.substr(sizeof kStart - 1);
  if (!rest.empty() && rest[0] == '"') return rest.substr(1, rest.find('"', 1) - 1);
  return rest.substr(0, rest.find(' '));
}

// ld.so itself has no interpreter, but preloads into the program it is given.
bool is_dynamic_loader(const std::string& path) { return base_name(path).compare(0, 20, "ld-linux-x86-64.so.2") == 0; }

// The shared runtimes of gcc and clang that replace malloc. Linked into the executable, as clang does by default, they are in front of us anyway.
bool is_sanitizer(const std::string& library) {
  for (const char* start : {"libasan.so", "libhwasan.so", "liblsan.so", "libtsan.so", "libclang_rt.asan", "libclang_rt.hwasan", "libclang_rt.lsan", "libclang_rt.tsan"})
    if (library.compare(0, strlen(start), start) == 0) return true;
  return false;
}

Barrier barrier_of_elf(const std::string& path, const FileFacts& facts) {
  if (facts.kind == FileKind::kMissing) return Barrier::kMissing;
  if (facts.kind == FileKind::kForeignElf) return Barrier::kOtherMachine;
  if (gains_privileges(path)) return Barrier::kPrivileged;
  if (facts.kind == FileKind::kUnreadable) return Barrier::kUnreadable;
  if (facts.kind != FileKind::kElf) return Barrier::kNone;  // execve will say what is wrong
  if (facts.interpreter.empty()) return is_dynamic_loader(path) ? Barrier::kNone : Barrier::kStatic;
  if (facts.interpreter.find("ld-musl") != std::string::npos) return Barrier::kMusl;
  for (const std::string& library : needed_libraries(path))
    if (is_sanitizer(library)) return Barrier::kSanitizer;
  return Barrier::kNone;
}

Entry examine_at(const std::string& path, const char* search_path, int depth) {
  Entry entry{Barrier::kNone, path, is_python(path)};
  FileFacts facts = read_file_facts(path);
  if (facts.kind == FileKind::kOther) facts = {FileKind::kScript, "/bin/sh", {}, {}};
  if (facts.kind != FileKind::kScript) {
    entry.barrier = barrier_of_elf(path, facts);
    return entry;
  }
  if (depth == 0 || facts.interpreter.empty()) return entry;
  Entry below = examine_at(facts.interpreter, search_path, depth - 1);
  std::string next =
      base_name(facts.interpreter) == "env" ? command_of_env(facts.argument) : command_of_polyglot(facts.second_line);
  if (below.barrier == Barrier::kNone && !next.empty()) {
    Program program = find_program(next, search_path);
    if (!program.path.empty()) below = examine_at(program.path, search_path, depth - 1);
  }
  below.python |= entry.python;
  return below;
}

}  // namespace

Entry examine(const std::string& path, const char* search_path) { return examine_at(path, search_path, kMaxScripts); }

std::string explain(const Entry& entry) {
  switch (entry.barrier) {
    case Barrier::kNone:
      return {};
    case Barrier::kStatic:
      return entry.file + " is statically linked, so nothing can be preloaded into it; use a dynamically linked build";
    case Barrier::kPrivileged:
      return entry.file +
             " gains privileges when started (setuid, setgid or file capabilities), so the system preloads nothing into it; "
             "start "
             "it as the user it changes to, or use a copy without those";
    case Barrier::kOtherMachine:
      return entry.file + " is built for another processor or word size; use an x86-64 build";
    case Barrier::kMusl:
      return entry.file + " uses the musl C library, which tidemark does not support; use a build for glibc";
    case Barrier::kSanitizer:
      return entry.file + " is built with a sanitizer, whose runtime library has to be the allocator itself; use a build without";
    case Barrier::kUnreadable:
      return entry.file + " cannot be read, so nothing tells whether preloading it would work; make it readable";
    case Barrier::kMissing:
      return "its interpreter " + entry.file + " does not exist";
  }
  return {};
}

std::string python_malloc(const Entry& entry, const OptionSet& options, const char* present) {
  std::string_view wanted = options.get("py_malloc");
  if (!entry.python || present || wanted == "keep") return {};
  return std::string(wanted);
}

}  // namespace tidemark::launch
