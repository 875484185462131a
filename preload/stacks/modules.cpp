#include "preload/stacks/modules.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "preload/base/memory.h"
#include "preload/base/spin_lock.h"
#include "preload/base/store.h"
#include "preload/stacks/module_reading.h"
#include "preload/stacks/rules.h"

namespace tidemark::stacks {
using namespace format;
namespace {

// A module of the program, alive or gone. `record` is its line in the region, 0 when there was no room.
struct Known {
  const void* link_map;   // nullptr: gone. The rest is written while it is, all but `dead`
  address start, end;
  uint32_t record;        // byte offset / 128 in the region
  uint32_t dead;          // which unloading was its own, the last one if it came again
  uint32_t generation;    // of its nodes
};
constexpr uint32_t kMax = 1 << 12;   // of which as many as may be loaded at a time; what has gone gives way
constinit Known* known = nullptr;
constinit std::atomic<uint32_t> known_count{0};
constinit std::atomic<uint32_t> gone{0};   // the present loader generation: raised by an unloading, and for a module in a place that was used before
constinit std::atomic<uint32_t> forgotten{0};   // the latest generation whose module gave way to another
constinit base::SpinLock modules_lock;
using Watch = void (*)(void*);
using Gone = void (*)();
constinit Watch watch = nullptr;
constinit Gone on_gone = nullptr;
constinit uint32_t completed = 0;
// By page: which of `known` was found there last, its index. It is looked at before it is believed, so nobody need take it back. No two
// loaded modules share a page.
constexpr uint32_t kHints = 1 << 12;
static_assert(kMax <= 1 << 16);
constinit std::atomic<uint16_t> hints[kHints]{};
std::atomic<uint16_t>& hint_at(address a) { return hints[(a / kPageBytes) * 0x9E3779B97F4A7C15ull >> 52]; }

Module* record_of(uint32_t n) { return reinterpret_cast<Module*>(base::store.start + uint64_t{n} * sizeof(Module)); }

uint32_t take_record() {
  uint32_t id = base::take_lines(PageKind::kModules, 2);
  return id ? (id - base::store.first_line) / 2 : 0;
}

// A module's headers may be damaged, or lead anywhere.
bool may_hold_notes(ModuleReading& reading, address at, uint64_t bytes) {
  constexpr uint64_t kMost = 64 << 10;
  char byte;
  auto can_be_read = [&](address a) { return reading.copy(&byte, reinterpret_cast<const void*>(a), 1); };
  if (!bytes || bytes > kMost || at + bytes < at) return false;
  for (address a = at; a < at + bytes; a += kPageBytes)
    if (!can_be_read(a)) return false;
  return can_be_read(at + bytes - 1);
}

// The build-id among the notes from p to end.
bool find_build_id(ModuleReading& reading, address p, address end, Module& m) {
  auto copy = [&reading](void* to, address from, size_t bytes) { return reading.copy(to, reinterpret_cast<const void*>(from), bytes); };
  ElfW(Nhdr) note;
  char owner[4];
  while (p + sizeof(note) <= end && copy(&note, p, sizeof(note))) {
    address name = p + sizeof(note), desc = name + ((uint64_t{note.n_namesz} + 3) & ~uint64_t{3});
    p = desc + ((uint64_t{note.n_descsz} + 3) & ~uint64_t{3});
    if (desc > end || note.n_descsz > end - desc) return false;
    if (note.n_type != NT_GNU_BUILD_ID || note.n_namesz != sizeof(owner) || note.n_descsz > sizeof(m.build_id)) continue;
    if (!copy(owner, name, sizeof(owner)) || memcmp(owner, "GNU", sizeof(owner)) != 0 || !copy(m.build_id, desc, note.n_descsz)) continue;
    m.build_id_bytes = note.n_descsz;
    return true;
  }
  return false;
}

// Of a mapped ELF image whose header lies at `start`.
void read_build_id(const char* start, address bias, Module& m) {
  ModuleReading reading;
  ElfW(Ehdr) ehdr;
  ElfW(Phdr) phdr;
  if (!reading.copy(&ehdr, start, sizeof(ehdr)) || memcmp(ehdr.e_ident, ELFMAG, SELFMAG) != 0) return;
  if (ehdr.e_phentsize != sizeof(phdr) || ehdr.e_phoff > kPageBytes || ehdr.e_phoff + ehdr.e_phnum * sizeof(phdr) > kPageBytes) return;
  for (uint32_t i = 0; i < ehdr.e_phnum; i++) {
    if (!reading.copy(&phdr, start + ehdr.e_phoff + i * sizeof(phdr), sizeof(phdr))) return;
    address notes = bias + phdr.p_vaddr;
    if (phdr.p_type == PT_NOTE && may_hold_notes(reading, notes, phdr.p_memsz) && find_build_id(reading, notes, notes + phdr.p_memsz, m)) return;
  }
}

TextRef path_of(const link_map* map) {
  const char* name = map->l_name;
  if (name && *name == '.') {   // as dlopen was given it: the program may go elsewhere later
    char path[1024];
    ssize_t n = readlink("/proc/self/cwd", path, sizeof(path) - 1);
    size_t m = strlen(name);
    if (n > 0 && size_t(n) + m + 1 < sizeof(path)) {
      path[n] = '/';
      memcpy(path + n + 1, name, m);
      return base::take_text(path, size_t(n) + m + 1);
    }
  }
  if (name && *name) return base::take_text(name, strlen(name));
  // The main program has no name here.
  TextRef& exe = base::header().exe;
  if (!exe.length) {
    char path[1024];   // on what may be a small stack
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path));
    if (n > 0) exe = base::take_text(path, size_t(n));
  }
  return exe;
}

