#pragma once
// Whether a rule set for an architecture that no family knows reads the right tensor for each
// parameter, as far as names and numbers say it: nobody else knows which of two tensors of one
// shape is meant.

#include "core/foreign/rules_apply.hpp"

namespace bv::foreign {

/// Adds to `applied`: parameters of one layer, or of one expert, made of another one's tensors;
/// pairs that read each other's tensors by the names that the families know (OtherSource); and
/// those of one shape whose names no family knows (NoTargetLayout, undecided).
/// Errors: Assertion, when a family of ours is wrong.
[[nodiscard]] Status check_sources(const ForeignRules& rules, const ForeignKinds& kinds,
                                   const Headers& headers, AppliedRules& applied);

}  // namespace bv::foreign
