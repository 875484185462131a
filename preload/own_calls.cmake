# Names that mean the shim's own functions wherever the shim, or its jemalloc, calls them (base/own_calls.cpp).
set(own_calls access chmod clock_gettime close faccessat fchmod fstat fstatfs ftruncate getdents64 getegid geteuid getgid getpid getppid getresuid getrlimit
    getuid ioctl linkat lseek madvise memfd_create mincore mkdir mprotect nanosleep open prctl pread posix_fallocate pthread_create pwrite read readlink sched_yield stat syscall
    unlink usleep write)
list(TRANSFORM own_calls PREPEND -Wl,--wrap=)
target_link_options(tidemark_preload PRIVATE ${own_calls})