void publish(Known& k, const link_map* map, const Module& filled) {
  k.record = take_record();
  if (!k.record) {
    base::count(kModulesDropped);
    return;
  }
  Module* m = record_of(k.record);
  *m = filled;
  m->path = path_of(map);
  __atomic_store_n(&m->state, 1, __ATOMIC_RELEASE);
}

// modules_lock is held.
void close(Known& k) {
  uint32_t now = gone.load() + 1;
  k.link_map = nullptr;
  k.dead = now;
  if (k.record) {
    Module* m = record_of(k.record);
    m->dead_tick = base::header().tick;
    __atomic_store_n(&m->unloaded, now, __ATOMIC_RELEASE);
  }
  gone.store(now, std::memory_order_release);
  base::header().loader_generation = now;
  forget_addresses(k.start, k.end);
}

bool overlap(const Known& k, const Module& m) { return k.start < m.end && m.start < k.end; }

// A program that loads and unloads the same file again and again meets the same module, if it lies where it lay: its record goes on,
// and so do the nodes that name it, whatever was there meanwhile. Else each round would take fresh room in the region.
bool revive(const Module& m, const void* map) {
  if (!m.build_id_bytes) return false;
  for (uint32_t i = known_count.load(); i-- > 0;) {
    Known& k = known[i];
    if (k.link_map || !k.record || k.start != m.start || k.end != m.end) continue;
    Module* old = record_of(k.record);
    if (old->bias != m.bias || old->build_id_bytes != m.build_id_bytes || memcmp(old->build_id, m.build_id, sizeof(m.build_id)) != 0) continue;
    __atomic_store_n(&old->unloaded, 0, __ATOMIC_RELEASE);
    old->dead_tick = 0;
    k.dead = 0;
    __atomic_store_n(&k.link_map, map, __ATOMIC_RELEASE);
    return true;
  }
  return false;
}

// 0, unless there may be nodes of other code at these addresses.
uint32_t generation_of_new(const Module& m, bool had_rules) {
  bool used = had_rules || forgotten.load() || may_have_had_generated_code(m.start, m.end);
  for (uint32_t i = known_count.load(); i-- > 0 && !used;) used = overlap(known[i], m);
  return used ? base::header().loader_generation = gone.fetch_add(1) + 1 : 0;
}

// Where a new module is kept: a place that was never used, or that of the module that went first. nullptr: all are loaded.
Known* place_for_new() {
  if (known_count.load() < kMax) return &known[known_count.load()];
  Known* first = nullptr;
  for (uint32_t i = 0; i < kMax; i++)
    if (!known[i].link_map && (!first || known[i].dead < first->dead)) first = &known[i];
  if (first && first->dead > forgotten.load()) forgotten.store(first->dead);
  return first;
}

// Who reads it meanwhile takes it for gone until all of it is there.
void put(Known& k, const Known& fresh) {
  k.start = fresh.start, k.end = fresh.end;
  k.record = fresh.record, k.dead = 0, k.generation = fresh.generation;
  __atomic_store_n(&k.link_map, fresh.link_map, __ATOMIC_RELEASE);
  hint_at(fresh.start).store(uint16_t(&k - known), std::memory_order_relaxed);
}

// Whether pc is in k, which is loaded. Its place may be another module's meanwhile, but not if pc is in it, for then it stays loaded.
bool is_in(address pc, const Known& k, uint32_t& generation) {
  const void* map = __atomic_load_n(&k.link_map, __ATOMIC_ACQUIRE);
  if (!map || pc <= k.start || pc > k.end) return false;
  generation = k.generation;
  std::atomic_thread_fence(std::memory_order_acquire);
  return __atomic_load_n(&k.link_map, __ATOMIC_RELAXED) == map;
}

bool same(const Known& k, const dl_find_object& o) {
  return __atomic_load_n(&k.link_map, __ATOMIC_ACQUIRE) == o.dlfo_link_map && k.start == reinterpret_cast<address>(o.dlfo_map_start);
}

bool is_known(const dl_find_object& object, uint32_t from, uint32_t to) {
  for (uint32_t i = to; i-- > from;)
    if (same(known[i], object)) return true;
  return false;
}

}  // namespace

void forget_addresses(address start, address end) {
  drop_rules(start, end);
  if (on_gone) on_gone();
}

void lose_generated_code(address start, address end) {
  if (TIDEMARK_UNLIKELY(may_have_guess_rules(start, end)) && has_rules(start, end)) forget_addresses(start, end);
}

