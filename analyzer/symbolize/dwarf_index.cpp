#include "analyzer/symbolize/dwarf_index.h"

#include <dwarf.h>
#include <gelf.h>

#include <algorithm>
#include <filesystem>
#include <string_view>

#include "analyzer/symbolize/demangle.h"

namespace tidemark::symbolize {

namespace {

constexpr int kDeepest = 256;  // of nested blocks, against damaged files
constexpr size_t kOverlapping = 8;

// Where the module's code begins. A debug file has the sections' headers, too.
Dwarf_Addr lowest_code(Dwarf* dwarf) {
  Elf* elf = dwarf_getelf(dwarf);
  constexpr GElf_Xword kCode = SHF_ALLOC | SHF_EXECINSTR;
  Dwarf_Addr lowest = UINT64_MAX;
  GElf_Shdr header;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf, section)) != nullptr;)
    if (gelf_getshdr(section, &header) != nullptr && (header.sh_flags & kCode) == kCode) lowest = std::min(lowest, header.sh_addr);
  return lowest != UINT64_MAX ? lowest : 0;
}

// Functions that the linker removed (--gc-sections) are still described: at address 0 or another low one, whence they would reach
// over code that is there.
template <typename Visit>
void for_each_range(Dwarf_Die* die, Dwarf_Addr lowest_code, Visit visit) {
  Dwarf_Addr base, start, end;
  ptrdiff_t offset = 0;
  while ((offset = dwarf_ranges(die, offset, &base, &start, &end)) > 0)
    if (start < end && start >= lowest_code) visit(start, end);
}

template <typename Visit>
void for_each_child(Dwarf_Die* parent, Visit visit) {
  Dwarf_Die child;
  if (dwarf_child(parent, &child) != 0) return;
  do visit(child);
  while (dwarf_siblingof(&child, &child) == 0);
}

// Of ranges sorted by start, the smallest that holds the address; nullptr: none.
template <typename Range>
const Range* find_range(const std::vector<Range>& ranges, Dwarf_Addr address) {
  auto after = std::upper_bound(ranges.begin(), ranges.end(), address,
                                [](Dwarf_Addr value, const Range& range) { return value < range.start; });
  const Range* best = nullptr;
  for (size_t seen = 0; after != ranges.begin() && seen < kOverlapping; ++seen) {
    const Range& range = *--after;
    if (address < range.end && (best == nullptr || range.end - range.start < best->end - best->start)) best = &range;
  }
  return best;
}

template <typename Range>
void sort_by_start(std::vector<Range>& ranges) {
  std::stable_sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.start < b.start; });
}

template <typename Function>
void collect_functions(Dwarf_Die* parent, Dwarf_Addr lowest_code, std::vector<Function>& functions, int depth) {
  if (depth > kDeepest) return;
  for_each_child(parent, [&](Dwarf_Die& die) {
    switch (dwarf_tag(&die)) {
      case DW_TAG_subprogram:
        for_each_range(&die, lowest_code, [&](Dwarf_Addr start, Dwarf_Addr end) { functions.push_back({start, end, die}); });
        [[fallthrough]];
      case DW_TAG_namespace:
      case DW_TAG_module:
      case DW_TAG_lexical_block:
        collect_functions(&die, lowest_code, functions, depth + 1);
        break;
      default:
        break;
    }
  });
}

// Appends the chain of inlined calls that lead to `address`, outermost first.
void collect_inlined(Dwarf_Die* scope, Dwarf_Addr address, std::vector<Dwarf_Die>& chain) {
  Dwarf_Die current = *scope;
  for (int depth = 0; depth < kDeepest; ++depth) {
    std::optional<Dwarf_Die> next;
    for_each_child(&current, [&](Dwarf_Die& die) {
      int tag = dwarf_tag(&die);
      if (!next && (tag == DW_TAG_inlined_subroutine || tag == DW_TAG_lexical_block) && dwarf_haspc(&die, address) > 0)
        next = die;
    });
    if (!next) return;
    if (dwarf_tag(&*next) == DW_TAG_inlined_subroutine) chain.push_back(*next);
    current = *next;
  }
}

const char* linkage_name(Dwarf_Die* die) {
  Dwarf_Attribute attribute;
  for (unsigned kind : {DW_AT_linkage_name, DW_AT_MIPS_linkage_name})
    if (dwarf_attr_integrate(die, kind, &attribute) != nullptr) return dwarf_formstring(&attribute);
  return nullptr;
}

