// What the kernel tells of this process, read with plain system calls: no allocation, no stdio, any thread. errno is kept.
#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace tidemark::platform {

// Reads at most `max` bytes of a file; 0 when it can't be opened or is empty.
size_t read_file(const char* path, char* buffer, size_t max);
size_t read_link(const char* path, char* buffer, size_t max);   // not zero-ended

// Numbers of a /proc/PID/stat, by field (proc(5) counts from 1): fields[wanted] up to the last one, which is included; from 4 on. They are
// counted behind the last ')', for a name may hold anything. false: damaged.
bool parse_stat(const char* text, uint64_t* fields, uint32_t last);
uint64_t process_start(pid_t pid);    // /proc/PID/stat field 22, 0: no such process; pid 0: this one
pid_t process_parent(pid_t pid);      // field 4, 0: unknown
struct Kin {
  pid_t parent;
  uint64_t start;
};
bool kin_of(pid_t pid, Kin& out);     // both by one reading; false: no such process
bool process_is_gone(pid_t pid);      // or a zombie, of whose threads none goes on. false, too, where that cannot be told
uint64_t pid_namespace();             // inode of /proc/self/ns/pid
bool boot_id(uint8_t out[16]);

bool kernel_is_at_least(long major, long minor);
bool main_thread_has_ended();         // and others go on
int main_thread_status();             // as waitpid gives it, once it has ended; 0, too: it has not, or by pthread_exit

int64_t realtime_ns();
int64_t monotonic_ns();

// Decimal; returns the end. `p` has room for 20 digits.
char* put_number(char* p, uint64_t n);

}  // namespace tidemark::platform
