// Reader, profile and both reports on any bytes at all. libFuzzer: no crash, no leak, no hang.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <vector>

#include "analyzer/output/json.h"
#include "analyzer/output/text.h"
#include "tests/unit/support/parsed.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::byte> bytes(size);
  if (size != 0) std::memcpy(bytes.data(), data, size);
  try {
    auto report = tidemark::test::report_of(std::move(bytes));
    std::ostringstream text, json;
    tidemark::output::write_text(text, report, {.top = 20, .full = true});
    tidemark::output::write_json(json, report, {.top = 20, .details = true});
  } catch (const tidemark::region::ReadError&) {
  }
  return 0;
}
