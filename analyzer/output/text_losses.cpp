#include "analyzer/output/text_losses.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "analyzer/output/human.h"

namespace tidemark::output {

using namespace format;

namespace {

struct LossText {
  Coverage loss;
  std::string_view text;
};
constexpr LossText kLossTexts[] = {
#define X(enumerator, key, text) {enumerator, text},
    TIDEMARK_LOSSES(X)
#undef X
};

// The forms of coverage.h: "%" is the number, of "{one|several}" one is taken.
std::string with_number(std::string_view text, uint64_t number) {
  std::string result(text);
  size_t place = result.find('%');
  if (place != std::string::npos) result.replace(place, 1, human_count(number));
  for (size_t open; (open = result.find('{')) != std::string::npos;) {
    size_t bar = result.find('|', open), close = result.find('}', open);
    if (bar > close || close == std::string::npos) break;
    result.replace(open, close + 1 - open, number == 1 ? result.substr(open + 1, bar - open - 1) : result.substr(bar + 1, close - bar - 1));
  }
  return result;
}

std::vector<std::string> loss_sentences(const model::Profile& profile) {
  std::vector<std::string> sentences;
  for (const LossText& row : kLossTexts) {
    uint64_t number = profile.coverage[row.loss];
    if (number == 0) continue;
    std::string sentence = with_number(row.text, number);
    // "% bytes in those" belongs to the row before.
    bool continues = row.text.ends_with("in those") && !sentences.empty();
    continues ? void(sentences.back() += ", " + sentence) : sentences.push_back(sentence);
  }
  return sentences;
}

std::string unknown_callers_sentence(const model::Profile& profile) {
  const model::UnknownCallers& unknown = profile.unknown_callers;
  const model::Counters& all = profile.totals.counters;
  return fmt::format("{} in code without unwind data (generated, mostly) that keeps no frame pointer, with {} of all allocations and {} of the live bytes: its callers are not known",
                     plural(unknown.stacks, "call stack begins", "call stacks begin"), human_share(unknown.allocated_count, all.allocated_count),
                     human_share(unknown.live_bytes, all.live_bytes()));
}

std::vector<std::string> damage_sentences(const model::Damage& damage) {
  std::vector<std::string> sentences;
  if (damage.missing_pages != 0)
    sentences.push_back(fmt::format("the file is truncated: {} of its {} pages are missing; what they held is not counted",
                                    human_count(damage.missing_pages), human_count(damage.used_pages)));
  if (damage.stacks_without_frames != 0)
    sentences.push_back(fmt::format("frames of {} could not be read: the file is damaged",
                                    plural(damage.stacks_without_frames, "call stack", "call stacks")));
  return sentences;
}

std::string refusal_sentence(const RefusalNote& note) {
  std::string sentence =
      fmt::format("{} (pid {}) ran unrecorded: {}", bounded_text(note.name), note.pid, refusal_text(note.reason));
  std::string detail = bounded_text(note.detail);
  if (!detail.empty()) sentence += ": " + detail;
  if (note.error > 0) sentence += fmt::format(": {}", std::strerror(note.error));
  return sentence;
}

std::vector<std::string> refusal_sentences(const RunLedger& ledger) {
  std::vector<std::string> sentences;
  uint32_t kept = std::min(ledger.refused, kRefusalNotes);
  for (uint32_t i = 0; i < kept; ++i)
    if (ledger.notes[i].reason != 0) sentences.push_back(refusal_sentence(ledger.notes[i]));
  if (ledger.refused > kRefusalNotes)
    sentences.push_back(fmt::format("{} more processes of this run ran unrecorded", human_count(ledger.refused - kRefusalNotes)));
  return sentences;
}

// As the options take it.
std::string size_value(uint64_t bytes) {
  if (bytes % (1 << 30) == 0) return fmt::format("{}G", bytes >> 30);
  if (bytes % (1 << 20) == 0) return fmt::format("{}M", bytes >> 20);
  return fmt::format("{}K", bytes >> 10);
}

void write_larger_region(std::ostream& out, const model::Profile& profile) {
  if (profile.region_bytes >= kMaxRegionBytes) {
    fmt::print(out, "  This region was of the largest size there is, {}\n", size_value(kMaxRegionBytes));
    return;
  }
  fmt::print(out, "  A larger region has room for more: tidemark run --{}={} -- COMMAND\n",
             profile.process.origin == Origin::kLaunched ? "region_size" : "child_region_size",
             size_value(std::min(4 * profile.region_bytes, kMaxRegionBytes)));
}

}  // namespace

void write_losses(std::ostream& out, const model::Profile& profile) {
  std::vector<std::string> sentences = damage_sentences(profile.damage);
  for (auto& sentence : loss_sentences(profile)) sentences.push_back(sentence);
  bool modules_known = profile.coverage[kModulesDropped] == 0 && !profile.modules.files().empty();
  if (profile.unknown_callers.stacks != 0 && modules_known) sentences.push_back(unknown_callers_sentence(profile));
  for (auto& sentence : refusal_sentences(profile.ledger)) sentences.push_back(sentence);
  if (sentences.empty()) return;
  fmt::print(out, "\nWhat this report lacks\n");
  for (const std::string& sentence : sentences) fmt::print(out, "  - {}\n", printable(sentence));
  if (profile.totals.overflow.allocated_count != 0 || profile.coverage[kDetailsDenied] != 0 || profile.coverage[kSharedDenied] != 0)
    write_larger_region(out, profile);
}

}  // namespace tidemark::output
