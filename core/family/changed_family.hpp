#pragma once
// A family with other rules: how faults are planted into the rules of a right one.

#include <vector>

#include "core/family/families.hpp"

namespace bv::family {

/// The same family with `rules` in place of its own: as many, in the same order, each changed or
/// not. Sections find their rules by place.
[[nodiscard]] FamilyPtr with_rules(const Family& family, std::vector<Rule> rules);

}  // namespace bv::family
