#pragma once
// Keys of a rules file that nobody reads.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.hpp"

namespace bv::foreign {

/// One warning a key (RulesKeyUnknown): how often it stands, the place of the first, and the known
/// key that is meant, if one is near. Keys that an exporter writes for others are known.
[[nodiscard]] std::vector<Error> unknown_keys(const nlohmann::json& top, std::string_view text,
                                              const std::string& file);

}  // namespace bv::foreign
