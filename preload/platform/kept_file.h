// Files of /proc and of a cgroup that are read again and again: opened once, by a thread with a descriptor table of its own, then only read
// (pread64). A process may put itself under a seccomp filter that kills who opens a file; what is open stays readable.
#pragma once
#include <cstddef>
#include <cstdint>

namespace tidemark::platform {

// The calling thread's table is a new one: nothing that was kept is open in it. `own`: false where it is shared with the program: then no
// file is ever opened.
void begin_kept_files(bool own);
// No file is opened any more.
void stop_opening();
bool may_open();

class KeptFile {
 public:
  // `path` must outlive it. One thread at a time.
  constexpr explicit KeptFile(const char* path = nullptr) : path_(path) {}
  void name(const char* path);   // another path: what was open is closed

  // From its start; zero-ended. false: it cannot be read, or is empty.
  template <size_t N>
  bool read(char (&text)[N]) { return read(text, N); }
  bool read(char* text, size_t bytes);
  size_t read_at(uint64_t offset, char* buffer, size_t bytes);   // one call of pread; 0: the end, or an error

 private:
  bool open_file();
  const char* path_;
  int descriptor_ = -1;
  uint32_t table_ = 0;
};

// The lines of a file too long to be read at once, from its start.
class LineReader {
 public:
  explicit LineReader(KeptFile& file) : file_(file) {}
  // Without its end; cut where it is longer. false: there is none.
  bool next(char* line, size_t bytes);

 private:
  bool fill();
  KeptFile& file_;
  size_t at_ = 0, length_ = 0;
  uint64_t offset_ = 0;
  char buffer_[8192];
};

}  // namespace tidemark::platform
