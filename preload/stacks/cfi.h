// Reads what the unwind table (.eh_frame, DWARF call frame information) says about one pc. No lock, no allocation, no loader:
// the table is found by glibc's _dl_find_object. Source: DWARF 5 §6.4, LSB 5 .eh_frame, System V x86-64 psABI §3.7.
#pragma once
#include <dlfcn.h>

#include "preload/base/common.h"
#include "preload/format/region.h"
#include "preload/stacks/module_reading.h"

namespace tidemark::stacks {

// offset (16 bits, in 8-byte words; from rsp unsigned, else signed) << 48 | rbp save (8 bits) << 8 | format::RuleKind
// rbp save: 0 rbp untouched; 127 saved at [rbp]; else, as a signed byte, in words from the CFA.
using Rule = uint64_t;
inline constexpr uint8_t kRbpAtRbp = 127;
inline uint16_t kind_of(Rule r) { return r & 7; }
inline bool is_frame_pointer_rule(Rule r) { return (r & 0xffff) == (format::kRuleRbp | 0xfe00) && r >> 48 == 2; }

// Rule of the call instruction before return address `ret`. `object` is what _dl_find_object gave for ret - 1.
// Reads only what is there, whatever the table says: then the rule is kRuleHard.
Rule parse_rule(address ret, const dl_find_object& object, ModuleReading& reading);
// The same for an address that was put on the stack by other means than a call, and is returned to: rule of the instruction there. kRuleGuess: no function has
// begun before it.
Rule parse_pushed_rule(address pc, const dl_find_object& object, ModuleReading& reading);

}  // namespace tidemark::stacks