void note_changed_code(address start, address end) {
  if (may_have_code_rules(start, end) && has_rules(start, end)) forget_addresses(start, end);
}

void set_module_callbacks(void (*w)(void*), void (*g)()) {
  watch = w;
  on_gone = g;
}

TIDEMARK_COLD void note_module(const dl_find_object& object) {
  const void* map = object.dlfo_link_map;
  auto start = reinterpret_cast<address>(object.dlfo_map_start);
  uint32_t n = known_count.load(std::memory_order_acquire), hint = hint_at(start).load(std::memory_order_relaxed);
  if (is_known(object, hint, hint < n ? hint + 1 : hint) || is_known(object, 0, n)) return;
  base::SpinGuard guard(modules_lock);
  if (!known && !(known = static_cast<Known*>(base::map_private(kMax * sizeof(Known))))) return;
  if (is_known(object, 0, known_count.load())) return;
  // Whatever lay here, or had this link_map, went without our seeing its link_map freed (a block that was never tracked).
  for (uint32_t i = known_count.load(); i-- > 0;) {
    Known& k = known[i];
    bool overlaps = k.start < reinterpret_cast<address>(object.dlfo_map_end) &&
                    reinterpret_cast<address>(object.dlfo_map_start) < k.end;
    if (k.link_map && (overlaps || k.link_map == map)) close(k);
  }
  const auto* lm = static_cast<const link_map*>(map);
  Module m{};
  m.start = reinterpret_cast<address>(object.dlfo_map_start);
  m.end = reinterpret_cast<address>(object.dlfo_map_end);
  m.bias = lm->l_addr;
  m.born_tick = base::header().tick;
  read_build_id(static_cast<const char*>(object.dlfo_map_start), m.bias, m);
  // Code without a file (of a JIT compiler) lay here before.
  bool had_rules = has_rules(m.start, m.end);
  if (had_rules) forget_addresses(m.start, m.end);
  if (!revive(m, map)) {
    m.generation = generation_of_new(m, had_rules);
    Known* k = place_for_new();
    if (!k) {
      base::count(kModulesDropped);
      return;
    }
    Known fresh{map, m.start, m.end, 0, 0, m.generation};
    publish(fresh, lm, m);
    put(*k, fresh);
    if (k == &known[known_count.load()]) known_count.fetch_add(1, std::memory_order_release);
  }
  if (watch) watch(const_cast<void*>(map));
}

TIDEMARK_COLD void note_link_map_freed(void* p) {
  base::SpinGuard guard(modules_lock);
  for (uint32_t i = known_count.load(); i-- > 0;)
    if (known[i].link_map == p) return close(known[i]);
}

bool any_module_gone() { return gone.load(std::memory_order_acquire); }

uint32_t generation_at(address pc) {
  if (TIDEMARK_LIKELY(!any_module_gone())) return 0;
  uint32_t last = forgotten.load(std::memory_order_acquire), n = known_count.load(std::memory_order_acquire), generation;
  std::atomic<uint16_t>& hint = hint_at(pc - 1);
  if (uint32_t i = hint.load(std::memory_order_relaxed); TIDEMARK_LIKELY(i < n && is_in(pc, known[i], generation))) return generation;
  for (uint32_t i = n; i-- > 0;) {
    const Known& k = known[i];
    if (pc <= k.start || pc > k.end) continue;
    if (is_in(pc, k, generation)) {
      hint.store(uint16_t(i), std::memory_order_relaxed);
      return generation;
    }
    if (k.dead > last) last = k.dead;
  }
  return last;
}

void copy_modules(const char* parent) {
  for (uint32_t i = 0; i < known_count.load(); i++) {
    Known& k = known[i];
    if (!k.record) continue;
    Module m = *reinterpret_cast<const Module*>(parent + uint64_t{k.record} * sizeof(Module));
    m.path = base::take_text(parent + m.path.offset, m.path.length);
    m.state = 0;
    k.record = take_record();
    if (!k.record) {
      base::count(kModulesDropped);
      continue;
    }
    *record_of(k.record) = m;
    __atomic_store_n(&record_of(k.record)->state, 1, __ATOMIC_RELEASE);
  }
  base::header().loader_generation = gone.load();
}

void complete_modules() {
  uint32_t n = known_count.load(std::memory_order_acquire);
  for (; completed < n; completed++) {
    if (!known[completed].record) continue;
    Module* m = record_of(known[completed].record);
    if (m->build_id_bytes || m->file_bytes || !m->path.length) continue;
    char path[4096];
    memcpy(path, base::store.start + m->path.offset, m->path.length);
    path[m->path.length] = 0;
    struct stat s;
    if (stat(path, &s) != 0) continue;
    m->mtime_ns = s.st_mtim.tv_sec * 1000000000ll + s.st_mtim.tv_nsec;
    m->file_bytes = uint64_t(s.st_size);
  }
}

void reset_modules_lock() {
  modules_lock.reset();
  reset_module_reading();
}
void lock_modules() { modules_lock.lock(); }
void unlock_modules() { modules_lock.unlock(); }

}  // namespace tidemark::stacks
