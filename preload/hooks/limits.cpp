// RLIMIT_AS counts what we map for ourselves, some hundred MB of it never touched. A program that limits itself means its own memory: what is
// ours comes on top, and it reads back what it asked for.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

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

bool is_tracked() { return *base::session_word != base::kInert; }

rlimit to_set(const rlimit& asked) {
  rlimit present{RLIM_INFINITY, RLIM_INFINITY};
  if (!added) added = base::bytes_of(base::Owner::kTidemark) + kGrowth;
  real::getrlimit()(RLIMIT_AS, &present);
  // Only who may raise the hard limit can go beyond it.
  rlim_t hard = geteuid() == 0 ? RLIM_INFINITY : present.rlim_max;
  return {std::min(plus(asked.rlim_cur, added), hard), std::min(plus(asked.rlim_max, added), hard)};
}
void as_asked(rlimit* limit) {
  if (limit) *limit = {minus(limit->rlim_cur, added), minus(limit->rlim_max, added)};
}

int set(__rlimit_resource_t resource, const rlimit* limit) {
  if (resource != RLIMIT_AS || !limit || !is_tracked()) return real::setrlimit()(resource, limit);
  rlimit wanted = to_set(*limit);
  return real::setrlimit()(resource, &wanted);
}

int get(__rlimit_resource_t resource, rlimit* limit) {
  int result = real::getrlimit()(resource, limit);
  if (resource == RLIMIT_AS && result == 0) as_asked(limit);
  return result;
}

int change(pid_t pid, __rlimit_resource resource, const rlimit* limit, rlimit* old) {
  if (resource != RLIMIT_AS || (pid != 0 && pid != getpid()) || !is_tracked()) return real::prlimit()(pid, resource, limit, old);
  rlim_t before = added;
  rlimit wanted = limit ? to_set(*limit) : rlimit{};
  int result = real::prlimit()(pid, resource, limit ? &wanted : nullptr, old);
  if (result == 0 && old) *old = {minus(old->rlim_cur, before), minus(old->rlim_max, before)};
  return result;
}

}  // namespace

static_assert(sizeof(rlimit) == sizeof(rlimit64));

TIDEMARK_HOOK int setrlimit(__rlimit_resource_t resource, const rlimit* limit) { return set(resource, limit); }
TIDEMARK_HOOK int setrlimit64(__rlimit_resource_t resource, const rlimit64* limit) { return set(resource, reinterpret_cast<const rlimit*>(limit)); }
TIDEMARK_HOOK int getrlimit(__rlimit_resource_t resource, rlimit* limit) { return get(resource, limit); }
TIDEMARK_HOOK int getrlimit64(__rlimit_resource_t resource, rlimit64* limit) { return get(resource, reinterpret_cast<rlimit*>(limit)); }
TIDEMARK_HOOK int prlimit(pid_t pid, __rlimit_resource resource, const rlimit* limit, rlimit* old) { return change(pid, resource, limit, old); }
TIDEMARK_HOOK int prlimit64(pid_t pid, __rlimit_resource resource, const rlimit64* limit, rlimit64* old) {
  return change(pid, resource, reinterpret_cast<const rlimit*>(limit), reinterpret_cast<rlimit*>(old));
}
