// What a loaded module's own table of symbols defines. Asks neither the loader nor anybody else; for modules that stay.
#pragma once
#include <link.h>

namespace tidemark::base {

// nullptr: no function of that name, in any version. Its address is at module.l_addr + st_value, but of an STT_GNU_IFUNC.
const ElfW(Sym) * find_function(const link_map& module, const char* name);

}  // namespace tidemark::base
