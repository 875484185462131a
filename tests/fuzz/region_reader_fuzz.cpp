// Reader, profile and both reports on any bytes at all, and what a JIT compiler may have left. libFuzzer: no crash, no leak, no hang.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "analyzer/output/json.h"
#include "analyzer/output/text.h"
#include "analyzer/symbolize/generated_code.h"
#include "tests/unit/support/parsed.h"

static void read_as_names(const std::string& bytes) {
  tidemark::symbolize::GeneratedCode code;
  code.add_perf_map(bytes);
  code.add_jitdump(bytes);
  code.finish();
  code.find(bytes.size());
}

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
  read_as_names(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
