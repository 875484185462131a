// Runs a command as systemd runs a service with SystemCallFilter=@system-service: system calls outside of that set kill. Of those, here are
// the ones that a tool which looks into processes might make (systemd 252, `systemd-analyze syscall-filter @system-service`).
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KILL(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

int main(int, char** argv) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
      KILL(SYS_mincore), KILL(SYS_move_pages), KILL(SYS_migrate_pages), KILL(SYS_mbind), KILL(SYS_set_mempolicy),
      KILL(SYS_ptrace), KILL(SYS_perf_event_open), KILL(SYS_bpf), KILL(SYS_memfd_secret), KILL(SYS_process_mrelease),
      KILL(SYS_io_uring_setup), KILL(SYS_io_setup), KILL(SYS_syslog), KILL(SYS_lookup_dcookie), KILL(SYS_modify_ldt),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {sizeof filter / sizeof *filter, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 77;
  execvp(argv[1], argv + 1);
  return 78;
}
