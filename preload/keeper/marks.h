// tidemark_mark: what the program tells of itself (format/marks.h).
#pragma once

namespace tidemark::keeper {

void mark(const char* name);   // any thread of the program, outside of malloc; takes a spin lock
void reset_marks();            // a child of fork, of _Fork or clone too, begins to record: the records were the parent's
void lock_marks();             // around fork
void reset_marks_lock();       // child of fork
void unlock_marks();

}  // namespace tidemark::keeper
