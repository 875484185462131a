// Parts of the JSON report that few readers need.
#pragma once
#include <nlohmann/json.hpp>

#include "analyzer/model/profile.h"
#include "analyzer/region/region.h"

namespace tidemark::output {

// Lifetime histogram, survivors by birth epoch and live bytes over time, one entry for each detail record of the site.
nlohmann::ordered_json details_json(const region::Region& region, const model::Site& site);

}  // namespace tidemark::output
