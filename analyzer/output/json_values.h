// What all writers of JSON need.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace tidemark::output {

using Json = nlohmann::ordered_json;

template <typename T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// Names may be cut anywhere, or forged: what is no UTF-8 becomes U+FFFD.
inline std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace tidemark::output
