#pragma once
// A family's rules fitted to the layers of one config: a rule whose sizes differ by layer becomes
// one rule for each set of sizes, and inner repetitions of a section become rules of their own.

#include <nlohmann/json_fwd.hpp>

#include "core/model/conditions.hpp"

namespace bv::model {

/// The same family where nothing differs by layer, or where it was fitted before.
///
/// Example: layer_sizes give layers 0 and 2 head_dim 8 and layers 1 and 3 head_dim 16. Rule r4 with
/// the axis d = head_dim becomes r4 with sizes {head_dim: 8} and layers {0, 2}, and r4.1 with
/// {head_dim: 16} and {1, 3}; a rule without head_dim stays one.
/// Errors: ConfigField for an inner word that no layer flag knows.
[[nodiscard]] Result<family::FamilyPtr> fitted_to(const family::FamilyPtr& family,
                                                  const nlohmann::json& config,
                                                  const Geometry& geometry);

}  // namespace bv::model
