#include "preload/stacks/cfi.h"

#include <cstring>

namespace tidemark::stacks {
using namespace format;
namespace {

constexpr uint64_t kRbp = 6, kRsp = 7, kReturnAddress = 16;

// What may be read: pages in and around the module, as far as they are there. Unwind data may be damaged, or lie, and lead anywhere. Of an executable whose segments
// do not follow each other glibc gives only the one that the pc lies in (node's), and its table is in another.
class Memory {
 public:
  Memory(ModuleReading& reading, const dl_find_object& object) : reading_(reading) {
    constexpr address kAround = 64 << 20;
    auto start = reinterpret_cast<address>(object.dlfo_map_start), end = reinterpret_cast<address>(object.dlfo_map_end);
    auto table = reinterpret_cast<address>(object.dlfo_eh_frame);
    if (table < start) start = table;
    if (table > end) end = table;
    start_ = start > kAround ? start - kAround : 0;
    end_ = end + kAround;
  }
  bool copy(void* to, const void* from, size_t bytes) {
    auto first = reinterpret_cast<address>(from);
    return first >= start_ && first < end_ && bytes <= end_ - first && reading_.copy(to, from, bytes);
  }

 private:
  ModuleReading& reading_;
  address start_, end_;
};

// Reads on, up to `end`. Beyond it, or where nothing can be read, all is 0 and the cursor is lost, for good.
struct Cursor {
  Memory& memory;
  const uint8_t* p;
  address end;   // wherever it may be: no pointer
  bool lost = false;

  Cursor(Memory& m, const uint8_t* begin, address behind) : memory(m), p(begin), end(behind) {}

  address at() const { return reinterpret_cast<address>(p); }
  bool more() const { return !lost && at() < end; }
  void end_after(uint64_t bytes) {
    if (__builtin_add_overflow(at(), bytes, &end)) lost = true;
  }
  bool look_at(void* to, uint64_t bytes) {
    if (!lost && at() <= end && end - at() >= bytes && memory.copy(to, p, bytes)) return true;
    lost = true;
    return false;
  }
  void skip(uint64_t bytes) {
    if (lost || at() > end || end - at() < bytes) lost = true;
    else p += bytes;
  }
  uint8_t byte() { return fixed<uint8_t>(); }
  template <class T>
  T fixed() {
    T v;
    if (!look_at(&v, sizeof v)) return T{};
    p += sizeof v;
    return v;
  }
  uint64_t uleb() {
    uint64_t v = 0;
    uint32_t shift = 0;
    uint8_t b;
    do {
      b = byte();
      if (shift < 64) v |= uint64_t(b & 127) << shift;
      shift += 7;
    } while (b & 128);
    return v;
  }
  int64_t sleb() {
    int64_t v = 0;
    uint32_t shift = 0;
    uint8_t b;
    do {
      b = byte();
      if (shift < 64) v |= int64_t(uint64_t(b & 127) << shift);
      shift += 7;
    } while (b & 128);
    return shift < 64 && (b & 64) ? v | -(int64_t{1} << shift) : v;
  }
  // A pointer in one of the DW_EH_PE encodings.
  address encoded(uint8_t encoding, address data_base) {
    if (encoding == 0xff) return 0;
    address at = reinterpret_cast<address>(p), v = 0;
    switch (encoding & 15) {
      case 0: case 4: case 12: v = fixed<uint64_t>(); break;
      case 1: v = uleb(); break;
      case 9: v = address(sleb()); break;
      case 2: v = fixed<uint16_t>(); break;
      case 10: v = address(int64_t(fixed<int16_t>())); break;
      case 3: v = fixed<uint32_t>(); break;
      case 11: v = address(int64_t(fixed<int32_t>())); break;
    }
    if (!v) return 0;
    if ((encoding & 0x70) == 0x10) v += at;
    if ((encoding & 0x70) == 0x30) v += data_base;
    if (!(encoding & 0x80)) return v;
    if (!memory.copy(&v, reinterpret_cast<const void*>(v), sizeof(v))) return lost = true, 0;
    return v;
  }
};

enum class Saved : uint8_t { kSame, kAtCfa, kUndefined, kOther, kAtRbp };
struct Row {
  enum class Cfa : uint8_t { kRegister, kDeref, kOther } cfa = Cfa::kRegister;
  uint64_t reg = kRsp;
  int64_t offset = 8;
  Saved rbp = Saved::kSame;
  int64_t rbp_offset = 0;
  Saved ret = Saved::kSame;
  int64_t ret_offset = 0;
  Saved sp = Saved::kSame;   // else the caller's stack pointer is not the CFA: it is on another stack

