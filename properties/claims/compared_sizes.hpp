#pragma once
// The sizes on which a rule is compared with the oracle: small ones in place of those that a rule
// only carries along.

#include "core/kinds/catalogue.hpp"
#include "core/model/model.hpp"
#include "core/parallel/parallel.hpp"
#include "core/plan/plan.hpp"

namespace bv::claims {

/// How many ranks cut the tensors of a rule.
[[nodiscard]] std::int64_t ranks_of(const family::Rule& rule, const parallel::Layout& layout);

/// Carried sizes made small, as far as the rule still binds on this layout. Sizes that are numbers
/// of the headers stay multiples of the ranks that may cut them.
[[nodiscard]] plan::Rebinding reduced(const model::Model& model, const family::Rule& rule,
                                      const kinds::Catalogue& kinds,
                                      const parallel::Layout& layout);

}  // namespace bv::claims
