// Gives its capabilities away, puts a filter on itself that lets all pass, and then asks for another group, which is refused. Then it rests for half a second.
// 77: not possible here.
#include <cerrno>
#include <cstdlib>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "expect.h"

SITE void* site_before() { return keep(malloc(100)); }
SITE void* site_after() { return keep(malloc(100)); }

int main() {
  free(site_before());
  __user_cap_header_struct self{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[2]{};
  if (geteuid() != 0 || syscall(SYS_capset, &self, none) != 0) return 77;
  sock_filter pass[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program{1, pass};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) return 77;
  if (setgid(5) != -1 || errno != EPERM) return 4;
  usleep(500'000);
  free(site_after());
  return 3;
}
