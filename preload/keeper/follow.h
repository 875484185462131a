// Which started programs are recorded (option follow).
#pragma once

namespace tidemark::keeper {

bool matches(const char* pattern_list, const char* name);   // comma-separated, * and ? allowed
bool followed(const char* follow);                          // this process's executable; fit for the first call of malloc
bool follows(const char* follow, const char* path);         // the program of that path; nullptr: it has none

// Told to the parent later, outside of malloc.
void note_not_followed();
void tell_parent_if_not_followed();

}  // namespace tidemark::keeper
