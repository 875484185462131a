// How what lies in modules, unwind data above all, is read where another thread may close or unmap it at that moment. Who does so counts himself in and waits
// for those who read; who begins to read meanwhile is not waited for: he has the kernel copy it, or, where a filter may kill for that, reads nothing. So neither a
// lock nor a system call is needed where nobody closes pages.
#pragma once
#include <atomic>
#include <cstring>

#include "preload/base/common.h"
#include "preload/format/region.h"

namespace tidemark::stacks {

// Pages of modules that were there when the kernel was asked: a module may have holes.
inline constexpr uint64_t kReadablePages = 1024;
TIDEMARK_OWN std::atomic<address> readable_pages[kReadablePages];

// From the first look at a module to the last one. For short, and without waiting for anybody: who closes pages waits.
class ModuleReading {
 public:
  ModuleReading();
  ~ModuleReading();
  ModuleReading(const ModuleReading&) = delete;
  ModuleReading& operator=(const ModuleReading&) = delete;

  // False: it cannot be read, wherever it may be, and what is at `to` is of no use.
  bool copy(void* to, const void* from, size_t bytes) {
    const auto first = reinterpret_cast<address>(from), last = first + bytes - 1;
    if (last < first || first < format::kPageBytes) return false;   // the first page is never there, and 0 in the table is no page
    for (address page = first / format::kPageBytes; !by_kernel_ && page <= last / format::kPageBytes; page++)
      if (TIDEMARK_UNLIKELY(readable_pages[page % kReadablePages].load(std::memory_order_relaxed) != page) && !ask(page)) return false;
    if (TIDEMARK_UNLIKELY(by_kernel_)) return copy_by_kernel(to, first, bytes);
    memcpy(to, from, bytes);
    return true;
  }
  // What could not be read may be there again in a moment.
  bool was_disturbed() const { return disturbed_; }

 private:
  static constexpr address kChunk = 64;
  void begin_by_kernel();
  bool ask(address page);
  bool copy_by_kernel(void* to, address from, size_t bytes);
  uint32_t ticket_;
  bool by_kernel_ = false, disturbed_ = false;
  address chunk_at_ = 0;   // what was copied last; 0: nothing
  uint8_t chunk_[kChunk];
};

// Around whatever takes away the right to read these pages, or the pages; what the first returns is for the second. It waits, but never for long, nor for
// the calling thread itself. Fit for signal handlers.
uint32_t begin_to_close(address start, address end);
void end_to_close(uint32_t ticket);
// Of these addresses it is no longer known that they can be read: a module went, or its pages were closed. Fit for signal handlers.
void forget_readable_pages(address start, address end);
void reset_module_reading();   // child of fork: nobody reads or closes
// Each second: who closes pages since the last time and before, without others that came, was left by a handler that jumped away, and is forgotten.
void forget_lost_closers();

}  // namespace tidemark::stacks
