#include "preload/stacks/generated_code.h"

#include <atomic>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/stacks/parts.h"

namespace tidemark::stacks {
namespace {
constexpr uint8_t kAfterCall[] = {0xff, 0xd1, 0x48, 0x83, 0xc4, 0x08, 0xc3};
constexpr address kBeforePc = 2;

// Return addresses into trampolines that were there when they were looked at, and how often code may have gone.
constexpr uint32_t kLooked = 1024;
constinit std::atomic<address> looked[kLooked]{};
constinit std::atomic<uint32_t> gone{0};
constinit Parts parts;
std::atomic<address>& looked_at(address pc) { return looked[pc * 0x9E3779B97F4A7C15ull >> 54]; }
static_assert(kLooked == 1 << (64 - 54));
}  // namespace

bool is_cpython_trampoline(address pc) {
  uint8_t code[sizeof(kAfterCall)];
  return base::copy_if_readable(code, reinterpret_cast<const void*>(pc - kBeforePc), sizeof(code)) && memcmp(code, kAfterCall, sizeof(code)) == 0;
}

// It may go while it is looked at: either forget_code sees what is noted here, or this sees that something went.
bool is_cpython_trampoline_yet(address pc) {
  std::atomic<address>& entry = looked_at(pc);
  if (TIDEMARK_LIKELY(entry.load(std::memory_order_relaxed) == pc)) return true;
  parts.note(pc);
  const uint32_t before = gone.load();
  if (!is_cpython_trampoline(pc)) return false;
  entry.store(pc);
  if (gone.load() != before) entry.store(0);
  return true;
}

void forget_code(address start, address end) {
  if (!parts.may_have(start, end)) return;
  gone.fetch_add(1);
  for (auto& entry : looked) {
    const address pc = entry.load();
    if (pc && pc - kBeforePc < end && pc - kBeforePc + sizeof(kAfterCall) > start) entry.store(0);
  }
}

}  // namespace tidemark::stacks