  void set(uint64_t r, Saved how, int64_t at) {
    if (r == kRbp) rbp = how, rbp_offset = at;
    else if (r == kReturnAddress) ret = how, ret_offset = at;
    else if (r == kRsp) sp = how;
  }
  void restore(uint64_t r, const Row& initial) {
    if (r == kRbp) set(r, initial.rbp, initial.rbp_offset);
    else if (r == kReturnAddress) set(r, initial.ret, initial.ret_offset);
    else if (r == kRsp) sp = initial.sp;
  }
};

struct Cie {
  uint64_t code_align;
  int64_t data_align;
  uint8_t pointer_encoding = 0;
  bool signal = false, has_augmentation = false, understood = false;
  const uint8_t* instructions;
  address end;
};

// DW_CFA_def_cfa_expression: two forms are followed. `breg6 n; deref` is the frame of a function that realigned its stack. The
// other is what linkers write for a PLT: rsp + 8, and 8 more from byte k of each 16-byte entry on; a signal may interrupt it there.
void cfa_expression(Cursor& c, Row& row, address pc) {
  uint64_t n = c.uleb();
  row.cfa = Row::Cfa::kOther;
  const uint8_t* at = c.p;
  uint8_t begin[16];
  c.skip(n);
  if (c.lost || n > sizeof(begin) || !n || !c.memory.copy(begin, at, n)) return;
  // breg7 8; breg16 0; lit15; and; lit<k>; ge; lit3; shl; plus
  if (n == 11 && memcmp(begin, "\x77\x08\x80\x00\x3f\x1a", 6) == 0 && begin[6] >= 0x30 && begin[6] <= 0x4f &&
      memcmp(begin + 7, "\x2a\x33\x24\x22", 4) == 0) {
    row.cfa = Row::Cfa::kRegister;
    row.reg = kRsp;
    row.offset = 8 + ((pc & 15) >= address(begin[6] - 0x30) ? 8 : 0);
    return;
  }
  if (n <= 2 || *begin != 0x76) return;   // DW_OP_breg6
  Cursor inside(c.memory, at + 1, reinterpret_cast<address>(at) + n);
  int64_t offset = inside.sleb();
  if (!inside.lost && inside.at() + 1 == inside.end && inside.byte() == 6) row.cfa = Row::Cfa::kDeref, row.offset = offset;   // DW_OP_deref
}

// One instruction with a low opcode; false: not understood.
bool extended_instruction(uint8_t op, Cursor& c, const Cie& cie, Row& row, const Row& initial, address pc) {
  uint64_t r;
  switch (op) {
    case 0x00: return true;                                                      // nop
    case 0x05: r = c.uleb(); row.set(r, Saved::kAtCfa, int64_t(c.uleb()) * cie.data_align); return true;
    case 0x06: row.restore(c.uleb(), initial); return true;
    case 0x07: row.set(c.uleb(), Saved::kUndefined, 0); return true;
    case 0x08: row.set(c.uleb(), Saved::kSame, 0); return true;
    case 0x09: case 0x14: r = c.uleb(); c.uleb(); row.set(r, Saved::kOther, 0); return true;   // register, val_offset
    case 0x0c: row.cfa = Row::Cfa::kRegister; row.reg = c.uleb(); row.offset = int64_t(c.uleb()); return true;
    case 0x0d: row.reg = c.uleb(); return true;
    case 0x0e: row.offset = int64_t(c.uleb()); return true;
    case 0x0f: cfa_expression(c, row, pc); return true;
    case 0x10: {   // expression: `breg6 0` is what gcc writes for rbp saved at [rbp] in a realigned frame
      r = c.uleb();
      uint64_t n = c.uleb();
      uint8_t expression[2];
      bool at_rbp = n == 2 && c.look_at(expression, n) && expression[0] == 0x76 && expression[1] == 0;
      c.skip(n);
      row.set(r, r == kRbp && at_rbp ? Saved::kAtRbp : Saved::kOther, 0);
      return true;
    }
    case 0x11: r = c.uleb(); row.set(r, Saved::kAtCfa, c.sleb() * cie.data_align); return true;
    case 0x12: row.cfa = Row::Cfa::kRegister; row.reg = c.uleb(); row.offset = c.sleb() * cie.data_align; return true;
    case 0x13: row.offset = c.sleb() * cie.data_align; return true;
    case 0x15: r = c.uleb(); c.sleb(); row.set(r, Saved::kOther, 0); return true;
    case 0x16: r = c.uleb(); c.skip(c.uleb()); row.set(r, Saved::kOther, 0); return true;
    case 0x2e: c.uleb(); return true;                                            // GNU_args_size
    case 0x2f: r = c.uleb(); row.set(r, Saved::kAtCfa, -int64_t(c.uleb()) * cie.data_align); return true;
    default: return false;
  }
}

// Runs the instructions up to `pc`. false: something was not understood, or cannot be read.
bool run(Cursor c, address location, address pc, const Cie& cie, Row& row, const Row& initial) {
  Row stack[8];
  uint32_t depth = 0;
  while (c.more()) {
    uint8_t op = c.byte();
    uint64_t low = op & 63;
    switch (op >> 6) {
      case 1: location += low * cie.code_align; break;
      case 2: row.set(low, Saved::kAtCfa, int64_t(c.uleb()) * cie.data_align); continue;
      case 3: row.restore(low, initial); continue;
      default:
        switch (op) {
          case 0x01: location = c.encoded(cie.pointer_encoding, 0); break;
          case 0x02: location += c.fixed<uint8_t>() * cie.code_align; break;
          case 0x03: location += c.fixed<uint16_t>() * cie.code_align; break;
          case 0x04: location += c.fixed<uint32_t>() * cie.code_align; break;
          case 0x0a:
            if (depth == 8) return false;
            stack[depth++] = row;
            continue;
          case 0x0b:
            if (!depth) return false;
            row = stack[--depth];
            continue;
          default:
            if (!extended_instruction(op, c, cie, row, initial, pc)) return false;
            continue;
        }
    }
    if (location > pc) return !c.lost;   // this row begins behind us
  }
  return !c.lost;
}

Cie parse_cie(Memory& memory, const uint8_t* p) {
  constexpr size_t kLongest = 8;   // augmentation
  Cie cie{};
  Cursor c(memory, p, ~address{0});
  uint64_t length = c.fixed<uint32_t>();
  if (c.lost || length == 0xffffffff) return cie;
  c.end_after(length);
  cie.end = c.end;
  c.fixed<uint32_t>();   // CIE id
  c.fixed<uint8_t>();    // version
  char augmentation[kLongest + 1] = "";
  for (size_t i = 0; (augmentation[i] = char(c.byte())); i++)
    if (i + 1 == kLongest) return cie;
  cie.code_align = c.uleb();
  cie.data_align = c.sleb();
  if (c.uleb() != kReturnAddress) return cie;
  if (*augmentation == 'z') {
    cie.has_augmentation = true;
    uint64_t n = c.uleb();
    Cursor data(memory, c.p, c.end);
    c.skip(n);
    for (const char* a = augmentation + 1; *a; a++) {
      if (*a == 'R') cie.pointer_encoding = data.fixed<uint8_t>();
      else if (*a == 'P') { uint8_t e = data.fixed<uint8_t>(); data.encoded(e & 0x7f, 0); }
      else if (*a == 'L') data.fixed<uint8_t>();
      else if (*a == 'S') cie.signal = true;
    }
    if (data.lost) return cie;
  } else if (*augmentation) {
    return cie;
  }
  cie.instructions = c.p;
  cie.understood = !c.lost;
  return cie;
}

// The FDE that .eh_frame_hdr's sorted table gives for pc; nullptr: none. `understood` false: a table form we do not know, or one that cannot be read.
const uint8_t* find_fde(Memory& memory, address pc, const void* eh_frame_hdr, bool& understood) {
  uint8_t h[4];
  understood = memory.copy(h, eh_frame_hdr, sizeof(h)) && h[0] == 1 && h[3] == 0x3b;   // version, table: datarel sdata4
  if (!understood) return nullptr;
  address base = reinterpret_cast<address>(eh_frame_hdr);
  Cursor c(memory, static_cast<const uint8_t*>(eh_frame_hdr) + sizeof(h), ~address{0});
  c.encoded(h[1], base);
  uint32_t n = uint32_t(c.encoded(h[2], base));
  struct Entry {
    int32_t function, fde;
  } entry, found{};
  const auto* table = reinterpret_cast<const Entry*>(c.p);
  if (c.lost) return understood = false, nullptr;
  uint32_t low = 0, high = n;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (!memory.copy(&entry, table + middle, sizeof(entry))) return understood = false, nullptr;
    if (base + address(int64_t{entry.function}) <= pc) low = middle + 1, found = entry;
    else high = middle;
  }
  if (!low) return nullptr;
  return reinterpret_cast<const uint8_t*>(base + address(int64_t{found.fde}));
}

Rule encode(const Row& row) {
  if (row.ret == Saved::kUndefined) return kRuleEnd;
  int64_t words = row.offset / 8;
  if (row.sp != Saved::kSame || row.ret != Saved::kAtCfa || row.ret_offset != -8 || row.cfa == Row::Cfa::kOther || row.rbp == Saved::kOther ||
      row.offset % 8)
    return kRuleHard;
  uint64_t kind = row.cfa == Row::Cfa::kDeref ? kRuleDeref : row.reg == kRsp ? kRuleRsp : row.reg == kRbp ? kRuleRbp : kRuleHard;
  bool fits = kind == kRuleRsp ? words >= 1 && words <= UINT16_MAX : words >= INT16_MIN && words <= INT16_MAX;
  if (kind == kRuleHard || !fits) return kRuleHard;
  uint64_t save = 0;
  if (row.rbp == Saved::kAtRbp) save = kRbpAtRbp;
  if (row.rbp == Saved::kAtCfa) {
    if (row.rbp_offset % 8 || row.rbp_offset < -1008 || row.rbp_offset > -16) return kRuleHard;
    save = uint8_t(row.rbp_offset / 8);
  }
  return kind | save << 8 | uint64_t(uint16_t(words)) << 48;
}

}  // namespace

