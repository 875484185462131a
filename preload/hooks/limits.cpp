// RLIMIT_AS counts what we map for ourselves, some hundred MB of it never touched. A program that limits itself means its own memory: what is
// ours comes on top, and it reads back what it asked for.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "preload/base/memory.h"
#include "preload/base/ranges.h"
#include "preload/base/thread_state.h"
#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"

namespace base = tidemark::base;
namespace real = tidemark::hooks::real;

namespace {

constexpr rlim_t kGrowth = 64 << 20;   // of our tables, later
constinit std::atomic<rlim_t> added{0};

rlim_t plus(rlim_t limit, rlim_t bytes) { return limit == RLIM_INFINITY || limit > RLIM_INFINITY - bytes ? limit : limit + bytes; }
rlim_t minus(rlim_t limit, rlim_t bytes) { return limit == RLIM_INFINITY || limit < bytes ? limit : limit - bytes; }

// Not beyond the hard limit, but where the program asks for that itself: it may not be allowed to.
// before: what its limits had on top until now.
rlimit with_ours(const rlimit& asked, rlim_t before) {
  rlimit present{RLIM_INFINITY, RLIM_INFINITY};
  if (!added) added = base::bytes_of(base::Owner::kTidemark) + kGrowth;
  real::prlimit()(0, RLIMIT_AS, nullptr, &present);
  rlim_t read_back = minus(present.rlim_max, before);
  if (asked.rlim_cur > asked.rlim_max) return asked;   // the kernel says what is wrong
  if (asked.rlim_max > read_back) return {plus(asked.rlim_cur, added), plus(asked.rlim_max, added)};   // and whether that is allowed
  rlim_t most = std::max(asked.rlim_max, present.rlim_max);
  return {std::min(plus(asked.rlim_cur, added), most), std::min(plus(asked.rlim_max, added), most)};
}

// As glibc's getrlimit and setrlimit, which are prlimit of the calling process.
int change(pid_t pid, int number, const rlimit* limit, rlimit* old) {
  auto resource = __rlimit_resource(number);
  bool ours = resource == RLIMIT_AS && (pid == 0 || pid == getpid()) && *base::session_word != base::kInert;
  if (!ours || (limit && !base::all_readable(limit, sizeof(*limit)))) return real::prlimit()(pid, resource, limit, old);
  rlim_t before = added;
  rlimit wanted = limit ? with_ours(*limit, before) : rlimit{};
  int result = real::prlimit()(pid, resource, limit ? &wanted : nullptr, old);
  if (result == 0 && old) *old = {minus(old->rlim_cur, before), minus(old->rlim_max, before)};
  return result;
}

}  // namespace

static_assert(sizeof(rlimit) == sizeof(rlimit64));

TIDEMARK_HOOK int prlimit(pid_t pid, __rlimit_resource resource, const rlimit* limit, rlimit* old) { return change(pid, resource, limit, old); }
TIDEMARK_HOOK int setrlimit(__rlimit_resource_t resource, const rlimit* limit) { return change(0, resource, limit, nullptr); }
TIDEMARK_HOOK int getrlimit(__rlimit_resource_t resource, rlimit* limit) { return change(0, resource, nullptr, limit); }
TIDEMARK_HOOK int prlimit64(pid_t pid, __rlimit_resource resource, const rlimit64* limit, rlimit64* old) {
  return change(pid, resource, reinterpret_cast<const rlimit*>(limit), reinterpret_cast<rlimit*>(old));
}
TIDEMARK_HOOK int setrlimit64(__rlimit_resource_t resource, const rlimit64* limit) { return prlimit64(0, __rlimit_resource(resource), limit, nullptr); }
TIDEMARK_HOOK int getrlimit64(__rlimit_resource_t resource, rlimit64* limit) { return prlimit64(0, __rlimit_resource(resource), nullptr, limit); }
