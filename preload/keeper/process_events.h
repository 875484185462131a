// What hooks tell the keeper's layer of the process's life. All keep errno.
#pragma once
#include <cstdint>

namespace tidemark::keeper {

// Which file is looked at before a program is executed: none, for `path` is not where it is; that one; or what execvp makes of it.
enum class Look { kNot, kPath, kSearched };

// By the shim's constructor: all that malloc's first call could not do; idempotent. malloc_is_elsewhere: the program calls another library's.
void start(bool malloc_is_elsewhere);
void before_user_change();       // setuid and its like are about to be called
void note_exit(int status);      // exit, _exit, quick_exit with this status: there is no way back. No-op in a vfork child
// In the frame of who calls daemon(), filled: a signal handler may jump out of that, and whatever is called there afterwards overwrites it.
struct DaemonCall {
  uint64_t words[32];
};
void note_daemon_to_come(DaemonCall& call);   // daemon() is about to be called, which ends this process where it can fork
void note_daemon_returned(bool failed);   // it came back: in the child, or because it failed
// Where it was counted that a program is not going to be recorded; nullptr: nowhere.
using Loss = uint64_t*;
// About to execve; path: nullptr where there is none. In a vfork child, whose memory is its parent's, no ending is noted. What it returns is for
// the other.
Loss note_exec(const char* path, char* const* environment, Look look);
void note_exec_failed(Loss counted);   // execve returned
Loss note_spawn(const char* path, char* const* environment, Look look);
void note_spawn_failed(Loss counted);

// pthread_atfork handlers. None of them touches the parent's region; what a child needs is done at its first allocation.
bool inside_allocator();         // the calling thread was interrupted there by a signal
void before_fork();
void after_fork_parent();
void after_fork_child();

// Stops the keeper thread, runs the call, starts it again: for what the kernel allows to single-threaded processes only.
int without_keeper(int (*call)(void*), void* argument);
void stop_keeper_for_good();   // where it may not be made again; counted
bool keeper_is_running();   // in this process; false in a vfork child
bool keeper_of_another_process();   // true in a vfork child
uint32_t own_threads();     // the keeper and what helps it, while it runs
// Whether glibc may repeat a change of user on the keeper: it does so with the keeper's capabilities.
bool keeper_has_same_capabilities();
void note_deepbind_stripped();
// The process is about to see other folders under the names it knows.
void before_chroot();
// The process has put one on itself: it may kill who makes a system call that the program itself doesn't make.
bool monitor_is_confined();
// A seccomp filter is about to be put on this process, or on one of its threads.
void note_seccomp();
void note_seccomp_refused();   // that one did not come: all is as it was. errno stays

}  // namespace tidemark::keeper
