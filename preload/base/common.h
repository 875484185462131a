// Words used everywhere in the shim.
#pragma once
#include <cstddef>
#include <cstdint>

#define TIDEMARK_LIKELY(x) __builtin_expect(!!(x), 1)
#define TIDEMARK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TIDEMARK_COLD __attribute__((noinline, cold))
// A variable of the shim's own, declared so that it is reached without the global offset table.
#define TIDEMARK_OWN extern __attribute__((visibility("hidden")))
#define TIDEMARK_INLINE __attribute__((always_inline)) inline

namespace tidemark {

using address = uintptr_t;

// The caller of a hook: where it will go on, its stack pointer there, and its rbp.
struct Caller {
  address pc, sp, rbp;
};
// The same, of the hook into which this is inlined, read when it is needed: until then it takes no register.
struct HookFrame {
  TIDEMARK_INLINE address pc() const { return frame()[1]; }
  TIDEMARK_INLINE address sp() const { return reinterpret_cast<address>(frame() + 2); }
  TIDEMARK_INLINE Caller caller() const {
    const address* at = frame();
    __asm__ volatile("" : "+r"(at));   // or the compiler would read it all at once, and keep it
    return {at[1], reinterpret_cast<address>(at + 2), at[0]};
  }

 private:
  TIDEMARK_INLINE static const address* frame() { return static_cast<const address*>(__builtin_frame_address(0)); }
};

namespace base {
inline address load(address a) { return *reinterpret_cast<const address*>(a); }
inline uint64_t mix(uint64_t h) {
  h *= 0x9E3779B97F4A7C15ull;
  return h ^ (h >> 32);
}
// Keeps the compiler from moving memory accesses; enough between a thread and its own signal handlers, and between a thread
// and a keeper that uses membarrier(2).
inline void compiler_barrier() { __asm__ volatile("" ::: "memory"); }
}  // namespace base
}  // namespace tidemark
