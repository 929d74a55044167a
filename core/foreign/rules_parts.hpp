#pragma once
// Parts of an entry of "rules" that say which tensors it reads: names, computed names, parts that
// may be absent, a slice.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/foreign/rules_file.hpp"

namespace bv::foreign {

/// "hf": a name, a computed name ({"pattern": ..., "a": "c0 + 8"}), or either by role.
/// Errors (without a place): RulesInvalid.
[[nodiscard]] Result<std::vector<std::pair<std::string, std::string>>> read_hf_names(
    const nlohmann::json* hf, const std::string& rule);

/// parameters.optional: "skip", or by role "skip", "zero" or "copy:ROLE".
[[nodiscard]] Result<std::vector<std::pair<std::string, std::string>>> read_optional(
    const nlohmann::json& node, const ForeignRule& rule);

/// parameters.slice: an index of dimension 0 of the HF tensor.
[[nodiscard]] Result<std::int64_t> read_slice(const nlohmann::json& node, const ForeignRule& rule);

}  // namespace bv::foreign