std::string function_name(Dwarf_Die* die, const char* mangled_name) {
  if (const char* name = linkage_name(die)) return demangle(name);
  std::string from_symbol = mangled_name ? demangle(mangled_name) : "";
  const char* name = dwarf_diename(die);
  if (name == nullptr) return from_symbol;
  // Local C++ functions have no linkage name in DWARF but a mangled symbol; libc's aliases are known by another one.
  bool symbol_says_more = mangled_name != nullptr && (from_symbol != mangled_name || name[0] == '_');
  return symbol_says_more ? from_symbol : name;
}

std::string full_path(Dwarf_Die* unit, const char* name) {
  std::filesystem::path path(name);
  if (path.is_relative()) {
    Dwarf_Attribute attribute;
    const char* folder = dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attribute));
    // libdw begins the names of files in the unit's own folder with it. That folder is relative itself after -ffile-prefix-map.
    bool has_folder = folder != nullptr && std::string_view(name).starts_with(std::string(folder) + '/');
    if (folder != nullptr && !has_folder) path = folder / path;
  }
  return path.lexically_normal().string();
}

struct Place {
  std::string file;
  uint32_t line = 0;
};

Place place_of_address(Dwarf_Die* unit, Dwarf_Addr address) {
  Place place;
  Dwarf_Line* line = dwarf_getsrc_die(unit, address);
  if (line == nullptr) return place;
  int number = 0;
  if (const char* name = dwarf_linesrc(line, nullptr, nullptr)) place.file = full_path(unit, name);
  if (dwarf_lineno(line, &number) == 0 && number > 0) place.line = uint32_t(number);
  return place;
}

// Where an inlined function was called.
Place place_of_call(Dwarf_Die* unit, Dwarf_Die* inlined) {
  Place place;
  Dwarf_Attribute attribute;
  Dwarf_Word file = 0, line = 0;
  if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &line) == 0) place.line = uint32_t(line);
  Dwarf_Files* files;
  size_t count;
  if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &file) == 0 &&
      dwarf_getsrcfiles(unit, &files, &count) == 0 && file < count)
    if (const char* name = dwarf_filesrc(files, file, nullptr, nullptr)) place.file = full_path(unit, name);
  return place;
}

}  // namespace

DwarfIndex::DwarfIndex(Dwarf* dwarf) : lowest_code_(lowest_code(dwarf)) {
  Dwarf_CU* cu = nullptr;
  Dwarf_Die die, split;
  uint8_t type;
  while (dwarf_get_units(dwarf, cu, &cu, nullptr, &type, &die, &split) == 0) {
    if (type != DW_UT_compile && type != DW_UT_skeleton) continue;
    bool is_split = type == DW_UT_skeleton && split.addr != nullptr;
    for_each_range(&die, lowest_code_,
                   [&](Dwarf_Addr start, Dwarf_Addr end) { ranges_.push_back({start, end, uint32_t(units_.size())}); });
    units_.push_back({die, is_split ? split : die});
  }
  sort_by_start(ranges_);
}

std::optional<uint32_t> DwarfIndex::unit_at(Dwarf_Addr address) const {
  const UnitRange* range = find_range(ranges_, address);
  return range ? std::optional(range->unit) : std::nullopt;
}

const DwarfIndex::Functions& DwarfIndex::functions_of(uint32_t unit) {
  auto [place, added] = functions_.try_emplace(unit);
  if (added) {
    collect_functions(&units_[unit].functions, lowest_code_, place->second, 0);
    sort_by_start(place->second);
  }
  return place->second;
}

std::vector<SourceFrame> DwarfIndex::find(Dwarf_Addr address, const char* mangled_name) {
  auto number = unit_at(address);
  if (!number) return {};
  Unit& unit = units_[*number];
  Place place = place_of_address(&unit.die, address);

  const Function* function = find_range(functions_of(*number), address);
  if (function == nullptr) return {{mangled_name ? demangle(mangled_name) : "", place.file, place.line, false}};

  std::vector<Dwarf_Die> chain{function->die};  // outermost first
  collect_inlined(&chain[0], address, chain);
  std::vector<SourceFrame> frames;
  for (size_t i = chain.size(); i-- > 0;) {
    frames.push_back({function_name(&chain[i], i == 0 ? mangled_name : nullptr), place.file, place.line, i != 0});
    if (i != 0) place = place_of_call(&unit.functions, &chain[i]);
  }
  return frames;
}

}  // namespace tidemark::symbolize
