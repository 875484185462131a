// A change of user is repeated by glibc on every thread, and a thread that may not is the end of the process. Capabilities belong to
// each thread: a program that has kept or raised them for its own (prctl PR_SET_KEEPCAPS, capset) has not done so for the keeper, which
// must then not be there.
#include <grp.h>
#include <unistd.h>

#include "preload/hooks/caller.h"
#include "preload/hooks/real.h"
#include "preload/keeper/process_events.h"

namespace keeper = tidemark::keeper;
namespace real = tidemark::hooks::real;

namespace {

template <typename Call>
int change_user(Call call) {
  if (keeper::monitor_is_confined()) {   // a filter may kill who asks for capabilities, or makes a thread again
    if (keeper::keeper_is_running()) keeper::stop_keeper_for_good();
    return call();
  }
  keeper::before_user_change();
  if (!keeper::keeper_is_running() || keeper::keeper_has_same_capabilities()) return call();
  return keeper::without_keeper([](void* argument) { return (*static_cast<Call*>(argument))(); }, &call);
}

}  // namespace

TIDEMARK_HOOK int setuid(uid_t uid) { return change_user([&] { return real::setuid()(uid); }); }
TIDEMARK_HOOK int setgid(gid_t gid) { return change_user([&] { return real::setgid()(gid); }); }
TIDEMARK_HOOK int seteuid(uid_t uid) { return change_user([&] { return real::seteuid()(uid); }); }
TIDEMARK_HOOK int setegid(gid_t gid) { return change_user([&] { return real::setegid()(gid); }); }
TIDEMARK_HOOK int setreuid(uid_t r, uid_t e) { return change_user([&] { return real::setreuid()(r, e); }); }
TIDEMARK_HOOK int setregid(gid_t r, gid_t e) { return change_user([&] { return real::setregid()(r, e); }); }
TIDEMARK_HOOK int setresuid(uid_t r, uid_t e, uid_t s) { return change_user([&] { return real::setresuid()(r, e, s); }); }
TIDEMARK_HOOK int setresgid(gid_t r, gid_t e, gid_t s) { return change_user([&] { return real::setresgid()(r, e, s); }); }
TIDEMARK_HOOK int setgroups(size_t n, const gid_t* list) { return change_user([&] { return real::setgroups()(n, list); }); }
TIDEMARK_HOOK int initgroups(const char* user, gid_t group) { return change_user([&] { return real::initgroups()(user, group); }); }
