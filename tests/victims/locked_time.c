/* libc's functions that take the lock of its time zones, as where a fork copied that lock while another thread held it: who calls them would never come back.
   Here the process ends. Preloaded. Includes nothing that declares them otherwise. */
void _exit(int);
void* localtime(const void* t) { return (void)t, _exit(99), (void*)0; }
void* gmtime(const void* t) { return (void)t, _exit(99), (void*)0; }
void* localtime_r(const void* t, void* out) { return (void)t, (void)out, _exit(99), (void*)0; }
void* gmtime_r(const void* t, void* out) { return (void)t, (void)out, _exit(99), (void*)0; }
long mktime(void* t) { return (void)t, _exit(99), 0; }
unsigned long strftime(char* out, unsigned long n, const char* f, const void* t) { return (void)out, (void)n, (void)f, (void)t, _exit(99), 0; }
void tzset(void) { _exit(99); }
