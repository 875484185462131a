#include "analyzer/output/printable.h"

#include <cstdio>

namespace tidemark::output {

namespace {

// How many bytes UTF-8 wants behind this one.
size_t followers(unsigned char byte) {
  if (byte < 0xc2 || byte > 0xf4) return 0;
  return byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
}

void append_escaped(std::string& result, unsigned char byte) {
  char text[8];
  snprintf(text, sizeof text, "\\x%02x", byte);
  result += text;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  size_t expected = 0;  // of the character that has begun
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = static_cast<unsigned char>(text[i]);
    bool follows = expected > 0 && byte >= 0x80 && byte < 0xc0;
    // C1 control characters are two bytes in UTF-8, and one where a terminal does not read UTF-8.
    bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    bool bare_c1 = byte >= 0x80 && byte < 0xa0 && !follows;
    expected = follows ? expected - 1 : c1 ? 0 : followers(byte);
    if (byte < 0x20 || byte == 0x7f || c1 || bare_c1) {
      append_escaped(result, byte);
    } else {
      result += text[i];
    }
  }
  return result;
}

}  // namespace tidemark::output