// kRuleGuess: pc lies in no function, `within` bytes behind its begin or further.
static Rule rule_at(address pc, address within, const dl_find_object& object, ModuleReading& reading) {
  if (!object.dlfo_eh_frame) return kRuleGuess;
  Memory memory(reading, object);
  bool understood;
  const uint8_t* fde = find_fde(memory, pc, object.dlfo_eh_frame, understood);
  if (!understood) return kRuleHard;
  if (!fde) return kRuleGuess;
  Cursor c(memory, fde, ~address{0});
  uint64_t length = c.fixed<uint32_t>();
  if (c.lost || length == 0xffffffff) return kRuleHard;
  c.end_after(length);
  address cie_at = c.at();
  cie_at -= c.fixed<uint32_t>();
  Cie cie = parse_cie(memory, reinterpret_cast<const uint8_t*>(cie_at));
  if (!cie.understood) return kRuleHard;
  address begin = c.encoded(cie.pointer_encoding, 0), range = c.encoded(cie.pointer_encoding & 15, 0);
  if (cie.has_augmentation) c.skip(c.uleb());
  if (c.lost) return kRuleHard;
  if (pc < begin + within || pc >= begin + range) return kRuleGuess;
  if (cie.signal) return kRuleSignal;
  Row row, initial;
  if (!run(Cursor(memory, cie.instructions, cie.end), 0, ~address{0}, cie, row, row)) return kRuleHard;
  initial = row;
  if (!run(c, begin, pc, cie, row, initial)) return kRuleHard;
  return encode(row);
}

Rule parse_rule(address ret, const dl_find_object& object, ModuleReading& reading) { return rule_at(ret - 1, 0, object, reading); }
Rule parse_pushed_rule(address pc, const dl_find_object& object, ModuleReading& reading) { return rule_at(pc, 1, object, reading); }

}  // namespace tidemark::stacks
