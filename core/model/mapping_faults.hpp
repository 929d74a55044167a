#pragma once
// Faults of mappings that share an HF tensor or a Megatron parameter.

#include <string>

#include "core/model/model.hpp"

namespace bv::model {

/// --exclude takes `name` away from a mapping whose other tensors stay.
[[nodiscard]] NameFault torn_parameter(const Model& model, const std::string& name,
                                       const Mapping& mapping);

/// Two mappings are made of the HF tensor `name`.
[[nodiscard]] NameFault claimed_twice(const Model& model, const std::string& name,
                                      const Mapping& first, const Mapping& second);

/// Every Megatron parameter is made by one mapping. Errors: RulesInvalid naming both rules.
[[nodiscard]] Status check_made_once(const Model& model);

}  // namespace bv::model
