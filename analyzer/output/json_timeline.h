// The part of the JSON report that tells of the process over time.
#pragma once
#include <nlohmann/json_fwd.hpp>

#include "analyzer/model/timeline.h"

namespace tidemark::output {

nlohmann::ordered_json purge_json(const model::PurgeEntry& purge);

nlohmann::ordered_json ledger_json(const std::optional<model::MeasuredLedger>& ledger);  // null: never measured

// "purges", "warnings", "series", "baseline", "cgroup" and totals of them, put into `json`.
void put_timeline(nlohmann::ordered_json& json, const model::Timeline& timeline);

}  // namespace tidemark::output
