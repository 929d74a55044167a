#pragma once
// JSON whose texts quote untrusted names several times: none of them makes a file grow without
// bound.

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace bv {

/// The text of `json`, each string cut at 4,096 bytes; bytes that are not UTF-8 are replaced.
/// `indent` as nlohmann::json::dump takes it.
[[nodiscard]] std::string dump_bounded(nlohmann::ordered_json json, int indent);

}  // namespace bv
