// What /proc tells about a process, to know whether it still runs.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <string>

namespace tidemark::launch {

// Field 22 of /proc/PID/stat: clock ticks since boot at which the process began; with the pid it names the process. 0: no
// such process, or /proc does not say.
uint64_t process_start(pid_t pid);

// Field 3 of /proc/PID/stat, as T for a process that SIGSTOP stopped; 0: unknown.
char process_state(pid_t pid);

// How often its main thread has been taken off a processor (/proc/PID/status); 0: unknown. It grows between two stops of a tracer.
uint64_t context_switches(pid_t pid);

// True only when it is certain that no thread of the process (pid, start) runs any more. `start`: as the process itself read it, perhaps in
// another time namespace; 0: unknown, any counts.
bool process_is_gone(pid_t pid, uint64_t start);

// The name of this process in /proc, which is not getpid() where /proc is another pid namespace's; empty without /proc.
std::string pid_in_proc();

// The inode of this process's pid namespace, 0 when unknown. Pids of two namespaces cannot be compared.
uint64_t own_pid_namespace();

}  // namespace tidemark::launch
