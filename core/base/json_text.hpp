#pragma once
// JSON as it is written for others: what a reader cannot see is escaped, and no value changes.

#include <string>
#include <string_view>

namespace bv {

/// A text of JSON in which each character that `escaped` would make visible stands as \u202e: a
/// bidirectional override of a name cannot turn the lines of a log or of an editor around.
[[nodiscard]] std::string visible_json(std::string_view json);

/// `json` as text, `indent` as nlohmann::json::dump takes it; bytes that are not UTF-8 are
/// replaced. What we print or write for others goes through here.
template <class Json>
[[nodiscard]] std::string json_text(const Json& json, int indent) {
  return visible_json(json.dump(indent, ' ', false, Json::error_handler_t::replace));
}

}  // namespace bv
