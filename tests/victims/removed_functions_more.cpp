// Of removed_functions.cpp: what is removed from a file of which something stays.
extern "C" __attribute__((noipa)) void removed_from_another_file() { asm volatile(".skip 0x10000"); }
extern "C" __attribute__((noipa)) void kept_in_another_file() {}
