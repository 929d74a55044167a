#pragma once
// The block `mutation` of verdicts.json.

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "core/verdict/verdict.hpp"

namespace bv {

[[nodiscard]] nlohmann::ordered_json mutation_json(const Mutation& mutation);
/// Errors: VerdictsInvalid with what is wrong.
[[nodiscard]] Result<Mutation> mutation_from_json(const nlohmann::ordered_json& value,
                                                  const std::string& file);

}  // namespace bv
