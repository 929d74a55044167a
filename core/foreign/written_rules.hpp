#pragma once
// A model's own rules as a rules file to start from.

#include <string>

#include "core/foreign/foreign_kinds.hpp"
#include "core/model/model.hpp"

namespace bv::foreign {

/// Text of a bridge-rules/1 file that makes of the model's checkpoint what its family makes of it:
/// one rule for the names that differ in their numbers, and one for each name that no pattern
/// takes.
[[nodiscard]] std::string written_rules(const model::Model& model, const ForeignKinds& kinds);

}  // namespace bv::foreign
