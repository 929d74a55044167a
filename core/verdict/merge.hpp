#pragma once
// Runs of one model in several jobs, as one run.

#include <vector>

#include "core/base/result.hpp"
#include "core/verdict/verdict.hpp"

namespace bv {

/// The verdicts of all runs: one that several made is kept once, and where they differ the worse
/// one is. What makes one of them undecided makes the whole undecided; the strictest --fail-on
/// holds. Subjects of a claim are the cases of its verdicts.
/// Errors: Conflict when the runs are of another model, revision, set of rules, seed or version, or
/// more than one has a mutation matrix. There must be at least one run.
[[nodiscard]] Result<Run> merge(std::vector<Run> runs);

}  // namespace bv
