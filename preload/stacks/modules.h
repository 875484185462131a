// Modules (mapped ELF files) as they are first seen in a stack, and as they go. A module is noted without the loader's lock,
// from what _dl_find_object gives; its unloading is noticed when the loader frees its link_map, which glibc does after the
// mapping is gone and before any other dlopen can take the address (elf/dl-close.c: DL_UNMAP, then free (imap), both under
// dl_load_lock). So no address that is used again can be taken for the old one.
#pragma once
#include <dlfcn.h>

#include "preload/base/common.h"
#include "preload/format/region.h"

namespace tidemark::stacks {

// Any thread, inside malloc.
void note_module(const dl_find_object& object);

// watch: marks the heap block of a link_map so that its release is told to us. gone: a module was unloaded, its rules are
// dropped, its generation is closed: empty whatever caches name it.
void set_module_callbacks(void (*watch)(void* block), void (*gone)());

// The block `p`, marked as watched, is being freed: if it was a known module's link_map, the module is gone.
void note_link_map_freed(void* p);

// The code from behind `start` to `end` is gone: its rules, and what was known of stacks by them.
void forget_addresses(address start, address end);
// The same of generated code, before its pages go, or once others are there: a module may come to lie there, of which nobody tells. Inside of a hook.
void lose_generated_code(address start, address end);
// It may be other code from now on, that is in no module either: what was read off it is forgotten. Inside of a hook.
void note_changed_code(address start, address end);

// Generation of a frame at pc: that of its module; of code without one, the last unloading that covered it; 0 where nothing else ever
// lay. pc: on a stack that is being walked, so its module is loaded.
uint32_t generation_at(address pc);
bool any_module_gone();   // no: all generations are 0

// Child of fork: the same modules, noted anew in the child's region. `parent`: where the parent's region is mapped.
void copy_modules(const char* parent);

// The keeper: size and mtime of modules that have no build-id. May block.
void complete_modules();
void reset_modules_lock();
void lock_modules();
void unlock_modules();

}  // namespace tidemark::stacks
